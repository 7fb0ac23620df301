"""Checks a run from outside: what destinations hold, what senders were told, and what the ledger answers.

It reads delivered bytes with plain protobuf and the ledger by its queries, and shares no code with accounting. Money is
exact, in 1e-12 USD.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from captures import Request
from spanledger_exporters.interface import Signal
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.store import Reader, tenant_hash
from tests.simulation.workload import TENANT_KEY, Bill

SpanKey: TypeAlias = tuple[str, bytes, bytes]
"""Tenant, trace id, span id."""

_TIMES = ("first", "last")

_MARKS = (
    "spanledger.cost.usd",
    "spanledger.cost.unpriced",
    "spanledger.cost.repeats_children",
    "spanledger.cost.duplicate_of",
)
"""A span with usage carries exactly one of them (docs/contract.md#promise-1-sums-are-true)."""


@dataclass
class Form:
    """One form in which a span was sent: its attributes, and whether the ledger could be written for it."""

    values: dict[str, Any]
    accounted: bool = False


@dataclass
class Delivered:
    """What one destination got, and what it said that it did not take."""

    name: str
    required: bool
    signals: frozenset[Signal]
    received: Sequence[Request]
    refused: Sequence[Request]
    left_out: Sequence[tuple[bytes, bytes]]


@dataclass
class Evidence:
    """What a run leaves behind.

    `emitted` is what was handed to the destinations, whether or not it arrived; `unaccounted` holds those of its trace
    requests for which the ledger could not be written.
    """

    sent: list[Request] = field(default_factory=list)
    acknowledged: list[Request] = field(default_factory=list)
    emitted: list[Request] = field(default_factory=list)
    unaccounted: list[bytes] = field(default_factory=list)
    destinations: list[Delivered] = field(default_factory=list)
    bills: Mapping[str, Bill] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """What was found while it ran."""


def audit(evidence: Evidence, reader: Reader) -> list[str]:
    """Return what does not hold, in words; nothing where all does."""
    spans = _versions(evidence)
    return [
        *evidence.problems,
        *_one_version(spans),
        *_one_mark(spans),
        *_untouched(evidence),
        *_arrived(evidence),
        *(problem for tenant in evidence.bills for problem in _balanced(tenant, spans, reader)),
        *(problem for tenant, bill in evidence.bills.items() for problem in _billed(tenant, bill, reader)),
    ]


def ledger_of(reader: Reader, tenants: Iterable[str]) -> dict[str, Any]:
    """Return all that the ledger answers of its tenants, less what depends on the order of arrival."""
    dump: dict[str, Any] = {}
    for tenant in tenants:
        key = tenant_hash(tenant)
        total = queries.total(reader, key)
        dump[tenant] = {
            "total": {name: value for name, value in total.items() if not name.startswith("late_correction")},
            "sessions": _by_id(queries.sessions(reader, key)),
            "runs": _by_id(queries.runs(reader, key)),
            "models": queries.models(reader, key),
            "days": queries.days(reader, key),
        }
    return dump


def _by_id(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows in order, without those that are empty and the times of what belongs to none.

    Spans that moved on leave both behind, and where they stood first depends on the order of arrival.
    """
    rows = [row for row in rows if row["spans"]]
    timeless = ({name: value for name, value in row.items() if row["id"] or name not in _TIMES} for row in rows)
    return sorted(timeless, key=lambda row: str(row["id"]))


def spans_in(body: bytes) -> Iterator[tuple[SpanKey, Span]]:
    """The spans of a trace request, with whose they are."""
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        named = [pair.value.string_value for pair in group.resource.attributes if pair.key == TENANT_KEY]
        tenant = named[0] if named else ""
        for scoped in group.scope_spans:
            for span in scoped.spans:
                yield (tenant, span.trace_id, span.span_id), span


def _versions(evidence: Evidence) -> dict[SpanKey, list[Form]]:
    """Each span in every form in which it was sent."""
    versions: dict[SpanKey, dict[bytes, Form]] = defaultdict(dict)
    unaccounted = set(evidence.unaccounted)
    for body in dict.fromkeys(body for signal, body in evidence.emitted if signal == "traces"):
        for key, span in spans_in(body):
            form = versions[key].setdefault(span.SerializeToString(), Form(_values(span)))
            form.accounted |= body not in unaccounted
    return {key: list(forms.values()) for key, forms in versions.items()}


def _values(span: Span) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in span.attributes}


def _accounted(forms: Iterable[Form]) -> list[dict[str, Any]]:
    """The forms that stand in the ledger: all but those that say, or show by telling no money, that they do not."""
    return [
        form.values
        for form in forms
        if form.values.get("spanledger.cost.unpriced") != "not_accounted" and (form.accounted or _marks(form.values))
    ]


def _marks(values: Mapping[str, Any]) -> list[str]:
    return [mark for mark in _MARKS if values.get(mark) is not None and values[mark] is not False]


def _one_version(spans: Mapping[SpanKey, Sequence[Form]]) -> Iterator[str]:
    """A repeat carries the same bytes; only what could not be accounted for may be told otherwise later."""
    for key, forms in spans.items():
        accounted = _accounted(forms)
        if len(accounted) > 1:
            yield f"{_name(key)} was sent in {len(accounted)} forms: {_differences(accounted)}"


def _one_mark(spans: Mapping[SpanKey, Sequence[Form]]) -> Iterator[str]:
    for key, forms in spans.items():
        for form in forms:
            marks = _marks(form.values)
            usage = any(name.startswith("spanledger.usage.") for name in form.values)
            if len(marks) > 1 or (usage and not marks):
                yield f"{_name(key)} is marked {marks or 'nothing'}"
            if form.values.get("spanledger.cost.usd", 0) < 0:
                yield f"{_name(key)} has a negative cost"


def _untouched(evidence: Evidence) -> Iterator[str]:
    """A span arrives as it was sent, with attributes behind its own."""
    sent: dict[SpanKey, Span] = {}
    for body in dict.fromkeys(body for signal, body in evidence.sent if signal == "traces"):
        sent.update(spans_in(body))
    for destination in evidence.destinations:
        for body in dict.fromkeys(body for signal, body in destination.received if signal == "traces"):
            for key, span in spans_in(body):
                if (original := sent.get(key)) is None:
                    continue  # made from a log
                del span.attributes[len(original.attributes) :]
                if span != original:
                    yield f"{_name(key)} reached {destination.name} changed"


def _arrived(evidence: Evidence) -> Iterator[str]:
    """What was acknowledged is at every required destination, unless that one said that it does not take it."""
    for destination in evidence.destinations:
        if not destination.required:
            continue
        there = {key for signal, body in destination.received if signal == "traces" for key, _ in spans_in(body)}
        bodies = Counter(destination.received)
        left_out = set(destination.left_out)
        for (signal, body), times in Counter(evidence.acknowledged).items():
            if signal not in destination.signals:
                continue
            if signal != "traces":
                if (there_times := bodies[signal, body]) < times:
                    yield f"{signal} acknowledged {times} times are {there_times} times at {destination.name}"
                continue
            for key, _ in spans_in(body):
                if key not in there and key[1:] not in left_out:
                    yield f"{_name(key)} was acknowledged and is not at {destination.name}"


def _balanced(tenant: str, spans: Mapping[SpanKey, Sequence[Form]], reader: Reader) -> Iterator[str]:
    """Sums over spans are the ledger and what was sent beyond it; every split of the ledger adds up to it."""
    key = tenant_hash(tenant)
    total = queries.total(reader, key)
    whole = _pico(total["cost_usd_exact"])
    sent = 0
    for (whose, *_), forms in spans.items():
        for form in _accounted(forms)[:1] if whose == tenant else ():
            sent += _of_double(form.get("spanledger.cost.usd", 0.0))
    late = _pico(total["late_correction_usd_exact"])
    if sent != whole + late:
        yield f"tenant {tenant!r}: spans add up to {sent}, the ledger to {whole} with {late} sent beyond it"
    for name in ("sessions", "runs", "models", "days"):
        rows = getattr(queries, name)(reader, key)
        if (parts := sum(_pico(row["cost_usd_exact"]) for row in rows)) != whole:
            yield f"tenant {tenant!r}: {name} add up to {parts}, the ledger to {whole}"
        if (calls := sum(row["calls"] for row in rows)) != total["calls"]:
            yield f"tenant {tenant!r}: {name} have {calls} calls, the ledger {total['calls']}"
        tokens: Counter[str] = Counter()
        for row in rows:
            tokens.update(row["tokens"])
        if +tokens != +Counter(total["tokens"]):
            yield f"tenant {tenant!r}: {name} have {dict(tokens)}, the ledger {total['tokens']}"
        if any(_pico(row["cost_usd_exact"]) < 0 or row["calls"] < 0 for row in rows):
            yield f"tenant {tenant!r}: one of the {name} is below zero"


def _billed(tenant: str, bill: Bill, reader: Reader) -> Iterator[str]:
    """The ledger is what the providers charged for."""
    total = queries.total(reader, tenant_hash(tenant))
    entered = Bill(_pico(total["cost_usd_exact"]), total["calls"], total["tokens"]["input"], total["tokens"]["output"])
    if (entered.cost, entered.input, entered.output) != (bill.cost, bill.input, bill.output):
        yield f"tenant {tenant!r}: the ledger says {entered}, billed was {bill}"


def _pico(amount: str) -> int:
    return int(Decimal(amount) * 10**12)


def _of_double(amount: float) -> int:
    """A double of USD as 1e-12 USD, of which it is the nearest."""
    return round(Decimal(amount) * 10**12)


def _name(key: SpanKey) -> str:
    tenant, trace_id, span_id = key
    return f"span {trace_id.hex()}/{span_id.hex()} of tenant {tenant!r}"


def _differences(forms: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for form in forms for name in form)
    reported = {name: [form.get(name) for form in forms] for name in names}
    return {name: values for name, values in reported.items() if any(value != values[0] for value in values)}
