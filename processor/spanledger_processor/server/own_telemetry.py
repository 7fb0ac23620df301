"""Send the process's own metrics and spans as `telemetry` configures; a failure to do so affects nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from uuid import uuid4

from prometheus_client.metrics_core import Metric

from spanledger_exporters import Exporter, Signal, Verdict, build
from spanledger_processor.config.model import OwnOtlp, OwnTelemetry
from spanledger_processor.server.periodic import PeriodicTask
from spanledger_processor.telemetry.otlp import Tracer, metrics_request

log = logging.getLogger(__name__)

_LAST_SECONDS = 3.0
"""Seconds for what is sent when the process ends."""


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """One signal, sent to all exporters each `interval` seconds."""

    signal: Signal
    interval: float
    exporters: Sequence[Exporter]
    produce: Callable[[], bytes | None]


class OwnTelemetrySender:
    """The readers and processors of one process; `families` gives its metrics, None where another process has them."""

    def __init__(
        self, settings: OwnTelemetry, families: Callable[[], Iterable[Metric] | None], tracer: Tracer | None
    ) -> None:
        self._resource: Mapping[str, str] = {
            "service.name": "spanledger",
            "service.version": version("spanledger"),
            "service.instance.id": str(uuid4()),
            **settings.resource,
        }
        self._families = families
        self._start_ns = time.time_ns()
        self._pipelines = [
            _Pipeline(
                "metrics", periodic.interval / 1000, [_exporter("metrics", periodic.exporter.otlp)], self._metrics
            )
            for periodic in (reader.periodic for reader in settings.metrics.readers)
        ]
        batches = [processor.batch for processor in settings.traces.processors]
        if tracer is not None and batches:
            tracer.limit = max(batch.max_queue_size for batch in batches)
            exporters = [_exporter("traces", batch.exporter.otlp) for batch in batches]
            interval = min(batch.schedule_delay for batch in batches) / 1000
            self._pipelines.append(_Pipeline("traces", interval, exporters, partial(tracer.take, self._resource)))
        self._tasks = [
            PeriodicTask(partial(self._run, pipeline), pipeline.interval, f"own {pipeline.signal} could not be sent")
            for pipeline in self._pipelines
        ]

    async def start(self) -> None:
        """Begin to send.

        Raises:
            DestinationError: a destination cannot be used as configured.
        """
        for pipeline in self._pipelines:
            for exporter in pipeline.exporters:
                await exporter.start()
        for pipeline, task in zip(self._pipelines, self._tasks, strict=True):
            task.start(after=pipeline.interval)

    async def close(self) -> None:
        """Send what there is once more, and close."""
        for task in self._tasks:
            await task.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await asyncio.gather(*(self._send(pipeline, _LAST_SECONDS) for pipeline in self._pipelines))
        for pipeline in self._pipelines:
            for exporter in pipeline.exporters:
                await exporter.close()

    async def _run(self, pipeline: _Pipeline) -> float:
        await self._send(pipeline, pipeline.interval)
        return pipeline.interval

    async def _send(self, pipeline: _Pipeline, seconds: float) -> None:
        try:
            body = pipeline.produce()
            if body is None:
                return
            deadline = asyncio.get_running_loop().time() + max(seconds, 1.0)
            for exporter in pipeline.exporters:
                result = await exporter.send(pipeline.signal, body, deadline)
                if result.verdict is not Verdict.ACCEPTED:
                    reported = (exporter.address(pipeline.signal), pipeline.signal, result.reason)
                    log.warning("%s: own %s not accepted, and left out: %s", *reported, extra={"kind": pipeline.signal})
        except Exception:
            log.exception("own %s could not be sent", pipeline.signal)

    def _metrics(self) -> bytes | None:
        families = self._families()
        if families is None:
            return None
        return metrics_request(families, self._resource, self._start_ns, time.time_ns())


def _exporter(signal: Signal, otlp: OwnOtlp) -> Exporter:
    return build(f"telemetry.{signal}", otlp.settings(signal))
