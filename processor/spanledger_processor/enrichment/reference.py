"""Every attribute that a span gains: type, unit, where it stands, and each value with what to do about it.

`python -m spanledger_processor.enrichment.reference` prints docs/attributes.md. The names and promises themselves are
in docs/contract.md#attributes-added.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from spanledger_processor.model import USAGE_CLASSES, UsageClass

ValueType: TypeAlias = Literal["string", "int", "double", "bool"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute. `values` are all that it can have, where they are few, each with what it means for a reader."""

    name: str
    type: ValueType
    carriers: str
    meaning: str
    unit: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


_GENAI = "every GenAI span"
_COUNTED = "counted spans"
_KNOWN = "where known"
_TOOLS = "tool spans"


def _usd(name: str, carriers: str, meaning: str) -> Attribute:
    return Attribute(f"spanledger.{name}", "double", carriers, meaning, "USD")


def _class(sold: UsageClass) -> Attribute:
    parts = f"; part of `{'` and `'.join(sold.part_of)}`" if sold.part_of else ""
    unit = "tokens" if sold.unit == "token" else sold.label
    carriers = f"{_COUNTED}, where reported"
    return Attribute(f"spanledger.usage.{sold.attribute}", "int", carriers, f"{sold.label}{parts}".capitalize(), unit)


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(
        "spanledger.kind",
        "string",
        _GENAI,
        "What the span is. A span that has it was processed.",
        values={
            "llm": "a call of a language model",
            "embedding": "a call of an embedding model",
            "rerank": "a ranking of documents",
            "retrieval": "a search in a store; sold by nobody on the price list",
            "tool": "a call of a tool, signed",
            "agent": "an agent's turn or run; its usage, if it has any, sums up what is below it",
            "workflow": "a chain or graph of steps; as `agent`",
            "other": "usage of an operation that no dialect knows: counted; "
            "`spanledger_unknown_operations_total` names the operation",
            "summary": "no call: what a session spent, sent when it ended ([views.md](views.md#when-a-session-ends))",
        },
    ),
    Attribute(
        "spanledger.dialect",
        "string",
        _GENAI,
        "The vocabulary detected; each is a section of [dialects.md](dialects.md).",
    ),
    Attribute(
        "spanledger.granularity",
        "string",
        _GENAI,
        "How much one span covers. Divide a cost by calls only where it is `per-message`.",
        values={
            "per-message": "one response of a model",
            "per-turn": "one turn of a user, several responses",
            "per-session-aggregate": "what a file says of a session so far, or its increase: not a call",
            "cost-only": "a cost without usage",
            "session-summary": "a session that ended: not a call, and never counted",
        },
    ),
    Attribute("spanledger.session.id", "string", _KNOWN, "The session."),
    Attribute(
        "spanledger.session.source",
        "string",
        "with `session.id`",
        "Where the session's name came from. To name it yourself, set one of the keys in `processor.sessions.keys`.",
        values={
            "attribute": "an attribute of the span",
            "resource": "an attribute of the resource",
            "parent": "a span above it",
            "trace": "the only session named in its trace",
            "file": "the file that a sidecar read",
        },
    ),
    Attribute("spanledger.session.parent_id", "string", _KNOWN, "The session that spawned this one."),
    Attribute("spanledger.session.closed", "bool", "a source's closing span", "true: the source ended this session."),
    Attribute("spanledger.run.id", "string", _KNOWN, "The run."),
    Attribute(
        "spanledger.run.source",
        "string",
        "with `run.id`",
        "Where the run's name came from. To name it yourself, set one of the keys in `processor.runs.keys`.",
        values={
            "attribute": "an attribute of the span",
            "resource": "an attribute of the resource",
            "parent": "a span above it",
            "trace": "the only run named in its trace",
            "session": "another span of its session",
            "parent_session": "the run of the session that spawned its own",
            "session_id": "nothing names a run: the session is its own",
        },
    ),
    Attribute("spanledger.agent.id", "string", _KNOWN, "The sub-agent."),
    Attribute("spanledger.agent.parent_id", "string", _KNOWN, "The agent that spawned it."),
    Attribute("spanledger.task.id", "string", _KNOWN, "The task that the spend belongs to."),
    Attribute("spanledger.task.kind", "string", _KNOWN, "The kind of task: worker, judge, self_improve."),
    *map(_class, USAGE_CLASSES),
    _usd("cost.usd", f"{_COUNTED} with a price", "What this span adds to the spend. Sum this and nothing else."),
    _usd("cost.input_usd", "where computed", "Part of `computed_usd`: input that no cache served."),
    _usd("cost.cache_read_usd", "where computed", "Part of `computed_usd`: input read from a cache."),
    _usd("cost.cache_write_usd", "where computed", "Part of `computed_usd`: input written to a cache."),
    _usd("cost.output_usd", "where computed", "Part of `computed_usd`: output."),
    _usd("cost.other_usd", "where computed", "Part of `computed_usd`: what is sold per call or unit."),
    _usd("cost.computed_usd", "where computed", "List price of the usage, and the sum of the five parts."),
    _usd("cost.reported_usd", _KNOWN, "The cost that came with the span."),
    Attribute(
        "spanledger.cost.source",
        "string",
        f"{_COUNTED} with a price",
        "Who says what it cost ([pricing.md](pricing.md)).",
        values={
            "response_cache": "answered from the application's or a proxy's own cache: 0, and no call",
            "billed": "the provider or gateway that charges; 0 where a plan covers the call",
            "computed": "Spanledger, from the price list or an override",
            "reported": "an estimate of a library or file: no price is known, or the span sums up a session",
        },
    ),
    Attribute(
        "spanledger.cost.price",
        "string",
        "where computed",
        "Where the price is from: `genai-prices@<version>/<provider>/<model>` or `override/<name>`.",
    ),
    Attribute(
        "spanledger.cost.estimate",
        "bool",
        f"{_COUNTED} with a price",
        "true: a tier, a region, a split, a date or a price of what was used could not be known. `note` says which; "
        "`spanledger explain` shows the arithmetic.",
    ),
    Attribute(
        "spanledger.cost.unpriced",
        "string",
        f"{_COUNTED} without a price",
        "Why there is no `cost.usd`: the cost is unknown, not 0.",
        values={
            "no_model": "No model is named. Set `gen_ai.request.model` where the span is made, or switch on the signal "
            "that names it (docs/coding-agents.md).",
            "no_usage": "A call without counts: an aborted stream, a library that reports none, or units that its "
            "seller does not price. Let the library report it (of OpenAI's streams: `stream_options.include_usage`).",
            "unknown_provider": "Several sellers or none list this model. Name the provider (`gen_ai.provider.name`), "
            "or price it: `processor.pricing.overrides`.",
            "unknown_model": "The price list has no rate for this model, or none for what was used of it. "
            "Update genai-prices, or price "
            "it: `processor.pricing.overrides`; `spanledger prices MODEL` shows what is listed.",
            "inconsistent_usage": "The counts contradict each other, and no reading of them is sure. "
            "`spanledger explain` shows them; report the library and its version.",
            "not_accounted": "The ledger could not be written: usage and `computed_usd` are on the span, and the "
            "ledger has neither. See `spanledger_state_available` and the log; sent again, it is accounted.",
        },
    ),
    Attribute(
        "spanledger.cost.repeats_children",
        "bool",
        "agent and workflow spans",
        "true: its usage is the sum of spans that are counted, so it has no `cost.usd`.",
    ),
    _usd("cost.subtree_usd", "with `repeats_children`", "Cost of the counted spans below it. Not for sums."),
    Attribute(
        "spanledger.cost.duplicate_of",
        "string",
        "any span with usage",
        "Id of the span that was counted for the same response. This one has no `usage.*` and no `cost.usd`.",
    ),
    Attribute(
        "spanledger.tool.signature",
        "string",
        _TOOLS,
        "`h1:<8 hex of the key's id>:<32 hex>`: keyed hash of the name and the canonical arguments.",
    ),
    Attribute(
        "spanledger.tool.signature_scope",
        "string",
        _TOOLS,
        "What the signature covers.",
        values={
            "full": "name and arguments",
            "truncated": "name and what is left of arguments that were cut before they came: equal signatures may be "
            "different calls; raise the limit where they are cut",
            "name_only": "no arguments came: repeats cannot be recognised; switch on their capture at the library",
        },
    ),
    Attribute("spanledger.tool.repeats", "int", f"{_TOOLS} with arguments", "How often its session made this call."),
    Attribute("spanledger.tool.consecutive", "int", f"{_TOOLS} with arguments", "Of `repeats`, how many in a row."),
    Attribute(
        "spanledger.tool.loop",
        "bool",
        f"{_TOOLS} with arguments; spans of models that tell of a call without a span",
        "true: the call completes a loop by `processor.tools.loop`.",
    ),
    _usd("session.cost_usd", _COUNTED, "Running total of the session after this span."),
    _usd(
        "run.cost_usd",
        _COUNTED,
        "Running total of the run after this span; left out where the run has more than 1,024 sessions, or the runs "
        "of one request have more than 2,048.",
    ),
    Attribute(
        "spanledger.budget.name",
        "string",
        f"{_COUNTED}, of a budget that passed a threshold",
        "The budget that is used most, of those that the span counts against (docs/views.md#budgets).",
    ),
    Attribute(
        "spanledger.budget.used",
        "double",
        f"{_COUNTED}, of a budget that passed a threshold",
        "Share of it that is used with this request; 1 is all of it.",
    ),
    Attribute("spanledger.note", "string", "where a reader could be misled", "A sentence for people; not for rules."),
    Attribute(
        "spanledger.source", "string", "synthesized spans", "What it was made from: `log:<client>`, `file:<source>`."
    ),
)

