"""`spanledger serve`: the stage in the pipeline."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from importlib.metadata import version
from pathlib import Path

import click

from spanledger_processor.cli.options import WRONG_USAGE, configuration, configured, fail, logs
from spanledger_processor.config import Config
from spanledger_processor.config.summary import summary
from spanledger_processor.server.app import Running, StartError, running

log = logging.getLogger(__name__)

_YOUNG = 50_000
"""Objects made before the collector looks: requests free theirs by counting, and seldom make rings."""


@click.command()
@configuration
@logs
def serve(path: Path | None, sets: tuple[str, ...]) -> None:
    """Take OTLP in, price, sign and group its GenAI spans, and send everything on.

    Runs until it is told to stop (SIGTERM, or Ctrl-C): then it takes no more requests, ends those under way, and
    closes the ledger. A second signal stops it at once. Exit code 2: it cannot run as it is configured.
    """
    config = configured(path, sets)
    try:
        asyncio.run(_serve(config))
    except StartError as error:
        fail(str(error), WRONG_USAGE)


async def _serve(config: Config) -> None:
    stop = _told_to_stop()
    log.info("spanledger %s", version("spanledger"))
    async with running(config) as made:
        _announce(config, made)
        _tune()
        await stop.wait()
        log.info("stopping: no more requests are taken, those under way end")
    log.info("stopped")


def _told_to_stop() -> asyncio.Event:
    """Set by the first signal; the second one does what it does by default."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def told(which: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(which)

    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, told, which)
    return stop


def _announce(config: Config, made: Running) -> None:
    told = summary(config)
    for name, address in made.addresses.items():
        log.info("%s on %s", name, address)
    for destination in told.destinations:
        log.info("exports to %s", destination)
    if told.unwaited:
        log.warning("%s", told.unwaited)
    log.info("state in %s", told.state)
    log.info("ready")


def _tune() -> None:
    """What is there now stays: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
