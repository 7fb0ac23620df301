"""What can be configured about a destination: the Collector's defaults, and mistakes told where they are made."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from requests_out import settings
from spanledger_exporters.settings import OtlpGrpcSettings, OtlpHttpSettings


def grpc(**given: Any) -> OtlpGrpcSettings:
    made = settings("otlp_grpc", **{"endpoint": "tempo:4317", **given})
    assert isinstance(made, OtlpGrpcSettings)
    return made


def http(**given: Any) -> OtlpHttpSettings:
    made = settings("otlp_http", **given)
    assert isinstance(made, OtlpHttpSettings)
    return made


def test_the_collectors_defaults() -> None:
    """otlpexporter, otlphttpexporter and exporterhelper of Collector 0.160 (facts: timeouts, retries, gzip, TLS on)."""
    one, other = grpc(), http(endpoint="http://localhost:4318")
    assert (one.timeout, one.compression, one.secure, one.keepalive) == (5, "gzip", True, None)
    assert (other.timeout, other.compression, other.encoding) == (30, "gzip", "proto")
    retry = one.retry_on_failure
    assert (retry.enabled, retry.initial_interval, retry.multiplier) == (True, 5, 1.5)
    assert (retry.randomization_factor, retry.max_interval, retry.max_elapsed_time) == (0.5, 30, 300)
    assert one.required
    assert one.signals == {"traces", "logs", "metrics"}


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("tempo:4317", "tempo:4317"),
        ("[::1]:4317", "[::1]:4317"),
        ("http://tempo:4317", "tempo:4317"),
        ("HTTPS://tempo:4317/", "tempo:4317"),
        ("dns:///tempo:4317", "dns:///tempo:4317"),
        ("unix:/run/otel.sock", "unix:/run/otel.sock"),
    ],
)
def test_an_endpoint_of_grpc(endpoint: str, target: str) -> None:
    assert grpc(endpoint=endpoint).target == target


@pytest.mark.parametrize(
    "endpoint",
    [
        "tempo",
        ":4317",
        "tempo:",
        "tempo:0",
        "tempo:65536",
        "tempo:http",
        "::1:4317",
        "http://tempo",
        "tempo:4317/v1",
        "",
    ],
)
def test_what_is_no_endpoint_of_grpc(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        grpc(endpoint=endpoint)


@pytest.mark.parametrize(
    ("endpoint", "tls", "secure"),
    [
        ("tempo:4317", {}, True),
        ("tempo:4317", {"insecure": True}, False),
        ("http://tempo:4317", {}, False),
        ("https://tempo:4317", {"insecure": True}, True),
    ],
)
def test_the_scheme_says_whether_tls_is_spoken_else_the_setting(
    endpoint: str,
    tls: dict[str, bool],
    secure: bool,  # noqa: FBT001
) -> None:
    assert grpc(endpoint=endpoint, tls=tls).secure is secure


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_the_path_of_a_signal_is_not_added_twice(signal: str) -> None:
    for end in ("", "/", "?key=v"):
        with pytest.raises(ValueError, match=f"{signal}_endpoint"):
            http(endpoint=f"http://a:4318/x/v1/{signal}{end}")
    assert http(endpoint="http://a:4318/x?key=v").urls["traces"] == "http://a:4318/x/v1/traces?key=v"


def test_the_urls_of_http() -> None:
    assert http(endpoint="http://a:4318/x/", logs_endpoint="http://b/own?k=v").urls == {
        "traces": "http://a:4318/x/v1/traces",
        "logs": "http://b/own?k=v",
        "metrics": "http://a:4318/x/v1/metrics",
    }


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("otlp_grpc", {"endpoint": "a:1", "tls": {"cert_file": "x"}}, "go together"),
        ("otlp_grpc", {"endpoint": "a:1", "tls": {"insecure_skip_verify": True}}, "is not possible"),
        ("otlp_grpc", {"endpoint": "a:1", "tls": {"insecure": True, "ca_file": "x"}}, "without TLS"),
        ("otlp_grpc", {"endpoint": "a:1", "headers": {"grpc-timeout": "1"}}, "cannot be sent over gRPC"),
        ("otlp_grpc", {"endpoint": "a:1", "headers": {"key-bin": "1"}}, "cannot be sent over gRPC"),
        ("otlp_grpc", {"endpoint": "a:1", "headers": {"a b": "1"}}, "is not a header name"),
        ("otlp_grpc", {"endpoint": "a:1", "headers": {"a": "1\r\nb: 2"}}, "no header can carry"),
        ("otlp_grpc", {"endpoint": "a:1", "sending_queue": {"storage": "file_storage/a"}}, "there are no extensions"),
        (
            "otlp_grpc",
            {"endpoint": "a:1", "sending_queue": {"enabled": True}, "retry_on_failure": {"enabled": False}},
            "a sending_queue keeps what is not accepted",
        ),
        ("otlp_grpc", {"endpoint": "a:1", "signals": []}, "at least one"),
        ("otlp_grpc", {"endpoint": "a:1", "timeout": "0s"}, "greater than 0"),
        (
            "otlp_grpc",
            {"endpoint": "a:1", "compression": "zstd"},
            "zstd is not possible: gRPC in Python sends gzip or none",
        ),
        ("otlp_grpc", {"endpoint": "a:1", "compression": "lz4"}, "'gzip' or 'none'"),
        ("otlp_http", {"endpoint": "http://a", "compression": "br"}, "'gzip', 'zstd', 'zlib'"),
        ("otlp_grpc", {"endpoint": "a:1", "retry_on_failure": {"multiplier": 0.5}}, "greater than or equal to 1"),
        ("otlp_grpc", {"endpoint": "a:1", "retry_on_failure": {"multiplier": float("inf")}}, "finite"),
        ("otlp_http", {}, "set endpoint, or at least one of"),
        ("otlp_http", {"endpoint": "tempo:4318"}, "write a URL"),
        ("otlp_http", {"endpoint": "http://user:pass@a"}, "no user or password"),
        ("otlp_http", {"endpoint": "http://a:0"}, "0 is not a port"),
        ("otlp_http", {"traces_endpoint": "http://a", "signals": ["logs"]}, "logs is asked for"),
        ("file", {"path": ""}, "at least 1 character"),
        ("file", {"path": "x", "rotation": {"max_megabytes": 0}}, "greater than 0"),
        ("debug", {"verbosity": "loud"}, "'basic', 'normal' or 'detailed'"),
        ("debug", {"verbose": True}, "not permitted"),
    ],
)
def test_mistakes(kind: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings(kind, **given)


@pytest.mark.parametrize("kind", ["otlp_grpc", "otlp_http"])
def test_no_message_repeats_what_may_be_secret(kind: str) -> None:
    """Neither the value of a header that cannot be sent, nor anything else that was given beside a mistake."""
    with pytest.raises(ValidationError) as reported:
        settings(kind, endpoint="http://a:1", headers={"authorization": "Bearer secret\n"}, timeout="secret")
    assert "secret" not in str(reported.value)
    made = settings(kind, endpoint="http://a:1", headers={"authorization": "Bearer secret"})
    assert "secret" not in repr(made) + made.model_dump_json()
