"""Captured LLM spans against the model server's own log, call by call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dialect_view import captured
from spanledger_processor.dialects import detect
from spanledger_processor.model import Usage

CLASSES = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning")
CALLS = frozenset({"llm", "embedding", "rerank"})


@dataclass
class Compared:
    """What became of a capture's calls: how many were told, classes that were not, and usage that fits no call."""

    calls: int = 0
    reported: int = 0
    unknown: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


def truth(folder: Path) -> list[Usage]:
    """What the model server billed, one usage a call."""
    reported = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return [
        Usage(
            call["uncached_input"] + call["cache_read"] + call["cache_write_5m"] + call["cache_write_1h"],
            call["output_total"],
            call["cache_read"],
            call["cache_write_5m"] + call["cache_write_1h"],
            call["cache_write_1h"],
            call["reasoning"],
        )
        for call in reported["calls"]
        if call["status"] == 200
    ]


def compare(usages: Sequence[tuple[str, Usage]], billed: list[Usage]) -> Compared:
    """Match usages (each with a name to show) with billed calls. One call may be told twice, by two libraries."""
    compared = Compared(len(billed))
    left = list(billed)
    for name, usage in usages:
        fitting = [call for call in left if _fits(usage, call)] or [call for call in billed if _fits(usage, call)]
        if not fitting:
            compared.wrong.append(f"{name}: {usage}")
            continue
        call = max(fitting, key=lambda call: sum(getattr(usage, name) == getattr(call, name) for name in CLASSES))
        if call in left:
            left.remove(call)
        compared.unknown |= {name for name in CLASSES if getattr(usage, name) is None and getattr(call, name)}
    compared.reported = len(billed) - len(left)
    return compared


def compare_spans(folder: Path) -> Compared:
    """A capture's LLM spans against its truth."""
    calls = ((view.name, detect(view)) for view in captured(folder))
    usages = [
        (name, call.usage)
        for name, call in calls
        if call is not None and call.kind in CALLS and call.usage is not None and not call.problem
    ]
    return compare(usages, truth(folder))


def _fits(usage: Usage, call: Usage) -> bool:
    return all(getattr(usage, name) in (None, getattr(call, name)) for name in CLASSES)
