"""Summaries of sessions that ended, each sent once, and the rules of warnings.

A summary is a span and a log record whose ids are made of the session and its last activity. They are marked as sent in
the ledger once every required exporter has them; a restart in between sends them again, with the same ids. Warnings are
stored in the ledger like the thresholds of budgets, and `notices` sends both.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from spanledger_exporters import Verdict
from spanledger_processor import synthesized
from spanledger_processor.enrichment.marks import KIND, SUMMARY, SUMMARY_GRANULARITY, TENANT, summary_ids
from spanledger_processor.ledger.budgets import Crossing, WarningRules, of_day, of_session
from spanledger_processor.ledger.facts import Facts, Lifecycle
from spanledger_processor.ledger.queries import tenants_of
from spanledger_processor.ledger.rows import Row
from spanledger_processor.ledger.store import Changes, Key, Unit
from spanledger_processor.ledger.summaries import Ended, active_lately, ended, mark_summarized, summary
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.otlp.encoding import any_value
from spanledger_processor.server.ledger_link import Deliver
from spanledger_processor.server.notices import logs_of
from spanledger_processor.server.periodic import PeriodicTask
from spanledger_processor.signing.signer import Signer
from spanledger_processor.units import NS_PER_DAY

log = logging.getLogger(__name__)

EVENT = "spanledger.session.summary"
_PREFIX = "spanledger.summary."
_INTERVAL_S = 2.0
_LONGEST_WAIT_S = 300.0
_WARNINGS_INTERVAL_S = 15.0
_MOST_ROWS = 64
"""Models, agents, tasks and tools with a row of their own; the others have one together, exact."""
_AT_ONCE = 100
"""Sessions that are summed up in one run."""


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
        self._checked: dict[Key, int] = {}
        """By session: a hash of its record when the rules were last applied to it."""
        self._task = PeriodicTask(self._run, _INTERVAL_S, "summing up sessions failed")
        self.summaries: float | None = None
        """Seconds without activity after which the summary of an ended session is sent; None: none is sent."""
        self.rules = WarningRules()

    def start(self) -> None:
        """Begin."""
        self._task.start()

    async def stop(self) -> None:
        """End; what is not sent stays due in the ledger."""
        await self._task.stop()

    async def _run(self) -> float:
        if time.monotonic() >= self._warn_at:
            self._warn_at = time.monotonic() + _WARNINGS_INTERVAL_S
            await self.store_warnings()
        await self.send_summaries()
        return min(_INTERVAL_S * 2.0**self._failures, _LONGEST_WAIT_S)

    async def send_summaries(self) -> None:
        """Send the summaries of sessions that ended, and mark those that were accepted or refused for good.

        Raises:
            StateError: the ledger cannot be read or written.
        """
        if self.summaries is None and not self.rules.of_sessions:
            return
        due = await asyncio.to_thread(self._due)
        done: list[Ended] = []
        await self._store([crossing for _, _, crossings in due for crossing in crossings])
        for session, row, _ in due:
            if row is not None and self.summaries is not None:
                verdict = await self._send(session, row)
                if verdict is Verdict.RETRYABLE:
                    self._failures = min(self._failures + 1, 16)
                    break
                self._count(row["state"], "told" if verdict is Verdict.ACCEPTED else "refused")
            done.append(session)
        else:
            self._failures = 0
        if done:
            await self._ledger.submit(lambda unit: mark_summarized(unit, done, self._now_ns()))

    def _due(self) -> list[tuple[Ended, Row | None, list[Crossing]]]:
        """Return sessions that ended, each with its summary (None where nothing of it is left) and its warnings."""
        now_ns, due = self._now_ns(), list[tuple[Ended, Row | None, list[Crossing]]]()
        with self._ledger.snapshot() as reader:
            for session in ended(reader, self._lifecycle, now_ns, round((self.summaries or 0.0) * 1e9)):
                row = summary(reader, session, self._lifecycle, now_ns) if session.sums.spans > 0 else None
                due.append((session, row, list(of_session(self.rules, session.tenant, session.sums, now_ns))))
                if len(due) >= _AT_ONCE:
                    break
        return due

    async def _send(self, session: Ended, row: Row) -> Verdict:
        """Send the span and the log record, the one also where the other is refused for good."""
        ids = summary_ids(self._signer, row["tenant"], session.id, session.last_ns)
        requests = trace_request(row, session.sums, ids), log_request(row, session.sums, ids)
        verdicts = [
            await self._deliver("traces", ids[1] + b"t", requests[0]),
            await self._deliver("logs", ids[1] + b"l", requests[1]),
        ]
        return next((one for one in (Verdict.RETRYABLE, Verdict.PERMANENT) if one in verdicts), Verdict.ACCEPTED)

    async def store_warnings(self) -> None:
        """Store in the ledger what the rules warn of today, and in sessions that were active lately.

        Raises:
            StateError: the ledger cannot be read or written.
        """
        if self.rules.are_on:
            await self._store(await asyncio.to_thread(self._warnings))

    def _warnings(self) -> list[Crossing]:
        now_ns, checked, warnings = self._now_ns(), dict[Key, int](), list[Crossing]()
        with self._ledger.snapshot() as reader:
            for tenant in tenants_of(reader):
                warnings += of_day(self.rules, reader, tenant, now_ns // NS_PER_DAY, now_ns)
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
            new = {one.key: one.pack() for one in crossings if reader.get(one.key) is None}

        def claim(unit: Unit) -> None:
            unit.apply(Changes(claim=new), self._now_ns())

        if new:
            await self._ledger.submit(claim)


def trace_request(row: Row, sums: Sums, ids: tuple[bytes, bytes]) -> bytes:
    """Return an OTLP trace request of one span that sums up a session; `row` is that of `ledger.summaries`."""
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
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(resource=Resource(attributes=_attributes({"service.name": "spanledger"})))
    group.scope_spans.add(spans=[span]).scope.name = "spanledger"
    return request.SerializeToString()


def log_request(row: Row, sums: Sums, ids: tuple[bytes, bytes]) -> bytes:
    """Return an OTLP log request of one record that sums up a session; it names the span of `trace_request`."""
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
    record.body.string_value = (
        f"session {row['id']} {row['state']}: ${row['cost_usd_exact']}, {row['calls']} calls{missing}, "
        f"{row['tool_calls']} tool calls, {row['failures']} failures, {row['loops']} loops"
    )
    record.attributes.extend(_attributes({**_flat(row), **{f"{_PREFIX}{n}s": rows for n, rows in _lists(row).items()}}))
    return logs_of(record)


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
        "cost_usd": row["cost_usd"],
        "cost_usd_exact": row["cost_usd_exact"],
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
    return {
        "model": _bounded([{"model": one["model"], **_spent(one)} for one in row["models"]]),
        "agent": _bounded([{"agent": one["id"], **_spent(one)} for one in row["agents"]]),
        "task": _bounded([{"task": one["id"], "kind": one["kind"], **_spent(one)} for one in row["tasks"]]),
        "tool": [
            {"tool": one["id"], **{name: one[name] for name in ("calls", "failures", "denied", "loops")}}
            for one in row["tools"]
        ],
        "unpriced": [{"reason": reason, "calls": calls} for reason, calls in row["unpriced"].items()],
    }


def _spent(one: Row) -> Row:
    """Return the cost, calls and tokens of a row, as far as it has them."""
    spent: Row = {name: one[name] for name in ("cost_usd", "cost_usd_exact", "calls", "tool_calls") if name in one}
    if "tokens" in one:
        spent |= {f"{name}_tokens": one["tokens"][name] for name in ("input", "output")}
    return spent


def _bounded(rows: list[Row]) -> list[Row]:
    """Return the dearest rows, and the others as one."""
    ranked = sorted(rows, key=lambda one: -one["cost_usd"])
    if len(ranked) <= _MOST_ROWS:
        return ranked
    others = ranked[_MOST_ROWS:]
    cost = sum((Decimal(one["cost_usd_exact"]) for one in others), Decimal())
    counts = [name for name in others[0] if name.endswith(("calls", "_tokens"))]
    return [
        *ranked[:_MOST_ROWS],
        {
            "other": True,
            "cost_usd": float(cost),
            "cost_usd_exact": f"{cost:f}",
            **{name: sum(one[name] for one in others) for name in counts},
        },
    ]


def _attributes(values: Mapping[str, Any]) -> Iterator[KeyValue]:
    for name, value in values.items():
        yield KeyValue(key=name, value=any_value(value))
