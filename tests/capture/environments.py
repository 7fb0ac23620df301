"""Where a scenario runs: a folder of its own with what its first comment requires, of PyPI or of npm."""

from __future__ import annotations

import re
import shutil
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

_OF_PYPI = ("opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-http==1.45.2")
_OF_NPM = (
    "@opentelemetry/api@1.10.0",
    "@opentelemetry/sdk-trace-node@2.12.0",
    "@opentelemetry/exporter-trace-otlp-proto@0.223.1",
)
_REQUIRES = re.compile(r"^requires: (.+)$", re.MULTILINE)
_REQUIRES_NPM = re.compile(r"^ \* requires-npm: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Environment:
    """How a scenario is started, and the packages it runs with, each with its version."""

    command: tuple[str, ...]
    packages: list[str]


def prepare(scenario: Path, folder: Path) -> Environment:
    """Install what `scenario` requires into `folder`; what is there already stays."""
    return _node(scenario, folder) if scenario.suffix == ".mjs" else _python(scenario, folder)


def _python(scenario: Path, folder: Path) -> Environment:
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    requires = [line.strip() for line in _REQUIRES.findall(scenario.read_text())]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *_OF_PYPI, *requires], check=True)
    freeze = [str(python), "-m", "pip", "freeze"]
    frozen = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
    return Environment((str(python), str(scenario)), [line for line in frozen.splitlines() if "==" in line])


def _node(scenario: Path, folder: Path) -> Environment:
    """Node looks for packages beside the script, so the scenario runs from a copy."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
    requires = [*_OF_NPM, *(name for line in _REQUIRES_NPM.findall(scenario.read_text()) for name in line.split())]
    install = ("npm", "install", "--legacy-peer-deps", "--no-audit", "--no-fund", "--loglevel=error")
    subprocess.run([*install, *requires], cwd=folder, check=True)
    for source in (scenario, scenario.parent.parent / "telemetry.mjs"):
        shutil.copy(source, folder)
    return Environment(("node", str(folder / scenario.name)), sorted(requires))
