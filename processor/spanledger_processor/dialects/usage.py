"""The usage of one span by one dialect's tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spanledger_processor.dialects.counts import Counts, Input, settle
from spanledger_processor.dialects.dialect import ANY_SOURCE, NO_TOKENS, Dialect, Keys, Source, Tokens
from spanledger_processor.dialects.provider_usage import read_usage
from spanledger_processor.dialects.raw_answers import complete, inside, told_by
from spanledger_processor.dialects.values import NoCountError, count
from spanledger_processor.dialects.view import View
from spanledger_processor.model import Call, Usage

NO_COUNT = "a token count that is none"
_AGGREGATES = frozenset({"agent", "workflow", "other"})


def read_usage_of(call: Call, dialect: Dialect, view: View) -> None:
    """Fill `call.usage`, with what is wrong or unsure about it, or `call.fallback`."""
    tokens = dialect.tokens
    means: Input | None = None
    try:
        counts = _counts(tokens, view) if tokens is not NO_TOKENS else None
        if counts is None and dialect.aggregated is not NO_TOKENS and call.kind in _AGGREGATES:
            counts = _counts(dialect.aggregated, view)
        if counts is None and dialect.usage_texts:
            counts, means = _whole(dialect, view)
    except NoCountError:
        call.problem = NO_COUNT
        counts = _valid(tokens, view)
    if counts is not None:
        source = source_for(dialect.sources, call.provider)
        usage = _settle(call, counts, means, source)
        if dialect.usage_texts and _lacks(usage):
            complete(call, counts, told_by(view, dialect.usage_texts))
        if call.kind == "llm" and usage.input == 0 and not dialect.increments:
            _never_asked(call, usage)
        if source.input is Input.EXCLUSIVE and usage.cache_read is None and usage.cache_write is None and not means:
            call.estimate = True  # what was cached is missing from the input as well
    elif dialect.fallback_texts:
        call.fallback = next((told.settled.usage for told in told_by(view, dialect.fallback_texts)), None)


def source_for(sources: tuple[Source, ...], provider: str) -> Source:
    """What the counts of a provider mean: the first of `sources` that is for it."""
    for source in sources:
        if not source.providers or provider.lower().startswith(source.providers):
            return source
    return ANY_SOURCE


def _settle(call: Call, counts: Counts, means: Input | None, source: Source) -> Usage:
    settled = settle(counts, means or source.input, source.output)
    usage = call.usage = settled.usage
    call.problem = call.problem or settled.problem
    call.estimate = settled.estimate
    if source.absent_cache_is_zero:
        if usage.cache_read is None:
            usage.cache_read = 0
        if usage.cache_write is None:
            usage.cache_write = 0
    return usage


def _never_asked(call: Call, usage: Usage) -> None:
    """No model answers nothing: an input of 0 is what streams leave whose usage was not told, or not wholly."""
    usage.input = None
    if not usage.output:
        call.usage = None


def _lacks(usage: Usage) -> bool:
    return (
        usage.cache_read is None
        or usage.cache_write is None
        or (usage.cache_write_1h is None and bool(usage.cache_write))
        or usage.reasoning is None
    )


def _counts(tokens: Tokens, view: View) -> Counts | None:
    """The counts under a vocabulary's keys, None where there is neither input nor output.

    Raises:
        NoCountError: a value that should be a count is none.
    """
    get = view.attributes.get
    given = _count(get, tokens.input) if tokens.input else None
    output = _count(get, tokens.output) if tokens.output else None
    if given is None and output is None:
        return None
    return Counts(
        given,
        output,
        _count(get, tokens.total) if tokens.total else None,
        _largest(get, tokens.cache_read) if tokens.cache_read else None,
        _largest(get, tokens.cache_write) if tokens.cache_write else None,
        _count(get, tokens.cache_write_5m) if tokens.cache_write_5m else None,
        _count(get, tokens.cache_write_1h) if tokens.cache_write_1h else None,
        _count(get, tokens.reasoning) if tokens.reasoning else None,
    )


def _count(get: Callable[[str], Any], keys: Keys) -> int | None:
    for key in keys:
        number = count(get(key))
        if number is not None:
            return number
    return None


def _largest(get: Callable[[str], Any], keys: Keys) -> int | None:
    if len(keys) == 1:
        return count(get(keys[0]))
    numbers = [number for key in keys if (number := count(get(key))) is not None]
    return max(numbers) if numbers else None


def _valid(tokens: Tokens, view: View) -> Counts | None:
    """Input and output as far as they can be read, where some count is none."""

    def valid(keys: Keys) -> int | None:
        try:
            return _count(view.attributes.get, keys)
        except NoCountError:
            return None

    return Counts(valid(tokens.input), valid(tokens.output))


def _whole(dialect: Dialect, view: View) -> tuple[Counts | None, Input | None]:
    """Usage that stands in an object, and what its input means where that is known.

    Raises:
        NoCountError: a value that should be a count is none.
    """
    for place in dialect.usage_texts:
        value = inside(view, place) if place.whole else None
        if isinstance(value, Mapping):
            if place.read is not None:
                return place.read(value)
            told = read_usage(value)
            if told is not None:
                return as_counts(told.settled.usage), Input.INCLUSIVE
    return None, None


def as_counts(usage: Usage) -> Counts:
    """Counts that a usage stands for, read inclusively."""
    return Counts(
        usage.input,
        usage.output,
        cache_read=usage.cache_read,
        cache_write=usage.cache_write,
        cache_write_1h=usage.cache_write_1h,
        reasoning=usage.reasoning,
    )
