"""The answers of the HTTP API's routes, from one consistent snapshot of the ledger; commands call the same functions.

An answer is a JSON object; None stands for what the ledger does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, TypeAlias

from spanledger_processor.accounting.cross_trace_index import adds_cost, spans_of_session
from spanledger_processor.accounting.one_call import ONE_CALL, TWO_CALLS
from spanledger_processor.accounting.trace import Span
from spanledger_processor.accounting.trace_record import StoredSpan, stored_span
from spanledger_processor.enrichment.reference import WHY_UNPRICED
from spanledger_processor.ledger import dimensions, pages, queries
from spanledger_processor.ledger.budgets import PERIODS, BudgetRule
from spanledger_processor.ledger.budgets import rows as of_budgets
from spanledger_processor.ledger.crossings import Crossing, crossings
from spanledger_processor.ledger.facts import USUAL, Facts, Lifecycle
from spanledger_processor.ledger.keys import session_key
from spanledger_processor.ledger.of_value import days_of_value
from spanledger_processor.ledger.pages import Page, Wanted
from spanledger_processor.ledger.queries import CHEAPER
from spanledger_processor.ledger.queries import candidates as of_session
from spanledger_processor.ledger.rows import date_of, exact_usd, label, money, row, time_of
from spanledger_processor.ledger.runs import SPAWNED, linked, sessions_of_run
from spanledger_processor.ledger.store import Reader
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.tool_repeats import WantedRepeats, repeated_calls
from spanledger_processor.ledger.warning_rules import warning_row
from spanledger_processor.model import INPUT, OUTPUT, Cost, Decision
from spanledger_processor.pricing import Pricer, describe, provider_name
from spanledger_processor.pricing.explain import REASONS, plain
from spanledger_processor.pricing.pricer import OF_TOOL
from spanledger_processor.units import NS_PER_DAY

Answer: TypeAlias = dict[str, Any]

_NO_FACTS = Facts()
_SESSIONS_OF_A_RUN = 200
_THRESHOLDS_LOOKED_AT = 5000
_WITHOUT_RATES: Mapping[str, str] = {
    "unknown_model": "no seller of the price list has a model of this name: see that it is spelt as on the span, name "
    "the provider, or give it a price in processor.pricing.overrides",
    "unknown_provider": "the price list has no seller of this name: leave the provider out to see who lists the model, "
    "or give it a price in processor.pricing.overrides",
    "no_model": "no model is named",
}
"""Why a model has no rates, where nothing is known of how it was used."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query: `values` has a value for each parameter of the route, `ids` one for each name in its path."""

    reader: Reader
    tenant: bytes
    pricer: Pricer
    now_ns: int
    values: Mapping[str, Any] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    lifecycle: Lifecycle = USUAL
    budgets: tuple[BudgetRule, ...] = ()
    dimensions: tuple[str, ...] = ()

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """Return the names of the dimensions: those that are configured, and those that need no configuration."""
        own = (dimensions.AGENT, dimensions.MODEL, dimensions.PROVIDER)
        return tuple(dict.fromkeys((*self.dimensions, *own)))

    def has_dimension(self, name: str) -> bool:
        """Return whether there is a dimension of a name, by the configuration or in the ledger."""
        return name in self.dimension_names or dimensions.exists(self.reader, self.tenant, name)


def summary(asked: Question) -> Answer:
    """Return the sums of a ledger, or of some of its days."""
    since, until = asked.values["since"], asked.values["until"]
    some_days = since is not None or until is not None
    by = asked.values["by"] or (("model", "day") if some_days else ("model",))
    between, of_value = _spent(asked)
    whole = not some_days and not of_value
    total = queries.total(asked.reader, asked.tenant) if whole else between.total()
    answer: Answer = {**_between(since, until), **of_value, "total": total}
    names = {"model": "models", "day": "days", "day_model": "days_by_model"}
    for name in by:
        if name == "tool":
            rows, answer["tools_left_out"] = dimensions.tools(
                asked.reader, asked.tenant, since or 0, until, asked.values["limit"]
            )
            answer["tools"] = rows
        else:
            answer[names[name]] = between.by(name, asked.values["limit"])
    return answer


