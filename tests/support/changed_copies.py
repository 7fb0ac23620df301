"""The packages with a change in them, in a copy: an addition touches no more files than CONTRIBUTING.md says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from tools.parts import ROOT

Change: TypeAlias = str | Mapping[str, str]
PACKAGES = (
    "processor/spanledger_processor",
    "exporters/spanledger_exporters",
    "sidecar/spanledger_sidecar",
)


def run_changed(folder: Path, files: Mapping[str, Change], *arguments: str) -> str:
    """Run Python on a copy of the packages, and return what it writes.

    `files` are those that change, by their paths in the repository: the whole text of a new one; of one that is there,
    texts that stand in it once, each with what is added behind it.
    """
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, change in files.items():
        path = folder / name
        if isinstance(change, str):
            assert not path.exists(), name
            path.write_text(change)
            continue
        text = path.read_text()
        for place, added in change.items():
            assert text.count(place) == 1, f"{name}: {place}"
            text = text.replace(place, place + added)
        path.write_text(text)
    roots = [str((folder / package).parent) for package in PACKAGES]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*roots, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
