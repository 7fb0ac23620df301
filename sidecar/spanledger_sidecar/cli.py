"""`spanledger sidecar`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spanledger_exporters.settings import parse
from spanledger_processor.cli.options import WRONG_USAGE, fail, logs
from spanledger_processor.config.model import state_folder
from spanledger_processor.signing import Signer, SigningKeyError, load_key
from spanledger_sidecar.cursor import CursorError
from spanledger_sidecar.run import Sidecar
from spanledger_sidecar.senders import PROTOCOLS, otlp
from spanledger_sidecar.settings import SOURCES, Grain, Settings, Source, SourceName
from spanledger_sidecar.summary import table


class _When(click.ParamType[int]):
    """2026-01-31, 2026-01-31T12:00:00Z, or 7d: that long ago. Gives ms since 1970."""

    name = "when"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        now = datetime.now(UTC).timestamp()
        try:
            return max(1, round((now - parse(value)) * 1000))
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                "write a time such as 2026-01-31, 2026-01-31T12:00:00Z, or 7d for the last seven days", param, ctx
            )
        return max(1, round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000))


@click.command()
@click.option("--source", "names", multiple=True, type=click.Choice(SOURCES), help="What to read; default: all.")
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A home to read, for one --source (mux if not given); default: where the agent keeps it.",
)
@click.option("--endpoint", help="Where spans go; default: OTEL_EXPORTER_OTLP_ENDPOINT, else localhost.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="Default: OTEL_EXPORTER_OTLP_PROTOCOL, else grpc.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Folder of what was sent so far.")
@click.option("--backfill", is_flag=True, help="At the first run: send all that is there.")
@click.option("--since", type=_When(), help="At the first run: send what is there from this time on.")
@click.option(
    "--grain",
    type=click.Choice(get_args(Grain)),
    default="auto",
    show_default=True,
    help="auto: the finest that the files have; usage: never open chat files.",
)
@click.option("--once", is_flag=True, help="Look once, send, print a summary, and end.")
@logs
def sidecar(
    names: tuple[str, ...],
    roots: tuple[Path, ...],
    endpoint: str | None,
    protocol: str | None,
    state: Path | None,
    backfill: bool,  # noqa: FBT001 - click's flag
    since: int | None,
    grain: str,
    once: bool,  # noqa: FBT001 - click's flag
) -> None:
    """Turn the usage files of agents (Mux or Xum, tilth) into spans, and send them to any OTLP endpoint.

    At the first run everything that is there already counts as old, unless --since or --backfill say otherwise.
    Exit code 1: with --once, not everything was acknowledged; what was not is sent next time.
    """
    if backfill and since is not None:
        fail("--backfill and --since: use one of them", WRONG_USAGE)
    settings = Settings(
        (state or state_folder(os.environ)).expanduser(),
        _sources(names, roots, cast(Grain, grain)),
        0 if backfill else since,
    )
    with _opened(settings, endpoint, protocol) as made:
        sent = _look_once(made, bar=backfill) if once or backfill else True
        if not once:
            made.run(_told_to_stop())
            return
        Console().print(table(made.homes, made.cursor.waiting()))
        if not sent:
            fail("the endpoint did not take everything; the rest is sent next time", 1)


def _sources(names: tuple[str, ...], roots: tuple[Path, ...], grain: Grain) -> list[Source]:
    if roots and len(names) > 1:
        fail("--root: name one --source that it belongs to", WRONG_USAGE)
    chosen = names or (("mux",) if roots else SOURCES)
    return [Source(cast(SourceName, name), [root.expanduser() for root in roots], grain) for name in chosen]


@contextmanager
def _opened(settings: Settings, endpoint: str | None, protocol: str | None) -> Iterator[Sidecar]:
    try:
        key, made = load_key(None, os.environ, settings.state)
        if made:
            click.echo("made a signing key: signatures compare only where SPANLEDGER_SIGNING_KEY is the same", err=True)
        opened = Sidecar(settings, otlp(endpoint, protocol, os.environ), Signer(key))
    except (SigningKeyError, CursorError, ValueError) as error:
        fail(str(error), WRONG_USAGE)
    with opened:
        yield opened


def _look_once(made: Sidecar, *, bar: bool) -> bool:
    with _progress(bar) as progress:
        return made.once(progress)


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int, int], None]]:  # noqa: FBT001
    """A bar on the terminal that is told how many sessions of how many were read."""
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TextColumn("sessions"), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), disable=not shown) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _told_to_stop() -> threading.Event:
    """Set by SIGTERM or Ctrl-C."""
    stop = threading.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda *_: stop.set())
    return stop
