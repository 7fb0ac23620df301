"""The commands that sum up: the ledger by model, day or dimension, and its budgets."""

from __future__ import annotations

from collections.abc import Sequence

import click

from spanledger_processor.cli import show, tables
from spanledger_processor.cli.asking import QuerySource, Target, asks
from spanledger_processor.cli.lists import (
    DAY,
    SHOWN,
    as_csv,
    ask,
    days_between,
    nothing_counted,
    other_tenants,
    print_csv,
    print_note,
)
from spanledger_processor.cli.options import FAILED, fail, of_one_value, whole_ids
from spanledger_processor.cli.single import print_tools, show_one
from spanledger_processor.ledger.dimensions import MODEL, PROVIDER
from spanledger_processor.ledger.pages import MOST_ROWS
from spanledger_processor.ledger.rows import Row
from spanledger_processor.server.routes import route_of

_IN_SUMMARY = ("day", "day_model", "tool")
"""Values of --by that the route of the summary answers; all others are dimensions."""
_OF_VALUE_BY = (None, "day", "day_model")
"""Those by which one value of a dimension has sums."""

_SPEED_BY: dict[str | None, tuple[str, Sequence[tables.Column]]] = {
    None: ("models", show.BY_MODEL[:2]),
    "model": ("models", show.BY_MODEL[:2]),
    "day": ("days", show.DAY[:1]),
    "day_model": ("days_by_model", [show.DAY[0], *show.BY_MODEL[:2]]),
}
"""The list of an answer that --speed shows, and the columns that name its rows, by --by."""


