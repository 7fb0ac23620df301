"""Seeds that find nothing, seeds that found something once, and proof that the auditor can find."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from captures import captures
from chats import chat, request, set_attributes
from replays import spans_of
from spanledger_exporters.interface import ACCEPTED, Exporter, Result, Signal, Verdict
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import Store, Unit
from tests.simulation import clock
from tests.simulation.__main__ import report
from tests.simulation.auditor import Evidence, audit
from tests.simulation.workload import START_NS
from tests.simulation.world import Hooks, Options, simulate

BUDGET = (0, 1, 3, 4, 5)
"""Seeds of every test run, of those that take a second; `.ci/run` has 240, and `make simulate SEEDS=...` any number."""

FOUND: tuple[int, ...] = (810044,)
"""Seeds that found something once."""

QUIET = (1, 3, 8)
"""Seeds of runs without faults; each is short, and meets every mutation below."""


@pytest.mark.parametrize("seed", [*BUDGET, *FOUND])
def test_nothing_is_lost_doubled_or_mispriced(seed: int) -> None:
    run = simulate(seed)
    assert not run.findings, report(run)


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_other_faults_end_in_the_same_ledger(seed: int) -> None:
    """Order, batches, senders, repeats, restarts and failures change what is sent on, and nothing in the ledger."""
    ledgers = [simulate(seed, faults=faults).ledger for faults in (seed, 1000 + seed, 2000 + seed)]
    assert ledgers[0] == ledgers[1] == ledgers[2]


def test_a_run_begins_after_every_recording() -> None:
    """Times ahead of the clock are taken as now, so that a run of such a recording ends in another ledger each time."""
    for capture in captures():
        for signal, body in capture.requests:
            if signal == "traces":
                ends = [span.end_time_unix_nano for span in spans_of(ExportTraceServiceRequest.FromString(body))]
                assert max(ends) < START_NS, capture.name


def test_a_seed_is_a_run() -> None:
    runs = [simulate(7) for _ in range(2)]
    assert runs[0].log == runs[1].log
    assert runs[0].digest == runs[1].digest
    assert simulate(8).digest != runs[0].digest


def test_a_seed_is_the_same_run_in_another_process() -> None:
    """Where Python hashes strings otherwise, and so keeps sets in another order."""
    program = "from tests.simulation.world import simulate; print([simulate(seed).digest for seed in (3, 7)])"
    paths = os.pathsep.join(sys.path)
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert digests == {f"{[simulate(seed).digest for seed in (3, 7)]}\n"}


def test_time_passes_only_when_nothing_is_ready() -> None:
    async def hours() -> float:
        await asyncio.gather(*(asyncio.sleep(3600) for _ in range(10)))
        return asyncio.get_running_loop().time()

    assert clock.run(hours()) == pytest.approx(3600)
    with pytest.raises(clock.StalledError):
        clock.run(asyncio.Event().wait())


def test_what_is_given_to_a_thread_takes_no_virtual_time() -> None:
    async def named() -> tuple[str, float]:
        later = asyncio.create_task(asyncio.sleep(3600))
        name = await asyncio.to_thread(lambda: threading.current_thread().name)
        later.cancel()
        return name, asyncio.get_running_loop().time()

    assert clock.run(named()) == (threading.current_thread().name, 0.0)


def quiet(options: Options) -> Options:
    """Enough destinations and senders, and no faults but those of the test."""
    return replace(Options.quiet(), tenants=options.tenants)


class Wrapped:
    """What a test puts before an exporter or the handler: all but what it changes is the one behind."""

    def __init__(self, behind: Any) -> None:
        self.behind = behind
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    def due(self, every: int = 3) -> bool:
        self.calls += 1
        return self.calls % every == 0


class SaysItArrived(Wrapped):
    """An exporter that sends no spans on: some of them would come again in other requests, and be there after all."""

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        result: Result = ACCEPTED if signal == "traces" else await self.behind.send(signal, body, deadline)
        return result


class CutsNames(Wrapped):
    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        if signal == "traces" and self.due():
            message = ExportTraceServiceRequest.FromString(body)
            message.resource_spans[0].scope_spans[0].spans[0].name = "cut"
            body = message.SerializeToString()
        result: Result = await self.behind.send(signal, body, deadline)
        return result


class NeverTakes(Wrapped):
    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        return Result(Verdict.RETRYABLE, "never in time")


class AnswersAtOnce(Wrapped):
    """Acknowledges what is not delivered."""

    async def handle(self, signal: Signal, body: bytes, headers: Mapping[str, str], deadline: float) -> Any:
        if signal == "traces" and self.due():
            body = request(chat(start_time_unix_nano=START_NS, end_time_unix_nano=START_NS))
        return await self.behind.handle(signal, body, headers, deadline)


class CountsTwice(Wrapped):
    """Takes the calls of some requests for calls of their own when they come again."""

    async def handle(self, signal: Signal, body: bytes, headers: Mapping[str, str], deadline: float) -> Any:
        if signal == "traces" and self.due():
            message = ExportTraceServiceRequest.FromString(body)
            for group in message.resource_spans:
                for scoped in group.scope_spans:
                    for span in scoped.spans:
                        span.trace_id = hashlib.sha256(span.trace_id).digest()[:16]
                        span.start_time_unix_nano += 3600 * 10**9
                        span.end_time_unix_nano += 3600 * 10**9
                        for pair in span.attributes:
                            if pair.key == "gen_ai.response.id":
                                pair.value.string_value += " again"
            await self.behind.handle(signal, message.SerializeToString(), headers, deadline)
        return await self.behind.handle(signal, body, headers, deadline)


class TellsRepeatsOtherwise(Wrapped):
    def __init__(self, behind: Any) -> None:
        super().__init__(behind)
        self._seen: set[bytes] = set()

    async def handle(self, signal: Signal, body: bytes, headers: Mapping[str, str], deadline: float) -> Any:
        if signal == "traces":
            message = ExportTraceServiceRequest.FromString(body)
            for group in message.resource_spans:
                for scoped in group.scope_spans:
                    for span in scoped.spans:
                        if span.span_id in self._seen:
                            set_attributes(span, {"again": True})
                        self._seen.add(span.span_id)
            body = message.SerializeToString()
        return await self.behind.handle(signal, body, headers, deadline)


class _LostError(Exception):
    pass


class LosesCommits(Wrapped):
    """A store that answers commits and does not keep those after the first, repeats included."""

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        self.calls += 1
        lost = self.calls > 1
        with suppress(_LostError), self.behind.unit() as unit:
            yield unit
            if lost:
                raise _LostError


def wrapping_exporter(kind: type[Wrapped]) -> Callable[[Exporter], Exporter]:
    return lambda exporter: cast("Exporter", kind(exporter))


def wrapping_store(kind: type[Wrapped]) -> Callable[[Store], Store]:
    return lambda store: cast("Store", kind(store))


@pytest.mark.parametrize(
    ("hooks", "finding"),
    [
        (Hooks(exporter=wrapping_exporter(SaysItArrived)), "was acknowledged and is not at"),
        (Hooks(exporter=wrapping_exporter(CutsNames)), "changed"),
        (Hooks(exporter=wrapping_exporter(NeverTakes)), "unacknowledged requests"),
        (Hooks(handler=AnswersAtOnce), "was acknowledged and is not at"),
        (Hooks(handler=CountsTwice), "billed was"),
        (Hooks(handler=TellsRepeatsOtherwise), "forms"),
        (Hooks(store=wrapping_store(LosesCommits)), "spans add up to"),
    ],
    ids=[
        "an exporter that does not deliver",
        "an exporter that changes what it sends",
        "an exporter that never ends",
        "an answer before the delivery",
        "a call counted twice",
        "a repeat with other attributes",
        "a commit that is lost",
    ],
)
def test_the_auditor_finds(hooks: Hooks, finding: str) -> None:
    """Each of these mutations, in a run in which nothing else goes wrong.

    Of one run alone what a mutation changes may come again unchanged, in a repeat.
    """
    findings: list[str] = []
    for seed in QUIET:
        findings += simulate(seed, hooks=replace(hooks, options=quiet)).findings
        if any(finding in one for one in findings):
            return
    pytest.fail(f"not found: {finding}; but {findings}")


@pytest.mark.parametrize("seed", QUIET)
def test_the_auditor_finds_nothing_where_nothing_goes_wrong(seed: int) -> None:
    assert not simulate(seed, hooks=Hooks(options=quiet)).findings


def test_the_auditor_finds_splits_that_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("sessions", "runs", "models", "days")
    for name in names:
        rows = getattr(queries, name)
        monkeypatch.setattr(queries, name, lambda *asked, rows=rows: rows(*asked)[1:])
    findings = simulate(1, hooks=Hooks(options=quiet)).findings
    assert all(any(f"{name} add up to" in finding for finding in findings) for name in names), findings


@pytest.mark.parametrize(
    ("attributes", "finding"),
    [
        ({"spanledger.cost.usd": 0.5, "spanledger.cost.duplicate_of": "00"}, "is marked"),
        ({"spanledger.usage.input_tokens": 5}, "is marked nothing"),
        ({"spanledger.cost.usd": -0.5}, "negative"),
    ],
)
def test_the_auditor_finds_marks_that_contradict(attributes: dict[str, Any], finding: str) -> None:
    span = chat()
    set_attributes(span, attributes)
    with MemoryStore().snapshot() as reader:
        findings = audit(Evidence(emitted=[("traces", request(span))]), reader)
    assert any(finding in one for one in findings), findings
