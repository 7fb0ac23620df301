"""Reads one log record by an event's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from spanledger_processor.dialects import texts
from spanledger_processor.dialects.counts import Counts, Settled, settle
from spanledger_processor.dialects.dialect import Keys
from spanledger_processor.dialects.log_events import LogEvent
from spanledger_processor.dialects.provider_usage import read_usage
from spanledger_processor.dialects.values import NoCountError, count, money, text
from spanledger_processor.dialects.view import Attributes, Event
from spanledger_processor.model import Call, ReportedCost, ToolCall
from spanledger_processor.otlp.envelope import ScopeGroup
from spanledger_processor.otlp.views import LogView

_MAX_DURATION_MS = 7 * 86_400_000


class RecordView:
    """A log record as dialects look at a span."""

    def __init__(self, record: LogView, group: ScopeGroup) -> None:
        self.name = ""
        self.status_code = 0
        self.attributes: Attributes = record.attributes
        self.events: Sequence[Event] = ()
        self.scope_name = group.scope_name
        self.scope_version = group.scope_version
        self.resource: Attributes = group.resource_attributes


@dataclass(frozen=True, slots=True)
class Reading:
    """The attributes of a record, by lists of keys."""

    attributes: Attributes

    def first(self, keys: Keys) -> str:
        """The first text (or number, spelled out) under `keys`."""
        for key in keys:
            value = self.attributes.get(key)
            found = str(value) if isinstance(value, int) else text(value)
            if found:
                return found
        return ""

    def joined(self, keys: Keys) -> str:
        """All values under `keys` where all are there, else nothing."""
        values = [self.first((key,)) for key in keys]
        return "\0".join(values) if values and all(values) else ""

    def count(self, keys: Keys) -> int | None:
        """The first count under `keys`.

        Raises:
            NoCountError: what is there is none.
        """
        for key in keys:
            number = count(self.attributes.get(key))
            if number is not None:
                return number
        return None

    def nanoseconds(self, keys: Keys) -> int:
        """A duration in milliseconds, in nanoseconds; 0 if there is none that makes sense."""
        for key in keys:
            value = self.attributes.get(key)
            try:
                milliseconds = float(value) if isinstance(value, int | float | str) else -1.0
            except ValueError:
                continue
            if 0 <= milliseconds <= _MAX_DURATION_MS:
                return int(milliseconds * 10**6)
        return 0


def call_of(event: LogEvent, attributes: Attributes) -> tuple[Call, Reading] | None:
    """The call that an event reports, None where it says nothing that was spent or done."""
    reading = Reading(attributes)
    call = Call("spanledger", "tool" if event.tool_name else "llm", provider=event.fixed_provider)
    call.agent_id, call.agent_parent_id = reading.first(event.agent), reading.first(event.agent_parent)
    if event.tool_name:
        name = reading.first(event.tool_name)
        arguments = next((value for key in event.arguments if (value := attributes.get(key)) is not None), None)
        call.tool = ToolCall(name or None, arguments, reading.first(event.call_id) or None)
        return (call, reading) if name else None
    settled = _usage(event, reading)
    if settled is None or settled.problem or not (settled.usage.input or settled.usage.output):
        return None
    call.usage, call.estimate = settled.usage, settled.estimate
    call.request_model = reading.first(event.model)
    call.response_id = reading.first(event.request_id)
    if event.usage_text and not call.response_id:
        return None  # the event that counts the same call cannot be told from this one
    for key in event.cost:
        amount = money(attributes.get(key))
        if amount is not None:
            call.reported = ReportedCost(amount, False, key)
    if reading.first(event.speed) == "fast":
        call.price_context = (("speed", "fast"),)
    return call, reading


def _usage(event: LogEvent, reading: Reading) -> Settled | None:
    for key in event.usage_text:
        body = reading.attributes.get(key)
        for usage in texts.usages(body) if isinstance(body, str) else ():
            told = read_usage(usage)
            if told is not None:
                return told.settled
    tokens = event.tokens
    try:
        counts = Counts(
            reading.count(tokens.input),
            reading.count(tokens.output),
            reading.count(tokens.total),
            reading.count(tokens.cache_read),
            reading.count(tokens.cache_write),
            reading.count(tokens.cache_write_5m),
            reading.count(tokens.cache_write_1h),
            reading.count(tokens.reasoning),
        )
    except NoCountError:
        return None
    if counts.input is None and counts.output is None:
        return None
    return settle(counts, event.input, event.output)


def happened(record: LogView) -> int:
    """When a record's event ended, in nanoseconds: its own time, else its timestamp, else when it was observed."""
    if record.time_ns:
        return record.time_ns
    stamp = text(record.attributes.get("event.timestamp"))
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return record.observed_ns
    if moment.tzinfo is None:
        return record.observed_ns
    seconds = moment.timestamp()
    return int(seconds * 1000) * 10**6 if seconds > 0 else record.observed_ns
