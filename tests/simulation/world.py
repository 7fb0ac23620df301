"""One run: senders, a Spanledger process that dies and comes back, destinations, and what goes wrong between them.

Everything random comes from the seed, and everything that waits waits in virtual time; so a seed is a run. What may go
wrong, and how often, is drawn for each run: some runs have one kind of trouble and much of it, some have every kind.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import random
import tempfile
from collections import deque
from collections.abc import Callable, Container, Coroutine, Sequence
from contextlib import ExitStack
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from captures import Request, one_by_one
from full_rules import read_in_full
from spanledger_exporters.delivery import Delivery, Parts
from spanledger_exporters.interface import Exporter, Result, Signal, Verdict
from spanledger_exporters.senders import DeliveryState
from spanledger_exporters.senders import Request as Outgoing
from spanledger_exporters.settings import RetrySettings
from spanledger_exporters.wrappers import Retrying
from spanledger_processor.accounting import trace, trace_set
from spanledger_processor.accounting.facts import Batch, Ruling
from spanledger_processor.accounting.trace_record import SEGMENT_SPANS
from spanledger_processor.config import Config, load
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import StateError, Store
from spanledger_processor.server import handler, slices
from spanledger_processor.server.handler import _DELIVERED_BYTES, Handler
from spanledger_processor.server.ledger_link import BatchLedger, LedgerServer, LocalLedger, RemoteLedger
from spanledger_processor.server.wiring import make_log_stage, make_stage
from spanledger_processor.signing.signer import Signer
from tests.simulation import clock, workload
from tests.simulation.auditor import Delivered, Evidence, audit, ledger_of
from tests.simulation.ledger import Disk, SimulatedLedger
from tests.simulation.network import Answers, Destination, Odds

T = TypeVar("T")

DRAIN_S = 300.0
"""Virtual seconds after the last fault in which everything has to be acknowledged."""

LEDGER = "ledger"

_LONGEST_JUMP_S = 2 * 3600
_HOUR_NS = 3600 * 10**9
_RETENTION_NS = 24 * _HOUR_NS
_RETIRED_NS = 72 * _HOUR_NS
"""Beyond what is kept of spans and of sessions."""
_FEW_SPANS = 640
"""More than a recording has in a trace, and fewer than the longest of those that are generated."""
_SMALL_MIB = 6
_FEW_BYTES = 8 * 2**10
"""Of a request that is delivered: a few spans, which are longer then than what they came as."""
_FLOOD = 40
"""Requests of new sessions, at most, that a small ledger is filled with."""
_GIVEN_WAY = 500
_QUARTER_NS = 16 * 60 * 10**9
"""What arrived before that gives way first."""
_RETRY = RetrySettings(initial_interval="500ms", max_interval="5s")  # type: ignore[arg-type]
_SIGNALS: frozenset[Signal] = frozenset({"traces", "logs", "metrics"})
_TRACES: frozenset[Signal] = frozenset({"traces"})


@dataclass(frozen=True)
class Options:
    """What may happen in a run."""

    tenants: tuple[str, ...]
    senders: int
    concurrency: int
    timeout_s: float
    inbound: Odds
    recut: float
    """How often a sender that was not answered sends the items of a request one by one."""
    destinations: tuple[tuple[bool, Odds, Answers, bool], ...]
    """Required or not, its network, its answers, with retries or without; the first is required and takes all."""
    disk: Disk
    lmdb: bool
    """On disk, with retention; else in memory, where nothing expires."""
    sessions_hours: int
    """How long the totals of sessions are kept; 0: for ever."""
    faults_s: float
    kills: float
    """Seconds between two ends of processes, on average; 0: it stays."""
    jumps: float
    """Seconds between two jumps of the wall clock, on average; 0: none."""
    large: int
    """Spans from which on a request is large: worked on in slices, and accounted for in parts."""
    workers: int
    """With more than one, the ledger has a process of its own, and any of them may end."""
    most_spans: int = trace.MAX_SPANS
    """Spans of a trace that the rules look at."""
    size_mib: int = 64
    """Of a ledger on disk. A small one is filled at the end, so that the oldest give way."""
    delivered_bytes: int = _DELIVERED_BYTES
    """What is delivered as one trace request at most."""
    in_full: float = 0.0
    """How many of the processes read every span by the full rules; the others take usual calls by the fast path."""

    @classmethod
    def quiet(cls) -> Options:
        """Two senders and two destinations, and nothing goes wrong."""
        destinations = tuple((True, Odds(), Answers(), False) for _ in range(2))
        return cls(("",), 2, 2, 10.0, Odds(), 0.0, destinations, Disk(), False, 0, 20.0, 0.0, 0.0, 1024, 1)

    @classmethod
    def draw(cls, rng: random.Random) -> Options:
        """Draw a run's options."""

        def odds(most: float) -> float:
            return rng.choice((0.0, 0.0, rng.random() * most))

        def network() -> Odds:
            return Odds(odds(0.3), odds(0.3), odds(0.3), odds(0.05), rng.choice((0.0, 0.2, 5.0)))

        def answers() -> Answers:
            return Answers(odds(0.5), odds(0.1), odds(0.1), odds(0.1))

        count = rng.choice((1, 1, 2, 3))
        return cls(
            tenants=rng.choice((("",), ("",), ("", "a"), ("a", "b", ""))),
            senders=rng.randint(1, 4),
            concurrency=rng.choice((1, 2, 8)),
            timeout_s=rng.choice((3.0, 10.0, 30.0)),
            inbound=network(),
            recut=odds(0.5),
            destinations=tuple(
                (number == 0 or rng.random() < 0.5, network(), answers(), rng.random() < 0.5) for number in range(count)
            ),
            disk=Disk(rng.choice((0.0, 0.05, 4.0)), odds(0.3), odds(0.05), odds(0.3)),
            lmdb=rng.random() < 0.3,
            sessions_hours=rng.choice((0, 26)),
            faults_s=rng.choice((20.0, 120.0, 600.0)),
            kills=rng.choice((0.0, 0.0, 5.0, 60.0)),
            jumps=rng.choice((0.0, 0.0, 30.0)),
            large=rng.choice((1024, 1024, 3)),
            workers=rng.choice((1, 1, 2, 3)),
            most_spans=rng.choice((trace.MAX_SPANS, _FEW_SPANS)),
            size_mib=rng.choice((64, _SMALL_MIB)),
            in_full=rng.choice((0.0, 0.5, 1.0)),
            delivered_bytes=rng.choice((_DELIVERED_BYTES, _DELIVERED_BYTES, _FEW_BYTES)),
        )


