"""Prints the releases that are newer than those whose source the rows of docs/dialects.md were read in.

python -m tools.sources

Asks pip and npm for the packages that the rows name, and for nothing else.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable

from spanledger_processor.dialects.registry import DIALECTS
from spanledger_processor.dialects.values import version_of

SECONDS = 60
_AVAILABLE = re.compile(r"Available versions: (.*)")
_BOUND = re.compile(r"@([\d.]+)$")


def read_last() -> dict[str, str]:
    """Return the newest release that was read of each package ("pypi:name" or "npm:name")."""
    newest: dict[str, str] = {}
    for source in (source for dialect in DIALECTS for source in dialect.sources if source.package):
        known = newest.get(source.package, "")
        newest[source.package] = max(known, source.read[1], key=version_of)
    return newest


def newer(read: str, released: Iterable[str]) -> list[str]:
    """Return the final releases after the one that was read, oldest first; of a package that has none, the others."""
    versions = set(released)
    final = {version for version in versions if re.fullmatch(r"\d+(\.\d+){1,2}", version)}
    betas = {version for version in versions if re.fullmatch(r"\d+(\.\d+){1,2}b\d+", version)}
    return sorted((one for one in final or betas if _numbers(one) > _numbers(read)), key=_numbers)


def _numbers(version: str) -> tuple[int, ...]:
    """Return a version's numbers, that of a beta last: 1.3b0 is (1, 3, 0, 0), and 1.3 (1, 3, 0)."""
    release, _, beta = version.partition("b")
    padded = (*version_of(release), 0, 0)[:3]
    return (*padded, int(beta)) if beta.isdigit() else padded


def released(package: str) -> list[str]:
    """Return all releases that the registry of a package serves; of one with a bound ("npm:ai@6") those up to it."""
    registry, _, name = package.partition(":")
    if (bound := _BOUND.search(name)) is not None:
        last = version_of(bound[1])
        return [one for one in released(package.removesuffix(bound[0])) if version_of(one)[: len(last)] <= last]
    command = (
        ["npm", "view", name, "versions", "--json"]
        if registry == "npm"
        else [sys.executable, "-m", "pip", "index", "versions", "--pre", name]
    )
    answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    if registry == "npm":
        versions = json.loads(answer)
        return [versions] if isinstance(versions, str) else list(versions)
    found = _AVAILABLE.search(answer)
    return found[1].split(", ") if found else []


def main() -> None:
    """Print a line a package: what was read, and what is newer."""
    for package, read in sorted(read_last().items()):
        try:
            left = newer(read, released(package))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            line = f"not known ({type(error).__name__})"
        else:
            line = f"{len(left)} newer, up to {left[-1]}" if left else "nothing newer"
        sys.stdout.write(f"{package}: read up to {read}; {line}\n")


if __name__ == "__main__":
    main()
