"""What is measured: each system as a process that takes OTLP/gRPC on a port of its own and sends to the sink."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tools import parts
from tools.programs import Program, eventually, free_port, listens, substituted

HERE = Path(__file__).parent
_FOLDERS = (*(parts.ROOT / part for part in ("processor", "exporters", "sidecar", ".")), sysconfig.get_path("purelib"))
_OF_THIS_TREE = os.pathsep.join(map(str, _FOLDERS))
"""Where Python finds what is measured: beside this file, whatever is installed; and the libraries, whichever Python."""
IN, OUT = "127.0.0.1:5317", "127.0.0.1:5999"
"""How the shipped files name the two ports."""

_PROFILED = "--enable-optimizations"
"""How Python is configured to be built with a profile."""


@cache
def interpreter() -> str:
    """Return the path of the Python that runs what is measured: one built with profile and link-time optimization, as
    the image's is, if this machine has one of this version. That of a distribution is, whether it says so or not.
    """
    if _PROFILED in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return sys.executable
    distributed = f"/usr/bin/python3.{sys.version_info.minor}"
    return distributed if Path(distributed).exists() else sys.executable


def python_version() -> str:
    """Return what is to be known of that Python."""
    asked = [interpreter(), "-c", "import platform; print(platform.python_version())"]
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    optimized = interpreter() != sys.executable or _PROFILED in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"Python {version}, built {'with' if optimized else 'without'} profile and link-time optimization"


SPANLEDGER = "Spanledger"
WORKERS = "Spanledger, two workers"
PROXY = "a proxy, same stack"
PASSING = "Collector, passing on"
PRICING = "Collector, pricing by OTTL"
PRICING_RECORDED = "Collector, pricing the recordings by OTTL"
LOOP = "Collector with Spanledger in its loop"
COMPONENT = "Collector with the component, and Spanledger"


class System:
    """One of the systems under test, or the sink: one process, or several that are started in order."""

    def __init__(self, name: str, folder: Path, port: int, *commands: list[str]) -> None:
        self.name, self.port = name, port
        environment = {"PYTHONPATH": _OF_THIS_TREE}
        self._programs = [
            Program(f"{name} {number}", command, folder, lambda: None, environment)
            for number, command in enumerate(commands)
        ]

    def start(self) -> None:
        """Start its processes, and wait until the last one listens."""
        for program in self._programs:
            program.start()
        eventually(lambda: listens(self.port))

    def stop(self) -> None:
        """Stop its processes, the first one last."""
        for program in reversed(self._programs):
            program.stop()

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far."""
        return sum(program.cpu_seconds() for program in self._programs)

    def memory_mib(self) -> float:
        """Resident memory of all its processes."""
        return sum(program.memory_mib() for program in self._programs)

    def log(self) -> str:
        """The last lines that its processes wrote."""
        return "\n".join(program.log() for program in self._programs)


def sink(folder: Path) -> System:
    """Where everything ends."""
    port = free_port()
    return System("sink", folder, port, [sys.executable, "-m", "benchmarks.passing", "sink", str(port)])


def systems(folder: Path, to: int, *, recorded: bool) -> list[System]:
    """All that are compared, sending to the port `to`; with a Collector more for what was `recorded`."""
    passing, pricing, proxy = free_port(), free_port(), free_port()
    return [
        _spanledger(SPANLEDGER, folder / "alone", to),
        _spanledger(WORKERS, folder / "workers", to, "--workers", "2"),
        System(PROXY, folder, proxy, [interpreter(), "-m", "benchmarks.passing", "proxy", str(proxy), str(to)]),
        System(PASSING, folder, passing, _collector(folder, "collector-passing.yaml", passing, to)),
        System(PRICING, folder, pricing, _collector(folder, "collector-pricing.yaml", pricing, to)),
        *([_pricing_recorded(folder, to)] if recorded else []),
        _loop(folder / "loop", to),
        _component(folder / "component", to),
    ]


def _spanledger(name: str, folder: Path, to: int, *options: str) -> System:
    port = free_port()
    serve = _serve(folder, "spanledger.yaml", {IN: _at(port), OUT: _at(to)})
    return System(name, folder, port, [*serve, *options])


def _pricing_recorded(folder: Path, to: int) -> System:
    port = free_port()
    return System(PRICING_RECORDED, folder, port, _collector(folder, "collector-pricing-recorded.yaml", port, to))


def _loop(folder: Path, to: int) -> System:
    port, returned, asked = free_port(), free_port(), free_port()
    ports = {"127.0.0.1:6317": _at(returned), "127.0.0.1:7317": _at(asked)}
    serve = _serve(folder, "spanledger.yaml", {IN: _at(asked), OUT: _at(returned)})
    return System(LOOP, folder, port, serve, _collector(folder, "collector-loop.yaml", port, to, ports))


def _component(folder: Path, to: int) -> System:
    port, socket = free_port(), {"SOCKET": str(folder / "s")}
    collector = _collector(folder, "collector-component.yaml", port, to, socket, "otelcol-spanledger")
    return System(COMPONENT, folder, port, _serve(folder, "enricher.yaml", socket), collector)


def _serve(folder: Path, name: str, substitutes: Mapping[str, str]) -> list[str]:
    config = _config(folder, name, {**substitutes, "127.0.0.1:4320": _at(free_port())})
    return [interpreter(), "-m", "spanledger_processor.cli", "serve", "--config", str(config)]


def _collector(
    folder: Path, name: str, port: int, to: int, more: Mapping[str, str] | None = None, part: str = "otelcol"
) -> list[str]:
    config = _config(folder, name, {IN: _at(port), OUT: _at(to), **(more or {})})
    return [str(parts.obtain(part)), f"--config={config}"]


def _config(folder: Path, name: str, substitutes: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(substituted((HERE / name).read_text(), substitutes))
    return path


def _at(port: int) -> str:
    return f"127.0.0.1:{port}"
