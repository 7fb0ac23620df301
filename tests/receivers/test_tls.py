"""TLS and mutual TLS by both protocols."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2
import pytest

from certificates import Certificates
from otlp_receivers import PROTOBUF, Receivers, exporter, opened, traces
from spanledger_processor.config.receivers import ServerTls
from spanledger_processor.receivers.auth import ServerCertificates
from tools.programs import http_client


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Fresh ones."""
    return Certificates(tmp_path)


def both(tls: dict[str, str]) -> dict[str, Any]:
    """Settings with `tls` by both protocols."""
    return {"protocols": {"grpc": {"tls": tls}, "http": {"tls": tls}}}


async def export(receivers: Receivers, made: Certificates, client: str | None) -> Any:
    """Send by gRPC over TLS, showing the certificate of `client`."""
    pair = (made.key(client).read_bytes(), made.cert(client).read_bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(made.authority.read_bytes(), *pair)
    async with grpc.aio.secure_channel(receivers.grpc_address, credentials) as channel:
        return await exporter(channel)(traces(), timeout=10)


async def post(receivers: Receivers, made: Certificates, client: str | None) -> int:
    """Send by HTTPS, showing the certificate of `client`; the status code."""
    context = ssl.create_default_context(cafile=made.authority)
    if client:
        context.load_cert_chain(made.cert(client), made.key(client))
    url = receivers.http_url.replace("http:", "https:")
    async with http_client(verify=context) as sender:
        answer = await sender.post(f"{url}/v1/traces", content=traces(), headers={"content-type": PROTOBUF})
        return answer.status_code


@pytest.mark.parametrize("mutual", [False, True])
async def test_tls(certificates: Certificates, mutual: bool) -> None:  # noqa: FBT001
    client = "client" if mutual else None
    async with opened(both(certificates.server_settings(mutual=mutual))) as receivers:
        assert await export(receivers, certificates, client) == b""
        assert await post(receivers, certificates, client) == 200
        assert len(receivers.pipeline.handled) == 2


async def test_certificates_are_read_again_when_their_files_change(tmp_path: Path) -> None:
    """For new connections; one that is open goes on. A pair that does not fit leaves the old one in use."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    old, new = Certificates(tmp_path / "a"), Certificates(tmp_path / "b")
    async with opened(both(old.server_settings(mutual=True))) as receivers:
        credentials = grpc.ssl_channel_credentials(
            old.authority.read_bytes(), old.key("client").read_bytes(), old.cert("client").read_bytes()
        )
        async with grpc.aio.secure_channel(receivers.grpc_address, credentials) as channel:
            assert await exporter(channel)(traces(), timeout=10) == b""
            old.cert("server").write_bytes(new.cert("server").read_bytes())  # the key does not fit
            assert await export(receivers, old, "client") == b""
            assert await post(receivers, old, "client") == 200
            for name in ("server.key", "authority.pem"):
                (old.folder / name).write_bytes((new.folder / name).read_bytes())
            assert await export(receivers, new, "client") == b""
            assert await post(receivers, new, "client") == 200
            assert await exporter(channel)(traces(), timeout=10) == b""


async def test_without_the_certificate_demanded_nobody_comes_in(certificates: Certificates) -> None:
    async with opened(both(certificates.server_settings(mutual=True))) as receivers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(receivers, certificates, None)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(httpx2.TransportError):
            await post(receivers, certificates, None)
        assert receivers.pipeline.handled == []


async def test_a_certificate_of_another_authority_does_not_do(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Certificates(tmp_path_factory.mktemp("other"))
    other.authority.write_bytes(certificates.authority.read_bytes())  # trusts our server, shows its own certificate
    async with opened(both(certificates.server_settings(mutual=True))) as receivers:
        with pytest.raises(grpc.aio.AioRpcError):
            await export(receivers, other, "client")
        with pytest.raises(httpx2.TransportError):
            await post(receivers, other, "client")
        assert receivers.pipeline.handled == []


async def test_plain_text_is_not_spoken_on_a_tls_port(certificates: Certificates) -> None:
    async with opened(both(certificates.server_settings())) as receivers:
        with pytest.raises(grpc.aio.AioRpcError):
            await receivers.export("traces", traces(), timeout=10)
        with pytest.raises(httpx2.TransportError):
            await receivers.post("/v1/traces", traces())


async def test_tls_1_1_is_not_spoken(certificates: Certificates) -> None:
    """Older versions are offered by asking for them by name, which Python warns of."""
    async with opened(both(certificates.server_settings())) as receivers:
        context = ssl.create_default_context(cafile=certificates.authority)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        async with http_client(verify=context) as sender:
            with pytest.raises(httpx2.ConnectError):
                await sender.post(receivers.http_url.replace("http:", "https:"))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("setting", ["cert_file", "key_file", "client_ca_file"])
@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_file_that_cannot_be_used_is_said_at_start(
    certificates: Certificates, tmp_path: Path, protocol: str, setting: str, content: str | None
) -> None:
    broken = tmp_path / "broken.pem"
    if content is not None:
        broken.write_text(content)
    tls = {**certificates.server_settings(mutual=True), setting: str(broken)}
    with pytest.raises(OSError, match=rf"receivers\.otlp\.protocols\.{protocol}\.tls\.{setting}"):
        async with opened({"protocols": {protocol: {"tls": tls}}}):
            pass


@pytest.mark.parametrize(
    ("protocol", "begins", "reported"),
    [
        ("grpc", b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n\r\n", "does not speak gRPC to this port; OTLP/HTTP"),
        ("grpc", bytes.fromhex("16030100050100000100"), "speaks TLS to this port, which has none"),
        ("http", bytes.fromhex("16030100050100000100"), "speaks TLS to this port, which has none"),
    ],
)
async def test_who_speaks_another_protocol_is_told_of(
    protocol: str, begins: bytes, reported: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither end says so by itself, and the sender keeps trying."""
    async with opened() as receivers:
        reader, writer = await asyncio.open_connection("127.0.0.1", receivers.otlp.ports[protocol])
        writer.write(begins)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 30)
        writer.close()
        lines = [message for message in caplog.messages if reported in message]
        assert len(lines) == 1
        assert lines[0].startswith(f"receivers.otlp.protocols.{protocol}: a client from 127.0.0.1 ")
        caplog.clear()
        assert await receivers.export("traces", traces()) == b""
        assert (await receivers.post("/v1/traces", traces("again"))).status_code == 200
        assert not [message for message in caplog.messages if "a client from" in message]


