"""The answers of `explain`, for people: a paragraph a span."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from spanledger_processor.cli.show import counted, plain
from spanledger_processor.explain.story import Answer


def show_span(out: Console, answer: Answer) -> None:
    """Print what became of one span, and why."""
    out.print(Text(plain(answer["name"]) or "(no name)", "bold"), Text(f"span {answer['span_id']}", "dim"))
    for label, text in _lines(answer):
        out.print(Text(f"  {label:<9}", "dim") + Text(plain(text), _style(label, answer)), soft_wrap=True)
    out.print()


def _style(label: str, answer: Answer) -> str:
    if label != "counts":
        return ""
    if answer["role"] == "counted":
        return "yellow" if answer["cost"]["unpriced"] else "green"
    return "cyan"


def _lines(answer: Answer) -> Iterator[tuple[str, str]]:
    yield "is", f"{answer['kind']}, told in {answer['dialect']} ({_signs(answer)})"
    yield "scope", answer["scope"] or "-"
    if answer["usage"] is not None:
        yield "model", f"{answer['response_model'] or answer['request_model'] or '-'} of {answer['provider'] or '-'}"
        yield "usage", _usage(answer["usage"])
        yield "input", answer["input_means"] or "-"
    if answer["problem"]:
        yield "problem", answer["problem"]
    for number, line in enumerate(answer["arithmetic"]):
        yield "" if number else "price", line
    yield "counts", _role(answer)
    if (tool := answer["tool"]) is not None:
        yield "tool", _tool(tool)
    for what in ("session", "run"):
        if (named := answer[what]) is not None:
            yield what, f"{named['id']} ({named['why']})"
        else:
            yield what, "none: unattributed"
    if answer["note"]:
        yield "note", answer["note"]


def _signs(answer: Answer) -> str:
    first, *others = answer["recognised_by"] or ["-"]
    return f"{first} and {len(others)} more of its attributes" if others else str(first)


def _usage(usage: dict[str, int | None]) -> str:
    known = [f"{name.replace('_', ' ')} {number:,}" for name, number in usage.items() if number is not None]
    unknown = [name.replace("_", " ") for name, number in usage.items() if number is None]
    return ", ".join(known) + (f" (not told: {', '.join(unknown)})" if unknown else "")


_ROLES = {
    "none": "nothing",
    "repeats_children": "nothing, it repeats its children",
    "duplicate": "nothing, it is a duplicate",
}


def _role(answer: Answer) -> str:
    if answer["role"] != "counted":
        return f"{_ROLES[answer['role']]}: {answer['why']}"
    cost = answer["cost"]
    return f"${cost['cost_usd_exact']}, {cost['source']}: {answer['why']}" if cost["source"] else str(answer["why"])


def _tool(tool: dict[str, Any]) -> str:
    told = f"{tool['name'] or '(no name)'}, signed {tool['signature']}"
    if tool["signature_scope"] == "name_only":
        return f"{told} by its name alone: it holds no arguments, so repeats cannot be told"
    cut = ", by arguments that were cut" if tool["signature_scope"] == "truncated" else ""
    loop = ", a loop" if tool["loop"] else ""
    times = counted(tool["repeats"], "time")
    return f"{told}{cut}: this very call {times} in the session so far, {tool['consecutive']} in a row{loop}"
