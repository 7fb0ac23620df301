"""Exporters whose certificates and headers change while they run."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from certificates import Certificates
from destinations import GrpcAnswer, GrpcBackend, HttpBackend
from requests_out import Counts, settings, soon, spans, until
from spanledger_exporters import ACCEPTED, Delivery, DestinationError, Verdict, build
from spanledger_exporters.wrappers import Renewed


@pytest.fixture(params=["otlp_grpc", "otlp_http"])
def kind(request: pytest.FixtureRequest) -> str:
    """The type of exporter."""
    return str(request.param)


def copied(certificates: Certificates, folder: Path) -> None:
    """The files of an authority and a client, at the places that are configured."""
    folder.mkdir(exist_ok=True)
    for name in ("authority.pem", "client.pem", "client.key"):
        shutil.copyfile(certificates.folder / name, folder / name)


async def test_certificates_are_read_again_when_their_files_change(
    kind: str, certificates: Certificates, strangers: Certificates, tmp_path: Path
) -> None:
    """The destination gets another authority, and demands certificates of it; nothing is restarted."""
    copied(certificates, tmp_path)
    tls = {"ca_file": "authority.pem", "cert_file": "client.pem", "key_file": "client.key"}
    backend: Any = GrpcBackend() if kind == "otlp_grpc" else HttpBackend()
    async with backend.serving(certificates, mutual=True):
        exporter = build(kind, given(kind, backend.port, tls={key: str(tmp_path / name) for key, name in tls.items()}))
        await exporter.start()
        assert await exporter.send("traces", spans("a"), soon()) == ACCEPTED
    async with backend.serving(strangers, mutual=True):
        assert (await exporter.send("traces", spans("b"), soon())).verdict is Verdict.RETRYABLE
        (tmp_path / "client.key").write_text("half written")
        assert (await exporter.send("traces", spans("b"), soon())).verdict is Verdict.RETRYABLE
        copied(strangers, tmp_path)
        assert await exporter.send("traces", spans("b"), soon()) == ACCEPTED
    await exporter.close()


def given(kind: str, port: int, **more: Any) -> Any:
    scheme = "https" if "tls" in more else "http"
    once = {"retry_on_failure": {"enabled": False}}
    return settings(kind, endpoint=f"{scheme}://localhost:{port}", **once, **more)


async def test_headers_are_put_into_use_and_requests_under_way_end(kind: str) -> None:
    hold = asyncio.Event()
    backend: Any = GrpcBackend([GrpcAnswer(hold=hold)]) if kind == "otlp_grpc" else HttpBackend()
    async with backend.serving():
        before = given(kind, backend.port, headers={"x-key": "old"})
        exporter = build(kind, before)
        delivery = Delivery([exporter], Counts(), {kind: before})
        await delivery.start()
        under_way = asyncio.create_task(delivery.deliver("traces", b"a", spans("a"), soon()))
        await until(lambda: backend.received)
        after = given(kind, backend.port, headers={"x-key": "new"})
        for commit in await delivery.prepare({kind: after}):
            await commit()
        hold.set()
        assert await under_way == ACCEPTED
        assert await delivery.deliver("traces", b"b", spans("b"), soon()) == ACCEPTED
        await delivery.close()
    sent = [dict(getattr(request, "metadata", None) or request.headers) for request in backend.received]
    assert [headers["x-key"] for headers in sent] == ["old", "new"]


async def test_what_cannot_be_used_is_told_before_anything_changes(kind: str) -> None:
    exporter = build(kind, given(kind, 1))
    assert isinstance(exporter, Renewed)
    with pytest.raises(DestinationError, match="ca_file"):
        await exporter.prepare(given(kind, 1, tls={"ca_file": "/nowhere"}))
    await exporter.prepare(given(kind, 2))
