"""Summaries of sessions that ended, each sent once, the rules of warnings, and budgets of runs of many sessions.

A summary is a span and a log record whose ids are made of the session and its last activity. They are marked as sent in
the ledger once every required exporter has them; a restart in between sends them again, with the same ids. Many
sessions that ended (as after old data were replayed) go into one request, and take a bounded share of the time.
Warnings are stored in the ledger like the thresholds of budgets, and `notices` sends both. A run of too many sessions
to be added up with each request is added up here, once something was spent in it, and the thresholds that it passed are
stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from spanledger_exporters import Signal, Verdict
from spanledger_processor import synthesized
from spanledger_processor.enrichment.marks import KIND, SUMMARY, SUMMARY_GRANULARITY, TENANT, summary_ids
from spanledger_processor.ledger.budgets import RUN, BudgetRule, LargeRun, due_runs, passed_by_run
from spanledger_processor.ledger.crossings import REPORTED_FOR, Crossing, is_stored
from spanledger_processor.ledger.facts import Facts, Lifecycle
from spanledger_processor.ledger.queries import tenants_of
from spanledger_processor.ledger.rows import Row
from spanledger_processor.ledger.store import Changes, Key, Unit
from spanledger_processor.ledger.summaries import Ended, active_lately, ended, mark_summarized, summary
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.warning_rules import WarningRules, of_day, of_session
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.otlp.encoding import any_value
from spanledger_processor.server.ledger_link import Deliver
from spanledger_processor.server.notices import logs_of
from spanledger_processor.server.periodic import PeriodicTask
from spanledger_processor.signing.signer import Signer
from spanledger_processor.units import NS_PER_DAY

EVENT = "spanledger.session.summary"
_SIGNALS: tuple[Signal, ...] = ("traces", "logs")
_PREFIX = "spanledger.summary."
_INTERVAL_S = 2.0
_LONGEST_WAIT_S = 300.0
_WARNINGS_INTERVAL_S = 15.0
_MOST_ROWS = 64
"""Models, agents, tasks and tools with a row of their own; the others have one together, exact."""
_AT_ONCE = 100
"""Sessions that are summed up in one run."""
_REQUEST_BYTES = 2**20
"""The size of a request of several summaries, a quarter of what receivers take by default."""
_SHARE = 0.2
"""Share of the time that may go into summaries, sending included."""
_ADDING, _ADDING_S = 0.1, 1.0
"""Share of the time that may go into adding up runs, and seconds at a time after which no further one is begun."""


@dataclass(frozen=True, slots=True)
class _Summary:
    """A session that ended, the span and the log record that sum it up, and their ids."""

    session: Ended
    state: str
    span_id: bytes
    span: Span
    record: LogRecord


class _Due(NamedTuple):
    """A session that ended, with its summary (None where none is to be sent) and what the rules warn of."""

    session: Ended
    summary: _Summary | None
    warnings: list[Crossing]


class SessionWatch:
    """Looks for sessions that ended every two seconds, and for what the rules warn of every fifteen."""

    def __init__(
        self,
        ledger: LedgerWriter,
        lifecycle: Lifecycle,
        signer: Signer,
        deliver: Deliver,
        count: Callable[[str, str], None],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Read the sessions of `ledger`; `count` gets a session's state with how the sending of its summary ended."""
        self._ledger = ledger
        self._lifecycle = lifecycle
        self._signer = signer
        self._deliver = deliver
        self._count = count
        self._now_ns = now_ns
        self._failures = 0
        self._warn_at = 0.0
        self._verdicts: dict[tuple[Signal, bytes], Verdict] = {}
        """Of summaries of which something is still to be sent: what was accepted or refused for good, by span id."""
        self._days_back = 0
        """The day before today that was looked at last: in turn, since calls of it may come late."""
        self._checked: dict[Key, int] = {}
        """By session: a hash of its record when the rules were last applied to it."""
        self._task = PeriodicTask(self._run, _INTERVAL_S, "summing up sessions failed")
        self._adding = PeriodicTask(self._add_up, _INTERVAL_S, "adding up runs failed")
        self._added_last = b""
        self.summaries: float | None = None
        """Seconds without activity after which the summary of an ended session is sent; None: none is sent."""
        self.rules = WarningRules()
        self.budgets: tuple[BudgetRule, ...] = ()

    def start(self) -> None:
        """Begin to look for sessions that ended, and for runs to be added up."""
        self._task.start()
        self._adding.start()

    async def stop(self) -> None:
        """Stop; what is not sent stays due in the ledger."""
        await self._task.stop()
        await self._adding.stop()

    async def _add_up(self) -> float:
        began = time.monotonic()
        await self.add_up_runs()
        return max(_INTERVAL_S, (time.monotonic() - began) / _ADDING)

    async def add_up_runs(self) -> None:
        """Add up runs in which something was spent since the last time, and store the thresholds that they passed.

        They take turns: as many are added up as fit into a second, at least one.

        Raises:
            StateError: the ledger cannot be read or written.
        """
        rules = [rule for rule in self.budgets if rule.period == RUN]
        now_ns = self._now_ns()
        added = await asyncio.to_thread(self._added_up, rules, now_ns) if rules else []
        if not added:
            return
        self._added_last = added[-1][0].key
        await self._store([crossing for _, crossings in added for crossing in crossings])

        def note(unit: Unit) -> None:
            for run, _ in added:
                if (record := unit.get(run.key)) is not None:  # spans may have come meanwhile, then it stays due
                    latest = replace(LargeRun.unpack(record), added=run.added, spent=run.spent)
                    unit.apply(Changes(replace={run.key: latest.pack(now_ns)}), now_ns)

        await self._ledger.submit(note)

    def _added_up(self, rules: Sequence[BudgetRule], now_ns: int) -> list[tuple[LargeRun, list[Crossing]]]:
        began, added = time.monotonic(), list[tuple[LargeRun, list[Crossing]]]()
        with self._ledger.snapshot() as reader:
            due = sorted(due_runs(reader), key=lambda run: (run.key <= self._added_last, run.key))
            for run in (one.added_up(reader) for one in due):
                added.append((run, [*passed_by_run(reader, rules, run, now_ns)]))
                if time.monotonic() - began > _ADDING_S:
                    break
        return added

    async def _run(self) -> float:
        if time.monotonic() >= self._warn_at:
            self._warn_at = time.monotonic() + _WARNINGS_INTERVAL_S
            await self.store_warnings()
        began = time.monotonic()
        await self.send_summaries()
        resting_s = (time.monotonic() - began) / _SHARE
        return max(resting_s, min(_INTERVAL_S * 2.0**self._failures, _LONGEST_WAIT_S))

    async def send_summaries(self) -> None:
        """Send the summaries of sessions that ended, and mark those that were accepted or refused for good.

        Raises:
            StateError: the ledger cannot be read or written.
        """
        if self.summaries is None and not self.rules.of_sessions:
            return
        due = await asyncio.to_thread(self._due, self.summaries)
        await self._store([warning for one in due for warning in one.warnings])
        done = [one.session for one in due if one.summary is None]
        summaries = [one.summary for one in due if one.summary is not None]
        span_ids = {one.span_id for one in summaries}
        self._verdicts = {key: verdict for key, verdict in self._verdicts.items() if key[1] in span_ids}
        sent = list[_Summary]()
        for batch in _batches(summaries):
            await self._send("traces", [(one.span_id, one.span) for one in batch])
            await self._send("logs", [(one.span_id, one.record) for one in batch])
            of_batch = [one for one in batch if self._is_sent(one)]
            sent += of_batch
            if len(of_batch) < len(batch):
                break
        done += [one.session for one in sent]
        self._failures = 0 if len(done) == len(due) else min(self._failures + 1, 16)
        if done:
            # the verdicts stay until the mark is stored: a summary is sent and counted once
            await self._ledger.submit(lambda unit: mark_summarized(unit, done, self._now_ns()))
        for one in sent:
            refused = Verdict.PERMANENT in self._verdicts_on(one)
            self._count(one.state, "refused" if refused else "told")

    def _due(self, quiet_s: float | None) -> list[_Due]:
        """Return sessions that ended and of which nothing came for `quiet_s`; None: no summaries are to be sent."""
        now_ns, due = self._now_ns(), list[_Due]()
        with self._ledger.snapshot() as reader:
            for session in ended(reader, self._lifecycle, now_ns, round((quiet_s or 0.0) * 1e9)):
                is_sent = quiet_s is not None and session.sums.spans > 0
                row = summary(reader, session, self._lifecycle, now_ns) if is_sent else None
                warnings = list(of_session(self.rules, session.tenant, session.sums, now_ns))
                due.append(_Due(session, None if row is None else self._summary(session, row), warnings))
                if len(due) >= _AT_ONCE:
                    break
        return due

    def _summary(self, session: Ended, row: Row) -> _Summary:
        ids = summary_ids(self._signer, row["tenant"], session.id, session.last_ns)
        span, record = summary_span(row, session.sums, ids), summary_record(row, session.sums, ids)
        return _Summary(session, row["state"], ids[1], span, record)

    async def _send(self, signal: Signal, items: Sequence[tuple[bytes, Span | LogRecord]]) -> None:
        """Send together what has no verdict yet."""
        waiting = [(span_id, item) for span_id, item in items if (signal, span_id) not in self._verdicts]
        if not waiting:
            return
        request_id = blake2b(b"".join(span_id for span_id, _ in waiting), digest_size=16).digest()
        verdict = await self._deliver(signal, request_id, _request(signal, [item for _, item in waiting]))
        if verdict is not Verdict.RETRYABLE:
            self._verdicts |= {(signal, span_id): verdict for span_id, _ in waiting}

    def _verdicts_on(self, one: _Summary) -> list[Verdict]:
        return [self._verdicts.get((signal, one.span_id), Verdict.RETRYABLE) for signal in _SIGNALS]

    def _is_sent(self, one: _Summary) -> bool:
        """Return whether nothing of a summary is to be sent again."""
        return Verdict.RETRYABLE not in self._verdicts_on(one)

    async def store_warnings(self) -> None:
        """Store in the ledger what the rules warn of today, on one of the days before, and in sessions active lately.

        Raises:
            StateError: the ledger cannot be read or written.
        """
        if self.rules.are_on:
            await self._store(await asyncio.to_thread(self._warnings))

    def _warnings(self) -> list[Crossing]:
        now_ns, checked, warnings = self._now_ns(), dict[Key, int](), list[Crossing]()
        with self._ledger.snapshot() as reader:
            today = now_ns // NS_PER_DAY
            self._days_back = self._days_back % REPORTED_FOR + 1
            for tenant in tenants_of(reader):
                for day in (today, today - self._days_back):
                    warnings += of_day(self.rules, reader, tenant, day, now_ns)
                if not self.rules.of_sessions:
                    continue
                for key in active_lately(reader, tenant, now_ns - self._lifecycle.active_ns):
                    record = reader.get(key)
                    checked[key] = hash(record)
                    if record is not None and self._checked.get(key) != checked[key]:
                        warnings += of_session(self.rules, tenant, Sums.unpack(record), now_ns)
        self._checked = checked
        return warnings

    async def _store(self, crossings: Sequence[Crossing]) -> None:
        """Store crossings that are not in the ledger yet, as due."""
        with self._ledger.snapshot() as reader:
            new = {one.key: one.pack() for one in crossings if not is_stored(reader, one)}

        def create(unit: Unit) -> None:
            unit.apply(Changes(create=new), self._now_ns())

        if new:
            await self._ledger.submit(create)


