"""Reads the usage of one span by one dialect's tables, completed by the provider's response on the span.

Classes that the span's own keys lack are taken from a response where both agree on input and output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from spanledger_processor.dialects.normalize import (
    NO_TERMS,
    TOTAL_DIFFERS,
    UNREAD,
    Counts,
    Input,
    Output,
    Terms,
    contradicted,
    joined,
    no_text,
    normalize,
)
from spanledger_processor.dialects.responses import Response, inside, models_in, read_response
from spanledger_processor.dialects.schema import (
    ANY_SOURCE,
    NO_TOKENS,
    Attributes,
    Dialect,
    Keys,
    ScopedSpan,
    Source,
    Tokens,
)
from spanledger_processor.dialects.usage_objects import ParsedUsage, read_usage
from spanledger_processor.dialects.values import MAX_COUNT, NoCountError, count
from spanledger_processor.model import CLASS_NAMES, CONTAINERS, NO_OUTPUT, Call, Usage

NO_COUNT = "a token count that is none"
_PARTS = tuple(name for name in CLASS_NAMES if name not in ("input", "output"))
_parts_of: Callable[[Usage], tuple[int | None, ...]] = attrgetter(*_PARTS)


def read_usage_of(call: Call, dialect: Dialect, view: ScopedSpan) -> Terms:
    """Fill `call.usage`, with what is wrong or unsure about it, or `call.fallback`; return terms of the price."""
    tokens = dialect.tokens
    means: Input | None = None
    try:
        counts = counts_under(tokens, view.attributes) if tokens is not NO_TOKENS else None
        if counts is None and dialect.aggregated is not NO_TOKENS and call.kind in CONTAINERS:
            counts = counts_under(dialect.aggregated, view.attributes)
        if counts is None and dialect.usage_texts:
            counts, means = _whole(dialect, view)
        if counts is not None and dialect.completes is not None and means is None:
            dialect.completes(view, counts)
    except NoCountError:
        call.problem = NO_COUNT
        counts = _valid(tokens, view)
    if counts is None:
        _read_answers(call, dialect, view)
        return NO_TERMS
    source = source_for(dialect.sources, call.provider)
    usage = _normalized(call, counts, means, source)
    terms = counts.terms or NO_TERMS
    if dialect.usage_texts:
        terms = _with_response(call, counts, terms, read_response(view, dialect.usage_texts))
    if call.kind == "llm" and usage.input == 0 and not dialect.increments:
        _never_asked(call, usage)
    if source.input is Input.EXCLUSIVE and usage.cache_read is None and usage.cache_write is None and not means:
        call.estimate = True  # what was cached is missing from the input as well
    if counts.total and call.usage is not None and contradicted(counts, call.usage):
        call.estimate = True
        call.note = call.note or TOTAL_DIFFERS
    return terms


def _read_answers(call: Call, dialect: Dialect, view: ScopedSpan) -> None:
    """Look for usage in raw answers on a span that tells none, and for the model that gave them."""
    locations = dialect.fallback_texts or (dialect.usage_texts if call.kind == "rerank" else ())
    if locations:
        _stand_in(call, read_response(view, locations))
        if call.fallback is not None and not call.model:
            models = models_in(view, locations)
            call.response_model = models.pop() if len(models) == 1 else ""
        # MLflow tells usage beside the answer for chat models alone (mlflow 3.18.0, `mlflow.openai.autolog`)
        if call.kind in NO_OUTPUT and call.fallback is not None:
            call.usage, call.fallback = call.fallback, None


def _stand_in(call: Call, response: Response) -> None:
    """Keep usage that only responses on the span have; an agent's output may hold those of several calls."""
    usages: list[Usage] = []
    for parsed in response.usages:
        usage = parsed.normalized.usage
        counted = (usage.input, usage.output)
        if _is_partial(parsed):
            continue
        if not parsed.normalized.problem and counted not in [(known.input, known.output) for known in usages]:
            usages.append(usage)
    if not usages:
        return
    if call.kind == "rerank":
        call.usage = usages[0]  # nothing else on such a span, or above it, tells its search units
        return
    call.fallback = usages[0]
    if call.kind in CONTAINERS and len(usages) > 1:
        call.fallback = Usage(**{name: _total(getattr(one, name) for one in usages) for name in CLASS_NAMES})
        call.estimate = True
        call.note = call.note or f"the usage of {len(usages)} answers in its output"


def _total(counts: Iterable[int | None]) -> int | None:
    values = list(counts)
    return None if None in values else sum(count or 0 for count in values)


