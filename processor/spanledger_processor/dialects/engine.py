"""Reads one span by one dialect's tables."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from spanledger_processor.calls import Call, Granularity, Kind, ReportedCost, ToolCall, Usage
from spanledger_processor.dialects import texts
from spanledger_processor.dialects.counts import Counts, Input, Output, settle
from spanledger_processor.dialects.dialect import (
    ANY_SOURCE,
    NO_TOKENS,
    CostKey,
    Dialect,
    Keys,
    Source,
    Tokens,
    UsageText,
)
from spanledger_processor.dialects.provider_usage import Told, read_usage, usages_in
from spanledger_processor.dialects.values import NoCountError, count, money, text
from spanledger_processor.dialects.view import View

COST_ALIASES = frozenset(
    {
        "gen_ai.usage.cost",
        "langfuse.observation.cost_details",
        "llm.cost.completion",
        "llm.cost.prompt",
        "llm.cost.total",
        "mlflow.llm.cost",
        "operation.cost",
    }
)
"""Keys that other backends read a cost from: those that came in are never overwritten."""

_AGGREGATES = frozenset({"agent", "workflow", "other"})
_NO_TIER = frozenset({"", "auto", "normal", "on_demand", "standard", "standard_only"})


def kind_of(dialect: Dialect, view: View) -> Kind | None:
    """The kind that a span has in a vocabulary, None where it is none of its GenAI spans."""
    if dialect.kind_of is not None:
        kind = dialect.kind_of(view)
        if kind is not None:
            return kind
    keys = view.keys
    for kinds in dialect.kinds:
        if kinds.key in keys:
            kind = kinds.table.get(text(view.attributes.get(kinds.key)).lower())
            if kind is not None:
                return kind
    return dialect.otherwise


def read(dialect: Dialect, view: View, kind: Kind) -> Call:
    """What a span says in a vocabulary."""
    call = Call(dialect.name, kind)
    call.request_model = first_text(view, dialect.request_model)
    call.response_model = first_text(view, dialect.response_model)
    call.provider = first_text(view, dialect.provider) or dialect.fixed_provider
    if kind == "tool":
        call.tool = _tool(dialect, view)
    else:
        call.response_id = first_text(view, dialect.response_id)
    _usage(dialect, view, call)
    if dialect.agent:
        call.agent_id = first_text(view, dialect.agent)
        call.agent_parent_id = first_text(view, dialect.agent_parent)
    if dialect.costs:
        call.reported = _cost(dialect.costs, view)
    if dialect.tiers and call.usage is not None:
        call.price_context = _context(dialect.tiers, view)
    if not COST_ALIASES.isdisjoint(view.keys):
        call.present = COST_ALIASES & view.keys
    for rule in dialect.rules:
        rule(view, call)
    call.granularity = granularity(call)
    return call


def granularity(call: Call) -> Granularity:
    """How much of a session a span's usage stands for."""
    if call.granularity != "per-message":
        return call.granularity
    if call.usage is None and call.reported is not None:
        return "cost-only"
    if call.kind in _AGGREGATES and call.usage is not None:
        return "per-turn"
    return "per-message"


def first(view: View, keys: Keys) -> Any:
    """The value of the first of `keys` that the span has, None if it has none."""
    present = view.keys
    for key in keys:
        if key in present:
            value = view.attributes.get(key)
            if value is not None and value != "":
                return value
    return None


def first_text(view: View, keys: Keys) -> str:
    """The first text under `keys`, without the quotes of a JSON string."""
    present = view.keys
    for key in keys:
        if key in present:
            value = text(view.attributes.get(key))
            if value:
                return value
    return ""


def _tool(dialect: Dialect, view: View) -> ToolCall:
    keys = dialect.tool
    name = first_text(view, keys.name) or (view.name if keys.name_from_span else "")
    return ToolCall(name or None, first(view, keys.arguments), first_text(view, keys.call_id) or None)


def _usage(dialect: Dialect, view: View, call: Call) -> None:
    source = source_of(dialect, view.scope_name, view.scope_version, call.provider.lower())
    counts, means, output = None, source.input, source.output
    try:
        counts = _counts(dialect.tokens, view)
        if counts is None and dialect.aggregated is not NO_TOKENS and call.kind in _AGGREGATES:
            counts = _counts(dialect.aggregated, view)
    except NoCountError:
        call.problem = "a token count that is none"
        counts = _valid_counts(dialect.tokens, view)
    if counts is None:
        counts, means, output = _whole(dialect, view, means, output)
    if counts is not None:
        _settle(call, counts, means, output, source)
    if dialect.usage_texts and call.usage is not None and counts is not None and _lacks(call.usage):
        _complete(call, counts, candidates(view, dialect.usage_texts))
    if dialect.fallback_texts and call.usage is None and not call.problem:
        call.fallback = next((told.settled.usage for told in candidates(view, dialect.fallback_texts)), None)


def _settle(call: Call, counts: Counts, means: Input, output: Output, source: Source) -> None:
    settled = settle(counts, means, output)
    call.usage = settled.usage
    call.problem = call.problem or settled.problem
    call.estimate = settled.estimate
    if source.absent_cache_is_zero:
        if call.usage.cache_read is None:
            call.usage.cache_read = 0
        if call.usage.cache_write is None:
            call.usage.cache_write = 0


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
    given, output = _count(view, tokens.input), _count(view, tokens.output)
    if given is None and output is None:
        return None
    return Counts(
        given,
        output,
        _count(view, tokens.total),
        _largest(view, tokens.cache_read),
        _largest(view, tokens.cache_write),
        _count(view, tokens.cache_write_5m),
        _count(view, tokens.cache_write_1h),
        _count(view, tokens.reasoning),
    )


