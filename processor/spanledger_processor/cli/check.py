"""`spanledger check`: is this configuration right?"""

from __future__ import annotations

from pathlib import Path

import click

from spanledger_processor.cli.options import as_json, configuration, configured
from spanledger_processor.cli.show import show_json


@click.command()
@configuration
@as_json
def check(path: Path | None, sets: tuple[str, ...], *, as_json: bool) -> None:
    """Validate a configuration; every mistake is named with its path. Exit code 2 if there is one."""
    config = configured(path, sets)
    if as_json:
        show_json({"valid": True, "exporters": list(config.exporters), "state": str(config.state.path)})
        return
    click.echo(f"{path or 'the built-in configuration'} is valid.")
    for component in config.exporters:
        click.echo(f"  exports to {component}")
    click.echo(f"  state in {config.state.path}")
