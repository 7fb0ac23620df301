"""Usage that a provider's raw answer on the span holds: what may be taken from it, and when.

Classes that the span's own keys lack are taken where both agree on input and output. Input attributes are never looked
at: they hold other calls' answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.counts import Counts
from spanledger_processor.dialects.dialect import UsageText
from spanledger_processor.dialects.provider_usage import Told, read_usage, usages_in
from spanledger_processor.dialects.view import View
from spanledger_processor.model import Call

_SHORT = 4096
"""Characters of a text that may be a usage object and nothing else."""

_EARLY = 100
"""Characters in which a usage object has named its first count."""

_CLASSES = ("cache_read", "cache_write", "cache_write_1h", "reasoning")


def told_by(view: View, places: tuple[UsageText, ...]) -> list[Told]:
    """What usage objects in raw answers tell, best place first."""
    found: list[Told] = []
    for place in places:
        if not place.whole:
            found += [told for item in _objects(view, place) if (told := read_usage(item)) is not None]
    return found


def inside(view: View, place: UsageText) -> Any:
    """The value that a place leads to, parsed."""
    value = texts.parse(view.attributes.get(place.key))
    for step in place.path:
        if not isinstance(value, Mapping):
            return None
        value = texts.parse(value.get(step))
    return value


def complete(call: Call, counts: Counts, told: list[Told]) -> None:
    """Take missing classes from the first raw usage that agrees with all of the span's own numbers.

    Where the very numbers are the raw ones, so is what they mean: the raw usage's reading holds.
    """
    usage = call.usage
    if usage is None:
        return
    for item in told:
        raw, settled = item.counts, item.settled.usage
        copied = raw.input == counts.input and raw.output == counts.output
        if not copied and (settled.input != usage.input or settled.output != usage.output):
            continue
        if usage.cache_read not in (None, settled.cache_read) or usage.cache_write not in (
            None,
            0,
            settled.cache_write,
        ):
            continue
        if settled.cache_write:  # LangChain leaves the sum at 0 where it tells writes by time to live
            usage.cache_write = settled.cache_write
        if copied:
            usage.input, usage.output = settled.input, settled.output
            call.estimate = item.settled.estimate
        for name in _CLASSES:
            if getattr(usage, name) is None:
                setattr(usage, name, getattr(settled, name))
        return


def _objects(view: View, place: UsageText) -> list[Mapping[str, Any]]:
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
