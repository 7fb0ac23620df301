"""What `serve` does to the interpreter that it runs in."""

from __future__ import annotations

import gc

import pytest

from spanledger_processor.cli import serve


def test_the_full_collection_waits_for_a_large_request_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """One looks at every object there is: a quarter of a second for a request of 100,000 spans."""
    runs: list[None] = []
    monkeypatch.setattr(gc, "collect", lambda: runs.append(None))
    monkeypatch.setattr(gc, "get_objects", lambda: range(serve._MANY_OBJECTS + 1))
    postponed = 0
    for _ in range(serve._MOST_POSTPONED):
        postponed = serve.collect_or_postpone(postponed)
    assert (postponed, runs) == (serve._MOST_POSTPONED, [])
    assert (serve.collect_or_postpone(postponed), len(runs)) == (0, 1)
    monkeypatch.setattr(gc, "get_objects", lambda: range(serve._MANY_OBJECTS))
    assert (serve.collect_or_postpone(0), len(runs)) == (0, 2)
