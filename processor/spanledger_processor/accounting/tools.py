"""Count how often a session makes the same tool call, and find loops of tool calls."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from spanledger_processor.accounting.facts import Fact, LoopRule, in_pairs
from spanledger_processor.accounting.grouping import NOTHING
from spanledger_processor.accounting.one_call import together
from spanledger_processor.accounting.trace import Span
from spanledger_processor.dialects.asked_tools import is_made_id
from spanledger_processor.ledger.facts import AHEAD_NS, EARLIEST_NS, activity_ns
from spanledger_processor.ledger.keys import bounded_id, id_bytes, repeat_key, tool_call_key, tool_key, tool_times_key
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import Changes, Key

ROWS = 32
"""Executions remembered of one call: a second report of one arrives within seconds, and loops are shorter."""
_ASKED = b"\1"
"""Before the session in the counts of calls that models asked for, of which nothing tells results."""
_LENGTHS = range(2, 6)
"""Calls of a cycle."""
_LATEST = 40
"""A session's latest calls that are remembered: eight cycles of five."""
_STEP_RESULT, _STARTED, _RULE, _CALL, _ENDED, _AGENT = 1, 2, 3, 5, 6, 7
"""Indexes in a step of its result, of its start, of how often its tool may be called in a row and in turn, of the
digest of its call id, of its end, and of the digest of its agent (empty where no report names one). Before them is the
signature's digest. Steps that earlier releases wrote end with the start, the call id or the end.
"""
_NEVER = (0, 0)
"""The rule for a call whose arguments are not known: it completes no loop."""
_PROGRESS, _REPEATS = 5, 2
"""Index of the progress in a row of an execution; and in what follows from there, of how often the call had been made,
in a row and in turn. Rows that earlier releases wrote end before that."""
_RESULT = 4
"""Index of an execution's result in its row; before it call id, start, end and sources, behind it the progress."""
_FAILED = 10
"""Index of whether a report said that it failed; likewise."""


@dataclass(frozen=True, slots=True)
class ToolRepeats:
    """The counts at one report of a tool execution: its session made the same call `times`, `in_a_row` of them last.

    `stuck` of them came to nothing new: with one result, or with none that is known, within the window, and without a
    call of the session between them that came to another result than before. `again`: another report reported this
    execution before. `completes` is whether it is the last of so many calls in a row, or in turn, that came to nothing
    new, among those of the session that began before it. With `again`, where this report has the same signature
    (`same`), `failed` is whether an earlier one said that it failed. `shift` is how many more of the calls that began
    after it, and had come before, complete a loop now that it is known (fewer, if negative): how many a session has
    does not depend on the order in which its calls come.
    """

    times: int
    in_a_row: int
    stuck: int
    again: bool
    completes: bool = False
    same: bool = False
    failed: bool = False
    shift: int = 0

    def is_loop(self, rule: LoopRule) -> bool:
        """Return whether the call completes a loop."""
        return self.completes or 0 < rule.repeats <= self.stuck


class _Known(NamedTuple):
    """What is known of a call by its id: the trace that executed it, else the one that asked for it (none where that
    gave it up), since when (0: not known), and whether a report of it was a loop, or said that it failed.

    `asked_by` is the trace of the model's span that it is counted with although it has a span of its own elsewhere.
    """

    trace_id: bytes = b""
    is_executed: bool = True
    start_ns: int = 0
    asked_by: bytes = b""
    is_loop: bool = False
    failed: bool = False


