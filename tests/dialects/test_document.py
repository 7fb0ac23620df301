"""docs/dialects.md is what the tables say."""

from __future__ import annotations

from pathlib import Path

from spanledger_processor.dialects.document import page
from spanledger_processor.dialects.registry import DIALECTS

PAGE = Path(__file__).parents[2] / "docs" / "dialects.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run: python -m spanledger_processor.dialects.document > docs/dialects.md"
    )


def test_the_page_has_every_dialect_and_every_odd_cost() -> None:
    text = page()
    assert all(f"\n## {dialect.name}\n" in text for dialect in DIALECTS)
    assert "`github.copilot.cost`" in text


def test_every_dialect_has_a_place_of_its_own() -> None:
    assert len({(dialect.precedence, dialect.rank) for dialect in DIALECTS}) == len(DIALECTS)