def _batches(summaries: Iterable[_Summary]) -> Iterator[list[_Summary]]:
    """Yield the summaries that go together into a request of each signal."""
    batch, size = list[_Summary](), 0
    for one in summaries:
        own = max(one.span.ByteSize(), one.record.ByteSize())
        if batch and size + own > _REQUEST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += own
    if batch:
        yield batch


def _request(signal: Signal, items: Sequence[Span | LogRecord]) -> bytes:
    """Return an OTLP request of these spans or log records."""
    if signal == "logs":
        return logs_of(*(item for item in items if isinstance(item, LogRecord)))
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(resource=Resource(attributes=_attributes({"service.name": "spanledger"})))
    scope_spans = group.scope_spans.add(spans=[item for item in items if isinstance(item, Span)])
    scope_spans.scope.name = "spanledger"
    return request.SerializeToString()


def summary_span(row: Row, sums: Sums, ids: tuple[bytes, bytes]) -> Span:
    """Return the span that sums up a session; `row` is that of `ledger.summaries`."""
    span = Span(
        trace_id=ids[0],
        span_id=ids[1],
        name="session summary",
        kind=Span.SpanKind.SPAN_KIND_INTERNAL,
        start_time_unix_nano=sums.first_ns or sums.last_ns,
        end_time_unix_nano=sums.last_ns,
        status=Status(),
    )
    span.attributes.extend(_attributes(_flat(row)))
    for name, rows in _lists(row).items():
        for one in rows:
            event = span.events.add(time_unix_nano=sums.last_ns, name=f"{_PREFIX}{name}")
            event.attributes.extend(_attributes({f"{_PREFIX}{key}": value for key, value in one.items()}))
    latest = (sums.facts or Facts()).latest
    if latest is not None and len(latest[1]) == 16 and len(latest[2]) == 8:
        span.links.add(trace_id=latest[1], span_id=latest[2])
    return span


