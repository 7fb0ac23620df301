"""The commands that list: sessions, runs, tenants, unpriced calls, and tool calls that were made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import wraps
from heapq import nlargest
from itertools import islice
from shlex import quote
from typing import Any, get_args

import click

from spanledger_processor.cli import show, tables
from spanledger_processor.cli.asking import QuerySource, Target, asks, rows_of
from spanledger_processor.cli.options import FAILED, as_json, fail, of_one_value, whole_ids
from spanledger_processor.ledger.facts import STATES
from spanledger_processor.ledger.keys import UNATTRIBUTED
from spanledger_processor.ledger.pages import MOST_ROWS
from spanledger_processor.ledger.rows import Row, note
from spanledger_processor.ledger.warning_rules import WARNINGS
from spanledger_processor.model import Unpriced
from spanledger_processor.server.forms import first_line, header, lines
from spanledger_processor.server.routes import day_of, route_of
from spanledger_processor.server.shapes import Shape


class Day(click.ParamType[str]):
    """2026-01-31, today, yesterday, or 7d: the last 7 days, today included."""

    name = "day"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            day_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value


DAY = Day()
SHOWN = 100
"""Rows of a list on a terminal where --limit says nothing."""
PATHS = {"session": "/api/v1/sessions", "run": "/api/v1/runs"}


def as_csv(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --csv and --json, of which it gets one at most."""

    @wraps(command)
    def in_one_form(*, as_csv: bool, as_json: bool, **options: Any) -> Any:
        if as_csv and as_json:
            raise click.UsageError("give one of --csv and --json")
        return command(as_csv=as_csv, as_json=as_json, **options)

    return click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of tables.")(as_json(in_one_form))


def _filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a list its filters; it gets them by the names of the API's parameters."""

    @wraps(command)
    def filtered(since: str | None, until: str | None, sort: str, **options: Any) -> Any:
        filters = {name: options.pop(name) for name in ("model", "contains", "unpriced", "dimension")}
        return command(filters={"sort": sort, "since": since, "until": until, **filters}, **options)

    for option in (
        click.option(
            "--unpriced", type=click.Choice(["any", *get_args(Unpriced)]), help="With unpriced calls: any, or a reason."
        ),
        of_one_value,
        click.option("--contains", metavar="TEXT", help="With this text in the id or the name."),
        click.option("--model", metavar="NAME", help="That spent something on this model, named as in the list."),
        click.option("--until", type=DAY, help="Last active on this UTC day or before."),
        click.option("--since", type=DAY, help="Last active on this UTC day or later: 2026-01-31, today, 7d."),
        click.option(
            "--sort",
            type=click.Choice(["last", "cost"]),
            default="last",
            show_default=True,
            help="last: latest activity first; cost: dearest first.",
        ),
        click.option(
            "--limit",
            type=click.IntRange(1),
            metavar="N",
            help=f"Rows; {SHOWN}, with --json or --csv all, if not given.",
        ),
    ):
        filtered = option(filtered)
    return filtered


