"""The enricher: spanledger.enrich.v1 for the Collector component, which selects spans here and delivers by itself.

The messages are described by processor/collector/enrich.proto. They are written and read by hand, because the telemetry
in them stays as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from spanledger_processor.config.receivers import MIB, EnricherSettings
from spanledger_processor.otlp.encoding import delimited
from spanledger_processor.otlp.wire import LENGTH, VARINT, fields, write_varint
from spanledger_processor.receivers.driver import RequestDriver, RequestObserver
from spanledger_processor.receivers.grpc import GrpcListener
from spanledger_processor.receivers.memory_limiter import MemoryLimiter

SERVICE = "spanledger.enrich.v1.Enricher"
PROTOCOL = 1
"""The version spoken; fields are only added to it."""

WHERE = "receivers.enricher"


class UnreadValue(Protocol):
    """A key of content whose value a client may leave out, and of which spans (`dialects.content`)."""

    @property
    def key(self) -> str: ...

    @property
    def unless_keys(self) -> tuple[str, ...]: ...

    @property
    def unless_scopes(self) -> tuple[str, ...]: ...

    @property
    def unless_names(self) -> tuple[str, ...]: ...

    @property
    def where(self) -> str: ...

    @property
    def values(self) -> tuple[str, ...]: ...


class ReadValue(Protocol):
    """A value under such a key that a client may not leave out, where all holds that is set (`dialects.content`)."""

    @property
    def key(self) -> str: ...

    @property
    def fewest(self) -> int: ...

    @property
    def markers(self) -> tuple[str, ...]: ...

    @property
    def longest(self) -> int: ...

    @property
    def beside(self) -> str: ...

    @property
    def same_place(self) -> bool: ...


class Description(Protocol):
    """What a client selects by."""

    @property
    def span_markers(self) -> tuple[str, ...]: ...

    @property
    def log_markers(self) -> tuple[str, ...]: ...

    @property
    def link_keys(self) -> tuple[str, ...]: ...

    @property
    def unread_values(self) -> Sequence[UnreadValue]: ...

    @property
    def read_values(self) -> Sequence[ReadValue]: ...

    @property
    def trusted(self) -> bool: ...

    @property
    def revision(self) -> str:
        """Return a text that changes with the lists."""
        ...


class SpanAnswers(Protocol):
    """What becomes of the spans of a request, by their place in it: encoded attributes to be appended, of each span
    that gains or loses any, places of forged ones that are moved aside, and failures.
    """

    @property
    def seen(self) -> int: ...

    @property
    def attributes(self) -> Mapping[int, bytes]: ...

    @property
    def forged(self) -> Mapping[int, Sequence[int]]: ...

    @property
    def failures(self) -> Mapping[int, str]: ...


class SynthesizedSpans(Protocol):
    """Spans made from log records, as an export request."""

    @property
    def records(self) -> int: ...

    @property
    def failed(self) -> int: ...

    @property
    def traces(self) -> bytes: ...


class Enricher(Protocol):
    """Everything behind this receiver."""

    @property
    def description(self) -> Description: ...

    async def enrich(self, body: bytes, headers: Mapping[str, str]) -> SpanAnswers:
        """Commit the spans of an encoded trace request and return what they gain; raises MalformedError."""
        ...

    async def synthesize(self, body: bytes, headers: Mapping[str, str]) -> SynthesizedSpans:
        """Commit the calls that an encoded log request reports and return them as spans; raises MalformedError."""
        ...


class EnricherReceiver:
    """One listener; its port is 0 for a socket in the file system."""

    def __init__(self, settings: EnricherSettings, enricher: Enricher, observer: RequestObserver) -> None:
        self._enricher = enricher
        self._largest = settings.max_request_bytes
        limiter = MemoryLimiter(settings.max_in_flight_mib * MIB, lambda _: None)
        self._driver = RequestDriver(None, limiter, observer)
        self._listener = GrpcListener(settings, WHERE, self._driver, "enricher")
        methods = {
            "Describe": self._listener.method("traces", self._describe),
            "EnrichTraces": self._listener.method("traces", self._enrich_traces),
            "MakeSpans": self._listener.method("logs", self._make_spans),
        }
        self._listener.add_service(SERVICE, methods)

    @property
    def listening(self) -> Mapping[str, bool]:
        """Return by name whether it takes requests."""
        return {"enricher": self._listener.listening}

    @property
    def ports(self) -> Mapping[str, int]:
        """Return by name the port it listens on, once started."""
        return {"enricher": self._listener.port}

    def reload(self, settings: EnricherSettings) -> None:
        """Use the token and the certificates of other settings from now on; raises OSError."""
        self._listener.reload(settings)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours, or a certificate cannot be used.
        """
        await self._listener.start()

    async def stop(self, grace: float) -> None:
        """Refuse requests, give those under way `grace` seconds to end, and close."""
        await self._listener.begin_drain()
        await self._driver.drain(grace)
        await self._listener.stop()

    async def _describe(self, _body: bytes, _headers: Mapping[str, str]) -> bytes:
        description = self._enricher.description
        lists = enumerate((description.span_markers, description.log_markers, description.link_keys), start=3)
        return b"".join(
            (
                _number(1, PROTOCOL),
                _text(2, description.revision),
                *(_text(field, value) for field, values in lists for value in values),
                _number(6, self._largest),
                *(delimited(7, _unread(value)) for value in description.unread_values),
                _number(8, description.trusted),
                *(delimited(9, _read(value)) for value in description.read_values),
                _number(10, 1),
            )
        )

    async def _enrich_traces(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        revision, telemetry = read_request(body)
        if revision != self._enricher.description.revision:
            return _number(4, 1)
        answers = await self._enricher.enrich(telemetry, headers)
        failures = answers.failures
        attributes = answers.attributes
        decided = len(attributes.keys() - failures) if failures else len(attributes)
        numbers = _number(1, answers.seen), _number(2, decided), _number(3, len(failures))
        more = {span: delimited(4, b"".join(map(write_varint, forged))) for span, forged in answers.forged.items()}
        for span, reason in failures.items():
            more[span] = more.get(span, b"") + _text(3, reason)
        without = {span: b"" for span in failures if span not in attributes}
        return b"".join((*numbers, *_entries(attributes, more), *_entries(without, more)))

    async def _make_spans(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        revision, telemetry = read_request(body)
        if revision != self._enricher.description.revision:
            return _number(3, 1)
        spans = await self._enricher.synthesize(telemetry, headers)
        return b"".join((_number(1, spans.records), _number(2, spans.failed), delimited(4, spans.traces)))


def read_request(body: bytes) -> tuple[str, bytes]:
    """Return revision and telemetry of an EnrichTracesRequest or MakeSpansRequest, which have the same fields.

    Raises:
        MalformedError: it is none.
    """
    revision = telemetry = b""
    for field in fields(body, 0, len(body)):
        if field.wire_type == LENGTH and field.number == 1:
            revision = body[field.start : field.end]
        elif field.wire_type == LENGTH and field.number == 2:
            telemetry = body[field.start : field.end]
    return revision.decode("utf-8", "replace"), telemetry


def _entries(attributes: Mapping[int, bytes], more: Mapping[int, bytes]) -> list[bytes]:
    """Return the pieces of fields 5, SpanAnswers, of spans with their attributes, which are copied once, into the
    message; `more` are other fields of an answer.
    """
    pieces: list[bytes] = []
    for span, extra in attributes.items():
        place, size = write_varint(span), write_varint(len(extra))
        rest = more.get(span, b"") if more else b""
        length = write_varint(2 + len(place) + len(size) + len(extra) + len(rest))
        pieces += (b"\x2a", length, b"\x08", place, b"\x12", size, extra, rest)
    return pieces


def _unread(value: UnreadValue) -> bytes:
    """Encode an UnreadValue."""
    lists = enumerate((value.unless_keys, value.unless_scopes, value.unless_names, value.values), start=2)
    entries = b"".join(_text(field, text) for field, texts in lists for text in texts)
    return _text(1, value.key) + entries + (_text(6, value.where) if value.where else b"")


def _read(value: ReadValue) -> bytes:
    """Encode a ReadValue."""
    markers = b"".join(_text(2, marker) for marker in value.markers)
    numbers = _number(3, value.fewest) + (_number(4, value.longest) if value.longest else b"")
    beside = _text(5, value.beside) + _number(6, value.same_place) if value.beside else b""
    return _text(1, value.key) + markers + numbers + beside


def _number(field: int, value: int) -> bytes:
    return write_varint(field << 3 | VARINT) + write_varint(value)


def _text(field: int, value: str) -> bytes:
    return delimited(field, value.encode("utf-8", "replace"))
