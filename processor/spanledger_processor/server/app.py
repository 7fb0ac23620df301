"""One process of `serve`, built from a configuration: the only one, a stage worker, or the ledger process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from threading import get_native_id

from prometheus_client.metrics_core import Metric

from spanledger_exporters import Delivery, DestinationError, Signal, build
from spanledger_exporters.interface import Verdict
from spanledger_processor.config import Config, host_and_port
from spanledger_processor.config.receivers import MIB
from spanledger_processor.config.summary import LISTENERS
from spanledger_processor.enrichment import Stage
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.crossings import Crossing
from spanledger_processor.ledger.keys import EVERY_TENANT
from spanledger_processor.ledger.queries import late_correction
from spanledger_processor.ledger.rows import usd
from spanledger_processor.ledger.store import Snapshot, StateLockedError
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.pricing import Pricer
from spanledger_processor.receivers import EnricherReceiver, Otlp
from spanledger_processor.server.budget_values import most_used, unknown_values
from spanledger_processor.server.enricher import Enricher
from spanledger_processor.server.handler import Handler
from spanledger_processor.server.http_api import Api, Health
from spanledger_processor.server.ledger_link import (
    AnnouncedTraces,
    BatchLedger,
    Deliver,
    LedgerServer,
    LocalLedger,
    RemoteLedger,
    Status,
    traces_before,
)
from spanledger_processor.server.notices import OF_WARNINGS, Notices
from spanledger_processor.server.own_telemetry import OwnTelemetrySender
from spanledger_processor.server.rate_limits import Minutes
from spanledger_processor.server.reloading import Reloadable
from spanledger_processor.server.session_watch import SessionWatch
from spanledger_processor.server.shared_cpu import SharedCpu
from spanledger_processor.server.span_display import SpanDisplay
from spanledger_processor.server.wiring import (
    are_watched,
    ledger_beside,
    link_keys,
    make_budgets,
    make_exporter_settings,
    make_lifecycle,
    make_log_stage,
    make_pricer,
    make_rate_limits,
    make_redactor,
    make_signer,
    make_stage,
    make_tenant_of,
    make_warnings,
    open_store,
    summary_wait,
)
from spanledger_processor.signing.key import SigningKeyError
from spanledger_processor.signing.signer import Signer
from spanledger_processor.telemetry.metrics import BudgetUse, Telemetry
from spanledger_processor.telemetry.otlp import Tracer
from spanledger_processor.telemetry.registry import Samples

log = logging.getLogger(__name__)

GRACE = 20.0
"""Seconds that requests under way get to end when the process stops ..."""
AFTER_GRACE = 5.0
"""... and what is still being sent after that, to exporters that are not required: less than Kubernetes' 30 in all."""


_ALL_BY_S = 10.0
"""Seconds after which the ledger process answers scrapes without the workers that have not reported."""
_OWN_REQUEST_S = 20.0
"""Seconds for the exporters to take a request of our own."""


class StartError(Exception):
    """The process cannot run as it is configured; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running process. `addresses` maps protocols to host:port."""

    addresses: Mapping[str, str]
    ledger: LedgerWriter
    reloadable: Reloadable


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Running]:
    """Run receivers, API, ledger and exporters inside the block. At its end, requests under way finish first.

    Raises:
        StartError: a key, the state folder, an exporter or an address cannot be used; nothing runs then.
    """
    async with AsyncExitStack() as closing:
        try:
            started = await _start(config, closing)
        except (SigningKeyError, StateLockedError, DestinationError, OSError) as error:
            raise StartError(str(error)) from error
        yield started


async def _start(config: Config, closing: AsyncExitStack) -> Running:
    """Start the parts in the order of their dependencies; they stop in the reverse order."""
    telemetry = _telemetry(config, _budget(config))
    signer = make_signer(config)
    ledger = _open_ledger(config, telemetry, closing)
    pricer, processor = make_pricer(config), config.processor
    stage = await _start_stage(config, signer, pricer, telemetry, LocalLedger(ledger), closing)
    adopt_notices = _start_notices(config, telemetry, ledger, stage.deliver, signer, closing)
    health = Health(stage.listening, lambda: telemetry.ledger.is_available)
    health.requires_ledger = config.api.ready_requires_ledger
    rules = make_lifecycle(processor), make_budgets(processor), tuple(processor.dimensions)
    api = Api(config.api, health, lambda om: telemetry.registry.scrape(as_openmetrics=om), ledger, pricer, *rules)
    await api.start()
    closing.push_async_callback(api.stop)
    await _start_own_telemetry(config, telemetry.registry.families, telemetry.tracer, closing)
    await stage.handler.know(traces_before(ledger))
    await stage.receive(config, signer, closing, ledger.snapshot)
    health.phase = "serving"
    closing.callback(setattr, health, "phase", "stopping")
    adopt = (stage.adopt, adopt_notices, lambda new: api.adopt(make_budgets(new.processor)))
    reloadable = Reloadable(config, pricer, signer, stage.receivers, api, stage.delivery, adopt)
    return Running(_addresses(config, {**stage.ports(), **api.ports}), ledger, reloadable)


