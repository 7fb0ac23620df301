"""What integration tests stand on. Tests of a part that is not on this machine do not run, and one line says so."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from real_parts import Loop, Tempo
from tools import parts
from tools.programs import Program

NOT_RUN = pytest.StashKey[int]()
NEEDED_BY = {"otelcol": "otelcol", "tempo": "tempo", "prometheus": "prometheus_program"}
"""Parts, and the fixtures that need them."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what lacks a part; in CI it stays, and fails."""
    if os.environ.get("CI") == "true" or not any(item.get_closest_marker("integration") for item in items):
        return
    lacking = {NEEDED_BY[name] for name in parts.PARTS if parts.find(name) is None}
    left_out = [item for item in items if lacking & set(getattr(item, "fixturenames", ()))]
    if left_out:
        config.stash[NOT_RUN] = len(left_out)
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in one line what to do."""
    if count := config.stash.get(NOT_RUN, 0):
        terminalreporter.write_line(
            f"{count} integration tests did not run: `make parts` finds or builds what they need"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show what the programs wrote beside a failure."""
    report: Any = yield
    if report.failed:
        report.sections += [(f"log of {name}", program.log()) for name, program in Program.running.items()]
    return report


@pytest.fixture(scope="session")
def otelcol() -> None:
    """The Collector is on this machine."""
    parts.obtain("otelcol")


@pytest.fixture(scope="session")
def prometheus_program() -> None:
    """Prometheus is on this machine."""
    parts.obtain("prometheus")


@pytest.fixture(scope="session")
def tempo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tempo]:
    """One Tempo for all tests: it takes long to start, and every replay has a label of its own."""
    tempo = Tempo(tmp_path_factory.mktemp("tempo"))
    try:
        tempo.program.start()
        yield tempo
    finally:
        tempo.program.kill()  # asked to stop, it takes longer than that needs


@pytest.fixture(scope="module")
def loop(otelcol: None, tempo: Tempo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Collector and Spanledger, with an empty ledger for each module."""
    with Loop(tmp_path_factory.mktemp("loop"), tempo.otlp) as loop:
        yield loop
