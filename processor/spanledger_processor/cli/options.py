"""Options that several commands take, and how a command ends early."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

import click

from spanledger_processor.config import Config, ConfigError, load
from spanledger_processor.server.forms import visible
from spanledger_processor.telemetry.log import FORMATS, LEVELS, set_up

CONFIG, CONFIG_FILE = "SPANLEDGER_CONFIG", "spanledger.yaml"
_WHOLE = f"{__name__}.whole"
FAILED = 1
WRONG_USAGE = 2

ConfigFiles: TypeAlias = tuple[Path, ...]
"""The files given with --config, in order."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def configuration(command: _Command) -> _Command:
    """Give a command --config and --set."""
    for option in (
        click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set one key, over what the file says."),
        click.option(
            "--config",
            "path",
            type=click.Path(path_type=Path, dir_okay=False),
            multiple=True,
            help="The configuration; given several times, later files are merged over earlier ones. If not given: that "
            f"of {CONFIG}, else {CONFIG_FILE} in the working directory, else the built-in one.",
        ),
    ):
        command = option(command)
    return command


def as_json(command: _Command) -> _Command:
    """Give a command --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")(command)


def of_one_value(command: _Command) -> _Command:
    """Give a command --dimension; its answer is then of one value (`show.of_value`)."""
    text = "Of this value of a dimension, such as user:ann."
    return click.option("--dimension", metavar="NAME:VALUE", help=text)(command)


def whole_ids(command: _Command) -> _Command:
    """Give a command of tables --whole (`shows_whole_ids`)."""

    def note(context: click.Context, _: click.Parameter, given: bool) -> None:  # noqa: FBT001 - click's flag
        context.meta[_WHOLE] = given

    text = "Show ids and names whole, also long ones, which tables cut in the middle."
    return click.option("--whole", is_flag=True, expose_value=False, callback=note, help=text)(command)


def shows_whole_ids() -> bool:
    """Return whether the command that runs was given --whole."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_WHOLE))


def logs(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that writes a log (to standard error) --log-level and --log-format."""

    @click.option(
        "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="Lines below it are left out."
    )
    @click.option(
        "--log-format", type=click.Choice(FORMATS), default="text", show_default=True, help="Form of the lines."
    )
    @wraps(command)
    def with_logs(*args: Any, log_level: str, log_format: str, **options: Any) -> None:
        set_up(log_level, log_format)
        command(*args, **options)

    return with_logs


def configured(path: ConfigFiles, sets: Sequence[str]) -> Config:
    """Return the configuration, or end the command with exit code 2 and every mistake on a line of its own."""
    try:
        return load(config_files(path), sets)
    except ConfigError as error:
        fail(str(error), WRONG_USAGE)


def config_files(given: ConfigFiles) -> ConfigFiles:
    """Return the configuration files to use: those given, else the environment's, else one in the working directory."""
    if given:
        return given
    if named := os.environ.get(CONFIG):
        return (Path(named),)
    here = Path(CONFIG_FILE)
    try:
        return (here,) if is_there(here) and here.is_file() else ()
    except PermissionError:
        fail(f"the working directory may not be read, and with it no {CONFIG_FILE}: give --config FILE", WRONG_USAGE)


def is_there(path: Path) -> bool:
    """Return whether there is a file or folder; other than `Path.exists`, which by the version of Python says no to
    who may not know.

    Raises:
        PermissionError: the folder that it would be in may not be searched.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def described(given: ConfigFiles) -> str:
    """Return in words which configuration is used."""
    files = config_files(given)
    return f"configuration {', '.join(map(str, files))}" if files else "built-in configuration"


def fail(message: str, code: int) -> NoReturn:
    """End the command with a message on standard error, of several lines or one."""
    click.echo(visible(message), err=True)
    sys.exit(code)
