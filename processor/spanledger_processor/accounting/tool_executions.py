"""Find which reports of a tool call, of one session and signature, are of one execution: a function of their set.

Those with an id are of one by that. Those without one are looked at in the order of their starts: each is of the first
execution that some report of its own lies together with in time, and that no report of the same source tells of; the
executions with ids come first, each by its earliest start. Where there is none, it is an execution by itself.

So a report that comes late, or leaves, may show that another one is of another execution than it was taken for: that
one is misplaced, and is moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from spanledger_processor.accounting.one_call import LOG_AFTER_NS, SLACK_NS, together
from spanledger_processor.accounting.tool_reports import MOST_REPORTS, Report
from spanledger_processor.accounting.trace import Span
from spanledger_processor.ledger.tool_repeats import counts_in

ROW_ID, ROW_START, ROW_END, ROW_SOURCES, ROW_RESULT, ROW_PROGRESS = range(6)
"""Indexes in the row of an execution, as it is stored: of its call id, times, sources (one a report), result, and of
the session's progress then.
"""
_NAMED, _OF_OTHER_ID, _LOOSE, _WHOLE, _LOOSE_WHOLE = 2, 3, 5, 6, 8
"""Lengths of a source: scope and whether it is a log event, and behind them nothing where the report has the id of its
row; another id (rows of earlier releases); which report it is, where it has no id; beside others of a row, also its
times (the end alone of one without an id), its result and its agent.
"""


class RowReport(NamedTuple):
    """A report in the row of an execution. `report` says which it is, where it has no call id.

    `is_whole`: the times, result and agent are its own; else they are those of its row, as earlier releases kept them.
    """

    scope: str
    logged: bool
    call_id: str
    report: Report | None
    start_ns: int
    end_ns: int
    result: bytes
    agent: bytes
    is_whole: bool = True

    @classmethod
    def of(cls, span: Span, report: Report | None, agent: bytes) -> RowReport:
        """Return the report of a span."""
        loose = None if span.call_id else report
        times = span.start_ns, span.end_ns
        return cls(span.scope, span.logged, span.call_id, loose, *times, span.tool_result, agent)

    @property
    def source(self) -> tuple[str, bool]:
        """Return who reports: of one execution each does so once."""
        return self.scope, self.logged

    def is_of(self, span: Span, report: Report) -> bool:
        """Return whether it is the report of a span."""
        if self.report is not None:
            return self.report == report
        times = (span.start_ns, span.end_ns) if self.is_whole else (self.start_ns, self.end_ns)
        return (*self.source, self.call_id, self.start_ns, self.end_ns) == (
            span.scope,
            span.logged,
            span.call_id,
            *times,
        )


def rows_in(values: Sequence[Any]) -> tuple[int, list[list[Any]]]:
    """Return how often a call was made, and the rows of its executions, as they are written now.

    Earlier releases kept no id in a row that began with a report without one.
    """
    times, rows = counts_in(values)
    for row in rows:
        row[ROW_ID] = row[ROW_ID] or next((one[2] for one in row[ROW_SOURCES] if len(one) == _OF_OTHER_ID), "")
    return times, rows


def reports_in(row: Sequence[Any], agent: bytes = b"") -> list[RowReport]:
    """Return the reports in a row; of its only one the `agent` stands elsewhere."""
    sources = row[ROW_SOURCES]
    return [_report_in(row, source, agent, is_only=len(sources) == 1) for source in sources]


def _report_in(row: Sequence[Any], source: Sequence[Any], agent: bytes, *, is_only: bool) -> RowReport:
    scope, logged, *rest = source
    call_id, start_ns, end_ns, _, result, *_ = row
    if len(source) == _LOOSE_WHOLE:
        known = Report(*rest[:3])
        return RowReport(scope, logged, "", known, known.start_ns, *rest[3:])
    if len(source) == _WHOLE:
        return RowReport(scope, logged, call_id, None, *rest)
    report = Report(*rest) if len(source) == _LOOSE else None
    own_id = "" if report is not None else rest[0] if len(source) == _OF_OTHER_ID else call_id
    return RowReport(scope, logged, own_id, report, start_ns, end_ns, result, agent, is_only)


def join(row: list[Any], report: RowReport, agent: bytes) -> None:
    """Keep one more report in a row; the `agent` is that of its only one so far."""
    reports = reports_in(row, agent)
    if len(reports) < MOST_REPORTS:
        keep_reports(row, [*reports, report])


def keep_reports(row: list[Any], reports: Sequence[RowReport]) -> None:
    """Keep reports, one at least, in a row, and what they tell together."""
    row[ROW_SOURCES] = [_source_of(row, one, is_only=len(reports) == 1) for one in reports]
    whole = [one for one in reports if one.is_whole]
    starts, ends = [one.start_ns for one in whole], [one.end_ns for one in whole]
    results = [one.result for one in whole]
    if len(whole) < len(reports):
        starts, ends, results = [*starts, row[ROW_START]], [*ends, row[ROW_END]], [*results, row[ROW_RESULT]]
    row[ROW_START], row[ROW_END], row[ROW_RESULT] = min(starts), max(ends), max(results)


def _source_of(row: Sequence[Any], one: RowReport, *, is_only: bool) -> list[Any]:
    loose = [] if one.report is None else [*one.report]
    other_id = [one.call_id] if one.call_id != row[ROW_ID] and not loose else []
    if is_only or not one.is_whole or other_id:
        return [*one.source, *loose, *other_id]
    return [*one.source, *(loose or [one.start_ns]), one.end_ns, one.result, one.agent]


def row_of(span: Span, rows: list[list[Any]], report: Report) -> list[Any] | None:
    """Return the row of an execution that a span has reported; None where it is remembered no more."""
    for row in rows:
        if row[ROW_ID] == span.call_id if span.call_id else any(one.report == report for one in reports_in(row)):
            return row
    return next((row for row in rows if _most_alike(span, row[ROW_ID], reports_in(row)) is not None), None)


def _most_alike(span: Span, row_id: str, reports: Sequence[RowReport]) -> RowReport | None:
    """Return the report of a row that a span's is like: a first release did not say which reports a row has."""
    if row_id and span.call_id and row_id != span.call_id:
        return None
    alike = (one for one in reports if one.report is None and one.source == (span.scope, span.logged))
    return next((one for one in alike if row_id == span.call_id or together(span, one)), None)


