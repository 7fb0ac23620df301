"""Names come from the network: none of them may stay, cost a connection, or push the known ones out for good."""

from __future__ import annotations

import gc
import socket
import threading
import tracemalloc
from datetime import UTC, datetime

import pytest
from genai_prices import data_snapshot

from spanledger_processor.model import Call, Usage
from spanledger_processor.pricing import Pricer

AT = int(datetime(2026, 11, 3, 12, tzinfo=UTC).timestamp()) * 10**9
USAGE = Usage(1000, 100, 0, 0, 0, 0)


def ask(pricer: Pricer, start: int, stop: int) -> None:
    for number in range(start, stop):
        model = ("nobody-knows-", "claude-sonnet-4-5-", "llama/", "x" * 600)[number % 4] + str(number)
        provider = ("", "anthropic", f"never-heard-of-{number}")[number % 3]
        pricer.cost(Call("otel", "llm", provider=provider, request_model=model, usage=USAGE), AT + number * 10**12)


def test_memory_does_not_grow_with_the_names_that_are_asked_for() -> None:
    pricer = Pricer(cards=256)
    ask(pricer, 0, 1_000)
    gc.collect()
    tracemalloc.start()
    try:
        ask(pricer, 1_000, 2_500)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        ask(pricer, 2_500, 6_500)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 40_000  # ten bytes a name


def test_nothing_is_put_into_the_unbounded_caches_of_genai_prices() -> None:
    snapshot = data_snapshot.get_snapshot()
    caches = (snapshot._lookup_cache, snapshot._provider_cache, snapshot._provider_misses)
    before = [len(cache) for cache in caches]
    ask(Pricer(), 0, 500)
    assert [len(cache) for cache in caches] == before


def test_at_most_the_given_number_of_names_is_kept_and_no_long_ones() -> None:
    pricer = Pricer(cards=16)
    ask(pricer, 0, 200)
    assert pricer._resolve.cache_info().currsize == 16
    fresh = Pricer()
    fresh.cost(Call("otel", "llm", request_model="gpt-4o" + "x" * 1000, usage=USAGE), AT)
    fresh.cost(Call("otel", "llm", request_model="gpt-4o", provider="x" * 1000, usage=USAGE), AT)
    fresh.cost(Call("otel", "llm", request_model="gpt-4o", usage=USAGE, price_context=(("k", "v" * 1000),)), AT)
    assert fresh._resolve.cache_info().currsize == 0


def test_unknown_names_are_remembered_too() -> None:
    pricer = Pricer()
    for _ in range(3):
        pricer.cost(Call("otel", "llm", request_model="my-llama", usage=USAGE), AT)
    assert pricer._resolve.cache_info().misses == 1


def test_no_connection_and_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("pricing opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    threads = threading.active_count()
    ask(Pricer(), 0, 50)
    assert threading.active_count() == threads