def summary_record(row: Row, sums: Sums, ids: tuple[bytes, bytes]) -> LogRecord:
    """Return the log record that sums up a session; it names the span of `summary_span`."""
    record = LogRecord(
        time_unix_nano=sums.last_ns,
        observed_time_unix_nano=sums.last_ns,
        severity_number=SeverityNumber.SEVERITY_NUMBER_INFO,
        severity_text="INFO",
        event_name=EVENT,
        trace_id=ids[0],
        span_id=ids[1],
    )
    unpriced = sum(row["unpriced"].values())
    missing = f", {unpriced} without a price" if unpriced else ""
    cost = f"${row['cost_usd_exact']}" if _has_known_cost(row) else "cost unknown"
    nouns = {"calls": "call", "tool_calls": "tool call", "failures": "failure", "loops": "loop"}
    calls, *others = (f"{row[name]} {noun}{'' if row[name] == 1 else 's'}" for name, noun in nouns.items())
    record.body.string_value = f"session {row['id']} {row['state']}: {', '.join([cost, calls + missing, *others])}"
    record.attributes.extend(_attributes({**_flat(row), **{f"{_PREFIX}{n}s": rows for n, rows in _lists(row).items()}}))
    return record


def _flat(row: Row) -> dict[str, Any]:
    """Return the attributes with a session's totals; what is not known is left out."""
    named = {
        TENANT: row["tenant"] or None,
        synthesized.SESSION_PARENT: row.get("parent_id"),
        synthesized.SESSION_NAME: row.get("name"),
        synthesized.SESSION_PROJECT: row.get("project"),
        synthesized.RUN_ID: row["run_id"],
        synthesized.NOTE: row.get("note"),
    }
    counts = ("calls", "tool_calls", "spans", "turns", "failures", "denied", "loops", "active_seconds")
    totals = {
        "state": row["state"],
        **_cost_of(row),
        **{name: row[name] for name in counts},
        "unpriced_calls": sum(row["unpriced"].values()),
        **{f"{name}_tokens": number for name, number in row["tokens"].items() if number},
        **{name: number for name, number in row["units"].items() if number},
        **{f"dimension.{name}": values for name, values in row["dimensions"].items()},
    }
    return {
        KIND: SUMMARY,
        synthesized.GRANULARITY: SUMMARY_GRANULARITY,
        synthesized.SESSION_ID: row["id"],
        **{key: value for key, value in named.items() if value is not None},
        **{f"{_PREFIX}{name}": value for name, value in totals.items() if value is not None},
    }


