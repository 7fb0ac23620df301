"""`receivers`: where telemetry comes in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, model_validator

from spanledger_exporters.settings import Duration
from spanledger_processor.config.section import NULL_IS_DEFAULT, Count, Endpoint, ListenAddress, NamedSections, Section

MIB = 1024 * 1024


class ServerTls(Section):
    """Certificates of a listener; without this section it speaks plain text."""

    cert_file: str = Field(min_length=1, description="PEM file of our certificate and the chain above it.")
    key_file: str = Field(min_length=1, description="PEM file of our private key.")
    client_ca_file: str | None = Field(
        default=None,
        min_length=1,
        description="PEM file of the authorities whose client certificates are demanded (mutual TLS); default: none.",
    )
    min_version: Literal["1.2"] = Field(
        default="1.2", description='Oldest TLS version accepted; only "1.2" can be chosen.'
    )


class Auth(Section):
    """Who may send, or ask."""

    bearer_token: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="Clients must show `authorization: Bearer <this>`; default: none is asked for.",
    )


class KeepaliveServer(Section):
    """Ages and pings of gRPC connections; what is left out is gRPC's default."""

    max_connection_idle: Duration | None = Field(
        default=None, gt=0, description="A connection idle for so long is closed."
    )
    max_connection_age: Duration | None = Field(
        default=None, gt=0, description="A connection this old is closed, so that senders spread over instances again."
    )
    max_connection_age_grace: Duration | None = Field(
        default=None, gt=0, description="Time that requests under way then get to end."
    )
    time: Duration | None = Field(default=None, gt=0, description="Ping a sender after this long without traffic.")
    timeout: Duration | None = Field(
        default=None, gt=0, description="The connection is dead when a ping is not answered in this time."
    )


class KeepalivePolicy(Section):
    """The keepalive pings that senders may send."""

    min_time: Duration | None = Field(default=None, gt=0, description="Senders that ping more often are disconnected.")
    permit_without_stream: bool = Field(default=False, description="Senders may ping while no request is under way.")


class Keepalive(Section):
    """gRPC keepalive."""

    server_parameters: Annotated[KeepaliveServer, NULL_IS_DEFAULT] = Field(
        default_factory=KeepaliveServer, description="Our own ages and pings."
    )
    enforcement_policy: Annotated[KeepalivePolicy, NULL_IS_DEFAULT] = Field(
        default_factory=KeepalivePolicy, description="Pings of senders."
    )


_ENDPOINT = "host:port to listen on; 0.0.0.0 or nothing before the colon: all addresses."


class OtlpListener(Section):
    """What both protocols share."""

    endpoint: Endpoint = Field(description=_ENDPOINT)
    tls: ServerTls | None = Field(default=None, description="Transport security; default: plain text.")
    auth: Annotated[Auth, NULL_IS_DEFAULT] = Field(default_factory=Auth, description="Who may send.")
    trusted_hop: bool = Field(
        default=False,
        description="Whoever sends here is trusted to have marked spans with another Spanledger: a span with "
        "`spanledger.kind` passes as it is and is not counted here.",
    )


class Grpc(OtlpListener):
    """OTLP/gRPC."""

    endpoint: Endpoint = Field(default="127.0.0.1:4317", description=_ENDPOINT)
    max_recv_msg_size_mib: Count = Field(
        default=64, description="Largest request in MiB, also after decompression; larger ones are refused for good."
    )
    handshake_timeout: Duration = Field(
        default=20.0, gt=0, description="A connection that takes longer to begin (TLS, HTTP/2 settings) is closed."
    )
    keepalive: Annotated[Keepalive, NULL_IS_DEFAULT] = Field(
        default_factory=Keepalive, description="Ages and pings of connections."
    )

    @property
    def max_request_bytes(self) -> int:
        """Return the size of the largest request in bytes."""
        return self.max_recv_msg_size_mib * MIB


