"""Settings of the gRPC listener in the names that gRPC knows them by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from spanledger_processor.config.receivers import Grpc

Option: TypeAlias = tuple[str, int]

_STREAMS = 128
"""Requests at once on one connection; further ones wait at the sender."""


def options(settings: Grpc) -> Sequence[Option]:
    """Limits, flow control and keepalive; what is not configured is left to gRPC."""
    parameters = settings.keepalive.server_parameters
    policy = settings.keepalive.enforcement_policy
    times = {
        "grpc.max_connection_idle_ms": parameters.max_connection_idle,
        "grpc.max_connection_age_ms": parameters.max_connection_age,
        "grpc.max_connection_age_grace_ms": parameters.max_connection_age_grace,
        "grpc.keepalive_time_ms": parameters.time,
        "grpc.keepalive_timeout_ms": parameters.timeout,
        "grpc.http2.min_ping_interval_without_data_ms": policy.min_time,
    }
    return [
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.http2.bdp_probe", 0),  # windows stay at 64 KiB a stream until its message is read
        ("grpc.so_reuseport", 0),  # a second process on our port fails, instead of taking half of the requests
        ("grpc.keepalive_permit_without_calls", int(policy.permit_without_stream)),
        *((name, _milliseconds(seconds)) for name, seconds in times.items() if seconds is not None),
    ]


def _milliseconds(seconds: float) -> int:
    return max(1, min(round(seconds * 1000), 2**31 - 1))
