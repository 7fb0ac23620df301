"""How answers are shown: columns of tables for people, JSON for programs; one way for every command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import click

from spanledger_processor.cli.options import shows_whole_ids
from spanledger_processor.cli.tables import Column, Shortened, plain
from spanledger_processor.server.forms import is_unknown, to_json

_LONGEST_ID = 64
"""Characters of an id or name in a table: more than those of a UUID, a signature, or the ids of a span."""
_END_OF_ID = 12
CUT = "\u2026"
"""What stands in a table for the middle of a long id."""
NONE = "(unattributed)"
"""The session, run or value of what has none."""
OTHERS = "(other)"
"""The label of all values of a dimension that have no row of their own."""


def show_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(to_json(value, indent=True).decode())


def print_json_rows(rows: Iterable[dict[str, Any]]) -> None:
    """Print rows as an indented JSON array, one after the other as they come."""
    before = ""
    for row in rows:
        if not before:
            click.echo("[", nl=False)
        text = to_json(row, indent=True).decode().replace("\n", "\n  ")
        click.echo(f"{before}\n  {text}", nl=False)
        before = ","
    click.echo("\n]" if before else "[]")


def short(text: str, most: int = _LONGEST_ID) -> str:
    """Return an id or a name for a table: of a long one the middle is left out, since ids often begin alike."""
    text = plain(text)
    if len(text) <= most or shows_whole_ids():
        return text
    return f"{text[: most - _END_OF_ID - 1]}{CUT}{text[-_END_OF_ID:]}"


def quoted(name: str) -> str:
    """Return a name; one that reads like a word for none or for all others stands in quotes, as a quoted one does."""
    return f'"{name}"' if name == "-" or name.startswith(("(", '"')) else name


def word(name: str, without: str = NONE, most: int = _LONGEST_ID) -> str:
    """Return a name for a table, or the word for none."""
    return quoted(short(name, most)) or without


def _word_of(row: dict[str, Any], key: str) -> str:
    return word(row[key], OTHERS if row.get("other") else NONE)


def money(amount: float | None) -> str:
    """Return USD for people: cents from 100 dollars on, millionths below."""
    if amount is None:
        return "-"
    return f"${amount:,.2f}" if abs(amount) >= 100 else f"${amount:,.6f}"


def used(row: dict[str, Any]) -> str:
    """Return the share of a budget that is used; 100 % only where all of it is."""
    return "> 99%" if row["used"] > 0.99 and not row["over"] else f"{row['used']:.0%}"


def spent(row: dict[str, Any]) -> str:
    """Return the cost of a row. What is not known is never shown as zero."""
    if is_unknown(row):
        return "unknown"
    return money(row["cost_usd"]) + (" + ?" if any(row["unpriced"].values()) else "")


def count(number: int | None) -> str:
    """Return a count for people."""
    return "-" if number is None else f"{number:,}"


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as `3 calls`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def of_value(answer: dict[str, Any]) -> str:
    """Return which value of a dimension an answer is of, in words; empty where it is of all."""
    return f"of {answer['dimension']} {word(answer['value'])}" if "dimension" in answer else ""


def print_others(answer: dict[str, Any]) -> None:
    """Say what values spent that are not told apart any more, where a part of it may belong to the answer."""
    others = answer.get("not_distinguished", {"calls": 0})
    if others["calls"]:
        spent = f"{money(others['cost_usd'])} of {counted(others['calls'], 'call')}"
        click.echo(f"Not in it: {spent} of values that are not told apart any more; a part may be this one's.")


def print_whole(what: str, value: str | None) -> None:
    """Say of a list of sessions or runs in which something has a value that they are whole ones."""
    if value is not None:
        click.echo(f"Whole {what}s in which something has this value; `summary --dimension` has what it spent itself.")


_GRAIN = {"per-message": "call", "per-turn": "turn", "per-session-aggregate": "aggregate", "cost-only": "cost alone"}


def calls(row: dict[str, Any]) -> str:
    """Return how many calls were counted; where some are sums of calls, how many of which."""
    kinds: dict[str, int] = row["granularities"]
    if set(kinds) <= {"per-message"}:
        return count(row["calls"])
    return ", ".join(counted(number, _GRAIN.get(kind, kind)) for kind, number in kinds.items())


def _models(row: dict[str, Any]) -> str:
    return ", ".join(short(model["model"]) for model in row.get("models", ())) or "-"


def _first_model(row: dict[str, Any]) -> str:
    """Return the dearest model of a row, and how many more it has."""
    first, *others = row.get("models") or [{"model": "-"}]
    return short(first["model"]) + (f" and {len(others)} more" if others else "")


_MODELS = Shortened(_models, _first_model)

SPEND: Sequence[Column] = (
    ("cost", spent, True),
    ("calls", calls, True),
    ("unpriced", lambda row: ", ".join(f"{n} {why}" for why, n in row["unpriced"].items()) or "-", False),
    ("input", lambda row: count(row["tokens"]["input"]), True),
    ("cached", lambda row: count(row["tokens"]["cache_read"]), True),
    ("output", lambda row: count(row["tokens"]["output"]), True),
)
"""What was spent; `cached` is the part of the input that was read from a cache."""

TOTALS: Sequence[Column] = (
    *SPEND,
    ("tools", lambda row: count(row["tool_calls"]), True),
    ("models", _MODELS, False),
    ("last active (UTC)", lambda row: _when(row["last"]) + (", ended" if row.get("closed") else ""), False),
)
"""The columns that sessions, runs and tasks share."""

BY_MODEL: Sequence[Column] = (
    ("provider", lambda row: word(row["provider"], "-"), False),
    ("model", lambda row: word(row["model"], "(no model)"), False),
    *SPEND,
)


def _percentiles(figure: str) -> Callable[[dict[str, Any]], str]:
    """Return the text of a figure: its median, 90th and 99th percentile."""

    def text(row: dict[str, Any]) -> str:
        known = row["speed"].get(figure)
        values = (known["p50"], known["p90"], known["p99"]) if known else ()
        return " / ".join(f"{value:,.2f}" if value < 10 else f"{value:,.0f}" for value in values) or "-"

    return text


SPEEDS: Sequence[Column] = (
    ("calls", lambda row: count(row["speed"]["duration_s"]["calls"]), True),
    ("took (s)", _percentiles("duration_s"), True),
    ("first token (s)", _percentiles("first_token_s"), True),
    ("tokens/s", _percentiles("output_tokens_per_s"), True),
)

BY_TASK: Sequence[Column] = (
    ("task", lambda row: word(row["id"], "-"), False),
    ("tokens", lambda row: count(row["tokens_total"]), True),
    ("by kind", lambda row: ", ".join(f"{word(kind, '-')} {count(n)}" for kind, n in row["kinds"].items()), False),
    *SPEND[:3],
)
"""The tasks of a session: tokens in and out, split by kind of work, and what they cost."""

BY_VALUE: Sequence[Column] = (
    *SPEND,
    ("models", _MODELS, False),
)
"""The values of a dimension, behind their names."""

BY_AGENT: Sequence[Column] = (
    ("agent", lambda row: _word_of(row, "id"), False),
    ("below", lambda row: short(row.get("parent_id", "-")), False),
    *BY_VALUE,
)
"""The agents of a session, and the rest of it."""

TOOLS: Sequence[Column] = (
    ("tool", lambda row: word(row["id"], OTHERS), False),
    ("calls", lambda row: count(row["calls"]), True),
    ("failed", lambda row: count(row["failures"]), True),
    ("denied", lambda row: count(row["denied"]), True),
    ("loops", lambda row: count(row["loops"]), True),
    ("own cost", lambda row: money(row["cost_usd"]) if row["cost_usd"] else "-", True),
    ("tokens brought", lambda row: count(row["fed"]["input_tokens"]) if row["fed"] else "-", True),
    ("for about", lambda row: _fed_cost(row["fed"]), True),
)
"""Behind executions: what their results brought into the next model calls, an estimate."""


def _fed_cost(fed: dict[str, Any] | None) -> str:
    return "-" if fed is None else money(fed["cost_usd"]) if "cost_usd" in fed else "unknown"


STATE: Column = ("state", lambda row: row.get("state") or "-", False)

DAY: Sequence[Column] = (("day", lambda row: row["day"] or "-", False), *SPEND)

TENANTS: Sequence[Column] = (
    (
        "tenant",
        lambda row: "(name not kept)" if row["tenant"] is None else word(row["tenant"], "(default)"),
        False,
    ),
    *SPEND[:3],
    ("last active (UTC)", lambda row: _when(row["last"]), False),
)


def _loop(row: dict[str, Any]) -> str:
    """Return whether a tool call completed a loop; of several calls in turn their tools, in order, and how often."""
    if not row.get("cycle"):
        return "loop" if row["loop"] else "-"
    return f"{' > '.join(word(tool, '-') for tool in row['cycle'])}, {count(row['rounds'])} times"


TOOL_REPEATS: Sequence[Column] = (
    ("session", lambda row: word(row["session"]), False),
    ("tool", lambda row: word(row["tool"], "-"), False),
    ("times", lambda row: count(row["times"]), True),
    ("in a row", lambda row: count(row["in_a_row"]), True),
    ("loop", _loop, False),
    ("last active (UTC)", lambda row: _when(row["last"]), False),
    ("signature", lambda row: row["signature"], False),
)

SPANS: Sequence[Column] = (
    ("start (UTC)", lambda row: _when(row["start"]), False),
    ("kind", lambda row: row["kind"] or "-", False),
    ("agent", lambda row: word(row["agent"] or "", "-"), False),
    ("what", lambda row: word(row["model"] or row["tool"] or "", "-"), False),
    ("lasted", lambda row: "-" if row["duration_s"] is None else _duration(row["duration_s"]), True),
    ("input", lambda row: count(row["input_tokens"]), True),
    ("output", lambda row: count(row["output_tokens"]), True),
    ("cost", lambda row: money(row["cost_usd"]) if "cost_usd" in row else row["unpriced"] or "-", True),
    ("failed", lambda row: "failed" if row["failed"] else "-", False),
    ("span", lambda row: f"{row['trace_id']} {row['span_id']}", False),
)
"""A timeline; trace and span id are what `spanledger span` takes."""

CANDIDATES: Sequence[Column] = (
    ("agent", lambda row: word(row["agent"]), False),
    ("why", lambda row: ", ".join(kind.replace("_", "-") for kind in row["kinds"]), False),
    ("cost", lambda row: money(row["cost_usd"]), True),
    ("calls", lambda row: count(row["calls"]), True),
    ("models", lambda row: ", ".join(map(short, row["models"])), False),
    ("input a call", lambda row: count(row["input_tokens_a_call"]), True),
    ("output", lambda row: count(row["output_tokens"]), True),
    ("tools", lambda row: count(row["tool_calls"]), True),
    ("same tokens on", lambda row: ", ".join(map(_other_price, row["same_tokens_on"])) or "-", False),
)


def _other_price(one: dict[str, Any]) -> str:
    return f"{short(one['model'])} {money(one['cost_usd'])}"


WARNINGS: Sequence[Column] = (
    ("warning", lambda row: row["warning"].replace("_", " "), False),
    ("session or day", lambda row: word(row["session"] or row["day"] or "", "-"), False),
    ("what", lambda row: _warned_of(row), False),
    ("at (UTC)", lambda row: _when(row["at"]), False),
)


def _warned_of(row: dict[str, Any]) -> str:
    if "usual_usd_exact" in row:
        return f"${row['cost_usd_exact']} in the latest stretch, usually ${row['usual_usd_exact']}"
    if "failed" in row:
        return f"{row['failed']:,} of {counted(row['spans'], 'span')} failed ({row['share']:.0%})"
    return f"{row['unpriced']:,} of {counted(row['calls'], 'call')} have no price ({row['share']:.0%})"


TASKS: Sequence[Column] = (
    ("task", lambda row: word(row["task"], "-"), False),
    ("kind", lambda row: word(row["kind"], "-"), False),
    ("session", lambda row: word(row["session"]), False),
    ("model", lambda row: word(row["model"], "(no model)"), False),
    *SPEND,
    ("last active (UTC)", lambda row: _when(row["last"]), False),
)

UNPRICED: Sequence[Column] = (
    ("calls", lambda row: count(row["calls"]), True),
    ("reason", lambda row: row["reason"], False),
    ("provider", lambda row: word(row["provider"], "-"), False),
    ("model", lambda row: word(row["model"], "(no model)"), False),
)

GONE: Sequence[Column] = (
    ("last active", lambda row: row["day"], False),
    ("project", lambda row: word(row["project"], "-"), False),
    ("sessions", lambda row: count(row["sessions"]), True),
    *SPEND,
)

MODEL_COST: Sequence[Column] = (
    ("model", lambda row: word(row["model"], "(no model)"), False),
    ("cost", lambda row: money(row["cost_usd"]), True),
)

MODEL_USE: Sequence[Column] = (
    ("model", lambda row: word(row["model"], "(no model)"), False),
    ("cost", lambda row: money(row["cost_usd"]) if "cost_usd" in row else "unknown", True),
    ("calls", lambda row: count(row["calls"]), True),
    *SPEND[3:],
)


def described(rows: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the columns of names and projects, where a source gives its sessions any."""
    return [(name, partial(_described, name), False) for name in ("name", "project") if any(name in r for r in rows)]


