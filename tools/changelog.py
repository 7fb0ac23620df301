"""Turn the fragments of changelog.d into a section of CHANGELOG.md: `make changelog VERSION=0.2.0`.

The section goes to the top of the file, and the fragments are deleted.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from tools.parts import ROOT

KINDS = {"added": "Added", "changed": "Changed", "fixed": "Fixed", "removed": "Removed", "security": "Security"}
"""Types of fragments in the order of their headings."""


def section(version: str, date: str, fragments: list[Path]) -> str:
    """Return the section of a version. Fragments are named `<issue>.<type>.md`, and each of their lines is an entry."""
    parts = [f"## {version} ({date})"]
    for kind, title in KINDS.items():
        texts = [path.read_text().strip() for path in sorted(fragments) if path.name.split(".")[-2] == kind]
        if texts:
            parts += [f"### {title}", "\n".join(texts)]
    return "\n\n".join(parts)


def release(version: str, root: Path = ROOT) -> None:
    """Write the section of `version` and delete its fragments.

    Raises:
        ValueError: there are no fragments, or the version has a section already.
    """
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text()
    fragments = [path for path in (root / "changelog.d").glob("*.md") if path.name != "README.md"]
    if not fragments:
        raise ValueError("changelog.d holds no fragments")
    if f"## {version} (" in text:
        raise ValueError(f"CHANGELOG.md has a section of {version} already")
    introduction, marker, older = text.partition("\n## ")
    date = datetime.now(UTC).date().isoformat()
    # Links of a fragment lead from changelog.d; in CHANGELOG.md they lead from the root.
    new = section(version, date, fragments).replace("](../", "](")
    changelog.write_text(f"{introduction.rstrip()}\n\n{new}\n{marker}{older}")
    for path in fragments:
        path.unlink()


def main(arguments: list[str]) -> int:
    """Release the version that `arguments` names."""
    if len(arguments) != 1:
        print("which version? make changelog VERSION=0.2.0", file=sys.stderr)
        return 2
    try:
        release(arguments[0])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
