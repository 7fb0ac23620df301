"""Run the tests of what changed, each time a file is saved: `make watch`.

A changed test runs itself; a changed module runs the tests of its room (`tests/<room>`), a document `tests/repository`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from watchfiles import watch

from tools.parts import ROOT

WATCHED = ("processor", "exporters", "sidecar", "tests", "tools", "docs", "deploy", "README.md", "ARCHITECTURE.md")
ROOMS = {"exporters/spanledger_exporters": "tests/exporters", "sidecar/spanledger_sidecar": "tests/sidecar"}
PROCESSOR = "processor/spanledger_processor/"
SHARED = "tests/repository"
"""Quick tests that hold for every file."""


def chosen_tests(changed: Iterable[str]) -> list[str]:
    """The tests to run for `changed`, paths from the root with forward slashes; those that exist, in order."""
    return sorted({found for path in changed for found in _chosen(path) if (ROOT / found).exists()})


def _chosen(path: str) -> list[str]:
    if path.startswith("tests/"):
        own = Path(path)
        return [path] if own.name.startswith("test_") and own.suffix == ".py" else [SHARED]
    for folder, tests in ROOMS.items():
        if path.startswith(folder):
            return [tests]
    if path.startswith(PROCESSOR):
        room, below, _ = path.removeprefix(PROCESSOR).partition("/")
        return [f"tests/{room if below else room.removesuffix('.py')}"]
    return [SHARED]


def main() -> None:
    """Watch until interrupted."""
    print("Watching. Save a file to run its tests; Ctrl-C ends.")
    for changes in watch(*(ROOT / name for name in WATCHED), raise_interrupt=False):
        changed = sorted({Path(path).relative_to(ROOT).as_posix() for _, path in changes})
        chosen = chosen_tests(changed)
        print(f"\n{', '.join(changed)} -> {' '.join(chosen) or 'no tests'}")
        if chosen:
            try:
                subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", *chosen], cwd=ROOT, check=False)
            except KeyboardInterrupt:  # which pytest got as well, and told
                return


if __name__ == "__main__":
    main()