WHY_UNPRICED = next(one.values for one in ATTRIBUTES if one.name == "spanledger.cost.unpriced")
"""What each reason means, and what to do about it."""

_HEAD = """\
# Attributes

Written by `make docs` from `processor/spanledger_processor/enrichment/reference.py`. The names stay, by
[the promises](contract.md#attributes-added). This page says what each value means and what to do about it.

"Counted" are spans that add to the spend: not those with `cost.repeats_children` or `cost.duplicate_of`.
An attribute whose value is not known is left out; it is never 0 or empty instead.
"""


def document() -> str:
    """Return the page docs/attributes.md."""
    return "\n".join((_HEAD, *_table(), "", *_sections()))


def _table() -> Iterator[str]:
    yield "| attribute | type | unit | on | meaning |"
    yield "|---|---|---|---|---|"
    for one in ATTRIBUTES:
        yield f"| `{one.name}` | {one.type} | {one.unit} | {one.carriers} | {one.meaning} |"


def _sections() -> Iterator[str]:
    for one in ATTRIBUTES:
        if one.values:
            yield f"## {one.name}\n"
            yield "| value | what it means, and what to do |"
            yield "|---|---|"
            yield from (f"| `{value}` | {meaning} |" for value, meaning in one.values.items())
            yield ""


if __name__ == "__main__":
    sys.stdout.write(document())
