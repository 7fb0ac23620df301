"""`spanledger serve`: the processor, its receivers and exporters, as one process or several."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import TypeAlias

import click

from spanledger_processor.cli.options import (
    WRONG_USAGE,
    ConfigFiles,
    config_files,
    configuration,
    configured,
    described,
    fail,
    logs,
)
from spanledger_processor.config import Config, ConfigError, load
from spanledger_processor.config.summary import LISTENERS, summary
from spanledger_processor.server.app import StartError, running, running_ledger, running_worker
from spanledger_processor.server.reloading import ReloadError
from spanledger_processor.server.slices import keep_freed_memory
from spanledger_processor.server.supervisor import beat, for_worker, supervised

log = logging.getLogger(__name__)

ReadConfig: TypeAlias = Callable[[], Config]
"""Reads the configuration anew; raises ConfigError."""

_YOUNG = 50_000
"""New objects that start a collection: requests free theirs by reference counts, and seldom make cycles."""
_YOUNG_RUNS = 3
"""Collections of new objects before one of those that they left: 200,000 objects, 50 ms."""
_NEVER = 2**31 - 1
_FULL_COLLECTION_S = 300.0
_MANY_OBJECTS = 200_000
"""Objects of which there are more while a large request is worked on, and hardly ever otherwise: to look at all of them
would take long, and they will be gone soon."""
_POSTPONED_S, _MOST_POSTPONED = 10.0, 60
_SWITCH_S = 0.0005
"""Seconds until a thread that computes yields the interpreter to one that waits: the ledger's to the event loop, which
asks some ten times a request, and the event loop to the ledger's while it works on a large request. Python's default is
ten times as long.
"""


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
@click.option("--ready-fd", type=int, hidden=True, help="Where to say that this process is ready, and goes on.")
@logs
def serve(
    path: ConfigFiles,
    sets: tuple[str, ...],
    workers: int,
    part: str | None,
    link: str | None,
    ready_fd: int | None,
) -> None:
    """Take OTLP in, price, sign and group its GenAI spans, and send everything on.

    Runs until it is told to stop (SIGTERM, or Ctrl-C): then it takes no more requests, ends those under way, and
    closes the ledger. A second signal stops it at once. Exit code 2: it cannot run as it is configured.

    SIGHUP reads the configuration again and puts prices, keys, tokens, headers and certificates into use; where it is
    wrong, everything stays as it was, and the log says so.
    """
    keep_freed_memory()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each connection is a file
    config = configured(path, sets)
    read = partial(load, config_files(path), sets)
    try:
        if part is not None and link is not None and ready_fd is not None:
            asyncio.run(_serve_part(config, part, workers, link, ready_fd, read))
        elif workers > 1:
            asyncio.run(_serve_several(config, _command(), workers, read))
        else:
            asyncio.run(_serve(config, read))
    except StartError as error:
        fail(str(error), WRONG_USAGE)


async def _serve(config: Config, read: ReadConfig) -> None:
    stop, reload = _signals()
    log.info("spanledger %s", version("spanledger"))
    async with running(config) as process:
        _announce(config, process.addresses)
        async with _tuned_interpreter(), _reloading(reload, read, process.reloadable.reload):
            await stop.wait()
        log.info("stopping: no more requests are taken, those under way end")
    log.info("stopped")


async def _serve_several(config: Config, command: Sequence[str], workers: int, read: ReadConfig) -> None:
    """Supervise a ledger process and workers."""
    stop, reload = _signals()
    log.info("spanledger %s, %d workers", version("spanledger"), workers)
    async with supervised(config, command, workers) as supervisor:
        _announce(config, {LISTENERS[path]: endpoint for path, endpoint in supervisor.endpoints.items()})
        async with _reloading(reload, read, supervisor.reload):
            await stop.wait()
        log.info("stopping: no more requests are taken, those under way end")
    log.info("stopped")


async def _serve_part(config: Config, part: str, workers: int, link: str, ready_fd: int, read: ReadConfig) -> None:
    """Run the ledger process or a worker until a stop signal, or until the supervisor has gone."""
    stop, reload = _signals()
    stdin = sys.stdin.fileno()

    def heard() -> None:
        if not os.read(stdin, 1):
            stop.set()

    asyncio.get_running_loop().add_reader(stdin, heard)
    if part == "ledger":
        runs = running_ledger(config, link, workers)
    else:
        runs = running_worker(for_worker(config, int(part), workers), link)
        number, whole = int(part), read
        read = lambda: for_worker(whole(), number, workers)  # noqa: E731 - a declaration would be a second one

    async with runs as reloadable:
        beats = asyncio.create_task(beat(ready_fd))
        async with _tuned_interpreter(), _reloading(reload, read, reloadable.reload):
            await stop.wait()
        beats.cancel()
        asyncio.get_running_loop().remove_reader(stdin)


def _command() -> list[str]:
    """Return this command with the options it was given, for processes that are parts of it."""
    given = click.get_current_context().params
    command = [sys.executable, "-m", "spanledger_processor.cli", "serve", "--workers", str(given["workers"])]
    command += ["--log-level", given["log_level"], "--log-format", given["log_format"]]
    command += [word for path in config_files(given["path"]) for word in ("--config", str(path))]
    return [*command, *(word for text in given["sets"] for word in ("--set", text))]


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Return the events of a stop signal (a second one has its default effect) and of SIGHUP."""
    stop, reload, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    def handle(which: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(which)

    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, handle, which)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    return stop, reload


