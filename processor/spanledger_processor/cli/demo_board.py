"""What the demo shows while it runs: the ledger's sessions, and what the written spans say of repeats and prices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from rich.console import Group, RenderableType
from rich.text import Text

from spanledger_processor.cli import show
from spanledger_processor.ledger import queries as questions
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.ledger.writer import LedgerWriter

_TENANT = tenant_hash("")
RUN_KEY = "service.name"
"""What names a run in the demo: the recorded agents name none."""

_WIDEST = 40
"""Characters of an id that are shown."""


class Board:
    """Looks at the ledger and at the file that the spans are written to."""

    def __init__(self, ledger: LedgerWriter, file: Path) -> None:
        self._ledger = ledger
        self._file = file
        self._read = 0
        self._seen: list[str] = []
        self._calls: dict[str, dict[str, Any]] = {}
        self._unpriced: Counter[tuple[str, str]] = Counter()
        self._silent: Counter[str] = Counter()

    def look(self, name: str) -> None:
        """Take in what has been written since the last look; `name` says what was sent."""
        if name not in self._seen:
            self._seen.append(name)
        with self._file.open("rb") as file:
            for attributes in self._spans(file):
                self._note(attributes)

    def shown(self) -> RenderableType:
        """All of it, as tables."""
        with self._ledger.snapshot() as reader:
            sessions, runs = questions.sessions(reader, _TENANT), questions.runs(reader, _TENANT)
            total = questions.total(reader, _TENANT)
        parts: list[RenderableType] = [Text(f"Replayed: {'; '.join(self._seen) or 'nothing yet'}", "dim")]
        parts.append(show.table(f"Sessions, ${total['cost_usd']:.6f} in all", _SESSION, sessions))
        parts.append(show.table(f"Runs, in this demo by {RUN_KEY} (processor.runs.keys)", _RUN, runs))
        if self._calls:
            calls = sorted(self._calls.values(), key=lambda call: -call["times"])
            parts.append(show.table("The very same tool call, several times in a session", _CALL, calls))
        if self._unpriced:
            rows = [{"model": model, "why": why, "spans": n} for (model, why), n in self._unpriced.items()]
            parts.append(show.table("Counted without a price, and never as 0", _UNPRICED, rows))
        if self._silent:
            told = ", ".join(f"{n} {why}" for why, n in self._silent.items())
            parts.append(Text(f"Spans with usage that add nothing, since other spans tell it: {told}."))
        return Group(*parts)

    def _spans(self, file: BinaryIO) -> Iterator[dict[str, Any]]:
        """The attributes of the GenAI spans on the lines that are new."""
        file.seek(self._read)
        for line in file:
            for resource in orjson.loads(line).get("resourceSpans", []):
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        found = {item["key"]: _plain(item["value"]) for item in span.get("attributes", [])}
                        if "spanledger.kind" in found:
                            yield {"name": span.get("name", ""), **found}
        self._read = file.tell()

    def _note(self, span: dict[str, Any]) -> None:
        signature, times = span.get("spanledger.tool.signature", ""), span.get("spanledger.tool.repeats", 0)
        if times > 1:
            session = span.get("spanledger.session.id", "")
            loop = span["spanledger.tool.loop"] or self._calls.get(session + signature, {}).get("loop", False)
            name = span.get("gen_ai.tool.name") or span.get("tool.name") or span["name"]
            row = {"id": session, "tool": name, "signature": signature, "times": times, "loop": loop}
            self._calls[session + signature] = row
        if why := span.get("spanledger.cost.unpriced"):
            model = span.get("gen_ai.response.model") or span.get("llm.model_name") or span["name"]
            self._unpriced[(model, why)] += 1
        if "spanledger.cost.duplicate_of" in span:
            self._silent["duplicates"] += 1
        if span.get("spanledger.cost.repeats_children"):
            self._silent["repeat their children"] += 1


def _plain(value: dict[str, Any]) -> Any:
    """A plain value of an attribute; int64 stands as text in OTLP-JSON."""
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)


def _id(heading: str) -> show.Column:
    return (heading, lambda row: (row["id"] or show.NONE)[:_WIDEST], False)


def _models(row: dict[str, Any]) -> str:
    return "\n".join(f"{model['model']} {show.money(model['cost_usd'])}" for model in row["models"])


_SPENT: list[show.Column] = [*show.SPEND[:2], ("by model", lambda row: _models(row) or "-", False)]
_SESSION: list[show.Column] = [
    _id("session"),
    *_SPENT,
    ("tools", lambda row: show.count(row["tool_calls"]), True),
]
_RUN: list[show.Column] = [_id("run"), *_SPENT]
_CALL: list[show.Column] = [
    _id("session"),
    ("tool", lambda row: str(row["tool"]), False),
    ("times", lambda row: show.count(row["times"]), True),
    ("loop", lambda row: "loop" if row["loop"] else "-", False),
    ("signature", lambda row: row["signature"], False),
]
_UNPRICED: list[show.Column] = [
    ("model", lambda row: str(row["model"]), False),
    ("why", lambda row: row["why"], False),
    ("spans", lambda row: show.count(row["spans"]), True),
]
