"""What the Collector component is answered where it is not enriched, and which headers of its sender arrive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc.aio
import pytest
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from otlp_receivers import opened, traces
from spanledger_processor.config.receivers import MIB, EnricherSettings
from spanledger_processor.otlp.encoding import delimited
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.receivers import EnricherReceiver
from spanledger_processor.receivers import grpc as grpc_receiver
from spanledger_processor.receivers.auth import CARRIED, carried_headers
from spanledger_processor.receivers.enricher import SERVICE
from spanledger_processor.receivers.refusals import Cause, retry, to_status
from spanledger_processor.server.enricher import Description, SpanAnswers

SMALL = {"max_in_flight_mib": 1, "max_recv_msg_size_mib": 1}


class Gated:
    """An enricher that answers once its gate is open, or fails; keeps the headers of the last request."""

    description = Description((), (), (), (), (), trusted=False)

    def __init__(self) -> None:
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.failure: Exception | None = None
        self.headers: Mapping[str, str] = {}

    async def enrich(self, _: bytes, headers: Mapping[str, str]) -> SpanAnswers:
        self.headers = headers
        self.begun.set()
        if self.failure is not None:
            raise self.failure
        await self.gate.wait()
        return SpanAnswers(0)


class Uncounted:
    """An observer that counts nothing."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


@asynccontextmanager
async def enrichers(settings: Mapping[str, Any]) -> AsyncIterator[tuple[Gated, Any]]:
    """A receiver, and its method EnrichTraces."""
    enricher = Gated()
    given = EnricherSettings.model_validate({"endpoint": "127.0.0.1:0", **settings})
    receiver = EnricherReceiver(given, cast(Any, enricher), cast(Any, Uncounted()))
    await receiver.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{receiver.ports['enricher']}") as channel:
            yield enricher, channel.unary_unary(f"/{SERVICE}/EnrichTraces", bytes, bytes)
    finally:
        await receiver.stop(0)


def asked(size: int = 0) -> bytes:
    return delimited(1, Gated.description.revision.encode()) + delimited(2, bytes(size))


async def test_a_full_enricher_is_told_from_one_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    async with enrichers(SMALL) as (enricher, enrich):
        first = asyncio.ensure_future(enrich(asked(MIB - 100)))
        await enricher.begun.wait()
        with pytest.raises(grpc.aio.AioRpcError) as full, caplog.at_level(logging.WARNING):
            await enrich(asked())
        enricher.gate.set()
        await first
    assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "receivers.enricher.max_in_flight_mib" in (full.value.details() or "")
    assert [line for line in caplog.messages if "receivers.enricher.max_in_flight_mib" in line]
    status = rpc_status.from_call(cast(Any, full.value))
    assert status is not None
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    assert 0 < info.retry_delay.ToMilliseconds() < 1000


async def test_a_bug_of_ours_is_told_from_an_enricher_that_is_away() -> None:
    async with enrichers(SMALL) as (enricher, enrich):
        enricher.failure = ZeroDivisionError()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await enrich(asked())
    assert failed.value.code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        ("budget", code_pb2.RESOURCE_EXHAUSTED),
        ("slow_body", code_pb2.RESOURCE_EXHAUSTED),
        ("deadline", code_pb2.DEADLINE_EXCEEDED),
        ("internal", code_pb2.INTERNAL),
        ("stopping", code_pb2.UNAVAILABLE),
    ],
)
def test_only_the_component_is_told_why_by_a_code(cause: Cause, code: int) -> None:
    """Of these codes, senders of OTLP drop data on all but UNAVAILABLE and, with RetryInfo, RESOURCE_EXHAUSTED."""
    result = retry(cause, "why")
    assert to_status(result, "enricher").code == code
    assert to_status(result).code == to_status(result, "http").code == code_pb2.UNAVAILABLE


async def test_what_the_component_passes_on_is_not_said_to_be_lost(caplog: pytest.LogCaptureFixture) -> None:
    """As for a request without the tenant that is required."""
    async with enrichers(SMALL) as (enricher, enrich):
        enricher.failure = MalformedError("the request names no tenant")
        with pytest.raises(grpc.aio.AioRpcError) as refused, caplog.at_level(logging.ERROR):
            await enrich(asked())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "names no tenant" in caplog.text
    assert "lost" not in caplog.text


async def test_a_component_that_leaves_is_not_told_to_compress_otherwise(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As at its timeout, where the message did not come in by then."""
    reading, logged = asyncio.Event(), asyncio.Event()

    async def never(_: Any, __: Any) -> Any:
        reading.set()
        await asyncio.get_running_loop().create_future()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.set()

    monkeypatch.setattr(grpc_receiver.MessageReader, "_message", never)
    handler = Told()
    grpc_receiver.log.addHandler(handler)
    try:
        async with enrichers(SMALL) as (_, enrich):
            call = enrich(asked())
            await reading.wait()
            call.cancel()
            await logged.wait()
    finally:
        grpc_receiver.log.removeHandler(handler)
    (record,) = (record for record in caplog.records if "ended before its message was read" in record.message)
    assert (record.levelname, "compress" in record.message) == ("WARNING", False)


TENANTS = ["acme", "M\u00fcller", "\u00d6l", "\u6771\u4eac", "a:b"]


@pytest.mark.parametrize(
    ("value", "tenant"), [*((tenant.encode(), tenant) for tenant in TENANTS), (b"M\xfcller", "M\u00fcller")]
)
async def test_a_header_of_any_bytes_is_read_as_by_http(value: bytes, tenant: str) -> None:
    """In UTF-8 where it is that, else in Latin-1: https://www.rfc-editor.org/rfc/rfc9110#section-5.5."""
    async with opened() as receivers:
        assert (await receivers.post("/v1/traces", traces(), headers={"x-tenant": cast(str, value)})).status_code == 200
    async with enrichers(SMALL) as (enricher, enrich):
        enricher.gate.set()
        carried = b"authorization:Bearer theirs\nx-tenant:" + value + b"\n"
        await enrich(asked(), metadata=((CARRIED, carried),))
    assert enricher.headers["x-tenant"] == receivers.pipeline.handled[0].headers["x-tenant"] == tenant
    assert "authorization" not in enricher.headers


def test_several_values_of_a_name_are_not_taken_for_one() -> None:
    """As by HTTP: so that none of them passes for the only one."""
    metadata: list[tuple[str, str | bytes]] = [(CARRIED, b"x-tenant:a\nx-tenant:\xc3\xa4\nno name\n"), ("x-other", "b")]
    assert carried_headers(metadata) == {"x-tenant": "a, \u00e4"}
