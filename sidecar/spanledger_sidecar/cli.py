"""The command `spanledger sidecar`, and the summary of a single scan (`--once`)."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, cast, get_args
from urllib.parse import quote, urlsplit

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from spanledger_exporters.settings import parse
from spanledger_processor.config.model import state_folder
from spanledger_processor.signing import Signer, SigningKeyError, load_key
from spanledger_processor.telemetry.log import FORMATS, LEVELS, one_line, set_up
from spanledger_sidecar.cursor import CursorError
from spanledger_sidecar.files import is_folder
from spanledger_sidecar.loop import SOURCES, AlreadyCountedError, Grain, Settings, Sidecar, SourceName, SourceSettings
from spanledger_sidecar.records import nested
from spanledger_sidecar.sender import PROTOCOLS, otlp
from spanledger_sidecar.sources import Source

log = logging.getLogger(__name__)

_FILES_NAMED = 100
_ASKED = 50
"""Sessions that the ledger is asked for, and tenants that may have them."""
_API_PORT = 4320
_PATIENCE = 2.0
"""Seconds for one answer of the API."""
_TOKEN_VARIABLE = "SPANLEDGER_API_TOKEN"  # noqa: S105 - the variable's name
"""Variable with the token of the API."""
_LONGEST_ANSWER = 2**20

FAILED, WRONG_USAGE = 1, 2
"""Exit codes, as all commands of spanledger have them."""


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
        at = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
        if at > now:
            self.fail("that is still to come, and nothing would count until then", param, ctx)
        return max(1, round(at * 1000))


@click.command()
@click.option("--source", "names", multiple=True, type=click.Choice(SOURCES), help="What to read; default: all.")
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A source to read, for one --source (mux if not given); default: where the agent keeps it.",
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
@click.option("--api", metavar="URL", help="The ledger's API, asked at a first --backfill; default: port 4320 there.")
@click.option("--force", is_flag=True, help="With --backfill: also where the ledger has these sessions already.")
@click.option("--once", is_flag=True, help="Look once, send, print a summary, and end.")
@click.option(
    "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="Lines below it are left out."
)
@click.option("--log-format", type=click.Choice(FORMATS), default="text", show_default=True, help="Form of the lines.")
def sidecar(
    names: tuple[str, ...],
    roots: tuple[Path, ...],
    endpoint: str | None,
    protocol: str | None,
    state: Path | None,
    backfill: bool,  # noqa: FBT001 - click's flag
    since: int | None,
    grain: str,
    api: str | None,
    force: bool,  # noqa: FBT001 - click's flag
    once: bool,  # noqa: FBT001 - click's flag
    log_level: str,
    log_format: str,
) -> None:
    """Turn the usage files of agents (Mux or Xum, tilth) into spans, and send them to any OTLP endpoint.

    At the first run everything that is there already counts as old, unless --since or --backfill say otherwise.
    Exit code 1: with --once, not everything was acknowledged (it is sent next time), or there was nothing to read.
    """
    set_up(log_level, log_format)
    if backfill and since is not None:
        _fail("--backfill and --since: use one of them", WRONG_USAGE)
    settings = Settings(
        (state or state_folder(os.environ)).expanduser(),
        _sources(names, roots, cast(Grain, grain)),
        0 if backfill else since,
    )
    with _opened(settings, endpoint, protocol) as opened:
        if backfill and opened.late:
            _fail("\n".join(opened.late), WRONG_USAGE)
        for line in opened.late:
            log.warning(line)
        if not force:
            _refuse_counted(opened, api or _api_beside(endpoint))
        sent = _look_once(opened, bar=backfill) if once or backfill else True
        if not once:
            opened.run(_stop_signal())
            return
        _print_summary(opened)
        _end(opened, sent=sent)


def _sources(names: tuple[str, ...], roots: tuple[Path, ...], grain: Grain) -> list[SourceSettings]:
    if roots and len(names) > 1:
        _fail("--root: name one --source that it belongs to", WRONG_USAGE)
    chosen = names or (("mux",) if roots else SOURCES)
    return [SourceSettings(cast(SourceName, name), [root.expanduser() for root in roots], grain) for name in chosen]


@contextmanager
def _opened(settings: Settings, endpoint: str | None, protocol: str | None) -> Iterator[Sidecar]:
    try:
        key, created = load_key(None, os.environ, settings.state)
        if created:
            click.echo("made a signing key: signatures compare only where SPANLEDGER_SIGNING_KEY is the same", err=True)
        sender = otlp(endpoint, protocol, os.environ)
        try:
            opened = Sidecar(settings, sender, Signer(key))
        except CursorError:
            sender.close()
            raise
    except (SigningKeyError, CursorError, ValueError) as error:
        _fail(str(error), WRONG_USAGE)
    with opened:
        yield opened


def _print_summary(opened: Sidecar) -> None:
    """Print the table, what was looked at, and every file that cannot be used."""
    Console().print(table(opened.sources, opened.cursor.waiting()))
    for source in opened.sources:
        for line in opened.findings(source):
            click.echo(one_line(line))
        named = source.errors.named()
        for path, why in list(named.items())[:_FILES_NAMED]:
            click.echo(one_line(f"{source.name}: {path} {why}"))
        if len(named) > _FILES_NAMED:
            click.echo(f"{source.name}: and {len(named) - _FILES_NAMED:,} files more")


def _end(opened: Sidecar, *, sent: bool) -> None:
    """Exit with an error for what was not read or not sent, if there is anything."""
    address, reason = opened.sender.address, opened.outbox.reason
    if not sent:
        _fail(f"{address} did not take everything ({reason}); the rest is sent next time", FAILED)
    if apart := opened.cursor.apart():
        _fail(f"{address} refuses {apart:,} spans for good ({reason}); they are offered again next time", FAILED)
    if opened.outbox.rejected:
        _fail(f"{address} left out {opened.outbox.rejected:,} spans of what it took; they are lost there", FAILED)
    homes = [source for source in opened.sources if any(is_folder(root / "sessions") for root in source.roots())]
    if not homes:
        _fail("there was nothing to read: no home has a folder sessions; name one with --root", FAILED)
    if all(source.errors.named() and source.counts.unread >= source.counts.sessions for source in homes):
        _fail("nothing could be read: the files and folders above say why", FAILED)


def _api_beside(endpoint: str | None) -> str:
    """Return where the ledger's API is if `endpoint` is a Spanledger with the usual ports."""
    address = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "localhost"
    host = urlsplit(address if "://" in address else f"//{address}").hostname or "localhost"
    return f"http://[{host}]:{_API_PORT}" if ":" in host else f"http://{host}:{_API_PORT}"