def _count(view: View, keys: Keys) -> int | None:
    present = view.keys
    for key in keys:
        if key in present:
            number = count(view.attributes.get(key))
            if number is not None:
                return number
    return None


def _largest(view: View, keys: Keys) -> int | None:
    present = view.keys
    largest: int | None = None
    for key in keys:
        if key in present:
            number = count(view.attributes.get(key))
            if number is not None and (largest is None or number > largest):
                largest = number
    return largest


def _valid_counts(tokens: Tokens, view: View) -> Counts | None:
    """What can be read where some counts are none."""

    def valid(keys: Keys) -> int | None:
        try:
            return _count(view, keys)
        except NoCountError:
            return None

    return Counts(valid(tokens.input), valid(tokens.output))


def _whole(dialect: Dialect, view: View, means: Input, output: Output) -> tuple[Counts | None, Input, Output]:
    """Usage that stands in an object."""
    for place in dialect.usage_texts:
        if place.whole and place.key in view.keys:
            value = _inside(view, place)
            if not isinstance(value, Mapping):
                continue
            try:
                read_as = place.read(value) if place.read else _by_shape(value, means)
            except NoCountError:
                continue
            if read_as is not None:
                return read_as[0], read_as[1], output
    return None, means, output


def _by_shape(value: Mapping[str, Any], _: Input) -> tuple[Counts, Input] | None:
    told = read_usage(value)
    if told is None:
        return None
    usage = told.settled.usage
    counts = Counts(usage.input, usage.output, None, usage.cache_read, usage.cache_write, None, usage.cache_write_1h)
    counts.reasoning = usage.reasoning
    return counts, Input.INCLUSIVE


def _inside(view: View, place: UsageText) -> Any:
    value = texts.parse(view.attributes.get(place.key))
    for step in place.path:
        if not isinstance(value, Mapping):
            return None
        value = texts.parse(value.get(step))
    return value


def candidates(view: View, places: tuple[UsageText, ...]) -> list[Told]:
    """Usage objects that raw answers on the span hold, best place first."""
    found: list[Told] = []
    for place in places:
        if place.whole or place.key not in view.keys:
            continue
        value = view.attributes.get(place.key)
        if isinstance(value, str) and not place.path:
            objects = [parsed] if isinstance(parsed := _object_itself(value), Mapping) else list(texts.usages(value))
        else:
            inner = _inside(view, place)
            objects = [inner, *usages_in(inner)] if isinstance(inner, Mapping) else list(usages_in(inner))
        found += [told for item in objects if (told := read_usage(item)) is not None]
    return found


_SHORT = 4096


def _object_itself(value: str) -> Mapping[str, Any] | None:
    """A short text that is a usage object and nothing else."""
    if len(value) > _SHORT:
        return None
    parsed = texts.parse(value)
    return parsed if isinstance(parsed, Mapping) and read_usage(parsed) is not None else None


def _complete(call: Call, counts: Counts, told: list[Told]) -> None:
    """Takes missing classes from a raw usage that agrees with the span's own numbers."""
    usage = call.usage
    assert usage is not None
    for item in told:
        raw, settled = item.counts, item.settled.usage
        same_raw = raw.input == counts.input and raw.output == counts.output
        if not same_raw and (settled.input != usage.input or settled.output != usage.output):
            continue
        if same_raw:
            usage.input, usage.output = settled.input, settled.output
            call.estimate = item.settled.estimate
        for name in ("cache_read", "cache_write", "cache_write_1h", "reasoning"):
            if getattr(usage, name) is None:
                setattr(usage, name, getattr(settled, name))
        if settled.cache_write == usage.cache_write and usage.cache_write_1h is None:
            usage.cache_write_1h = settled.cache_write_1h
        return


def _cost(keys: tuple[CostKey, ...], view: View) -> ReportedCost | None:
    present = view.keys
    for cost in keys:
        if cost.key in present:
            value = view.attributes.get(cost.key)
            if cost.path:
                value = texts.parse(value)
                for step in cost.path:
                    value = value.get(step) if isinstance(value, Mapping) else None
            amount = money(value, cost.unit)
            if amount is not None:
                return ReportedCost(amount, cost.trust == "billed", cost.key)
    return None


def _context(tiers: Keys, view: View) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for key in tiers:
        if key in view.keys:
            value = text(view.attributes.get(key)).lower()
            if value not in _NO_TIER:
                found.setdefault("speed" if key.endswith("speed") else "service_tier", value[:64])
    return tuple(sorted(found.items()))


@lru_cache(maxsize=1024)
def source_of(dialect: Dialect, scope: str, version: str, provider: str) -> Source:
    """The source of a dialect that a scope and a provider match. Bounded: names come from the network."""
    parsed = _version(version)
    for source in dialect.sources:
        if (
            scope.startswith(source.scope)
            and (not source.providers or provider.startswith(source.providers))
            and (not source.since or parsed >= source.since)
            and (not source.before or (parsed and parsed < source.before))
        ):
            return source
    return ANY_SOURCE


def _version(version: str) -> tuple[int, ...]:
    parts: list[int] = []
    for part in version.lstrip("v").split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits or len(digits) > 9:
            break
        parts.append(int(digits))
    return tuple(parts)
