"""docs/contract.md names every command, and every attribute that a decision can put on a span, and no others."""

from __future__ import annotations

import re

from spanledger_processor.cli import COMMANDS
from spanledger_processor.model import USAGE_CLASSES
from tools.parts import ROOT


def _written() -> set[str]:
    source = (ROOT / "processor/spanledger_processor/enrichment/attributes.py").read_text()
    plain = set(re.findall(r'"(spanledger\.[a-z0-9_.]*[a-z0-9_])"', source))
    parts = {
        f"spanledger.cost.{part}_usd"
        for part in re.findall(r'"(\w+)"', source.partition("for part in (")[2].partition(")")[0])
    }
    return plain | parts | {f"spanledger.usage.{one.attribute}" for one in USAGE_CLASSES}


def _documented() -> set[str]:
    table = (ROOT / "docs/contract.md").read_text().partition("## Attributes added")[2].partition("### Aliases")[0]
    found: set[str] = set()
    for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE):
        base = "spanledger"
        for name in re.findall(r"`([^`]+)`", row):
            whole = name if name.startswith("spanledger.") else base + name
            base = base if name.startswith(".") else name.rpartition(".")[0].partition(".")[0]
            head, brace, rest = whole.partition("{")
            inner, _, tail = rest.partition("}")
            found |= {f"{head}{one}{tail}" for one in inner.split(",")} if brace else {whole}
    return found


def test_every_attribute_is_documented() -> None:
    assert len(_written()) > 40
    assert _written() - _documented() == set()


def test_every_documented_attribute_is_written() -> None:
    assert _documented() - _written() == set()


def test_every_command_is_documented() -> None:
    table = (ROOT / "docs/contract.md").read_text().partition("## Process")[2].partition("Every command that reads")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    named = [re.sub(r"^spanledger ", "", name).split()[0] for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert set(named) == set(COMMANDS)
