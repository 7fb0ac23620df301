"""Measure Spanledger beside what it is compared with, and write benchmarks/README.md: `make bench`.

Every system gets the same load in turn, several rounds over; medians are reported, because machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from benchmarks import report
from benchmarks.systems import System, python_version, sink, systems

Load: TypeAlias = tuple[str, int]

WARM_UP = 2.0
"""Seconds of load before the first round: caches, connections, compiled rate cards."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one system: spans a second, CPU microseconds a span (all threads, user and system), MiB resident."""

    spans_per_second: float
    cpu_us: float
    memory_mib: float


LOADS: tuple[Load, ...] = (
    ("0", 512),
    ("10", 512),
    ("100", 512),
    ("100", 10),
    ("prompts", 10),
    ("recorded", 50),
    ("recorded", 10),
)
"""Percentage of GenAI spans, calls with prompts or the recordings of agents, and spans a request."""


def measure(load: Load, rounds: int, seconds: float) -> dict[str, Sample]:
    """The median sample of each system under a load."""
    samples: dict[str, list[Sample]] = {}
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder:
        end = sink(Path(folder))
        running = [end]
        try:
            end.start()
            measured = systems(Path(folder), end.port, recorded=load[0] == "recorded")
            for system in measured:
                running.append(system)
                system.start()
            used = {system.name: _load(system, load, WARM_UP, 0)["next"] for system in measured}
            for number in range(rounds):
                for system in measured:
                    sample, used[system.name] = _round(system, load, seconds, int(used[system.name]))
                    samples.setdefault(system.name, []).append(sample)
                    print(f"{report.name(load)}, round {number + 1}: {system.name:28} {sample}", file=sys.stderr)
        finally:
            for system in running:
                system.stop()
    return {name: _median(of_one) for name, of_one in samples.items()}


def _round(system: System, load: Load, seconds: float, first: int) -> tuple[Sample, float]:
    before = system.cpu_seconds()
    result = _load(system, load, seconds, first)
    cpu = system.cpu_seconds() - before
    if result["failed"]:
        raise RuntimeError(f"{system.name} refused {result['failed']:.0f} spans; its log:\n{system.log()}")
    spans = result["spans"]
    return Sample(spans / result["seconds"], cpu / spans * 1e6, system.memory_mib()), result["next"]


def _load(system: System, load: Load, seconds: float, first: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", str(system.port), load[0], str(load[1])]
    command += [str(seconds), str(first)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 120)
    result: dict[str, float] = json.loads(told.stdout)
    return result


def _median(samples: list[Sample]) -> Sample:
    return Sample(
        statistics.median(sample.spans_per_second for sample in samples),
        statistics.median(sample.cpu_us for sample in samples),
        statistics.median(sample.memory_mib for sample in samples),
    )


def main() -> None:
    """Measure, and write the table."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5, help="rounds of each system")
    arguments.add_argument("--seconds", type=float, default=6.0, help="seconds of load a round")
    names = [f"{load}/{spans}" for load, spans in LOADS]
    arguments.add_argument("--loads", nargs="+", default=names, choices=names, help="GenAI spans / spans a request")
    arguments.add_argument("--print", action="store_true", help="print the table only; leave the README as it is")
    chosen = arguments.parse_args()
    loads = [load for load, name in zip(LOADS, names, strict=True) if name in chosen.loads]
    medians = {load: measure(load, chosen.rounds, chosen.seconds) for load in loads}
    text = report.table(medians, chosen.rounds, chosen.seconds, python_version())
    print(text)
    if not chosen.print:
        report.write(text)


if __name__ == "__main__":
    main()
