"""Count how often a session makes the same tool call, whoever tells of it, and keep what readers ask of that."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from msgspec import structs

from spanledger_processor.accounting.execution_counts import Counted, ToolRepeats
from spanledger_processor.accounting.facts import Fact, LoopRule, in_pairs
from spanledger_processor.accounting.grouping import NOTHING
from spanledger_processor.accounting.loops import (
    CALL,
    ENDED,
    NEVER,
    RULE,
    STARTED,
    LoopRules,
    LoopStep,
    Revised,
    joined,
    latest_in,
    place_of_call,
    place_of_like,
    rule_in,
    step_of,
)
from spanledger_processor.accounting.one_call import InTime
from spanledger_processor.accounting.tool_executions import (
    ROW_END,
    ROW_ID,
    ROW_PROGRESS,
    ROW_RESULT,
    ROW_START,
    RowReport,
    join,
    keep_reports,
    misplaced,
    place,
    reports_in,
    row_of,
    rows_in,
    without_report,
)
from spanledger_processor.accounting.tool_reports import (
    NOT_KNOWN,
    KnownCall,
    MisplacedReport,
    Report,
    ToolReports,
    ToolRows,
)
from spanledger_processor.accounting.trace import Span
from spanledger_processor.ledger.facts import AHEAD_NS, EARLIEST_NS, activity_ns
from spanledger_processor.ledger.keys import bounded_id, id_bytes, repeat_key, tool_key, tool_times_key
from spanledger_processor.ledger.store import Changes, Key
from spanledger_processor.ledger.tool_cycles import AGENT, SIGNATURE, agent_in, looped
from spanledger_processor.ledger.tool_repeats import ASKED, Repeat, digest_of, session_in

ROWS = 32
"""Executions remembered of one call: a second report of one arrives within seconds, and loops are shorter."""
_REPEATS, _FAILED, _FULL = 2, 10, 11
"""Indexes in the row of an execution, behind those of `tool_executions`: in what follows from the session's progress,
of how often the call had been made, in a row and in turn; of how many reports said that it failed; and of whether its
arguments are known. Rows that earlier releases wrote end before the repeats, or the last one.
"""


class _Entered(NamedTuple):
    """`row` is the row of an execution that other reports told of before: those of them without an id are `loose`."""

    repeats: ToolRepeats
    loops: int
    failed_before: bool
    row: Sequence[Any] = ()
    loose: Sequence[Report] = ()
    misplaced: Sequence[Report] = ()


class _Stored(NamedTuple):
    """What is stored of a call of a session (`rows_in`) and of the session (`latest_in`), each with its key."""

    times_key: Key
    row_key: Key
    times: int
    rows: list[list[Any]]
    last: str
    in_a_row: int
    progress: int
    number: int
    steps: list[LoopStep]


class _Left(NamedTuple):
    """What is remembered of an execution that left a session: its result, agent, rule, and whether its arguments are
    known.
    """

    result: bytes
    agent: bytes
    rule: tuple[int, int]
    is_full: bool


class ToolCounts:
    """Counts calls by session and signature; an execution that is reported twice counts once.

    Which reports are of one execution, `tool_executions` says. Small records: how often a session
    made this very call with the latest executions, which call it made last and how often in a row, how often it has
    come to a new result, its latest calls in turn, and which call ids it has named. A report whose session turns out to
    be another one leaves the counts of the one before, and is entered in those of the new one. `reports` says what that
    changes of other spans.
    """

    def __init__(
        self, tenant: bytes, read: Callable[[Key], bytes | None], changes: Changes, now_ns: int, rule: LoopRule
    ) -> None:
        self._tenant = tenant
        self._rows = ToolRows(read, changes, now_ns)
        self._latest_end_ns = now_ns + AHEAD_NS
        """A later end is of a clock that was never set: how long such a call was under way is not known."""
        self._rule = rule
        self._steps = LoopRules(rule)
        self.reports = ToolReports(tenant, self._rows)

    def ask(self, session: bytes, span: Span, trace_id: bytes, fact: Fact) -> None:
        """Note the tool calls that a model's span asks for, and which of them other traces' spans execute.

        A loop that its input completes (`stuck`) is none where its first step began before the window, or two of its
        steps are further apart than the largest gap. Where nothing tells results (`asked_signatures`), the calls
        themselves complete loops.
        """
        self._find_asked_loops(session, span, fact.asked_signatures, _agent_of(fact))
        detail = span.detail
        before = {
            identifier
            for identifier, steps in zip(detail.stuck[::2], fact.stuck_steps, strict=False)
            if self._is_interrupted(session, identifier, steps, span.start_ns)
        }
        self.reports.note_asked(session, span, trace_id)
        if before:
            span.detail = structs.replace(detail, stuck=_without(detail.stuck, before))
        if fact.asked_again:
            loops = {*span.detail.stuck[::2]} - span.elsewhere
            again = [(what, tool, times, row, one in loops) for one, what, tool, times, row in fact.asked_again]
            span.detail = structs.replace(span.detail, asked_again=tuple(again))
            self._note_asked_again(session, span, 1)

    def _find_asked_loops(self, session: bytes, span: Span, signatures: Sequence[str], agent: bytes) -> None:
        """Add to what is `stuck` the calls that complete loops of calls of which nothing tells results.

        They have counts of their own: a session whose tools' executions are reported has results, or may have them yet,
        and completes none of these loops. Its calls are counted all the same: executions may prove to be of another.
        """
        if not signatures:
            return
        span.detail = structs.replace(span.detail, asked_signatures=tuple(signatures))
        detail, stuck = span.detail, list[str]()
        has_executions = self._has_executions(session)
        for tool, step in _asked_steps(span):
            repeats = self._enter_asked(session, span, tool, step, agent)
            if not has_executions and (repeats.is_loop(self._rule.of(tool)) or repeats.shift > 0):
                stuck += (step.call_id, tool)
        if stuck:
            span.detail = structs.replace(detail, stuck=(*detail.stuck, *stuck))

    def _has_executions(self, session: bytes) -> bool:
        *_, latest = latest_in(self._rows.load(tool_key(self._tenant, session)))
        return bool(latest)

    def _enter_asked(self, session: bytes, span: Span, tool: str, step: Span, agent: bytes) -> ToolRepeats:
        """Enter a call that a span asks for, and of which nothing tells results."""
        is_full = step.signature != step.call_id
        repeats, *_ = self._enter(ASKED + session, step, self._rule_of(tool), agent, is_full=is_full)
        if is_full and repeats.times > 1:
            self._note_repeat(session, span, tool, step.signature)
        return repeats

    def _move_asked_steps(self, before: bytes, session: bytes, span: Span, trace_id: bytes) -> None:
        """Move such calls to another session. Loops that were found stay with the spans that completed them."""
        for tool, step in _asked_steps(span):
            _, left = self._leave(ASKED + before, step, trace_id)
            agent = left.agent if left is not None else digest_of(span.detail.agent) if span.detail.agent else b""
            self._enter_asked(session, span, tool, step, agent)

    def _is_interrupted(self, session: bytes, last: str, steps: Sequence[str], now_ns: int) -> bool:
        """Return whether steps of a conversation are too far apart to be a loop, by when they were asked for first.

        Of `last`, the latest of them, that is `now_ns` unless it is known; other steps of which it is not are left out,
        and so is the last one if its span tells no start.
        """
        known = [self.reports.known(session, identifier) for identifier in (*steps[:-1], last)]
        times = [one.start_ns if one is not None else 0 for one in known]
        times[-1] = times[-1] or now_ns
        starts = sorted(filter(None, times))
        gaps = (later - earlier for earlier, later in pairwise(starts))
        is_long = bool(starts) and starts[-1] - starts[0] > self._rule.window_ns
        return is_long or any(gap > self._rule.gap_ns for gap in gaps)

    def count(self, session: bytes, span: Span, trace_id: bytes, fact: Fact) -> ToolRepeats:
        """Enter one report of an execution in `session`, also of one of which only the name of the tool is known."""
        is_full = fact.signature is not None and fact.signature.scope != "name_only"
        rule = self._rule_of(span.detail.tool) if is_full else NEVER
        return self._report(session, span, trace_id, rule, _agent_of(fact), is_full=is_full)

    def _report(
        self, session: bytes, span: Span, trace_id: bytes, rule: tuple[int, int], agent: bytes, *, is_full: bool
    ) -> ToolRepeats:
        """Enter a report of an execution, and let its span say what it adds."""
        report, failed = Report(span.start_ns, trace_id, span.span_id), span.detail.failed
        repeats, loops, failed_before, row, loose, moving = self._enter(
            session, span, rule, agent, report, is_full=is_full
        )
        call_id = span.call_id or (row[ROW_ID] if row else "")
        known = (self.reports.known(session, call_id) if call_id else None) or NOT_KNOWN
        again = False
        if row or known.is_executed:
            others = {*known.known_reports, *loose}
            again = known.has_unknown_reports or not others or not self.reports.takes(span, report, others)
            failed_before = failed_before or known.failed > 0
            if again and not failed_before and not known.has_unknown_reports:
                self.reports.tell_failure(span, others)
        if call_id:
            before = _with_loose(known, loose, row[_FAILED] - failed if len(row) > _FAILED else 0)
            self.reports.change(session, call_id, known, before.with_report(report, failed=failed))
        is_first = not repeats.again and not known.is_executed
        if is_full and repeats.is_repeated(self._rule.of(span.detail.tool)) and is_first and not repeats.completes:
            loops += 1
        Counted(again, failed and failed_before, False, loops).give(span)
        if is_full and repeats.times > 1:
            self._note_repeat(session, span, span.detail.tool, span.signature)
        self._tell_misplaced(session, moving)
        return repeats if repeats.again == again else structs.replace(repeats, again=again)

    def _tell_misplaced(self, session: bytes, reports: Sequence[Report]) -> None:
        self.reports.changes += [MisplacedReport(one, session) for one in reports]

    def place_anew(self, session: bytes, span: Span, trace_id: bytes) -> Counted | None:
        """Take a report without an id out of the execution that it is kept as one of, and enter it as one of its own;
        return what it takes out, or None where it is in its place.
        """
        _, rows = rows_in(self._rows.load(tool_times_key(self._tenant, session, span.signature)))
        if Report(span.start_ns, trace_id, span.span_id) not in misplaced(rows):
            return None
        return self._take_over(session, session, span, trace_id)

    def move(self, before: bytes, session: bytes, span: Span, trace_id: bytes, still_asked: Container[str]) -> Counted:
        """Take a known span out of the counts of the session that it was taken to belong to, and enter it in others;
        return what it takes out. `still_asked` are calls that its trace goes on to ask for in the session before.
        """
        out = Counted.of(span)
        if not span.signature:
            self._move_asked(before, session, span, trace_id, still_asked)
            return out
        return self._take_over(before, session, span, trace_id)

    def _take_over(self, before: bytes, session: bytes, span: Span, trace_id: bytes) -> Counted:
        """Take a report out of the counts of one session, and enter it in those of another, or in the same."""
        out, left = self._leave(before, span, trace_id)
        if left is not None:
            span.tool_result = left.result
            self._report(session, span, trace_id, left.rule, left.agent, is_full=left.is_full)
        return out

    def _leave(self, session: bytes, span: Span, trace_id: bytes) -> tuple[Counted, _Left | None]:
        """Take a report of an execution out of a session: return what leaves with it, and what is remembered of it."""
        stored = self._stored(session, span.signature)
        report = Report(span.start_ns, trace_id, span.span_id)
        row = row_of(span, stored.rows, report)
        if row is None:
            return Counted.of(span), None
        at = _place_of(span.signature, row, stored.steps)
        step = None if at is None else stored.steps[at]
        own, others = without_report(row, span, report, b"" if step is None else agent_in(step))
        failed = int(span.detail.failed)
        row[_FAILED:] = [max(0, row[_FAILED] - failed), *row[_FULL:]] if len(row) > _FAILED else []
        times, rows = stored.times, stored.rows
        if others:
            keep_reports(row, others)
        else:
            times, rows = times - 1, [one for one in rows if one is not row]
        self._rows.save(stored.times_key, times, rows)
        failed_there = row[_FAILED] if len(row) > _FAILED else 0
        known = self.reports.known(session, row[ROW_ID]) if row[ROW_ID] else None
        after = NOT_KNOWN
        if known is not None:
            after = known.without_report(report, failed=span.detail.failed)
            self.reports.change(session, row[ROW_ID], known, after)
            failed_there += after.failed
        is_last = not others and not after.is_executed
        left_there = {*after.known_reports, *(one.report for one in others if one.report is not None)}
        again, elsewhere = span.again, span.failed_elsewhere
        if not is_last and not self.reports.pass_on(span, left_there, failed=failed_there > 0):
            again, elsewhere = True, False
        failed_before = span.failed_before or (again and failed_there > 0)
        loops = span.loops if is_last else 0
        changed = None if step is None or is_last else self._step_of_reports(step, row, others, after)
        if changed != step:
            revised = self._steps.revised(stored.steps, at, changed)
            loops = -revised.own - revised.shift
            self._save_steps(stored, revised)
        self._tell_misplaced(session, misplaced(rows))
        is_full = len(row) > _FULL and bool(row[_FULL])
        rule = (self._rule_of(span.detail.tool) if is_full else NEVER) if step is None else rule_in(step)
        left = _Left(own.result, own.agent, rule, is_full)
        return Counted(again, failed_before, is_last and span.asked_before, loops, elsewhere), left

    def _step_of_reports(
        self, step: LoopStep, row: list[Any], reports: Sequence[RowReport], known: KnownCall
    ) -> LoopStep:
        """Return a step as the reports tell it that are left of its execution."""
        if known.is_executed and not known.has_unknown_reports:
            started_ns = min(known.known_reports).start_ns
        elif reports and all(one.is_whole for one in reports):
            started_ns = row[ROW_START]
        else:
            return step
        is_all = not known.is_executed or known.reports == len(reports)
        if not is_all or len(step) <= AGENT or not all(one.is_whole for one in reports):
            return [*step[:STARTED], started_ns, *step[STARTED + 1 :]]
        ended_ns, agent = max(self._ended_ns(one) for one in reports), max(one.agent for one in reports)
        return [step[SIGNATURE], row[ROW_RESULT], started_ns, *step[RULE:ENDED], ended_ns, agent, looped(step)]

    def _ended_ns(self, one: InTime) -> int:
        return one.end_ns if one.end_ns <= self._latest_end_ns else one.start_ns

    def _move_asked(
        self, before: bytes, session: bytes, span: Span, trace_id: bytes, still_asked: Container[str]
    ) -> None:
        """Move what a model's span asks for."""
        self.reports.move_asked(before, session, span, trace_id, still_asked)
        self._move_asked_steps(before, session, span, trace_id)
        if span.detail.asked_again:
            self._note_asked_again(before, span, -1)
            self._note_asked_again(session, span, 1)

    def _rule_of(self, tool: str) -> tuple[int, int]:
        """Return how often a tool may be called in a row, and in turn."""
        rule = self._rule.of(tool) if self._rule.tools else self._rule
        return rule.consecutive, rule.cycles

    def _enter(
        self,
        session: bytes,
        span: Span,
        rule: tuple[int, int],
        agent: bytes,
        report: Report | None = None,
        *,
        is_full: bool,
    ) -> _Entered:
        """Enter a call in the rows of its session and signature, unless it is a further report of one there."""
        stored = self._stored(session, span.signature)
        new = RowReport.of(span, report, agent)
        is_first = not all(row[ROW_ID] for row in stored.rows) and not self._is_executed(session, span.call_id)
        index, moving = place(stored.rows, new, is_first_of_id=is_first)
        if index is None:
            entered = self._enter_first(session, span, stored, new, rule, is_full=is_full)
        else:
            entered = self._enter_again(span, stored, index, new, is_full=is_full)
        return entered._replace(misplaced=moving) if moving else entered

    def _enter_again(self, span: Span, stored: _Stored, index: int, new: RowReport, *, is_full: bool) -> _Entered:
        """Enter a further report of the execution whose row stands at `index`."""
        times, rows, steps = stored.times, stored.rows, stored.steps
        row = rows[index]
        failed_before = bool(len(row) > _FAILED and row[_FAILED])
        failed = int(failed_before and row[_FAILED]) + int(span.detail.failed)
        row[_FAILED:] = [failed, is_full] if len(row) >= _FAILED else []
        at = _place_of(span.signature, row, steps)
        step = None if at is None else steps[at]
        loose = [one.report for one in reports_in(row) if one.report is not None]
        row[ROW_ID] = row[ROW_ID] or span.call_id
        join(row, new, b"" if step is None else agent_in(step))
        self._rows.save(stored.times_key, times, rows)
        then = row[ROW_PROGRESS:]
        stuck = self._stuck(span, rows[: index + 1], then[0], then[1] if len(then) > 1 else stored.number)
        was = then[_REPEATS:] or (times, stored.in_a_row if stored.last == span.signature else 1, False)
        completes, revised = bool(was[2]), Revised(steps)
        if step is not None:
            revised = self._steps.revised(steps, at, self._retold(step, span, row, new.agent))
            completes = revised.completes
        if revised.steps != steps:
            self._save_steps(stored, revised)
        shift = revised.own + revised.shift
        repeats = ToolRepeats(was[0], was[1], stuck, True, completes, shift)
        return _Entered(repeats, shift, failed_before, row, loose)

    def _enter_first(
        self, session: bytes, span: Span, stored: _Stored, new: RowReport, rule: tuple[int, int], *, is_full: bool
    ) -> _Entered:
        """Enter the first report of an execution."""
        times, rows, progress, number = stored.times + 1, stored.rows, stored.progress, stored.number + 1
        in_a_row = stored.in_a_row + 1 if stored.last == span.signature else 1
        if rows and _differ(rows[-1][ROW_RESULT], span.tool_result):
            progress += 1
        revised = self._step(stored.steps, span, rule, new.agent)
        self._keep(session, revised)
        row = [span.call_id, span.start_ns, span.end_ns, [], span.tool_result, progress, number]
        keep_reports(row, [new])
        failed = int(span.detail.failed)
        rows = [*rows[-ROWS + 1 :], [*row, times, in_a_row, revised.completes, failed, is_full]]
        self._rows.save(stored.times_key, times, rows)
        self._rows.save(stored.row_key, span.signature, in_a_row, progress, number, revised.steps)
        stuck = self._stuck(span, rows, progress, number)
        repeats = ToolRepeats(times, in_a_row, stuck, False, revised.completes, revised.shift)
        return _Entered(repeats, revised.own + revised.shift, False)

    def _stored(self, session: bytes, signature: str) -> _Stored:
        times_key, row_key = tool_times_key(self._tenant, session, signature), tool_key(self._tenant, session)
        return _Stored(times_key, row_key, *rows_in(self._rows.load(times_key)), *latest_in(self._rows.load(row_key)))

    def _save_steps(self, stored: _Stored, revised: Revised) -> None:
        """Write a session's steps that changed; all else of it stays."""
        self._rows.save(stored.row_key, stored.last, stored.in_a_row, stored.progress, stored.number, revised.steps)

    def _is_executed(self, session: bytes, call_id: str) -> bool:
        known = self.reports.known(session, call_id) if call_id else None
        return known is not None and known.is_executed

    def _step(self, latest: list[LoopStep], span: Span, rule: tuple[int, int], agent: bytes) -> Revised:
        """Put a call among a session's steps, by its start.

        A report of a call that is one already, under another signature, is no further one; it gives its signature to
        one that had no arguments.
        """
        signature, ended_ns = digest_of(span.signature), self._ended_ns(span)
        step = step_of(signature, span.tool_result, span.start_ns, rule, span.call_id, ended_ns, agent)
        place = place_of_call(latest, span.call_id)
        if place is not None:
            known = latest[place]
            if (rule != NEVER, step[SIGNATURE]) < (rule_in(known) != NEVER, known[SIGNATURE]):
                step[SIGNATURE], step[RULE:CALL] = known[SIGNATURE], known[RULE:CALL]
            step = joined(step, known)
        return self._steps.revised(latest, place, step)

    def _retold(self, step: LoopStep, span: Span, row: list[Any], agent: bytes) -> LoopStep:
        """Return a step with what a further report tells of it."""
        rule = step[RULE:CALL] or self._rule_of(span.detail.tool)
        ended_ns = self._ended_ns(span)
        retold = step_of(step[SIGNATURE], row[ROW_RESULT], row[ROW_START], rule, row[ROW_ID], ended_ns, agent)
        return joined(retold, step)

    def _keep(self, session: bytes, revised: Revised) -> None:
        """Keep of steps that are no longer among the latest how many of a call were in a row, and that one looped."""
        for signature, in_a_row, is_loop in revised.left:
            key = repeat_key(self._tenant, session, signature)
            repeat = Repeat.of(self._rows.load(key)) if in_a_row > 1 or is_loop else None
            if repeat is not None:
                repeat.in_a_row, repeat.looped = max(repeat.in_a_row, in_a_row), repeat.looped or is_loop
                self._rows.save(key, *repeat.values)

    def _note_repeat(self, session: bytes, span: Span, tool: str, signature: str) -> None:
        """Keep for readers that a session has made a call again; how often, its counts say."""
        key, repeat = self._repeat(session, tool, signature)
        _, rows = rows_in(self._rows.load(tool_times_key(self._tenant, session, signature)))
        starts, ends = map(itemgetter(ROW_START), rows), map(itemgetter(ROW_END), rows)
        last_ns = repeat.last_ns if repeat.last_ns <= self._latest_end_ns else 0
        repeat.last_ns = max(self._activity_ns(span.start_ns, span.end_ns, *starts, *ends), last_ns)
        self._rows.save(key, *repeat.values)

    def _note_asked_again(self, session: bytes, span: Span, number: int) -> None:
        """Count, or with -1 take out again, what the messages of a model's span tell of calls that were made again."""
        for signature, tool, times, in_a_row, is_loop in span.detail.asked_again:
            key, repeat = self._repeat(session, tool, signature)
            repeat.count_asked((times, in_a_row, is_loop), number)
            last_ns = repeat.last_ns if repeat.last_ns <= self._latest_end_ns else 0
            repeat.last_ns = max(self._activity_ns(span.start_ns, span.end_ns), last_ns)
            self._rows.save(key, *repeat.values)

    def _repeat(self, session: bytes, tool: str, signature: str) -> tuple[Key, Repeat]:
        key = repeat_key(self._tenant, session, digest_of(signature))
        if (known := Repeat.of(self._rows.load(key))) is not None:
            return key, known
        name = session_in(session)
        repeat = Repeat(name, bounded_id(tool), signature, place=b"" if session == id_bytes(name) else session)
        earlier_key = repeat_key(self._tenant, session, signature.encode())
        if earlier := self._rows.load(earlier_key):
            repeat.take_over(earlier)
            self._rows.save(earlier_key)
        return key, repeat

    def _activity_ns(self, *times: int) -> int:
        """Return the latest of these times as activity; one from a clock that was never set is 0."""
        latest = max(times)
        if latest > self._latest_end_ns:
            latest = max(activity_ns(at_ns, self._latest_end_ns - AHEAD_NS) for at_ns in times)
        return latest if latest >= EARLIEST_NS else 0

    def _stuck(self, span: Span, rows: list[list[Any]], progress: int, number: int) -> int:
        """Return how many of the latest executions had no new result; `number` counts the session's calls."""
        stuck = 0
        own, earliest_ns = span.tool_result, span.start_ns - self._rule.window_ns
        for _, start_ns, _, _, result, since, *more in reversed(rows):
            if since != progress or start_ns < earliest_ns or (result and own and result != own):
                break
            if more and more[0] <= number - self._rule.calls:
                break
            stuck += 1
        return stuck

    def save(self) -> None:
        """Write the rows that changed, each once. Call once, after all tool calls."""
        self._rows.write()


