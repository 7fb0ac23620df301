"""The commands that show one thing: a session, a run, a span's decision, or the prices of a model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from string import hexdigits

import click

from spanledger_processor.cli import show, tables
from spanledger_processor.cli.asking import QuerySource, Target, asks, rows_of
from spanledger_processor.cli.lists import DAY, PATHS, SHOWN, as_csv, of_session, print_csv, print_note, where_to_find
from spanledger_processor.cli.options import FAILED, as_json, fail, whole_ids
from spanledger_processor.ledger.rows import Row
from spanledger_processor.server.answers import quotation
from spanledger_processor.server.routes import day_of, route_of
from spanledger_processor.server.wiring import make_pricer
from spanledger_processor.units import NS_PER_DAY


@click.command()
@click.argument("session_id", metavar="ID")
@click.option("--timeline", is_flag=True, help="Its latest spans, by start, for as long as they are remembered.")
@click.option("--candidates", is_flag=True, help="Its agents that may have had more model or context than they needed.")
@click.option("--models", metavar="NAMES", help="With --candidates: the models to compare with, PROVIDER/MODEL,...")
@whole_ids
@asks
@as_csv
def session(
    session_id: str,
    target: Target,
    *,
    timeline: bool,
    candidates: bool,
    models: str | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show one session by model and task."""
    if timeline and candidates:
        raise click.UsageError("give one of --timeline and --candidates")
    if models is not None and not candidates:
        raise click.UsageError("--models goes with --candidates")
    if timeline:
        _show_timeline(session_id, target, as_json=as_json, as_csv=as_csv)
    elif candidates:
        _show_candidates(session_id, models, target, as_json=as_json, as_csv=as_csv)
    else:
        show_one("session", session_id, target, as_json=as_json, as_csv=as_csv)


def _show_timeline(session_id: str, target: Target, *, as_json: bool, as_csv: bool) -> None:
    with target.open() as source:
        result = of_session(source, "/api/v1/timeline/{id}", session_id, {})
    if as_json:
        show.show_json(result)
    elif as_csv:
        print_csv(result["spans"], route_of("/api/v1/timeline/{id}").shape["spans"].rows or {})
    elif result["spans"]:
        tables.print_table(f"spans of session {session_id}", show.SPANS, result["spans"])
        if not result["complete"]:
            click.echo("There may be earlier ones, which were not looked for.")
    else:
        click.echo("No span of it is remembered (state.retention.spans).")


def _show_candidates(session_id: str, models: str | None, target: Target, *, as_json: bool, as_csv: bool) -> None:
    with target.open() as source:
        result = of_session(source, "/api/v1/candidates/{id}", session_id, {"models": models})
    if as_json:
        show.show_json(result)
    elif as_csv:
        print_csv(result["candidates"], route_of("/api/v1/candidates/{id}").row_shape)
    elif result["candidates"]:
        tables.print_table(f"agents of session {session_id} to look at", show.CANDIDATES, result["candidates"])
        click.echo(
            "Beside each, the same tokens at list price on other models: where to look, not what would be saved."
        )
    else:
        click.echo("None of its agents that spent 0.05 USD or more had a premium model or a large context for little.")


@click.command()
@click.argument("run_id", metavar="ID")
@whole_ids
@asks
@as_csv
def run(run_id: str, target: Target, *, as_json: bool, as_csv: bool) -> None:
    """Show one run: its sessions, and its spend by model."""
    show_one("run", run_id, target, as_json=as_json, as_csv=as_csv)


def show_one(what: str, name: str, target: Target, *, as_json: bool, as_csv: bool = False) -> None:
    with target.open() as source:
        result = source.ask(f"{PATHS[what]}/{{id}}", {"id": name}, {})
        if result is None:
            session = source.ask(f"{PATHS['session']}/{{id}}", {"id": name}, {}) if what == "run" else None
            hint = ""
            if session is not None and session.get("run_id", name) != name:
                whole = source.ask(f"{PATHS['run']}/{{id}}", {"id": session["run_id"]}, {}) is not None
                run_id = tables.plain(session["run_id"])
                hint = f"session {name!r} counts in another: `spanledger {'run' if whole else 'session'} {run_id}`"
            fail(f"no {what} {name!r} in {source.name}; {hint or where_to_find(source, what, name)}", FAILED)
        spawned = [] if as_json or as_csv or what != "session" or not name else _spawned(source, name)
    if as_json:
        show.show_json(result)
        return
    if as_csv:
        print_csv([result], route_of(f"{PATHS[what]}/{{id}}").row_shape)
        return
    tables.print_table(f"{what} {show.quoted(name) or show.NONE}", [*show.described([result]), *show.TOTALS], [result])
    print_note([result])
    if result.get("parent_id"):
        click.echo(f"spawned by session {tables.plain(result['parent_id'])}")
    if what == "session":
        click.echo(show.described_by(result))
        if result["agents"]:
            tables.print_table("by agent", show.BY_AGENT, result["agents"])
        if result["tools"]:
            print_tools("tool calls", result["tools"])
    if spawned:
        title = f"spawned by it, the first {SHOWN}" if len(spawned) > SHOWN else "spawned by it"
        rows = spawned[:SHOWN]
        tables.print_table(title, [show.named("session"), *show.described(rows), *show.TOTALS], rows)
    if result.get("sessions"):
        _print_sessions_of_run(result)
    _print_models(result)


def _print_models(result: Row) -> None:
    """Print what a session or run spent by task and model."""
    if result.get("by_task"):
        tables.print_table("per task", show.BY_TASK, result["by_task"])
        some = "" if _are_all(result["by_model"], result) else ", of calls that name a task"
        tables.print_table(f"per model{some}", show.BY_MODEL, result["by_model"])
    if _are_all(result.get("by_model", ()), result):
        return
    if any(row["calls"] for row in result.get("usage_by_model", ())):
        tables.print_table("by model", show.MODEL_USE, result["usage_by_model"])
    elif len(result["models"]) > 1:
        tables.print_table("by model", show.MODEL_COST, result["models"])


