"""The threads of the event loop and of the ledger are kept on one CPU, an idle one, and others run anywhere."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

from configurations import loaded
from requests_out import until
from spanledger_processor.server import shared_cpu
from spanledger_processor.server.app import running
from spanledger_processor.server.shared_cpu import LEAST_GAIN, MOST_WAITED, LinuxCpus, SharedCpu

LOOP, LEDGER, OTHER = 11, 12, 13
PAIR = (LOOP, LEDGER)
ALL = frozenset({0, 1, 2, 3})


class Machine:
    """Four CPUs, of which the loop's thread ran on the third."""

    def __init__(self) -> None:
        self.runs_on: dict[int, frozenset[int]] = dict.fromkeys((LOOP, LEDGER, OTHER), ALL)
        self.waited: dict[int, float] = dict.fromkeys(PAIR, 5.0)
        self.idle = dict.fromkeys(ALL, 100.0)
        self.refuses = False

    def allowed(self) -> Collection[int]:
        return ALL

    def current(self, thread: int) -> int:
        return {LOOP: 2, LEDGER: 3}[thread]

    def waited_s(self, thread: int) -> float:
        return self.waited[thread]

    def idle_s(self) -> Mapping[int, float]:
        return dict(self.idle)

    def restrict(self, thread: int, cpus: Collection[int]) -> None:
        if self.refuses and len(cpus) == 1:
            raise OSError(22, "Invalid argument")
        if thread not in self.runs_on:
            raise ProcessLookupError(3, "No such process")
        self.runs_on[thread] = frozenset(cpus)

    def threads(self) -> Collection[int]:
        return [*self.runs_on, 99]  # one ends while it is looked at


@pytest.fixture
def machine() -> Machine:
    return Machine()


def _shared(machine: Machine, *, leaves: bool = True) -> SharedCpu:
    shared = SharedCpu(PAIR, machine, lambda: leaves)
    assert shared.look()
    return shared


def _pair_on(machine: Machine) -> set[frozenset[int]]:
    return {machine.runs_on[thread] for thread in PAIR}


def test_the_pair_shares_the_cpu_of_its_first_thread_and_no_other_thread_is_held(machine: Machine) -> None:
    machine.runs_on[OTHER] = frozenset({2})  # as a thread that one of the pair has started
    _shared(machine)
    assert _pair_on(machine) == {frozenset({2})}
    assert machine.runs_on[OTHER] == ALL


@pytest.mark.parametrize(
    ("waited", "gain", "leaves", "expected"),
    [
        (MOST_WAITED * 1.5, LEAST_GAIN * 1.5, True, 1),
        (MOST_WAITED * 0.5, LEAST_GAIN * 1.5, True, 2),  # it had its CPU nearly whenever it wanted
        (MOST_WAITED * 1.5, LEAST_GAIN * 0.5, True, 2),  # all are about as busy
        (MOST_WAITED * 1.5, LEAST_GAIN * 1.5, False, 2),
    ],
)
def test_it_moves_where_it_waits_and_another_cpu_is_idle(
    machine: Machine,
    waited: float,
    gain: float,
    leaves: bool,  # noqa: FBT001
    expected: int,
) -> None:
    shared = _shared(machine, leaves=leaves)
    machine.waited[LEDGER] += waited
    machine.idle[1] += gain
    machine.idle[0] += gain / 2
    assert shared.look()
    assert _pair_on(machine) == {frozenset({expected})}


def test_a_system_that_refuses_leaves_all_threads_free(machine: Machine) -> None:
    shared = _shared(machine)
    machine.refuses = True
    assert not shared.look()
    assert _pair_on(machine) == {ALL}


@pytest.fixture
def second_thread() -> Iterator[int]:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert thread.native_id is not None
    yield thread.native_id
    done.set()
    thread.join()


_choosing = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="here a process cannot choose its CPUs")


@_choosing
def test_on_this_system(second_thread: int) -> None:
    allowed = os.sched_getaffinity(0)
    pair = (threading.get_native_id(), second_thread)

    async def run() -> None:
        shared = SharedCpu(pair)
        assert shared.look()
        one, other = map(os.sched_getaffinity, pair)
        assert one == other
        assert len(one) == 1
        assert one <= allowed
        await shared.stop()

    asyncio.run(run())
    assert [os.sched_getaffinity(thread) for thread in pair] == [allowed, allowed]
    cpus = LinuxCpus()
    assert set(cpus.idle_s()) >= allowed
    assert set(pair) <= set(cpus.threads())


@_choosing
async def test_a_running_process_keeps_its_two_threads_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_cpu, "INTERVAL_S", 0.01)
    allowed = os.sched_getaffinity(0)
    config = loaded(
        f"{{receivers: {{enricher: {{endpoint: '127.0.0.1:0'}}}}, api: {{endpoint: '127.0.0.1:0'}}, "
        f"state: {{path: '{tmp_path}'}}}}"
    )
    async with running(config) as run:
        await until(lambda: len(os.sched_getaffinity(run.ledger.thread)) == 1)
        assert os.sched_getaffinity(run.ledger.thread) == os.sched_getaffinity(threading.get_native_id())
    assert os.sched_getaffinity(0) == allowed
