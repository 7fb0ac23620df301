"""Programs that tests and benchmarks start: each with a log to show when something fails, and an end that is sure."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import httpx2

Found = TypeVar("Found")

PATIENCE = 60.0
"""Seconds that a condition is waited for, many times what it takes on an idle machine."""


def eventually(condition: Callable[[], Found], patience: float = PATIENCE) -> Found:
    """Return what `condition` returns, once that is not False and it raises no AssertionError or connection's error."""
    deadline, pause = time.monotonic() + patience, 0.01
    while True:
        is_late = time.monotonic() > deadline
        try:
            result = condition()
            if result is not False:
                return result
            assert not is_late, f"not so within {patience:g} s"
        except (AssertionError, httpx2.TransportError):
            if is_late:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


def wait_for_one_day(seconds: float = PATIENCE) -> None:
    """Wait until no UTC day begins within `seconds`: what programs count in that time is of one day, week and month."""
    eventually(lambda: time.time() % 86_400 < 86_400 - seconds, patience=2 * seconds)


def _ports() -> Iterator[int]:
    """Yield ports in a random order, without those that the system hands out to connections by itself."""
    range_of_system = Path("/proc/sys/net/ipv4/ip_local_port_range")
    low, high = map(int, range_of_system.read_text().split()) if range_of_system.exists() else (32_768, 60_999)
    ports = [port for port in range(10_000, 65_536) if not low <= port <= high]
    assert ports, f"the system hands out every port from {low} to {high}: narrow {range_of_system}"
    random.shuffle(ports)
    yield from ports


_PORTS = _ports()
_CLAIMS = os.open(Path(tempfile.gettempdir()) / f"spanledger-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)
"""A file whose byte N is locked by the process that was given port N, until that process ends."""


def free_port() -> int:
    """Return a port that nobody listens on and that no other process was given by this function.

    Between this answer and the program that listens there seconds may pass, in which tests of other processes ask for
    ports as well. It is none of those that the system hands out by itself, so that no connection takes it meanwhile.
    """
    for port in _PORTS:
        with socket.socket() as listener, suppress(OSError):
            fcntl.lockf(_CLAIMS, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            listener.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port is left")


def substituted(text: str, substitutes: Mapping[str, str]) -> str:
    """`text` with each key replaced by its value; a key that is not there is a test that no longer fits its file."""
    for old, new in substitutes.items():
        assert old in text, f"{old} is not in the shipped file"
        text = text.replace(old, new)
    return text


PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Given as `verify` where nothing is encrypted: httpx2 else reads all authorities for each client, 40 ms of CPU."""


def http_get(url: str, *, timeout: float = PATIENCE, **more: Any) -> httpx2.Response:
    """Return the response to a GET without TLS."""
    return httpx2.get(url, verify=PLAIN, timeout=timeout, **more)


def http_post(url: str, *, timeout: float = PATIENCE, **more: Any) -> httpx2.Response:
    """Return the response to a POST without TLS."""
    return httpx2.post(url, verify=PLAIN, timeout=timeout, **more)


def http_client(*, verify: ssl.SSLContext = PLAIN, **more: Any) -> httpx2.AsyncClient:
    """Return a client, without TLS unless told; httpx2 itself waits for 5 s, which is little on a busy machine."""
    return httpx2.AsyncClient(verify=verify, timeout=PATIENCE, **more)


def listens(port: int) -> None:
    """Assert that somebody takes connections on `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as error:
        raise AssertionError(f"nobody listens on port {port}: {error}") from error


def answers(url: str) -> None:
    """Assert that `url` answers 200."""
    response = http_get(url, timeout=5)
    assert response.status_code == 200, f"{url}: {response.status_code} {response.text[:300]}"


class Program:
    """One process that can be started, stopped, killed and started again.

    `ready` raises AssertionError until the program can be used. Everything it writes goes to one log.
    """

    running: ClassVar[dict[str, Program]] = {}
    """By name; what is shown when a test fails."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        ready: Callable[[], None],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._command = command
        self._folder = folder
        self._ready = ready
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / f"{name}.log"
        self.ended_with: int | None = None
        """The exit code of the process that ended last; negative: the signal that ended it."""

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        Program.running[self.name] = self
        eventually(self._is_ready)

    def _is_ready(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}:\n{self.log()}")
        self._ready()

    @property
    def pid(self) -> int:
        """The process id of the running program."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def memory_mib(self, kind: str = "RssAnon") -> float:
        """Resident memory now: its own, without pages of files such as the ledger; all of it is `VmRSS`.

        That of processes that it started is counted in.
        """
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in _family(self.pid)]
        return sum(int(status.partition(f"{kind}:")[2].split(maxsplit=1)[0]) for status in statuses) / 1024

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far, and of those of processes that it started."""
        rows = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in _family(self.pid)]
        return sum(int(row[11]) + int(row[12]) for row in rows) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end; kill it if it takes long."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.ended_with = process.returncode
        Program.running.pop(self.name, None)

    def log(self) -> str:
        """The last lines it wrote."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(line[:500] for line in lines[-40:])


class Running:
    """Programs that run inside a block: started in order, ended in the reverse one, also where one does not start.

    A class on top sets `programs`.
    """

    programs: Sequence[Program]

    def __enter__(self) -> Self:
        try:
            for program in self.programs:
                program.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(self.programs):
            program.stop()


def _family(pid: int) -> list[int]:
    """Return a process and those that it started, and they started."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found
