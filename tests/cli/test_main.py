"""The command as a whole: what --help tells, and how little it loads for that."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from commands import output, run
from spanledger_processor.cli import COMMANDS, main

_LOADED = """
import sys
from spanledger_processor.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


def _modules(*arguments: str) -> set[str]:
    """The modules that are loaded when a command has ended."""
    command = [sys.executable, "-c", _LOADED, *arguments]
    return set(subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stderr.split())


def test_help_names_every_command() -> None:
    reported = output("--help")
    for name, (_, summary) in COMMANDS.items():
        assert name in reported
        assert summary in reported


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_has_help(name: str) -> None:
    assert main.get_command(None, name).name == name  # type: ignore[arg-type,union-attr]
    assert "Usage:" in output(name, "--help")


def test_help_loads_no_room() -> None:
    """So that it is there at once."""
    loaded = _modules("--help")
    assert not loaded & {"grpc", "pydantic", "lmdb", "google.protobuf", "genai_prices", "uvicorn", "rich.table"}


def test_checking_loads_no_server() -> None:
    assert not _modules("check") & {"grpc", "lmdb", "uvicorn", "genai_prices"}


def test_version() -> None:
    assert version("spanledger") in output("--version")


def test_a_command_that_is_none() -> None:
    result = run("srve")
    assert result.exit_code == 2
    assert "srve" in result.stderr
