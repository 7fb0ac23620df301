"""What one sender, or one tenant, may send in a minute (config `processor.rate_limits`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.accounting.grouping import Named
from spanledger_processor.config import load
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.server.rate_limits import RateLimitedError, RateLimits
from spanledger_processor.server.wiring import make_rate_limits, make_tenant_of


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def limits(clock: Clock, *sets: str) -> RateLimits:
    processor = load(None, sets).processor
    return RateLimits(processor.rate_limits, make_tenant_of(processor).by_headers, clock)


def refused(work: Callable[..., None], *arguments: Any) -> RateLimitedError | None:
    try:
        work(*arguments)
    except RateLimitedError as error:
        return error
    return None


def of_sessions(*sessions: str, tenant: str = "") -> list[Batch]:
    facts = [Fact(b"t" * 16, b"s" * 8, session=Named(session, "attribute")) for session in sessions]
    return [Batch(tenant_hash(tenant), facts, 0)]


def test_off_by_default() -> None:
    assert make_rate_limits(load(None).processor) is None


def test_one_sender_waits_for_its_minute_and_others_do_not() -> None:
    clock = Clock()
    made = limits(clock, "processor.rate_limits.requests=2")
    for sender in ("a", "a", "b"):
        made.admit(sender, {}, 10)
    clock.now += 40
    beyond = refused(made.admit, "a", {}, 10)
    assert beyond is not None
    assert (beyond.limit, beyond.seconds) == ("requests", 20.0)
    assert refused(made.admit, "b", {}, 10) is None
    clock.now += 20
    assert refused(made.admit, "a", {}, 10) is None


def test_a_host_is_one_sender_by_both_protocols() -> None:
    made = limits(Clock(), "processor.rate_limits.requests=1")
    for by_grpc, by_http in (("ipv4:10.0.0.1", "10.0.0.1"), ("ipv6:%5B::1%5D", "::1")):
        made.admit(by_grpc, {}, 1)
        assert refused(made.admit, by_http, {}, 1) is not None


def test_bytes_and_what_the_first_request_of_a_minute_may_be() -> None:
    made = limits(Clock(), "processor.rate_limits.bytes=100")
    made.admit("a", {}, 1000)
    assert refused(made.admit, "a", {}, 1) is not None
    made.admit("b", {}, 60)
    made.admit("b", {}, 40)
    assert refused(made.admit, "b", {}, 1) is not None


def test_what_the_process_itself_sends_is_not_limited() -> None:
    made = limits(Clock(), "processor.rate_limits.requests=1")
    for _ in range(3):
        made.admit("", {}, 10)


def test_sessions_that_are_known_count_once_and_a_refused_request_counts_nothing() -> None:
    made = limits(Clock(), "processor.rate_limits.sessions=3")
    made.admit_names("a", of_sessions("1", "2"))
    assert refused(made.admit_names, "a", of_sessions("3", "4")) is not None
    made.admit_names("a", of_sessions("1", "2", "3"))
    assert refused(made.admit_names, "a", of_sessions("4")) is not None
    made.admit_names("b", of_sessions("4"))


def test_tenants_by_their_header_and_by_their_spans() -> None:
    sets = ("processor.tenant.keys=['header:x-team']", "processor.rate_limits={per: tenant, requests: 1, sessions: 1}")
    made = limits(Clock(), *sets)
    made.admit("one host", {"x-team": "a"}, 1)
    made.admit("one host", {"x-team": "b"}, 1)
    assert refused(made.admit, "another host", {"x-team": "a"}, 1) is not None
    made.admit_names("one host", of_sessions("1", tenant="a"))
    made.admit_names("one host", of_sessions("2", tenant="b"))
    assert refused(made.admit_names, "one host", of_sessions("2", tenant="a")) is not None


def test_how_many_are_told_apart_is_bounded() -> None:
    made = limits(Clock(), "processor.rate_limits.requests=1")
    for number in range(10_000):
        made.admit(f"host {number}", {}, 1)
    assert len(made._minutes) < 5_000


@pytest.mark.parametrize("limit", ["requests", "bytes", "sessions", "models"])
def test_each_limit_switches_it_on(limit: str) -> None:
    assert make_rate_limits(load(None, [f"processor.rate_limits.{limit}=1"]).processor) is not None
