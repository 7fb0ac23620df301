"""Everything that runs in one process of `serve`: made from a configuration, and taken down in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from spanledger_exporters import Delivery, DestinationError, build
from spanledger_processor.config import Config, host_and_port
from spanledger_processor.config.receivers import MIB
from spanledger_processor.config.summary import LISTENERS
from spanledger_processor.ledger.keys import EVERY_TENANT
from spanledger_processor.ledger.queries import late_correction
from spanledger_processor.ledger.rows import usd
from spanledger_processor.ledger.store import StateLockedError
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.receivers import EnricherReceiver, Otlp
from spanledger_processor.server.enricher import Enricher
from spanledger_processor.server.handler import Handler
from spanledger_processor.server.http_api import Api, Health
from spanledger_processor.server.span_display import SpanDisplay
from spanledger_processor.server.wiring import link_keys, make_log_stage, make_signer, make_stage, open_store
from spanledger_processor.signing.key import SigningKeyError
from spanledger_processor.signing.signer import Signer
from spanledger_processor.telemetry.metrics import Telemetry

GRACE = 20.0
"""Seconds that requests under way get to end when the process stops ..."""
AFTER_GRACE = 5.0
"""... and what is still being sent after that, to exporters that are not required: less than Kubernetes' 30 in all."""


class StartError(Exception):
    """It cannot run as it is configured; the message says what is in the way."""


@dataclass(frozen=True, slots=True)
class Running:
    """What runs. `addresses` maps what is spoken to the host:port that it is spoken on."""

    addresses: Mapping[str, str]
    ledger: LedgerWriter


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Running]:
    """Run inside the block: OTLP in, the API, the ledger, and the ways out. When it ends, requests under way end first.

    Raises:
        StartError: a key, the state folder, an exporter or an address cannot be used; nothing runs then.
    """
    async with AsyncExitStack() as closing:
        try:
            made = await _start(config, closing)
        except (SigningKeyError, StateLockedError, DestinationError, OSError) as error:
            raise StartError(str(error)) from error
        yield made


async def _start(config: Config, closing: AsyncExitStack) -> Running:
    """Start the parts, those first that others need; each is stopped before what it needs."""
    telemetry = Telemetry(version("spanledger"), window=config.state.retention.spans, budget=_budget(config))
    signer = make_signer(config)
    ledger = LedgerWriter(partial(open_store, config), telemetry.ledger)
    closing.push_async_callback(asyncio.to_thread, ledger.close)
    telemetry.ledger.read_correction(partial(_late_correction, ledger))
    delivery = Delivery(
        [build(name, exporter, SpanDisplay()) for name, exporter in config.exporters.items()], telemetry.delivery
    )
    await delivery.start()
    closing.push_async_callback(delivery.close, AFTER_GRACE)
    stage, log_stage = make_stage(config, signer), make_log_stage(config, signer)
    handler = Handler(stage, log_stage, ledger, delivery, telemetry.stage)
    receivers: list[Otlp | EnricherReceiver] = []
    if config.receivers.otlp is not None:
        receivers.append(Otlp(config.receivers.otlp, handler, telemetry.requests))
    if config.receivers.enricher is not None:
        enricher = Enricher(stage, log_stage, handler.account, telemetry.stage, link_keys(config.processor))
        receivers.append(EnricherReceiver(config.receivers.enricher, enricher, telemetry.requests))
    health = Health(
        lambda: dict(pair for receiver in receivers for pair in receiver.listening.items()),
        lambda: telemetry.ledger.is_available,
    )
    health.requires_ledger = config.api.ready_requires_ledger
    api = Api(config.api.endpoint, health, telemetry.registry.scrape, ledger)
    await api.start()
    closing.push_async_callback(api.stop)
    for receiver in receivers:
        await receiver.start()
        closing.push_async_callback(receiver.stop, GRACE)
    if any(source is not None for _, source in config.sidecar.sources):
        await _start_sidecar(config, handler, signer, closing)
    health.phase = "serving"
    closing.callback(setattr, health, "phase", "stopping")
    ports = dict(pair for receiver in receivers for pair in receiver.ports.items())
    return Running(_addresses(config, {**ports, "api": api.port}), ledger)


async def _start_sidecar(config: Config, handler: Handler, signer: Signer, closing: AsyncExitStack) -> None:
    from spanledger_processor.server.embedded_sidecar import start_sidecar  # brings the SDK along, which few need

    sidecar = await asyncio.to_thread(start_sidecar, config, handler, signer, asyncio.get_running_loop())
    if sidecar is not None:
        closing.push_async_callback(asyncio.to_thread, sidecar.close)


def _late_correction(ledger: LedgerWriter) -> float:
    """What was sent on spans beyond the ledgers of all tenants, in USD."""
    with ledger.snapshot() as reader:
        return usd(late_correction(reader, EVERY_TENANT))


def _budget(config: Config) -> int:
    """Bytes of requests that may be held at once."""
    held = (config.receivers.otlp, config.receivers.enricher)
    return sum(receiver.max_in_flight_mib for receiver in held if receiver is not None) * MIB


def _addresses(config: Config, ports: Mapping[str, int]) -> Mapping[str, str]:
    """Where it listens, with the ports that were taken where any was asked for; ports by the last name in the path."""
    return {
        LISTENERS[path]: _address(listener.endpoint, ports[path.rpartition(".")[2]])
        for path, listener in config.listeners.items()
    }


def _address(endpoint: str, port: int) -> str:
    if endpoint.startswith("unix:"):
        return endpoint
    host = host_and_port(endpoint)[0]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
