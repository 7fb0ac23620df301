"""Several destinations at once: who gets what, how often, and what the sender is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from destinations import GrpcAnswer, GrpcBackend
from requests_out import Counts, delivering, happened, log_records, settings, soon, spans, until
from spanledger_exporters import ACCEPTED, Delivery, DestinationError, Exporter, Result, Signal, Verdict, build
from spanledger_exporters.senders import Sender
from spanledger_exporters.settings import ALL_SIGNALS
from tools.programs import PATIENCE

OK = GrpcAnswer()
BUSY = GrpcAnswer(grpc.StatusCode.UNAVAILABLE, "busy")
BAD = GrpcAnswer(grpc.StatusCode.INVALID_ARGUMENT, "bad")


def exporter_to(backend: GrpcBackend, name: str, **given: Any) -> Exporter:
    """One attempt for a send, unless told otherwise."""
    whole = {"endpoint": f"http://127.0.0.1:{backend.port}", "retry_on_failure": {"enabled": False}} | given
    return build(name, settings("otlp_grpc", **whole))


@contextlib.asynccontextmanager
async def two(a: list[GrpcAnswer], b: list[GrpcAnswer], **b_given: Any) -> AsyncIterator[Any]:
    """A delivery to two backends, the backends, and what was counted."""
    counts = Counts()
    async with (
        GrpcBackend(a).serving() as first,
        GrpcBackend(b).serving() as second,
        delivering(
            exporter_to(first, "otlp_grpc/a"), exporter_to(second, "otlp_grpc/b", **b_given), counts=counts
        ) as delivery,
    ):
        yield delivery, first, second, counts


async def deliver(delivery: Delivery, name: str = "a", left: float = PATIENCE) -> Result:
    return await delivery.deliver("traces", name.encode(), spans(name), soon(left), items=1)


async def test_everybody_gets_it() -> None:
    async with two([OK], [OK]) as (delivery, first, second, counts):
        assert await deliver(delivery) == ACCEPTED
    assert [request.body for backend in (first, second) for request in backend.received] == [spans("a")] * 2
    assert counts.of == {
        ("answered", "otlp_grpc/a", "traces", "accepted"): 1,
        ("answered", "otlp_grpc/b", "traces", "accepted"): 1,
        ("forwarded", "otlp_grpc/a", "traces"): 1,
        ("forwarded", "otlp_grpc/b", "traces"): 1,
    }


@pytest.mark.parametrize(
    ("a", "b", "result"),
    [
        pytest.param(OK, BUSY, Result(Verdict.RETRYABLE, "otlp_grpc/b: UNAVAILABLE: busy"), id="one not now: not now"),
        pytest.param(OK, BAD, Result(Verdict.PERMANENT, "otlp_grpc/b: INVALID_ARGUMENT: bad"), id="one never: never"),
        pytest.param(
            BAD, BUSY, Result(Verdict.RETRYABLE, "otlp_grpc/b: UNAVAILABLE: busy"), id="one not now, one never"
        ),
        pytest.param(
            BUSY,
            BUSY,
            Result(Verdict.RETRYABLE, "otlp_grpc/a: UNAVAILABLE: busy; otlp_grpc/b: UNAVAILABLE: busy"),
            id="all are named",
        ),
        pytest.param(
            GrpcAnswer(grpc.StatusCode.UNAVAILABLE, "x", retry_delay=3),
            GrpcAnswer(grpc.StatusCode.UNAVAILABLE, "y", retry_delay=9),
            Result(Verdict.RETRYABLE, "otlp_grpc/a: UNAVAILABLE: x; otlp_grpc/b: UNAVAILABLE: y", 9.0),
            id="the longest wait is passed on",
        ),
    ],
)
async def test_what_the_sender_is_told(a: GrpcAnswer, b: GrpcAnswer, result: Result) -> None:
    async with two([a], [b]) as (delivery, *_):
        assert await deliver(delivery) == result


async def test_a_repeat_goes_only_to_those_that_lack_it() -> None:
    async with two([OK], [BUSY, BUSY, OK]) as (delivery, first, second, _):
        verdicts = [(await deliver(delivery)).verdict for _ in range(4)]
    assert verdicts == [Verdict.RETRYABLE, Verdict.RETRYABLE, Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert (len(first.received), len(second.received)) == (1, 3)


async def test_a_refusal_is_not_asked_for_again_while_others_are_waited_for() -> None:
    """Told in the end, once; whoever mends the destination and sends again then gets a new answer."""
    async with two([BAD, OK], [BUSY, OK]) as (delivery, first, second, _):
        assert (await deliver(delivery)).reason == "otlp_grpc/b: UNAVAILABLE: busy"
        assert await deliver(delivery) == Result(Verdict.PERMANENT, "otlp_grpc/a: INVALID_ARGUMENT: bad")
        assert (len(first.received), len(second.received)) == (1, 2)
        assert await deliver(delivery) == ACCEPTED
        assert (len(first.received), len(second.received)) == (2, 2)


async def test_requests_are_told_apart_by_id_and_signal() -> None:
    async with two([OK], [OK]) as (delivery, first, *_):
        for signal, request_id in (("traces", b"1"), ("traces", b"2"), ("logs", b"1"), ("traces", b"1")):
            assert await delivery.deliver(signal, request_id, b"", soon()) == ACCEPTED
        assert len(first.received) == 3


async def test_what_is_remembered_is_bounded() -> None:
    """The request that was seen longest ago is forgotten first; to be seen again counts."""
    async with GrpcBackend().serving() as backend:
        async with delivering(exporter_to(backend, "otlp_grpc"), remembered=2) as delivery:
            for name in ("a", "b", "a", "c", "a", "b"):
                await deliver(delivery, name)
        assert [request.body for request in backend.received] == [spans(name) for name in "abcb"]


@pytest.mark.parametrize("gives_up", [False, True], ids=["its sender waits", "its sender gave up"])
async def test_what_is_under_way_is_not_forgotten(gives_up: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    """However many others come meanwhile."""
    stubborn = Stubborn("stubborn")
    async with delivering(stubborn, remembered=1) as delivery:
        first = asyncio.create_task(deliver(delivery, "a"))
        await until(lambda: stubborn.sent == 1)
        if gives_up:
            first.cancel()
            await asyncio.wait({first})
        others = [asyncio.create_task(deliver(delivery, name)) for name in "bc"]
        await until(lambda: stubborn.sent == 3)
        repeat = asyncio.create_task(deliver(delivery, "a"))
        await asyncio.sleep(0)
        stubborn.go_on.set()
        waiting = (repeat, *others) if gives_up else (first, repeat, *others)
        assert {await task for task in waiting} == {ACCEPTED}
    assert stubborn.sent == 3


async def test_the_same_request_at_the_same_time_is_sent_once() -> None:
    hold = asyncio.Event()
    async with two([GrpcAnswer(hold=hold)], [OK]) as (delivery, first, second, counts):
        twice = [asyncio.create_task(deliver(delivery)) for _ in range(2)]
        await until(lambda: len(first.received) == 1)
        hold.set()
        assert [await task for task in twice] == [ACCEPTED, ACCEPTED]
        assert (len(first.received), len(second.received)) == (1, 1)
    assert counts.of["forwarded", "otlp_grpc/a", "traces"] == 1


async def test_a_slow_destination_does_not_hold_the_sender_beyond_the_deadline(tmp_path: Path) -> None:
    """Nor does one whose exporter knows no deadline at all. What it says later is kept: a repeat joins it."""
    stubborn = Stubborn("stubborn")
    file = build("file", settings("file", path=str(tmp_path / "spans.jsonl")))
    async with delivering(stubborn, file) as delivery:
        result = await deliver(delivery, left=0.05)
        assert result.verdict is Verdict.RETRYABLE
        assert result.reason.startswith("stubborn: no answer in time")  # on a busy machine the file is late too
        repeat = asyncio.create_task(deliver(delivery))
        await asyncio.sleep(0)
        stubborn.go_on.set()
        assert await repeat == ACCEPTED
    assert stubborn.sent == 1
    assert len((tmp_path / "spans.jsonl").read_text().splitlines()) == 1


async def test_nothing_is_left_of_requests_whose_time_is_up() -> None:
    """A destination that hangs, and senders that push: what they gave up is not held."""
    hanging = GrpcBackend([GrpcAnswer(hold=asyncio.Event())])
    async with hanging.serving() as backend, delivering(exporter_to(backend, "otlp_grpc")) as delivery:
        bodies = [spans(str(number)) for number in range(20)]
        sends = (delivery.deliver("traces", body, body, soon(0.1)) for body in bodies)
        assert {result.verdict for result in await asyncio.gather(*sends)} == {Verdict.RETRYABLE}
        await sends_end()


async def sends_end() -> None:
    """Wait until nothing is under way to any exporter."""
    begun = [task for task in asyncio.all_tasks() if Sender._result.__qualname__ in repr(task)]
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*begun, return_exceptions=True)
    await asyncio.sleep(0)  # what is done when one ends stands in the loop's queue by now


async def test_a_sender_that_goes_away_does_not_stop_what_was_begun() -> None:
    hold = asyncio.Event()
    async with two([GrpcAnswer(hold=hold)], [OK]) as (delivery, first, second, _):
        gone = asyncio.create_task(deliver(delivery))
        await until(lambda: len(first.received) == len(second.received) == 1)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        hold.set()
        assert await deliver(delivery) == ACCEPTED
        assert (len(first.received), len(second.received)) == (1, 1)


async def test_a_bug_in_an_exporter_is_retryable_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    async with GrpcBackend().serving() as backend:
        good = exporter_to(backend, "otlp_grpc")
        async with delivering(Broken("broken"), good, counts=counts) as delivery:
            result = await deliver(delivery)
    assert result == Result(Verdict.RETRYABLE, "broken: unexpected ZeroDivisionError")
    assert len(backend.received) == 1
    assert counts.of["answered", "broken", "traces", "retryable"] == 1
    record = caplog.records[0]
    assert (record.name, record.levelname) == ("spanledger_exporters.broken", "ERROR")


async def test_only_those_that_take_the_signal_get_it() -> None:
    async with two([OK], [OK], signals=["logs"]) as (delivery, first, second, _):
        assert await deliver(delivery) == ACCEPTED
        assert await delivery.deliver("logs", b"1", log_records("x"), soon()) == ACCEPTED
    assert [len(first.received), len(second.received)] == [2, 1]


async def test_a_signal_that_nobody_takes_is_accepted_counted_and_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts = Counts()
    debug = build("debug", settings("debug", signals=["traces", "metrics"]))
    async with delivering(debug, counts=counts) as delivery:
        assert await delivery.deliver("logs", b"1", log_records("x", "y"), soon(), items=2) == ACCEPTED
    assert counts.of == {("unclaimed", "logs"): 2}
    assert [record.message for record in caplog.records] == ["no exporter takes logs: they are accepted and go nowhere"]


async def test_a_partial_success_is_counted_logged_and_not_retried(caplog: pytest.LogCaptureFixture) -> None:
    message = b"\x0a\x0b\x08\x02\x12\x07too old"  # partial_success { rejected_spans: 2, error_message: "too old" }
    counts = Counts()
    async with (
        GrpcBackend([GrpcAnswer(message=message)]).serving() as backend,
        delivering(exporter_to(backend, "otlp_grpc"), counts=counts) as delivery,
    ):
        for name in ("a", "a", "b", "c"):
            assert await delivery.deliver("traces", name.encode(), spans(name), soon(), items=5) == ACCEPTED
        assert len(backend.received) == 3
    assert counts.of["rejected", "otlp_grpc", "traces"] == 6
    assert counts.of["forwarded", "otlp_grpc", "traces"] == 9
    assert lines_of(caplog) == {
        f"spanledger_exporters.otlp_grpc: http://127.0.0.1:{backend.port}: accepted in part; spans lost there: 2; "
        "too old"
    }


async def test_retries_are_counted() -> None:
    counts = Counts()
    async with GrpcBackend([BUSY, BUSY, OK]).serving() as backend:
        exporter = exporter_to(backend, "otlp_grpc", retry_on_failure={"initial_interval": "1ms"})
        async with delivering(exporter, counts=counts) as delivery:
            assert await deliver(delivery) == ACCEPTED
    assert counts.of == {
        ("answered", "otlp_grpc", "traces", "accepted"): 1,
        ("forwarded", "otlp_grpc", "traces"): 1,
        ("retried", "otlp_grpc", "traces"): 2,
    }


async def test_one_that_is_not_required_is_sent_to_and_not_waited_for() -> None:
    hold = asyncio.Event()
    async with two([OK], [GrpcAnswer(hold=hold)], required=False) as (delivery, _, second, counts):
        assert await deliver(delivery) == ACCEPTED
        await until(lambda: len(second.received) == 1)
        assert counts.of["forwarded", "otlp_grpc/b", "traces"] == 0
        hold.set()
        await until(lambda: counts.of["forwarded", "otlp_grpc/b", "traces"] == 1)


@pytest.mark.parametrize("answer", [BUSY, BAD])
async def test_what_one_that_is_not_required_says_is_counted_and_not_told(answer: GrpcAnswer) -> None:
    async with two([OK], [answer], required=False) as (delivery, _, second, counts):
        assert await deliver(delivery) == ACCEPTED
        verdict = "retryable" if answer is BUSY else "permanent"
        await until(lambda: counts.of["answered", "otlp_grpc/b", "traces", verdict] == 1)
    assert len(second.received) == 1
    assert counts.of["refused", "otlp_grpc/b", "traces"] == (0 if answer is BUSY else 1)


async def test_a_repeat_goes_not_again_to_one_that_is_not_required_and_has_it() -> None:
    async with two([BUSY, OK], [OK], required=False) as (delivery, _, second, counts):
        assert (await deliver(delivery)).verdict is Verdict.RETRYABLE
        await until(lambda: counts.of["forwarded", "otlp_grpc/b", "traces"] == 1)
        assert await deliver(delivery) == ACCEPTED
    assert len(second.received) == 1


async def test_what_is_under_way_to_one_that_is_not_required_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """64 requests; the rest is dropped there, counted and warned about. It goes on when there is room again."""
    counts, slow = Counts(), Stubborn("slow", required=False)
    async with delivering(slow, counts=counts) as delivery:
        for number in range(100):
            assert await deliver(delivery, str(number)) == ACCEPTED
        await until(lambda: slow.sent == 64)
        assert counts.of["dropped", "slow", "traces"] == 36
        slow.go_on.set()
        await until(lambda: counts.of["forwarded", "slow", "traces"] == 64)
        await sends_end()  # and make room
        assert await deliver(delivery, "again") == ACCEPTED
        await until(lambda: counts.of["forwarded", "slow", "traces"] == 65)
    assert lines_of(caplog) == {
        "spanledger_exporters.slow: backend:4317: does not keep up, and is not required: requests to it are dropped"
    }


async def test_bytes_under_way_to_one_that_is_not_required_are_bounded() -> None:
    """64 MiB, or one request that is larger."""
    counts, slow = Counts(), Stubborn("slow", required=False)
    async with delivering(slow, counts=counts) as delivery:
        for number, mib in enumerate((40, 30, 24, 1)):
            await delivery.deliver("traces", bytes([number]), bytes(mib * 2**20), soon(), items=1)
        await until(lambda: slow.sent == 2)
        assert counts.of["dropped", "slow", "traces"] == 2
        slow.go_on.set()
        await until(lambda: counts.of["forwarded", "slow", "traces"] == 2)
        await sends_end()
        slow.go_on.clear()
        await delivery.deliver("traces", b"large", bytes(100 * 2**20), soon(), items=1)
        await until(lambda: slow.sent == 3)
        slow.go_on.set()


async def test_one_that_cannot_be_used_stops_the_start_and_closes_the_others(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    first = build("file/a", settings("file", path=str(path)))
    second = build("file/b", settings("file", path=str(path)))
    with pytest.raises(DestinationError, match=r"exporters\.file/b: path"):
        await Delivery([first, second], Counts()).start()
    async with delivering(build("file/a", settings("file", path=str(path)))) as delivery:
        assert await deliver(delivery) == ACCEPTED


async def test_closing_lets_what_is_under_way_end_and_takes_no_more() -> None:
    hold = asyncio.Event()
    async with GrpcBackend([GrpcAnswer(hold=hold)]).serving() as backend:
        delivery = Delivery([exporter_to(backend, "otlp_grpc")], Counts())
        await delivery.start()
        waiting = asyncio.create_task(deliver(delivery))
        await until(lambda: len(backend.received) == 1)
        closing = asyncio.create_task(delivery.close(grace=PATIENCE))
        await asyncio.sleep(0)
        assert await deliver(delivery, "b") == Result(Verdict.RETRYABLE, "stopping")
        hold.set()
        assert await waiting == ACCEPTED
        await closing


async def test_closing_does_not_wait_beyond_the_grace_time() -> None:
    """Who still waits is told to send again; an exporter that cannot be closed keeps no other from it."""
    stubborn = Stubborn("stubborn")
    broken = Broken("broken")
    delivery = Delivery([broken, stubborn], Counts())
    await delivery.start()
    waiting = asyncio.create_task(deliver(delivery))
    await until(lambda: stubborn.sent == 1)
    await delivery.close(grace=0.01)
    assert (await waiting).verdict is Verdict.RETRYABLE
    assert stubborn.closed


async def test_an_exporter_that_does_not_close_keeps_no_other_open(monkeypatch: pytest.MonkeyPatch) -> None:
    class NeverClosed(Stubborn):
        async def close(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("spanledger_exporters.delivery._CLOSING_SECONDS", 0.01)
    other = Stubborn("other")
    await Delivery([NeverClosed("never"), other], Counts()).close()
    assert other.closed


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (BUSY, (logging.WARNING, "{address}: not accepted now: UNAVAILABLE: busy")),
        (BAD, (logging.ERROR, "{address}: refused for good; spans lost there: 1; INVALID_ARGUMENT: bad")),
        (GrpcAnswer(message=b"\x0a\x05\x12\x03odd"), (logging.WARNING, "accepted with a warning: odd")),
    ],
)
async def test_the_log_says_what_a_destination_has_against_a_request(
    answer: GrpcAnswer, line: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    """What is lost there is an ERROR with the address."""
    async with two([OK], [answer]) as (delivery, _, backend, _):
        await deliver(delivery)
    level, text = line
    address = f"http://127.0.0.1:{backend.port}"
    (record,) = _ours(caplog)
    assert (record.name, record.levelno) == ("spanledger_exporters.otlp_grpc/b", level)
    assert record.message == text.format(address=address)


async def test_the_log_tells_of_trouble_before_it_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with GrpcBackend([BUSY, OK]).serving() as backend:
        exporter = exporter_to(backend, "otlp_grpc", retry_on_failure={"initial_interval": "1ms"})
        async with delivering(exporter) as delivery:
            assert await deliver(delivery) == ACCEPTED
    assert lines_of(caplog) == {"spanledger_exporters.otlp_grpc: not accepted, trying again: UNAVAILABLE: busy"}


def _ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Our warnings and errors: gRPC's poller may log of the event loop of a test before."""
    ours = (record for record in caplog.records if record.name.startswith("spanledger"))
    return [record for record in ours if record.levelno >= logging.WARNING]


