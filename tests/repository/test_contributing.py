"""What CONTRIBUTING.md says that an addition touches is there, and is all that it takes: with made-up ones, in a copy.

A made-up dialect is in `tests/dialects/test_made_up_dialect.py`, a usage class in `tests/model/test_one_more_class.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from changed_copies import Change, run_changed
from tools.parts import ROOT

TABLE = (ROOT / "CONTRIBUTING.md").read_text().partition("| add | touch |")[2].partition("\n\n")[0]
ROWS = dict(re.findall(r"^\| (?:an? )?([^|]+?) \| (.+) \|$", TABLE, re.MULTILINE))

PROCESSOR, EXPORTERS = "processor/spanledger_processor", "exporters/spanledger_exporters"
EXPORTER = """
from spanledger_exporters.interface import ACCEPTED


class Acme:
    def __init__(self, name, settings, *observers):
        self.name, self.required, self.signals = name, settings.required, settings.takes

    def address(self, _):
        return "acme"

    async def start(self):
        pass

    async def send(self, signal, body, deadline):
        print(f"{signal}: {len(body)} bytes")
        return ACCEPTED

    async def close(self):
        pass
"""
SETTINGS = """class AcmeSettings(ExporterSettings):
    exporter = ("acme", "Acme")


"""
SEND = """
import asyncio
from pathlib import Path
from spanledger_exporters import build
from spanledger_processor.config import load
from spanledger_processor.config.document import document

(name, settings), = load(Path("acme.yaml")).exporters.items()
exporter = build(name, settings)
print("acme" in document(), asyncio.run(exporter.send("traces", b"12345", 9.0)).verdict.value)
"""
COMMAND = '''
"""A made-up command."""

import click


@click.command()
def acme() -> None:
    """Show what is made up."""
    click.echo("made up")
'''
COMMANDS_ROW = '    "acme": ("spanledger_processor.cli.acme", ""),\n'
METRIC = '    _counter("acme_total", "reason", "Made up.", reasons=("none",)),\n'
COUNT = """
from spanledger_processor.telemetry.registry import Registry
from spanledger_processor.telemetry.table import TABLE, document

registry = Registry(TABLE)
registry.count("acme_total", "none")
series = [line for line in registry.scrape().decode().splitlines() if "acme_total{" in line]
print("acme_total" in document(), *series)
"""


def _places() -> Iterator[tuple[str, str, str]]:
    """What is added, a name in code that its row says is touched, and the files that the row names."""
    for added, touched in ROWS.items():
        quoted = re.findall(r"`([^`]+)`", touched)
        files = " ".join(name for name in quoted if name.endswith(".py"))
        names = [name for name in quoted if re.fullmatch(r"_?[A-Za-z]+(_[a-z]+)*", name)]
        yield from ((added, name, files) for name in names if name != "otlp")


def test_every_addition_has_a_row() -> None:
    assert {"dialect", "token class", "destination", "source of usage files", "metric", "command"} <= set(ROWS)


@pytest.mark.parametrize(("added", "name", "files"), [*_places()])
def test_what_a_row_names_is_defined_in_its_files(added: str, name: str, files: str) -> None:
    defined = re.compile(rf"^(class {name}\b|def {name}\b|{name}\b.* = )", re.MULTILINE)
    assert any(defined.search((ROOT / file).read_text()) for file in files.split()), f"{added}: {name}"


def test_rows_name_places() -> None:
    names = {name for _, name, _ in _places()}
    assert names >= {"Usage", "TYPES", "SourceName", "SOURCES", "_source", "SidecarSources", "COMMANDS"}


def test_a_made_up_destination(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text("exporters: {acme: {}}\n")
    row = '        "debug": DebugSettings,\n'
    files: dict[str, Change] = {
        f"{EXPORTERS}/acme.py": EXPORTER,
        f"{EXPORTERS}/settings.py": {
            '        description="basic: one line a request; normal: one line a span, log record or metric; "\n'
            '        "detailed: its attributes too, of those only the ones that cannot hold content.",\n'
            "    )\n\n\n": SETTINGS,
            row: row.replace("debug", "acme").replace("Debug", "Acme"),
        },
    }
    assert run_changed(tmp_path, files, "-c", SEND) == "traces: 5 bytes\nTrue accepted\n"


def test_a_made_up_metric(tmp_path: Path) -> None:
    files = {f"{PROCESSOR}/telemetry/table.py": {"TABLE: tuple[MetricRow, ...] = (\n": METRIC}}
    printed = run_changed(tmp_path, files, "-c", COUNT)
    assert printed == 'True spanledger_acme_total{reason="none"} 1.0\n'


def test_a_made_up_command(tmp_path: Path) -> None:
    files: dict[str, Change] = {
        f"{PROCESSOR}/cli/acme.py": COMMAND,
        f"{PROCESSOR}/cli/__init__.py": {"COMMANDS: Final[Mapping[str, tuple[str, str]]] = {\n": COMMANDS_ROW},
    }
    assert run_changed(tmp_path, files, "-m", "spanledger_processor.cli", "acme") == "made up\n"
