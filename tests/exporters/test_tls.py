"""TLS and mutual TLS over both protocols, against servers with certificates made for the test."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from certificates import Certificates
from destinations import GrpcBackend, HttpBackend
from requests_out import settings, soon, spans
from spanledger_exporters import DestinationError, Result, Verdict, build


@pytest.fixture(params=["otlp_grpc", "otlp_http"])
def kind(request: pytest.FixtureRequest) -> str:
    """The type of exporter."""
    return str(request.param)


def serving(
    kind: str, certificates: Certificates, *, mutual: bool = False
) -> AbstractAsyncContextManager[GrpcBackend | HttpBackend]:
    backend = GrpcBackend() if kind == "otlp_grpc" else HttpBackend()
    return backend.serving(certificates, mutual=mutual)


async def send(kind: str, port: int, tls: dict[str, Any], host: str = "localhost") -> Result:
    given = {"endpoint": f"https://{host}:{port}", "tls": tls, "retry_on_failure": {"enabled": False}}
    exporter = build(kind, settings(kind, **given))
    await exporter.start()
    try:
        return await exporter.send("traces", spans("a"), soon())
    finally:
        await exporter.close()


def own(certificates: Certificates) -> dict[str, str]:
    return {"cert_file": str(certificates.cert("client")), "key_file": str(certificates.key("client"))}


def trusting(certificates: Certificates) -> dict[str, str]:
    return {"ca_file": str(certificates.authority)}


async def test_a_certificate_of_the_authority_is_trusted(kind: str, certificates: Certificates) -> None:
    async with serving(kind, certificates) as backend:
        result = await send(kind, backend.port, trusting(certificates))
    assert result.verdict is Verdict.ACCEPTED
    assert [request.body for request in backend.received] == [spans("a")]


async def test_a_certificate_of_another_authority_is_not(
    kind: str, certificates: Certificates, strangers: Certificates
) -> None:
    """Retryable: the sender keeps the data while somebody mends the configuration."""
    async with serving(kind, certificates) as backend:
        for tls in (trusting(strangers), {}):
            assert (await send(kind, backend.port, tls)).verdict is Verdict.RETRYABLE
    assert not backend.received


async def test_a_certificate_for_another_name_is_not_unless_that_name_is_expected(
    kind: str, certificates: Certificates
) -> None:
    async with serving(kind, certificates) as backend:
        tls = trusting(certificates)
        assert (await send(kind, backend.port, tls, "127.0.0.1")).verdict is Verdict.RETRYABLE
        tls["server_name_override"] = "localhost"
        assert (await send(kind, backend.port, tls, "127.0.0.1")).verdict is Verdict.ACCEPTED


async def test_mutual_tls(kind: str, certificates: Certificates, strangers: Certificates) -> None:
    async with serving(kind, certificates, mutual=True) as backend:
        tls = trusting(certificates)
        assert (await send(kind, backend.port, tls)).verdict is Verdict.RETRYABLE
        assert (await send(kind, backend.port, tls | own(strangers))).verdict is Verdict.RETRYABLE
        assert not backend.received
        assert (await send(kind, backend.port, tls | own(certificates))).verdict is Verdict.ACCEPTED


async def test_any_certificate_where_verification_is_switched_off(certificates: Certificates) -> None:
    """Over HTTP only; gRPC in Python cannot, and the configuration says so."""
    async with serving("otlp_http", certificates) as backend:
        result = await send("otlp_http", backend.port, {"insecure_skip_verify": True}, "127.0.0.1")
    assert result.verdict is Verdict.ACCEPTED


async def test_plaintext_to_a_tls_port_is_not_accepted(certificates: Certificates) -> None:
    async with serving("otlp_grpc", certificates) as backend:
        given = {"endpoint": f"http://localhost:{backend.port}", "retry_on_failure": {"enabled": False}}
        exporter = build("otlp_grpc", settings("otlp_grpc", **given, timeout="500ms"))
        await exporter.start()
        assert (await exporter.send("traces", spans("a"), soon())).verdict is Verdict.RETRYABLE
        await exporter.close()


async def test_without_a_ca_file_the_system_is_asked_whom_to_trust(
    kind: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    async with serving(kind, certificates) as backend:
        assert (await send(kind, backend.port, {})).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("setting", ["ca_file", "cert_file", "key_file"])
async def test_a_file_that_cannot_be_used_is_told_at_the_start(
    kind: str, setting: str, certificates: Certificates, tmp_path: Path
) -> None:
    """With the path of the setting, the file and what is wrong with it."""
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path, problem in ((tmp_path / "none.pem", "No such file or directory"), (empty, "is not a PEM file")):
        tls = trusting(certificates) | own(certificates) | {setting: str(path)}
        exporter = build(f"{kind}/x", settings(kind, endpoint="https://localhost:4317", tls=tls))
        with pytest.raises(DestinationError) as reported:
            await exporter.start()
        assert str(reported.value).startswith(f"exporters.{kind}/x: tls.{setting}: {path}")
        assert problem in str(reported.value)


async def test_a_key_that_does_not_fit_is_told_at_the_start(certificates: Certificates) -> None:
    """Over HTTP; gRPC finds out when it connects."""
    tls = {"cert_file": str(certificates.cert("client")), "key_file": str(certificates.key("server"))}
    exporter = build("otlp_http", settings("otlp_http", endpoint="https://localhost:4318", tls=tls))
    with pytest.raises(DestinationError, match=r"exporters\.otlp_http: tls: "):
        await exporter.start()
