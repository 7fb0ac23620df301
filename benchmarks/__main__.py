"""Measure Spanledger beside what it is compared with, and write benchmarks/README.md: `make bench`.

Every system gets the same load in turn, several rounds over; medians are reported, because machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.systems import System, sink, systems

WARM_UP = 2.0
"""Seconds of load before the first round: caches, connections, compiled rate cards."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one system: spans a second, CPU microseconds a span (all threads, user and system), MiB resident."""

    spans_per_second: float
    cpu_us: float
    memory_mib: float


def measure(percent: int, rounds: int, seconds: float) -> dict[str, Sample]:
    """The median sample of each system under a load with `percent` % GenAI spans."""
    samples: dict[str, list[Sample]] = {}
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder:
        end = sink(Path(folder))
        running = [end]
        try:
            end.program.start()
            measured = systems(Path(folder), end.port)
            for system in measured:
                running.append(system)
                system.program.start()
            used = {system.name: _load(system, percent, WARM_UP, 0)["next"] for system in measured}
            for number in range(rounds):
                for system in measured:
                    sample, used[system.name] = _round(system, percent, seconds, int(used[system.name]))
                    samples.setdefault(system.name, []).append(sample)
                    print(f"{percent:3} % round {number + 1}: {system.name:28} {sample}", file=sys.stderr)
        finally:
            for system in running:
                system.program.stop()
    return {name: _median(of_one) for name, of_one in samples.items()}


def _round(system: System, percent: int, seconds: float, first: int) -> tuple[Sample, float]:
    before = system.program.cpu_seconds()
    result = _load(system, percent, seconds, first)
    cpu = system.program.cpu_seconds() - before
    if result["failed"]:
        raise RuntimeError(f"{system.name} refused {result['failed']:.0f} spans; its log:\n{system.program.log()}")
    spans = result["spans"]
    return Sample(spans / result["seconds"], cpu / spans * 1e6, system.program.memory_mib()), result["next"]


def _load(system: System, percent: int, seconds: float, first: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", str(system.port), str(percent), str(seconds), str(first)]
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
    arguments.add_argument("--percent", type=int, nargs="+", default=[0, 10, 100], help="GenAI spans in the load")
    arguments.add_argument("--print", action="store_true", help="print the table only; leave the README as it is")
    chosen = arguments.parse_args()
    medians = {percent: measure(percent, chosen.rounds, chosen.seconds) for percent in chosen.percent}
    text = report.table(medians, chosen.rounds, chosen.seconds, f"Python {platform.python_version()}")
    print(text)
    if not chosen.print:
        report.write(text)


if __name__ == "__main__":
    main()