def without_report(row: list[Any], span: Span, report: Report, agent: bytes) -> tuple[RowReport, list[RowReport]]:
    """Return what the row of an execution keeps of a report, and the other reports there."""
    reports = reports_in(row, agent)
    own = next((one for one in reports if one.is_of(span, report)), None) or _most_alike(span, row[ROW_ID], reports)
    if own is None:  # one of more than are kept
        return RowReport.of(span, report, agent)._replace(result=row[ROW_RESULT]), reports
    return own, [one for one in reports if one is not own]


class Placed(NamedTuple):
    """The row of a report, None where it is of an execution that has none, and the reports in rows of other ones."""

    row: int | None
    misplaced: Sequence[Report]


@dataclass(slots=True)
class _Execution:
    """Reports of one execution, each with the index of its row; None where it is in none."""

    call_id: str
    members: list[tuple[int | None, RowReport]] = field(default_factory=list)
    sources: set[tuple[str, bool]] = field(default_factory=set)

    def add(self, index: int | None, report: RowReport) -> None:
        self.members.append((index, report))
        self.sources.add(report.source)

    def holds(self, report: RowReport) -> bool:
        """Return whether a report without an id is of it."""
        return report.source not in self.sources and any(together(report, one) for _, one in self.members)


def place(rows: Sequence[list[Any]], new: RowReport, *, is_first_of_id: bool) -> Placed:
    """Return the row of a report that comes, and which others are to be moved from then on.

    `is_first_of_id`: its id is known by no other report, so that a row without an id may take it.
    """
    if new.call_id and not any(_has_loose(row) for row in rows):
        return Placed(next((at for at, row in enumerate(rows) if row[ROW_ID] == new.call_id), None), ())
    if not new.call_id and all(_is_of_source(row, new.source) for row in rows):
        return Placed(None, ())
    return _placed(rows, new, is_first_of_id=is_first_of_id)