@asynccontextmanager
async def running_ledger(config: Config, link: str, workers: int) -> AsyncIterator[Reloadable]:
    """Run the ledger process of so many workers inside the block: ledger, API, and the socket that workers connect to.

    `link` is the path of the socket file that workers connect to.

    Raises:
        StartError: a key, the state folder or an address cannot be used.
    """
    async with AsyncExitStack() as closing:
        try:
            reloadable = await _start_ledger(config, link, workers, closing)
        except (SigningKeyError, StateLockedError, DestinationError, OSError) as error:
            raise StartError(str(error)) from error
        yield reloadable


class _Workers:
    """What all workers say of themselves together, as the ledger process answers it."""

    def __init__(self, server: LedgerServer, telemetry: Telemetry, number: int) -> None:
        self._server, self._telemetry, self._number = server, telemetry, number
        self._all_by = time.monotonic() + _ALL_BY_S

    def listening(self) -> dict[str, bool]:
        """Return which listeners are up in at least one worker, and whether there is a worker."""
        names: dict[str, bool] = {"workers": bool(self._server.statuses)}
        for status in self._server.statuses:
            for name, up in status["listening"].items():
                names[name] = names.get(name, False) or up
        return names

    def scrape(self, as_openmetrics: bool) -> bytes | None:  # noqa: FBT001 - called by `Api` alone
        """Return the metrics of all processes as text."""
        samples = self._samples()
        return None if samples is None else self._telemetry.registry.scrape(samples, as_openmetrics=as_openmetrics)

    def families(self) -> list[Metric] | None:
        """Return the metrics of all processes."""
        samples = self._samples()
        return None if samples is None else self._telemetry.registry.families(samples)

    def _samples(self) -> list[Samples] | None:
        """Return nothing before all workers have reported: a counter that falls looks like a restart."""
        statuses = self._server.statuses
        if len(statuses) < self._number and time.monotonic() < self._all_by:
            return None
        return [status["metrics"] for status in statuses]


async def _start_ledger(config: Config, link: str, workers: int, closing: AsyncExitStack) -> Reloadable:
    telemetry = _telemetry(config, 0)
    ledger = _open_ledger(config, telemetry, closing)
    server = LedgerServer(
        link,
        LocalLedger(ledger),
        gone=lambda status: telemetry.registry.keep_counters(status["metrics"]),
        count=Minutes(config.processor.rate_limits).take_packed,
        traces=traces_before(ledger),
        unlinked=telemetry.stage.unlinked,
    )
    together = _Workers(server, telemetry, workers)
    signer = make_signer(config)
    adopt_notices = _start_notices(config, telemetry, ledger, server.deliver, signer, closing)
    health = Health(together.listening, lambda: telemetry.ledger.is_available)
    health.requires_ledger = config.api.ready_requires_ledger
    pricer, processor = make_pricer(config), config.processor
    rules = make_lifecycle(processor), make_budgets(processor), tuple(processor.dimensions)
    api = Api(config.api, health, together.scrape, ledger, pricer, *rules)
    await api.start()
    closing.push_async_callback(api.stop)
    await server.start()
    closing.push_async_callback(server.close)

    await _start_own_telemetry(config, together.families, None, closing)
    health.phase = "serving"
    closing.callback(setattr, health, "phase", "stopping")
    adopt = (adopt_notices, lambda new: api.adopt(make_budgets(new.processor)))
    return Reloadable(config, pricer, signer, api=api, adopt=adopt)


@asynccontextmanager
async def running_worker(config: Config, link: str) -> AsyncIterator[Reloadable]:
    """Run a stage worker inside the block: receivers on shared ports, and exporters; its ledger is at `link`.

    Raises:
        StartError: a key, an exporter or an address cannot be used.
    """
    async with AsyncExitStack() as closing:
        try:
            reloadable = await _start_worker(config, link, closing)
        except (SigningKeyError, DestinationError, OSError) as error:
            raise StartError(str(error)) from error
        yield reloadable