class OtlpGrpc(Grpc):
    """OTLP/gRPC."""

    zstd: bool = Field(
        default=True,
        description="Take zstd and snappy too. gRPC in Python refuses them, and senders then drop their data; a relay "
        "before gRPC prevents that, through which every byte passes. `false` saves its CPU time where no sender "
        "compresses otherwise than with gzip.",
    )


class Http(OtlpListener):
    """OTLP/HTTP, protobuf and JSON."""

    endpoint: Endpoint = Field(default="127.0.0.1:4318", description=_ENDPOINT)
    max_request_body_size: Count = Field(
        default=64 * MIB,
        description="Largest request in bytes, also after decompression; larger ones are refused for good.",
    )
    read_header_timeout: Duration = Field(
        default=60.0, gt=0, description="A connection on which the head of a request takes longer is closed."
    )
    idle_timeout: Duration = Field(default=120.0, gt=0, description="A connection idle for so long is closed.")

    @property
    def max_request_bytes(self) -> int:
        """Return the size of the largest request in bytes."""
        return self.max_request_body_size


class Protocols(NamedSections):
    """The protocols served: where this section is given, only those it names; without it, both.

    In Python `None` is a protocol that does not run; in YAML a protocol that is named and left empty runs.
    """

    grpc: OtlpGrpc | None = Field(default=None, description="OTLP/gRPC.")
    http: Http | None = Field(default=None, description="OTLP/HTTP, protobuf and JSON.")

    @model_validator(mode="after")
    def _one_at_least(self) -> Protocols:
        if self.grpc is None and self.http is None:
            raise ValueError("name at least one of grpc and http, or leave protocols out for both")
        return self


def _both() -> Protocols:
    return Protocols(grpc=OtlpGrpc(), http=Http())


class OtlpReceiver(Section):
    """The only receiver."""

    protocols: Annotated[Protocols, NULL_IS_DEFAULT] = Field(
        default_factory=_both, description="The protocols served: only those named here; without this section, both."
    )
    max_in_flight_mib: Count = Field(
        default=256,
        description="Memory for requests, in MiB over all protocols, decompressed: each is counted twice while it is "
        "delivered, as it is held by us and by the client that sends it on. Beyond it senders get a retryable error; "
        "one host gets three quarters at most. On top come gRPC messages being read (five at a time, each of "
        "`max_recv_msg_size_mib` at most) and the copies that one large request is worked on with (three).",
    )

    @model_validator(mode="after")
    def _room(self) -> OtlpReceiver:
        running = {"grpc": self.protocols.grpc, "http": self.protocols.http}
        for name, protocol in running.items():
            if protocol and protocol.max_request_bytes > self.max_in_flight_mib * MIB:
                key = "max_recv_msg_size_mib" if name == "grpc" else "max_request_body_size"
                raise ValueError(f"protocols.{name}.{key} is more than max_in_flight_mib: such a request never fits")
        return self


class EnricherSettings(Grpc):
    """The service that the Collector component asks: spans go out of the Collector, attributes come back."""

    endpoint: ListenAddress = Field(
        default="127.0.0.1:4321",
        description="host:port to listen on, or unix:///path for a socket on this machine.",
    )
    max_in_flight_mib: Count = Field(
        default=256, description="Requests held at once, in MiB; beyond it the Collector gets a retryable error."
    )

    @model_validator(mode="after")
    def _room(self) -> EnricherSettings:
        if self.max_request_bytes > self.max_in_flight_mib * MIB:
            raise ValueError("max_recv_msg_size_mib is more than max_in_flight_mib: such a request never fits")
        return self


class Receivers(NamedSections):
    """Where telemetry comes in: where this section is given, only what it names; without it, OTLP.

    In Python `None` is a receiver that does not run; in YAML a receiver that is named and left empty runs.
    """

    otlp: OtlpReceiver | None = Field(default=None, description="OTLP: traces, logs and metrics.")
    enricher: EnricherSettings | None = Field(
        default=None, description="Enrichment for the Collector component, which delivers by itself."
    )

    @model_validator(mode="before")
    @classmethod
    def _otlp_by_default(cls, given: Any) -> Any:
        return given or {"otlp": {}}
