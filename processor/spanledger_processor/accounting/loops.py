"""Find loops among the latest tool calls of a session, or of a conversation.

`steps` are a session's calls by their start. Whether each completes a loop is noted on it, so that it is a function of
the set of steps, whatever the order in which they come: what is put in, changed or taken out judges those behind it
anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from msgspec import Struct

from spanledger_processor.accounting.facts import LoopRule
from spanledger_processor.ledger.tool_cycles import (
    AGENT,
    COMPLETES,
    LENGTHS,
    RESULT,
    SIGNATURE,
    agent_in,
    is_same,
    looped,
)
from spanledger_processor.ledger.tool_repeats import digest_of

LoopStep: TypeAlias = list[Any]
"""Digest of its signature, result, start, how often its tool may be called in a row and in turn, digest of its call id,
end, digest of its agent (empty where no report names one), and whether it completes a loop. Steps that earlier
releases wrote end with the start, the call id, the end or the agent.
"""
STARTED, RULE, CALL, ENDED = 2, 3, 5, 6
NEVER = (0, 0)
"""The rule for a call whose arguments are not known: it completes no loop."""
_signature_of = itemgetter(SIGNATURE)
_LATEST = 40
"""A session's latest calls that are remembered: eight cycles of five."""


class Revised(Struct, frozen=True):
    """A session's steps after a change: whether that which was changed completes a loop, and how many more than before
    do so, of itself (`own`) and of others (`shift`); and the runs of calls that have left, the earliest first: digest
    of the signature, calls in a row, and whether one completed a loop.
    """

    steps: list[LoopStep]
    completes: bool = False
    own: int = 0
    shift: int = 0
    left: Sequence[tuple[bytes, int, bool]] = ()


class LoopRules:
    """The rules of loops over a session's steps."""

    def __init__(self, rule: LoopRule) -> None:
        self._rule = rule

    def revised(self, steps: list[LoopStep], place: int | None, step: LoopStep | None) -> Revised:
        """Return steps with one put in (`place` None), changed, or taken out (`step` None).

        One that began before all that are remembered, where more are not, is none of them.
        """
        others = steps if place is None else [*steps[:place], *steps[place + 1 :]]
        at = len(others) if step is None else bisect_right(others, _order(step), key=_order)
        if place is None and at == 0 and len(steps) >= _LATEST:
            return Revised(steps)
        first = min(at, len(others) if place is None else place)
        was = place is not None and self._did(steps, steps[place])
        changed = others if step is None else [*others[:at], step, *others[at:]]
        loops = (step is not None and looped(step)) - was
        for number in range(first, len(changed)):
            before = self._did(steps, changed[number])
            changed[number], completes = self._judged(changed, number, before=before)
            loops += completes - before
        completes = step is not None and looped(changed[at])
        own = completes - was
        left = [_run(changed, number) for number in range(max(0, len(changed) - _LATEST))]
        return Revised(changed[-_LATEST:], completes, own, loops - own, left)

    def _did(self, steps: list[LoopStep], step: LoopStep) -> bool:
        """Return whether a step has completed a loop so far; those of earlier releases do not say so."""
        if len(step) > COMPLETES:
            return bool(step[COMPLETES])
        return self.completes(steps, next(place for place, one in enumerate(steps) if one is step))

    def _judged(self, steps: list[LoopStep], place: int, *, before: bool) -> tuple[LoopStep, bool]:
        """Return a step with whether it completes a loop; `before` is whether it says so already."""
        step = steps[place]
        completes = self.completes(steps, place)
        if before == completes:
            return step, completes
        ended = step[ENDED] if len(step) > ENDED else step[STARTED]
        rule = step[RULE:CALL] or [self._rule.consecutive, self._rule.cycles]
        call = step[CALL] if len(step) > CALL else b""
        return [*step[:RULE], *rule, call, ended, agent_in(step), completes], completes

    def completes(self, steps: list[LoopStep], place: int) -> bool:
        """Return whether a step is the last of as many in a row, or in turn, to nothing new, as are a loop.

        Those of other agents are no part of it: what several do at once, each of them once, is none.
        """
        step = steps[place]
        consecutive, cycles = step[RULE:CALL] or (self._rule.consecutive, self._rule.cycles)
        fewest = min(consecutive, cycles) if min(consecutive, cycles) > 0 else max(consecutive, cycles)
        if fewest <= 0 or [*map(_signature_of, steps[: place + 1])].count(step[SIGNATURE]) < fewest:
            return False  # as almost always: the call was not made so often
        first = bisect_left(steps, step[STARTED] - self._rule.window_ns, key=itemgetter(STARTED))
        agent = agent_in(step)
        within = [one for one in steps[max(first, place + 1 - self._rule.calls) : place + 1] if agent_in(one) == agent]
        calls = [*map(_signature_of, within)]
        if 0 < consecutive <= len(within) and calls[-consecutive:].count(step[SIGNATURE]) == consecutive:
            row = within[-consecutive:]
            if all(is_same(step, one) for one in row) and not self._has_gap(row):
                return True
        for length in LENGTHS if cycles > 0 else ():
            if cycles > 1 and (len(calls) <= length or calls[-1 - length] != calls[-1]):
                continue
            if _in_turn(within, length, cycles) >= cycles and not self._has_gap(within[-length * cycles :]):
                return True
        return False

    def _has_gap(self, loop: list[LoopStep]) -> bool:
        """Return whether a pause between two steps of a loop is too large: a time in which none of them was under way.

        Other calls under way do not matter, such as a server that one of them started and that runs for hours.
        """
        ended_ns = loop[0][STARTED]
        for step in loop:
            if step[STARTED] - ended_ns > self._rule.gap_ns:
                return True
            ended_ns = max(ended_ns, step[STARTED], *step[ENDED:AGENT])
        return False


