"""Send spans to an OTLP endpoint, or to the process that the sidecar runs in, until each is acknowledged or refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias
from urllib.parse import unquote

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from pydantic import ValidationError

from spanledger_exporters.interface import DestinationError, Exporter, Result, Verdict
from spanledger_exporters.otlp_grpc import OtlpGrpc
from spanledger_exporters.otlp_http import OtlpHttp
from spanledger_exporters.settings import OtlpGrpcSettings, OtlpHttpSettings
from spanledger_sidecar.cursor import Batch, Cursor
from spanledger_sidecar.spans import Span, readable

log = logging.getLogger(__name__)

Post: TypeAlias = Callable[[bytes], Result]
"""Sends one encoded ExportTraceServiceRequest and returns the result."""

PROTOCOLS = ("grpc", "http/protobuf")
_TRACES_PATH = "/v1/traces"
_TIMEOUT = 10.0
_LONGEST_TIMEOUT = 60.0
_OF_THE_SENDER = ("HTTP 401", "HTTP 403", "HTTP 404", "HTTP 405", "HTTP 30", "UNAUTHENTICATED", "PERMISSION_DENIED")
"""Refusals of whoever sends, and of any request to that address: smaller requests would be refused as well."""
_REFUSED_IN_A_ROW = 64
"""Spans refused one by one, with none taken in between, after which it is not the spans."""


class Sender(Protocol):
    """Sends spans to one endpoint. `address` is for people."""

    @property
    def address(self) -> str: ...

    def send(self, spans: Sequence[Span]) -> Result:
        """Send, and return the other side's answer. May block for its whole timeout; used by one thread at a time."""
        ...

    def close(self) -> None: ...


