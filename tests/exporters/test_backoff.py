"""The schedule of retries: the Collector's `retry_on_failure`, bounded by the sender's deadline."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger_exporters.settings import RetrySettings
from spanledger_exporters.wrappers import Backoff, waits


def retry(**given: Any) -> RetrySettings:
    return RetrySettings.model_validate(given)


def middle() -> float:
    return 0.5


def test_the_waits_of_the_collectors_defaults() -> None:
    """5 s, each 1.5 times the one before, none over 30 s; in the middle of their spread."""
    first = list(islice(waits(retry(), middle), 7))
    assert first == pytest.approx([5, 7.5, 11.25, 16.875, 25.3125, 30, 30])


@given(chance=st.floats(0, 1, exclude_max=True), factor=st.floats(0, 1))
def test_each_wait_is_spread_by_the_factor_up_and_down(chance: float, factor: float) -> None:
    settings = retry(initial_interval="8s", multiplier=1, randomization_factor=factor)
    (wait,) = islice(waits(settings, lambda: chance), 1)
    assert wait == pytest.approx(8 * (1 - factor) + 16 * factor * chance)


def test_the_first_wait_too_stays_under_the_longest() -> None:
    settings = retry(initial_interval="1m", max_interval="2s", randomization_factor=0)
    assert next(waits(settings, middle)) == 2


@pytest.mark.parametrize(
    ("now", "took", "asked", "expected"),
    [
        pytest.param(100.0, 0.0, None, 4.0, id="waits its turn"),
        pytest.param(100.0, 0.0, 7.0, 7.0, id="waits as long as it was asked to"),
        pytest.param(100.0, 0.0, 1.0, 4.0, id="asked for less than its turn"),
        pytest.param(106.0, 0.0, None, None, id="would begin when the sender has gone"),
        pytest.param(105.9, 0.0, None, 4.0, id="would begin just in time"),
        pytest.param(104.0, 3.0, None, None, id="would not end in time if it took as long as the last"),
        pytest.param(100.0, 0.0, 60.0, None, id="asked to wait for longer than the sender does"),
    ],
)
def test_a_retry_is_made_only_if_it_can_end_before_the_deadline(
    now: float, took: float, asked: float | None, expected: float | None
) -> None:
    schedule = Backoff(retry(initial_interval="4s"), 100.0, 110.0, middle)
    assert schedule.wait(now, took, asked) == expected


def test_no_retry_after_the_longest_time_that_is_configured() -> None:
    schedule = Backoff(retry(initial_interval="4s", max_elapsed_time="9s"), 100.0, 1000.0, middle)
    assert schedule.wait(104.9, 0.0, None) == 4
    assert schedule.wait(105.1, 0.0, None) is None  # its turn comes after 6 s, beyond 109


def test_without_a_longest_time_only_the_deadline_ends_retries() -> None:
    schedule = Backoff(retry(initial_interval="4s", max_elapsed_time="0s"), 0.0, 1_000_000.0, middle)
    assert schedule.wait(999_000.0, 0.0, None) == 4
