"""Tests spread over processes: which belong together, and what did not run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from backend import Backend
from served import Served
from tools import parts

NO_WALL_TIME: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
"""Settings of Hypothesis under which no test fails because the machine is slow."""
settings.register_profile("no wall time", **NO_WALL_TIME)
settings.register_profile("audit", max_examples=5_000, derandomize=False, print_blob=True, **NO_WALL_TIME)
settings.load_profile("no wall time")

LONG = (
    *("tests/integration/", "tests/faults/", "tests/simulation/", "tests/sidecar/", "tests/server/"),
    *("tests/corpus/", "tests/receivers/", "tests/repository/test_tools.py", "tests/ledger/test_full.py"),
)
"""Run first, in this order: a module of these that began last would be waited for alone."""
APART = ("tests/simulation/", "tests/sidecar/test_histories.py", "tests/sidecar/test_kills.py")
"""Tests here take long each and share nothing: they go to whichever process is free."""
NEEDED_BY = {
    "otelcol": "otelcol",
    "otelcol-spanledger": "component_collector",
    "helm": "helm",
    "tempo": "tempo",
    "prometheus": "prometheus_program",
    "promtool": "promtool_program",
    "chromium": "chromium",
    **dict.fromkeys(("claude", "codex", "gemini", "qwen"), "coding_agents"),
}
"""Parts, and the fixtures that need them."""
LONGEST_NAME = 60
"""Characters of a parameter that stand in a test's name."""
NOT_RUN = pytest.StashKey[int]()


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    """What the server of a module sends to."""
    with Backend() as backend:
        yield backend


@pytest.fixture(scope="module")
def served(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`spanledger serve` with its defaults, which the tests of a module share."""
    with Served(tmp_path_factory.mktemp("served"), backend.port) as served:
        yield served


@pytest.fixture
def own_backend() -> Iterator[Backend]:
    """A destination for one test."""
    with Backend() as backend:
        yield backend


@pytest.fixture
def now_ns(monkeypatch: pytest.MonkeyPatch) -> int:
    """The time, which stands still in this process from here on: no day, week or month begins while a test counts."""
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    return now


def pytest_configure() -> None:
    """Take SIGINT where a run was started in the background, which ignores it: programs that tests start would, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Cut long parameters: names of a mebibyte are sent by each process, and written by each report."""
    if isinstance(val, str | bytes) and len(val) > LONGEST_NAME:
        return f"{val[:LONGEST_NAME]!a} of {len(val)}"
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores: those that wait for a program leave theirs idle."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep a module's tests in one process: they share servers, and recordings that were read.

    Two Tempos do not run beside each other: they share a port for gossip.
    """
    if not item.nodeid.startswith(APART) and item.get_closest_marker("xdist_group") is None:
        tempo = "tempo" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("tempo" if tempo else item.nodeid.partition("::")[0]))


def _turn(item: pytest.Item) -> tuple[int, bool]:
    """Return a test's place in the order of running: the longest group, which waits for Tempo, begins first."""
    place = next((number for number, room in enumerate(LONG) if item.nodeid.startswith(room)), len(LONG))
    return place, "tempo" not in getattr(item, "fixturenames", ())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest first; deselect what lacks a part; in CI that stays, and fails."""
    items.sort(key=_turn)
    if os.environ.get("CI") == "true" or not any(item.get_closest_marker("integration") for item in items):
        return
    lacking = {NEEDED_BY[name] for name in parts.PARTS if parts.find(name) is None}
    left_out = [item for item in items if lacking & set(getattr(item, "fixturenames", ()))]
    if left_out:
        config.stash[NOT_RUN] = len(left_out)
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape what no UTF-8 holds, such as half a surrogate pair in a log: a worker that sends it ends."""
    report = yield
    return report if report["outcome"] == "passed" and not report["sections"] else _encodable(report)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_encodable, value))
    return value


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that writes the summary how many tests were left out."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["not_run"] = session.config.stash.get(NOT_RUN, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker process left out: each of them collects all tests."""
    node.config.stash[NOT_RUN] = getattr(node, "workeroutput", {}).get("not_run", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in one line what to do."""
    if count := config.stash.get(NOT_RUN, 0):
        terminalreporter.write_line(
            f"{count} integration tests did not run: `make parts` finds or builds what they need"
        )
