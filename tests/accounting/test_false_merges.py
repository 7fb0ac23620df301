"""Calls that are really different and concurrent are not taken for one another; docs/counting.md has the figures."""

from __future__ import annotations

import pytest

from concurrent_calls import Scenario, false_merges

CALLS, SECONDS = 400, 24
"""A thousand a minute."""


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("equal", services=1, sessions=True, calls=CALLS, seconds=SECONDS),
        Scenario("equal", services=CALLS * 1000, calls=CALLS, seconds=SECONDS),
        Scenario("classifier", services=1, calls=CALLS, seconds=SECONDS),
        Scenario("realistic", services=1, calls=CALLS, seconds=SECONDS),
    ],
    ids=["a session each", "a service each", "one token out", "counts as they are"],
)
def test_different_calls_stay_different(scenario: Scenario) -> None:
    assert false_merges(scenario) == 0


def test_without_anything_to_tell_them_apart_some_are_merged() -> None:
    """The scenario is one in which merging can happen at all: equal counts, one service, no session, no id."""
    assert 0 < false_merges(Scenario("equal", calls=CALLS, seconds=SECONDS)) < CALLS // 4
