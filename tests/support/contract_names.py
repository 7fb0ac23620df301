"""Every name in the contract's table of attributes, and those that any span may say of itself."""

from __future__ import annotations

import re
from pathlib import Path

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "contract.md"
NAMES = {
    "spanledger.session.id",
    "spanledger.session.parent_id",
    "spanledger.run.id",
    "spanledger.agent.id",
    "spanledger.agent.parent_id",
    "spanledger.task.id",
    "spanledger.task.kind",
}
"""What any span may name, by the contract on synthesized spans and by `processor.sessions.keys` and its like."""


def _of_the_table() -> list[str]:
    """Every name in the first column of the contract's table of attributes."""
    table = CONTRACT.read_text().partition("## Attributes added")[2].partition("\n\n###")[0]
    found: list[str] = []
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        for written in re.findall(r"`([^`]+)`", row):
            name = written if written.startswith("spanledger") else f"spanledger{written}"
            head, _, rest = name.partition("{")
            options, _, tail = rest.partition("}")
            found += [f"{head}{option}{tail}" for option in options.split(",")] if rest else [name]
    return found


ALL = sorted({name.replace("*", "name") for name in _of_the_table()})