def _are_all(rows: Sequence[Row], whole: Row) -> bool:
    """Return whether rows hold all calls of a session; of one without calls, whether there are any rows."""
    return bool(rows) and sum(row["calls"] for row in rows) == whole["calls"]


def _print_sessions_of_run(run: Row) -> None:
    rows = run["sessions"]
    tables.print_table("its sessions", [show.named("session"), *show.described(rows), *show.TOTALS], rows)
    if run["sessions_left_out"]:
        click.echo(f"{show.counted(run['sessions_left_out'], 'further session')} of it: spanledger sessions.")
    click.echo("Amounts are those of whole sessions: one that works for several runs has a part in each.")


def _spawned(source: QuerySource, session_id: str) -> list[Row]:
    """Return the sessions that one spawned, one more than are shown if there are more."""
    return list(islice(rows_of(source, PATHS["session"], {"parent": session_id}, SHOWN + 1), SHOWN + 1))


def print_tools(title: str, rows: list[Row]) -> None:
    """Print tools with their calls, and a note where results were part of the next model call."""
    tables.print_table(title, show.TOOLS, rows)
    if any(row["fed"] for row in rows):
        click.echo("What results brought into the next model call is an estimate, and part of that call's cost.")


@click.command()
@click.argument("trace_id")
@click.argument("span_id")
@asks
@as_json
def span(trace_id: str, span_id: str, target: Target, *, as_json: bool) -> None:
    """Show what was decided about one span, and why, while spans are remembered (state.retention.spans).

    TRACE_ID and SPAN_ID are hexadecimal, as backends show them.
    """
    ids = {"trace_id": trace_id.strip().lower(), "span_id": span_id.strip().lower()}
    if wrong := [name.upper() for name, value in ids.items() if not set(value) <= set(hexdigits)]:
        raise click.UsageError(f"{wrong[0]} is not hexadecimal")
    with target.open() as source:
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
        click.echo(f"{label:<9} {tables.plain(text)}")


def _decided(decision: Row) -> Iterator[tuple[str, str]]:
    """Yield the label and the text of each line on a span's decision."""
    cost = decision["cost"]
    yield "is", f"{decision['kind']}, in {decision['dialect']}"
    if decision["model"] is not None:
        yield "model", f"{decision['model']} of {decision['provider'] or '-'}"
    if decision["usage"] is not None:
        counts = (f"{name.replace('_', ' ')} {n:,}" for name, n in decision["usage"].items() if n is not None)
        yield "usage", ", ".join(counts)
    if cost is not None and cost.get("cost_usd_exact") is not None:
        yield "cost", f"${cost['cost_usd_exact']}, {cost['source']}{', an estimate' if cost['estimate'] else ''}"
        if cost["price"]:
            parts = (f"{name.replace('_', ' ')} ${amount}" for name, amount in (cost["parts_usd_exact"] or {}).items())
            yield "price", f"{cost['price']}: {', '.join(parts)}"
    yield "counts", f"{decision['role'].replace('_', ' ')}: {decision['why']}"
    if decision["role"] == "counted" and not decision["counts_now"]:
        yield "", "not any more: a later span proved it a repeat"
    for what in ("session", "run"):
        named = decision[what]
        yield what, f"{named['id']} ({named['source'] or '-'})" if named is not None else "none: unattributed"
    if (tool := decision["tool"]) is not None:
        loop = ", a loop" if tool["loop"] else ""
        yield "tool", f"{tool['signature']}: {tool['repeats']} times, {tool['consecutive']} in a row{loop}"
    if decision["note"]:
        yield "note", decision["note"]


@click.command()
@click.argument("model")
@click.option("--provider", default="", metavar="NAME", help="Who sells it, as on the span (gen_ai.provider.name).")
@click.option("--at", type=DAY, help="UTC day of the call, such as 2026-01-31; now if not given.")
@asks
@as_json
def prices(model: str, provider: str, at: str | None, target: Target, *, as_json: bool) -> None:
    """Show the rates that calls of MODEL are priced with, and how its name is read.

    Exit code 1 where there are none: such a call is counted as unpriced, never as 0.
    """
    if target.remote is None:
        at_ns = time.time_ns() if at is None else day_of(at) * NS_PER_DAY
        result = quotation(model, provider, at_ns, make_pricer(target.config()))
    else:
        with target.open() as source:
            answer = source.ask("/api/v1/prices/{model}", {"model": model}, {"provider": provider or None, "at": at})
            assert answer is not None
            result = answer
    if as_json:
        show.show_json(result)
    else:
        for line in _price_lines(result):
            click.echo(tables.plain(line))
    if result["unpriced"]:
        fail(f"A call of it is counted as unpriced ({result['unpriced']}), never as 0.", FAILED)


def _price_lines(quote: Row) -> Iterator[str]:
    of = f'of provider "{quote["provider"]}"' if quote["provider"] else "(no provider named)"
    yield f'model "{quote["model"]}" {of}'
    yield from quote["read_as"]
    for tier in quote["tiers"]:
        if tier["input_above"]:
            yield f"for a call with more than {tier['input_above']:,} tokens of input:"
        yield from (f"  {rate['class']:<17}${rate['usd_exact']} / {rate['per']}" for rate in tier["rates"])
    if quote["unpriced"]:
        yield f"unpriced: {quote['meaning']}"
    if quote["changes_during_the_day"]:
        yield "the price changes during the day (UTC); this is the one at the time asked for"
