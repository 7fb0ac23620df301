"""Read usage objects by the tables of their shapes: counts, normalized usage and terms of the price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType
from typing import Any, TypeAlias

from msgspec import Struct

from spanledger_processor.dialects.normalize import (
    COUNTS,
    Arranged,
    Counts,
    NormalizedUsage,
    Terms,
    arranged_by,
    no_text,
    normalize,
)
from spanledger_processor.dialects.usage_shapes import (
    CONTEXT_PATHS,
    PARTS,
    SHAPE_PATHS,
    STANDARD,
    TEXT_PATHS,
    TRAFFIC_KEYS,
    UNCLASSED,
    USAGE_SHAPES,
    Paths,
    UsageShape,
)
from spanledger_processor.dialects.values import MAX_COUNT, NoCountError, count, money, text
from spanledger_processor.model import ReportedCost
from spanledger_processor.units import USD

_TICK = USD // 10**10
_LISTED = ""
"""Stands for keys below one, where these are not known: of a list, whose entries name them."""
_MOST_ITERATIONS = 64
_NESTED, _NUMBERS = (list, dict), (int, float)
_WRITES = "cache_creation_tokens"
"""Told by LiteLLM since it counts writes in; between 1.60 and 1.80 there are releases whose prompt lacks them."""


class ParsedUsage(Struct):
    """A usage object: its numbers as they came, the normalized usage, terms of the price, and `UsageShape.billed`."""

    counts: Counts
    normalized: NormalizedUsage
    terms: Terms
    billed: bool = False


def read_usage(value: Mapping[str, Any]) -> ParsedUsage | None:
    """Return the usage of an object, None if it has no known shape or an invalid count."""
    if _TOPS.isdisjoint(value):
        return None
    tables = _tables_for(value)
    places = _first_shape(value, tables.shapes)
    if places is None:
        return None
    try:
        counts = _counts(value, places, tables)
        added = sum([count(_at(value, place)) or 0 for place in places.adds]) if places.adds else 0
        terms = _terms(value, tables)
        text_in = _first(value, tables.text) if tables.text else None
    except NoCountError:
        return None
    if added and counts.input is not None:
        counts.input += added
    shape = places.shape
    if shape.omits_zeros:
        counts.cache_read = counts.cache_read or 0
        if counts.reasoning is None and counts.total == (counts.input or 0) + (counts.output or 0):
            counts.reasoning = 0
    normalized = normalize(counts, shape.means, shape.output_means)
    if text_in is not None:
        terms.unclassed += no_text(counts, {"input": text_in})
    counts.terms = terms
    return ParsedUsage(counts, normalized, terms, shape.billed)


_Place: TypeAlias = tuple[str, tuple[str, ...]]
"""A path: the key at the top, and those below it."""


def _place(path: str) -> _Place:
    top, *below = path.split(".")
    return top, tuple(below)


_PLACES = {
    path: _place(path)
    for paths in (
        *(getattr(shape, name) for shape in USAGE_SHAPES for name in SHAPE_PATHS),
        *PARTS.values(),
        *UNCLASSED.values(),
        TEXT_PATHS,
    )
    for path in paths
}
_TOPS = frozenset(_PLACES[path][0] for shape in USAGE_SHAPES for path in shape.needs)
_CONTEXT_KEYS = frozenset(key for keys in CONTEXT_PATHS.values() for key in keys)
_OF_LANGCHAIN = frozenset({"input_token_details", "output_token_details", "total_cost"})
_TERM_KEYS = frozenset(
    (
        *_CONTEXT_KEYS,
        *TRAFFIC_KEYS,
        *_OF_LANGCHAIN,
        *("iterations", "cache_creation_input_tokens", "cost", "cost_in_usd_ticks"),
    )
)
"""Keys of which one is there wherever an object says anything of the price besides classes."""
_KNOWN_TOPS = frozenset(top for top, _ in _PLACES.values()) | _TERM_KEYS
_NESTING_TOPS = frozenset(top for top, below in _PLACES.values() if below)
_KNOWN_BELOW = frozenset(below[0] for _, below in _PLACES.values() if below)
_ANY_BELOW = frozenset((_LISTED,))
_PLAIN = frozenset((int, NoneType))


@dataclass(frozen=True, slots=True)
class _ShapePlaces:
    """A shape, and where objects with some keys may have what it names; `counts` with their places in `Counts`.

    `firsts` are the first places of all counts and parts, as key and key below or None; none where one of these is
    deeper, or in a list. `arranged` is for what stands there, `is_alone`: no count has a second place.
    """

    shape: UsageShape
    needs: tuple[_Place, ...]
    any_of: tuple[_Place, ...]
    adds: tuple[_Place, ...]
    counts: tuple[tuple[int, tuple[_Place, ...]], ...]
    firsts: tuple[tuple[str, str | None], ...]
    arranged: Arranged
    is_alone: bool


@dataclass(frozen=True, slots=True)
class _Tables:
    """What objects with some keys may have: the tables above, with the places that can lead to something.

    `terms` are those of `_TERM_KEYS` that they have.
    """

    shapes: tuple[_ShapePlaces, ...]
    parts: Mapping[str, tuple[_Place, ...]]
    unclassed: Mapping[str, tuple[_Place, ...]]
    text: tuple[_Place, ...]
    terms: frozenset[str]


def _tables_for(value: Mapping[str, Any]) -> _Tables:
    nested: list[tuple[str, frozenset[str]]] = []
    for key in _NESTING_TOPS.intersection(value):
        inner = value[key]
        if isinstance(inner, _NESTED):
            nested.append((key, _KNOWN_BELOW.intersection(inner) if type(inner) is dict else _ANY_BELOW))
    return _narrowed(_KNOWN_TOPS.intersection(value), tuple(nested))


@lru_cache(maxsize=1024)
def _narrowed(present: frozenset[str], nested: tuple[tuple[str, frozenset[str]], ...]) -> _Tables:
    """Return the tables of objects with these known keys, some of them with known keys below (`_LISTED`: any may be).

    Bounded: which of them an object has comes from the network.
    """
    below = dict.fromkeys(present, frozenset[str]()) | dict(nested)

    def may_be(place: _Place) -> bool:
        top, steps = place
        inner = below.get(top)
        return inner is not None and (not steps or steps[0] in inner or _LISTED in inner)

    def begun(paths: Paths) -> tuple[_Place, ...]:
        return tuple(place for place in map(_PLACES.__getitem__, paths) if may_be(place))

    def rows(table: Mapping[str, Paths]) -> Mapping[str, tuple[_Place, ...]]:
        return {name: left for name, paths in table.items() if (left := begun(paths))}

    parts = rows(PARTS)
    shapes: list[_ShapePlaces] = []
    for shape in USAGE_SHAPES:
        needs, any_of = begun(shape.needs), begun(shape.any_of)
        if len(needs) == len(shape.needs) and (any_of or not shape.any_of):
            counts = {number: places for number, name in enumerate(COUNTS) if (places := begun(getattr(shape, name)))}
            numbers = [*counts.values(), *parts.values()]
            firsts, is_alone = _firsts(numbers, below), all(len(places) == 1 for places in numbers)
            known, arranged = tuple(counts.items()), arranged_by([*counts])
            shapes.append(_ShapePlaces(shape, needs, any_of, begun(shape.adds), known, firsts, arranged, is_alone))
    return _Tables(tuple(shapes), parts, rows(UNCLASSED), begun(TEXT_PATHS), _TERM_KEYS & below.keys())


def _firsts(
    numbers: Iterable[tuple[_Place, ...]], below: Mapping[str, frozenset[str]]
) -> tuple[tuple[str, str | None], ...]:
    """Return the first place of each number (`_ShapePlaces.firsts`)."""
    firsts = [places[0] for places in numbers]
    if any(len(steps) > 1 or (steps and _LISTED in below[top]) for top, steps in firsts):
        return ()
    return tuple((top, steps[0] if steps else None) for top, steps in firsts)


def _first_shape(value: Mapping[str, Any], shapes: Iterable[_ShapePlaces]) -> _ShapePlaces | None:
    for shape in shapes:
        for place in shape.needs:
            if _at(value, place) is None:
                break
        else:
            if not shape.any_of or any(_at(value, place) is not None for place in shape.any_of):
                return shape
    return None


def read_counts(value: Mapping[str, Any]) -> Counts | None:
    """Return the counts of an object by the first shape that it has, None if it has none.

    Raises:
        NoCountError: a value that should be a count is none.
    """
    tables = _tables_for(value)
    places = _first_shape(value, tables.shapes)
    return None if places is None else _counts(value, places, tables)


def _counts(value: Mapping[str, Any], places: _ShapePlaces, tables: _Tables) -> Counts:
    plain = _plain_counts(value, places, tables.parts)
    if plain is not None:
        return plain
    numbers: list[Any] = [None] * len(COUNTS)
    for number, of_class in places.counts:
        numbers[number] = _first(value, of_class)
    counts = Counts(*numbers)
    if tables.parts:
        counts.parts = _parts(value, tables)
    return counts


def _plain_counts(value: Mapping[str, Any], places: _ShapePlaces, parts: Iterable[str]) -> Counts | None:
    """Return the counts where each stands in its first place, or nowhere; None where that takes a closer look."""
    numbers: list[Any] = [value[top] if below is None else value[top][below] for top, below in places.firsts]
    if not numbers or not _are_plain(numbers) or (None in numbers and not places.is_alone):
        return None
    of_parts = dict(zip(parts, numbers[len(places.counts) :], strict=True))
    known = {name: number for name, number in of_parts.items() if number is not None}
    return Counts(*places.arranged([*numbers, None]), known or None)


def _are_plain(numbers: list[Any]) -> bool:
    """Return whether each of these is a count as nearly all are, or nothing."""
    if not _PLAIN.issuperset(map(type, numbers)):
        return False
    more = [*filter(None, numbers)]
    return min(more, default=0) >= 0 and max(more, default=0) <= MAX_COUNT


def read_parts(value: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the classes that are copied as they are, None if the object has none.

    Raises:
        NoCountError: a value that should be a count is none.
    """
    return _parts(value, _tables_for(value))


