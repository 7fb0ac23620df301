"""Break real processes at random under load, and count what that costs: `make torture ROUNDS=20`.

`spanledger serve` on a real LMDB, the Collector before and behind it, a small disk, a backend that lies. Each row of
the table is one fault, so many times; with --write the table goes to docs/reliability.md. Exit 1 where something was
lost, doubled or priced wrongly.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from backend import Backend, Context
from chats import PRICE, USAGE, chat, request
from commands import answer
from real_parts import Loop
from replays import attributes, spans_of
from served import RefusedError, Served
from tests.torture.table import Row, write
from tools.programs import Program, eventually

CALL = sum(PRICE[name] * USAGE[f"gen_ai.usage.{name}_tokens"] / 10**6 for name in ("input", "output"))
"""USD of one call, exactly."""
SPANS = 3
"""A request."""
SENDERS = 2
EVERY_S = 0.1
"""Between two requests of a sender: a load that leaves room to catch up."""
PATIENCE_S = 300.0
"""How long what is in queues may take to the backend."""
PAUSE = (0.5, 3.0)
"""Seconds between two faults, from and to."""

Fault: TypeAlias = Callable[[], None]


@dataclass
class Target:
    """What is broken: how to send to it, what its ledger says, and its programs."""

    send: Callable[[bytes], None]
    ledger: Callable[[], Any]
    """The answer of `spanledger summary`."""
    spanledger: Program
    collector: Program | None = None
    disk: Path | None = None


class LyingBackend(Backend):
    """Answers as `answer` says, and notes when it keeps what."""

    def __init__(self) -> None:
        self.arrivals: dict[bytes, float] = {}
        self.answer: Callable[[], grpc.StatusCode | None] = lambda: None
        """The code of an error to answer although the request is kept; None: OK."""
        super().__init__()

    def __enter__(self) -> LyingBackend:
        return self

    def _answer(self, body: bytes, context: Context) -> bytes:
        answer = super()._answer(body, context)
        self.arrivals.setdefault(body, time.monotonic())
        if (code := self.answer()) is not None:
            context.abort(code, "kept, and says that it is not")
        return answer


@dataclass
class Load:
    """Senders that send each request again until it is answered OK."""

    send: Callable[[bytes], None]
    sent: dict[bytes, float] = field(default_factory=dict)
    """When each span was sent first."""
    stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send inside the block; what was begun is sent to its end."""
        threads = [threading.Thread(target=self._run, daemon=True) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        yield
        self.stopping.set()
        for thread in threads:
            thread.join(timeout=300)
            assert not thread.is_alive(), "a request was not answered OK in 300 s"

    def _run(self) -> None:
        while not self.stopping.is_set():
            spans = [chat() for _ in range(SPANS)]
            body, began = request(*spans), time.monotonic()
            while True:
                with suppress(RefusedError, AssertionError):
                    self.send(body)
                    break
                time.sleep(0.05)
            time.sleep(EVERY_S)
            self.sent.update(dict.fromkeys((span.span_id for span in spans), began))


def main() -> None:
    """Run each fault, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("rounds", type=int, help="how often each fault happens")
    parser.add_argument("--only", default="", help="faults whose name holds this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    rows = []
    for name, make, faults in SCENARIOS:
        if arguments.only in name:
            rows.append(run(name, make, faults, arguments.rounds))
            print(rows[-1], flush=True)
    if arguments.write:
        write(rows, arguments.rounds)
    sys.exit(1 if any(row.lost or row.doubled or row.wrong for row in rows) else 0)


def run(
    name: str,
    make: Callable[[ExitStack, Path, int], Target],
    faults: Callable[[Target, LyingBackend], Fault],
    rounds: int,
) -> Row:
    """Break `make`'s target `rounds` times under load, and audit it."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        backend = closing.enter_context(LyingBackend())
        target = make(closing, folder, backend.port)
        fault = faults(target, backend)
        load = Load(target.send)
        with load.running():
            time.sleep(random.uniform(*PAUSE))
            for _ in range(rounds):
                fault()
                time.sleep(random.uniform(*PAUSE))
            backend.answer = lambda: None
        return audit(name, rounds, load, backend, target)


def audit(name: str, rounds: int, load: Load, backend: LyingBackend, target: Target) -> Row:
    """What is at the backend and in the ledger, against what was sent."""

    def all_there() -> None:
        assert load.sent.keys() <= _forms(backend).keys()

    with suppress(AssertionError):
        eventually(all_there, PATIENCE_S)
    forms, arrived = _forms(backend), _arrivals(backend)
    accounted = sum(any(cost is not None for cost in costs) for costs in forms.values())
    summary = target.ledger()["total"]
    return Row(
        name,
        rounds,
        spans=len(load.sent),
        lost=len(load.sent.keys() - forms.keys()),
        doubled=summary["calls"] - accounted,
        wrong=Decimal(summary["cost_usd_exact"]) - CALL * summary["calls"],
        unaccounted=len(forms) - accounted,
        longest=max(arrived.get(span, began) - began for span, began in load.sent.items()),
    )


def _arrivals(backend: LyingBackend) -> dict[bytes, float]:
    """By span id: when the backend kept it first."""
    arrived: dict[bytes, float] = {}
    for body, at in backend.arrivals.items():
        for span in spans_of(ExportTraceServiceRequest.FromString(body)):
            arrived[span.span_id] = min(at, arrived.get(span.span_id, at))
    return arrived


def _forms(backend: LyingBackend) -> dict[bytes, set[float | None]]:
    """By span id: the costs that its copies carry, None where one says that it was not accounted for."""
    forms: dict[bytes, set[float | None]] = {}
    for body in list(backend.arrivals):
        for span in spans_of(ExportTraceServiceRequest.FromString(body)):
            forms.setdefault(span.span_id, set()).add(attributes(span).get("spanledger.cost.usd"))
    return forms


def alone(closing: ExitStack, folder: Path, port: int) -> Target:
    """`serve` with nothing before it."""
    served = closing.enter_context(Served(folder, port))
    return Target(served.export, lambda: served.query("summary"), served.program)


def with_workers(closing: ExitStack, folder: Path, port: int) -> Target:
    """`serve` with two workers and a ledger process."""
    served = closing.enter_context(Served(folder, port, arguments=("--workers", "2")))
    return Target(served.export, lambda: served.query("summary"), served.program)


def on_a_small_disk(closing: ExitStack, folder: Path, port: int) -> Target:
    """`serve` with its state on a disk of 8 MiB of its own."""
    disk = folder / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=8m tmpfs "{disk}" && exec "$@"'
    within = ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    served = closing.enter_context(Served(folder, port, {"state": {"path": str(disk / "state")}}, within))
    seen = Path(f"/proc/{served.program.pid}/root{disk}")
    inside = folder / "inside.yaml"
    inside.write_text(served.config.read_text().replace(str(disk), str(seen)))
    return Target(served.export, lambda: answer("summary", "--config", str(inside)), served.program, disk=seen)


def in_the_loop(closing: ExitStack, folder: Path, port: int) -> Target:
    """The shipped loop: Collector, `serve`, the same Collector."""
    loop = closing.enter_context(Loop(folder, port))
    return Target(loop.send, loop.ledger, loop.spanledger, loop.collector)


def killed(*names: str) -> Callable[[Target, LyingBackend], Fault]:
    """Programs end by SIGKILL and are started again."""

    def faults(target: Target, _: LyingBackend) -> Fault:
        def fault() -> None:
            programs: list[Program] = [getattr(target, name) for name in names]
            for program in programs:
                program.kill()
            for program in programs:
                program.start()

        return fault

    return faults


def part_killed(*names: str) -> Callable[[Target, LyingBackend], Fault]:
    """One of these processes of `serve` ends by SIGKILL; `serve` starts it again."""

    def faults(target: Target, _: LyingBackend) -> Fault:
        def fault() -> None:
            with suppress(ProcessLookupError):
                os.kill(eventually(lambda: _part(target.spanledger.pid, random.choice(names))), signal.SIGKILL)

        return fault

    return faults


def _part(parent: int, name: str) -> int:
    """Return the process id of a part of `serve`."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            command = (entry / "cmdline").read_text().split("\0")
            status = (entry / "status").read_text()
            if f"PPid:\t{parent}\n" in status and "--part" in command and command[command.index("--part") + 1] == name:
                return int(entry.name)
    raise AssertionError(f"no process of part {name}")


def stopped(target: Target, _: LyingBackend) -> Fault:
    """`serve` is asked to end, and started again."""

    def fault() -> None:
        target.spanledger.stop()
        target.spanledger.start()

    return fault


def paused(target: Target, _: LyingBackend) -> Fault:
    """`serve` stands still for two seconds, as in a virtual machine that is moved."""

    def fault() -> None:
        os.kill(target.spanledger.pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(target.spanledger.pid, signal.SIGCONT)

    return fault


def filled(target: Target, _: LyingBackend) -> Fault:
    """Something else takes all room on the disk for a second."""

    def fault() -> None:
        assert target.disk is not None
        filler = target.disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as filling:
            while True:
                filling.write(bytes(4096))
        time.sleep(1)
        filler.unlink()

    return fault


def refusing(*codes: grpc.StatusCode) -> Callable[[Target, LyingBackend], Fault]:
    """The backend takes nothing for a second, and says so with one of these codes."""

    def faults(_: Target, backend: LyingBackend) -> Fault:
        def fault() -> None:
            backend.refuse(random.choice(codes))
            time.sleep(1)
            backend.go_on()

        return fault

    return faults


def hanging(_: Target, backend: LyingBackend) -> Fault:
    """The backend does not answer for two seconds."""

    def fault() -> None:
        backend.hang()
        time.sleep(2)
        backend.go_on()

    return fault


def lying(_: Target, backend: LyingBackend) -> Fault:
    """The backend keeps every third request and says that it did not."""

    def fault() -> None:
        backend.answer = lambda: grpc.StatusCode.UNAVAILABLE if random.random() < 0.3 else None
        time.sleep(1)

    return fault


SCENARIOS = (
    ("`serve` killed", alone, killed("spanledger")),
    ("`serve` stopped", alone, stopped),
    ("`serve` paused for 2 s", alone, paused),
    ("a worker of two killed", with_workers, part_killed("0", "1")),
    ("the ledger process killed", with_workers, part_killed("ledger")),
    ("`serve` killed in the loop", in_the_loop, killed("spanledger")),
    ("the Collector killed", in_the_loop, killed("collector")),
    ("both killed at once", in_the_loop, killed("spanledger", "collector")),
    ("the disk full for 1 s", on_a_small_disk, filled),
    ("the backend away for 1 s", alone, refusing(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)),
    ("the backend fails for 1 s", alone, refusing(grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)),
    ("the backend hangs for 2 s", alone, hanging),
    ("the backend keeps requests and says it did not", alone, lying),
    ("the same behind the Collector", in_the_loop, lying),
)

if __name__ == "__main__":
    main()
