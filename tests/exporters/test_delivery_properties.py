"""Whatever destinations say, in whatever order: each gets a request until it has answered for good, and never again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from requests_out import Counts, soon
from spanledger_exporters import ACCEPTED, Delivery, Result, Signal, Verdict
from spanledger_exporters.settings import ALL_SIGNALS

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