@click.command()
@click.option("--state", type=click.Choice(STATES), help="In this state now.")
@click.option("--closed/--not-closed", default=None, help="That were ended, or were not.")
@click.option("--parent", metavar="ID", help="Spawned by this session.")
@_filtered
@whole_ids
@asks
@as_csv
def sessions(
    target: Target,
    filters: dict[str, str | None],
    limit: int | None,
    state: str | None,
    closed: bool | None,  # noqa: FBT001 - click's flag
    parent: str | None,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List sessions: state, cost, calls, tokens, models."""
    ended = None if closed is None else str(closed).lower()
    given = {**filters, "state": state, "closed": ended, "parent": parent}
    with target.open() as source:
        _list(source, "session", given, limit, as_json=as_json, as_csv=as_csv)


@click.command()
@click.option("--all", "every", is_flag=True, help="Also each session that is a run of its own.")
@_filtered
@whole_ids
@asks
@as_csv
def runs(
    target: Target,
    filters: dict[str, str | None],
    limit: int | None,
    every: bool,  # noqa: FBT001 - click's flag
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List runs that are named or have several sessions: cost, calls, tokens, models."""
    with target.open() as source:
        given = {**filters, "all": "true"} if every else filters
        _list(source, "run", given, limit, as_json=as_json, as_csv=as_csv)


@click.command()
@whole_ids
@asks
@as_csv
def tenants(target: Target, *, as_json: bool, as_csv: bool) -> None:
    """List the tenants that have data in the ledger, the dearest first."""
    with target.open() as source:
        rows = ask(source, "/api/v1/tenants")["tenants"]
        if print_rows(rows, route_of("/api/v1/tenants").row_shape, as_json=as_json, as_csv=as_csv):
            return
        if not rows:
            click.echo(nothing_counted(source))
            return
        tables.print_table(show.counted(len(rows), "tenant"), show.TENANTS, rows)


@click.command()
@click.option("--since", type=DAY, help="From a UTC day on: 2026-01-31, today, yesterday, or 7d for the last 7 days.")
@click.option("--until", type=DAY, help="Up to the end of a UTC day.")
@of_one_value
@whole_ids
@asks
@as_csv
def unpriced(target: Target, *, as_json: bool, as_csv: bool, **given: str | None) -> None:
    """List calls that count without a price, by model and reason, with what to do about it."""
    with target.open() as source:
        answer = ask(source, "/api/v1/unpriced", **given, limit=str(MOST_ROWS))
        rows = answer["unpriced"]
        left_out = f"The first {len(rows):,} rows; {answer['left_out']:,} with fewer calls or as many are left out."
        if print_rows(rows, route_of("/api/v1/unpriced").row_shape, as_json=as_json, as_csv=as_csv):
            if answer["left_out"]:
                click.echo(left_out, err=True)
            return
        if not rows:
            click.echo(_none_unpriced(source, given))
            show.print_others(answer)
            return
        columns = show.UNPRICED if rows[0]["model"] is not None else show.UNPRICED[:2]
        title = f"{show.counted(answer['calls'], 'unpriced call')} {show.of_value(answer)}".strip()
        tables.print_table(title, columns, rows)
        show.print_others(answer)
        if answer["left_out"]:
            click.echo(left_out)
        for reason, meaning in {row["reason"]: row["meaning"] for row in rows}.items():
            click.echo(f"{reason}: {meaning}")


@click.command()
@click.option("--session", metavar="ID", help="Of one session only.")
@click.option("--loop", is_flag=True, help="Only calls that completed a loop.")
@click.option("--since", type=DAY, help="Made again last on this UTC day or later: 2026-01-31, today, 7d.")
@click.option("--until", type=DAY, help="Made again last on this UTC day or before.")
@click.option(
    "--sort",
    type=click.Choice(["times", "session"]),
    default="times",
    show_default=True,
    help="times: made most times first; session: those of one session together.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"Rows; {SHOWN}, with --json or --csv all.")
@whole_ids
@asks
@as_csv
def tools(
    sort: str,
    loop: bool,  # noqa: FBT001 - click's flag
    limit: int | None,
    target: Target,
    *,
    as_json: bool,
    as_csv: bool,
    **given: str | None,
) -> None:
    """List tool calls that a session made again with the same arguments, while spans are remembered."""
    filters = {**given, "loop": "true" if loop else None, "sort": "session"}
    nothing = "No tool call completed a loop" if loop else "No tool call was made again"
    some = " of this kind" if any(given.values()) else ""
    nothing = f"{nothing}{some}, as far as calls are remembered (state.retention.spans)."
    with target.open() as source:
        if sort == "session":
            shown_as = "tool calls made again", show.TOOL_REPEATS, nothing
            _print_pages(source, "/api/v1/tools", filters, limit, shown_as, as_json=as_json, as_csv=as_csv)
            return
        rows = sorted(rows_of(source, "/api/v1/tools", filters), key=_by_times, reverse=True)
        shown = rows[: limit or (None if as_json or as_csv else SHOWN)]
        if print_rows(shown, route_of("/api/v1/tools").shape, as_json=as_json, as_csv=as_csv):
            return
        if not shown:
            _end_without(source, given["session"], nothing)
            return
        tables.print_table(show.counted(len(rows), "tool call") + " made again", show.TOOL_REPEATS, shown)
        if len(rows) > len(shown):
            click.echo(
                f"{len(rows) - len(shown):,} more, made less often or as often, are left out: --limit N shows so many."
            )


def _by_times(row: Row) -> tuple[int, int, str]:
    return row["times"], row["in_a_row"], row["last"] or ""


def _end_without(source: QuerySource, session_id: str | None, nothing: str) -> None:
    """Say that a list is empty; end the command where the session that it is of is not there."""
    if session_id:
        of_session(source, "/api/v1/sessions/{id}", session_id, {})
    click.echo(nothing)


@click.command()
@click.option("--session", "session_id", metavar="ID", help="Of one session only.")
@click.option("--task", metavar="ID", help="This task only.")
@click.option("--kind", metavar="NAME", help="This kind of work only.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"Rows; {SHOWN}, with --json or --csv all.")
@whole_ids
@asks
@as_csv
def tasks(
    session_id: str | None,
    task: str | None,
    kind: str | None,
    limit: int | None,
    target: Target,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List what tasks cost, by kind of work and model; those of a session stand together."""
    given = {"session": session_id, "task": task, "kind": kind}
    nothing = "No span has named a task (processor.tasks.id_keys)."
    if any(given.values()):
        nothing = "No span has named a task of this kind (processor.tasks.id_keys)."
    with target.open() as source:
        _print_pages(
            source, "/api/v1/tasks", given, limit, ("tasks", show.TASKS, nothing), as_json=as_json, as_csv=as_csv
        )


@click.command()
@click.option("--warning", type=click.Choice(WARNINGS), help="Of this kind.")
@click.option("--session", metavar="ID", help="Of this session.")
@click.option("--since", type=DAY, help="Given on this UTC day or later: 2026-01-31, today, 7d.")
@click.option("--until", type=DAY, help="Given on this UTC day or before.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"Rows; {SHOWN}, with --json or --csv all.")
@whole_ids
@asks
@as_csv
def warnings(target: Target, limit: int | None, *, as_json: bool, as_csv: bool, **given: str | None) -> None:
    """List what was warned of (processor.warnings), the newest first."""
    nothing = "Nothing was warned of: no session failed much or suddenly cost more, and no day had many unpriced calls."
    if any(given.values()):
        nothing = "Nothing of this kind was warned of."
    with target.open() as source:
        shown_as = "warnings", show.WARNINGS, nothing
        _print_pages(source, "/api/v1/warnings", given, limit, shown_as, as_json=as_json, as_csv=as_csv)


def _print_pages(
    source: QuerySource,
    path: str,
    given: dict[str, str | None],
    limit: int | None,
    shown_as: tuple[str, Sequence[tables.Column], str],
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Print the rows of a list: as a table of a title and columns, or a sentence where there are none."""
    if as_json or as_csv:
        rows = islice(rows_of(source, path, given, limit), limit)
        print_csv(rows, route_of(path).shape) if as_csv else show.print_json_rows(rows)
        return
    title, columns, nothing = shown_as
    most = limit or SHOWN
    shown = list(islice(rows_of(source, path, given, most + 1), most + 1))
    if not shown:
        _end_without(source, given.get("session"), nothing)
        return
    tables.print_table(title, columns, shown[:most])
    if len(shown) > most:
        click.echo("There are more: --limit N shows so many, --json and --csv give all.")


def of_session(source: QuerySource, path: str, session_id: str, parameters: Row) -> Row:
    """Return the answer of a route on one session; end the command where there is none of this id."""
    result = source.ask(path, {"id": session_id}, parameters)
    if result is None:
        fail(f"no session {session_id!r} in {source.name}; {where_to_find(source, 'session', session_id)}", FAILED)
    return result


def where_to_find(source: QuerySource, what: str, name: str) -> str:
    """Return where a session or run is found that there is none of: of an id that a table cut, those it may be of.

    None of them is taken for it: the one that is meant may be gone, and another may begin and end alike.
    """
    lists = f"`spanledger {what}s` lists those there are"
    begin, cut, end = name.partition(show.CUT)
    if not cut or not begin:
        return lists
    given = {"contains": begin, "sort": "last", **({"all": "true"} if what == "run" else {})}
    ids = (row["id"] for row in islice(rows_of(source, PATHS[what], given), MOST_ROWS))
    alike = [*islice((one for one in ids if one.startswith(begin) and one.endswith(end)), 3)]
    if not alike:
        return f"it looks like an id that a table cut: `spanledger {what}s --whole` shows all of each"
    return f"a table cut it: `{'` or `'.join(f'spanledger {what} {quote(tables.plain(one))}' for one in alike)}`"


def ask(source: QuerySource, path: str, **parameters: str | None) -> dict[str, Any]:
    """Return the answer of a route that every ledger has."""
    answer = source.ask(path, {}, parameters)
    assert answer is not None
    return answer


def _list(
    source: QuerySource, what: str, given: dict[str, str | None], limit: int | None, *, as_json: bool, as_csv: bool
) -> None:
    path = PATHS[what]
    if as_json or as_csv:
        rows = islice(_rows(source, what, given, limit), limit)
        if as_csv:
            print_csv(rows, route_of(path).shape)
        else:
            show.print_json_rows(rows)
        return
    most = limit or SHOWN
    shown = list(islice(_rows(source, what, given, most + 1), most + 1))
    more, shown = len(shown) > most, shown[:most]
    if not shown:
        if any(value is not None for name, value in given.items() if name not in ("sort", "all")):
            click.echo(f"No {what} of this kind in {source.name}.")
        elif what == "run" and "all" not in given and ask(source, "/api/v1/summary")["total"]["spans"]:
            click.echo("No run is named, and none has several sessions; --all lists each session as a run of its own.")
        else:
            click.echo(nothing_counted(source))
        return
    title = f"the first {most:,} {what}s" if more else show.counted(len(shown), what)
    states = [show.STATE] if what == "session" else []
    tables.print_table(title, [show.named(what), *show.described(shown), *show.TOTALS, *states], shown)
    print_note(shown)
    show.print_whole(what, given["dimension"])
    if what == "run" and "all" not in given:
        click.echo("Sessions that are runs of their own are not among them; --all lists those, too, and is the whole.")
    if more:
        click.echo("There are more: --limit N shows so many, --json and --csv give all.")


def _rows(source: QuerySource, what: str, given: dict[str, str | None], most: int | None) -> Iterable[dict[str, Any]]:
    """Return the rows of a list, `most` at most; all runs are compared where they are sorted by cost.

    The API sorts them in slices by last activity.
    """
    if what != "run" or given["sort"] != "cost":
        return rows_of(source, PATHS[what], given, most)

    def named_and_dear(row: dict[str, Any]) -> tuple[bool, Decimal]:
        return row["id"] != UNATTRIBUTED, Decimal(row["cost_usd_exact"])

    rows = rows_of(source, PATHS[what], given)
    return sorted(rows, key=named_and_dear, reverse=True) if most is None else nlargest(most, rows, key=named_and_dear)


def print_note(rows: Sequence[Row]) -> None:
    """Print a note where rows hold usage of spans that are not single model calls."""
    if result := note({name: 1 for row in rows for name in row["granularities"]}):
        click.echo(f"Note: {result}.")


def _none_unpriced(source: QuerySource, given: dict[str, str | None]) -> str:
    """Return the sentence for a ledger without unpriced calls: nothing was counted, or every call has a price."""
    answer = ask(source, "/api/v1/summary", **given, by="model")
    which = " ".join(filter(None, (show.of_value(answer), days_between(given["since"], given["until"], answer))))
    if answer["total"]["calls"]:
        return f"Every call {which + ' ' if which else ''}in {source.name} has a price."
    return f"Nothing was spent {which} in {source.name}." if which else nothing_counted(source)


def nothing_counted(source: QuerySource) -> str:
    """Return the sentence for an empty ledger: which one it is, and the tenants that have data."""
    if others := other_tenants(source):
        return f"Nothing has been counted for this tenant in {source.name}. There is data under {others}: --tenant NAME"
    return f"Nothing has been counted in {source.name} yet."


def other_tenants(source: QuerySource) -> str:
    """Return the first few tenants that have data beside the one that is asked for; empty if there are none."""
    rows = ask(source, "/api/v1/tenants")["tenants"]
    others = [row["tenant"] for row in rows if row["tenant"] not in (None, source.tenant) and row["calls"]]
    names = [tables.plain(tenant) or "the default one" for tenant in others]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def days_between(since: str | None, until: str | None, answer: Row) -> str:
    """Return the days of an answer in words; empty for all of them."""
    first = f"since {answer['since']}" if since is not None else ""
    last = f"until {answer['until']}" if until is not None else ""
    return " ".join(part for part in (first, last, "(UTC)") if part) if first or last else ""


def print_rows(rows: list[Row], shape: Shape, *, as_json: bool, as_csv: bool) -> bool:
    """Print rows as JSON or CSV, where that is asked for; return whether it was."""
    if as_csv:
        print_csv(rows, shape)
    elif as_json:
        show.show_json(rows)
    return as_csv or as_json


def print_csv(rows: Iterable[Row], shape: Shape) -> None:
    """Print rows as CSV, less the lists that only one session has beside its sums."""
    columns = header({name: field for name, field in shape.items() if not _only_of_one(name)})
    click.echo(first_line(columns).encode(), nl=False)
    for row in rows:
        click.echo(lines(columns, [row]).encode("utf-8", "replace"), nl=False)


def _only_of_one(name: str) -> bool:
    return name in ("tasks", "by_task", "by_model")
