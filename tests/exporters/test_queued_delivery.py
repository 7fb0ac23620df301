"""Delivery out of a queue on disk: senders are answered at once, and the destination gets everything in the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import resource
import signal
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest

from destinations import GrpcAnswer, GrpcBackend, nobody
from requests_out import Counts, delivering, settings, soon, spans, until
from spanledger_exporters import ACCEPTED, Delivery, DestinationError, Result, Verdict, build
from spanledger_exporters.queue import Entry, SegmentLog
from tools.programs import PATIENCE

OK = GrpcAnswer()
BUSY = GrpcAnswer(grpc.StatusCode.UNAVAILABLE, "busy")
BAD = GrpcAnswer(grpc.StatusCode.INVALID_ARGUMENT, "bad")
FULL = Result(Verdict.RETRYABLE, "otlp_grpc: sending_queue is full")
SOON = {"initial_interval": "1ms", "max_interval": "10ms"}


def queued(folder: Path, port: int, queue: Mapping[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """The settings of an exporter with a queue."""
    whole = {"enabled": True, "storage": str(folder / "queue"), **(queue or {})}
    return {"endpoint": f"http://127.0.0.1:{port}", "sending_queue": whole, "retry_on_failure": SOON} | given


def delivering_to(counts: Counts | None = None, **exporters: dict[str, Any]) -> AbstractAsyncContextManager[Delivery]:
    """Run a delivery to exporters of these names, `__` standing for a slash."""
    given = {name.replace("__", "/"): settings("otlp_grpc", **more) for name, more in exporters.items()}
    return delivering(*(build(name, each) for name, each in given.items()), counts=counts, settings=given)


async def deliver(delivery: Delivery, name: str = "a", left: float = PATIENCE, items: int = 1) -> Result:
    return await delivery.deliver("traces", name.encode(), spans(name), soon(left), items=items)


async def test_senders_are_answered_while_the_destination_is_away_and_it_gets_all_in_order(tmp_path: Path) -> None:
    counts, names = Counts(), [str(number) for number in range(20)]
    backend = GrpcBackend()
    with nobody() as port:
        async with delivering_to(counts, otlp_grpc=queued(tmp_path, port)) as delivery:
            for name in names:
                assert await deliver(delivery, name) == ACCEPTED
            assert counts.queues == {"otlp_grpc": 20}
            assert counts.of["forwarded", "otlp_grpc", "traces"] == 0
    async with (
        backend.serving(),
        delivering_to(counts, otlp_grpc=queued(tmp_path, backend.port, {"num_consumers": 1})),
    ):
        await until(lambda: counts.queues["otlp_grpc"] == 0)
    assert [request.body for request in backend.received] == [spans(name) for name in names]
    assert counts.of["forwarded", "otlp_grpc", "traces"] == 20
    assert not [path for path in (tmp_path / "queue").iterdir() if path.suffix == ".seg"]


async def test_a_destination_with_a_queue_delays_no_other(tmp_path: Path) -> None:
    """Also where it hangs: the other one's answer is the sender's."""
    hold = asyncio.Event()
    async with (
        GrpcBackend([GrpcAnswer(hold=hold)]).serving() as hanging,
        GrpcBackend().serving() as other,
        delivering_to(
            otlp_grpc__a=queued(tmp_path, hanging.port, timeout="60s"),
            otlp_grpc__b={"endpoint": f"http://127.0.0.1:{other.port}"},
        ) as delivery,
    ):
        for name in "abc":
            assert await deliver(delivery, name) == ACCEPTED
        assert len(other.received) == 3
        hold.set()
        await until(lambda: len(hanging.received) == 3)


@pytest.mark.parametrize(("sizer", "size"), [("requests", 2), ("items", 9), ("bytes", 2 * len(spans("a")))])
async def test_a_full_queue_has_senders_keep_the_data(tmp_path: Path, sizer: str, size: int) -> None:
    counts = Counts()
    with nobody() as port:
        queue = {"queue_size": size, "sizer": sizer}
        async with delivering_to(counts, otlp_grpc=queued(tmp_path, port, queue)) as delivery:
            assert [await deliver(delivery, name, items=4) for name in "abc"] == [ACCEPTED, ACCEPTED, FULL]
            assert counts.of["queue_refused", "otlp_grpc", "traces"] == 4


async def test_a_request_larger_than_the_queue_is_taken_where_nothing_waits(tmp_path: Path) -> None:
    async with GrpcBackend().serving() as backend:
        queue = {"queue_size": 3, "sizer": "items"}
        async with delivering_to(otlp_grpc=queued(tmp_path, backend.port, queue)) as delivery:
            assert await deliver(delivery, items=100) == ACCEPTED
            await until(lambda: len(backend.received) == 1)


async def test_one_that_is_not_required_drops_what_its_queue_has_no_room_for(tmp_path: Path) -> None:
    counts = Counts()
    with nobody() as port:
        async with delivering_to(
            counts, otlp_grpc=queued(tmp_path, port, {"queue_size": 1}, required=False)
        ) as delivery:
            assert [await deliver(delivery, name) for name in "ab"] == [ACCEPTED, ACCEPTED]
            await until(lambda: counts.of["dropped", "otlp_grpc", "traces"] == 1)
            assert counts.queues["otlp_grpc"] == 1


async def test_senders_wait_for_room_where_that_is_configured(tmp_path: Path) -> None:
    async with GrpcBackend([BUSY]).serving() as backend:
        queue = {"queue_size": 1, "block_on_overflow": True}
        async with delivering_to(otlp_grpc=queued(tmp_path, backend.port, queue)) as delivery:
            assert await deliver(delivery, "a") == ACCEPTED
            assert await deliver(delivery, "b", left=0.01) in (
                FULL,
                Result(Verdict.RETRYABLE, "otlp_grpc: no answer in time"),
            )
            waiting = asyncio.create_task(deliver(delivery, "c"))
            await asyncio.sleep(0)
            backend.answers = (OK,)
            assert await waiting == ACCEPTED
            await until(lambda: any(request.body == spans("c") for request in backend.received))


async def test_nothing_is_given_up_but_for_an_answer(tmp_path: Path) -> None:
    """`max_elapsed_time` ends the retries of a request whose sender keeps it; out of a queue there are always more."""
    counts = Counts()
    async with GrpcBackend([BUSY] * 6 + [OK]).serving() as backend:
        retries = {**SOON, "max_elapsed_time": "1ms"}
        given = queued(tmp_path, backend.port, retry_on_failure=retries)
        async with delivering_to(counts, otlp_grpc=given) as delivery:
            assert await deliver(delivery) == ACCEPTED
            await until(lambda: counts.queues["otlp_grpc"] == 0)
    assert counts.of["answered", "otlp_grpc", "traces", "retryable"] == 6
    assert counts.of["retried", "otlp_grpc", "traces"] == 6
    assert counts.of["forwarded", "otlp_grpc", "traces"] == 1


@pytest.mark.parametrize("way", ["queued", "synchronous"])
async def test_what_is_refused_for_good_goes_to_the_dead_letters(
    tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_queue = way == "queued"
    counts, dead = Counts(), tmp_path / "dead" / "letters.jsonl"
    async with GrpcBackend([BAD]).serving() as backend:
        given = queued(tmp_path, backend.port, {"enabled": with_queue}, dead_letter=str(dead))
        async with delivering_to(counts, otlp_grpc=given) as delivery:
            refused = Result(Verdict.PERMANENT, "otlp_grpc: INVALID_ARGUMENT: bad")
            assert await deliver(delivery) == (ACCEPTED if with_queue else refused)
            await until(lambda: counts.of["refused", "otlp_grpc", "traces"] == 1)
            await until(lambda: counts.queues.get("otlp_grpc", 0) == 0)
    (line,) = dead.read_text().splitlines()
    assert json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] == "a"
    assert stat.S_IMODE(dead.stat().st_mode) == 0o600
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [f"http://127.0.0.1:{backend.port}: refused for good; spans lost there: 1; INVALID_ARGUMENT: bad"]


async def test_what_neither_the_destination_nor_the_dead_letters_take_stays_at_the_sender(tmp_path: Path) -> None:
    """Told that it is refused for good, a sender would drop what the file was meant to keep."""
    dead = tmp_path / "dead" / "letters.jsonl"
    counts = Counts()
    async with GrpcBackend([BAD]).serving() as backend:
        given = queued(tmp_path, backend.port, {"enabled": False}, dead_letter=str(dead))
        async with delivering_to(counts, otlp_grpc=given) as delivery:
            with limit_of_written_files(0):
                result = await deliver(delivery)
            assert result.verdict is Verdict.RETRYABLE
            assert "dead_letter cannot be written" in result.reason
            assert counts.of["refused", "otlp_grpc", "traces"] == 0
            assert (await deliver(delivery)).verdict is Verdict.PERMANENT
    assert len(dead.read_text().splitlines()) == 1


@contextlib.contextmanager
def limit_of_written_files(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handled)


async def test_a_request_that_cannot_be_read_now_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, a disk that fails: for a while, and nothing of the queue is given up for it."""
    fails = [OSError(errno.EMFILE, "Too many open files")] * 3
    read = SegmentLog.read

    def failing(log: SegmentLog, entry: Entry) -> bytes | None:
        if fails:
            raise fails.pop()
        return read(log, entry)

    monkeypatch.setattr(SegmentLog, "read", failing)
    backend, counts = GrpcBackend(), Counts()
    async with backend.serving(), delivering_to(counts, otlp_grpc=queued(tmp_path, backend.port)) as delivery:
        assert await deliver(delivery) == ACCEPTED
        await until(lambda: counts.queues["otlp_grpc"] == 0)
    assert fails == []
    assert [request.body for request in backend.received] == [spans("a")]
    assert counts.of["set_aside", "otlp_grpc"] == 0