def latest_in(values: Sequence[Any]) -> Sequence[Any]:
    """Return a session's last call, its times in a row, the progress, the number of calls, and the latest of them, from
    the stored values, if there are any. The first releases wrote less of it.
    """
    return *values, *("", 0, 0, 0, [])[len(values) :]


def step_of(
    signature: bytes, result: bytes, started_ns: int, rule: Sequence[int], call_id: str, ended_ns: int, agent: bytes
) -> LoopStep:
    """Return the step of a call that completes no loop so far; `signature` and `agent` are digests."""
    call = digest_of(call_id) if call_id else b""
    return [signature, result, started_ns, *rule, call, ended_ns, agent, False]


def rule_in(step: LoopStep) -> tuple[int, int]:
    """Return how often the tool of a step may be called in a row, and in turn."""
    consecutive, cycles = step[RULE:CALL] or NEVER
    return consecutive, cycles


def joined(step: LoopStep, known: LoopStep) -> LoopStep:
    """Return a step with what two reports tell of it: its times reach over both, and of two results or agents it has
    one of the two, whichever came first.
    """
    started_ns, ended_ns = min(step[STARTED], known[STARTED]), max(step[ENDED], *known[ENDED:AGENT], known[STARTED])
    result, agent = max(step[RESULT], known[RESULT]), max(step[AGENT], agent_in(known))
    return [step[SIGNATURE], result, started_ns, *step[RULE:ENDED], ended_ns, agent, looped(known)]


def place_of_call(steps: Sequence[LoopStep], call_id: str) -> int | None:
    """Return the place of the step with a call's id; None where there is none, or no id."""
    call = digest_of(call_id) if call_id else b""
    return next((at for at, step in enumerate(steps) if step[CALL:ENDED] == [call]), None) if call else None


def place_of_like(
    steps: Sequence[LoopStep], signature: bytes, started_ns: int, ended_ns: int, result: bytes
) -> int | None:
    """Return the place of the step that is most like a call: with its signature and start, and if one has them, with
    its result and end.
    """
    alike = [at for at, step in enumerate(steps) if step[SIGNATURE] == signature and step[STARTED] == started_ns]
    return max(alike, key=lambda at: (steps[at][RESULT] == result, steps[at][ENDED:AGENT] == [ended_ns]), default=None)


def _order(step: LoopStep) -> tuple[Any, ...]:
    """Return the order of a step: by its start, and of those that began at once by what reports tell of them."""
    return step[STARTED], step[SIGNATURE], step[CALL:ENDED], step[RESULT], step[ENDED:COMPLETES]


def _run(steps: list[LoopStep], place: int) -> tuple[bytes, int, bool]:
    """Return the call at a place: how often it is made in a row from there on, and whether it completes a loop."""
    signature, number = steps[place][SIGNATURE], 1
    while place + number < len(steps) and steps[place + number][SIGNATURE] == signature:
        number += 1
    return signature, number, looped(steps[place])


def history_loop(steps: Sequence[tuple[str, str]], rule: LoopRule) -> int:
    """Return how many of a conversation's latest tool calls make the loop that the last one completes; 0: none.

    Each call has what came of it beside it, empty where that is not known.
    """
    rows = [[call, result.encode("utf-8", "surrogatepass"), 0] for call, result in steps[-rule.calls :]]
    same = [before for before, row in enumerate(reversed(rows)) if is_same(row, rows[-1])]
    in_a_row = next((number for number, before in enumerate(same) if before != number), len(same))
    loops = [length * rule.cycles for length in LENGTHS if 0 < rule.cycles <= _in_turn(rows, length, rule.cycles)]
    if 0 < rule.consecutive <= in_a_row:
        loops.append(rule.consecutive)
    if 0 < rule.repeats <= len(same):
        loops.append(same[rule.repeats - 1] + 1)
    return min(loops, default=0)


def _in_turn(steps: list[list[Any]], length: int, wanted: int) -> int:
    """Return how often the last `length` calls came in turn, the same each time and to nothing new; 0 or 1 where that
    is less than `wanted`.
    """
    if wanted > 1 and (len(steps) <= length or not is_same(steps[-1], steps[-1 - length])):
        return 0  # as almost always
    if len({step[0] for step in steps[-length:]}) < 2:
        return 0  # one call again and again is no cycle
    same = 0
    while len(steps) >= length + same + 1 and is_same(steps[-1 - same], steps[-1 - same - length]):
        same += 1
    return 1 + same // length
