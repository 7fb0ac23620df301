"""`spanledger check`: is this configuration right?"""

from __future__ import annotations

import sys

import click

from spanledger_processor.cli.options import WRONG_USAGE, ConfigFiles, as_json, configuration, configured, found_config
from spanledger_processor.cli.show import show_json
from spanledger_processor.config import ConfigError, load
from spanledger_processor.config.summary import summary


@click.command()
@configuration
@as_json
def check(path: ConfigFiles, sets: tuple[str, ...], *, as_json: bool) -> None:
    """Validate a configuration. Every mistake is named with its path, and the exit code is 2 if there is one."""
    if as_json:
        _as_json(path, sets)
        return
    told = summary(configured(path, sets))
    click.echo(f"{', '.join(map(str, found_config(path))) or 'The built-in configuration'} is valid.")
    for line in told.lines():
        click.echo(f"  {line}")


def _as_json(path: ConfigFiles, sets: tuple[str, ...]) -> None:
    try:
        show_json({"valid": True, **summary(load(found_config(path), sets)).as_dict()})
    except ConfigError as error:
        show_json({"valid": False, "problems": list(error.problems)})
        sys.exit(WRONG_USAGE)
