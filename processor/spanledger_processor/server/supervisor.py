"""Several processes for one `serve`: stage workers that share the ports, and a ledger process that alone has the state.

This process starts them, starts again what ends or hangs, and passes on the word to stop: workers first, then the
ledger. It keeps the ports, so that a worker that is started again finds its place free and another program finds it
taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

from spanledger_processor.config import Config, host_and_port
from spanledger_processor.config.receivers import MIB
from spanledger_processor.listener import bind
from spanledger_processor.server.app import AFTER_GRACE, GRACE, StartError
from spanledger_processor.server.wiring import make_exporter_settings, make_signer
from spanledger_processor.signing.key import SigningKeyError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
"""Before a process that ended is started again; each time it ends soon, twice as long."""
_SOON_S = 30.0
_BEAT_S = 1.0
"""Seconds between two heartbeats of a process's event loop ..."""
_HANGS_S = 30.0
"""... and is killed once it has not for so long; no work of ours takes a loop for more than a part of that."""
_STOP_S = GRACE + AFTER_GRACE + 3.0
"""How long a process may take to stop."""
_AT_ONCE = 4096
_WRONG_USAGE = 2
"""The exit code of a process that cannot run as it is configured; it has said why."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process: the ledger's, or the worker of a number from 0 on."""

    number: int | None = None

    @property
    def name(self) -> str:
        """Return the name of the process in the log."""
        return "ledger" if self.number is None else f"worker {self.number}"

    @property
    def log(self) -> logging.Logger:
        """Return a logger of its own: repeats are left out for each part by itself."""
        return logging.getLogger(f"{__name__}.{self.name.replace(' ', '_')}")

    @property
    def arguments(self) -> list[str]:
        """Return what the command is given to be this part."""
        return ["--part", "ledger" if self.number is None else str(self.number)]


@dataclass(eq=False, slots=True)
class _Child:
    part: Part
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    silent: int | None = None
    """Times that it was looked at since it last said that it goes on; None until it is ready. No time: all processes
    may have been paused."""


