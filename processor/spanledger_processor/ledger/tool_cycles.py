"""Cycles of tool calls among a session's latest ones: which calls come in turn, in their order, and how often.

Steps are a session's calls by their start, as `accounting.loops` judges them. Read when it is asked for: of a loop only
that it is one is stored, on the steps that complete it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

ToolStep: TypeAlias = Sequence[Any]
"""A step as it is stored (`accounting.loops.LoopStep`)."""

SIGNATURE, RESULT, CYCLES, AGENT, COMPLETES = 0, 1, 4, 7, 8
"""Indexes in a step: of the digest of its signature, of its result, of how often its tool may be called in turn, of the
digest of its agent, and of whether it completes a loop. Earlier releases wrote less of it."""
LENGTHS = range(2, 6)
"""Calls of a cycle."""


class Cycle(NamedTuple):
    """Calls in turn, by the digests of their signatures, from the first of them on; and how often all of them came."""

    calls: tuple[bytes, ...]
    rounds: int


def agent_in(step: ToolStep) -> bytes:
    """Return the digest of a step's agent."""
    return step[AGENT] if len(step) > AGENT else b""


def looped(step: ToolStep) -> bool:
    """Return whether a step completes a loop; of one that an earlier release wrote it is not known."""
    return len(step) > COMPLETES and bool(step[COMPLETES])


def is_same(step: ToolStep, before: ToolStep) -> bool:
    """Return whether two steps are the same call, to one result or to one that is not known."""
    one, other = step[RESULT], before[RESULT]
    return bool(step[SIGNATURE] == before[SIGNATURE] and not (one and other and one != other))


def cycles_in(steps: Sequence[ToolStep]) -> dict[bytes, Cycle]:
    """Return for each call that completes a loop of several calls in turn the cycle that it went round most often."""
    cycles: dict[bytes, Cycle] = {}
    by_agent: dict[bytes, list[ToolStep]] = {}
    for step in steps:
        of_agent = by_agent.setdefault(agent_in(step), [])
        of_agent.append(step)
        for cycle in _ended_by(of_agent) if looped(step) else ():
            if step[SIGNATURE] not in cycles or cycle.rounds >= cycles[step[SIGNATURE]].rounds:
                cycles[step[SIGNATURE]] = cycle
    return cycles


def _ended_by(steps: Sequence[ToolStep]) -> Iterator[Cycle]:
    """Yield the shortest cycle that the last step is the end of, if it is the end of one."""
    for length in LENGTHS:
        same = 0
        while len(steps) > length + same and is_same(steps[-1 - same], steps[-1 - same - length]):
            same += 1
        calls = tuple([step[SIGNATURE] for step in steps[-same - length :][:length]])
        if 1 + same // length >= max(2, steps[-1][CYCLES] or 0) and len({*calls}) > 1:
            yield Cycle(calls, 1 + same // length)
            return