@asynccontextmanager
async def _reloading(
    requested: asyncio.Event, read: ReadConfig, apply: Callable[[Config], Awaitable[None]]
) -> AsyncIterator[None]:
    """Read the configuration again and apply it each time that `requested` is set, while the block runs."""

    async def reload() -> None:
        while True:
            await requested.wait()
            requested.clear()
            try:
                await apply(await asyncio.to_thread(read))
            except (ConfigError, ReloadError) as error:
                # The text is the message, since another problem within seconds is no repeat of this one.
                message = "not reloaded, everything stays as it was: " + "; ".join(str(error).splitlines())
                log.error(message)
            except Exception:
                log.exception("not reloaded: unexpected failure")

    task = asyncio.create_task(reload())
    try:
        yield
    finally:
        task.cancel()


def _announce(config: Config, addresses: Mapping[str, str]) -> None:
    reported = summary(config)
    log.info("%s", described(click.get_current_context().params["path"]))
    for name, address in addresses.items():
        log.info("%s on %s", name, address)
    for destination in reported.destinations:
        log.info("exports to %s", destination)
    if reported.unwaited:
        log.warning("%s", reported.unwaited)
    log.info("state in %s", reported.state)
    log.info("ready")


def collect_or_postpone(postponed: int) -> int:
    """Run the full collection unless a large request is in memory; return how often it was put off by now."""
    if postponed < _MOST_POSTPONED and len(gc.get_objects()) > _MANY_OBJECTS:
        return postponed + 1
    gc.collect()
    return 0


@asynccontextmanager
async def _tuned_interpreter() -> AsyncIterator[None]:
    """Tune the interpreter inside the block so that it blocks the event loop as briefly as possible.

    The garbage collector skips the objects that exist at the start, and makes no full collections by itself: one visits
    every object, a quarter of a second for a request of 100,000 spans, and blocks everything meanwhile. It frees only
    long-lived reference cycles, which are few, so it runs at intervals. Threads switch sooner.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _YOUNG_RUNS, _NEVER)
    sys.setswitchinterval(_SWITCH_S)

    async def collect() -> None:
        postponed = 0
        while True:
            await asyncio.sleep(_POSTPONED_S if postponed else _FULL_COLLECTION_S)
            postponed = collect_or_postpone(postponed)

    task = asyncio.create_task(collect())
    try:
        yield
    finally:
        task.cancel()