def _parts(value: Mapping[str, Any], tables: _Tables) -> dict[str, int] | None:
    parts = tables.parts.items()
    return {name: number for name, places in parts if (number := _first(value, places)) is not None} or None


def read_terms(value: Mapping[str, Any]) -> Terms:
    """Return the terms of the price in a usage object."""
    return _terms(value, _tables_for(value))


def _terms(value: Mapping[str, Any], tables: _Tables) -> Terms:
    terms, keys = Terms(), tables.terms
    if unclassed := tables.unclassed:
        terms.unclassed = tuple([what for what, places in unclassed.items() if _some(value, places)])
    if not keys:
        return terms
    if not keys.isdisjoint(_CONTEXT_KEYS):
        terms.context = read_context(value)
    traffic = next((text(value.get(key)).lower() for key in TRAFFIC_KEYS if key in keys and value.get(key)), None)
    if traffic is not None:
        terms.plan = "provisioned" if "provisioned" in traffic else ""
        terms.context["service_tier"] = traffic.removeprefix("on_demand").strip("_") if "on_demand" in traffic else ""
    if "iterations" in keys:
        terms.unclassed += _further_sampling(value["iterations"])
    if not keys.isdisjoint(_OF_LANGCHAIN):
        _langchain_terms(value, terms)
    details = value.get("prompt_tokens_details")
    if value.get("cache_creation_input_tokens") and isinstance(details, dict) and _WRITES not in details:
        terms.doubt = "LiteLLM may have left cache writes out of its sum"
    if "cost" in keys or "cost_in_usd_ticks" in keys:
        terms.reported = _charged(value)
    return terms


