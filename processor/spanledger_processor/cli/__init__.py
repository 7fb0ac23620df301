"""`spanledger`: one command, and its subcommands, each loaded when it runs."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Final, cast

import click

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("spanledger_processor.cli.serve", "Take OTLP in, price, sign and group its GenAI spans, send it on."),
    "sidecar": ("spanledger_sidecar.cli", "Turn usage files of agents (Mux or Xum, tilth) into spans."),
    "demo": ("spanledger_processor.cli.demo", "See it work in seconds, on recorded spans of real agents."),
    "check": ("spanledger_processor.cli.check", "Validate a configuration."),
    "explain": ("spanledger_processor.cli.explain", "Explain what becomes of each span of a file, and why."),
    "prices": ("spanledger_processor.cli.single", "Show what a model costs, and how its name is read."),
    "summary": ("spanledger_processor.cli.summary", "Sum up the ledger: the total, by day and by model."),
    "sessions": ("spanledger_processor.cli.lists", "List all sessions."),
    "session": ("spanledger_processor.cli.single", "Show one session, by model and task."),
    "runs": ("spanledger_processor.cli.lists", "List all runs."),
    "run": ("spanledger_processor.cli.single", "Show one run, by model."),
    "top": ("spanledger_processor.cli.top", "Follow what is spent, live: today, budgets, the latest sessions."),
    "budgets": ("spanledger_processor.cli.summary", "Show what is used of each budget."),
    "warnings": ("spanledger_processor.cli.lists", "List what was warned of: failures, rises, unpriced calls."),
    "tasks": ("spanledger_processor.cli.lists", "List what tasks cost, by kind of work and model."),
    "replay": ("spanledger_processor.cli.replay", "Send a file of refused requests, or of any OTLP-JSON lines."),
    "tenants": ("spanledger_processor.cli.lists", "List the tenants that have data."),
    "unpriced": ("spanledger_processor.cli.lists", "List calls without a price, and what to do about it."),
    "tools": ("spanledger_processor.cli.lists", "List tool calls that a session made again, and loops."),
    "span": ("spanledger_processor.cli.single", "Show what was decided about one span, and why."),
    "close": ("spanledger_processor.cli.changes", "Mark a session, or all of a process, as ended."),
    "forget": ("spanledger_processor.cli.changes", "Take the names of a session, user or tenant out of the ledger."),
}
"""Name -> the module that has it, and what it is for. A module is loaded when its command runs."""


class _Commands(click.Group):
    """Loads only the command that was asked for, so that --help and small commands start at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read as gRPC loads; its own lines would stand among ours
        return cast(click.Command, getattr(_loaded(COMMANDS[cmd_name][0]), cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an option that is given twice where one counts: click takes the last without a word."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            _refuse_twice(command, click.Context(command, parent=ctx, info_name=name), rest)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _refuse_twice(command: click.Command, context: click.Context, args: list[str]) -> None:
    """Raise a usage error where an option of one value comes again; a flag may, but not beside its opposite."""
    try:
        _, _, order = command.make_parser(context).parse_args([*args])
    except click.UsageError:
        return  # click says so itself
    given = [one for one in order if isinstance(one, click.Option) and not one.multiple]
    given = [one for one in given if not one.is_flag or one.secondary_opts]
    for option in given:
        if given.count(option) > 1:
            names = [max(named, key=len) for named in (option.opts, option.secondary_opts) if named]
            raise click.UsageError(
                f"give one of {' and '.join(names)}"
                if option.is_flag
                else f"{names[0]} is given twice: it takes one value",
                context,
            )


def _loaded(name: str) -> ModuleType:
    """Return a module; what it brings along stays, and to look for garbage among it would take a sixth of the start."""
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="spanledger", prog_name="spanledger")
def main() -> None:
    """Prices, signs and groups the GenAI spans of an OpenTelemetry pipeline, and sends them on to any backend."""
