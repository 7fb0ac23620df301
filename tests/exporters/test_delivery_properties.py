"""Whatever destinations say, in whatever order: each gets a request until it has answered for good, and never again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requests_out import Counts, soon
from spanledger_exporters import ACCEPTED, Delivery, Result, Signal, Verdict
from spanledger_exporters.settings import ALL_SIGNALS
from tools.programs import PATIENCE

A, R, P = Verdict.ACCEPTED, Verdict.RETRYABLE, Verdict.PERMANENT


class Scripted:
    """Says what its script says, then accepts. None in the script stands for a bug."""

    required = True
    signals: frozenset[Signal] = ALL_SIGNALS

    def __init__(self, name: str, script: Sequence[Verdict | None]) -> None:
        self.name = name
        self._script = list(script)
        self.said: list[Verdict] = []

    def address(self, signal: Signal) -> str:
        return "backend:4317"

    async def start(self) -> None:
        pass

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        await asyncio.sleep(0)
        verdict = self._script.pop(0) if self._script else A
        self.said.append(verdict or R)
        if verdict is None:
            raise ZeroDivisionError
        return Result(verdict)

    async def close(self) -> None:
        pass


def expected(said: Sequence[Verdict]) -> Verdict:
    """The contract's rule."""
    return next((verdict for verdict in (R, P) if verdict in said), A)


scripts = st.lists(st.lists(st.sampled_from([A, R, P, None]), max_size=4), min_size=1, max_size=4)


@given(scripts, st.integers(1, 3))
def test_a_request_is_sent_until_its_result_is_final(scripts: list[list[Verdict | None]], at_once: int) -> None:
    """`at_once` copies of the request come together each time; the sender repeats it until it is told an end."""

    async def run() -> None:
        exporters = [Scripted(f"e{n}", script) for n, script in enumerate(scripts)]
        delivery = Delivery(exporters, Counts())
        results: list[Result] = []
        for _ in range(10):
            copies = (delivery.deliver("traces", b"id", b"body", soon()) for _ in range(at_once))
            results = await asyncio.gather(*copies)
            assert len(set(results)) == 1, "copies that come together are told the same"
            assert results[0].verdict is expected([exporter.said[-1] for exporter in exporters])
            if results[0].verdict is not R:
                break
        assert results[0].verdict is not R, "no script holds it up for ever"
        for exporter in exporters:
            *before, last = exporter.said
            assert set(before) <= {R}, "nothing is sent after an answer for good"
            assert last is not R
        assert await delivery.deliver("traces", b"id", b"body", soon()) == ACCEPTED or results[0].verdict is P
        await delivery.close()

    asyncio.run(run())


@given(scripts, st.integers(1, 5))
def test_each_gets_every_part_of_a_request_until_it_has_answered_for_good(
    scripts: list[list[Verdict | None]], parts: int
) -> None:
    """The sender repeats the request until it is told an end; then each has all parts, or has refused some for good."""

    async def run() -> None:
        exporters = [Kept(f"e{n}", script) for n, script in enumerate(scripts)]
        delivery, verdict = Delivery(exporters, Counts()), R
        for _ in range(10):
            delivering = delivery.in_parts("traces", b"id")
            said = [len(exporter.said) for exporter in exporters]
            for number in range(parts):
                if not await delivering.deliver(b"part %d" % number, soon(), 1):
                    break
            verdict = delivering.end().verdict
            now = [exporter.said[before:] for exporter, before in zip(exporters, said, strict=True)]
            busy = any(R in of_one for of_one in now)
            assert verdict is (R if busy else P if any(P in exporter.said for exporter in exporters) else A)
            assert all(R not in of_one[:-1] for of_one in now), "one that is busy is asked no more"
            if verdict is not R:
                break
        assert verdict is not R, "no script holds it up for ever"
        for exporter in exporters:
            assert sorted(exporter.done) == [b"part %d" % number for number in range(parts)], "and none twice"
        await delivery.close()

    asyncio.run(run())


class Kept(Scripted):
    """Keeps the parts that it answered for good."""

    def __init__(self, name: str, script: Sequence[Verdict | None]) -> None:
        super().__init__(name, script)
        self.done: list[bytes] = []

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        result = await super().send(signal, body, deadline)
        if result.verdict is not R:
            self.done.append(body)
        return result


class Beside(Scripted):
    """Is not required, and takes a little longer than others."""

    required = False

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        for _ in range(20):
            await asyncio.sleep(0)
        return await super().send(signal, body, deadline)


class Hanging(Scripted):
    """Is not required, and never answers."""

    required = False

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        await asyncio.Event().wait()
        raise AssertionError


async def test_nobody_waits_past_the_deadline_for_one_that_is_not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanledger_exporters.delivery._PATIENCE_SECONDS", 1e6)
    delivery = Delivery([Scripted("required", []), Hanging("hanging", [])], Counts())
    delivering = delivery.in_parts("traces", b"id")
    assert await delivering.deliver(b"first", soon(), 1)
    async with asyncio.timeout(PATIENCE):
        await delivering.deliver(b"second", soon(0.0), 1)
    await delivery.close(grace=0.0)


async def test_one_that_is_not_required_and_keeps_up_gets_all_parts() -> None:
    """More of them than may be under way to it: they were dropped, where a whole request was let in."""
    counts, beside = Counts(), Beside("beside", [])
    delivery = Delivery([Scripted("required", []), beside], counts)
    delivering = delivery.in_parts("traces", b"id")
    for number in range(200):
        assert await delivering.deliver(b"part %d" % number, soon(), 1)
    assert delivering.end() == ACCEPTED
    assert counts.of["dropped", "beside", "traces"] == 0
    await delivery.close()
    assert len(beside.said) == 200