def _spent(asked: Question) -> tuple[queries.Days, Answer]:
    """Return what was spent in the days that are asked for, and which value of a dimension it is of, if of one."""
    since, until = asked.values["since"] or 0, asked.values["until"]
    if asked.values["dimension"] is None:
        return queries.Days(asked.reader, asked.tenant, since, until), {}
    name, value = asked.values["dimension"]
    days, others = days_of_value(asked.reader, asked.tenant, name, value, since, until)
    return days, {"dimension": name, "value": value, "not_distinguished": others}


def _between(since: int | None, until: int | None) -> Answer:
    if since is None and until is None:
        return {}
    return {"since": date_of(since or 0), "until": None if until is None else date_of(until)}


def sessions(asked: Question) -> Answer:
    """Return a page of sessions."""
    closed, parent = asked.values["closed"], asked.values["parent"]
    tests = _tests(asked.values)
    if closed is not None:
        tests.append(lambda sums: sums.closed == closed)
    if parent is not None:
        tests.append(lambda sums: sums.parent == parent)
    if (dimension := asked.values["dimension"]) is not None:
        tests.append(lambda sums: dimensions.has_value(asked.reader, asked.tenant, sums, *dimension))
    if (state := asked.values["state"]) is not None:
        tests.append(lambda sums: asked.lifecycle.state(sums, asked.now_ns) == state)
    wanted = replace(
        _wanted(asked.values, tests),
        to_row=lambda sums: _listed(asked, sums),
    )
    if parent and (spawned := _spawned(asked, parent, wanted)) is not None:
        return {"sessions": spawned, "next_cursor": None}
    return _page("sessions", pages.sessions(asked.reader, asked.tenant, wanted))


def _spawned(asked: Question, parent: str, wanted: Wanted) -> list[Answer] | None:
    """Return the sessions that one spawned, by their links; None where they are more than a page."""
    ids = list(islice(linked(asked.reader, asked.tenant, SPAWNED, parent), wanted.limit + 1))
    if wanted.cursor is not None or len(ids) > wanted.limit:
        return None
    sessions = [asked.reader.sums(session_key(asked.tenant, session_id)) for session_id in ids]
    sessions = [sums for sums in sessions if sums.labels.get("id") and wanted.accepts(sums)]
    sessions.sort(key=lambda sums: (sums.cost if wanted.by_cost else sums.last_ns, sums.labels["id"]), reverse=True)
    return [wanted.to_row(sums) for sums in sessions]


def _listed(asked: Question, session: Sums) -> Answer:
    """Return the row of a session in a list: what it is, and how its context grew."""
    facts = session.facts or _NO_FACTS
    sizes = facts.sizes
    context = {"context_first": sizes[min(sizes)], "context_peak": max(sizes.values())} if sizes else {}
    own = {"label": label(session), "state": asked.lifecycle.state(session, asked.now_ns), "loops": facts.loops}
    return {**row(session), **own, **context}


def timeline(asked: Question) -> Answer | None:
    """Return the spans of a session that are remembered, by start."""
    session = queries.stored_session(asked.reader, asked.tenant, asked.ids["id"])
    if session is None:
        return None
    result = spans_of_session(asked.reader, asked.tenant, asked.ids["id"], session, asked.values["limit"])
    rows = [_span_row(trace_id, span) for trace_id, span in result.spans]
    return {"session": asked.ids["id"], "spans": rows, "complete": result.complete}


def _span_row(trace_id: bytes, span: Span) -> Answer:
    claim, posting = span.claim if adds_cost(span) else None, span.posting
    tokens = claim.tokens if claim is not None else ()
    return {
        "trace_id": trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_id.hex() or None,
        "kind": span.kind,
        "start": time_of(span.start_ns),
        "end": time_of(max(span.start_ns, span.end_ns)),
        "duration_s": max(0, span.end_ns - span.start_ns) / 10**9 if span.start_ns else None,
        "agent": posting.agent if posting is not None else span.detail.agent,
        "tool": span.detail.tool or None,
        "failed": span.detail.failed,
        "counts": claim is not None,
        "provider": provider_name(claim.provider) or None if claim is not None else None,
        "model": claim.listed or None if claim is not None else None,
        "input_tokens": tokens[INPUT] if tokens else None,
        "output_tokens": tokens[OUTPUT] if tokens else None,
        **({} if claim is None or claim.amount is None else money(0 if claim.cached else claim.amount)),
        "unpriced": claim.unpriced or None if claim is not None else None,
    }


