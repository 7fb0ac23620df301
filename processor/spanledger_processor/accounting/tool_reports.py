"""Find which of several reports of a tool call has it in the sums, and which traces only asked for it.

A call that several spans report counts with the one that began first, whichever came first: in its run, with its agent,
at its price, and it failed if any of them says so. Reports are of one call by its id, or by source and time
(`tool_executions`); what is known of a call by its id has the reports without one that time makes reports of it, too.
When the report that has a call leaves its session, the next one takes the call over. What changes so may lie in a trace
that a request does not touch otherwise: it is told as `PassedCall`, that a call failed, or did not, by what another
report says as `FailedCall`, a report that proves to be of another execution as `MisplacedReport`, and what a model
asked for that another trace executes, or does not any more, as `ExecutedElsewhere`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Sequence
from typing import Any, NamedTuple, TypeAlias

from spanledger_processor.accounting.trace import Span
from spanledger_processor.dialects.asked_tools import is_made_id
from spanledger_processor.ledger.keys import tool_call_key
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import Changes, Key

MOST_REPORTS = 16
"""Reports of one execution that are told apart."""
_MOST_ASKERS = 8
"""Traces remembered that ask for a call which another one executes."""


class Report(NamedTuple):
    """One report of an execution. They are in order by their start."""

    start_ns: int
    trace_id: bytes
    span_id: bytes


class PassedCall(NamedTuple):
    """A report that another one, of `by`, took a call from (`again`), or that takes over the one of `by`, and whether
    it is counted for a failure then.
    """

    report: Report
    again: bool
    by: Span
    failed: bool = False


class FailedCall(NamedTuple):
    """The report that has a call, of which that of `by` says that it failed; or, if that is not so, did no more."""

    report: Report
    failed: bool
    by: Span


class MisplacedReport(NamedTuple):
    """A report without an id that is kept as one of another execution than its own, in the counts of a session."""

    report: Report
    session: bytes


class ExecutedElsewhere(NamedTuple):
    """A call that a trace asks for in a session, and whether another trace executes it there."""

    trace_id: bytes
    session: bytes
    call_id: str
    is_elsewhere: bool


ReportChange: TypeAlias = PassedCall | FailedCall | MisplacedReport | ExecutedElsewhere


_OTHERS = 7
"""Index of the further reports in what is stored of a call by its id."""


class KnownCall(NamedTuple):
    """What is known of a call by its id: the first report of it, or the trace that asked for it (none where that gave
    it up), since when (0: not known), how many reports of it there are, and said that it failed.

    `askers` are other traces that ask for it, `others` the reports that began later. Rows of earlier releases do not
    name the span, and of an execution in `askers` the trace of a model's span that it counts with.
    """

    trace_id: bytes = b""
    is_executed: bool = True
    start_ns: int = 0
    askers: Sequence[bytes] = ()
    reports: int = 1
    failed: int = 0
    span_id: bytes = b""
    others: Sequence[Report] = ()

    @classmethod
    def of(cls, values: Sequence[Any]) -> KnownCall:
        """Read stored values."""
        known = cls(*values)
        if values[3:4] and isinstance(values[3], bytes):
            known = known._replace(askers=[values[3]] if values[3] else ())
        if known.others:
            known = known._replace(others=[Report(*one) for one in known.others])
        is_earlier = isinstance(known.reports, bool) or not known.reports  # it was said there whether one looped
        return known._replace(reports=1) if is_earlier else known

    @property
    def values(self) -> Sequence[Any]:
        """Return the stored values."""
        return self if self.others else self[:_OTHERS]

    @property
    def known_reports(self) -> list[Report]:
        """Return the reports that are known, in order."""
        if not self.is_executed or not self.span_id:
            return []
        return [Report(self.start_ns, self.trace_id, self.span_id), *self.others]

    @property
    def has_unknown_reports(self) -> bool:
        """Return whether there are reports of which it is not known which they are."""
        return self.is_executed and self.reports > len(self.known_reports)

    def with_report(self, report: Report, *, failed: bool) -> KnownCall:
        """Return it with one more report."""
        if not self.is_executed:
            askers = self.askers
            if askers or self.trace_id != report.trace_id:
                askers = [one for one in self.all_askers if one != report.trace_id][:_MOST_ASKERS]
            return KnownCall(report.trace_id, True, report.start_ns, askers, 1, int(failed), report.span_id)
        known = self._with_reports([*self.known_reports, report])
        return known._replace(reports=self.reports + 1, failed=self.failed + failed)

    def without_report(self, report: Report, *, failed: bool) -> KnownCall:
        """Return it with one report less; without any, what only asks for it."""
        if report not in (known := self.known_reports) and not self.has_unknown_reports:
            return self  # one without an id, which earlier releases did not keep here
        if self.reports <= 1:
            first, *more = self.askers or (b"",)
            return KnownCall(first, False, report.start_ns if first else 0, more)
        others = self._with_reports([one for one in known if one != report])
        return others._replace(reports=self.reports - 1, failed=max(0, self.failed - failed))

    def _with_reports(self, reports: list[Report]) -> KnownCall:
        if not reports:
            return self._replace(span_id=b"", others=())
        first, *others = sorted(reports)[:MOST_REPORTS]
        return self._replace(trace_id=first.trace_id, start_ns=first.start_ns, span_id=first.span_id, others=others)

    def askers_with(self, trace_id: bytes) -> Sequence[bytes]:
        """Return the further traces that ask for it, and one more."""
        if trace_id in self.askers or len(self.askers) >= _MOST_ASKERS:
            return self.askers
        return [*self.askers, trace_id]

    def without_asker(self, trace_id: bytes) -> KnownCall:
        """Return it without a trace that asks for it no more."""
        askers = [one for one in self.all_askers if one != trace_id]
        if self.is_executed:
            return self._replace(askers=askers)
        first, *more = askers or (b"",)
        return self._replace(trace_id=first, start_ns=self.start_ns if first else 0, askers=more)

    @property
    def all_askers(self) -> Sequence[bytes]:
        """Return the traces that ask for it, but for those that execute it, too, if any does."""
        return self.askers if self.is_executed or not self.trace_id else [self.trace_id, *self.askers]

    def is_elsewhere(self, trace_id: bytes) -> bool:
        """Return whether another trace executes it."""
        return self.is_executed and (self.trace_id != trace_id or any(one.trace_id != trace_id for one in self.others))


NOT_KNOWN = KnownCall(is_executed=False)
"""In place of an id that nobody names any more."""


class ToolRows:
    """Rows as they are now: a session's are asked for by each of its calls, and change with it.

    Whatever counts tool calls holds them, and nothing that they hold: rings of objects would keep what a request read.
    """

    def __init__(self, read: Callable[[Key], bytes | None], changes: Changes, now_ns: int) -> None:
        self._read = read
        self._changes = changes
        self._now_ms = now_ns // 1_000_000
        self._values: dict[Key, tuple[Any, ...]] = {}
        self._changed: dict[Key, None] = {}

    def load(self, key: Key) -> Any:
        """Return the values of a row, none where there is no such row."""
        values = self._values.get(key)
        if values is None:
            record = self._read(key)
            if record is None:
                return ()
            values = self._values[key] = tuple(unpack(record)[2:])
        return values

    def save(self, key: Key, *values: object) -> None:
        """Keep the values of a row."""
        self._values[key] = values
        self._changed[key] = None

    def write(self) -> None:
        """Write the rows that changed, each once. Call once, after all tool calls."""
        for key in self._changed:
            self._changes.replace[key] = pack([1, self._now_ms, *self._values[key]])
        self._changes.expire += self._changed


class ToolReports:
    """The rows of call ids, and what a report that comes, moves or leaves changes of the others of its call."""

    def __init__(self, tenant: bytes, rows: ToolRows) -> None:
        self._tenant = tenant
        self._rows = rows
        self.changes: list[ReportChange] = []

    def known(self, session: bytes, call_id: str) -> KnownCall | None:
        """Return what is known of a call of a session by its id."""
        values = self._rows.load(tool_call_key(self._tenant, session, call_id))
        return KnownCall.of(values) if values else None

    def change(self, session: bytes, call_id: str, before: KnownCall, after: KnownCall) -> None:
        """Keep what is known of a call now; traces that ask for it are to know whether others execute it."""
        self._rows.save(tool_call_key(self._tenant, session, call_id), *after.values)
        for trace_id in sorted({*before.askers, *after.askers}) if after.askers or before.askers else ():
            if before.is_elsewhere(trace_id) != (is_elsewhere := after.is_elsewhere(trace_id)):
                self.changes.append(ExecutedElsewhere(trace_id, session, call_id, is_elsewhere))

    def take_changes(self) -> list[ReportChange]:
        """Return once what has changed of other spans, in order."""
        changes, self.changes = self.changes, []
        return changes

    def takes(self, span: Span, report: Report, others: Collection[Report]) -> bool:
        """Return whether a further report of a call has it from now on; note that the one before has it no more."""
        first = min(others)
        if first < report:
            return False
        self.changes.append(PassedCall(first, True, span))
        return True

    def pass_on(self, span: Span, others: Collection[Report], *, failed: bool) -> bool:
        """Let the next one have what a report had that left; return whether any is known. `failed`: others say so."""
        if others and not span.again:
            self.changes.append(PassedCall(min(others), False, span, failed and span.fails))
        elif others and span.failed_before and not failed:
            self.changes.append(FailedCall(min(others), False, span))
        return bool(others)

    def tell_failure(self, span: Span, others: Collection[Report]) -> None:
        """Let the report that has a call be counted for a failure that a further one alone tells."""
        if others and span.detail.failed:
            self.changes.append(FailedCall(min(others), True, span))

    def note_asked(self, session: bytes, span: Span, trace_id: bytes) -> None:
        """Note that a trace asks for calls, and let its span know which of them others execute."""
        asked = {*span.detail.asked[::2]}
        elsewhere: set[str] = set()
        for identifier in dict.fromkeys((*span.detail.asked[::2], *span.detail.stuck[::2])):
            if is_made_id(identifier):
                continue
            known = self.known(session, identifier) or NOT_KNOWN
            if known.is_elsewhere(trace_id):
                elsewhere.add(identifier)
            elif known.is_executed:
                continue
            if identifier in asked and not known.trace_id:
                known = KnownCall(trace_id, False, span.start_ns, known.askers)
            elif known.is_executed or known.trace_id != trace_id:
                known = known._replace(askers=known.askers_with(trace_id))
            else:
                continue
            self._rows.save(tool_call_key(self._tenant, session, identifier), *known.values)
        if elsewhere or span.elsewhere:
            span.elsewhere = frozenset(elsewhere)

    def move_asked(
        self, before: bytes, session: bytes, span: Span, trace_id: bytes, still_asked: Container[str]
    ) -> None:
        """Note in another session what a span asks for; `still_asked` its trace goes on to ask for in that before."""
        for identifier in (*span.detail.asked[::2], *span.detail.stuck[::2]):
            known = None if is_made_id(identifier) or identifier in still_asked else self.known(before, identifier)
            if known is not None and trace_id in known.all_askers:
                self._rows.save(tool_call_key(self._tenant, before, identifier), *known.without_asker(trace_id).values)
        self.note_asked(session, span, trace_id)
