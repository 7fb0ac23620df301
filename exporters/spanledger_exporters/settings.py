"""Settings of each kind of destination (the Collector's names and defaults, and two of our own), and durations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    field_validator,
    model_validator,
)

from spanledger_exporters.interface import Signal

_NANOSECONDS = {
    "d": 86400 * 10**9,
    "h": 3600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ns": 1,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d)", re.ASCII)
_LONGEST = 100
"""Characters: no duration that a person writes is longer."""
_MOST = (2**63 - 1) / 1e9
"""Seconds: what the nanoseconds of Go's time.Duration can hold."""


def parse(text: str) -> float:
    """Return seconds of a Go duration string; "d" (24 h) is ours, since retention is given in days.

    Raises:
        ValueError: it is not a duration, or negative.
    """
    trimmed = text.strip()
    if trimmed == "0":
        return 0.0
    seconds, position = 0.0, 0
    while position < len(trimmed) <= _LONGEST and (part := _PART.match(trimmed, position)):
        seconds += float(part[1]) * _NANOSECONDS[part[2]] / 1e9
        position = part.end()
    if not trimmed or position != len(trimmed):
        raise ValueError("not a duration: write a number with a unit, such as 200ms, 5s, 1m30s, 24h or 90d")
    if seconds > _MOST:
        raise ValueError("longer than a duration can be (292 years)")
    return seconds


def render(seconds: float) -> str:
    """Return a duration string that reads back as `seconds`, in the largest unit that fits it whole (a day is 24h)."""
    nanoseconds = round(seconds * 1e9)
    for unit, size in _NANOSECONDS.items():
        count, rest = divmod(nanoseconds, size)
        if not rest and count >= (2 if unit == "d" else 1):
            return f"{count}{unit}"
    return "0s"


def _read(value: Any) -> Any:
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != 0:
        raise ValueError("a duration needs a unit, such as 5s")
    return 0.0


Duration = Annotated[float, BeforeValidator(_read, json_schema_input_type=str), PlainSerializer(render)]
"""A pydantic field type: reads a Go duration string, holds float seconds. Defaults are given in seconds."""


ALL_SIGNALS: frozenset[Signal] = frozenset(("traces", "logs", "metrics"))

Compression: TypeAlias = Literal["gzip", "none"]
HttpCompression: TypeAlias = Literal["gzip", "zstd", "zlib", "deflate", "snappy", "x-snappy-framed", "lz4", "none"]


class Settings(BaseModel):
    """Common ground: unknown keys are errors, values never change, and no error repeats a value (it may be secret)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        defer_build=True,  # validators are built once, inside the whole that is validated, and not for each part
    )


class TlsSettings(Settings):
    """How the destination is trusted, and how we show who we are."""

    insecure: bool = Field(
        default=False, description="Speak without TLS (gRPC only; over HTTP the URL's scheme decides)."
    )
    insecure_skip_verify: bool = Field(
        default=False, description="Use TLS but trust any certificate (OTLP/HTTP only: gRPC cannot)."
    )
    ca_file: str | None = Field(
        default=None, min_length=1, description="PEM file of the authorities to trust; default: the system's."
    )
    cert_file: str | None = Field(
        default=None, min_length=1, description="PEM file of our certificate, for mutual TLS."
    )
    key_file: str | None = Field(default=None, min_length=1, description="PEM file of our private key, for mutual TLS.")
    server_name_override: str | None = Field(
        default=None,
        min_length=1,
        description="Name to expect in the destination's certificate, where it differs from the endpoint's.",
    )

    @model_validator(mode="after")
    def _pair(self) -> TlsSettings:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: set both or neither")
        return self

    def needs_tls(self) -> bool:
        """Return whether anything here makes sense only with TLS on."""
        return any((self.ca_file, self.cert_file, self.server_name_override, self.insecure_skip_verify))


class RetrySettings(Settings):
    """Retries of one request inside the time its sender waits: exponential, with jitter."""

    enabled: bool = Field(
        default=True, description="Try again after a retryable failure, while the sender still waits."
    )
    initial_interval: Duration = Field(default=5.0, gt=0, description="Wait before the first retry.")
    randomization_factor: float = Field(
        default=0.5, ge=0, le=1, description="Each wait is spread by this part of itself, up and down."
    )
    multiplier: float = Field(default=1.5, ge=1, description="Each wait is this many times the one before.")
    max_interval: Duration = Field(default=30.0, gt=0, description="No wait grows beyond this.")
    max_elapsed_time: Duration = Field(
        default=300.0, ge=0, description="Give up after this long; 0: only when the sender's own time is up."
    )


def _folder(storage: str) -> str:
    if re.fullmatch(r"file_storage(?:/.*)?", storage):
        raise ValueError("there are no extensions: write the folder that the queue is kept in, or leave it out")
    return storage


class QueueSettings(Settings):
    """A queue on disk between the sender's answer and delivery; not given up but for an answer of the destination."""

    enabled: bool = Field(
        default=False,
        description="Answer senders once a request is on disk, and deliver from there. false: once it is delivered.",
    )
    storage: Annotated[str, AfterValidator(_folder)] | None = Field(
        default=None,
        min_length=1,
        description="Folder of the queue's files, on a local disk; made with mode 0700, the files with 0600.",
        json_schema_extra={"default": "`<state.path>/queue/<component id>`"},
    )
    queue_size: int = Field(
        default=1000, gt=0, description="What it holds at most, as `sizer` counts; beyond it senders keep the data."
    )
    sizer: Literal["requests", "items", "bytes"] = Field(
        default="requests", description="What `queue_size` counts; items are spans, log records and data points."
    )
    block_on_overflow: bool = Field(
        default=False, description="Where it is full: let senders wait for room, instead of telling them to try again."
    )
    num_consumers: int = Field(default=10, gt=0, description="Requests that are sent from it at the same time.")