def for_worker(config: Config, number: int, workers: int) -> Config:
    """Return the configuration of one of several workers.

    They share the memory for requests. What only one process can do, the first one does: files of agents, the socket of
    the enricher. From the second worker on a file that is written gets the worker's number into its name, and a queue a
    folder of the worker's.
    """
    otlp = config.receivers.otlp
    if otlp is not None:
        running = [protocol for protocol in (otlp.protocols.grpc, otlp.protocols.http) if protocol is not None]
        largest = max(-(-protocol.max_request_bytes // MIB) for protocol in running)
        otlp = otlp.model_copy(update={"max_in_flight_mib": max(otlp.max_in_flight_mib // workers, largest)})
    update = {"receivers": config.receivers.model_copy(update={"otlp": otlp})}
    if number:
        receivers = config.receivers.model_copy(update={"otlp": otlp, "enricher": None})
        nothing = dict.fromkeys(type(config.sidecar.sources).model_fields)
        sources = config.sidecar.sources.model_copy(update=nothing)
        exporters = make_exporter_settings(config, number)
        sidecar = config.sidecar.model_copy(update={"sources": sources})
        return config.model_copy(update={"receivers": receivers, "sidecar": sidecar, "exporters": exporters})
    return config.model_copy(update=update)


@dataclass(frozen=True, slots=True)
class Supervised:
    """What runs. `endpoints` by their configuration path; `reload` has every process read the configuration again."""

    endpoints: Mapping[str, str]
    reload: Callable[[Config], Awaitable[None]]


@asynccontextmanager
async def supervised(config: Config, command: Sequence[str], workers: int) -> AsyncIterator[Supervised]:
    """Run `command` as the ledger process and so many workers inside the block.

    Raises:
        StartError: a key, the state folder, an exporter or an address cannot be used; nothing runs then.
    """
    with ExitStack() as closing:
        try:
            make_signer(config)  # the key is made once, not by several workers
            endpoints = _take_ports(config, closing)
        except (SigningKeyError, OSError) as error:
            raise StartError(str(error)) from error
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="spanledger-"))
        sets = [f"{path}.endpoint='{endpoint}'" for path, endpoint in endpoints.items()]
        arguments = [*command, *(word for text in sets for word in ("--set", text)), "--link", f"{folder}/ledger"]
        supervisor = _Supervisor(arguments)
        try:
            await supervisor.start(Part())
            await asyncio.gather(*(supervisor.start(Part(number)) for number in range(workers)))
            yield Supervised(endpoints, supervisor.reload)
        finally:
            await supervisor.stop()


def _take_ports(config: Config, closing: ExitStack) -> Mapping[str, str]:
    """Bind each shared port without listening on it; gives the endpoints by path, with the ports that were free."""
    endpoints = {}
    for path, listener in config.listeners.items():
        if path == "receivers.enricher":  # the first worker's alone
            continue
        host, port = host_and_port(listener.endpoint)
        with bind((host, port), path) as exclusive:
            port = exclusive.getsockname()[1]
        endpoints[path] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if path.startswith("api"):  # the ledger process's alone
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kept = closing.enter_context(socket.socket(family, socket.SOCK_STREAM))
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((host, port))
    return endpoints


class _Supervisor:
    """Keeps processes running until they are to stop."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._children: list[_Child] = []
        self._tasks: dict[_Child, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()

    async def start(self, part: Part) -> None:
        """Start a process, and return when it is ready.

        Raises:
            StartError: it cannot run as it is configured; it has said why.
        """
        child = _Child(part)
        self._children.append(child)
        task = self._tasks[child] = asyncio.create_task(self._keep(child))
        ready = asyncio.create_task(child.ready.wait())
        try:
            await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if task.done():
            task.result()

    async def reload(self, _: Config) -> None:
        """Have every process read the configuration, which is known to be valid, again."""
        for child in self._children:
            if child.ready.is_set():
                _signal(child, signal.SIGHUP)

    async def stop(self) -> None:
        """Stop the workers, then the ledger process."""
        self._stopping.set()
        for children in (self._children[1:], self._children[:1]):
            for child in children:
                _signal(child, signal.SIGTERM)
            tasks = [self._tasks[child] for child in children]
            if not tasks:
                continue
            _, late = await asyncio.wait(tasks, timeout=_STOP_S)
            for child in children:
                if self._tasks[child] in late:
                    child.part.log.error("did not stop in %.0f s and is killed", _STOP_S)
                    _signal(child, signal.SIGKILL)
            if late:
                await asyncio.wait(late)

    async def _keep(self, child: _Child) -> None:
        """Run a process again whenever it ends."""
        clock, pause = asyncio.get_running_loop().time, _FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = clock()
            code = await self._run(child)
            if self._stopping.is_set():
                return
            if code == _WRONG_USAGE and not child.ready.is_set():
                raise StartError(f"{child.part.name} cannot run")
            pause = _FIRST_PAUSE_S if clock() - began > _SOON_S else pause
            child.part.log.error("ended (%s) and is started again", _how(code))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _run(self, child: _Child) -> int:
        """Run a process to its end, and return its exit code. It stops when its standard input ends, as with us."""
        ready, its_end = os.pipe()
        try:
            child.process = await asyncio.create_subprocess_exec(
                *self._command,
                *child.part.arguments,
                "--ready-fd",
                str(its_end),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(its_end,),
                start_new_session=True,
            )
        finally:
            os.close(its_end)
        loop = asyncio.get_running_loop()
        child.silent = None

        def said() -> None:
            if os.read(ready, _AT_ONCE):
                child.ready.set()
                child.silent = 0
            else:
                loop.remove_reader(ready)

        loop.add_reader(ready, said)
        end = asyncio.create_task(child.process.wait())
        try:
            while not end.done():
                await asyncio.wait((end,), timeout=_BEAT_S)
                self._end_if_hanging(child)
            return end.result()
        finally:
            end.cancel()
            loop.remove_reader(ready)
            os.close(ready)

    def _end_if_hanging(self, child: _Child) -> None:
        if child.silent is None or self._stopping.is_set():
            return
        child.silent += 1
        if child.silent * _BEAT_S > _HANGS_S:
            child.part.log.error("has not answered for %.0f s and is killed", _HANGS_S)
            child.silent = None
            _signal(child, signal.SIGKILL)


async def beat(descriptor: int) -> None:
    """Signal the supervisor that this process is ready, and from then on send heartbeats."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(OSError):  # the supervisor has gone, and we are to stop
        while True:
            os.write(descriptor, b"+")
            await asyncio.sleep(_BEAT_S)


def _signal(child: _Child, which: signal.Signals) -> None:
    if child.process is not None and child.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(which)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
