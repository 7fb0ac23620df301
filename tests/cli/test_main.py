"""The command as a whole: what --help tells, and how little it loads for that."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import click
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


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_is_given_twice_where_one_counts_is_refused(name: str) -> None:
    """The last one won without a word."""
    command = main.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    options = [one for one in command.params if isinstance(one, click.Option)]
    of_one_value = [one for one in options if not one.multiple and not one.is_flag]
    assert of_one_value or name in ("check", "demo", "explain"), "it has options"
    for option in of_one_value:
        refused = run(name, option.opts[0], "1", f"{option.opts[0]}=1")
        assert refused.exit_code == 2, option.opts
        assert f"{option.opts[0]} is given twice: it takes one value" in refused.stderr
    for option in (one for one in options if one.secondary_opts):
        refused = run(name, option.opts[0], option.secondary_opts[0])
        assert (refused.exit_code, option.secondary_opts[0] in refused.stderr) == (2, True)


def test_a_flag_may_be_repeated_and_so_may_what_takes_several() -> None:
    assert (
        run("check", "--syntax", "--syntax", "--set", "state.size=1", "--set", "state.sice=1").stderr.count("state.s")
        > 1
    )
    assert "--bogus" in run("sessions", "--bogus").stderr