def _described(name: str, row: dict[str, Any]) -> str:
    return short(str(row.get(name) or "")) or "-"


def _when(time: str | None) -> str:
    return (time or "-")[:19].replace("T", " ")


def described_by(session: dict[str, Any]) -> str:
    """Return a line on a session beside its sums: state, turns, time, failures, context and dimensions, if known."""
    largest = max((point["input_tokens"] for point in session.get("context", ())), default=0)
    reported = [
        session.get("state", ""),
        f"run {short(session['run_id'])}" if session.get("run_id", session["id"]) != session["id"] else "",
        counted(session["turns"], "turn") if session["turns"] else "",
        f"active for {_duration(session['active_seconds'])}" if session["active_seconds"] else "",
        counted(session["failures"], "failure") if session["failures"] else "",
        counted(session["denied"], "denied tool call") if session["denied"] else "",
        counted(session["loops"], "loop") if session["loops"] else "",
        f"context of up to {counted(largest, 'token')}" if largest else "",
        *(f"{name} {', '.join(map(short, values))}" for name, values in session["dimensions"].items()),
    ]
    return plain(" · ".join(filter(None, reported)))


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:,.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def valued(dimension: str) -> Column:
    """Return the column of a dimension's values, with words for all other values and for none."""
    return (dimension, lambda row: _word_of(row, "value"), False)


def named(heading: str) -> Column:
    """Return the column of the id, with a word for no id."""
    return (heading, lambda row: word(row["id"]), False)
