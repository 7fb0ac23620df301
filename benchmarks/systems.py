"""What is measured: each system as a process that takes OTLP/gRPC on a port of its own and sends to the sink."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tools import parts
from tools.programs import Program, free_port, listens, substituted

HERE = Path(__file__).parent
IN, OUT = "127.0.0.1:5317", "127.0.0.1:5999"
"""How the shipped files name the two ports."""

SPANLEDGER = "Spanledger"
PROXY = "a proxy, same stack"
PASSING = "Collector, passing on"
PRICING = "Collector, pricing by OTTL"


class System:
    """One of the systems under test, or the sink."""

    def __init__(self, name: str, command: list[str], folder: Path, port: int) -> None:
        self.name, self.port = name, port
        self.program = Program(name, command, folder, lambda: listens(port), {"PYTHONPATH": str(parts.ROOT)})


def sink(folder: Path) -> System:
    """Where everything ends."""
    port = free_port()
    return System("sink", [sys.executable, "-m", "benchmarks.passing", "sink", str(port)], folder, port)


def systems(folder: Path, to: int) -> list[System]:
    """All that are compared, sending to the port `to`."""
    ports = {name: free_port() for name in (SPANLEDGER, PROXY, PASSING, PRICING)}
    api = free_port()
    own = _config(folder, "spanledger.yaml", ports[SPANLEDGER], to, {"127.0.0.1:4320": f"127.0.0.1:{api}"})
    commands = {
        SPANLEDGER: [sys.executable, "-m", "spanledger_processor.cli", "serve", "--config", str(own)],
        PROXY: [sys.executable, "-m", "benchmarks.passing", "proxy", str(ports[PROXY]), str(to)],
        PASSING: _collector(_config(folder, "collector-passing.yaml", ports[PASSING], to, {})),
        PRICING: _collector(_config(folder, "collector-pricing.yaml", ports[PRICING], to, {})),
    }
    return [System(name, command, folder, ports[name]) for name, command in commands.items()]


def _collector(config: Path) -> list[str]:
    return [str(parts.obtain("otelcol")), f"--config={config}"]


def _config(folder: Path, name: str, port: int, to: int, more: Mapping[str, str]) -> Path:
    text = (HERE / name).read_text()
    path = folder / name
    path.write_text(substituted(text, {IN: f"127.0.0.1:{port}", OUT: f"127.0.0.1:{to}", **more}))
    return path
