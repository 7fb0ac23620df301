"""The fields of the HTTP API's answers with their types and meanings, declared once.

The OpenAPI document and docs/http-api.md are made of these tables, the parameter `fields` knows its names from them,
and a test compares them with what the routes answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from spanledger_processor.model import USAGE_CLASSES


@dataclass(frozen=True, slots=True)
class Field:
    """One field: a type of JSON Schema (`list` of `rows`, or a whole schema), its meaning, and whether it may lack."""

    type: str
    description: str
    optional: bool = False
    null: bool = False
    rows: Shape | None = None


Shape: TypeAlias = Mapping[str, Field]

_COUNTS = {
    unit: ", ".join(one.name for one in USAGE_CLASSES if (one.unit == "token") == (unit == "token"))
    for unit in ("token", "other")
}

SPEND: Shape = {
    "cost_usd": Field("number", "USD, as a double."),
    "cost_usd_exact": Field("string", "The same in decimal, every digit."),
    "calls": Field("integer", "Spans that count; not all of them single model calls, see `granularities`."),
    "granularities": Field("object", "Counted spans by `spanledger.granularity`."),
    "unpriced": Field("object", "Calls without a price, by reason (`spanledger.cost.unpriced`)."),
    "tokens": Field("object", f"Tokens by class: {_COUNTS['token']}. Input includes both caches, output reasoning."),
    "units": Field("object", f"What is sold by the call: {_COUNTS['other']}."),
}
MODEL_COST: Shape = {
    "model": Field("string", "Its canonical name; `other` beyond 64 models."),
    "cost_usd": SPEND["cost_usd"],
    "cost_usd_exact": SPEND["cost_usd_exact"],
}
_LAST = Field("string", "Latest activity, RFC 3339 in UTC.", null=True)
_OTHER = Field("boolean", "True: the sum of all rows that are not listed.", optional=True)
ROW: Shape = {
    "id": Field("string", "Its id; empty for what belongs to none. Ids of more than 512 bytes are cut."),
    **SPEND,
    "note": Field("string", "What a reader should know of counted spans that are no single calls.", optional=True),
    "tool_calls": Field("integer", "Tool executions, and calls that exist only in a model's output."),
    "spans": Field("integer", "GenAI spans, also those that add no cost."),
    "models": Field("array", "Cost by model, the dearest first.", rows=MODEL_COST),
    "first": Field("string", "First activity, RFC 3339 in UTC.", null=True),
    "last": _LAST,
    "closed": Field("boolean", "True: it was ended.", optional=True),
}
_PERCENTILES: Shape = {
    "calls": Field("integer", "Calls of which it is known."),
    "p50": Field("number", "Half of them are not above."),
    "p90": Field("number", "Nine of ten are not above."),
    "p99": Field("number", "99 of 100 are not above."),
}
SPEED = Field(
    "object",
    "How fast model calls were that did not fail, from counts by bucket: each figure is 9 % off at most "
    "(docs/views.md#speed).",
    optional=True,
    rows={
        "duration_s": Field("object", "Seconds that a call took.", optional=True, rows=_PERCENTILES),
        "first_token_s": Field(
            "object", "Seconds to the first token, where spans report them.", optional=True, rows=_PERCENTILES
        ),
        "output_tokens_per_s": Field(
            "object", "Output tokens a second of the whole call.", optional=True, rows=_PERCENTILES
        ),
    },
)
MODEL: Shape = {
    "provider": Field("string", "Who sells it, under one name."),
    "model": Field("string", "Its canonical name."),
    "other": _OTHER,
    **SPEND,
    "speed": SPEED,
}
DAY: Shape = {
    "day": Field("string", "UTC day, by the time that prices go by.", null=True),
    "other": _OTHER,
    **SPEND,
    "speed": SPEED,
}
_BY_TASK: Shape = {
    "id": Field("string", "Task id."),
    "tokens_total": Field("integer", "Tokens in and out."),
    **SPEND,
    "kinds": Field("object", "Tokens in and out by kind of work."),
}
_DETAILS: Shape = {
    "parent_id": Field("string", "The session that spawned it.", optional=True),
    "name": Field("string", "Its name, where the source reports one.", optional=True),
    "project": Field("string", "Its project, where the source reports one.", optional=True),
}
_AGENT: Shape = {
    "id": Field("string", "The agent; empty for the rest of the session, which no named agent spent."),
    "other": _OTHER,
    "parent_id": Field("string", "The agent above it, where one is known.", optional=True),
    **SPEND,
    "tool_calls": ROW["tool_calls"],
    "failures": Field("integer", "Spans whose status is an error."),
    "models": ROW["models"],
    "first": ROW["first"],
    "last": _LAST,
}
_TOOL: Shape = {
    "id": Field("string", "The tool."),
    "other": _OTHER,
    "calls": Field("integer", "Executions."),
    "failures": Field("integer", "Of those, how many failed."),
    "denied": Field("integer", "Of those, how many were not allowed."),
    "loops": Field("integer", "Of those, how many completed a loop."),
    "cost_usd": Field("number", "What they cost by themselves, USD (`processor.tools.prices`)."),
    "cost_usd_exact": Field("string", "The same, every digit."),
    "fed": Field(
        "object",
        "What their results brought into the model calls that came next (docs/views.md#what-results-of-tools-cost); "
        "null where no result is seen to.",
        null=True,
        rows={
            "results": Field("integer", "Results that are seen to."),
            "input_tokens": Field("integer", "By so many tokens the input of those calls grew."),
            "cost_usd": Field("number", "What these tokens cost there, USD, where it is known.", optional=True),
            "cost_usd_exact": Field("string", "The same, every digit.", optional=True),
            "unpriced": Field("integer", "Results of which the cost is not known."),
            "estimate": Field("boolean", "True: tokens and cost are estimates."),
        },
    ),
}
_ONE = "Only of one session."
_USE: Shape = {
    "model": MODEL_COST["model"],
    "cost_usd": replace(SPEND["cost_usd"], optional=True),
    "cost_usd_exact": replace(SPEND["cost_usd_exact"], optional=True),
    "calls": SPEND["calls"],
    "tokens": SPEND["tokens"],
    "units": replace(SPEND["units"], optional=True),
}
_FACTS: Shape = {
    "run_id": Field("string", f"Its run; that of spans whose trace names another is another. {_ONE}", optional=True),
    "label": Field(
        "string", "What people call it: its name, else its only process, else 12 characters.", optional=True
    ),
    "state": Field("string", "`active`, `idle`, `stale` or `closed` (docs/views.md).", optional=True),
    "dimensions": Field("object", f"Up to three values of each dimension. {_ONE}", optional=True),
    "instances": Field("array", f"Up to three of its processes (`service.instance.id`). {_ONE}", optional=True),
    "turns": Field("integer", f"Turns, where spans report any. {_ONE}", optional=True, null=True),
    "failures": Field("integer", f"Spans whose status is an error. {_ONE}", optional=True),
    "denied": Field("integer", f"Tool calls that were not allowed. {_ONE}", optional=True),
    "loops": Field("integer", f"Tool calls that completed a loop. {_ONE}", optional=True),
    "active_seconds": Field("number", f"Time of activity, less long pauses. {_ONE}", optional=True),
    "usage_by_model": Field(
        "array",
        f"Calls, tokens and cost by model, the dearest first; the cost is not there where no call has a price. {_ONE}",
        optional=True,
        rows=_USE,
    ),
    "context": Field(
        "array",
        f"The most input tokens of a call, over time. {_ONE}",
        optional=True,
        rows={
            "at": Field("string", "About when, RFC 3339 in UTC.", null=True),
            "input_tokens": Field("integer", "Input tokens, caches included."),
        },
    ),
    "last_span": Field(
        "object",
        f"The GenAI span that ended last. {_ONE}",
        optional=True,
        null=True,
        rows={
            "trace_id": Field("string", "Its trace, in hexadecimal."),
            "span_id": Field("string", "Its id, in hexadecimal."),
            "end": Field("string", "When it ended, RFC 3339 in UTC.", null=True),
        },
    ),
    "agents": Field("array", f"By agent; they add up to the session. {_ONE}", optional=True, rows=_AGENT),
    "tools": Field("array", f"By tool, the most called first. {_ONE}", optional=True, rows=_TOOL),
}
_LISTED: Shape = {
    "context_first": Field("integer", "Input tokens of its first calls. Only in lists.", optional=True),
    "context_peak": Field("integer", "The most input tokens of a call. Only in lists.", optional=True),
}
SESSION: Shape = {
    **ROW,
    **_DETAILS,
    **_FACTS,
    **_LISTED,
    "tasks": Field(
        "array",
        "By task and kind. Only of one session.",
        optional=True,
        rows={**ROW, **_DETAILS, "kind": Field("string", "Kind of work.")},
    ),
    "by_task": Field("array", "By task. Only of one session.", optional=True, rows=_BY_TASK),
    "by_model": Field("array", "What its tasks spent, by model. Only of one session.", optional=True, rows=MODEL),
}
RUN: Shape = {
    **ROW,
    **_DETAILS,
    "sessions": Field(
        "array",
        "Its sessions by first activity, with `parent_id`; what each spent as a whole. What spans of it spent that "
        "name no session is in the run alone. Only of one run.",
        optional=True,
        rows={**ROW, **_DETAILS, **{name: _FACTS[name] for name in ("label", "state", "loops")}, **_LISTED},
    ),
    "sessions_left_out": Field("integer", "How many more sessions it has. Only of one run.", optional=True),
}
RUNS_PAGE: Shape = {
    "all": Field("boolean", "Whether sessions that are runs of their own are among the rows."),
    "compared_since": Field(
        "string",
        "Sorted by cost: runs of this page were compared with all last active since then, but for the slices of "
        "earlier pages; null: with all that are left.",
        null=True,
    ),
}
TOOLS_PAGE: Shape = {
    "all_compared": Field(
        "boolean",
        "Whether all rows that there are were compared to find the first of this page; false: those of a slice of "
        "20,000 records, behind which others come.",
    ),
}
TIMELINE: Shape = {
    "session": Field("string", "The session."),
    "spans": Field(
        "array",
        "GenAI spans, the earliest first.",
        rows={
            "trace_id": Field("string", "Hex."),
            "span_id": Field("string", "Hex."),
            "parent_id": Field("string", "Hex.", null=True),
            "kind": Field("string", "`spanledger.kind`."),
            "start": Field("string", "RFC 3339 in UTC.", null=True),
            "end": Field("string", "RFC 3339 in UTC.", null=True),
            "duration_s": Field("number", "Seconds.", null=True),
            "agent": Field("string", "The agent that it is of; may be empty."),
            "tool": Field("string", "The tool, of an execution.", null=True),
            "failed": Field("boolean", "Its status is an error."),
            "counts": Field("boolean", "Whether it adds to the ledger's sums now."),
            "provider": Field("string", "Who sold the call, under one name, where it counts.", null=True),
            "model": Field("string", "The canonical name of its model, where it counts.", null=True),
            "input_tokens": Field("integer", "Input tokens, where it counts and they are known.", null=True),
            "output_tokens": Field("integer", "Output tokens, likewise.", null=True),
            "cost_usd": Field("number", "USD, as a double; of a call that counts and has a price.", optional=True),
            "cost_usd_exact": Field("string", "The same in decimal, every digit.", optional=True),
            "unpriced": Field("string", "Why a call that counts has no price.", null=True),
        },
    ),
    "complete": Field("boolean", "False: there may be earlier spans that were not looked for."),
}
DIMENSIONS: Shape = {"dimensions": Field("array", "Their names.")}
WARNING: Shape = {
    "warning": Field("string", "`failure_rate` or `cost_rise` of a session, `unpriced_share` of a UTC day."),
    "session": Field("string", "The session.", null=True),
    "day": Field("string", "The UTC day.", null=True),
    "failed": Field("integer", "Its failed spans.", optional=True),
    "spans": Field("integer", "All its spans.", optional=True),
    "unpriced": Field("integer", "Calls without a price.", optional=True),
    "calls": Field("integer", "All calls.", optional=True),
    "share": Field("number", "Of all of them.", optional=True),
    "cost_usd_exact": Field("string", "USD spent in the latest stretch.", optional=True),
    "usual_usd_exact": Field("string", "USD usually spent in one.", optional=True),
    "at": Field("string", "When, RFC 3339 in UTC.", null=True),
}
TASK: Shape = {
    "session": Field("string", "Session id; empty for none."),
    "task": Field("string", "Task id."),
    "kind": Field("string", "Kind of work."),
    "provider": MODEL["provider"],
    "model": MODEL["model"],
    **SPEND,
    "last": _LAST,
}
TOOL_REPEAT: Shape = {
    "session": Field("string", "Session id; empty for none."),
    "tool": Field("string", "The tool's name."),
    "signature": Field("string", "`spanledger.tool.signature`: a keyed hash of name and arguments."),
    "times": Field("integer", "Times that the session made this very call."),
    "in_a_row": Field(
        "integer",
        "Most of them in a row, by their start; a call that comes later than 40 others does not divide a row.",
    ),
    "loop": Field("boolean", "Whether it completed a loop."),
    "cycle": Field(
        "array",
        "The tools of the loop in their order, from its first call on, where it is one of several calls in turn among "
        "the latest 40 of the session.",
        optional=True,
    ),
    "rounds": Field("integer", "Times that all of these came in turn.", optional=True),
    "last": _LAST,
}
TOTAL: Shape = {
    "id": Field("string", "Empty.", optional=True),
    **SPEND,
    **{
        name: Field(field.type, field.description, True, field.null, field.rows)
        for name, field in ROW.items()
        if name not in SPEND and name != "id"
    },
    "late_correction_usd": Field(
        "number",
        "Sent on spans beyond the ledger, because later spans proved them repeats; below zero where later spans named "
        "the model of what was sent without a price. Only of the whole.",
        optional=True,
    ),
    "late_correction_usd_exact": Field("string", "The same in decimal, every digit.", optional=True),
    "sessions_gone": Field(
        "integer",
        "Sessions that are no longer kept one by one, by `state.retention.sessions` or the size of the ledger.",
        optional=True,
    ),
    "gone_usd": Field(
        "number",
        "What they had spent, among what belongs to no session. See /api/v1/gone.",
        optional=True,
    ),
    "gone_usd_exact": Field("string", "The same in decimal, every digit.", optional=True),
}
_GONE: Shape = {
    "sessions": Field("integer", "How many they were."),
    **SPEND,
    "models": Field("array", "Cost by model, the dearest first.", rows=MODEL_COST),
}
_OF_MODEL: Shape = {
    **{name: replace(field, optional=name not in ("model", *MODEL_COST)) for name, field in MODEL.items()},
    "model": Field(
        "string",
        "Its canonical name. Of a value of a dimension other than model and provider the cost alone is kept by model: "
        "such rows have no `provider`, it stands in front of the name.",
    ),
}
_OF_VALUE: Shape = {
    "dimension": Field("string", "The dimension, where a value of one was asked for.", optional=True),
    "value": Field("string", "The value that was asked for.", optional=True),
    "not_distinguished": Field(
        "object",
        "Where a value was asked for: what was spent by values that are not told apart on their day any more. A part "
        "of it may be this one's.",
        optional=True,
        rows={name: SPEND[name] for name in ("cost_usd", "cost_usd_exact", "calls")},
    ),
}
SUMMARY: Shape = {
    "since": Field("string", "First day, where one was asked for.", optional=True, null=True),
    "until": Field("string", "Last day, where one was asked for.", optional=True, null=True),
    **_OF_VALUE,
    "total": Field("object", "The whole, or that of the days or the value.", rows=TOTAL),
    "models": Field("array", "By model, the dearest first.", optional=True, rows=_OF_MODEL),
    "days": Field("array", "By day.", optional=True, rows=DAY),
    "days_by_model": Field("array", "By day and model.", optional=True, rows={"day": DAY["day"], **_OF_MODEL}),
    "tools": Field(
        "array",
        "By tool, the most called first. Their cost is in the total, `fed` is in that of models.",
        optional=True,
        rows=_TOOL,
    ),
    "tools_left_out": Field("integer", "Tools beyond `limit`; they are in the row of all others.", optional=True),
}
GONE: Shape = {
    "since": SUMMARY["since"],
    "until": SUMMARY["until"],
    "total": Field("object", "All of them.", rows=_GONE),
    "gone": Field(
        "array",
        "By day and project, the last day first.",
        rows={
            "day": Field("string", "UTC day on which something arrived for them last."),
            "project": Field("string", "Their project; empty for none, and beyond 64 a day."),
            **_GONE,
        },
    ),
    "left_out": Field("integer", "Rows of `gone` beyond `limit`."),
}
DIMENSION: Shape = {
    "since": SUMMARY["since"],
    "until": SUMMARY["until"],
    "dimension": Field("string", "Its name."),
    "values": Field(
        "array",
        "The dearest first, then the sum of all others, then what has no value: together the whole.",
        rows={
            "value": Field("string", "The value; empty in the last two."),
            "other": _OTHER,
            "unattributed": Field("boolean", "True: what names no value.", optional=True),
            **SPEND,
            "models": Field("array", "Cost by model, the dearest first.", optional=True, rows=MODEL_COST),
            "days": Field("array", "Cost by day.", optional=True),
        },
    ),
    "left_out": Field("integer", "Values beyond `limit`; they are in the row of all others."),
}
CANDIDATES: Shape = {
    "session": Field("string", "The session."),
    "candidates": Field(
        "array",
        "The dearest first; agents that spent less than 0.05 USD are left out.",
        rows={
            "agent": Field("string", "The agent."),
            "kinds": Field(
                "array",
                "`over_powered`: a premium model (20 USD or more a million output tokens), less than 2,000 output "
                "tokens and at most 5 tool calls. `over_provisioned`: 50,000 input tokens a call or more, and at most "
                "one output token for a hundred of them.",
            ),
            "cost_usd": SPEND["cost_usd"],
            "cost_usd_exact": SPEND["cost_usd_exact"],
            "calls": Field("integer", "Its calls."),
            "models": Field("array", "The models that it called."),
            "input_tokens_a_call": Field("integer", "Input tokens of a call, on average."),
            "output_tokens": Field("integer", "All its output tokens."),
            "tool_calls": ROW["tool_calls"],
            "same_tokens_on": Field(
                "array",
                "What its tokens cost on other models at list price, where that is less, the cheapest first. An "
                "estimate: by calls of average size, and by today's prices.",
                rows={
                    "provider": Field("string", "Who sells it, under one name."),
                    "model": Field("string", "The model."),
                    "cost_usd": SPEND["cost_usd"],
                    "cost_usd_exact": SPEND["cost_usd_exact"],
                    "share": Field("number", "Of what was spent on models."),
                },
            ),
        },
    ),
}
BUDGETS: Shape = {
    "budgets": Field(
        "array",
        "The most used first; of sessions and runs those that passed a threshold.",
        rows={
            "budget": Field("string", "Its name."),
            "period": Field("string", "`day`, `week`, `month`, `rolling`, `session` or `run`."),
            "since": Field("string", "First day of the period; none of a session or run.", null=True),
            "dimension": Field("string", "Of whose spend; empty for all of it."),
            "value": Field("string", "The value of the dimension, the session or the run."),
            "amount_usd": Field("number", "What may be spent."),
            "amount_usd_exact": Field("string", "The same in decimal, every digit."),
            "used_usd": Field("number", "What was spent."),
            "used_usd_exact": Field("string", "The same in decimal, every digit."),
            "used": Field("number", "Share that is used; 1 is all of it."),
            "unpriced_calls": Field(
                "integer", "Calls of the same period and value without a price: what these cost is not in what is used."
            ),
            "passed": Field("array", "Thresholds that are passed, in percent."),
            "forecast": Field("boolean", "At the rate so far, it will not last."),
            "over": Field("boolean", "All of it is used."),
        },
    ),
    "over": Field("boolean", "One of those asked for is used up."),
    "passed": Field(
        "array",
        "The thresholds passed last of what is asked for, newest first, 100 at most.",
        rows={
            "budget": Field("string", "Name of the budget."),
            "value": Field("string", "As above."),
            "since": Field("string", "First day of its period.", null=True),
            "until": Field(
                "string",
                "Last day of its period; none of a session or run, or of what an earlier version noted.",
                null=True,
            ),
            "threshold": Field("string", "Percent, or `forecast`."),
            "used": Field("number", "Share used by then."),
            "used_usd_exact": Field("string", "USD used by then."),
            "unpriced_calls": Field(
                "integer", "Calls without a price by then; not told of a run, or by an earlier version.", null=True
            ),
            "amount_usd_exact": Field("string", "USD that may be spent."),
            "at": Field("string", "When, RFC 3339 in UTC.", null=True),
        },
    ),
}
UNPRICED: Shape = {
    **_OF_VALUE,
    "calls": Field("integer", "All calls without a price."),
    "unpriced": Field(
        "array",
        "By model and reason, most first; of a value of a dimension other than model and provider by reason alone.",
        rows={
            "provider": Field("string", "Who sells it; null where it is not kept.", null=True),
            "model": Field("string", "Its canonical name; empty where the span names none, null likewise.", null=True),
            "reason": Field("string", "`spanledger.cost.unpriced`."),
            "calls": Field("integer", "Calls."),
            "meaning": Field("string", "What the reason means, and what to do about it."),
        },
    ),
    "left_out": Field("integer", "Rows of `unpriced` beyond `limit`; their calls are in `calls`."),
}
PRICE: Shape = {
    "model": Field("string", "As asked for."),
    "provider": Field("string", "As asked for."),
    "read_as": Field("array", "How the name was read, line by line."),
    "price": Field("string", "Where the rates are from, as in `spanledger.cost.price`.", null=True),
    "unpriced": Field("string", "Why there are none, as in `spanledger.cost.unpriced`.", null=True),
    "meaning": Field("string", "The same in words, and what to do about it.", null=True),
    "tiers": Field(
        "array",
        "Rates by size of a call.",
        rows={
            "input_above": Field("integer", "For calls with more tokens of input than this."),
            "rates": Field(
                "array",
                "By class of usage.",
                rows={
                    "class": Field("string", "Class of usage."),
                    "usd": Field("number", "USD."),
                    "usd_exact": Field("string", "The same in decimal."),
                    "per": Field("string", "For so much."),
                },
            ),
        },
    ),
    "changes_during_the_day": Field("boolean", "The price depends on the time of the day."),
}
TENANT: Shape = {
    "tenants": Field(
        "array",
        "The dearest first.",
        rows={
            "tenant": Field("string", "Its name; empty for the default one; null where none was kept.", null=True),
            **SPEND,
            "tool_calls": ROW["tool_calls"],
            "spans": ROW["spans"],
            "first": ROW["first"],
            "last": _LAST,
        },
    ),
}
_ID_AND_SOURCE: Shape = {
    "id": Field("string", "Id."),
    "source": Field("string", "Where it was taken from, as on the span.", null=True),
}
DECISION: Shape = {
    "trace_id": Field("string", "Hex."),
    "span_id": Field("string", "Hex."),
    "kind": Field("string", "`spanledger.kind`."),
    "dialect": Field("string", "`spanledger.dialect`."),
    "granularity": Field("string", "`spanledger.granularity`."),
    "role": Field("string", "`counted`, `duplicate`, `repeats_children` or `none`, as it was sent."),
    "why": Field("string", "Why it has this role."),
    "counts_now": Field(
        "boolean",
        "Whether it is in the ledger's sums now: a later span may have proved it a repeat, and a duplicate may count "
        "in the place of the span that was sent with the cost.",
    ),
    "duplicate_of": Field("string", "The span that was counted for the same call when it came.", null=True),
    "usage": Field("object", "Usage that it adds, by class; null where a class is not reported.", null=True),
    "cost": Field("object", "Amount, source, price, parts, estimate, or why it is unpriced.", null=True),
    "provider": Field("string", "Who sold the call, under one name.", null=True),
    "model": Field("string", "Model that it is listed under.", null=True),
    "session": Field("object", "Session, and where it was taken from.", null=True, rows=_ID_AND_SOURCE),
    "run": Field("object", "Run, and where it was taken from.", null=True, rows=_ID_AND_SOURCE),
    "agent_id": Field("string", "Sub-agent.", null=True),
    "task": Field(
        "object",
        "Task.",
        null=True,
        rows={"id": Field("string", "Task id."), "kind": Field("string", "Kind of work.")},
    ),
    "tool": Field("object", "Signature of the tool call, repeats, and whether it completes a loop.", null=True),
    "note": Field("string", "`spanledger.note`.", null=True),
}