async def _start_worker(config: Config, link: str, closing: AsyncExitStack) -> Reloadable:
    telemetry, signer = _telemetry(config, _budget(config)), make_signer(config)
    stage: _Stage | None = None

    def status() -> Status:
        listening = {} if stage is None else dict(stage.listening())
        return {"listening": listening, "metrics": telemetry.registry.samples()}

    known = AnnouncedTraces(telemetry.stage.unlinked)

    async def deliver(signal: Signal, request_id: bytes, body: bytes) -> Verdict:
        return Verdict.RETRYABLE if stage is None else await stage.deliver(signal, request_id, body)

    ledger = RemoteLedger(link, status, known.add, deliver)
    await ledger.start()
    closing.push_async_callback(ledger.close)
    pricer = make_pricer(config)
    stage = await _start_stage(config, signer, pricer, telemetry, ledger, closing, count=ledger.count)
    await _start_own_telemetry(config, lambda: None, telemetry.tracer, closing)
    knowing = asyncio.create_task(stage.handler.keep_knowing(known))
    closing.callback(knowing.cancel)
    await stage.receive(config, signer, closing, partial(ledger_beside, config))
    return Reloadable(config, pricer, signer, stage.receivers, delivery=stage.delivery, adopt=(stage.adopt,))


@dataclass(frozen=True, slots=True)
class _Stage:
    """The stage of one process, from receivers to exporters."""

    stage: Stage
    handler: Handler
    delivery: Delivery
    receivers: list[Otlp | EnricherReceiver]

    async def deliver(self, signal: Signal, request_id: bytes, body: bytes) -> Verdict:
        """Send a request of our own, and return the joint result of the required exporters.

        It adds nothing to the counts of items that were sent on, refused or claimed by no exporter: none of it was sent
        to us, and what is sent by ourselves has metrics of its own.
        """
        if not self.delivery.takes(signal):
            return Verdict.ACCEPTED
        deadline = asyncio.get_running_loop().time() + _OWN_REQUEST_S
        return (await self.delivery.deliver(signal, request_id, body, deadline)).verdict

    def adopt(self, config: Config) -> None:
        """Use the budgets of another configuration, and watch sessions as it says."""
        self.stage.budgets, self.stage.watched = make_budgets(config.processor), are_watched(config)

    def listening(self) -> Mapping[str, bool]:
        """Return by name whether a receiver takes requests."""
        return dict(pair for receiver in self.receivers for pair in receiver.listening.items())

    def ports(self) -> Mapping[str, int]:
        """Return by name the port that a receiver listens on."""
        return dict(pair for receiver in self.receivers for pair in receiver.ports.items())

    async def receive(self, config: Config, signer: Signer, closing: AsyncExitStack, snapshot: Snapshot) -> None:
        """Take requests from now on, and read the files that are configured."""
        for receiver in self.receivers:
            await receiver.start()
            closing.push_async_callback(receiver.stop, GRACE)
        if any(source is not None for _, source in config.sidecar.sources):
            await _start_sidecar(config, self.handler, signer, closing, snapshot)


async def _start_stage(
    config: Config,
    signer: Signer,
    pricer: Pricer,
    telemetry: Telemetry,
    ledger: BatchLedger,
    closing: AsyncExitStack,
    count: Callable[[bytes], Awaitable[bytes]] | None = None,
) -> _Stage:
    """Start the exporters, and build the stage and the receivers in front of them.

    `count` is given in a worker, which shares ports and rate limits with others.
    """
    destinations = make_exporter_settings(config)
    exporters = [build(name, settings, SpanDisplay()) for name, settings in destinations.items()]
    for exporter in exporters:
        telemetry.delivery.begin(exporter.name, exporter.signals)
    delivery = Delivery(exporters, telemetry.delivery, destinations)
    await delivery.start()
    closing.push_async_callback(delivery.close, AFTER_GRACE)
    stage, log_stage = make_stage(config, signer, pricer), make_log_stage(config, signer)
    redactor, check = make_redactor(config, signer), make_tenant_of(config.processor).check
    limits = make_rate_limits(config.processor, count)
    handler = Handler(
        stage, log_stage, ledger, delivery, telemetry.stage, redactor=redactor, check=check, limits=limits
    )
    receivers: list[Otlp | EnricherReceiver] = []
    if config.receivers.otlp is not None:
        receivers.append(Otlp(config.receivers.otlp, handler, telemetry.requests, share_ports=count is not None))
    if config.receivers.enricher is not None:
        keys, trusted = link_keys(config.processor), config.receivers.enricher.trusted_hop
        enricher = Enricher(stage, log_stage, handler.account, handler.entered, telemetry.stage, keys, trusted=trusted)
        receivers.append(EnricherReceiver(config.receivers.enricher, enricher, telemetry.requests))
    return _Stage(stage, handler, delivery, receivers)