def _refuse_counted(opened: Sidecar, api: str) -> None:
    """End where the ledger has sessions of these homes: their sums would count a second time."""

    def first_known(names: Iterable[str]) -> str | None:
        tenants = _tenants(api)
        return next((name for name in islice(names, _ASKED) if any(_knows(api, name, one) for one in tenants)), None)

    try:
        opened.refuse_counted(first_known)
    except PermissionError as error:
        _fail(str(error), FAILED)
    except AlreadyCountedError as error:
        _fail(
            f"{api}: {error}. --force sends them all the same; without --backfill the sidecar goes on from now.", FAILED
        )


def _tenants(api: str) -> list[str]:
    """Return the tenants of the ledger with the highest cost; the default one where the API lists none.

    Which of them the spans belong to is found out by the processor alone.
    """
    listed = nested(_answer(f"{api}/api/v1/tenants"), "tenants")
    names = [nested(row, "tenant") for row in listed] if isinstance(listed, list) else []
    return list(dict.fromkeys(["", *(name for name in names if isinstance(name, str))]))[:_ASKED]


def _knows(api: str, session: str, tenant: str) -> bool:
    """Return whether the ledger has a session of a tenant; False where no API answers."""
    query = f"?tenant={quote(tenant, safe='')}" if tenant else ""
    answer = _answer(f"{api}/api/v1/sessions/{quote(session, safe='')}{query}")
    return nested(answer, "cost_usd") is not None


def _answer(url: str) -> Any:
    """Return the API's answer to a query; None where there is none, or no API answers.

    Raises:
        PermissionError: it may not be asked, so that nobody knows.
    """
    opener, token = urllib.request.build_opener(urllib.request.ProxyHandler({})), os.environ.get(_TOKEN_VARIABLE)
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
    try:
        with opener.open(request, timeout=_PATIENCE) as response:
            return json.loads(response.read(_LONGEST_ANSWER)) if response.status == HTTPStatus.OK else None
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer, and holds the connection
        if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            address = urlsplit(url)
            raise PermissionError(
                f"the ledger at {address.scheme}://{address.netloc} may not be asked ({error}): set {_TOKEN_VARIABLE}; "
                "--force does not ask"
            ) from error
        return None
    except (OSError, ValueError, HTTPException):
        return None


def _look_once(opened: Sidecar, *, bar: bool) -> bool:
    with _progress(bar) as progress:
        return opened.once(progress)


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int, int], None]]:  # noqa: FBT001
    """Provide a progress bar on the terminal; it is called with the numbers of sessions read and to read."""
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TextColumn("sessions"), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    shown &= console.is_terminal
    with Progress(*columns, console=console, disable=not shown, transient=True) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


def _stop_signal() -> threading.Event:
    """Set by SIGTERM or Ctrl-C."""
    stop = threading.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda *_: stop.set())
    return stop


_PICO = 10**12
_ROWS: Sequence[tuple[str, Callable[[Source], str]]] = (
    ("sessions", lambda source: f"{source.counts.sessions:,}"),
    ("spans: calls", lambda source: f"{source.counts.spans['per-message']:,}"),
    ("spans: turns", lambda source: f"{source.counts.spans['per-turn']:,}"),
    ("spans: aggregates", lambda source: f"{source.counts.spans['per-session-aggregate']:,}"),
    ("spans: tools", lambda source: f"{source.counts.spans['tools']:,}"),
    ("spans: sessions closed", lambda source: f"{source.counts.spans['closed']:,}"),
    ("tokens", lambda source: f"{source.counts.tokens:,}"),
    ("cost as the source reports it", lambda source: f"${source.counts.cost / _PICO:,.6f}"),
    ("usage without such a cost", lambda source: f"{source.counts.uncosted:,}"),
    ("files reset", lambda source: f"{source.counts.resets:,}"),
    ("tokens not counted", lambda source: f"{source.counts.left_out:,}"),
    ("files with a fault", lambda source: f"{len(source.errors.named()):,}"),
)


def table(sources: Sequence[Source], waiting: int) -> Table:
    """Return the summary: one column for each source, and below it the spans that still wait for the endpoint."""
    result = Table(box=box.SIMPLE, caption=f"{waiting} spans wait for the endpoint" if waiting else None)
    result.add_column("new")
    for source in sources:
        result.add_column(source.name, justify="right")
    for name, cell in _ROWS:
        result.add_row(name, *(cell(source) for source in sources))
    return result
