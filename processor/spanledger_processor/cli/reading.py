"""The commands that read the ledger: on this machine's disk, while `serve` runs or after, or of a running instance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import wraps
from heapq import nlargest
from itertools import islice
from typing import Any

import click

from spanledger_processor.cli import show
from spanledger_processor.cli.asking import QuerySource, Where, asks, rows_of
from spanledger_processor.cli.options import FAILED, as_json, fail
from spanledger_processor.ledger.keys import UNATTRIBUTED
from spanledger_processor.ledger.pages import MOST_ROWS
from spanledger_processor.ledger.rows import Row, note
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
_SHOWN = 100
"""Rows of a list on a terminal where --limit says nothing."""
_NAMED = {"session": "/api/v1/sessions", "run": "/api/v1/runs"}
_OF_DAYS = ("day", "day_model", "tool")


def as_csv(command: Callable[..., Any]) -> Callable[..., Any]:
    """--csv, beside --json."""
    return click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of tables.")(as_json(command))


def _filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a list its filters; it gets them by the names of the API's parameters."""

    @wraps(command)
    def filtered(since: str | None, until: str | None, sort: str, **options: Any) -> Any:
        filters = {name: options.pop(name) for name in ("model", "contains", "unpriced")}
        return command(filters={"sort": sort, "since": since, "until": until, **filters}, **options)

    for option in (
        click.option("--unpriced", metavar="REASON", help="With unpriced calls: any, or a reason."),
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
            help=f"Rows; {_SHOWN}, with --json or --csv all, if not given.",
        ),
    ):
        filtered = option(filtered)
    return filtered


@click.command()
@_filtered
@asks
@as_csv
def sessions(where: Where, filters: dict[str, str | None], limit: int | None, *, as_json: bool, as_csv: bool) -> None:
    """List sessions: cost, calls, tokens, models."""
    with where.open() as source:
        _list(source, "session", filters, limit, as_json=as_json, as_csv=as_csv)


