"""From the counts that a vocabulary gives to `Usage`: one sense of "input" and "output" for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from operator import itemgetter
from typing import TypeAlias

from msgspec import Struct, field, structs

from spanledger_processor.model import Plan, ReportedCost, Usage


class Input(Enum):
    """Meaning of a source's count of input tokens."""

    INCLUSIVE = "includes cache reads and writes"
    EXCLUSIVE = "excludes cache reads and writes"
    PRESUMED = "includes them by the convention; nothing is known of the source"
    UNSURE = "includes them by the convention, but sources of this kind are known that do not"


class Output(Enum):
    """Meaning of a source's count of output tokens."""

    INCLUSIVE = "includes reasoning"
    EXCLUSIVE = "excludes reasoning"
    FROM_TOTAL = "may lack reasoning: the total tells"
    BEGUN = "is of a stream that was not read to its end, and may be more"


class Terms(Struct):
    """Terms of the price in a usage object, or in the response around it, beside the counts.

    `context` holds what was served, by the names of `Call.price_context`; "" is the standard. `unclassed` names what
    was used, has no usage class and may have a price. `own_cache`: the answer came from the application's own cache.
    """

    context: dict[str, str] = field(default_factory=dict)
    unclassed: tuple[str, ...] = ()
    reported: ReportedCost | None = None
    own_cache: bool = False
    plan: Plan = ""
    doubt: str = ""


NO_TERMS = Terms()
"""Says nothing, and is never changed."""


def joined(terms: Terms, more: Terms) -> Terms:
    """Return the terms of one call from two sources; where both have one, the first one's holds."""
    if not (more.context or more.unclassed or more.reported or more.own_cache or more.plan or more.doubt):
        return terms
    return Terms(
        {**more.context, **terms.context},
        tuple(dict.fromkeys((*terms.unclassed, *more.unclassed))),
        terms.reported or more.reported,
        terms.own_cache or more.own_cache,
        terms.plan or more.plan,
        terms.doubt or more.doubt,
    )


