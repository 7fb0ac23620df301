"""docs/attributes.md against what is written on spans, the values that the code knows, and the contract."""

from __future__ import annotations

import re
from typing import get_args

from spanledger_processor.enrichment.marks import SUMMARY, SUMMARY_GRANULARITY
from spanledger_processor.enrichment.reference import ATTRIBUTES, document
from spanledger_processor.model import USAGE_CLASSES, CostSource, Granularity, Kind, Unpriced
from tools.parts import ROOT

ENCODERS = {"text": "string", "integer": "int", "double": "double", "flag": "bool"}
BY_NAME = {attribute.name: attribute for attribute in ATTRIBUTES}


def _encoded() -> dict[str, str]:
    """Attributes that are encoded, with the type that they are encoded as."""
    source = (ROOT / "processor/spanledger_processor/enrichment/attributes.py").read_text()
    named = {name: ENCODERS[call] for call, name in re.findall(r'\b(\w+)\("(spanledger\.[^"]+)"', source)}
    parts = re.findall(r'"(\w+)"', source.partition("for part in (")[2].partition(")")[0])
    assert parts
    counts = {f"spanledger.usage.{one.attribute}": "int" for one in USAGE_CLASSES}
    return named | {f"spanledger.cost.{part}_usd": "double" for part in parts} | counts


def test_every_attribute_that_is_written_stands_there_with_its_type() -> None:
    assert {name: attribute.type for name, attribute in BY_NAME.items()} == _encoded()


def test_every_value_is_explained() -> None:
    for name, values in {
        "spanledger.kind": (*get_args(Kind), SUMMARY),
        "spanledger.granularity": (*get_args(Granularity), SUMMARY_GRANULARITY),
        "spanledger.cost.unpriced": get_args(Unpriced),
        "spanledger.cost.source": [source for source in get_args(CostSource) if source],
    }.items():
        assert set(BY_NAME[name].values) == set(values)


def test_sources_and_scopes_are_those_of_the_contract() -> None:
    promises = (ROOT / "docs/contract.md").read_text()
    for name, short in {
        "spanledger.session.source": ".session.source",
        "spanledger.run.source": ".run.source",
        "spanledger.tool.signature_scope": ".tool.signature_scope",
    }.items():
        (row,) = re.findall(rf"^\| `[^|]*`{re.escape(short)}` \|.*$", promises, re.MULTILINE)
        reported = re.findall(r"`([a-z_]+)`", row.partition("ource:")[2] or row.partition("Scope:")[2])
        assert set(BY_NAME[name].values) == set(reported)


def test_the_page_is_written_from_the_table() -> None:
    page = (ROOT / "docs/attributes.md").read_text()
    assert page == document(), "run: make docs"