@click.command()
@click.option("--all", "every", is_flag=True, help="Also each session that is a run of its own.")
@_filtered
@asks
@as_csv
def runs(
    where: Where,
    filters: dict[str, str | None],
    limit: int | None,
    every: bool,  # noqa: FBT001 - click's flag
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List runs that are named or have several sessions: cost, calls, tokens, models."""
    with where.open() as source:
        given = {**filters, "all": "true"} if every else filters
        _list(source, "run", given, limit, as_json=as_json, as_csv=as_csv)


@click.command()
@click.argument("session_id", metavar="ID")
@asks
@as_json
def session(session_id: str, where: Where, *, as_json: bool) -> None:
    """Show one session by model and task."""
    _one("session", session_id, where, as_json=as_json)


@click.command()
@click.argument("run_id", metavar="ID")
@asks
@as_json
def run(run_id: str, where: Where, *, as_json: bool) -> None:
    """Show one run by model."""
    _one("run", run_id, where, as_json=as_json)


@click.command()
@asks
@as_csv
def tenants(where: Where, *, as_json: bool, as_csv: bool) -> None:
    """List the tenants that have data in the ledger, the dearest first."""
    with where.open() as source:
        rows = _asked(source, "/api/v1/tenants")["tenants"]
        if _printed(rows, route_of("/api/v1/tenants").shape["tenants"].rows or {}, as_json=as_json, as_csv=as_csv):
            return
        if not rows:
            click.echo(_nothing(source))
            return
        show.print_table(show.counted(len(rows), "tenant"), show.TENANTS, rows)


@click.command()
@click.option("--since", type=DAY, help="From a UTC day on: 2026-01-31, today, yesterday, or 7d for the last 7 days.")
@click.option("--until", type=DAY, help="Up to the end of a UTC day.")
@asks
@as_csv
def unpriced(since: str | None, until: str | None, where: Where, *, as_json: bool, as_csv: bool) -> None:
    """List calls that count without a price, by model and reason, with what to do about it."""
    with where.open() as source:
        answer = _asked(source, "/api/v1/unpriced", since=since, until=until, limit="1000")
        rows = answer["unpriced"]
        if _printed(rows, route_of("/api/v1/unpriced").shape["unpriced"].rows or {}, as_json=as_json, as_csv=as_csv):
            return
        if not rows:
            click.echo(_none_unpriced(source, since, until))
            return
        show.print_table(show.counted(answer["calls"], "unpriced call"), show.UNPRICED, rows)
        for reason, meaning in {row["reason"]: row["meaning"] for row in rows}.items():
            click.echo(f"{reason}: {meaning}")


@click.command()
@click.option("--session", "session_id", metavar="ID", help="Of one session only.")
@click.option("--loop", is_flag=True, help="Only calls that completed a loop.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"Rows; {_SHOWN}, with --json or --csv all.")
@asks
@as_csv
def tools(
    session_id: str | None,
    loop: bool,  # noqa: FBT001 - click's flag
    limit: int | None,
    where: Where,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List tool calls that a session made again with the same arguments, while spans are remembered."""
    path = "/api/v1/tools"
    with where.open() as source:
        given = {"session": session_id, "loop": "true" if loop else None}
        if as_json or as_csv:
            rows = islice(rows_of(source, path, given, limit), limit)
            _print_csv(rows, route_of(path).shape) if as_csv else show.print_json_rows(rows)
            return
        most = limit or _SHOWN
        shown = list(islice(rows_of(source, path, given, most + 1), most + 1))
        if not shown:
            click.echo("No tool call was made again, as far as calls are remembered (state.retention.spans).")
            return
        show.print_table("tool calls made again", show.TOOL_REPEATS, shown[:most])
        if len(shown) > most:
            click.echo("There are more: --limit N shows so many, --json and --csv give all.")


@click.command()
@click.argument("trace_id")
@click.argument("span_id")
@asks
@as_json
def span(trace_id: str, span_id: str, where: Where, *, as_json: bool) -> None:
    """Show what was decided about one span, and why, while spans are remembered (state.retention.spans).

    TRACE_ID and SPAN_ID are hexadecimal, as backends show them.
    """
    with where.open() as source:
        ids = {"trace_id": trace_id.strip().lower(), "span_id": span_id.strip().lower()}
        result = source.ask("/api/v1/spans/{trace_id}/{span_id}", ids, {})
        if result is None:
            fail(
                f"nothing is remembered of span {span_id!r} in trace {trace_id!r} in {source.name}: no GenAI span, "
                "another tenant's, or longer ago than state.retention.spans",
                FAILED,
            )
    if as_json:
        show.show_json(result)
        return
    for label, text in _decided(result):
        click.echo(f"{label:<9} {show.plain(text)}")


def _decided(found: Row) -> Iterator[tuple[str, str]]:
    """Yield labels and texts that tell of a span's decision."""
    cost = found["cost"]
    yield "is", f"{found['kind']}, in {found['dialect']}"
    if found["model"] is not None:
        yield "model", f"{found['model']} of {found['provider'] or '-'}"
    if found["usage"] is not None:
        counts = (f"{name.replace('_', ' ')} {n:,}" for name, n in found["usage"].items() if n is not None)
        yield "usage", ", ".join(counts)
    if cost is not None and cost.get("cost_usd_exact") is not None:
        yield "cost", f"${cost['cost_usd_exact']}, {cost['source']}{', an estimate' if cost['estimate'] else ''}"
        if cost["price"]:
            parts = (f"{name.replace('_', ' ')} ${amount}" for name, amount in (cost["parts_usd_exact"] or {}).items())
            yield "price", f"{cost['price']}: {', '.join(parts)}"
    yield "counts", f"{found['role'].replace('_', ' ')}: {found['why']}"
    if found["role"] == "counted" and not found["counts_now"]:
        yield "", "not any more: a later span proved it a repeat"
    for what in ("session", "run"):
        named = found[what]
        yield what, f"{named['id']} ({named['source'] or '-'})" if named is not None else "none: unattributed"
    if (tool := found["tool"]) is not None:
        loop = ", a loop" if tool["loop"] else ""
        yield "tool", f"{tool['signature']}: {tool['repeats']} times, {tool['consecutive']} in a row{loop}"
    if found["note"]:
        yield "note", found["note"]


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
@asks
@as_csv
def summary(
    session_id: str | None,
    run_id: str | None,
    since: str | None,
    until: str | None,
    what: str | None,
    where: Where,
    *,
    of_gone: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Sum up the ledger: the total, by model, and what could not be priced. With --since or --until also by day."""
    days = since is not None or until is not None
    if (session_id is not None) + (run_id is not None) + days > 1:
        raise click.UsageError("give one of --session, --run and days (--since, --until)")
    one = session_id if session_id is not None else run_id
    if one is not None:
        if what is not None or as_csv or of_gone:
            raise click.UsageError("--by, --gone and --csv go with the whole ledger, not with --session or --run")
        _one("session" if session_id is not None else "run", one, where, as_json=as_json)
        return
    if of_gone and what is not None:
        raise click.UsageError("--gone goes by day and project; leave --by out")
    with where.open() as source:
        if of_gone:
            _gone(source, since, until, as_json=as_json, as_csv=as_csv)
        elif what is not None and what not in _OF_DAYS:
            _by_dimension(source, where, what, since, until, as_json=as_json, as_csv=as_csv)
        else:
            _whole(source, where, since, until, what, as_json=as_json, as_csv=as_csv)


def _asked(source: QuerySource, path: str, **parameters: str | None) -> dict[str, Any]:
    """Return an answer that every ledger has."""
    answer = source.ask(path, {}, parameters)
    assert answer is not None
    return answer


def _list(
    source: QuerySource, what: str, given: dict[str, str | None], limit: int | None, *, as_json: bool, as_csv: bool
) -> None:
    path = _NAMED[what]
    if as_json or as_csv:
        rows = islice(_rows(source, what, given, limit), limit)
        if as_csv:
            _print_csv(rows, route_of(path).shape)
        else:
            show.print_json_rows(rows)
        return
    most = limit or _SHOWN
    shown = list(islice(_rows(source, what, given, most + 1), most + 1))
    more, shown = len(shown) > most, shown[:most]
    if not shown:
        filtered = any(value is not None for name, value in given.items() if name not in ("sort", "all"))
        if filtered:
            click.echo(f"No {what} of this kind in {source.name}.")
        elif what == "run" and "all" not in given and _asked(source, "/api/v1/summary")["total"]["spans"]:
            click.echo("No run is named, and none has several sessions; --all lists each session as a run of its own.")
        else:
            click.echo(_nothing(source))
        return
    title = f"the first {most:,} {what}s" if more else show.counted(len(shown), what)
    show.print_table(title, [show.named(what), *show.described(shown), *show.TOTALS], shown)
    _print_note(shown)
    if more:
        click.echo("There are more: --limit N shows so many, --json and --csv give all.")


def _rows(source: QuerySource, what: str, given: dict[str, str | None], most: int | None) -> Iterable[dict[str, Any]]:
    """Return the rows of a list, `most` at most; all runs are compared where they are sorted by cost.

    The API sorts them in slices by last activity.
    """
    if what != "run" or given["sort"] != "cost":
        return rows_of(source, _NAMED[what], given, most)

    def named_and_dear(row: dict[str, Any]) -> tuple[bool, Decimal]:
        return row["id"] != UNATTRIBUTED, Decimal(row["cost_usd_exact"])

    rows = rows_of(source, _NAMED[what], given)
    return sorted(rows, key=named_and_dear, reverse=True) if most is None else nlargest(most, rows, key=named_and_dear)


def _one(what: str, name: str, where: Where, *, as_json: bool) -> None:
    with where.open() as source:
        result = source.ask(f"{_NAMED[what]}/{{id}}", {"id": name}, {})
        if result is None:
            above = _session_above(source, name) if what == "run" else ""
            hint = f"`spanledger {what}s` lists those there are"
            if above:
                whole = source.ask(f"{_NAMED['run']}/{{id}}", {"id": above}, {}) is not None
                hint = f"session {name!r} counts in its parent's: `spanledger {'run' if whole else 'session'} {above}`"
            fail(f"no {what} {name!r} in {source.name}; {hint}", FAILED)
        spawned = [] if as_json or what != "session" or not name else _spawned(source, name)
    if as_json:
        show.show_json(result)
        return
    show.print_table(f"{what} {name or show.NONE}", [*show.described([result]), *show.TOTALS], [result])
    _print_note([result])
    if result.get("parent_id"):
        click.echo(f"spawned by session {show.plain(result['parent_id'])}")
    if what == "session":
        click.echo(show.described_by(result))
        if result["agents"]:
            show.print_table("by agent", show.BY_AGENT, result["agents"])
        if result["tools"]:
            _print_tools("tool calls", result["tools"])
    if spawned:
        title = f"spawned by it, the first {_SHOWN}" if len(spawned) > _SHOWN else "spawned by it"
        rows = spawned[:_SHOWN]
        show.print_table(title, [show.named("session"), *show.described(rows), *show.TOTALS], rows)
    if result.get("by_task"):
        show.print_table("per task", show.BY_TASK, result["by_task"])
        show.print_table("per model", show.BY_MODEL, result["by_model"])
    elif len(result["models"]) > 1:
        show.print_table("by model", show.MODEL_COST, result["models"])


def _spawned(source: QuerySource, session_id: str) -> list[Row]:
    """Return the sessions that one spawned, one more than are shown if there are more."""
    return list(islice(rows_of(source, _NAMED["session"], {"parent": session_id}, _SHOWN + 1), _SHOWN + 1))


def _session_above(source: QuerySource, session_id: str) -> str:
    """Return the session at the top of those that spawned one; "" where no session did."""
    seen, above = {session_id}, ""
    while (found := source.ask(f"{_NAMED['session']}/{{id}}", {"id": above or session_id}, {})) is not None:
        parent = found.get("parent_id")
        if not parent or parent in seen:
            break
        seen.add(parent)
        above = parent
    return above


def _print_note(rows: Sequence[Row]) -> None:
    """Print what should be known of spans that are no single model calls."""
    if result := note({name: 1 for row in rows for name in row["granularities"]}):
        click.echo(f"Note: {result}.")


def _none_unpriced(source: QuerySource, since: str | None, until: str | None) -> str:
    """Return what to say where no call is without a price: nothing was counted, or all of it has one."""
    answer = _asked(source, "/api/v1/summary", since=since, until=until, by="model")
    days = _between(since, until, answer)
    if answer["total"]["calls"]:
        return f"Every call {days + ' ' if days else ''}in {source.name} has a price."
    return f"Nothing was spent {days} in {source.name}." if days else _nothing(source)


def _nothing(source: QuerySource) -> str:
    """Return what to say of an empty ledger: which one it is, and where there is data."""
    if others := _other_tenants(source):
        return f"Nothing has been counted for this tenant in {source.name}. There is data under {others}: --tenant NAME"
    return f"Nothing has been counted in {source.name} yet."


def _other_tenants(source: QuerySource) -> str:
    """Return the first few tenants that have data beside the one that is asked for; empty if there are none."""
    rows = _asked(source, "/api/v1/tenants")["tenants"]
    others = [row["tenant"] for row in rows if row["tenant"] not in (None, source.tenant) and row["calls"]]
    names = [show.plain(tenant) or "the default one" for tenant in others]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _between(since: str | None, until: str | None, answer: Row) -> str:
    """Return the days of an answer in words; empty for all of them."""
    first = f"since {answer['since']}" if since is not None else ""
    last = f"until {answer['until']}" if until is not None else ""
    return " ".join(part for part in (first, last, "(UTC)") if part) if first or last else ""


def _whole(
    source: QuerySource,
    where: Where,
    since: str | None,
    until: str | None,
    by: str | None,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    answer = _asked(source, "/api/v1/summary", since=since, until=until, by=by)
    lists = {"day": "days", "day_model": "days_by_model", "tool": "tools"}
    if as_csv:
        name = lists.get(by or "", "models")
        _print_csv(answer[name], route_of("/api/v1/summary").shape[name].rows or {})
        return
    if as_json:
        show.show_json(answer)
        return
    total, days = answer["total"], _between(since, until, answer)
    if not total["calls"] and not total.get("spans"):
        click.echo(f"Nothing was spent {days} in {source.name}." if days else _nothing(source))
        return
    columns = show.SPEND if days else [column for column in show.TOTALS if column[0] != "models"]
    others = "" if where.tenant else _other_tenants(source)
    of_tenant = f" of tenant {where.tenant}" if where.tenant else " of the default tenant" if others else ""
    show.print_table(f"{days or 'the whole ledger'}{of_tenant}", columns, [total])
    if others:
        click.echo(f"What is under {others} is not in it: --tenant NAME, or spanledger tenants")
    _print_note([total])
    if correction := total.get("late_correction_usd"):
        sent = f"{show.money(abs(correction))} {'more' if correction > 0 else 'less'}"
        click.echo(f"The spans were sent with {sent} than that in sum: what came later proved some of them repeats.")
    if total.get("sessions_gone"):
        click.echo(f"Of it, {_of_gone(total['sessions_gone'], total['gone_usd'])}: spanledger summary --gone")
    if "days" in answer:
        show.print_table("by day", show.DAY, answer["days"])
    if "days_by_model" in answer:
        show.print_table("by day and model", [show.DAY[0], *show.BY_MODEL], answer["days_by_model"])
    if "models" in answer:
        show.print_table("by model", show.BY_MODEL, answer["models"])
    if "tools" in answer:
        _print_tools("by tool", answer["tools"][:_SHOWN])
        if more := len(answer["tools"][_SHOWN:]) + answer["tools_left_out"]:
            click.echo(f"{more:,} more with --json.")


def _print_tools(title: str, rows: list[Row]) -> None:
    show.print_table(title, show.TOOLS, rows)
    if any(row["fed"] for row in rows):
        click.echo("What results brought into the next model call is an estimate, and part of that call's cost.")


def _of_gone(sessions: int, usd: float) -> str:
    what = "one session" if sessions == 1 else f"{sessions:,} sessions"
    return f"{show.money(usd)} was spent by {what} no longer told apart"


def _gone(source: QuerySource, since: str | None, until: str | None, *, as_json: bool, as_csv: bool) -> None:
    """Print what sessions had spent that are no longer told apart."""
    answer = _asked(source, "/api/v1/gone", since=since, until=until, limit=str(MOST_ROWS))
    rows, total = answer["gone"], answer["total"]
    if as_json:
        show.show_json(answer)
        return
    if as_csv:
        _print_csv(rows, route_of("/api/v1/gone").shape["gone"].rows or {})
        return
    days = _between(since, until, answer)
    if not rows:
        click.echo(f"No session {'last active ' + days + ' ' if days else ''}has given way in {source.name}.")
        return
    shown = rows[:_SHOWN]
    show.print_table(f"{days} {_of_gone(total['sessions'], total['cost_usd'])}".strip(), show.GONE, shown)
    if len(shown) < len(rows) + answer["left_out"]:
        click.echo(f"{len(rows) + answer['left_out'] - len(shown):,} more with --json.")
    if len(total["models"]) > 1:
        show.print_table("by model", show.MODEL_COST, total["models"])


def _by_dimension(
    source: QuerySource,
    where: Where,
    name: str,
    since: str | None,
    until: str | None,
    *,
    as_json: bool,
    as_csv: bool,
) -> None:
    if where.remote is None:
        known = sorted({*where.config().processor.dimensions, "agent", "model", "provider", *_OF_DAYS})
        if name not in known:
            raise click.UsageError(f"no dimension {name!r} in this configuration; there are {', '.join(known)}")
    answer = source.ask("/api/v1/dimensions/{name}", {"name": name}, {"since": since, "until": until})
    assert answer is not None
    rows = answer["values"]
    if as_json:
        show.show_json(answer)
        return
    if as_csv:
        _print_csv(rows, route_of("/api/v1/dimensions/{name}").shape["values"].rows or {})
        return
    days = _between(since, until, answer)
    if not rows:
        click.echo(f"Nothing was spent {days} in {source.name}." if days else _nothing(source))
        return
    shown = rows[:_SHOWN]
    show.print_table(f"by {name} {days}".strip(), [show.valued(name), *show.BY_VALUE], shown)
    if len(shown) < len(rows) + answer["left_out"]:
        click.echo(f"{len(rows) + answer['left_out'] - len(shown):,} more with --json.")


def _printed(rows: list[Row], shape: Shape, *, as_json: bool, as_csv: bool) -> bool:
    """Print rows as JSON or CSV, where that is asked for; return whether it was."""
    if as_csv:
        _print_csv(rows, shape)
    elif as_json:
        show.show_json(rows)
    return as_csv or as_json


def _print_csv(rows: Iterable[Row], shape: Shape) -> None:
    columns = header({name: field for name, field in shape.items() if not _only_of_one(name)})
    click.echo(first_line(columns).encode(), nl=False)
    for row in rows:
        click.echo(lines(columns, [row]).encode("utf-8", "replace"), nl=False)


def _only_of_one(name: str) -> bool:
    return name in ("tasks", "by_task", "by_model")
