"""The documents that a newcomer reads first name only what is there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from spanledger_processor.cli import main
from tools.parts import ROOT

DOCUMENTS = sorted(
    path for folder in (ROOT, ROOT / "docs", ROOT / "benchmarks", ROOT / "changelog.d") for path in folder.glob("*.md")
)
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMMANDS = set(main.list_commands(click.Context(main)))
FRAGMENT = re.compile(r"(\d+|\+[a-z-]+)\.(added|changed|fixed|removed|security)\.md")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    """Links to files of the repository; those into the web are not followed."""
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
        if not link.startswith(("http://", "https://")):
            assert (document.parent / link).exists(), link


@every_document
def test_commands_exist(document: Path) -> None:
    """`make x` and `spanledger x`, where they stand in code."""
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", document.read_text(), re.DOTALL))
    assert set(re.findall(r"\bmake ([a-z]+)", code)) <= TARGETS
    assert set(re.findall(r"(?:^|[/`$|] ?)spanledger ([a-z]+)", code, re.MULTILINE)) <= COMMANDS


def test_paths_in_the_architecture_exist() -> None:
    """Rooms and modules are named from inside the processor's package, or from the top."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    package = ROOT / "processor" / "spanledger_processor"
    named = set(re.findall(r"[`\s(]((?:[a-z_]+/)+(?:[a-z_]+\.py)?|[a-z_]+\.py)[`\s,;:)]", text))
    lost = {name for name in named if not any((base / name).exists() for base in (package, ROOT, ROOT / "tests"))}
    assert not lost


def test_fragments_are_named_by_issue_and_type() -> None:
    for fragment in (ROOT / "changelog.d").glob("*.md"):
        assert fragment.name == "README.md" or FRAGMENT.fullmatch(fragment.name)
        assert fragment.read_text().strip()
