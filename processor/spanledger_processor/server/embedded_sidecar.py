"""The sidecar inside `serve`: it reads files in threads of its own, and its requests go through the same pipeline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from spanledger_exporters.interface import Result
from spanledger_processor.config import Config
from spanledger_processor.config.model import SidecarSource
from spanledger_processor.ledger.queries import first_known
from spanledger_processor.ledger.store import Snapshot, StateError
from spanledger_processor.receivers.driver import Pipeline
from spanledger_processor.signing.signer import Signer
from spanledger_sidecar.cursor import CursorError
from spanledger_sidecar.loop import SOURCES, AlreadyCountedError, Running, Settings, SourceName, SourceSettings, start

log = logging.getLogger(__name__)

_ALREADY = (
    "the sidecar does not run until the next start: sidecar.backfill: %s. Without sidecar.backfill it goes on from "
    "now; to count them all the same, start serve without sidecar.sources, run `spanledger sidecar --backfill --force "
    "--once --state %s` (with --root, where sources.*.roots names any), and start serve as before."
)
_PATIENCE = 30.0
"""Seconds that one request may take."""


def start_sidecar(
    config: Config, pipeline: Pipeline, signer: Signer, loop: asyncio.AbstractEventLoop, snapshot: Snapshot
) -> Running | None:
    """Start it; None, with an error in the log, if its state cannot be used, or it is to count once more what the
    ledger has: what comes in otherwise must not wait.
    """

    def counted(sessions: Iterable[str]) -> str | None:
        with snapshot() as reader:
            return first_known(reader, sessions)

    try:
        running = start(_settings(config), _post(pipeline, loop), signer, counted)
    except AlreadyCountedError as error:
        log.error(_ALREADY, error, config.state.path)
        return None
    except (CursorError, StateError) as error:
        log.error("the sidecar does not run until the next start: %s", error)
        return None
    log.info("reading usage files of %s", ", ".join(source.name for source in running.sidecar.settings.sources))
    return running


def _post(pipeline: Pipeline, loop: asyncio.AbstractEventLoop) -> Callable[[bytes], Result]:
    """Take a request through on the event loop, for a thread that waits."""

    async def handle(body: bytes) -> Result:
        return await pipeline.handle("traces", body, {}, loop.time() + _PATIENCE)

    return lambda body: asyncio.run_coroutine_threadsafe(handle(body), loop).result()


def _settings(config: Config) -> Settings:
    given = config.sidecar
    since_ms = None
    if given.backfill:
        since_ms = 0
    elif given.since is not None:
        since_ms = int(datetime.combine(given.since, datetime.min.time(), tzinfo=UTC).timestamp() * 1000)
    named: dict[SourceName, SidecarSource | None] = {name: getattr(given.sources, name) for name in SOURCES}
    sources = [SourceSettings(name, source.roots, source.grain) for name, source in named.items() if source is not None]
    return Settings(config.state.path, sources, since_ms)