def session(asked: Question) -> Answer | None:
    """Return one session."""
    return queries.session(asked.reader, asked.tenant, asked.ids["id"], asked.lifecycle, asked.now_ns)


def candidates(asked: Question) -> Answer | None:
    """Return the agents of a session that may have had more than they needed."""
    if queries.stored_session(asked.reader, asked.tenant, asked.ids["id"]) is None:
        return None
    models = asked.values["models"]
    wanted = (
        CHEAPER if models is None else [(provider, model) for provider, _, model in (m.rpartition("/") for m in models)]
    )
    rows = of_session(asked.reader, asked.tenant, asked.ids["id"], asked.pricer, asked.now_ns, wanted)
    return {"session": asked.ids["id"], "candidates": rows}


def runs(asked: Question) -> Answer:
    """Return a page of runs."""
    tests = _tests(asked.values)
    if (dimension := asked.values["dimension"]) is not None:
        tests.append(lambda sums: dimensions.run_has_value(asked.reader, asked.tenant, sums, *dimension))
    wanted = _wanted(asked.values, tests)
    every: bool = asked.values["all"]
    page = pages.runs(asked.reader, asked.tenant, wanted, all_runs=every)
    return {**_page("runs", page), "all": every, "compared_since": time_of(page.compared_ns)}


def run(asked: Question) -> Answer | None:
    """Return one run."""
    row = queries.run(asked.reader, asked.tenant, asked.ids["id"])
    if row is None:
        return None
    sessions, left_out = sessions_of_run(asked.reader, asked.tenant, asked.ids["id"], _SESSIONS_OF_A_RUN)
    return {**row, "sessions": [_listed(asked, sums) for sums in sessions], "sessions_left_out": left_out}


def dimension(asked: Question) -> Answer:
    """Return what was spent by the values of a dimension."""
    name, since, until = asked.ids["name"], asked.values["since"], asked.values["until"]
    rows, left_out = dimensions.values(asked.reader, asked.tenant, name, since or 0, until, asked.values["limit"])
    return {**_between(since, until), "dimension": name, "values": rows, "left_out": left_out}


def dimension_names(asked: Question) -> Answer:
    """Return the names of the dimensions."""
    return {"dimensions": list(asked.dimension_names)}


def warnings(asked: Question) -> Answer:
    """Return a page of the warnings that were given, the newest first."""
    values = asked.values
    since_ns, until_ns, kind, of_session = (values[name] for name in ("since", "until", "warning", "session"))

    def accept(one: Crossing) -> bool:
        in_time = since_ns <= one.at_ns and (until_ns is None or one.at_ns < until_ns)
        return in_time and kind in (None, one.warning) and of_session in (None, one.value)

    rows, cursor = pages.warnings(asked.reader, asked.tenant, accept, values["limit"], values["cursor"])
    return {"warnings": [warning_row(one) for one in rows], "next_cursor": cursor}


def budgets(asked: Question) -> Answer:
    """Return what is used of each budget, and the thresholds that were passed."""
    value, only_over, name = asked.values["value"], asked.values["over"], asked.values["name"]
    periods = asked.values["period"] or PERIODS
    rules = [rule for rule in asked.budgets if name in (None, rule.name) and rule.period in periods]
    rows = of_budgets(asked.reader, asked.tenant, rules, asked.now_ns, value, asked.values["session"])
    shown = [row for row in rows if row["over"] or not only_over][: asked.values["limit"]]
    passed = thresholds_passed(asked, name)
    if value is not None or asked.values["session"] is not None:
        asked_for = {(row["budget"], row["value"]) for row in rows}
        passed = (one for one in passed if (one.budget, one.value) in asked_for)
    return {
        "budgets": shown,
        "over": any(row["over"] for row in rows),
        "passed": [one.row() for one in islice(passed, 100)],
    }


