"""What integration tests stand on; `tests/conftest.py` leaves out those whose part is not on this machine."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from page_tabs import PATIENCE_MS
from real_parts import Loop, Tempo
from tests.capture.model_server import ModelServer
from tools import parts
from tools.programs import Program


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
def coding_agents() -> dict[str, Path]:
    """Where Claude Code, Codex, Gemini CLI and Qwen Code are on this machine."""
    return {name: parts.obtain(name) for name in ("claude", "codex", "gemini", "qwen")}


@pytest.fixture(scope="session")
def component_collector() -> None:
    """A Collector with the component in it is on this machine."""
    parts.obtain("otelcol-spanledger")


@pytest.fixture(scope="session")
def helm() -> None:
    """Helm is on this machine."""
    parts.obtain("helm")


@pytest.fixture(scope="session")
def prometheus_program() -> None:
    """Prometheus is on this machine."""
    parts.obtain("prometheus")


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Where a Chromium is on this machine."""
    return parts.obtain("chromium")


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    """A Chromium without any tab."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def promtool_program() -> None:
    """Prometheus' tool for rules is on this machine."""
    parts.obtain("promtool")


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A model server that writes down what it bills."""
    server = ModelServer()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


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
    """Collector and Spanledger, with an empty ledger for each module, and a budget that nothing uses up."""
    budget = "processor.budgets=[{name: all, amount: 100, period: month}]"
    with Loop(tmp_path_factory.mktemp("loop"), tempo.otlp, [budget]) as loop:
        yield loop
