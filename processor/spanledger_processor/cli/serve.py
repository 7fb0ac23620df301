"""`spanledger serve`: the stage in the pipeline."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import click

from spanledger_processor.cli.options import WRONG_USAGE, configuration, configured, fail, logs
from spanledger_processor.config import Config
from spanledger_processor.config.summary import LISTENERS, summary
from spanledger_processor.server.app import StartError, running, running_ledger, running_worker
from spanledger_processor.server.supervisor import for_worker, supervised

log = logging.getLogger(__name__)

_YOUNG = 50_000
"""Objects made before the collector looks: requests free theirs by counting, and seldom make rings."""


@click.command()
@configuration
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that share the ports; from 2 on, one more keeps the ledger.",
)
@click.option("--part", hidden=True, help="Be one process of several: ledger, or a worker's number.")
@click.option("--link", hidden=True, help="Socket file between workers and the ledger process.")
@click.option("--ready-fd", type=int, hidden=True, help="Where to say that this process is ready.")
@logs
def serve(
    path: Path | None,
    sets: tuple[str, ...],
    workers: int,
    part: str | None,
    link: str | None,
    ready_fd: int | None,
) -> None:
    """Take OTLP in, price, sign and group its GenAI spans, and send everything on.

    Runs until it is told to stop (SIGTERM, or Ctrl-C): then it takes no more requests, ends those under way, and
    closes the ledger. A second signal stops it at once. Exit code 2: it cannot run as it is configured.
    """
    config = configured(path, sets)
    try:
        if part is not None and link is not None and ready_fd is not None:
            asyncio.run(_serve_part(config, part, workers, link, ready_fd))
        elif workers > 1:
            asyncio.run(_serve_several(config, _command(), workers))
        else:
            asyncio.run(_serve(config))
    except StartError as error:
        fail(str(error), WRONG_USAGE)


async def _serve(config: Config) -> None:
    stop = _stop_signal()
    log.info("spanledger %s", version("spanledger"))
    async with running(config) as made:
        _announce(config, made.addresses)
        _tune()
        await stop.wait()
        log.info("stopping: no more requests are taken, those under way end")
    log.info("stopped")


async def _serve_several(config: Config, command: Sequence[str], workers: int) -> None:
    """Supervise a ledger process and workers."""
    stop = _stop_signal()
    log.info("spanledger %s, %d workers", version("spanledger"), workers)
    async with supervised(config, command, workers) as endpoints:
        _announce(config, {LISTENERS[path]: endpoint for path, endpoint in endpoints.items()})
        await stop.wait()
        log.info("stopping: no more requests are taken, those under way end")
    log.info("stopped")


async def _serve_part(config: Config, part: str, workers: int, link: str, ready_fd: int) -> None:
    """Be the ledger process or a worker, until told to stop or the supervisor has gone."""
    stop = _stop_signal()
    stdin = sys.stdin.fileno()

    def heard() -> None:
        if not os.read(stdin, 1):
            stop.set()

    asyncio.get_running_loop().add_reader(stdin, heard)
    if part == "ledger":
        runs = running_ledger(config, link, workers)
    else:
        runs = running_worker(for_worker(config, int(part), workers), link)
    async with runs:
        _tune()
        os.write(ready_fd, b"+")
        os.close(ready_fd)
        await stop.wait()
        asyncio.get_running_loop().remove_reader(stdin)


def _command() -> list[str]:
    """This command with the options it was given, for processes that are parts of it."""
    given = click.get_current_context().params
    command = [sys.executable, "-m", "spanledger_processor.cli", "serve", "--workers", str(given["workers"])]
    command += ["--log-level", given["log_level"], "--log-format", given["log_format"]]
    if given["path"] is not None:
        command += ["--config", str(given["path"])]
    return [*command, *(word for text in given["sets"] for word in ("--set", text))]


def _stop_signal() -> asyncio.Event:
    """Set by the first signal; the second one does what it does by default."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def told(which: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(which)

    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, told, which)
    return stop


def _announce(config: Config, addresses: Mapping[str, str]) -> None:
    told = summary(config)
    for name, address in addresses.items():
        log.info("%s on %s", name, address)
    for destination in told.destinations:
        log.info("exports to %s", destination)
    if told.unwaited:
        log.warning("%s", told.unwaited)
    log.info("state in %s", told.state)
    log.info("ready")


def _tune() -> None:
    """Keep the garbage collector from looking again at what was made at the start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
