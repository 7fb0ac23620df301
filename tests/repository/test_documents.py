"""The documents that a newcomer reads first name only what is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import parse_qsl

import click
import pytest

from spanledger_processor.cli import main
from spanledger_processor.server.routes import OTHERS, ROUTES, read_parameters
from spanledger_processor.telemetry.table import TABLE
from tools.parts import ROOT
from tracked import tracked

DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "changelog.d/*.md") for path in ROOT.glob(pattern)
)
WITH_PATHS = [
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docs/debugging.md",
    *sorted(ROOT.glob("docs/decisions/*.md")),
]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
INSTALLED = ("processor", "exporters", "sidecar")
COMMANDS = set(main.list_commands(click.Context(main)))
FRAGMENT = re.compile(r"(\d+|\+[a-z-]+)\.(added|changed|fixed|removed|security)\.md")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@every_document
def test_commands_exist(document: Path) -> None:
    """`make x` and `spanledger x`, where they stand in code."""
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", document.read_text(), re.DOTALL))
    assert set(re.findall(r"\bmake ([a-z]+)", code)) <= TARGETS
    assert set(re.findall(r"(?:^|[/`$|] ?)spanledger ([a-z]+)", code, re.MULTILINE)) <= COMMANDS


def test_options_exist() -> None:
    """What stands behind `spanledger` in a shell block is taken by that command."""
    tried = 0
    for document in DOCUMENTS:
        blocks = "\n".join(re.findall(r"```(?:console|sh)\n(.*?)```", document.read_text(), re.DOTALL))
        for line in re.findall(r"(?:^|[/ ])spanledger ((?:[a-z]+)(?: .*)?)$", blocks, re.MULTILINE):
            plain = line.partition("#")[0] if "'" not in line else line
            if not any(sign in plain for sign in "[|<"):
                name, *arguments = shlex.split(plain)
                command = main.get_command(click.Context(main), name)
                assert command is not None, f"{document}: {line}"
                command.make_context(name, arguments, resilient_parsing=True)
                tried += 1
    assert tried > 10


def test_what_users_of_other_tools_are_sent_to_is_there() -> None:
    """Commands with their options, routes with their parameters, metrics, settings and fields of answers."""
    text = (ROOT / "docs/views.md").read_text()
    table = text.partition("## Where users of other tools find what they know")[2]
    code = [
        named
        for row in table.splitlines()
        for named in re.findall(r"`([^`]+)`", row.rpartition("|")[0].rpartition("| ")[2])
    ]
    settings, tried = (ROOT / "docs/configuration.md").read_text(), set()
    for named in code:
        if named.startswith("spanledger ") or re.fullmatch(r"(top|run) .*", named):
            name, *arguments = shlex.split(named.removeprefix("spanledger "))
            command = main.get_command(click.Context(main), name)
            assert command is not None, named
            command.make_context(name, arguments)
            tried.add("command")
        elif match := re.fullmatch(r"(GET|POST) (/api/v1/[^?`]+)(?:\?(.*))?", named):
            path, query = re.sub("ID", "{id}", match[2]), dict(parse_qsl(match[3] or ""))
            if match[1] == "POST":
                assert path in OTHERS, named
                continue
            route = next(one for one in ROUTES if re.fullmatch(re.sub(r"\{\w+\}$", "[^/]+", one.path), path))
            read_parameters(route, list(query.items()))
            tried.add("route")
        elif named.startswith("spanledger_"):
            assert named in {row.full_name for row in TABLE}, named
            tried.add("metric")
        elif named.startswith("processor."):
            assert f"`{named}`" in settings or f"`{named}[]`" in settings or f"`{named.rpartition('.')[2]}`" in settings
            tried.add("setting")
    assert tried == {"command", "route", "metric", "setting"}


@pytest.mark.parametrize("document", WITH_PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_documents_about_the_code_exist(document: Path) -> None:
    """Rooms and modules are named from inside the processor's package, or from the top."""
    text = document.read_text()
    package = ROOT / "processor" / "spanledger_processor"
    named = set(re.findall(r"[`\s(]((?:[a-z_]+/)+(?:[a-z_]+\.py)?|[a-z_]+\.py)[`\s,;:)]", text))
    lost = {name for name in named if not any((base / name).exists() for base in (package, ROOT, ROOT / "tests"))}
    assert not lost


def test_modules_in_documents_about_the_code_exist() -> None:
    """`room/module` is of the processor, of `exporters/` or of the sidecar; a folder may stand there as well."""
    rooms = (ROOT / "processor/spanledger_processor", ROOT / "sidecar/spanledger_sidecar", ROOT)
    named = {name for document in WITH_PATHS for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+)`", document.read_text())}
    found = {
        name
        for name in named
        for inside in (name, name.replace("exporters/", "exporters/spanledger_exporters/"))
        if any((room / f"{inside}.py").exists() or (room / inside).is_dir() for room in rooms)
    }
    assert len(found) > 40
    assert named - found <= {
        "build/debugging",
        "otlp_grpc/spanledger",
    }  # ignored by Git; an exporter of the Collector's


def test_fragments_are_named_by_issue_and_type_and_have_an_entry_a_line() -> None:
    for fragment in (ROOT / "changelog.d").glob("*.md"):
        assert fragment.read_text().strip()
        if fragment.name != "README.md":
            assert FRAGMENT.fullmatch(fragment.name)
            assert [line for line in fragment.read_text().splitlines() if not line.startswith("- ")] == [], fragment


def test_nothing_asks_which_python_runs_it() -> None:
    """On it stands that `.ci/run` has all tests on the oldest version only (CONTRIBUTING.md)."""
    packages = [path for path in tracked(".py") if path.relative_to(ROOT).parts[0] in INSTALLED]
    assert len(packages) > 100
    asking = [path for path in packages if re.search(r"version_info|hexversion|python_version", path.read_text())]
    assert asking == []