def misplaced(rows: Sequence[list[Any]]) -> Sequence[Report]:
    """Return the reports without an id that are in rows of other executions than theirs."""
    if not any(_has_loose(row) for row in rows) or all(
        _is_of_source(row, (*rows[0][ROW_SOURCES][0][:2],)) for row in rows
    ):
        return ()
    return _placed(rows, None).misplaced


def _has_loose(row: Sequence[Any]) -> bool:
    return not row[ROW_ID] or any(len(source) in (_LOOSE, _LOOSE_WHOLE) for source in row[ROW_SOURCES])


def _is_of_source(row: Sequence[Any], source: tuple[str, bool]) -> bool:
    return not row[ROW_ID] and len(row[ROW_SOURCES]) == 1 and (*row[ROW_SOURCES][0][:2],) == source


def _placed(rows: Sequence[list[Any]], new: RowReport | None, *, is_first_of_id: bool = False) -> Placed:
    near = _near(rows, new)
    members = [(at, one) for at in near for one in reports_in(rows[at])]
    executions = _executions([*members, (None, new)] if new is not None else members)
    of_id = {rows[at][ROW_ID]: at for at in near if rows[at][ROW_ID]}
    without_id = {at for at in near if not rows[at][ROW_ID]}
    index: int | None = None
    moving: list[Report] = []
    for execution in executions:
        row = of_id.get(execution.call_id) if execution.call_id else None
        if row is None and (not execution.call_id or is_first_of_id):
            row = next((at for at, _ in execution.members if at in without_id), None)
            without_id.discard(-1 if row is None else row)
        for at, one in execution.members:
            if one is new:
                index = row
            elif at != row and one.report is not None:
                moving.append(one.report)
    return Placed(index, moving)


def _executions(members: Iterable[tuple[int | None, RowReport]]) -> list[_Execution]:
    """Return the executions that reports tell of."""
    of_id: dict[str, _Execution] = {}
    loose: list[tuple[Report, int | None, RowReport]] = []
    for at, one in sorted(members, key=lambda member: (member[1].start_ns, member[1].call_id)):
        if one.report is not None:
            loose.append((one.report, at, one))
        else:  # one of a first release, of which it is not known which report it is, has no id either
            of_id.setdefault(one.call_id or f"\0{at}", _Execution(one.call_id)).add(at, one)
    executions = [*of_id.values()]
    for _, at, one in sorted(loose, key=itemgetter(0)):
        execution = next((known for known in executions if known.holds(one)), None)
        if execution is None:
            executions.append(execution := _Execution(""))
        execution.add(at, one)
    return executions


def _near(rows: Sequence[list[Any]], new: RowReport | None) -> Sequence[int]:
    """Return which rows a report may change, in their order: those near it in time, those near these, and so on."""
    if new is None:
        return range(len(rows))
    first, last = new.start_ns, new.end_ns
    for row in rows if new.call_id else ():
        if row[ROW_ID] == new.call_id:
            first, last = min(first, row[ROW_START]), max(last, row[ROW_END])
    is_logged = (new.logged, *(source[1] for row in rows for source in row[ROW_SOURCES]))
    reach = LOG_AFTER_NS if any(is_logged) else SLACK_NS
    near: set[int] = set()
    while True:
        more = {
            at
            for at, row in enumerate(rows)
            if at not in near and row[ROW_START] <= last + reach and first <= row[ROW_END] + reach
        }
        if not more:
            return sorted(near)
        near |= more
        first = min(first, *(rows[at][ROW_START] for at in more))
        last = max(last, *(rows[at][ROW_END] for at in more))