class ToolCounts:
    """Counts calls by session and signature; an execution that is reported twice counts once.

    Two reports are of one execution where they have one call id, or where one has none, they come from two sources
    (two libraries, a span and a log event) and lie together in time, one to one. Small records: how often a session
    made this very call with the latest executions, which call it made last and how often in a row, how often it has
    come to a new result, its latest calls in turn, and which call ids it has named.
    """

    def __init__(
        self, tenant: bytes, read: Callable[[Key], bytes | None], changes: Changes, now_ns: int, rule: LoopRule
    ) -> None:
        self._tenant = tenant
        self._read = read
        self._changes = changes
        self._values: dict[Key, tuple[Any, ...]] = {}
        """Rows as they are now: a session's are asked for by each of its calls, and change with it."""
        self._changed: dict[Key, None] = {}
        self._now_ms = now_ns // 1_000_000
        self._latest_end_ns = now_ns + AHEAD_NS
        """A later end is of a clock that was never set: how long such a call was under way is not known."""
        self._rule = rule
        self._window_ns = rule.window_ns
        self._gap_ns = rule.gap_ns
        self._calls = rule.calls

    def ask(self, session: bytes, span: Span, trace_id: bytes, fact: Fact) -> None:
        """Note the tool calls that a model's span asks for, less those that another trace's spans have executed.

        A loop that its input completes (`stuck`) is none where its first step began before the window, or two of its
        steps are further apart than the largest gap. Where nothing tells results (`asked_signatures`), the calls
        themselves complete loops.
        """
        self._find_asked_loops(session, span, fact.asked_signatures, _agent_of(fact))
        detail = span.detail
        elsewhere = {
            identifier
            for identifier in (*detail.asked[::2], *detail.stuck[::2])
            if self._is_executed_elsewhere(session, identifier, trace_id)
        }
        before = {
            identifier
            for identifier, steps in zip(detail.stuck[::2], fact.stuck_steps, strict=False)
            if self._is_interrupted(session, identifier, steps, span.start_ns)
        }
        for identifier in () if span.is_reported_elsewhere else detail.asked[::2]:
            known = None if is_made_id(identifier) else self._known(session, identifier)
            if not is_made_id(identifier) and (known is None or not (known.trace_id or known.is_executed)):
                self._save_call(session, identifier, _Known(trace_id, False, span.start_ns))
        if elsewhere or before:
            asked, stuck = _without(detail.asked, elsewhere), _without(detail.stuck, elsewhere | before)
            span.detail = detail._replace(asked=asked, stuck=stuck)
        for identifier, signature, tool, times, in_a_row in fact.asked_again:
            loop = identifier in span.detail.stuck[::2]
            self._note_asked(session, span, tool, signature, (times, in_a_row, loop))

    def _find_asked_loops(self, session: bytes, span: Span, signatures: Sequence[str], agent: bytes) -> None:
        """Add to what is `stuck` the calls that complete loops of calls of which nothing tells results.

        They have counts of their own: a session whose tools' executions are reported has results, or may have them yet.
        """
        if not signatures or self._load(tool_key(self._tenant, session), ()):
            return
        detail, stuck = span.detail, list[str]()
        for (identifier, tool), signature in zip(in_pairs(detail.asked), signatures, strict=True):
            step = Span(b"", start_ns=span.start_ns, end_ns=span.end_ns, session=NOTHING, call_id=identifier)
            step.signature = signature or identifier  # a call whose arguments are not known is like no other
            entered = self._enter(_ASKED + session, step, self._rule_of(tool), agent)
            is_loop = entered.is_loop(self._rule.of(tool)) or entered.shift > 0
            if is_loop:
                stuck += (identifier, tool)
            if signature and entered.times > 1:
                self._note_asked(session, span, tool, signature, (entered.times, entered.in_a_row, is_loop))
        if stuck:
            span.detail = detail._replace(stuck=(*detail.stuck, *stuck))

    def give_up(self, session: bytes, span: Span, trace_id: bytes) -> tuple[str, ...]:
        """Return the tools that a span asks for and whose own spans, in other traces, are not counted because of that.

        What else it asks for counts where a span of a tool comes, since another trace reports the span, too.
        """
        kept: list[str] = []
        for identifier, tool in in_pairs(span.detail.asked):
            known = self._known(session, identifier)
            if known is not None and known.asked_by == trace_id:
                kept.append(tool)
            elif known is not None and not known.is_executed and known.trace_id == trace_id:
                self._save_call(session, identifier, known._replace(trace_id=b""))
        return tuple(kept)

    def is_first_loop(self, session: bytes, span: Span, repeats: ToolRepeats) -> bool:
        """Return whether no other report of an execution has shown the loop that it completes."""
        known = self._known(session, span.call_id) if span.call_id else None
        if known is not None and not known.is_loop:
            self._save_call(session, span.call_id, known._replace(is_loop=True))
        return not repeats.again or (not repeats.same and known is not None and not known.is_loop)

    def _known(self, session: bytes, identifier: str) -> _Known | None:
        values = self._load(tool_call_key(self._tenant, session, identifier), ())
        return _Known(*values) if values else None

    def _save_call(self, session: bytes, identifier: str, known: _Known) -> None:
        self._save(tool_call_key(self._tenant, session, identifier), *known)

    def _is_interrupted(self, session: bytes, last: str, steps: Sequence[str], now_ns: int) -> bool:
        """Return whether steps of a conversation are too far apart to be a loop, by when they were asked for first.

        Of `last`, the latest of them, that is `now_ns` unless it is known; other steps of which it is not are left out.
        """
        known = [self._known(session, identifier) for identifier in (*steps[:-1], last)]
        times = [one.start_ns if one is not None else 0 for one in known]
        times[-1] = times[-1] or now_ns
        starts = sorted(filter(None, times))
        gaps = (later - earlier for earlier, later in pairwise(starts))
        return starts[-1] - starts[0] > self._window_ns or any(gap > self._gap_ns for gap in gaps)

    def _is_executed_elsewhere(self, session: bytes, identifier: str, trace_id: bytes) -> bool:
        known = self._known(session, identifier)
        return known is not None and known.is_executed and known.trace_id != trace_id

    def count(self, session: bytes, span: Span, trace_id: bytes, fact: Fact) -> ToolRepeats:
        """Enter one report of an execution in `session`, also of one of which only the name of the tool is known."""
        known = self._known(session, span.call_id) if span.call_id else None
        is_known = known is not None and known.is_executed
        name_only = fact.signature is None or fact.signature.scope == "name_only"
        rule = _NEVER if name_only else self._rule_of(span.detail.tool)
        repeats = self._enter(session, span, rule, _agent_of(fact))
        if span.call_id and not is_known:
            asked_by = known.trace_id if known is not None and known.trace_id != trace_id else b""
            span.asked_before = bool(asked_by)
            counts_there = b"" if repeats.again else asked_by
            known = _Known(trace_id, True, span.start_ns, counts_there, failed=repeats.failed or span.detail.failed)
            self._save_call(session, span.call_id, known)
        elif known is not None and is_known:
            repeats = replace(repeats, again=True, failed=repeats.failed or known.failed)
            if span.detail.failed and not known.failed:
                self._save_call(session, span.call_id, known._replace(failed=True))
        if repeats.failed:
            span.detail = span.detail._replace(failed=False)  # it is counted with the report that said so first
        return repeats

    def enter_named(self, session: bytes, span: Span, without: bytes) -> int | None:
        """Enter a known execution in the session that is named only now; return what it adds to the loops there.

        `without` is what its session was while none was named: None where its step there is not remembered.
        """
        _, _, _, *more = self._load(tool_key(self._tenant, without), ("", 0, 0))
        short = _short(span.signature)
        found = (one for one in (more[1] if more else ()) if one[0] == short and one[_STARTED] == span.start_ns)
        step = next(found, None)
        if step is None or len(step) < _CALL:
            return None
        span.tool_result = step[_STEP_RESULT]
        rule = step[_RULE], step[_RULE + 1]
        repeats = self._enter(session, span, rule, _agent_in(step))
        is_loop = rule != _NEVER and repeats.is_loop(self._rule.of(span.detail.tool))
        return int(is_loop and self.is_first_loop(session, span, repeats)) + repeats.shift

    def _rule_of(self, tool: str) -> tuple[int, int]:
        """Return how often a tool may be called in a row, and in turn."""
        rule = self._rule.of(tool) if self._rule.tools else self._rule
        return rule.consecutive, rule.cycles

    def _enter(self, session: bytes, span: Span, rule: tuple[int, int], agent: bytes) -> ToolRepeats:
        """Enter a call in the rows of its session and signature, unless it is a further report of one there."""
        times_key = tool_times_key(self._tenant, session, span.signature)
        row_key = tool_key(self._tenant, session)
        times, rows = self._load(times_key, (0, []))
        last, in_a_row, progress, *more = self._load(row_key, ("", 0, 0))
        number, latest = more or (0, [])
        index = _reported_at(span, rows)
        if index is not None:
            failed = len(rows[index]) > _FAILED and rows[index][_FAILED]
            rows[index][_FAILED:] = [failed or span.detail.failed] if len(rows[index]) >= _FAILED else []
            self._save(times_key, times, rows)
            then = rows[index][_PROGRESS:]
            stuck = self._stuck(span, rows[: index + 1], then[0], then[1] if len(then) > 1 else number)
            was = then[_REPEATS:] or (times, in_a_row if last == span.signature else 1, False)
            completes, shift = self._tell_result(latest, span, rows[index], agent)
            if shift is not None:
                self._save(row_key, last, in_a_row, progress, number, latest)
            return ToolRepeats(
                was[0],
                was[1],
                stuck,
                True,
                bool(was[2]) if completes is None else completes,
                same=True,
                failed=failed,
                shift=shift or 0,
            )
        in_a_row = in_a_row + 1 if last == span.signature else 1
        if rows and _differ(rows[-1][_RESULT], span.tool_result):
            progress += 1
        number += 1
        source = [[span.scope, span.logged]]
        latest, completes, shift = self._step(latest, span, rule, agent)
        row = [span.call_id, span.start_ns, span.end_ns, source, span.tool_result, progress, number]
        rows = [*rows[-ROWS + 1 :], [*row, times + 1, in_a_row, completes, span.detail.failed]]
        self._save(times_key, times + 1, rows)
        self._save(row_key, span.signature, in_a_row, progress, number, latest)
        stuck = self._stuck(span, rows, progress, number)
        return ToolRepeats(times + 1, in_a_row, stuck, again=False, completes=completes, shift=shift)

    def _step(
        self, latest: list[list[Any]], span: Span, rule: tuple[int, int], agent: bytes
    ) -> tuple[list[list[Any]], bool, int]:
        """Return a session's latest steps with a further one, by their start; whether it completes a loop, and how many
        more of those behind it do.

        One that began before all that are remembered, where more are not, is none of them. A report of a call that is
        one already, under another signature, is no further one; it gives its signature to one that had no arguments.
        """
        call = _short(span.call_id) if span.call_id else b""
        ended_ns = span.end_ns if span.end_ns <= self._latest_end_ns else span.start_ns
        step = [_short(span.signature), span.tool_result, span.start_ns, *rule, call, ended_ns, agent]
        known = next((at for at, one in enumerate(latest) if one[_CALL:_ENDED] == [call]), None) if call else None
        if known is not None:
            if rule == _NEVER or tuple(latest[known][_RULE:_CALL]) != _NEVER:
                step = latest[known]
            named = [*step[:_STARTED], latest[known][_STARTED], *step[_RULE:_ENDED], *latest[known][_ENDED:]]
            steps = [*latest[:known], _of_agent(named, agent), *latest[known + 1 :]]
            shift = self._completed(steps, known + 1) - self._completed(latest, known + 1)
            return steps, self._completes(steps, known), shift
        place = bisect_right(latest, span.start_ns, key=itemgetter(_STARTED))
        if place == 0 and len(latest) >= _LATEST:
            return latest, False, 0
        steps = [*latest[:place], step, *latest[place:]]
        shift = self._completed(steps, place + 1) - self._completed(latest, place)
        return steps[-_LATEST:], self._completes(steps, place), shift

    def _tell_result(
        self, latest: list[list[Any]], span: Span, row: list[Any], agent: bytes
    ) -> tuple[bool | None, int | None]:
        """Give the step of a row the result and agent that a further report has; return whether it completes a loop,
        and how many more do. None where it is not remembered, and where nothing has changed.
        """
        short, started = _short(span.signature), row[1]
        place = next((at for at, step in enumerate(latest) if step[0] == short and step[_STARTED] == started), None)
        if place is None:
            return None, None
        step = _of_agent(latest[place], agent)
        step[_STEP_RESULT] = row[_RESULT]
        if latest[place] == step:
            return self._completes(latest, place), None
        before = self._completed(latest, place)
        latest[place] = step
        return self._completes(latest, place), self._completed(latest, place) - before

    def _completed(self, steps: list[list[Any]], first: int) -> int:
        """Return how many steps from a place on complete a loop."""
        return sum(self._completes(steps, place) for place in range(first, len(steps))) if first < len(steps) else 0

    def _completes(self, steps: list[list[Any]], place: int) -> bool:
        """Return whether a step is the last of as many in a row, or in turn, to nothing new, as are a loop.

        Those of other agents are no part of it: what several do at once, each of them once, is none.
        """
        step = steps[place]
        consecutive, cycles = step[_RULE:_CALL] or (self._rule.consecutive, self._rule.cycles)
        if consecutive <= 0 and cycles <= 0:
            return False
        if consecutive != 1 and cycles != 1 and step[0] not in [one[0] for one in steps[:place]]:
            return False  # as almost always: the call was not made before
        earliest_ns = step[_STARTED] - self._window_ns
        within = [one for one in steps[: place + 1] if one[_STARTED] >= earliest_ns][-self._calls :]
        agent = _agent_in(step)
        within = [one for one in within if (one[_AGENT] if len(one) > _AGENT else b"") == agent]
        calls = [one[0] for one in within]
        if 0 < consecutive <= len(within) and calls[-consecutive:].count(step[0]) == consecutive:
            row = within[-consecutive:]
            if all(_is_same(step, one) for one in row) and not self._has_gap(row):
                return True
        for length in _LENGTHS if cycles > 0 else ():
            if cycles > 1 and calls[-1 - length : -length] != calls[-1:]:
                continue
            if _in_turn(within, length, cycles) >= cycles and not self._has_gap(within[-length * cycles :]):
                return True
        return False

    def _has_gap(self, loop: list[list[Any]]) -> bool:
        """Return whether a pause between two steps of a loop is too large: a time in which none of them was under way.

        Other calls under way do not matter, such as a server that one of them started and that runs for hours.
        """
        ended_ns = loop[0][_STARTED]
        for step in loop:
            if step[_STARTED] - ended_ns > self._gap_ns:
                return True
            ended_ns = max(ended_ns, step[_STARTED], *step[_ENDED:_AGENT])
        return False

    def note_repeat(self, session_id: str, trace_id: bytes, fact: Fact, repeats: ToolRepeats, *, loop: bool) -> None:
        """Keep for readers which call a session has made again, how often, and whether it ever completed a loop."""
        if repeats.times < 2 or fact.signature is None:
            return
        session = id_bytes(session_id) or b"\0" + trace_id
        key = repeat_key(self._tenant, session, fact.signature.value)
        *_, most_in_a_row, looped, last_ns = self._load(key, ("", "", "", 0, 0, False, 0))
        tool = fact.call.tool.name if fact.call is not None and fact.call.tool is not None else ""
        named = (bounded_id(session_id), bounded_id(tool or ""), fact.signature.value)
        _, rows = self._load(tool_times_key(self._tenant, session, fact.signature.value), (0, []))
        latest_ns = max(self._activity_ns(end_ns) for end_ns in (fact.end_ns, *(row[2] for row in rows)))
        last_ns = max(latest_ns, last_ns if last_ns <= self._latest_end_ns else 0)
        self._save(key, *named, repeats.times, max(most_in_a_row, repeats.in_a_row), looped or loop, last_ns)

    def _note_asked(self, session: bytes, span: Span, tool: str, signature: str, seen: tuple[int, int, bool]) -> None:
        """Keep for readers which call a session asked for again: how often, in a row, and whether that was a loop.

        Where executions of it are reported, which are the same calls, they are counted instead.
        """
        times, _ = self._load(tool_times_key(self._tenant, session, signature), (0, []))
        if times > 1:
            return
        key = repeat_key(self._tenant, session, signature)
        *_, before, in_a_row, looped, last_ns = self._load(key, ("", "", "", 0, 0, False, 0))
        name = "" if session.startswith(b"\0") else session.decode("utf-8", "surrogatepass")
        seen = max(before, seen[0]), max(in_a_row, seen[1]), looped or seen[2]
        ends = (self._activity_ns(span.end_ns), last_ns if last_ns <= self._latest_end_ns else 0)
        self._save(key, bounded_id(name), bounded_id(tool), signature, *seen, max(ends))

    def _activity_ns(self, at_ns: int) -> int:
        """Return the time of an event as activity; 0 of one from a clock that was never set."""
        return activity_ns(at_ns, self._latest_end_ns - AHEAD_NS) if at_ns >= EARLIEST_NS else 0

    def _stuck(self, span: Span, rows: list[list[Any]], progress: int, number: int) -> int:
        """Return how many of the latest executions had no new result; `number` counts the session's calls."""
        stuck = 0
        own, earliest_ns = span.tool_result, span.start_ns - self._window_ns
        for _, start_ns, _, _, result, since, *more in reversed(rows):
            if since != progress or start_ns < earliest_ns or (result and own and result != own):
                break
            if more and more[0] <= number - self._calls:
                break
            stuck += 1
        return stuck

    def _load(self, key: Key, absent: tuple[Any, ...]) -> Any:
        values = self._values.get(key)
        if values is None:
            record = self._read(key)
            if record is None:
                return absent
            values = self._values[key] = tuple(unpack(record)[2:])
        return values

    def _save(self, key: Key, *values: object) -> None:
        self._values[key] = values
        self._changed[key] = None

    def save(self) -> None:
        """Write the rows that changed, each once. Call once, after all tool calls."""
        for key in self._changed:
            self._changes.replace[key] = pack([1, self._now_ms, *self._values[key]])
        self._changes.expire += self._changed