async def test_a_damaged_request_is_counted_and_the_others_go(tmp_path: Path) -> None:
    counts = Counts()
    with nobody() as port:
        async with delivering_to(otlp_grpc=queued(tmp_path, port)) as delivery:
            for name in "abc":
                assert await deliver(delivery, name) == ACCEPTED
    (segment,) = (tmp_path / "queue").glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[-len(spans("c")) - 20] ^= 1  # inside the second body
    segment.write_bytes(content)
    async with GrpcBackend().serving() as backend, delivering_to(counts, otlp_grpc=queued(tmp_path, backend.port)):
        await until(lambda: counts.queues["otlp_grpc"] == 0)
    assert sorted(request.body for request in backend.received) == sorted([spans("a"), spans("c")])
    assert counts.of["set_aside", "otlp_grpc"] == 1


async def test_two_exporters_cannot_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanledger_exporters.queue._LOCK_SECONDS", 0.0)
    given = {name: settings("otlp_grpc", **queued(tmp_path, 1)) for name in ("otlp_grpc/a", "otlp_grpc/b")}
    delivery = Delivery([build(name, each) for name, each in given.items()], Counts(), given)
    with pytest.raises(DestinationError, match=r"exporters\.otlp_grpc/b: sending_queue\.storage: .* is in use"):
        await delivery.start()


async def test_a_request_in_parts_goes_on_where_the_queue_had_no_room(tmp_path: Path) -> None:
    """Parts that are on disk are not put there again, and each reaches the destination once, in order."""
    counts, hold, parts = Counts(), asyncio.Event(), [spans(str(number)) for number in range(5)]
    queue = {"queue_size": 3, "num_consumers": 1}

    async def deliver_all(delivery: Delivery) -> Result:
        delivering = delivery.in_parts("traces", b"long")
        for part in parts:
            if not await delivering.deliver(part, soon(), 1):
                break
        return delivering.end()

    async with (
        GrpcBackend([GrpcAnswer(hold=hold), OK]).serving() as backend,
        delivering_to(counts, otlp_grpc=queued(tmp_path, backend.port, queue)) as delivery,
    ):
        assert await deliver_all(delivery) == FULL
        assert counts.queues["otlp_grpc"] == 3
        hold.set()
        await until(lambda: counts.queues["otlp_grpc"] == 0)
        assert await deliver_all(delivery) == ACCEPTED
        await until(lambda: counts.queues["otlp_grpc"] == 0)
    assert [request.body for request in backend.received] == parts