def source_for(sources: tuple[Source, ...], provider: str) -> Source:
    """Return what the counts of a provider mean: the first of `sources` that is for it."""
    for source in sources:
        if not source.providers or provider.lower().startswith(source.providers):
            return source
    return ANY_SOURCE


def _normalized(call: Call, counts: Counts, means: Input | None, source: Source) -> Usage:
    normalized = normalize(counts, means or counts.means or source.input, source.output)
    usage = call.usage = normalized.usage
    call.problem = call.problem or normalized.problem
    call.estimate = normalized.estimate
    if source.output is Output.BEGUN:
        call.note = UNREAD
    if source.absent_cache_is_zero:
        if usage.cache_read is None:
            usage.cache_read = 0
        if usage.cache_write is None:
            usage.cache_write = 0
    return usage


def _with_response(call: Call, counts: Counts, terms: Terms, response: Response) -> Terms:
    """Complete the call by the response on its span, and return the terms of both."""
    agreeing = complete(call, counts, response) or NO_TERMS
    merged = joined(joined(terms, agreeing), response.terms)
    add_parts(call, response)
    _take_billed(call, counts, response)
    return merged


def _take_billed(call: Call, counts: Counts, response: Response) -> None:
    """Take the counts that the provider bills, where the one response on the span tells them beside those it read.

    Cohere adds tokens of its own to a prompt, and bills none of them (https://docs.cohere.com/reference/chat).
    """
    billed = {
        (usage.input, usage.output)
        for parsed in response.usages
        if parsed.billed and not parsed.normalized.problem
        for usage in (parsed.normalized.usage,)
        if usage.input is not None and usage.output is not None
    }
    if call.usage is not None and call.kind == "llm" and len(billed) == 1:
        call.usage.input, call.usage.output = billed.pop()
        counts.total = None  # of what was counted


def add_parts(call: Call, response: Response) -> None:
    """Add the classes that the answers on a span tell, where no count of a call has them."""
    if call.usage is not None and call.kind == "llm":
        for name, number in response.parts.items():
            if getattr(call.usage, name) is None:
                setattr(call.usage, name, number)


def _never_asked(call: Call, usage: Usage) -> None:
    """Doubt an input of 0: no model answers nothing, and streams whose usage was not reported leave it."""
    usage.input = None
    if not usage.output:
        call.usage = None


def counts_under(tokens: Tokens, attributes: Attributes) -> Counts | None:
    """Return the counts under a vocabulary's keys, None where there is neither input, nor output, nor search units.

    Raises:
        NoCountError: a value that should be a count is none.
    """
    plain = tokens.plain
    numbers = attributes.integers(plain.keys) if plain is not None else None
    if plain is not None and numbers is not None:
        parts = dict(zip(plain.parts, numbers[-len(plain.parts) :], strict=True)) if plain.parts else None
        return Counts(*plain.arranged([*numbers, None]), parts)
    get = attributes.get
    given = _count(get, tokens.input) if tokens.input else None
    output = _count(get, tokens.output) if tokens.output else None
    parts = _numbers(get, tokens.parts) if tokens.parts else None
    if given is None and output is None and not (parts and "search_units" in parts):
        return None
    counts = Counts(
        given,
        output,
        _count(get, tokens.total) if tokens.total else None,
        _largest(get, tokens.cache_read) if tokens.cache_read else None,
        _largest(get, tokens.cache_write) if tokens.cache_write else None,
        _count(get, tokens.cache_write_5m) if tokens.cache_write_5m else None,
        _count(get, tokens.cache_write_1h) if tokens.cache_write_1h else None,
        _count(get, tokens.reasoning) if tokens.reasoning else None,
        parts,
    )
    if tokens.adds:
        _add(counts, sum(count(get(key)) or 0 for key in tokens.adds))
    if tokens.unclassed:
        used = (what for what, keys in tokens.unclassed.items() if any(map(_positive, map(get, keys))))
        counts.terms = Terms(unclassed=tuple(used))
    if tokens.text:
        rest = no_text(counts, _numbers(get, tokens.text))
        counts.terms = joined(counts.terms or NO_TERMS, Terms(unclassed=rest))
    return counts


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _add(counts: Counts, more: int) -> None:
    """Add input tokens that the input leaves out, unless the total shows that it has them."""
    known = (counts.input or 0) + (counts.output or 0)
    if more and counts.input is not None and counts.total not in (known, known + (counts.reasoning or 0)):
        counts.input += more


def _numbers(get: Callable[[str], Any], table: Mapping[str, Keys]) -> dict[str, int]:
    return {name: number for name, keys in table.items() if (number := _count(get, keys)) is not None}