def _without(named: tuple[str, ...], ids: set[str]) -> tuple[str, ...]:
    """Return ids and names in turn, less those of `ids`."""
    return tuple(text for pair in in_pairs(named) if pair[0] not in ids for text in pair)


def history_loop(steps: Sequence[tuple[str, str]], rule: LoopRule) -> int:
    """Return how many of a conversation's latest tool calls make the loop that the last one completes; 0: none.

    Each call has what came of it beside it, empty where that is not known.
    """
    rows = [[call, result.encode("utf-8", "surrogatepass"), 0] for call, result in steps[-rule.calls :]]
    same = [before for before, row in enumerate(reversed(rows)) if _is_same(row, rows[-1])]
    in_a_row = next((number for number, before in enumerate(same) if before != number), len(same))
    loops = [length * rule.cycles for length in _LENGTHS if 0 < rule.cycles <= _in_turn(rows, length, rule.cycles)]
    if 0 < rule.consecutive <= in_a_row:
        loops.append(rule.consecutive)
    if 0 < rule.repeats <= len(same):
        loops.append(same[rule.repeats - 1] + 1)
    return min(loops, default=0)


def _in_turn(steps: list[list[Any]], length: int, wanted: int) -> int:
    """Return how often the last `length` calls came in turn, the same each time and to nothing new; 0 or 1 where that
    is less than `wanted`.
    """
    if wanted > 1 and (len(steps) <= length or not _is_same(steps[-1], steps[-1 - length])):
        return 0  # as almost always
    if len({step[0] for step in steps[-length:]}) < 2:
        return 0  # one call again and again is no cycle
    same = 0
    while len(steps) >= length + same + 1 and _is_same(steps[-1 - same], steps[-1 - same - length]):
        same += 1
    return 1 + same // length


