"""`spanledger prices MODEL`: what a model costs, and how its name was understood."""

from __future__ import annotations

import time
from pathlib import Path

import click

from spanledger_processor.cli.options import as_json, configuration, configured, fail
from spanledger_processor.cli.show import show_json
from spanledger_processor.pricing.explain import quote
from spanledger_processor.serving.parts import make_pricer


@click.command()
@click.argument("model")
@click.option("--provider", default="", help="Who sells it, as on the span (gen_ai.provider.name).")
@configuration
@as_json
def prices(model: str, provider: str, path: Path | None, sets: tuple[str, ...], *, as_json: bool) -> None:
    """Show the rates that calls of MODEL are priced with today, and where they come from."""
    found = quote(make_pricer(configured(path, sets)), model, provider, time.time_ns())
    if found.unpriced:
        fail(f"{model}: {found.unpriced}; a call of it is counted as unpriced, never as 0", 1)
    if as_json:
        show_json(found.as_dict())
        return
    for line in found.lines():
        click.echo(line)
