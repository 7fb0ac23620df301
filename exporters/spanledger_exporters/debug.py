"""Readable lines on the terminal: one for a request, or one for each item. Attributes only as a display allows them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Protocol, TextIO, TypeAlias

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from spanledger_exporters.executor import SerialExecutor
from spanledger_exporters.interface import ACCEPTED, Result, Signal, Verdict, logger_of, one_line
from spanledger_exporters.settings import DebugSettings
from spanledger_processor.otlp.request import count_data_points, count_log_records, parse_logs, parse_traces
from spanledger_processor.otlp.views import Attributes, LogView, SpanView
from spanledger_processor.otlp.wire import MalformedError

_TERMINAL_SECONDS = 1.0
"""How long a request waits for a terminal that does not move."""
_ERROR = 2
"""Status.code of a span that failed."""
_LONGEST_NAME = 80
_LONGEST_VALUE = 120
"""Characters that are shown."""

_Request: TypeAlias = tuple[Signal, bytes]


class Display(Protocol):
    """What is shown beyond names, times and ids; without one, no attribute is shown at all."""

    def allows(self, key: str) -> bool:
        """Return whether the attribute's value can hold no content (prompts, arguments) and may be shown."""
        ...

    def name(self, span: SpanView, scope: str) -> str:
        """Return the span's name, or another text where it may hold content."""
        ...

    def summary(self, spans: Sequence[Attributes]) -> str:
        """Return what follows the number of spans in the line for a request."""
        ...

    def details(self, shown: Mapping[str, str]) -> Iterator[str]:
        """Yield the parts of a span's line that show its allowed attributes, given as text by key."""
        ...


class NoDisplay:
    """Shows no attribute."""

    def allows(self, key: str) -> bool:  # noqa: ARG002
        """Return False: no key is known to be harmless."""
        return False

    def name(self, span: SpanView, scope: str) -> str:  # noqa: ARG002
        """Return no part of the name: what it holds is not known."""
        return "a span"

    def summary(self, spans: Sequence[Attributes]) -> str:  # noqa: ARG002
        """Return an empty text."""
        return ""

    def details(self, shown: Mapping[str, str]) -> Iterator[str]:  # noqa: ARG002
        """Yield no part."""
        yield from ()


class Debug:
    """Writes lines to `stream`, standard output if it is None.

    Every request is accepted: a terminal that is closed or stopped is no reason to hold up or to lose data.
    """

    def __init__(
        self, name: str, settings: DebugSettings, stream: TextIO | None = None, display: Display | None = None
    ) -> None:
        self.name = name
        self.required = settings.required
        self.signals = settings.signals
        self._verbosity = settings.verbosity
        self._stream = stream or sys.stdout
        self._display = display or NoDisplay()
        self._log = logger_of(name)
        self._executor: SerialExecutor[_Request, Result] = SerialExecutor(name, self._write)

    def address(self, _: Signal) -> str:
        """Return what it writes to."""
        return "the terminal"

    async def start(self) -> None:
        """Do nothing: there is nothing to make ready."""

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        """Return accepted when the lines are written, or soon after where they cannot be."""
        end = min(deadline, asyncio.get_running_loop().time() + _TERMINAL_SECONDS)
        try:
            async with asyncio.timeout_at(end):
                result = await self._executor.run((signal, body), end)
        except TimeoutError:
            result = None
        except Exception as error:  # noqa: BLE001 - a bug in what is shown must not hold up what is not
            self._log.exception("unexpected error; the request counts as accepted")
            result = _not_shown(f"unexpected {type(error).__name__}")
        return result or _not_shown("the terminal does not move")

    async def close(self) -> None:
        """Write what waits."""
        await self._executor.close()

    def _write(self, requests: Sequence[_Request]) -> Sequence[Result]:
        text = "".join(f"{line}\n" for signal, body in requests for line in self._lines(signal, body))
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except OSError as error:
            return [_not_shown(error.strerror or type(error).__name__)] * len(requests)
        return [ACCEPTED] * len(requests)

    def _lines(self, signal: Signal, body: bytes) -> Iterator[str]:
        try:
            yield summary(signal, body, self._display)
            if self._verbosity != "basic":
                yield from _ITEMS[signal](body, self._display, self._verbosity == "detailed")
        except MalformedError as error:
            yield f"{signal}: cannot be read: {error}"