def lines_of(caplog: pytest.LogCaptureFixture) -> set[str]:
    """What was logged, and by whom. (How often the same is written is the business of the process's log.)"""
    return {f"{record.name}: {record.message}" for record in _ours(caplog)}


class Stubborn:
    """An exporter that answers when it is let, whatever the deadline; it stands for what we have not thought of."""

    signals: frozenset[Signal] = ALL_SIGNALS

    def __init__(self, name: str, *, required: bool = True) -> None:
        self.name = name
        self.required = required
        self.go_on = asyncio.Event()
        self.sent = 0
        self.closed = False

    def address(self, signal: Signal) -> str:
        return "backend:4317"

    async def start(self) -> None:
        pass

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        self.sent += 1
        happened()
        await self.go_on.wait()
        return ACCEPTED

    async def close(self) -> None:
        self.closed = True


class Broken(Stubborn):
    """An exporter with a bug."""

    async def send(self, signal: Signal, body: bytes, deadline: float) -> Result:
        raise ZeroDivisionError

    async def close(self) -> None:
        raise ZeroDivisionError


async def deliver_logs(delivery: Delivery, left: float = PATIENCE) -> Result:
    return await delivery.deliver("logs", b"heartbeat", log_records("heartbeat"), soon(left), items=1)


async def test_equal_logs_are_two_requests_where_both_were_acknowledged() -> None:
    """Log records carry no ids: a client that says the same twice means it twice."""
    async with two([OK] * 6, [OK] * 6) as (delivery, first, second, _):
        for _ in range(3):
            assert await deliver_logs(delivery) == ACCEPTED
        assert await asyncio.gather(*(deliver_logs(delivery) for _ in range(3))) == [ACCEPTED] * 3
    assert (len(first.received), len(second.received)) == (6, 6)


async def test_equal_logs_that_were_not_acknowledged_go_only_to_those_that_lack_them() -> None:
    """Each that was not stands for one that comes again."""
    async with two([OK, OK, OK], [BUSY, BUSY, OK, OK, OK]) as (delivery, first, second, _):
        results = await asyncio.gather(deliver_logs(delivery), deliver_logs(delivery))
        assert [result.verdict for result in results] == [Verdict.RETRYABLE] * 2
        for _ in range(3):
            assert await deliver_logs(delivery) == ACCEPTED
    assert (len(first.received), len(second.received)) == (3, 5)


async def test_logs_that_come_again_while_they_are_sent_wait_for_that_answer() -> None:
    hold = asyncio.Event()
    async with two([GrpcAnswer(hold=hold)], [OK]) as (delivery, first, second, _):
        assert (await deliver_logs(delivery, left=0.0)).verdict is Verdict.RETRYABLE
        again = asyncio.create_task(deliver_logs(delivery))
        await until(lambda: len(first.received) == 1)
        hold.set()
        assert await again == ACCEPTED
    assert (len(first.received), len(second.received)) == (1, 1)
