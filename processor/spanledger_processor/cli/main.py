"""`spanledger`: one command, its parts."""

from __future__ import annotations

from importlib.metadata import version

import click

from spanledger_processor.cli.check import check
from spanledger_processor.cli.demo import demo
from spanledger_processor.cli.explain import explain
from spanledger_processor.cli.prices import prices
from spanledger_processor.cli.reading import run, runs, session, sessions, summary
from spanledger_processor.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("spanledger"), prog_name="spanledger")
def main() -> None:
    """Prices, signs and groups the GenAI spans of an OpenTelemetry pipeline, and sends them on to any backend."""


for command in (serve, demo, check, explain, prices, sessions, session, runs, run, summary):
    main.add_command(command)