def _without(named: tuple[str, ...], ids: set[str]) -> tuple[str, ...]:
    """Return ids and names in turn, less those of `ids`."""
    return tuple(text for pair in in_pairs(named) if pair[0] not in ids for text in pair)


def _asked_steps(span: Span) -> Iterator[tuple[str, Span]]:
    """Yield the tools of which a span asks for calls without results, and the calls as steps; one whose arguments are
    not known is like no other.
    """
    detail = span.detail
    for (identifier, tool), signature in zip(in_pairs(detail.asked), detail.asked_signatures, strict=False):
        step = Span(b"", start_ns=span.start_ns, end_ns=span.end_ns, session=NOTHING, call_id=identifier)
        step.signature = signature or identifier
        yield tool, step


def _agent_of(fact: Fact) -> bytes:
    """Return the digest of the agent that a report of a call names, by its id if it has one; empty if it names none."""
    agent = (fact.call.agent_id if fact.call is not None else "") or fact.agent
    return digest_of(agent) if agent else b""


def _place_of(signature: str, row: Sequence[Any], steps: Sequence[LoopStep]) -> int | None:
    """Return the place of an execution, by its row, among a session's steps; None where it is not remembered."""
    call_id, started_ns, ended_ns, _, result, *_ = row
    place = place_of_call(steps, call_id)
    return place_of_like(steps, digest_of(signature), started_ns, ended_ns, result) if place is None else place


def _with_loose(known: KnownCall, loose: Sequence[Report], failed: int) -> KnownCall:
    """Return what is known of a call by its id that takes the row of reports without one, of which so many failed."""
    if known.is_executed or not loose:
        return known
    for one in loose:
        known = known.with_report(one, failed=False)
    return known._replace(failed=failed)


def _differ(one: bytes, other: bytes) -> bool:
    """Return whether both results are known and are not the same."""
    return bool(one and other and one != other)