def summary(signal: Signal, body: bytes, display: Display) -> str:
    """Return one line for a request."""
    if signal == "traces":
        views = [view for view, _ in _views(body)]
        return f"traces: {len(views)} spans" + display.summary([view.attributes for view in views if view is not None])
    if signal == "logs":
        return f"logs: {count_log_records(body)} log records"
    return f"metrics: {count_data_points(body)} data points"


def _not_shown(reason: str) -> Result:
    return Result(Verdict.ACCEPTED, f"not shown: {reason}")


def _views(body: bytes) -> Iterator[tuple[SpanView | None, str]]:
    """Yield all spans, None for one that cannot be read, with the names of their scopes."""
    for group in parse_traces(body).groups:
        for span in group.items:
            try:
                yield SpanView.parse(span), group.scope_name
            except MalformedError:
                yield None, group.scope_name


def _spans(body: bytes, display: Display, detailed: bool) -> Iterator[str]:  # noqa: FBT001
    for view, scope in _views(body):
        if view is None:
            yield "  a span that cannot be read"
            continue
        shown = _shown(view.attributes, display)
        seconds = max(0, view.end_ns - view.start_ns) / 1e9
        parts = [
            one_line(display.name(view, scope), _LONGEST_NAME) or "a span without a name",
            f"{seconds:.3f} s",
            "error" if view.status_code == _ERROR else "",
            *display.details(shown),
            f"trace {view.trace_id.hex()} span {view.span_id.hex()}",
        ]
        yield _joined(parts)
        if detailed:
            yield from _listed(shown)


def _logs(body: bytes, display: Display, detailed: bool) -> Iterator[str]:  # noqa: FBT001
    for encoded in chain.from_iterable(group.items for group in parse_logs(body)):
        try:
            record = LogView.parse(encoded)
        except MalformedError:
            yield "  a log record that cannot be read"
            continue
        parts = [
            one_line(record.event_name, _LONGEST_NAME) or "a log record",
            f"severity {record.severity_number}" if record.severity_number else "",
            f"trace {record.trace_id.hex()} span {record.span_id.hex()}" if record.trace_id else "",
        ]
        yield _joined(parts)
        if detailed:
            yield from _listed(_shown(record.attributes, display))


def _metrics(body: bytes, display: Display, detailed: bool) -> Iterator[str]:  # noqa: ARG001, FBT001
    try:
        request = ExportMetricsServiceRequest.FromString(body)
    except DecodeError:  # text that is not UTF-8: allowed in our pipeline, not in this parser
        yield "  metrics whose names cannot be read"
        return
    for resource in request.resource_metrics:
        for metric in chain.from_iterable(scope.metrics for scope in resource.scope_metrics):
            data = metric.WhichOneof("data")
            points = len(getattr(metric, data).data_points) if data else 0
            yield f"  {one_line(metric.name, _LONGEST_NAME)}, {data or 'no data'}, {points} data points"


_ITEMS: Mapping[Signal, Callable[[bytes, Display, bool], Iterator[str]]] = {
    "traces": _spans,
    "logs": _logs,
    "metrics": _metrics,
}


def _joined(parts: Sequence[str]) -> str:
    return "  " + ", ".join(part for part in parts if part)


def _listed(shown: Mapping[str, str]) -> Iterator[str]:
    return (f"    {key}: {value}" for key, value in shown.items())


def _shown(attributes: Attributes, display: Display) -> dict[str, str]:
    """Return the attributes that may be shown, as text, by key. Values that hold other values are left out."""
    texts = ((key, _text(attributes, key)) for key in sorted(attributes.keys()) if display.allows(key))
    return {one_line(key): text for key, text in texts if text is not None}


def _text(attributes: Attributes, key: str) -> str | None:
    try:
        value = attributes.get(key)
    except MalformedError:
        return "(cannot be read)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return one_line(value, _LONGEST_VALUE) if isinstance(value, str) else None
