"""References to documents, in code and in documents, lead to a file and a section that exist.

Rules, formats and decisions stand in docs/; code names the section that it carries out as a path with an anchor.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tools.parts import ROOT
from tracked import tracked

REFERENCE = re.compile(r"(?:docs/)[a-z0-9/_-]+\.md(?:#[a-z0-9_-]+)?")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAME = re.compile(r"`([A-Za-z_]\w*(?:[./]\w+)*)`")
ELSEWHERE = {
    "a number in notes that are not in the repository": re.compile(r"\b[Ff]acts (?:section )?\d|\bfacts/\w+\.md"),
    "an issue by its number": re.compile(r"\b[Ii]ssue \d"),
    "the contract without a section": re.compile(r"\(contract\b(?!\.md#)|\b[Cc]ontract, |\bpromise \d"),
}
"""What a reader of the repository cannot look up."""


CODE = [path for path in tracked(".py", ".go", ".yaml", ".yml", ".toml", ".mjs") if path != Path(__file__).resolve()]
DOCUMENTS = tracked(".md")
ABOUT_CODE = [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "decisions").glob("*.md")]
"""Documents whose names in backticks are those of the code, of its files, and of what it uses."""


@cache
def anchors(document: Path) -> frozenset[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found: Counter[str] = Counter()
    made = set()
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower())
        slug = plain.replace(" ", "-")
        made.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return frozenset(made)


def problem(base: Path, reference: str) -> str | None:
    """What is wrong with a reference that stands in a file of the folder `base`; None if it leads somewhere."""
    name, _, anchor = reference.partition("#")
    document = base / name if name else base
    if not document.exists():
        return f"{reference}: no such file"
    if anchor and document.suffix == ".md" and anchor not in anchors(document):
        return f"{reference}: no such section"
    return None


def test_references_in_code_lead_to_sections() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {wrong}"
        for path in CODE
        for reference in REFERENCE.findall(path.read_text())
        if (wrong := problem(ROOT, reference))
    ]
    assert not found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_in_documents_lead_to_sections(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text()) if not link.startswith(("http://", "https://"))]
    own = [link for link in links if link.startswith("#")]
    others = [link for link in links if not link.startswith("#")]
    found = [wrong for link in others if (wrong := problem(document.parent, link))]
    found += [link for link in own if link[1:] not in anchors(document)]
    assert not found


@pytest.mark.parametrize("why", ELSEWHERE)
def test_nothing_refers_to_what_is_not_here(why: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in CODE
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if ELSEWHERE[why].search(line)
    ]
    assert not found, why


@cache
def words() -> frozenset[str]:
    """The words in the code, and in the names of all files."""
    files = " ".join(path.relative_to(ROOT).as_posix() for path in tracked(""))
    return frozenset(re.findall(r"\w+", "\n".join([files, *(path.read_text() for path in CODE)])))


def unknown_names(text: str) -> set[str]:
    """The names in a text that nothing has, nor a part of them."""
    return {name for name in NAME.findall(text) if not words().issuperset(re.split(r"[./]", name))}


@pytest.mark.parametrize("document", ABOUT_CODE, ids=lambda path: path.name)
def test_documents_about_the_code_name_what_is_there(document: Path) -> None:
    """Two names of functions outlived these by a day of renaming."""
    assert NAME.search(document.read_text()) or document.parent != ROOT
    assert unknown_names(document.read_text()) == set()


def test_a_name_that_nothing_has_is_found() -> None:
    gone = "reading" + "_envelope"
    assert unknown_names(f"`otlp/wire`, `{gone}` and `otlp/{gone}`, `finished`") == {gone, f"otlp/{gone}"}


def test_a_broken_reference_is_found() -> None:
    assert problem(ROOT, "docs/nowhere.md") == "docs/nowhere.md: no such file"
    assert problem(ROOT, "docs/contract.md#promise-9") == "docs/contract.md#promise-9: no such section"
    assert problem(ROOT, "docs/contract.md#promise-2-nothing-is-lost") is None
    assert ELSEWHERE["an issue by its number"].search("as issue 4 says")