class Counts(Struct):
    """Counts as they came. None: not reported. `cache_write` is all cache writes, the other two parts of it.

    `parts` are classes that are copied as they are (`Tokens.parts`); `means` is what this very span shows its input to
    mean, whatever the table says of its source.
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    parts: dict[str, int] | None = None
    terms: Terms | None = None
    means: Input | None = None


COUNTS = tuple(one.name for one in structs.fields(Counts) if one.type == int | None)
"""Classes of `Counts`, in their order."""
CountValues: TypeAlias = tuple[
    int | None, int | None, int | None, int | None, int | None, int | None, int | None, int | None
]
"""What is reported of `COUNTS`."""
Arranged: TypeAlias = Callable[[Sequence[int | None]], CountValues]
"""Puts the numbers of some of them, with a None behind all, in the order of `COUNTS`."""


def arranged_by(places: Sequence[int]) -> Arranged:
    """Return what arranges numbers that are, in turn, of the classes at these places."""
    return itemgetter(*(places.index(place) if place in places else -1 for place in range(len(COUNTS))))


_SLACK_TOKENS, _SLACK_SHARE = 10, 50
"""A total may differ by so many tokens, or by this share of it (one in 50): tokenizers of clients are not exact."""

UNREAD = "its stream was not read to its end: the output may be more than was told until then"
TOTAL_DIFFERS = "the total that it tells differs from its counts: one of them leaves something out"


def no_text(counts: Counts, text: Mapping[str, int]) -> tuple[str, ...]:
    """Return a name for each of input and output that holds more than its text and the modalities that are reported.

    Up to a tenth may be what a provider adds to the text; LiteLLM's text of the input leaves cached tokens out.
    """
    written = counts.cache_write or (counts.cache_write_5m or 0) + (counts.cache_write_1h or 0)
    cached = {"input": (counts.cache_read or 0) + written}
    problems: list[str] = []
    for name, whole in (("input", counts.input), ("output", counts.output)):
        tokens = text.get(name)
        if tokens is None or not whole:
            continue
        others = sum((counts.parts or {}).get(f"{name}_{kind}", 0) for kind in ("audio", "image"))
        thoughts = (counts.reasoning or 0) if name == "output" else 0
        rest = whole - tokens - others - thoughts
        if rest * 10 > whole and rest != cached.get(name):
            problems.append(f"{name} that is no text")
    return tuple(problems)


class NormalizedUsage(Struct):
    """A usage; `problem` where the counts contradict each other, `estimate` where another reading was possible."""

    usage: Usage
    problem: str = ""
    estimate: bool = False


def normalize(counts: Counts, means: Input, output: Output = Output.INCLUSIVE) -> NormalizedUsage:
    """Return the usage of counts, by the meaning of its input and output.

    Where the table is not sure, a total that is the sum of input, caches and output proves the input exclusive, and so
    do caches that exceed it; unless the total denies that. Where nothing is known of the source, caches that exceed the
    input are only likely to mean so. Where the table says that the input includes them, they are a contradiction.
    Reasoning that an output cannot include is beside it.
    """
    normalized = NormalizedUsage(
        Usage(counts.input, counts.output, counts.cache_read, counts.cache_write, None, counts.reasoning)
    )
    if counts.cache_write_1h is not None or counts.cache_write_5m is not None:
        _split(counts, normalized)
    cached = (counts.cache_read or 0) + (normalized.usage.cache_write or 0)
    if cached and counts.input is not None:
        _place_cache(counts, cached, means, normalized)
    if output in (Output.INCLUSIVE, Output.BEGUN):
        _add_reasoning_beside(counts, normalized)
        normalized.estimate = normalized.estimate or output is Output.BEGUN
    else:
        _add_reasoning(counts, normalized, output)
    for name, number in (counts.parts or {}).items():
        setattr(normalized.usage, name, number)
    return normalized


def contradicted(counts: Counts, usage: Usage) -> bool:
    """Return whether a reported total differs strongly from every sum that libraries make of these counts.

    A total may leave out caches or reasoning, as its library counts them. What it has beyond that (Google's tokens of
    its own tools, thoughts that were not reported, another call) may have a price.
    """
    total = counts.total
    if not total or usage.input is None:
        return False
    output, cached = usage.output or 0, (usage.cache_read or 0) + (usage.cache_write or 0)
    slack = max(_SLACK_TOKENS, total // _SLACK_SHARE)
    if abs(total - usage.input - output) <= slack:
        return False  # nearly always
    inputs = usage.input, usage.input - cached, counts.input or 0
    outputs = output, counts.output or 0, output - (usage.reasoning or 0)
    return min(abs(total - prompt - completion) for prompt in inputs for completion in outputs) > slack


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
    given, output, total = counts.input or 0, counts.output or 0, counts.total
    if means is Input.EXCLUSIVE:
        normalized.usage.input = given + cached
        return
    proof = total is not None and total == given + cached + output
    if means is Input.INCLUSIVE:
        if cached > given:
            normalized.problem = "cache reads and writes exceed an input that includes them"
        normalized.estimate = proof
    elif proof or cached > given:
        normalized.usage.input = given + cached
        normalized.estimate = not proof and (means is Input.PRESUMED or total == given + output)
    else:
        normalized.estimate = means is Input.UNSURE


def _add_reasoning_beside(counts: Counts, normalized: NormalizedUsage) -> None:
    """Add reasoning to an output that is said to include it, and cannot: it is more, or the total has it beside that.

    So xAI counts, and libraries that are made for OpenAI's form copy it. A total without it may be a library's own.
    https://docs.x.ai/docs/key-information/consumption-and-rate-limits
    """
    usage, reasoning, output = normalized.usage, counts.reasoning or 0, counts.output
    if not reasoning or output is None:
        return
    is_in_total = usage.input is not None and counts.total == usage.input + output + reasoning
    if is_in_total or reasoning > output:
        usage.output = output + reasoning
        normalized.estimate = normalized.estimate or not (is_in_total and reasoning > output)


def _add_reasoning(counts: Counts, normalized: NormalizedUsage, means: Output) -> None:
    usage = normalized.usage
    if counts.output is None:
        return
    if means is Output.EXCLUSIVE:
        fits = counts.reasoning is not None and 0 < counts.reasoning <= counts.output
        if fits and usage.input is not None and counts.total == usage.input + counts.output:
            return  # the total has no place for it beside the output: a gateway's counts in Gemini's form
        usage.output = counts.output + (counts.reasoning or 0)
        normalized.estimate = normalized.estimate or (counts.reasoning is None and counts.output > 0)
        return
    if counts.total is None or usage.input is None:
        normalized.estimate = normalized.estimate or (counts.reasoning is None and counts.output > 0)
        _add_reasoning_beside(counts, normalized)
        return
    missing = counts.total - usage.input - counts.output
    if missing > 0:
        usage.output = counts.output + missing
        if usage.reasoning is None:
            usage.reasoning = missing
    else:
        _add_reasoning_beside(counts, normalized)