def thresholds_passed(asked: Question, name: str | None) -> Iterator[Crossing]:
    """Return the latest thresholds that were passed, of one budget or all."""
    kept = crossings(asked.reader, asked.tenant, warnings=False)
    return (one for one in islice(kept, _THRESHOLDS_LOOKED_AT) if name in (None, one.budget))


def tasks(asked: Question) -> Answer:
    """Return a page of tasks."""
    values = asked.values
    wanted = {name: values[name] for name in ("session", "task", "kind") if values[name] is not None}
    return _page("tasks", pages.tasks(asked.reader, asked.tenant, wanted, values["limit"], values["cursor"]))


def tools(asked: Question) -> Answer:
    """Return a page of tool calls that were made again."""
    values = asked.values
    wanted = WantedRepeats(
        values["limit"],
        values["cursor"],
        values["session"],
        loops=values["loop"],
        since_ns=values["since"],
        until_ns=values["until"],
        by_times=values["sort"] == "times",
    )
    page, all_compared = repeated_calls(asked.reader, asked.tenant, wanted)
    return {**_page("tools", page), "all_compared": all_compared}


def unpriced(asked: Question) -> Answer:
    """Return the calls without a price, by model and reason, most first."""
    values = asked.values
    days, of_value = _spent(asked)
    rows = days.unpriced()
    explained = [{**row, "meaning": WHY_UNPRICED.get(row["reason"], "")} for row in rows[: values["limit"]]]
    left_out = len(rows) - len(explained)
    return {**of_value, "calls": sum(row["calls"] for row in rows), "unpriced": explained, "left_out": left_out}


def gone(asked: Question) -> Answer:
    """Return the sums of sessions that are no longer kept one by one, the last day first."""
    since, until, most = (asked.values[name] for name in ("since", "until", "limit"))
    whole, rows = queries.gone(asked.reader, asked.tenant, since or 0, until)
    shown = rows[::-1][:most]
    return {**_between(since, until), "total": whole, "gone": shown, "left_out": len(rows) - len(shown)}


def price(asked: Question) -> Answer:
    """Return the rates of a model, or why there are none."""
    at = asked.values["at"]
    at_ns = asked.now_ns if at is None else at * NS_PER_DAY
    return quotation(asked.ids["model"], asked.values["provider"], at_ns, asked.pricer)


def quotation(model: str, provider: str, at_ns: int, pricer: Pricer) -> Answer:
    """Return the rates of a model at a time, or why there are none."""
    quote = describe(model, provider, at_ns, pricer)
    return {
        "model": model,
        "provider": provider,
        "read_as": list(quote.names[1:]),
        "price": quote.price or None,
        "unpriced": quote.unpriced,
        "meaning": _WITHOUT_RATES.get(quote.unpriced, REASONS[quote.unpriced]) if quote.unpriced else None,
        "tiers": [
            {
                "input_above": start,
                "rates": [
                    {"class": rate.label, "usd": float(rate.usd), "usd_exact": plain(rate.usd), "per": rate.unit}
                    for rate in rates
                ],
            }
            for start, rates in quote.tiers
        ],
        "changes_during_the_day": quote.changes,
    }


def tenants(asked: Question) -> Answer:
    """Return the tenants of a ledger."""
    return {"tenants": queries.tenants(asked.reader)}


def span(asked: Question) -> Answer | None:
    """Return the decision about a span; None where none is remembered, or the ids are none."""
    try:
        trace_id, span_id = bytes.fromhex(asked.ids["trace_id"]), bytes.fromhex(asked.ids["span_id"])
    except ValueError:
        return None
    stored = stored_span(asked.reader, asked.tenant, trace_id, span_id)
    return None if stored is None else _explained(asked.ids, stored)


def _wanted(values: Mapping[str, Any], tests: list[Callable[[Sums], bool]]) -> Wanted:
    return Wanted(
        values["limit"],
        values["cursor"],
        by_cost=values["sort"] == "cost",
        since_ns=values["since"],
        until_ns=values["until"],
        accept=(lambda sums: all(test(sums) for test in tests)) if tests else None,
    )