class KeepaliveSettings(Settings):
    """HTTP/2 pings on an idle gRPC connection."""

    time: Duration = Field(default=10.0, gt=0, description="Ping after this long without traffic.")
    timeout: Duration = Field(
        default=10.0, gt=0, description="The connection is dead when a ping is not answered in this time."
    )
    permit_without_stream: bool = Field(default=False, description="Ping even while no request is under way.")


def _signals(names: frozenset[Signal]) -> frozenset[Signal]:
    if not names:
        raise ValueError("name at least one of traces, logs, metrics, or leave it out for all")
    return names


_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[\x20-\x7e\t]*", re.ASCII)


def _headers(headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if not _VALUE.fullmatch(value.get_secret_value()):
            raise ValueError(f"the value of {name} has characters that no header can carry (only printable ASCII can)")
    return headers


Headers: TypeAlias = Annotated[Mapping[str, SecretStr], AfterValidator(_headers)]


Scalar: TypeAlias = str | int | float | bool | None

Match: TypeAlias = Mapping[str, tuple[Scalar, ...]]
"""By resource attribute: the values of which it has one; None: it has none, or an empty one."""


def _listed(given: Any) -> Any:
    if not isinstance(given, Mapping):
        return given
    if not given:
        raise ValueError("name at least one resource attribute, or leave it out for everything")
    return {key: values if isinstance(values, (list, tuple)) else [values] for key, values in given.items()}


def _valued(match: Match | None) -> Match | None:
    for key, values in (match or {}).items():
        if not key.strip() or not values:
            raise ValueError(f"{key or 'an empty key'}: name the attribute and at least one value")
    return match


class ExporterSettings(Settings):
    """What is ours on every exporter.

    `exporter` names its module and class: imported when first built, because gRPC and an HTTP client take long to load,
    and few need both.
    """

    exporter: ClassVar[tuple[str, str]]

    required: bool = Field(
        default=True,
        description="The sender is answered once this destination has the data; false: sent to, not waited for.",
    )
    signals: Annotated[frozenset[Signal], AfterValidator(_signals)] = Field(
        default=ALL_SIGNALS, description="The signals it gets; default: all it can take."
    )
    match: Annotated[Match | None, BeforeValidator(_listed), AfterValidator(_valued)] = Field(
        default=None,
        description="The resources it gets: by resource attribute, the value or list of values of which each has "
        "one; `null`: the attribute is not there. Every attribute named has to match. Default: all resources.",
    )

    @property
    def takes(self) -> frozenset[Signal]:
        """Return the signals it gets."""
        return self.signals

    @property
    def address(self) -> str:
        """Return where it sends to, as people write it; nothing secret."""
        return "the terminal"


class NetworkSettings(ExporterSettings):
    """What destinations in the network share."""

    tls: TlsSettings = Field(default=TlsSettings(), description="Transport security.")
    headers: Headers = Field(
        default_factory=dict,
        description="Sent with every request, e.g. authorization; kept secret.",
    )
    retry_on_failure: RetrySettings = Field(default=RetrySettings(), description="Retries.")
    sending_queue: QueueSettings = Field(
        default=QueueSettings(), description="A queue on disk between the sender's answer and delivery."
    )
    dead_letter: str | None = Field(
        default=None,
        min_length=1,
        description="File that gets the requests which the destination refuses for good, one OTLP-JSON request a line, "
        "mode 0600; `spanledger replay FILE` sends them. Default: they are lost, and logged.",
    )

    @model_validator(mode="after")
    def _retried(self) -> NetworkSettings:
        if self.sending_queue.enabled and not self.retry_on_failure.enabled:
            raise ValueError("retry_on_failure.enabled: a sending_queue keeps what is not accepted, and tries again")
        return self


def _sendable_over_grpc(compression: Any) -> Any:
    if compression in ("zstd", "snappy"):
        raise ValueError(f"{compression} is not possible: gRPC in Python sends gzip or none. Use otlp_http for it")
    return compression


class OtlpGrpcSettings(NetworkSettings):
    """OTLP over gRPC."""

    exporter = ("otlp_grpc", "OtlpGrpc")
    endpoint: str = Field(
        min_length=1,
        description="host:port. https:// in front means TLS, http:// means none; without either tls.insecure decides. "
        "gRPC's own schemes (dns:///, unix:) pass through.",
    )
    compression: Annotated[Compression, BeforeValidator(_sendable_over_grpc)] = Field(
        default="gzip", description="How requests are compressed; gRPC in Python sends no zstd and no snappy."
    )
    timeout: Duration = Field(default=5.0, gt=0, description="For one attempt.")
    keepalive: KeepaliveSettings | None = Field(default=None, description="Pings on idle connections; default: none.")

    @property
    def address(self) -> str:
        """Return host and port."""
        return self.endpoint

    @field_validator("endpoint")
    @classmethod
    def _addressed(cls, endpoint: str) -> str:
        _check_address(_split(endpoint)[1])
        return endpoint

    @field_validator("tls")
    @classmethod
    def _verified(cls, tls: TlsSettings) -> TlsSettings:
        if tls.insecure_skip_verify:
            raise ValueError(
                "insecure_skip_verify is not possible: gRPC in Python always verifies. Put the destination's authority "
                "in ca_file, and its name in server_name_override where that differs from the endpoint's"
            )
        return tls

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        for name in headers:
            if name.lower().startswith("grpc-") or name.lower().endswith("-bin"):
                raise ValueError(f"{name!r} cannot be sent over gRPC: grpc-* and *-bin are its own")
        return headers

    @model_validator(mode="after")
    def _consistent(self) -> OtlpGrpcSettings:
        if not self.secure and self.tls.needs_tls():
            raise ValueError("tls names certificates or a server name, but this endpoint is spoken to without TLS")
        return self

    @property
    def secure(self) -> bool:
        """Return whether TLS is spoken: by the endpoint's scheme, else by `tls.insecure`."""
        scheme = _split(self.endpoint)[0]
        return scheme == "https" or not (scheme == "http" or self.tls.insecure)

    @property
    def target(self) -> str:
        """Return the endpoint as gRPC wants it: without http:// or https://."""
        return _split(self.endpoint)[1]


def _split(endpoint: str) -> tuple[str, str]:
    scheme, mark, rest = endpoint.partition("://")
    return (scheme.lower(), rest.rstrip("/")) if mark and scheme.lower() in ("http", "https") else ("", endpoint)


_GRPC_SCHEME = re.compile(r"(?:dns|unix|unix-abstract|vsock|ipv4|ipv6|xds|passthrough):(?!\d+$)", re.ASCII)


def _check_address(target: str) -> None:
    if _GRPC_SCHEME.match(target):
        return
    host, colon, port = target.rpartition(":")
    if not (colon and host) or "/" in target or (":" in host and not (host[0] == "[" and host[-1] == "]")):
        raise ValueError("write host:port, such as tempo:4317")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is not a port")


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError("write a URL, such as http://localhost:4318")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user or password in the URL, which appears in messages: set headers.authorization")
    if parts.port == 0:
        raise ValueError("0 is not a port to send to")
    return text


Url: TypeAlias = Annotated[str, AfterValidator(_url)]


def _base_url(text: str) -> str:
    """Refuse what is the whole URL of a signal already."""
    path = urlsplit(text).path.rstrip("/")
    for signal in sorted(ALL_SIGNALS):
        if path.endswith(f"/v1/{signal}"):
            raise ValueError(f"/v1/{signal} is added to it: leave that out, or set {signal}_endpoint to this URL")
    return text


def _below(base: str, signal: Signal) -> str:
    """Return the URL of a signal below a base URL; what follows a ? stays there."""
    parts = urlsplit(base)
    return parts._replace(path=f"{parts.path.rstrip('/')}/v1/{signal}").geturl()


def without_query(url: str) -> str:
    """Return a URL as it may be shown: what follows a ? may be secret."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


class OtlpHttpSettings(NetworkSettings):
    """OTLP over HTTP."""

    exporter = ("otlp_http", "OtlpHttp")
    endpoint: Annotated[Url, AfterValidator(_base_url)] | None = Field(
        default=None, description="Base URL: /v1/traces, /v1/logs and /v1/metrics are added to it."
    )
    traces_endpoint: Url | None = Field(default=None, description="Whole URL for traces, used as it is.")
    logs_endpoint: Url | None = Field(default=None, description="Whole URL for logs, used as it is.")
    metrics_endpoint: Url | None = Field(default=None, description="Whole URL for metrics, used as it is.")
    encoding: Literal["proto", "json"] = Field(default="proto", description="proto or json.")
    compression: HttpCompression = Field(default="gzip", description="How requests are compressed.")
    timeout: Duration = Field(default=30.0, gt=0, description="For one attempt.")

    @model_validator(mode="after")
    def _consistent(self) -> OtlpHttpSettings:
        if not self.urls:
            raise ValueError("set endpoint, or at least one of traces_endpoint, logs_endpoint, metrics_endpoint")
        if "signals" not in self.model_fields_set:
            return self
        for signal in sorted(self.signals - self.urls.keys()):
            raise ValueError(f"signals: {signal} is asked for, but neither endpoint nor {signal}_endpoint is set")
        return self

    @property
    def urls(self) -> dict[Signal, str]:
        """Return where each signal goes; a signal that is not in it cannot be sent."""
        own: dict[Signal, str | None] = {
            "traces": self.traces_endpoint,
            "logs": self.logs_endpoint,
            "metrics": self.metrics_endpoint,
        }
        base = self.endpoint
        return {signal: url or _below(base or "", signal) for signal, url in own.items() if url or base}

    @property
    def takes(self) -> frozenset[Signal]:
        """Return the signals it gets: those asked for that have a URL."""
        return self.signals & self.urls.keys()

    @property
    def address(self) -> str:
        """Return the base URL, or that of each signal."""
        return ", ".join(map(without_query, [self.endpoint] if self.endpoint else sorted(self.urls.values())))


class RotationSettings(Settings):
    """When the file is put aside for a fresh one, and how long those put aside are kept."""

    max_megabytes: int = Field(default=100, gt=0, description="Size at which a fresh file is begun.")
    max_days: int = Field(
        default=0, ge=0, description="Files put aside are deleted after this many days; 0: never for age."
    )
    max_backups: int = Field(default=100, ge=0, description="Files put aside that are kept; 0: all of them.")


class FileSettings(ExporterSettings):
    """One OTLP-JSON request a line, on disk before the sender is answered."""

    exporter = ("file", "File")
    path: str = Field(min_length=1, description="The file, made with mode 0600; what is there is appended to.")
    rotation: RotationSettings | None = Field(default=None, description="Rotation; default: none, the file grows.")

    @property
    def address(self) -> str:
        """Return the path."""
        return self.path


class DebugSettings(ExporterSettings):
    """Readable lines on the terminal, without prompts or arguments."""

    exporter = ("debug", "Debug")
    verbosity: Literal["basic", "normal", "detailed"] = Field(
        default="basic",
        description="basic: one line a request; normal: one line a span, log record or metric; "
        "detailed: its attributes too, of those only the ones that cannot hold content.",
    )


TYPES: Mapping[str, type[ExporterSettings]] = MappingProxyType(
    {
        "otlp_grpc": OtlpGrpcSettings,
        "otlp": OtlpGrpcSettings,
        "otlp_http": OtlpHttpSettings,
        "otlphttp": OtlpHttpSettings,
        "file": FileSettings,
        "debug": DebugSettings,
    }
)
"""What a component id's type is configured by; `otlp` and `otlphttp` are the Collector's former names."""
