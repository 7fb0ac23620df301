"""What to set where a destination cannot be reached for a reason that its answer gives away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

from spanledger_exporters.interface import Result, Signal, Verdict

Protocol: TypeAlias = Literal["grpc", "https", "http", "grpc without TLS"]

_NO_GRPC = (
    "what answers there is no gRPC, perhaps OTLP/HTTP: send to its gRPC port (4317 unless configured), or use otlp_http"
)
_NO_HTTP = (
    "what answers there is no HTTP, perhaps gRPC: send to its HTTP port (4318 unless configured), or use otlp_grpc"
)
_NO_SERVICE = "this destination takes no {signal}: leave {signal} out of the exporter's signals"
_UNKNOWN_AUTHORITY = "put the authority that signed the destination's certificate into tls.ca_file"
_OTHER_NAME = "the certificate is for another name: set tls.server_name_override to it"

_HINTS: Mapping[Protocol, tuple[tuple[str, str], ...]] = {
    "grpc": (
        ("WRONG_VERSION_NUMBER", "the destination speaks no TLS: set tls.insecure to true, or write http:// in front"),
        ("CERTIFICATE_VERIFY_FAILED|unable to get local issuer", _UNKNOWN_AUTHORITY),
        ("Hostname Verification|Peer name .* is not in", _OTHER_NAME),
        ("Failed parsing HTTP/2|http1|No ALPN|ALPN", _NO_GRPC),
        ("^UNIMPLEMENTED", _NO_SERVICE),
    ),
    "grpc without TLS": (
        ("Failed parsing HTTP/2|http1", _NO_GRPC),
        ("Connection reset|Socket closed", "if the destination speaks TLS, leave tls.insecure out, or write https://"),
        ("^UNIMPLEMENTED", _NO_SERVICE),
    ),
    "https": (
        ("WRONG_VERSION_NUMBER", "the destination speaks no TLS at this port: write http://, or give its TLS port"),
        ("CERTIFICATE_VERIFY_FAILED.*(?:ostname|IP address) mismatch", _OTHER_NAME),
        ("CERTIFICATE_VERIFY_FAILED", _UNKNOWN_AUTHORITY),
        ("^HTTP 404", "nothing takes {signal} at this URL: correct its path, or leave {signal} out of signals"),
    ),
    "http": (
        ("illegal request line|illegal status line", _NO_HTTP),
        ("^ReadError|disconnected", "if the destination speaks TLS, write https://; if gRPC, use otlp_grpc"),
        ("^HTTP 404", "nothing takes {signal} at this URL: correct its path, or leave {signal} out of signals"),
    ),
}
"""By how it was spoken to: a pattern in the reason of a failure, and what is to be done."""


def with_hint(result: Result, protocol: Protocol, signal: Signal) -> Result:
    """Return the result of a send; a failure that is known tells in its reason what to do about it."""
    if result.verdict is Verdict.ACCEPTED:
        return result
    for pattern, hint in _HINTS[protocol]:
        if re.search(pattern, result.reason):
            return replace(result, reason=f"{result.reason} ({hint.format(signal=signal)})")
    return result
