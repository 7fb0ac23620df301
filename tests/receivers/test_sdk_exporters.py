"""The exporters of the OpenTelemetry SDK are content with both protocols."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from otlp_receivers import FakePipeline, Receivers, opened
from spanledger_exporters.interface import Result, Verdict


def send(exporter: SpanExporter) -> list[SpanExportResult]:
    """Send one span as an application would; what the exporter made of the answers."""
    results: list[SpanExportResult] = []

    class Kept(SimpleSpanProcessor):
        def on_end(self, span: Any) -> None:
            results.append(exporter.export([span]))

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Kept(exporter))
    with provider.get_tracer("test").start_as_current_span("chat") as span:
        span.set_attribute("gen_ai.request.model", "m")
    provider.shutdown()
    return results


def grpc_exporter(receivers: Receivers) -> SpanExporter:
    return GrpcExporter(endpoint=receivers.grpc_address, insecure=True)


def http_exporter(receivers: Receivers) -> SpanExporter:
    return HttpExporter(endpoint=f"{receivers.http_url}/v1/traces", compression=Compression.Gzip)


@pytest.mark.parametrize("make", [grpc_exporter, http_exporter])
async def test_the_sdk_sends_again_what_it_is_told_to_keep(make: Any) -> None:
    """It reads RetryInfo and Retry-After; with another answer it would drop the span."""
    pipeline = FakePipeline(first=[Result(Verdict.RETRYABLE, "down", retry_after=0.01)])
    async with opened(pipeline=pipeline) as receivers:
        assert await asyncio.to_thread(send, make(receivers)) == [SpanExportResult.SUCCESS]
        first, second = receivers.pipeline.handled
        assert first.body == second.body


@pytest.mark.parametrize("make", [grpc_exporter, http_exporter])
async def test_the_sdk_exports(make: Any) -> None:
    async with opened() as receivers:
        assert await asyncio.to_thread(send, make(receivers)) == [SpanExportResult.SUCCESS]
        (handled,) = receivers.pipeline.handled
        request = ExportTraceServiceRequest.FromString(handled.body)
        assert request.resource_spans[0].scope_spans[0].spans[0].name == "chat"