def _tests(values: Mapping[str, Any]) -> list[Callable[[Sums], bool]]:
    model, contains, reason = values["model"], values["contains"], values["unpriced"]
    tests: list[Callable[[Sums], bool]] = []
    if model is not None:
        model = dimensions.listed(dimensions.MODEL, model)
        tests.append(lambda sums: any(model in dimensions.names_in(label, dimensions.MODEL) for label in sums.models))
    if contains is not None:
        tests.append(lambda sums: contains in sums.labels.get("id", "") or contains in sums.labels.get("name", ""))
    if reason is not None:
        tests.append(lambda sums: bool(sums.reasons) if reason == "any" else reason in sums.reasons)
    return tests


def _page(name: str, page: Page) -> Answer:
    return {name: page.rows, "next_cursor": page.next_cursor}


def _explained(ids: Mapping[str, str], stored: StoredSpan) -> Answer:
    decision = stored.decision
    role, why = _role(decision, counts_now=stored.counts)
    return {
        "trace_id": ids["trace_id"].lower(),
        "span_id": ids["span_id"].lower(),
        "kind": decision.kind,
        "dialect": decision.dialect,
        "granularity": decision.granularity,
        "role": role,
        "why": why,
        "counts_now": stored.counts,
        "duplicate_of": decision.duplicate_of or None,
        "usage": None if decision.usage is None else asdict(decision.usage),
        "cost": None if decision.cost is None else _cost(decision.cost),
        "provider": provider_name(stored.provider) or None,
        "model": stored.model or None,
        "session": _named(stored.session_id, decision.session_source),
        "run": _named(stored.run_id, decision.run_source),
        "agent_id": decision.agent_id or None,
        "task": {"id": decision.task_id, "kind": decision.task_kind}
        if decision.task_id or decision.task_kind
        else None,
        "tool": _tool(decision),
        "note": decision.note or None,
    }


def _role(decision: Decision, *, counts_now: bool) -> tuple[str, str]:
    """Return the role that a span was given, and why (the rules of docs/counting.md)."""
    code, other = decision.reason if decision.reason else ("", "")
    if decision.repeats_children:
        below = f", worth ${exact_usd(decision.subtree)}" if decision.subtree is not None else ""
        return "repeats_children", f"its usage is that of spans below it{below}"
    if decision.duplicate_of:
        why = f": {ONE_CALL[code]}" if code in ONE_CALL else ""
        sent = "was sent with the cost of the same call, and this one counts in its place" if counts_now else ""
        return "duplicate", f"span {decision.duplicate_of} {sent or 'counts for the same call'}{why}"
    if decision.cost is None:
        return "none", "it reports no usage, or other spans report it"
    near = ""
    if code in TWO_CALLS:
        near = f"; not the call of span {other}: {TWO_CALLS[code]}" if other else f"; {TWO_CALLS[code]}"
    if decision.cost.unpriced:
        return "counted", f"unpriced: {REASONS[decision.cost.unpriced]}{near}"
    if decision.cost.price.startswith(OF_TOOL):
        return "counted", "the tool costs something by itself (processor.tools.prices)"
    return "counted", f"no other span that counts reports its usage{near}"


def _cost(cost: Cost) -> Answer:
    parts = ("input", "cache_read", "cache_write", "output", "other")
    return {
        **(money(cost.amount) if cost.amount is not None else {}),
        "source": cost.source or None,
        "price": cost.price or None,
        "estimate": cost.estimate,
        "unpriced": cost.unpriced,
        "computed_usd_exact": None if cost.computed is None else exact_usd(cost.computed),
        "reported_usd_exact": None if cost.reported is None else exact_usd(cost.reported),
        "parts_usd_exact": None if cost.computed is None else {part: exact_usd(getattr(cost, part)) for part in parts},
        "note": cost.note or None,
    }


def _named(identifier: str, source: str) -> Answer | None:
    return {"id": identifier, "source": source or None} if identifier else None


def _tool(decision: Decision) -> Answer | None:
    if decision.signature is None:
        return None
    return {
        "signature": decision.signature.value,
        "signature_scope": decision.signature.scope,
        "repeats": decision.tool_repeats,
        "consecutive": decision.tool_consecutive,
        "loop": decision.tool_loop,
    }