def _start_notices(
    config: Config,
    telemetry: Telemetry,
    ledger: LedgerWriter,
    deliver: Deliver,
    signer: Signer,
    closing: AsyncExitStack,
) -> Callable[[Config], None]:
    """Start notifications of budgets, warnings and ended sessions; return what adopts another configuration."""
    registry = telemetry.registry

    def count(crossing: Crossing, outcome: str) -> None:
        if crossing.warning:
            registry.count("warnings_total", crossing.warning, outcome)
        else:
            registry.count("budget_thresholds_total", crossing.budget, crossing.percent, outcome)

    notices = Notices(ledger, {}, deliver, count)
    watch = SessionWatch(
        ledger, make_lifecycle(config.processor), signer, deliver, partial(registry.count, "session_summaries_total")
    )

    def adopt(new: Config) -> None:
        processor = new.processor
        webhooks = {budget.name: budget.webhook for budget in processor.budgets if budget.webhook is not None}
        if processor.warnings.webhook is not None:
            webhooks[OF_WARNINGS] = processor.warnings.webhook
        notices.webhooks = webhooks
        watch.summaries = summary_wait(new)
        watch.rules = make_warnings(processor)
        watch.budgets = make_budgets(processor)
        for unknown in unknown_values(watch.budgets, make_pricer(new), time.time_ns(), ledger.snapshot):
            log.warning("%s", unknown, extra={"kind": unknown})

    adopt(config)
    telemetry.ledger.read_budgets(lambda: _budget_uses(ledger, watch.budgets))
    for part in (notices, watch):
        part.start()
        closing.push_async_callback(part.stop)
    return adopt


def _telemetry(config: Config, budget: int) -> Telemetry:
    """Return the metrics of a process that may hold `budget` bytes of requests."""
    metrics = config.processor.metrics
    tenants = ("tenant",) if config.processor.tenant.keys else ()
    return Telemetry(
        version("spanledger"),
        window=config.state.retention.spans,
        budget=budget,
        dimensions=tuple(dict.fromkeys((*metrics.dimensions, *tenants))),
        values=metrics.limit,
    )


def _open_ledger(config: Config, telemetry: Telemetry, closing: AsyncExitStack) -> LedgerWriter:
    ledger = LedgerWriter(partial(open_store, config), telemetry.ledger)
    closing.push_async_callback(asyncio.to_thread, ledger.close)
    shared = SharedCpu((get_native_id(), ledger.thread))
    shared.start()
    closing.push_async_callback(shared.stop)
    telemetry.ledger.read_correction(partial(_late_correction, ledger))
    return ledger


async def _start_own_telemetry(
    config: Config, families: Callable[[], list[Metric] | None], tracer: Tracer | None, closing: AsyncExitStack
) -> None:
    """Start to send this process's own telemetry; `families` returns None where another process has the metrics."""
    own = OwnTelemetrySender(config.telemetry, families, tracer)
    await own.start()
    closing.push_async_callback(own.close)


async def _start_sidecar(
    config: Config, handler: Handler, signer: Signer, closing: AsyncExitStack, snapshot: Snapshot
) -> None:
    from spanledger_processor.server.embedded_sidecar import start_sidecar  # brings the SDK along, which few need

    sidecar = await asyncio.to_thread(start_sidecar, config, handler, signer, asyncio.get_running_loop(), snapshot)
    if sidecar is not None:
        closing.push_async_callback(asyncio.to_thread, sidecar.close)


def _late_correction(ledger: LedgerWriter) -> float:
    """Return the cost on sent spans that exceeds the ledgers of all tenants, in USD."""
    with ledger.snapshot() as reader:
        return usd(late_correction(reader, EVERY_TENANT))


def _budget_uses(ledger: LedgerWriter, rules: Sequence[BudgetRule]) -> list[BudgetUse]:
    with ledger.snapshot() as reader:
        return [*most_used(rules, reader, time.time_ns())]


def _budget(config: Config) -> int:
    """Return bytes of requests that may be held at once."""
    held = (config.receivers.otlp, config.receivers.enricher)
    return sum(receiver.max_in_flight_mib for receiver in held if receiver is not None) * MIB


def _addresses(config: Config, ports: Mapping[str, int]) -> Mapping[str, str]:
    """Return host:port by protocol, with the ports that were taken; `ports` go by the last name in the path."""
    return {
        LISTENERS[path]: _address(listener.endpoint, ports[path.rpartition(".")[2]])
        for path, listener in config.listeners.items()
    }


def _address(endpoint: str, port: int) -> str:
    if endpoint.startswith("unix:"):
        return endpoint
    host = host_and_port(endpoint)[0]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
