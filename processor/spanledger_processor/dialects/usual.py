"""The usual call, read by what a span of the same shape said before.

Most spans of a service differ in their counts and ids only. A span takes this way if its dialect reads it by plain keys
alone: one key a token class, no usage in texts, no cost, no rule but those of tool spans, no mark of a cache, no
content and no events to look into; and if it is a call with a response id. What stands under its other keys is compared
as it is encoded; where all of it was read before, that reading is taken with the span's own counts and response id.
Everything else takes the full rules.

A reading is kept only after it was found equal to that of the full rules (`learn`), and for good only while few are
(`_MOST`): keys and values come from the network. `tests/dialects/test_usual.py` holds both ways to the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from spanledger_processor.dialects.normalize import COUNTS, Counts, CountValues, Input, Output, contradicted, normalize
from spanledger_processor.dialects.outcome import OUTPUT
from spanledger_processor.dialects.schema import Dialect, Keys, PlainTokens, ScopedSpan, Source
from spanledger_processor.dialects.usage import source_for
from spanledger_processor.dialects.values import MAX_COUNT, text
from spanledger_processor.model import Call, Kind, SixCounts, Usage

_MOST = 4096
"""Readings kept, over all shapes."""
_LONGEST = 512
"""Bytes of a value that is compared."""
_ERROR = 2
_KINDS = frozenset({"llm", "embedding"})

_INCLUSIVE_OUTPUT, _EXCLUSIVE = Output.INCLUSIVE, Input.EXCLUSIVE

_Key: TypeAlias = tuple[Any, ...]
ReportedCounts: TypeAlias = tuple[str, SixCounts, bool]
"""Response id, counts, and whether another reading of them was possible."""


@dataclass(frozen=True, slots=True)
class UsualReading:
    """What a call says beside its counts and its response id."""

    dialect: str
    kind: Kind
    provider: str
    request_model: str
    response_model: str
    price_context: tuple[tuple[str, str], ...]
    agent_id: str
    agent_parent_id: str
    note: str
    present: frozenset[str]
    endpoint_provider: str
    source: Source
    is_error: bool

    def call(self, usage: Usage, response_id: str, *, estimate: bool) -> Call:
        """Return the call with its own usage and response id."""
        return Call(
            self.dialect,
            self.kind,
            "per-message",
            self.provider,
            self.request_model,
            self.response_model,
            usage,
            None,
            "",
            estimate,
            None,
            self.price_context,
            None,
            response_id,
            self.agent_id,
            self.agent_parent_id,
            note=self.note,
            answered=True,
            present=self.present,
            endpoint_provider=self.endpoint_provider,
        )


_readings: dict[_Key, UsualReading] = {}


class UsualCalls:
    """The usual calls of one shape of spans. Make it by `usual_calls`."""

    def __init__(self, dialect: Dialect, tokens: PlainTokens) -> None:
        self._dialect = dialect
        self._tokens = tokens
        self._response_id = dialect.response_id[0]
        self._own_keys = (self._response_id, *tokens.keys)
        self._models = (dialect.request_model, dialect.response_model)
        lists: tuple[Keys, ...] = (
            tuple(kinds.key for kinds in dialect.kinds),
            *(dialect.request_model, dialect.response_model, dialect.provider),
            *(
                dialect.served,
                dialect.asked,
                dialect.served_in,
                dialect.asked_in,
                dialect.endpoints,
                dialect.output_type,
                dialect.agent,
                dialect.agent_parent,
            ),
        )
        self._compared = tuple(dict.fromkeys(key for keys in lists for key in keys))

    def read(self, view: ScopedSpan) -> Call | None:
        """Return what a span says, None if the full rules have to read it."""
        reading = _readings.get(self._key(view))
        return None if reading is None or view.events else self._read(view, reading)

    def learn(self, view: ScopedSpan, call: Call) -> None:
        """Keep the reading of the full rules, if this way comes to the same."""
        key = self._key(view)
        if call.kind not in _KINDS or any(isinstance(part, bytes) and len(part) > _LONGEST for part in key):
            return
        if view.events or not self._tells_all(view, call):
            return
        reading = UsualReading(
            call.dialect,
            call.kind,
            call.provider,
            call.request_model,
            call.response_model,
            call.price_context,
            call.agent_id,
            call.agent_parent_id,
            call.note,
            call.present,
            call.endpoint_provider,
            source_for(self._dialect.sources, call.provider),
            view.status_code == _ERROR and call.kind == "llm",
        )
        if self._read(view, reading) != call:
            return
        if len(_readings) >= _MOST:
            _readings.clear()
        _readings[key] = reading

    def _tells_all(self, view: ScopedSpan, call: Call) -> bool:
        """Return whether nothing but what is compared made the reading what it is: no span's name, no resource."""
        dialect, get = self._dialect, view.attributes.get
        kinds = (kinds.table.get(text(get(kinds.key))) for kinds in dialect.kinds)
        provider = next(filter(None, (text(get(key)) for key in dialect.provider)), dialect.fixed_provider)
        models = [next(filter(None, (text(get(key)) for key in keys)), "") for keys in self._models]
        detected = (dialect.name, next(filter(None, kinds), None), provider, *models)
        return (
            all(detected[:3])
            and any(models)
            and detected
            == (
                call.dialect,
                call.kind,
                call.provider,
                call.request_model,
                call.response_model,
            )
        )

    def _key(self, view: ScopedSpan) -> _Key:
        return (self, view.status_code, *view.attributes.fingerprint(self._compared))

    def reading(self, view: ScopedSpan) -> UsualReading | None:
        """Return what spans like this one say beside their counts and response id; None if that is not known."""
        return None if view.events else _readings.get(self._key(view))

    @property
    def own_keys(self) -> tuple[str, ...]:
        """Return the keys of the response id and of the counts, in which calls of one reading differ."""
        return self._own_keys

    def _read(self, view: ScopedSpan, reading: UsualReading) -> Call | None:
        reported = self.read_counts(view.attributes.get, reading)
        if reported is None:
            return None
        response_id, counts, estimate = reported
        return reading.call(Usage(*counts), response_id, estimate=estimate)

    def read_counts(self, get: Callable[[str], Any], reading: UsualReading) -> ReportedCounts | None:
        """Return what a call tells of its own; None if the full rules have to read it."""
        response_id, numbers = get(self._response_id), [get(key) for key in self._tokens.keys]
        if type(response_id) is not str or any(
            type(number) is not int or not 0 <= number <= MAX_COUNT for number in numbers
        ):
            return None
        return self.counts_from(response_id, numbers, reading)

    def counts_from(self, response_id: str, numbers: Sequence[int], reading: UsualReading) -> ReportedCounts | None:
        """Return the same of the values under `own_keys`, none of which is below 0 or above `MAX_COUNT`."""
        if not response_id or response_id != text(response_id):
            return None
        values = self._tokens.arranged([*numbers, None])
        if not values[0]:
            return None
        source = reading.source
        usual = _usage(values, source.input) if source.output is _INCLUSIVE_OUTPUT else None
        if usual is None:
            usual = _normalized(Counts(*values), source)
            if usual is None:
                return None
        counts, estimate = usual
        if source.absent_cache_is_zero and (counts[2] is None or counts[3] is None):
            counts = (*counts[:2], counts[2] or 0, counts[3] or 0, *counts[4:])
        if values[2] and contradicted(Counts(*values), Usage(*counts)):
            return None
        if reading.is_error or (counts[2] is None and counts[3] is None and source.input is _EXCLUSIVE):
            estimate = True
        return response_id, counts, estimate