def _further_sampling(iterations: Any) -> tuple[str, ...]:
    """Return what a request of Anthropic's sampled beside its answer, which the counts around it leave out.

    https://platform.claude.com/docs/en/build-with-claude/compaction-threshold: `usage.iterations`.
    """
    listed = iterations[:_MOST_ITERATIONS] if isinstance(iterations, list) else []
    kinds = [text(one.get("type")) for one in listed if isinstance(one, dict)]
    return tuple(dict.fromkeys(f"{kind[:64]} tokens" for kind in kinds if kind and kind != "message"))


def read_context(value: Mapping[str, Any]) -> dict[str, str]:
    """Return tier, speed and region that an object names, by the names of `Call.price_context`; "" is the standard.

    Bedrock wraps them: `serviceTier.type`, `performanceConfig.latency`
    (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html).
    """
    context: dict[str, str] = {}
    for name, keys in CONTEXT_PATHS.items():
        for key in keys:
            tier_value = value.get(key)
            if isinstance(tier_value, dict):
                tier_value = tier_value.get("type") or tier_value.get("latency")
            if isinstance(tier_value, str):
                tier = text(tier_value).lower()[:64]
                context[name] = "" if tier in STANDARD else tier
                break
    return context


def _langchain_terms(value: Mapping[str, Any], terms: Terms) -> None:
    """Read the tier, which LangChain puts into names of classes, and its own cache, which it writes as a cost of 0."""
    for details in (value.get("input_token_details"), value.get("output_token_details")):
        for tier in ("priority", "flex"):
            if isinstance(details, dict) and [key for key in details if str(key).startswith(tier)]:
                terms.context.setdefault("service_tier", tier)
    cost = value.get("total_cost")
    terms.own_cache = "total_tokens" in value and type(cost) in (int, float) and cost == 0