def _lists(row: Row) -> dict[str, list[Row]]:
    """Return the rows of a session by model, agent, task and kind, and tool, and its unpriced calls by reason."""
    used = row["usage_by_model"]
    models = used if any(one["calls"] for one in used) else row["models"]
    return {
        "model": _bounded([{"model": one["model"], **_spent(one)} for one in models]),
        "agent": _bounded([{"agent": one["id"], **_spent(one)} for one in row["agents"]]),
        "task": _bounded([{"task": one["id"], "kind": one["kind"], **_spent(one)} for one in row["tasks"]]),
        "tool": [
            {"tool": one["id"], **{name: one[name] for name in ("calls", "failures", "denied", "loops")}}
            for one in row["tools"]
        ],
        "unpriced": [{"reason": reason, "calls": calls} for reason, calls in row["unpriced"].items()],
    }


def _has_known_cost(row: Row) -> bool:
    """Return whether any of what was spent is known: calls that all lack a price cost something, and not 0."""
    unpriced = sum(row.get("unpriced", {}).values())
    return "cost_usd" in row and (row["cost_usd"] != 0 or not unpriced or unpriced < row["calls"])


def _cost_of(row: Row) -> Row:
    return {name: row[name] for name in ("cost_usd", "cost_usd_exact")} if _has_known_cost(row) else {}


def _spent(one: Row) -> Row:
    """Return the cost, calls and tokens of a row, as far as it has them."""
    spent: Row = _cost_of(one) | {name: one[name] for name in ("calls", "tool_calls") if name in one}
    if "tokens" in one:
        spent |= {f"{name}_tokens": one["tokens"][name] for name in ("input", "output")}
    return spent


def _bounded(rows: list[Row]) -> list[Row]:
    """Return the dearest rows, and the others as one."""
    ranked = sorted(rows, key=lambda one: -Decimal(one.get("cost_usd_exact", "0")))
    if len(ranked) <= _MOST_ROWS:
        return ranked
    others = ranked[_MOST_ROWS:]
    costs = [Decimal(one["cost_usd_exact"]) for one in others if "cost_usd_exact" in one]
    cost = {"cost_usd": float(sum(costs)), "cost_usd_exact": f"{sum(costs, Decimal()):f}"} if costs else {}
    counts = [name for name in others[0] if name.endswith(("calls", "_tokens"))]
    return [
        *ranked[:_MOST_ROWS],
        {"other": True, **cost, **{name: sum(one[name] for one in others) for name in counts}},
    ]


def _attributes(values: Mapping[str, Any]) -> Iterator[KeyValue]:
    for name, value in values.items():
        yield KeyValue(key=name, value=any_value(value))
