"""Every block of docs/libraries.md as it stands there, in its own environment, against a scripted model server."""

from __future__ import annotations

import os
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backend import Backend
from captures import Capture
from served import Served
from tests.capture.model_server import ModelServer
from tools.libraries import LIBRARIES, NAMES, ONCE, RUNNABLE, Section, node_environment, python_environment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.xdist_group("libraries")]

NAMED_BY_ITSELF = ("pydantic-ai", "Google ADK")


def test_all_but_one_can_be_run() -> None:
    assert [section.title for section in LIBRARIES if section not in RUNNABLE] == ["OpenRouter"]
    assert len(RUNNABLE) > 12


@pytest.mark.parametrize("section", RUNNABLE, ids=lambda section: section.title)
def test_the_ledger_is_what_the_model_server_billed(
    section: Section, model: ModelServer, backend: Backend, tmp_path: Path
) -> None:
    with Served(tmp_path / "served", backend.port) as served:
        _run(section, tmp_path, model.url, served)
        _agrees(model, served.answer("/api/v1/summary")["total"])
        (session,) = served.answer("/api/v1/sessions")["sessions"]
        if section.title not in NAMED_BY_ITSELF:
            assert session["id"] == "conversation-1"


@pytest.mark.parametrize("form", ["sh", "python"])
def test_workers_of_a_launcher_are_one_run(form: str, model: ModelServer, backend: Backend, tmp_path: Path) -> None:
    worker = next(section for section in RUNNABLE if section.title == "OpenAI SDK")
    launcher = "".join(NAMES.of(form))
    with Served(tmp_path / "served", backend.port) as served:
        environment = _environment(worker, model.url, served)
        folder = _python(worker, tmp_path)
        (folder / "worker.py").write_text("".join(worker.of("python")))
        (folder / "launch").write_text(launcher)
        environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
        _program(["bash" if form == "sh" else str(folder / "bin/python"), "launch"], folder, environment)
        _agrees(model, served.answer("/api/v1/summary")["total"])
        (run,) = served.answer("/api/v1/runs")["runs"]
        assert run["id"].startswith("nightly-")
        assert run["calls"] == len(model.log) == 2


def _agrees(model: ModelServer, total: dict[str, Any]) -> None:
    calls = Capture("", (), {"calls": model.log}).calls
    assert total["calls"] == len(calls) > 0
    for name in ("input", "output", "cache_read", "cache_write"):
        assert total["tokens"][name] == sum(call.tokens[name] for call in calls)
    assert Decimal(total["cost_usd_exact"]) == sum(round(call.cost, 12) for call in calls)


def _run(section: Section, folder: Path, model: str, served: Served) -> None:
    environment = _environment(section, model, served)
    for text in section.of("python"):
        place = _python(section, folder)
        (place / "app.py").write_text(text)
        _program([str(place / "bin/python"), "app.py"], place, environment)
    for text in section.of("js"):
        place = _node(section, folder)
        (place / "app.mjs").write_text(text)
        _program(["node", "app.mjs"], place, environment)


def _environment(section: Section, model: str, served: Served) -> dict[str, str]:
    """What the page exports, with our ports, and where the model is."""
    exports = {**ONCE.exports, **section.exports}
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(served.config.parent),
        "OPENAI_BASE_URL": f"{model}/v1",
        "OPENAI_API_BASE": f"{model}/v1",
        "ANTHROPIC_BASE_URL": model,
        "GOOGLE_GEMINI_BASE_URL": model,
        **dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"), "none"),
        **{name: value.replace(":4318", f":{served.http}") for name, value in exports.items()},
    }


def _python(section: Section, folder: Path) -> Path:
    """Return a virtual environment with the packages, and the page's `tracing.py` in it."""
    place = folder / "python"
    if not place.exists():
        _link(python_environment(section), place)
        (place / "tracing.py").write_text("".join(ONCE.of("python")))
    return place


def _node(section: Section, folder: Path) -> Path:
    """Return a folder with the packages: Node looks for them beside the script."""
    _link(node_environment(section), folder / "node")
    return folder / "node"


def _link(environment: Path, place: Path) -> None:
    """Make a folder that has what another has, and takes files of its own."""
    place.mkdir()
    for entry in environment.iterdir():
        (place / entry.name).symlink_to(entry)


def _program(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