def _charged(value: Mapping[str, Any]) -> ReportedCost | None:
    """Return the charge in a response of OpenRouter, Perplexity or xAI.

    https://openrouter.ai/docs/use-cases/usage-accounting, https://docs.perplexity.ai/api-reference/chat-completions-post,
    https://docs.x.ai/docs/guides/tools/tool-usage-details.
    """
    cost, details = value.get("cost"), value.get("cost_details") or value.get("costDetails")
    if isinstance(cost, dict):
        amount = money(cost.get("total_cost"))
        return None if amount is None else ReportedCost(amount, True, "usage.cost.total_cost")
    if "cost_in_usd_ticks" in value:
        amount = money(value.get("cost_in_usd_ticks"), _TICK)
        return None if amount is None else ReportedCost(amount, True, "usage.cost_in_usd_ticks")
    amount = money(cost)
    if amount is None or not ("is_byok" in value or "isByok" in value or isinstance(details, dict)):
        return None
    cost_details = details if isinstance(details, dict) else {}
    upstream = money(cost_details.get("upstream_inference_cost") or cost_details.get("upstreamInferenceCost"))
    own_key = value.get("is_byok", value.get("isByok"))
    return ReportedCost(amount, True, "usage.cost", upstream, own_key if isinstance(own_key, bool) else None)


def _some(value: Mapping[str, Any], places: Iterable[_Place]) -> bool:
    return any(isinstance(inner := _at(value, place), _NUMBERS) and inner > 0 for place in places)


def _first(value: Mapping[str, Any], places: Iterable[_Place]) -> int | None:
    for top, below in places:
        inner = value.get(top)
        for step in below:
            inner = inner.get(step) if type(inner) is dict else _entry(inner, step)
        if type(inner) is int and 0 <= inner <= MAX_COUNT:
            return inner
        if inner is not None and (number := count(inner)) is not None:
            return number
    return None


def _at(value: Mapping[str, Any], place: _Place) -> Any:
    top, below = place
    inner = value.get(top)
    for step in below:
        inner = inner.get(step) if type(inner) is dict else _entry(inner, step)
    return inner


def _entry(details: Any, name: str) -> Any:
    """Return the entry of a list that is for one modality (Google) or time to live (Bedrock), None without one."""
    for item in details[:16] if isinstance(details, list) else ():
        if isinstance(item, dict):
            named = str(item.get("modality", item.get("ttl", "")))
            if named.rpartition(".")[2].upper() == name:
                return item
    return None
