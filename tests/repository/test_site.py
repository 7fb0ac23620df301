"""Links of documents in the site; `make site` itself runs in CI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tools.parts import ROOT
from tools.site import REPOSITORY, documents, list_versions, placed, rewritten

PAGES = frozenset(map(Path, ("README.md", "docs/README.md", "docs/counting.md", "processor/collector/README.md")))


@pytest.mark.parametrize(
    ("document", "link", "becomes"),
    [
        ("README.md", "docs/counting.md", "docs/counting.md"),
        ("docs/counting.md", "../README.md", "../index.md"),
        ("docs/counting.md", "../README.md#try-it", "../index.md#try-it"),
        ("docs/counting.md", "../processor/collector/", "../processor/collector/README.md"),
        ("docs/counting.md", "../pyproject.toml", f"{REPOSITORY}pyproject.toml"),
        ("docs/counting.md", "#here", "#here"),
        ("docs/counting.md", "https://example.com/a", "https://example.com/a"),
    ],
)
def test_links_lead_to_where_the_site_has_them(document: str, link: str, becomes: str) -> None:
    assert rewritten(Path(document), f"[x]({link})", PAGES) == f"[x]({becomes})"


def test_every_page_of_the_menu_is_there() -> None:
    text = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    nav = yaml.safe_load("nav:" + text)["nav"]
    named = {page for entry in nav for value in entry.values() for page in _pages(value)}
    assert len(named) > 20
    assert named <= {placed(document).as_posix() for document in documents()}


def test_versions_are_listed_the_newest_first(tmp_path: Path) -> None:
    for version in ("0.2.0", "0.10.0", "0.9.1"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "index.html").write_text("")
    assert list_versions(tmp_path) == ["0.10.0", "0.9.1", "0.2.0"]
    listed = json.loads((tmp_path / "versions.json").read_text())
    assert [(each["version"], each["aliases"]) for each in listed] == [
        ("0.10.0", ["latest"]),
        ("0.9.1", []),
        ("0.2.0", []),
    ]
    assert "url=0.10.0/index.html" in (tmp_path / "index.html").read_text()


def _pages(value: object) -> list[str]:
    if isinstance(value, list):
        return [page for entry in value for one in entry.values() for page in _pages(one)]
    return [str(value)]