@click.command()
@click.option("--session", "session_id", metavar="ID", help="Of one session only: its tasks and models.")
@click.option("--run", "run_id", metavar="ID", help="Of one run only.")
@click.option("--since", type=DAY, help="From a UTC day on: 2026-01-31, today, yesterday, or 7d for the last 7 days.")
@click.option("--until", type=DAY, help="Up to the end of a UTC day.")
@click.option(
    "--by",
    "what",
    metavar="WHAT",
    help="By day, day_model (each day's models), tool, or the values of a dimension: agent, model, provider, or one of "
    "processor.dimensions (service, project, user).",
)
@click.option(
    "--gone",
    "of_gone",
    is_flag=True,
    help="What sessions had spent that the ledger no longer tells apart, by the day they were last active and project.",
)
@click.option(
    "--speed",
    is_flag=True,
    help="How fast calls were instead of what they cost: percentiles by model, or --by day or day_model.",
)
@of_one_value
@whole_ids
@asks
@as_csv
def summary(
    session_id: str | None,
    run_id: str | None,
    since: str | None,
    until: str | None,
    what: str | None,
    dimension: str | None,
    target: Target,
    *,
    of_gone: bool,
    speed: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Sum up the ledger: the total, by model, and what could not be priced. With --since or --until also by day."""
    days = since is not None or until is not None
    if (session_id is not None) + (run_id is not None) + days > 1:
        raise click.UsageError("give one of --session, --run and days (--since, --until)")
    one = session_id if session_id is not None else run_id
    if dimension is not None and (one is not None or of_gone or what not in _OF_VALUE_BY):
        raise click.UsageError("--dimension goes with days, --speed, --by day and --by day_model")
    if one is not None:
        if what is not None or of_gone or speed:
            raise click.UsageError("--by, --gone and --speed go with the whole ledger, not with --session or --run")
        show_one("session" if session_id is not None else "run", one, target, as_json=as_json, as_csv=as_csv)
        return
    if of_gone and what is not None:
        raise click.UsageError("--gone goes by day and project; leave --by out")
    if speed and (of_gone or as_json or as_csv or what not in _SPEED_BY):
        raise click.UsageError(
            "--speed is a table by model, day or day_model; --json and --csv hold it without --speed"
        )
    if speed and dimension is not None and dimension.partition(":")[0] not in (MODEL, PROVIDER):
        raise click.UsageError("--speed is kept by model and provider alone: --dimension model:NAME or provider:NAME")
    with target.open() as source:
        if of_gone:
            _gone(source, since, until, as_json=as_json, as_csv=as_csv)
        elif speed:
            _print_speed(source, {"since": since, "until": until, "dimension": dimension}, what or "model")
        elif what is not None and what not in _IN_SUMMARY:
            _by_dimension(source, what, since, until, as_json=as_json, as_csv=as_csv)
        else:
            given = {"since": since, "until": until, "dimension": dimension}
            _whole(source, target, given, what, as_json=as_json, as_csv=as_csv)


def _print_speed(source: QuerySource, given: dict[str, str | None], by: str) -> None:
    answer = ask(source, "/api/v1/summary", **given, by=by)
    name, columns = _SPEED_BY[by]
    days = _which(given, answer)
    if rows := [row for row in answer[name] if "speed" in row]:
        title = " ".join(filter(None, ("speed by", by.replace("_", " and "), days)))
        tables.print_table(f"{title}: p50 / p90 / p99", [*columns, *show.SPEEDS], rows)
    else:
        click.echo(f"Of no call {days + ' ' if days else ''}in {source.name} is it known how long it took.")


def _whole(
    source: QuerySource,
    target: Target,
    given: dict[str, str | None],
    by: str | None,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    answer = ask(source, "/api/v1/summary", **given, by=by)
    lists = {"day": "days", "day_model": "days_by_model", "tool": "tools"}
    if as_csv:
        name = lists.get(by or "", "models")
        print_csv(answer[name], route_of("/api/v1/summary").shape[name].rows or {})
        return
    if as_json:
        show.show_json(answer)
        return
    total, days = answer["total"], _which(given, answer)
    if not total["calls"] and not total.get("spans"):
        click.echo(f"Nothing was spent {days} in {source.name}." if days else nothing_counted(source))
        show.print_others(answer)
        return
    columns = show.SPEND if days else [column for column in show.TOTALS if column[0] != "models"]
    others = "" if target.tenant else other_tenants(source)
    of_tenant = f" of tenant {target.tenant}" if target.tenant else " of the default tenant" if others else ""
    tables.print_table(f"{days or 'the whole ledger'}{of_tenant}", columns, [total])
    if others:
        click.echo(f"What is under {others} is not in it: --tenant NAME, or spanledger tenants")
    print_note([total])
    if correction := total.get("late_correction_usd"):
        sent = f"{show.money(abs(correction))} {'more' if correction > 0 else 'less'}"
        click.echo(f"The spans were sent with {sent} than that in sum: what came later proved some of them repeats.")
    if total.get("sessions_gone"):
        click.echo(f"Of it, {_of_gone(total['sessions_gone'], total['gone_usd'])}: spanledger summary --gone")
    if "days" in answer:
        tables.print_table("by day", show.DAY, answer["days"])
    show.print_others(answer)
    for name, title, more in (("days_by_model", "by day and model", show.DAY[:1]), ("models", "by model", ())):
        if rows := answer.get(name):
            by_model = show.BY_MODEL if "calls" in rows[0] else show.MODEL_COST  # the cost alone, of a value
            tables.print_table(title, [*more, *by_model], rows)
    if "tools" in answer:
        _print_tools(answer)


def _which(given: dict[str, str | None], answer: Row) -> str:
    """Return in words of which value and which days an answer is; empty for everything."""
    return " ".join(filter(None, (show.of_value(answer), days_between(given["since"], given["until"], answer))))


def _print_tools(answer: Row) -> None:
    if not answer["tools"]:
        click.echo("No tool call is known.")
        return
    print_tools("by tool", answer["tools"][:SHOWN])
    if more := len(answer["tools"][SHOWN:]) + answer["tools_left_out"]:
        click.echo(f"{more:,} more with --json.")


def _of_gone(sessions: int, usd: float) -> str:
    what = "one session" if sessions == 1 else f"{sessions:,} sessions"
    return f"{show.money(usd)} was spent by {what} no longer told apart"


def _gone(source: QuerySource, since: str | None, until: str | None, *, as_json: bool, as_csv: bool) -> None:
    """Print what sessions had spent that are no longer told apart."""
    answer = ask(source, "/api/v1/gone", since=since, until=until, limit=str(MOST_ROWS))
    rows, total = answer["gone"], answer["total"]
    if as_json:
        show.show_json(answer)
        return
    if as_csv:
        print_csv(rows, route_of("/api/v1/gone").row_shape)
        return
    days = days_between(since, until, answer)
    if not rows:
        click.echo(f"No session {'last active ' + days + ' ' if days else ''}has given way in {source.name}.")
        return
    shown = rows[:SHOWN]
    tables.print_table(f"{days} {_of_gone(total['sessions'], total['cost_usd'])}".strip(), show.GONE, shown)
    if len(shown) < len(rows) + answer["left_out"]:
        click.echo(f"{len(rows) + answer['left_out'] - len(shown):,} more with --json.")
    if len(total["models"]) > 1:
        tables.print_table("by model", show.MODEL_COST, total["models"])


def _by_dimension(
    source: QuerySource,
    name: str,
    since: str | None,
    until: str | None,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    most = str(MOST_ROWS if as_json or as_csv else SHOWN)
    answer = source.ask("/api/v1/dimensions/{name}", {"name": name}, {"since": since, "until": until, "limit": most})
    assert answer is not None
    rows = answer["values"]
    if as_json:
        show.show_json(answer)
        return
    if as_csv:
        print_csv(rows, route_of("/api/v1/dimensions/{name}").row_shape)
        return
    days = days_between(since, until, answer)
    if not rows:
        click.echo(f"Nothing was spent {days} in {source.name}." if days else nothing_counted(source))
        return
    tables.print_table(f"by {name} {days}".strip(), [show.valued(name), *show.BY_VALUE], rows)
    if answer["left_out"]:
        click.echo(f"{answer['left_out']:,} more with --json; here they are one row.")


def _budget_state(row: Row) -> str:
    passed = f"{row['passed'][-1]} % passed" if row["passed"] else ""
    state = ("used up",) if row["over"] else (passed, "will not last" if row["forecast"] else "")
    unpriced = f"{show.counted(row['unpriced_calls'], 'call')} without a price" if row["unpriced_calls"] else ""
    return ", ".join(filter(None, (*state, unpriced)))


_BUDGETS: tuple[tables.Column, ...] = (
    ("budget", lambda row: show.short(row["budget"]), False),
    ("of", lambda row: show.word(row["value"], "-"), False),
    ("period", lambda row: row["period"] + (f" since {row['since']}" if row["since"] else ""), False),
    ("used", show.used, True),
    ("spent", lambda row: show.money(row["used_usd"]), True),
    ("amount", lambda row: show.money(row["amount_usd"]), True),
    ("state", lambda row: _budget_state(row) or "-", False),
)


@click.command()
@click.option("--of", "value", metavar="VALUE", help="Of this value of a dimension, session or run, and of all.")
@click.option(
    "--session", metavar="ID", help="Against which its calls count: its own, its run's, those of its values, of all."
)
@click.option("--check", is_flag=True, help="End with exit code 1 if one is used up.")
@whole_ids
@asks
@as_csv
def budgets(
    value: str | None, session: str | None, target: Target, *, check: bool, as_json: bool, as_csv: bool
) -> None:
    """Show what is used of each budget, the most used first."""
    with target.open() as source:
        result = ask(source, "/api/v1/budgets", value=value, session=session)
    if as_json:
        show.show_json(result)
    elif as_csv:
        print_csv(result["budgets"], route_of("/api/v1/budgets").row_shape)
    elif result["budgets"]:
        shown = result["budgets"][:SHOWN]
        tables.print_table("budgets", _BUDGETS, shown)
        if len(shown) < len(result["budgets"]):
            click.echo(f"{len(result['budgets']) - len(shown):,} that are used less with --json.")
    else:
        click.echo("No budget is configured (processor.budgets), or nothing has been spent yet of those there are.")
    if check and result["over"]:
        fail("a budget is used up", FAILED)