@dataclass
class Run:
    """What a run found. `digest` is of its log: equal runs have equal ones."""

    seed: int
    findings: list[str]
    log: list[str]
    ledger: dict[str, Any]
    options: Options
    sources: list[str]

    @property
    def digest(self) -> str:
        """A hash of the log and of the ledger."""
        return hashlib.sha256("\n".join([*self.log, repr(self.ledger)]).encode()).hexdigest()


@dataclass
class Hooks:
    """Where a test puts a fault of ours in, to see it found. Each gets what is there and returns what is used."""

    store: Callable[[Store], Store] = lambda store: store
    exporter: Callable[[Exporter], Exporter] = lambda exporter: exporter
    handler: Callable[[Any], Any] = lambda handler: handler
    options: Callable[[Options], Options] = lambda options: options


def simulate(seed: int, *, faults: int | None = None, hooks: Hooks | None = None) -> Run:
    """Run one seed; `faults` draws other faults for the same senders' data."""
    before = logging.root.manager.disable
    logging.disable()  # troubles by the thousand
    try:
        return clock.run(_simulate(seed, seed if faults is None else faults, hooks or Hooks()))
    finally:
        logging.disable(before)


async def _simulate(seed: int, faults: int, hooks: Hooks) -> Run:
    random.seed(f"{faults}/product")  # the jitter of retries
    options = hooks.options(Options.draw(random.Random(f"{faults}/options")))
    tenants = hooks.options(Options.draw(random.Random(f"{seed}/options"))).tenants
    work = workload.make(random.Random(f"{seed}/workload"), tenants, options.senders)
    with ExitStack() as closing:
        closing.enter_context(patch.object(slices, "_LARGE_SPANS", options.large))
        closing.enter_context(patch.object(slices, "ACCOUNTED_AT_ONCE", options.large))
        closing.enter_context(patch.object(handler, "_DELIVERED_BYTES", options.delivered_bytes))
        closing.enter_context(patch.object(trace, "MAX_SPANS", options.most_spans))
        closing.enter_context(patch.object(trace, "_SLACK", min(trace._SLACK, options.most_spans // 8)))
        closing.enter_context(patch.object(trace_set, "SEGMENT_SPANS", min(SEGMENT_SPANS, options.most_spans // 12)))
        world = World(options, work, faults, hooks, closing)
        return Run(seed, await world.run(), world.lines, world.ledger, options, work.sources)


_FAILED: ContextVar[list[StateError]] = ContextVar("failed")
"""What became of the batches of the request under way: their errors."""
_OWNER: ContextVar[Process | None] = ContextVar("process", default=None)


def _owned(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
    """Make a task that ends with the process in which it was made."""
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **more)
    owner = more["context"].get(_OWNER) if more.get("context") is not None else _OWNER.get()
    if owner is not None:
        owner.tasks.append(task)
    return task


class _Emitting(Delivery):
    """Writes down what the process wanted to have delivered."""

    evidence: Evidence

    def _begin(self, parts: Parts, request: Outgoing, state: DeliveryState, but: Container[str] = ()) -> list[str]:
        self.evidence.emitted.append((request.signal, request.body))
        if _FAILED.get([]):
            self.evidence.unaccounted.append(request.body)
        return super()._begin(parts, request, state, but)


class _Observer:
    """Told of everything; writes down what must not happen, whatever goes wrong outside."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def enrichment_failed(self, reason: str) -> None:
        """A request went on without attributes because of a bug of ours."""
        self._evidence.problems.append(f"enrichment failed: {reason}")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class _NotingLedger:
    """Notes for the request under way that the ledger could not be written."""

    def __init__(self, ledger: BatchLedger) -> None:
        self._ledger = ledger

    @property
    def problem(self) -> str | None:
        return self._ledger.problem

    async def account(self, batch: Batch) -> Ruling:
        try:
            return await self._ledger.account(batch)
        except StateError as error:
            _FAILED.get([]).append(error)
            raise


class Process:
    """One life of a process: what was begun in it ends with it."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    def spawn(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that ends with this process."""
        context = copy_context()
        context.run(_OWNER.set, self)
        context.run(_FAILED.set, [])
        return asyncio.get_running_loop().create_task(coro, context=context)

    def kill(self) -> None:
        """End at once, wherever everything stands."""
        for task in self.tasks:
            task.cancel()


class LedgerProcess(Process):
    """The process that has the ledger, and what it serves its workers by."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.ledger = SimulatedLedger(world.store, world.disk, world.rng("disk"))
        self.local = LocalLedger(self.ledger)  # type: ignore[arg-type]
        self.server = LedgerServer(world.socket, self.local, lambda _: None)

    async def start(self) -> None:
        """Serve workers, and sweep when idle."""
        if self._world.options.workers > 1:
            await self.spawn(self.server.start())
        self.spawn(self._world.maintain())

    def kill(self) -> None:
        """Connections end with it, as the system sees to."""
        super().kill()
        self._world.closing.append(asyncio.get_running_loop().create_task(self.server.close()))


class Worker(Process):
    """A process that has the handler, with the ledger in another one or in the same."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        config, signer = world.config, Signer(b"a key of the simulation, long...")
        assert world.ledger_process is not None
        self.remote = RemoteLedger(world.socket, dict) if world.options.workers > 1 else None
        exporters = [world.hooks.exporter(exporter) for exporter in world.exporters]
        observer: Any = _Observer(world.evidence)  # answers whatever it is told
        self.delivery = _Emitting(exporters, observer)
        self.delivery.evidence = world.evidence
        stage = make_stage(config, signer)
        if world.rng("ways").random() < world.options.in_full:
            read_in_full(stage)
        self.handler = world.hooks.handler(
            Handler(
                stage,
                make_log_stage(config, signer),
                _NotingLedger(self.remote or world.ledger_process.local),
                self.delivery,
                observer,
                world.now_ns,
            )
        )

    async def start(self) -> None:
        """Connect to the ledger."""
        if self.remote is not None:
            await self.spawn(self.remote.start())

    def handle(self, request: Request, timeout: float) -> asyncio.Task[Result]:
        """Begin to work on a request, as the receivers do: it goes on when its sender leaves."""
        deadline = asyncio.get_running_loop().time() + timeout * 0.9
        return self.spawn(self.handler.handle(*request, {}, deadline))

    def kill(self) -> None:
        """The connection ends with it."""
        super().kill()
        if self.remote is not None:
            self._world.closing.append(asyncio.get_running_loop().create_task(self.remote.close()))


class World:
    """The parts of a run, and its chronicle."""

    def __init__(self, options: Options, work: workload.Workload, seed: int, hooks: Hooks, closing: ExitStack) -> None:
        self.options, self.work, self.hooks = options, work, hooks
        self.lines: list[str] = []
        self.evidence = Evidence(bills=work.bills)
        self.config: Config = load(None, [f"processor.tenant.keys=[{workload.TENANT_KEY}]"], {"HOME": "/nowhere"})
        self.disk = options.disk
        self.ledger_process: LedgerProcess | None = None
        self.workers: dict[int, Worker] = {}
        self.socket = str(Path(closing.enter_context(tempfile.TemporaryDirectory())) / "ledger")
        self.faulty = True
        self.ledger: dict[str, Any] = {}
        """All that the ledger answered when everything had been sent."""
        self._seed = seed
        self._rngs: dict[str, random.Random] = {}
        self._skew_ns = 0
        self.closing: list[asyncio.Task[None]] = []
        """Connections of processes that ended."""
        self._folder = Path(closing.enter_context(tempfile.TemporaryDirectory())) if options.lmdb else None
        self.store = hooks.store(self._open())
        closing.callback(lambda: self.store.close())
        self.destinations = [
            Destination(
                f"backend/{number}",
                required=required,
                signals=_SIGNALS if number == 0 else self.rng("signals").choice((_SIGNALS, _TRACES)),
                odds=odds,
                answers=answers,
                rng=self.rng(f"backend/{number}"),
            )
            for number, (required, odds, answers, _) in enumerate(options.destinations)
        ]
        self.exporters: list[Exporter] = [
            Retrying(destination, _RETRY) if retries else destination
            for destination, (_, _, _, retries) in zip(self.destinations, options.destinations, strict=True)
        ]

    def rng(self, name: str) -> random.Random:
        """The randomness of one part, which the others do not move."""
        return self._rngs.setdefault(name, random.Random(f"{self._seed}/{name}"))

    def now_ns(self) -> int:
        """The wall clock, which may jump."""
        return workload.START_NS + int(asyncio.get_running_loop().time() * 1e9) + self._skew_ns

    def log(self, line: str) -> None:
        """Write a line of the chronicle."""
        self.lines.append(f"{asyncio.get_running_loop().time():10.3f} {line}")

    async def run(self) -> list[str]:
        """Run to the end, and audit."""
        asyncio.get_running_loop().set_task_factory(_owned)
        await self.start()
        senders = [Sender(self, number, requests) for number, requests in enumerate(self.work.senders)]
        sending = [asyncio.create_task(sender.run()) for sender in senders]
        trouble = asyncio.create_task(self._trouble())
        await asyncio.sleep(self.options.faults_s)
        trouble.cancel()
        await self._mend()
        await self._drain(sending, "after the last fault")
        if self.rng("end").random() < 0.5:
            self.kill(self.everything())
            await self.start()
        self.log("everything again")  # so that what could not be accounted for is
        await self._drain([asyncio.create_task(sender.again()) for sender in senders], "when it was sent again")
        await asyncio.sleep(DRAIN_S)  # sends that nobody waits for end
        self._collect()
        with self.store.snapshot() as reader:
            findings = audit(self.evidence, reader)
            self.ledger = ledger_of(reader, self.work.bills)
        if self._folder is not None and self.options.size_mib == _SMALL_MIB:
            findings += [f"full: {finding}" for finding in await self._fill()]
        if self._folder is not None:
            findings += [f"after retention: {finding}" for finding in await self._retire()]
        self.kill(self.everything())
        await asyncio.sleep(1)  # connections close
        return findings

    def _collect(self) -> None:
        self.evidence.destinations = [
            Delivered(one.name, one.required, one.signals, one.received, one.refused, one.left_out)
            for one in self.destinations
        ]

    async def _fill(self) -> list[str]:
        """Send new sessions until the oldest of the ledger have given way, and audit again."""
        self._skew_ns += _QUARTER_NS
        self.log("the ledger fills")
        for number in range(_FLOOD):
            flood = workload.sessions(self.rng("flood"), list(self.work.bills), f"flood {number}", self.now_ns())
            for tenant, bill in flood.bills.items():
                self.work.bills[tenant].extend(bill)
            sender = Sender(self, len(self.work.senders), flood.senders[0])
            await self._drain([asyncio.create_task(sender.run())], "while the ledger fills")
            if self.store.usage().evicted > _GIVEN_WAY:
                break
        await asyncio.sleep(DRAIN_S)
        self._collect()
        self.log(f"{self.store.usage().evicted > 0}: something gave way")
        with self.store.snapshot() as reader:
            return audit(self.evidence, reader)

    async def _retire(self) -> list[str]:
        """Let all that is kept of spans and sessions go, send new traces, and audit again."""
        self._skew_ns += _RETIRED_NS
        self.log("retention")
        self.sweep(math.inf)
        later = workload.later(self.rng("later"), list(self.work.bills), self.options.senders, self.now_ns())
        for tenant, bill in later.bills.items():
            self.work.bills[tenant].extend(bill)
        senders = [Sender(self, len(self.work.senders) + number, sent) for number, sent in enumerate(later.senders)]
        await self._drain([asyncio.create_task(sender.run()) for sender in senders], "after retention")
        await asyncio.sleep(DRAIN_S)
        self.sweep(math.inf)
        self._collect()
        with self.store.snapshot() as reader:
            return audit(self.evidence, reader)

    async def maintain(self) -> None:
        """What the ledger's writer does when it is idle."""
        while True:
            await asyncio.sleep(self.rng("maintain").uniform(1, 30))
            self.sweep(1)

    def sweep(self, most: float) -> None:
        """Let the store do what is due beside the units, in at most so many slices."""
        slices = 0
        while slices < most and self.store.maintain():
            slices += 1

    async def _drain(self, tasks: list[asyncio.Task[None]], when: str) -> None:
        _, late = await asyncio.wait(tasks, timeout=DRAIN_S)
        if late:
            self.evidence.problems.append(f"{len(late)} senders have unacknowledged requests {DRAIN_S:.0f} s {when}")
        for task in tasks:
            task.cancel() if task in late else task.result()

    async def start(self) -> None:
        """Begin a new life of what has ended; the store is what the last one left."""
        if self.ledger_process is None:
            if self._folder is not None:
                self.store.close()
                self.store = self.hooks.store(self._open())
            else:
                self._memory.cache.clear()  # of the last process
            self.ledger_process = LedgerProcess(self)
            await self.ledger_process.start()
            self.log("the ledger starts")
        for number in set(range(self.options.workers)) - self.workers.keys():
            self.workers[number] = Worker(self)
            await self.workers[number].start()
            self.log(f"worker {number} starts")

    def kill(self, ended: Sequence[int | str]) -> None:
        """End processes where they stand: workers by number, and `ledger`."""
        for which in ended:
            process = self.ledger_process if which == LEDGER else self.workers.pop(int(which), None)
            if process is not None:
                process.kill()
                self.log(f"{which} is killed")
        if LEDGER in ended:
            self.ledger_process = None

    def everything(self) -> list[int | str]:
        """All that can be killed."""
        return [*range(self.options.workers), LEDGER]

    def _open(self) -> Store:
        if self._folder is None:
            self._memory = MemoryStore()
            return self._memory
        return LmdbStore.open(
            self._folder,
            max_size_mib=self.options.size_mib,
            durability="sync",
            retention_ns=_RETENTION_NS,
            sessions_retention_ns=self.options.sessions_hours * _HOUR_NS,
            now_ns=self.now_ns,
        )

    async def _mend(self) -> None:
        self.log("no more faults")
        self.faulty = False
        self.disk = Disk()
        for destination in self.destinations:
            destination.mend()
        await self.start()
        assert self.ledger_process is not None
        self.ledger_process.ledger.mend()

    async def _trouble(self) -> None:
        """Kill the process and move the clock, now and then."""
        rng, options = self.rng("trouble"), self.options
        ways = [way for way, mean in ((self._restart, options.kills), (self._jump, options.jumps)) if mean]
        mean = min((mean for mean in (options.kills, options.jumps) if mean), default=0.0)
        while ways:
            await asyncio.sleep(rng.expovariate(1 / mean))
            await rng.choice(ways)(rng)

    async def _restart(self, rng: random.Random) -> None:
        everything = self.everything()
        one = self.options.workers > 1 and rng.random() < 0.7
        self.kill([rng.choice(everything)] if one else everything)
        await asyncio.sleep(rng.choice((0.0, 1.0, 10.0)))
        await self.start()

    async def _jump(self, rng: random.Random) -> None:
        seconds = rng.uniform(-_LONGEST_JUMP_S, _LONGEST_JUMP_S) / 2
        self._skew_ns = int(seconds * 1e9)
        self.log(f"the wall clock is {seconds:+.0f} s off")


class Sender:
    """Sends each of its requests until it is acknowledged or refused, over a faulty network."""

    def __init__(self, world: World, number: int, requests: list[Request]) -> None:
        self._world = world
        self._name = f"sender {number}"
        self._requests = requests
        self._rng = world.rng(self._name)
        world.evidence.sent += requests

    async def run(self) -> None:
        """Send everything."""
        waiting = deque(enumerate(self._requests))

        async def lane() -> None:
            while waiting:
                number, request = waiting.popleft()
                await self._push(request, f"{self._name} #{number}")

        await asyncio.gather(*(lane() for _ in range(self._world.options.concurrency)))

    async def again(self) -> None:
        """Send everything once more, in another order and otherwise cut."""
        singles = one_by_one(self._requests)
        self._rng.shuffle(singles)
        self._requests = workload.cut(self._rng, singles, 20)
        self._world.evidence.sent += self._requests
        await self.run()

    async def _push(self, request: Request, name: str) -> None:
        wait = 0.5
        while True:
            result = await self._attempt(request, name)
            if result is not None and result.verdict is not Verdict.RETRYABLE:
                self._world.log(f"{name} {result.verdict.value}")
                if result.verdict is Verdict.ACCEPTED:
                    self._world.evidence.acknowledged.append(request)
                return
            asked = (result.retry_after if result else None) or 0.0
            await asyncio.sleep(max(wait, asked) * (0.5 + self._rng.random()))
            wait = min(2 * wait, 5.0)
            if self._world.faulty and self._rng.random() < self._world.options.recut:
                for number, single in enumerate(one_by_one([request])):
                    self._world.evidence.sent.append(single)
                    await self._push(single, f"{name}.{number}")
                return

    async def _attempt(self, request: Request, name: str) -> Result | None:
        """Send once: the result that the sender is told, None where it is told nothing."""
        odds = self._world.options.inbound if self._world.faulty else Odds()
        chance, timeout = self._rng.random, self._world.options.timeout_s
        if chance() < odds.lost:
            await asyncio.sleep(timeout)
            return None
        await asyncio.sleep(chance() * odds.delay)
        if not self._world.workers:
            return None
        process = self._world.workers[self._rng.choice(sorted(self._world.workers))]
        work = process.handle(request, timeout)
        if chance() < odds.doubled:
            process.spawn(self._later(process, request, chance() * 20))
        await asyncio.wait((work,), timeout=timeout)
        if not work.done() or work.cancelled():
            self._world.log(f"{name} is not answered")
            return None
        if chance() < odds.unanswered:
            await asyncio.sleep(timeout)
            return None
        return work.result()

    async def _later(self, process: Worker, request: Request, seconds: float) -> None:
        await asyncio.sleep(seconds)
        process.handle(request, self._world.options.timeout_s)