def _usage(values: CountValues, means: Input) -> tuple[SixCounts, bool] | None:
    """Return what `normalize` returns, without objects; None where it is not as simple as that."""
    given, output, total, cache_read, cache_write, short, hour, reasoning = values
    if given is None or short is not None or hour is not None or total is not None:
        return None
    if reasoning and output is not None and reasoning > output:
        return None
    cached = (cache_read or 0) + (cache_write or 0)
    estimate = False
    if cached:
        if cached > given or means is _EXCLUSIVE:
            if means is Input.INCLUSIVE:
                return None
            given += cached
        else:
            estimate = means is Input.UNSURE
    return (given, output, cache_read, cache_write, None, reasoning), estimate


def _normalized(counts: Counts, source: Source) -> tuple[SixCounts, bool] | None:
    normalized = normalize(counts, source.input, source.output)
    if normalized.problem:
        return None
    usage = normalized.usage
    six = (usage.input or 0, usage.output, usage.cache_read, usage.cache_write, usage.cache_write_1h, usage.reasoning)
    return six, normalized.estimate


def usual_calls(dialects: tuple[Dialect, ...]) -> UsualCalls | None:
    """Return the usual calls of a shape whose spans these dialects know, each with only the keys that it can have."""
    if not dialects:
        return None
    dialect = dialects[0]
    tokens, plain = dialect.tokens, dialect.tokens.plain
    is_usual = (
        dialect.kind_of is None
        and dialect.completes is None
        and OUTPUT not in dialect.answered
        and not (dialect.rules or dialect.usage_texts or dialect.costs or dialect.own_cache or dialect.increments)
        and all(len(getattr(tokens, name)) <= 1 for name in COUNTS)
        and bool(tokens.input and tokens.output and len(dialect.response_id) == 1)
        and bool(dialect.provider or dialect.fixed_provider)
        and bool(dialect.request_model or dialect.response_model)
    )
    return UsualCalls(dialect, plain) if is_usual and plain is not None and not plain.parts else None
