"""`spanledger top`: what is being spent now, followed live on a terminal, printed once elsewhere."""

from __future__ import annotations

import io
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime
from shutil import get_terminal_size
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from spanledger_processor.cli import show, tables
from spanledger_processor.cli.asking import QuerySource, Target, asks
from spanledger_processor.cli.options import as_json, whole_ids
from spanledger_processor.ledger.budgets import PERIODS_OF_DAYS, RUN, SESSION
from spanledger_processor.ledger.facts import STATES

_MOST = 200
"""The most sessions that are queried."""
_BUDGETS = 3
_LONG_ID, _LONG_LABEL = 40, 20
"""Characters of an id that is cut, and of a process that is left out, where they are more."""
_TODAY = {"since": "today", "until": "today"}
"""A sender whose clock is ahead may have spent tomorrow, which is not of a day's budget either."""
_FRAME_LINES = 9
"""Lines of a screen that are no sessions."""


@click.command()
@click.option(
    "--sort",
    type=click.Choice(["last", "cost"]),
    default="last",
    show_default=True,
    help="last: latest activity first; cost: dearest first.",
)
@click.option("--state", type=click.Choice(STATES), help="Only sessions in this state.")
@click.option(
    "--interval", type=click.FloatRange(0.5, 3600), default=2.0, show_default=True, help="Seconds between two looks."
)
@click.option(
    "--limit",
    type=click.IntRange(1, _MOST),
    help="At most so many sessions; default: as many as a screen has room for.",
)
@click.option("--once", is_flag=True, help="Print once and end, as where the output is no terminal.")
@whole_ids
@asks
@as_json
def top(
    sort: str, state: str | None, interval: float, limit: int | None, target: Target, *, once: bool, as_json: bool
) -> None:
    """Follow what is spent: today's sum, budgets and the latest sessions. q or Ctrl-C ends it."""
    filters = {"sort": sort, "state": state}
    answers = _query(target, filters)
    out = Console()
    if as_json:
        show.show_json({**answers, "sessions": answers["sessions"][:limit]})
    elif once or not out.is_terminal:
        rows = limit or _room(answers, get_terminal_size().lines)
        tables.console().print(_screen(answers, {}, rows, ""))
    else:
        _follow(target, filters, answers, interval, limit or _MOST, out)


def _query(target: Target, filters: Mapping[str, str | None]) -> dict[str, Any]:
    """Query everything that is shown once, or end the command."""
    with target.open() as source:
        answers = {
            "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "today": _asked(source, "/api/v1/summary", **_TODAY, by="model", limit="5")["total"],
            "total": _asked(source, "/api/v1/summary", by="model", limit="1")["total"],
            "budgets": _budgets(source),
            "sessions": _asked(source, "/api/v1/sessions", limit=str(_MOST), **filters)["sessions"],
        }
    answers["sessions"] = [row for row in answers["sessions"] if row["id"]]
    return {**answers, "source": source.name}


def _budgets(source: QuerySource) -> list[dict[str, Any]]:
    """Return the most used budgets, those of days and longer periods before those of sessions and runs."""
    found = list[dict[str, Any]]()
    for periods in (PERIODS_OF_DAYS, (SESSION, RUN)):
        left = _BUDGETS - len(found)
        if left:
            found += _asked(source, "/api/v1/budgets", period=",".join(periods), limit=str(left))["budgets"]
    return found


def _asked(source: QuerySource, path: str, **parameters: str | None) -> dict[str, Any]:
    answer = source.ask(path, {}, parameters)
    assert answer is not None
    return answer


