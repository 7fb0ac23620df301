"""Log events that report calls, as trace requests of synthesized spans (docs/contract.md#synthesized-spans).

The log stays. A span is encoded once, for the exporters; the stage reads it by the values that it was encoded of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from spanledger_processor.dialects.log_events import LOG_MARKERS, synthesize
from spanledger_processor.enrichment.stage import SLICE
from spanledger_processor.model import Signature, ToolCall
from spanledger_processor.otlp.encoding import SynthesizedSpan, encoding_traces
from spanledger_processor.otlp.envelope import ScopeGroup
from spanledger_processor.otlp.prefilter import Prefilter
from spanledger_processor.otlp.request import TraceRequest, parsing_logs
from spanledger_processor.otlp.values import GIANT
from spanledger_processor.otlp.views import LogView
from spanledger_processor.otlp.wire import MalformedError, Steps, finished


@dataclass(slots=True)
class LogReading:
    """A log request as it was read: how many records, and the spans that were synthesized, each once.

    `failures` counts by reason the records of which no span could be made although one was due.
    """

    records: int
    spans: list[SynthesizedSpan] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


class LogStage:
    """Makes spans of log events.

    `tenant_of` gives the tenant's name from resource attributes and request headers; `sign` signs tool calls, whose
    arguments stay in the log.
    """

    def __init__(
        self, tenant_of: Callable[[ScopeGroup, Mapping[str, str]], str], sign: Callable[[ToolCall], Signature | None]
    ) -> None:
        self._tenant_of = tenant_of
        self._sign = sign
        self._marks = Prefilter(LOG_MARKERS)

    def read(self, body: bytes, headers: Mapping[str, str]) -> LogReading:
        """Read one export request (protobuf).

        Raises:
            MalformedError: these bytes are no ExportLogsServiceRequest.
        """
        return finished(self.reading(body, headers))

    def reading(self, body: bytes, headers: Mapping[str, str]) -> Steps[LogReading]:
        """Read one export request (protobuf) in slices: yields after each `SLICE`, returns the reading.

        Raises:
            MalformedError: these bytes are no ExportLogsServiceRequest.
        """
        groups = yield from parsing_logs(body)
        reading = LogReading(sum(len(group.items) for group in groups))
        if not (yield from self._marks.searching(body)):
            return reading
        spans: dict[bytes, SynthesizedSpan] = {}
        """By id: a queue between may have put a request that was sent again into one with the first."""
        for index, group in enumerate(groups):
            tenant = self._tenant_of(group, headers)
            if index % SLICE == SLICE - 1:
                yield None
            for number, record in enumerate(group.items):
                if number % SLICE == SLICE - 1:
                    yield None
                steps = partial(self._synthesized, record, group, tenant, reading.failures)
                for span in steps() if len(record) <= GIANT else (yield steps):
                    spans.setdefault(span.trace_id + span.span_id, span)
        reading.spans = [*spans.values()]
        return reading

    def _synthesized(
        self, record: bytes, group: ScopeGroup, tenant: str, failures: Counter[str]
    ) -> list[SynthesizedSpan]:
        if not any(mark in record for mark in LOG_MARKERS):
            return []
        try:
            view = LogView.parse(record)
            span = synthesize(view, group, tenant, self._sign)
            if len(record) > GIANT:
                view.attributes.clear()
        except MalformedError:
            failures["malformed_log_record"] += 1
        except Exception as error:  # noqa: BLE001 - docs/contract.md#promise-2-nothing-is-lost
            failures[type(error).__name__] += 1
        else:
            return [] if span is None else [span]
        return []


def encoding(spans: list[SynthesizedSpan]) -> Steps[TraceRequest]:
    """Return spans as a trace request, in slices; lets go of each: `spans` is empty then."""
    spans.reverse()  # to free all of many at once takes long
    return encoding_traces(_taken(spans))


def _taken(left: list[SynthesizedSpan]) -> Iterator[SynthesizedSpan]:
    """Yield spans from the last one back, and let go of each: to free all of many at once takes long."""
    while left:
        yield left.pop()
