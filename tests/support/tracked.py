"""The files that are in the repository, whatever a build or an installation put beside them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.parts import ROOT


def tracked(*endings: str) -> list[Path]:
    """Return the tracked files whose names end so, without recorded test data."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    found = (ROOT / name for name in names if name.endswith(endings) and not name.startswith("tests/data/"))
    return [path for path in found if path.exists()]