def _follow(
    target: Target,
    filters: Mapping[str, str | None],
    answers: dict[str, Any],
    interval: float,
    limit: int,
    out: Console,
) -> None:
    """Update the screen at intervals until it is ended; while nothing answers, the last one stays."""
    before: dict[str, float] = {}
    problem = ""
    with _keys() as pressed, Live(console=out, screen=True, auto_refresh=False) as live:
        while True:
            rows = min(limit, _room(answers, out.height))
            live.update(_screen(answers, before, rows, problem), refresh=True)
            if pressed(interval):
                return
            before = {row["id"]: row["cost_usd"] for row in answers["sessions"]}
            errors = io.StringIO()
            try:
                with redirect_stderr(errors):
                    answers, problem = _query(target, filters), ""
            except SystemExit:
                problem = errors.getvalue().strip()


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Give a function that waits for so many seconds and returns whether q was pressed; SIGTERM ends like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not sys.stdin.isatty():
            yield _wait
            return
        import termios  # there is none without terminals of this kind
        import tty

        descriptor = sys.stdin.fileno()
        usual = termios.tcgetattr(descriptor)
        tty.setcbreak(descriptor)
        try:
            yield _pressed
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, usual)
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _pressed(seconds: float) -> bool:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0] and (key := sys.stdin.read(1)) in ("q", "Q", ""):
            return bool(key) or _wait(max(0.0, until - time.monotonic()))
    return False


def _room(answers: dict[str, Any], lines: int) -> int:
    """Return how many sessions fit a screen of so many lines."""
    return max(1, lines - _FRAME_LINES - len(answers["budgets"]))


def _screen(answers: dict[str, Any], before: Mapping[str, float], most: int, problem: str) -> Group:
    """Return the screen; `before` are the costs of sessions one update earlier, `most` the sessions shown."""
    sessions = answers["sessions"]
    shown = sessions[:most]
    lines = [
        Text(tables.plain(f"{answers['source']}, {answers['at'][:19].replace('T', ' ')} UTC"), "dim"),
        Text(f"today {_spent(answers['today'])} · in all {_spent(answers['total'])}", "bold"),
        *(Text(tables.plain(_budget(row)), "red" if row["over"] else "") for row in answers["budgets"]),
    ]
    if problem:
        lines.append(Text(tables.plain(problem), "red"))
    states = {name: sum(row["state"] == name for row in sessions) for name in ("active", "idle", "stale", "closed")}
    number = f"{len(sessions)}{' or more' if len(sessions) >= _MOST else ''}"
    title = f"{number} session{'' if number == '1' else 's'}: " + ", ".join(
        f"{n} {name}" for name, n in states.items() if n
    )
    if not sessions:
        return Group(*lines, Text("No session here yet."))
    columns: list[tables.Column] = [
        ("session", _session, False),
        *[column for column in show.described(shown) if column[0] != "name"],
        ("state", lambda row: row["state"], False),
        ("cost", show.spent, True),
        *([("since last look", lambda row: _rise(row, before), True)] if before else []),
        *show.TOTALS[1:],
    ]
    left_out = len(sessions) - len(shown)
    more = [Text(f"{left_out} more not shown (--limit; spanledger sessions lists all)", "dim")] if left_out else []
    return Group(*lines, tables.table(title, columns, shown), *more)


def _spent(sums: dict[str, Any]) -> str:
    return f"{show.spent(sums)}, {show.counted(sums['calls'], 'call')}"


def _budget(row: dict[str, Any]) -> str:
    of = f" of {show.word(row['value'])}" if row["value"] else ""
    spent, amount = show.money(row["used_usd"]), show.money(row["amount_usd"])
    unpriced = f", {show.counted(row['unpriced_calls'], 'call')} without a price" if row["unpriced_calls"] else ""
    return f"budget {row['budget']}{of}: {show.used(row)}, {spent} of {amount}{unpriced}"


def _rise(row: dict[str, Any], before: Mapping[str, float]) -> str:
    rise = row["cost_usd"] - before.get(row["id"], row["cost_usd"])
    return f"+{show.money(rise)}" if rise > 0 else "-"


def _session(row: dict[str, Any]) -> str:
    """Return the name of a session, else its id, by which commands find it: behind its process if that is short."""
    if row.get("name"):
        return show.quoted(show.short(str(row["name"]), _LONG_ID))
    label, identifier = str(row["label"]), str(row["id"])
    shown = show.short(identifier, _LONG_ID)
    return show.quoted(shown if identifier.startswith(label) or len(label) > _LONG_LABEL else f"{label} {shown}")
