"""From the counts that a vocabulary gives to `Usage`: one sense of "input" and "output" for all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from spanledger_processor.model import Usage


class Input(Enum):
    """What a source's count of input tokens means."""

    INCLUSIVE = "includes cache reads and writes"
    EXCLUSIVE = "excludes cache reads and writes"
    UNSURE = "includes them by the convention, but sources of this kind are known that do not"


class Output(Enum):
    """What a source's count of output tokens means."""

    INCLUSIVE = "includes reasoning"
    EXCLUSIVE = "excludes reasoning"
    FROM_TOTAL = "may lack reasoning: the total tells"


@dataclass(slots=True)
class Counts:
    """Counts as they came. None: not told. `cache_write` is all cache writes, the other two parts of it."""

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None


@dataclass(slots=True)
class NormalizedUsage:
    """A usage; `problem` where the counts contradict each other, `estimate` where another reading was possible."""

    usage: Usage
    problem: str = ""
    estimate: bool = False


def normalize(counts: Counts, means: Input, output: Output = Output.INCLUSIVE) -> NormalizedUsage:
    """The usage that counts stand for.

    "Cache reads and writes exceed the input" proves it exclusive whatever a table says, and so does a total that is
    their sum where the table is unsure; both are arithmetic, not a guess.
    """
    normalized = NormalizedUsage(
        Usage(counts.input, counts.output, counts.cache_read, counts.cache_write, None, counts.reasoning)
    )
    if counts.cache_write_1h is not None or counts.cache_write_5m is not None:
        _split(counts, normalized)
    cached = (counts.cache_read or 0) + (normalized.usage.cache_write or 0)
    if cached and counts.input is not None:
        _place_cache(counts, cached, means, normalized)
    if output is not Output.INCLUSIVE:
        _add_reasoning(counts, normalized, output)
    return normalized


def _split(counts: Counts, normalized: NormalizedUsage) -> None:
    short, hour = counts.cache_write_5m, counts.cache_write_1h
    write = counts.cache_write or None  # LangChain leaves the sum at 0 where it tells the parts
    if write is None and not short and not hour:
        normalized.usage.cache_write, normalized.usage.cache_write_1h = counts.cache_write or 0, hour
        return
    if short is None and hour is not None and write is not None:
        short = write - hour
    elif hour is None and short is not None and write is not None:
        hour = write - short
    usage = normalized.usage
    if (short is not None and short < 0) or (hour is not None and hour < 0):
        normalized.problem = "cache writes by time to live exceed all cache writes"
        return
    if short is not None and hour is not None:
        if write is not None and write > short + hour:
            return  # the split covers a part only: of the rest nothing is known
        usage.cache_write = short + hour
    else:
        usage.cache_write = write if write is not None else (short or 0) + (hour or 0)
    usage.cache_write_1h = hour


def _place_cache(counts: Counts, cached: int, means: Input, normalized: NormalizedUsage) -> None:
    given = counts.input or 0
    if means is Input.UNSURE:
        proof = counts.total is not None and counts.total == given + cached + (counts.output or 0)
        normalized.estimate = not proof and cached <= given
        means = Input.EXCLUSIVE if proof else Input.INCLUSIVE
    if means is Input.EXCLUSIVE or cached > given:
        normalized.usage.input = given + cached


def _add_reasoning(counts: Counts, normalized: NormalizedUsage, means: Output) -> None:
    usage = normalized.usage
    if counts.output is None:
        return
    if means is Output.EXCLUSIVE:
        usage.output = counts.output + (counts.reasoning or 0)
        return
    if counts.total is None or usage.input is None:
        normalized.estimate = normalized.estimate or (counts.reasoning is None and counts.output > 0)
        return
    missing = counts.total - usage.input - counts.output
    if missing > 0:
        usage.output = counts.output + missing
        if usage.reasoning is None:
            usage.reasoning = missing
