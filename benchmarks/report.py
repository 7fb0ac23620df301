"""The table in benchmarks/README.md: medians, and Spanledger's CPU as a ratio to each other system's."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from benchmarks.systems import SPANLEDGER

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


class Figures(Protocol):
    """Medians of one system under one load."""

    @property
    def spans_per_second(self) -> float: ...

    @property
    def cpu_us(self) -> float: ...

    @property
    def memory_mib(self) -> float: ...


def name(load: tuple[str, int]) -> str:
    """Return what a load is called in tables."""
    what = {"recorded": "as recorded", "prompts": "100 %, prompts of 30 KB"}.get(load[0], f"{load[0]} %")
    return f"{what}, {load[1]} a request"


def table(medians: Mapping[tuple[str, int], Mapping[str, Figures]], rounds: int, seconds: float, python: str) -> str:
    """Markdown: one row a load and system."""
    lines = [
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {_machine()}, {python}; "
        f"median of {rounds} interleaved rounds of {seconds:g} s.",
        "",
        "| GenAI spans | system | CPU a span | Spanledger's CPU to it | spans/s, all on this machine | resident |",
        "|---|---|---|---|---|---|",
    ]
    for load, systems in medians.items():
        own = systems[SPANLEDGER].cpu_us
        for system, figures in systems.items():
            ratio = "" if system == SPANLEDGER else f"{own / figures.cpu_us:.2f}"
            lines.append(
                f"| {name(load)} | {system} | {figures.cpu_us:.1f} us | {ratio} | "
                f"{figures.spans_per_second:,.0f} | {figures.memory_mib:.0f} MiB |"
            )
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    """Put the table between its marks in the README."""
    before, _, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


def _machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else "unknown processor"
    return f"{os.cpu_count()} cores ({model}), Linux {os.uname().release}"