def _is_same(step: list[Any], before: list[Any]) -> bool:
    one, other = step[1], before[1]
    return bool(step[0] == before[0] and not (one and other and one != other))


def _agent_of(fact: Fact) -> bytes:
    """Return the digest of the agent that a report of a call names, by its id if it has one; empty if it names none."""
    agent = (fact.call.agent_id if fact.call is not None else "") or fact.agent
    return _short(agent) if agent else b""


def _agent_in(step: list[Any]) -> bytes:
    return step[_AGENT] if len(step) > _AGENT else b""


def _of_agent(step: list[Any], agent: bytes) -> list[Any]:
    """Return a step with the agent that a further report names: one of the two, whichever came first."""
    return [*step[:_AGENT], max(_agent_in(step), agent)] if len(step) >= _AGENT else [*step]


def _short(signature: str) -> bytes:
    return blake2b(signature.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _reported_at(span: Span, rows: list[list[Any]]) -> int | None:
    """Return which of the rows is this execution, None if none is, and add the span's source to that row."""
    source = [span.scope, span.logged]
    for index, row in enumerate(rows):
        call_id, start_ns, end_ns, sources = row[:_RESULT]
        if call_id and span.call_id:
            if call_id == span.call_id:
                row[_RESULT] = row[_RESULT] or span.tool_result
                return index
            continue
        if source not in sources and together(span, _reported_span(start_ns, end_ns, sources[0])):
            sources.append(source)
            row[_RESULT] = row[_RESULT] or span.tool_result
            return index
    return None


def _differ(one: bytes, other: bytes) -> bool:
    """Return whether both results are known and are not the same."""
    return bool(one and other and one != other)


def _reported_span(start_ns: int, end_ns: int, source: list[Any]) -> Span:
    return Span(b"", start_ns=start_ns, end_ns=end_ns, scope=source[0], logged=source[1], session=NOTHING)