async def test_each_cause_of_a_refusal_is_a_kind_of_its_own_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A line of one does not hide those of others (`RateLimit`)."""
    async with opened() as receivers:
        await receivers.post("/v1/traces", b"", media="text/plain")
        await receivers.post("/v1/traces", b"", headers={"content-encoding": "br"})
    assert [vars(record)["kind"] for record in caplog.records if "refused" in record.message] == [
        "media_type",
        "encoding",
    ]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"key_file": "gone"}, "gone: No such file or directory"),
        ({"cert_file": "text"}, "text is not a PEM file"),
        ({"key_file": "other"}, "the key is not that of the certificate"),
        ({"client_ca_file": "text"}, "text is not a PEM file"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said_with_its_file(
    wrong: dict[str, str], why: str, tmp_path: Path, certificates: Certificates
) -> None:
    (tmp_path / "text").write_text("no certificate")
    files = {"gone": tmp_path / "gone", "text": tmp_path / "text", "other": certificates.key("client")}
    given = certificates.server_settings(mutual=False) | {key: str(files[name]) for key, name in wrong.items()}
    with pytest.raises(OSError, match="no usable certificate") as caught:
        ServerCertificates(ServerTls.model_validate(given), "api.tls")
    named = str(caught.value).partition(": ")[0]
    assert {f"api.tls.{key}" for key in wrong} <= set(named.split(", "))
    assert str(caught.value).endswith(why)
    assert all(str(files[name]) in str(caught.value) for name in wrong.values())
