"""What one sender, or one tenant, may send in a minute (config `processor.rate_limits`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.config import load
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.server.rate_limits import Minutes, RateLimitedError, RateLimits, Taken
from spanledger_processor.server.wiring import make_rate_limits, make_tenant_of


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def limits(clock: Clock, *sets: str) -> RateLimits:
    processor = load(None, sets).processor
    settings = processor.rate_limits
    return RateLimits(settings, make_tenant_of(processor).by_headers, Minutes(settings, clock))


async def refused(work: Callable[..., Awaitable[None]], *arguments: Any) -> RateLimitedError | None:
    try:
        await work(*arguments)
    except RateLimitedError as error:
        return error
    return None


def of_sessions(*sessions: str, tenant: str = "") -> list[Batch]:
    facts = [Fact(b"t" * 16, b"s" * 8, session=Named(session, "attribute")) for session in sessions]
    return [Batch(tenant_hash(tenant), facts, 0)]


def test_off_by_default() -> None:
    assert make_rate_limits(load(None).processor) is None


async def test_one_sender_waits_for_its_minute_and_others_do_not() -> None:
    clock = Clock()
    made = limits(clock, "processor.rate_limits.requests=2")
    for sender in ("a", "a", "b"):
        await made.admit(sender, {}, 10)
    clock.now += 40
    beyond = await refused(made.admit, "a", {}, 10)
    assert beyond is not None
    assert (beyond.limit, beyond.seconds) == ("requests", 20.0)
    assert await refused(made.admit, "b", {}, 10) is None
    clock.now += 20
    assert await refused(made.admit, "a", {}, 10) is None


async def test_bytes_and_what_the_first_request_of_a_minute_may_be() -> None:
    made = limits(Clock(), "processor.rate_limits.bytes=100")
    await made.admit("a", {}, 1000)
    assert await refused(made.admit, "a", {}, 1) is not None
    await made.admit("b", {}, 60)
    await made.admit("b", {}, 40)
    assert await refused(made.admit, "b", {}, 1) is not None


async def test_what_the_process_itself_sends_is_not_limited() -> None:
    made = limits(Clock(), "processor.rate_limits.requests=1")
    assert [await refused(made.admit, "", {}, 10) for _ in range(3)] == [None] * 3


async def test_sessions_that_are_known_count_once_and_a_refused_request_counts_nothing() -> None:
    made = limits(Clock(), "processor.rate_limits.sessions=3")
    await made.admit_names("a", of_sessions("1", "2"))
    assert await refused(made.admit_names, "a", of_sessions("3", "4")) is not None
    await made.admit_names("a", of_sessions("1", "2", "3"))
    assert await refused(made.admit_names, "a", of_sessions("4")) is not None
    await made.admit_names("b", of_sessions("4"))


async def test_the_first_request_of_a_minute_may_name_more_than_the_limit() -> None:
    """A sender that names so many in each request would never get one in."""
    made = limits(Clock(), "processor.rate_limits.sessions=3")
    await made.admit_names("a", of_sessions("1", "2", "3", "4"))
    assert await refused(made.admit_names, "a", of_sessions("5")) is not None


async def test_tenants_by_their_header_and_by_their_spans() -> None:
    sets = ("processor.tenant.keys=['header:x-team']", "processor.rate_limits={per: tenant, requests: 1, sessions: 1}")
    made = limits(Clock(), *sets)
    await made.admit("one host", {"x-team": "a"}, 1)
    await made.admit("one host", {"x-team": "b"}, 1)
    assert await refused(made.admit, "another host", {"x-team": "a"}, 1) is not None
    await made.admit_names("one host", of_sessions("1", tenant="a"))
    await made.admit_names("one host", of_sessions("2", tenant="b"))
    assert await refused(made.admit_names, "one host", of_sessions("2", tenant="a")) is not None


def test_how_many_are_told_apart_is_bounded() -> None:
    minutes = Minutes(load(None, ["processor.rate_limits.requests=1"]).processor.rate_limits)
    for number in range(10_000):
        minutes.take(Taken(f"host {number}", 1))
    assert len(minutes) < 5_000


async def test_several_processes_count_together() -> None:
    """Each worker asks the one process that counts, by bytes."""
    sets = ("processor.rate_limits={requests: 3, sessions: 3}",)
    settings = load(None, sets).processor.rate_limits
    minutes = Minutes(settings, Clock())

    async def count(taken: bytes) -> bytes:
        return minutes.take_packed(taken)

    workers = [RateLimits(settings, lambda _: b"", Minutes(settings), count) for _ in range(2)]
    for worker in (*workers, workers[0]):
        await worker.admit("a", {}, 1)
    for worker in workers:
        beyond = await refused(worker.admit, "a", {}, 1)
        assert beyond is not None
        assert (beyond.limit, beyond.seconds) == ("requests", 60.0)
    await workers[0].admit_names("a", of_sessions("1", "2"))
    beyond = await refused(workers[1].admit_names, "a", of_sessions("3", "4"))
    assert beyond is not None
    assert beyond.limit == "sessions"


@pytest.mark.parametrize("limit", ["requests", "bytes", "sessions", "models"])
def test_each_limit_switches_it_on(limit: str) -> None:
    assert make_rate_limits(load(None, [f"processor.rate_limits.{limit}=1"]).processor) is not None