class InProcess:
    """Sends to a function of this process, without a socket."""

    address = "the pipeline of this process"

    def __init__(self, post: Post) -> None:
        self._post = post

    def send(self, spans: Sequence[Span]) -> Result:
        return self._post(_encoded(spans))

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class Otlp:
    """Sends by one of the exporters of `serve`, on an event loop of its own."""

    def __init__(self, exporter: Exporter, address: str, timeout: float) -> None:
        self.address = address
        self._exporter = exporter
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(exporter.start())

    def send(self, spans: Sequence[Span]) -> Result:
        deadline = self._loop.time() + self._timeout
        result = self._loop.run_until_complete(self._exporter.send("traces", _encoded(spans), deadline))
        return replace(result, reason=_as_options(result.reason))

    def close(self) -> None:
        self._loop.run_until_complete(self._exporter.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


_AS_OPTIONS = {
    "use otlp_http": "use --protocol http/protobuf",
    "use otlp_grpc": "use --protocol grpc",
    "set tls.insecure to true, or write http://": "write http://",
    "leave tls.insecure out, or write https://": "write https:// in front",
    "into tls.ca_file": "into the file that OTEL_EXPORTER_OTLP_CERTIFICATE names",
    "set tls.server_name_override to it": "use that name in the endpoint",
    ": leave traces out of the exporter's signals": "",
    ", or leave traces out of signals": "",
}
"""Hints of the exporters on their own settings, and the options of the sidecar that correspond to them."""


def _as_options(reason: str) -> str:
    for setting, option in _AS_OPTIONS.items():
        reason = reason.replace(setting, option)
    return reason


def _encoded(spans: Sequence[Span]) -> bytes:
    body: bytes = encode_spans([readable(span) for span in spans]).SerializeToString()
    return body


def otlp(endpoint: str | None, protocol: str | None, environ: Mapping[str, str]) -> Otlp:
    """Return a sender to `endpoint` by `protocol`; None: as OTEL_EXPORTER_OTLP_* say, else gRPC to localhost:4317.

    OTEL_EXPORTER_OTLP_TIMEOUT is in seconds, as OpenTelemetry's exporters for Python read it.

    Raises:
        ValueError: a protocol that is not known, or an address, header or file that cannot be used.
    """

    def given(name: str) -> str:
        return environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")

    chosen = protocol or given("PROTOCOL") or PROTOCOLS[0]
    if chosen not in PROTOCOLS:
        raise ValueError(f"protocol {chosen}: use {' or '.join(PROTOCOLS)}")
    try:
        timeout = min(float(given("TIMEOUT") or _TIMEOUT), _LONGEST_TIMEOUT)
        common = {
            "headers": _headers(given("HEADERS")),
            "compression": "gzip" if given("COMPRESSION") == "gzip" else "none",
            "timeout": f"{timeout}s",
            "tls": _files(given),
        }
        whole = None if endpoint else environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        address = endpoint or whole or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""
        if chosen == "grpc":
            address = _with_scheme(address or "localhost:4317")
            grpc_settings = OtlpGrpcSettings.model_validate({"endpoint": address, **common})
            return Otlp(OtlpGrpc("sidecar", grpc_settings), address, timeout)
        address = _with_scheme(address or "localhost:4318")
        if not whole and not address.rstrip("/").endswith(_TRACES_PATH):
            address = address.rstrip("/") + _TRACES_PATH
        http_settings = OtlpHttpSettings.model_validate({"traces_endpoint": address, **common})
        return Otlp(OtlpHttp("sidecar", http_settings), address, timeout)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except DestinationError as error:
        raise ValueError(str(error)) from None


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"http://{address}"


def _headers(listed: str) -> dict[str, str]:
    """Return headers that are listed as the specification has it: `name=value,name=value`, percent-encoded."""
    pairs = (item.partition("=") for item in listed.split(",") if item.strip())
    return {unquote(name).strip(): unquote(value).strip() for name, _, value in pairs}


def _files(given: Callable[[str], str]) -> dict[str, str]:
    names = {"ca_file": "CERTIFICATE", "cert_file": "CLIENT_CERTIFICATE", "key_file": "CLIENT_KEY"}
    return {key: value for key, name in names.items() if (value := given(name))}


class Outbox:
    """Sends what waits in the cursor, oldest first.

    A request that is refused for good is cut until the spans are found that are: those are kept apart, and the others
    go on. Where it is not the spans but the sender (no permission, no such path), all of them wait. `rejected` counts
    spans that the other side left out of a request that it took; `wait` is how long it asked to wait (seconds).
    """

    def __init__(self, cursor: Cursor, sender: Sender, batch: int) -> None:
        self.rejected = 0
        self.reason = ""
        self.wait = 0.0
        self._cursor = cursor
        self._sender = sender
        self._batch = batch
        self._refused_in_a_row = 0
        self._taken = False
        self._logged = ""

    def send(self) -> bool | None:
        """Send what waited longest; return whether all was acknowledged or set apart, None if nothing waits."""
        batch = self._cursor.oldest(self._batch)
        if not batch:
            return None
        refused: Batch = []
        went = self._deliver(batch, refused)
        if refused and self._taken:
            self._cursor.set_apart(refused)
            log.warning(
                "%s refuses %d spans for good (%s); they are kept apart, and offered again at the next start",
                *(self._sender.address, len(refused), self.reason),
            )
        elif refused:
            went = False
            self._fails(self.reason)
        if went and not refused:
            if self._logged:
                log.warning("%s takes spans again", self._sender.address)
            self.reason = self._logged = ""
        return went

    def drain(self) -> bool:
        """Send all that waits; false as soon as something is not acknowledged."""
        while (sent := self.send()) is not None:
            if not sent:
                return False
        return True

    def _deliver(self, batch: Batch, refused: Batch) -> bool:
        """Return whether it is worth while to go on; spans that are refused for good are added to `refused`."""
        result = self._sender.send([span for _, span in batch])
        self.wait = result.retry_after or 0.0
        if result.verdict is Verdict.ACCEPTED:
            self._accepted(batch, result)
            return True
        if result.verdict is Verdict.RETRYABLE or result.reason.startswith(_OF_THE_SENDER):
            self._fails(result.reason)
            return False
        if len(batch) > 1:
            middle = len(batch) // 2
            return self._deliver(batch[:middle], refused) and self._deliver(batch[middle:], refused)
        refused += batch
        self.reason = result.reason
        self._refused_in_a_row += 1
        if self._refused_in_a_row <= _REFUSED_IN_A_ROW:
            return True
        refused.clear()
        self._fails(result.reason)
        return False

    def _accepted(self, batch: Batch, result: Result) -> None:
        self._cursor.acknowledged(batch)
        self._taken, self._refused_in_a_row = True, 0
        if result.rejected:
            self.rejected += result.rejected
            log.warning(
                "%s left out %d of %d spans that it was sent: %s",
                *(self._sender.address, result.rejected, len(batch), result.reason or "it does not say why"),
            )

    def _fails(self, reason: str) -> None:
        """Log a failure once an outage, and again when the reason is another one."""
        if reason != self._logged:
            log.warning(
                "%s does not take spans (%s); %d wait, and are tried again",
                *(self._sender.address, reason, self._cursor.waiting()),
            )
        self.reason = self._logged = reason