def _count(get: Callable[[str], Any], keys: Keys) -> int | None:
    for key in keys:
        value = get(key)
        if type(value) is int and 0 <= value <= MAX_COUNT:
            return value
        if value is not None and (number := count(value)) is not None:
            return number
    return None


def _largest(get: Callable[[str], Any], keys: Keys) -> int | None:
    if len(keys) == 1:
        return _count(get, keys)
    numbers = [number for key in keys if (number := count(get(key))) is not None]
    return max(numbers) if numbers else None


def _valid(tokens: Tokens, view: ScopedSpan) -> Counts | None:
    """Return input and output as far as they can be read, where some count is none."""

    def valid(keys: Keys) -> int | None:
        try:
            return _count(view.attributes.get, keys)
        except NoCountError:
            return None

    return Counts(valid(tokens.input), valid(tokens.output))


def _whole(dialect: Dialect, view: ScopedSpan) -> tuple[Counts | None, Input | None]:
    """Return the usage in an object, and the meaning of its input where it is known.

    Raises:
        NoCountError: a value that should be a count is none.
    """
    for location in dialect.usage_texts:
        value = inside(view, location) if location.whole else None
        if isinstance(value, dict):
            if location.read is not None:
                return location.read(value)
            parsed = read_usage(value)
            if parsed is not None:
                return as_counts(parsed.normalized.usage, parsed.terms), Input.INCLUSIVE
    return None, None


def as_counts(usage: Usage, terms: Terms) -> Counts:
    """Return the counts of a usage, whose input includes the caches."""
    parts = {name: number for name in _PARTS[4:] if (number := getattr(usage, name)) is not None}
    return Counts(
        usage.input,
        usage.output,
        cache_read=usage.cache_read,
        cache_write=usage.cache_write,
        cache_write_1h=usage.cache_write_1h,
        reasoning=usage.reasoning,
        parts=parts or None,
        terms=terms,
    )


def complete(call: Call, counts: Counts, response: Response) -> Terms | None:
    """Take missing classes from the usage objects that agree with all of the span's own numbers.

    Where the very numbers are the first one's, so is what they mean: its reading holds. Libraries repeat a usage in
    their own words beside the provider's, and each may tell what the other lacks; one that tells caches alone comes
    last, and completes equal caches. Returns their terms of the price.
    """
    usage = call.usage
    if usage is None:
        return None
    agreeing: Terms | None = None
    usages = response.usages
    for parsed in usages if len(usages) < 2 else sorted(usages, key=_is_partial):
        raw, other = parsed.counts, parsed.normalized.usage
        copied = raw.input == counts.input and raw.output == counts.output
        if parsed.normalized.problem:
            if agreeing is None and copied:
                call.problem = call.problem or parsed.normalized.problem
            continue
        if not _agree(usage, other, copied=copied):
            continue
        lacks_reads = usage.cache_read and other.cache_read is None
        whole = not (lacks_reads or (usage.cache_write and other.cache_write is None))
        if other.cache_write:  # LangChain leaves the sum at 0 where it tells writes by time to live
            usage.cache_write = other.cache_write
        if agreeing is None and copied and whole:
            usage.input, usage.output = other.input, other.output
            call.estimate = parsed.normalized.estimate
            call.problem = call.problem if call.problem == NO_COUNT else ""
        owns, numbers = _parts_of(usage), _parts_of(other)
        for name, own, number in zip(_PARTS, owns, numbers, strict=True) if owns != numbers else ():
            if own is None and number is not None:
                setattr(usage, name, number)
        agreeing = parsed.terms if agreeing is None else joined(agreeing, parsed.terms)
    return agreeing


def _is_partial(parsed: ParsedUsage) -> bool:
    """Return whether a usage object tells what was cached, and neither input nor output."""
    return parsed.counts.input is None and parsed.counts.output is None and parsed.counts.cache_write is not None


def _agree(usage: Usage, other: Usage, *, copied: bool) -> bool:
    if other.input is None and other.output is None and other.cache_write:
        return (other.cache_read, other.cache_write) == (usage.cache_read, usage.cache_write)
    if not copied and (other.input != usage.input or other.output != usage.output):
        return False
    if _differ(usage.cache_read, other.cache_read):
        return False
    return not (usage.cache_write and _differ(usage.cache_write, other.cache_write))


def _differ(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other


def forget_zero_writes(call: Call) -> None:
    """Take a sum of cache writes of 0 as unknown: LangChain leaves it at 0 where it reports writes by time to live."""
    if call.usage is not None and call.usage.cache_write == 0:
        call.usage.cache_write = None
