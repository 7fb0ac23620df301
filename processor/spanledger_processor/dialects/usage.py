"""The usage of one span by one dialect's tables, and what a provider's response on the span adds to it.

Classes that the span's own keys lack are taken from a response where both agree on input and output. Input attributes
are never looked at: they hold other calls' responses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.normalize import Counts, Input, normalize
from spanledger_processor.dialects.schema import (
    ANY_SOURCE,
    NO_TOKENS,
    Dialect,
    Keys,
    ScopedSpan,
    Source,
    Tokens,
    UsageText,
)
from spanledger_processor.dialects.usage_shapes import ParsedUsage, read_usage, usages_in
from spanledger_processor.dialects.values import NoCountError, count
from spanledger_processor.model import Call, Usage

NO_COUNT = "a token count that is none"
_AGGREGATES = frozenset({"agent", "workflow", "other"})


def read_usage_of(call: Call, dialect: Dialect, view: ScopedSpan) -> None:
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
            complete(call, counts, parsed_responses(view, dialect.usage_texts))
        if call.kind == "llm" and usage.input == 0 and not dialect.increments:
            _never_asked(call, usage)
        if source.input is Input.EXCLUSIVE and usage.cache_read is None and usage.cache_write is None and not means:
            call.estimate = True  # what was cached is missing from the input as well
    elif dialect.fallback_texts:
        call.fallback = next((told.normalized.usage for told in parsed_responses(view, dialect.fallback_texts)), None)


def source_for(sources: tuple[Source, ...], provider: str) -> Source:
    """What the counts of a provider mean: the first of `sources` that is for it."""
    for source in sources:
        if not source.providers or provider.lower().startswith(source.providers):
            return source
    return ANY_SOURCE


def _settle(call: Call, counts: Counts, means: Input | None, source: Source) -> Usage:
    normalized = normalize(counts, means or source.input, source.output)
    usage = call.usage = normalized.usage
    call.problem = call.problem or normalized.problem
    call.estimate = normalized.estimate
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


def _counts(tokens: Tokens, view: ScopedSpan) -> Counts | None:
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


def _valid(tokens: Tokens, view: ScopedSpan) -> Counts | None:
    """Input and output as far as they can be read, where some count is none."""

    def valid(keys: Keys) -> int | None:
        try:
            return _count(view.attributes.get, keys)
        except NoCountError:
            return None

    return Counts(valid(tokens.input), valid(tokens.output))


def _whole(dialect: Dialect, view: ScopedSpan) -> tuple[Counts | None, Input | None]:
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
                return as_counts(told.normalized.usage), Input.INCLUSIVE
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


_SHORT = 4096
"""Characters of a text that may be a usage object and nothing else."""

_EARLY = 100
"""Characters in which a usage object has named its first count."""

_CLASSES = ("cache_read", "cache_write", "cache_write_1h", "reasoning")


def parsed_responses(view: ScopedSpan, places: tuple[UsageText, ...]) -> list[ParsedUsage]:
    """What usage objects in raw answers tell, best place first."""
    found: list[ParsedUsage] = []
    for place in places:
        if not place.whole:
            found += [told for item in _objects(view, place) if (told := read_usage(item)) is not None]
    return found


def inside(view: ScopedSpan, place: UsageText) -> Any:
    """The value that a place leads to, parsed."""
    value = texts.parse(view.attributes.get(place.key))
    for step in place.path:
        if not isinstance(value, Mapping):
            return None
        value = texts.parse(value.get(step))
    return value


def complete(call: Call, counts: Counts, told: list[ParsedUsage]) -> None:
    """Take missing classes from the first raw usage that agrees with all of the span's own numbers.

    Where the very numbers are the raw ones, so is what they mean: the raw usage's reading holds.
    """
    usage = call.usage
    if usage is None:
        return
    for item in told:
        raw, normalized = item.counts, item.normalized.usage
        copied = raw.input == counts.input and raw.output == counts.output
        if not copied and (normalized.input != usage.input or normalized.output != usage.output):
            continue
        if usage.cache_read not in (None, normalized.cache_read) or usage.cache_write not in (
            None,
            0,
            normalized.cache_write,
        ):
            continue
        if normalized.cache_write:  # LangChain leaves the sum at 0 where it tells writes by time to live
            usage.cache_write = normalized.cache_write
        if copied:
            usage.input, usage.output = normalized.input, normalized.output
            call.estimate = item.normalized.estimate
        for name in _CLASSES:
            if getattr(usage, name) is None:
                setattr(usage, name, getattr(normalized, name))
        return


def _objects(view: ScopedSpan, place: UsageText) -> list[Mapping[str, Any]]:
    value = view.attributes.get(place.key)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and not place.path:
        itself = _usage_itself(value)
        return [itself] if itself is not None else list(texts.usages(value))
    value = inside(view, place)
    return [value, *usages_in(value)] if isinstance(value, Mapping) else list(usages_in(value))


def _usage_itself(value: str) -> Mapping[str, Any] | None:
    if len(value) > _SHORT or not ("_token" in value[:_EARLY] or "Token" in value[:_EARLY]):
        return None
    parsed = texts.parse(value)
    return parsed if isinstance(parsed, Mapping) and read_usage(parsed) is not None else None


def forget_zero_writes(call: Call) -> None:
    """LangChain leaves the sum of cache writes at 0 where it tells them by time to live: alone, that 0 says nothing."""
    if call.usage is not None and call.usage.cache_write == 0:
        call.usage.cache_write = None
