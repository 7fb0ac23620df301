"""Every block of docs/libraries.md as it stands there, in its own environment, against a scripted model server."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from backend import Backend
from captures import Capture
from real_parts import ROOT
from served import Served
from tests.capture.model_server import ModelServer
from tools import parts

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.xdist_group("libraries")]

AS_OF = "2026-11-28"
"""What the registries have had by then, so that a release of today breaks no test of ours."""
UV = Path(sys.executable).with_name("uv")
INSTALLED = ".installed"
"""A file in an environment to which nothing is missing."""
NAMED_BY_ITSELF = ("pydantic-ai", "Google ADK")


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page and its blocks: language and text."""

    title: str
    blocks: tuple[tuple[str, str], ...]

    def of(self, language: str) -> list[str]:
        return [text for found, text in self.blocks if found == language]

    @property
    def shell(self) -> str:
        return "".join(self.of("sh"))

    @property
    def exports(self) -> dict[str, str]:
        return dict(re.findall(r"^export (\w+)=(\S+)", self.shell, re.MULTILINE))

    def packages(self, installer: str) -> list[str]:
        lines = re.findall(rf"^{installer} install (.+)$", self.shell, re.MULTILINE)
        return [package for line in lines for package in shlex.split(line)]


def _sections() -> list[Section]:
    page = (ROOT / "docs/libraries.md").read_text()
    return [
        Section(text.partition("\n")[0], tuple(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)))
        for text in page.split("\n## ")[1:]
    ]


ONCE, *LIBRARIES, NAMES = _sections()
RUNNABLE = [section for section in LIBRARIES if section.of("python") or section.of("js")]


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

    def install(environment: Path) -> None:
        _program([str(UV), "venv", "--quiet", str(environment)], folder, dict(os.environ))
        python = ("--python", str(environment / "bin/python"))
        command = [str(UV), "pip", "install", "--quiet", "--exclude-newer", AS_OF, *python]
        _program([*command, *packages], folder, dict(os.environ))

    packages = [*ONCE.packages("pip"), *section.packages("pip")]
    place = folder / "python"
    if not place.exists():
        _link(_kept("python", [sys.version, *packages], install), place)
        (place / "tracing.py").write_text("".join(ONCE.of("python")))
    return place


def _node(section: Section, folder: Path) -> Path:
    """Return a folder with the packages: Node looks for them beside the script."""

    def install(environment: Path) -> None:
        environment.mkdir()
        quiet = ("--no-audit", "--no-fund", "--loglevel=error", "--legacy-peer-deps", f"--before={AS_OF}")
        _program(["npm", "install", *quiet, *packages], environment, dict(os.environ))

    packages = section.packages("npm")
    _link(_kept("node", packages, install), folder / "node")
    return folder / "node"


def _kept(kind: str, packages: Sequence[str], install: Callable[[Path], None]) -> Path:
    """Return a folder with `packages` as of that day, which are installed once and stay for the next runs."""
    digest = blake2b("\0".join((AS_OF, *packages)).encode(), digest_size=6).hexdigest()
    folder = parts.CACHE / "libraries" / f"{kind}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / INSTALLED).exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            (folder / INSTALLED).touch()
    return folder


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
