"""`spanledger replay FILE`: send what a dead letter file holds, or any file of OTLP-JSON requests, a line each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from spanledger_exporters import DestinationError, Exporter, Verdict, build
from spanledger_exporters.settings import NetworkSettings, OtlpHttpSettings, QueueSettings
from spanledger_processor.cli.options import FAILED, WRONG_USAGE, ConfigFiles, as_json, configuration, configured, fail
from spanledger_processor.cli.show import counted, show_json
from spanledger_processor.cli.tables import plain
from spanledger_processor.config import Config
from spanledger_processor.explain.otlp_file import json_request
from spanledger_processor.otlp.wire import MalformedError

_PATIENCE = 30.0
"""Seconds for one request, with the retries of its exporter: somebody waits at a terminal."""


@dataclass(frozen=True, slots=True)
class UnsentLine:
    """One line, and why it was not sent."""

    line: int
    reason: str


@dataclass(slots=True)
class Replayed:
    """What became of a file. Lines are numbered from 1."""

    file: str
    to: str
    address: str
    sent: int = 0
    refused: list[UnsentLine] = field(default_factory=list)
    """Lines that have not arrived, and will not."""
    stopped_at: int | None = None
    """The line at which the destination took no more for now; it and those behind it were not sent."""
    reason: str = ""

    @property
    def complete(self) -> bool:
        """Return whether every request has arrived."""
        return not self.refused and self.stopped_at is None


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--exporter", "to", metavar="ID", help="Send to this exporter of the configuration.")
@click.option("--endpoint", metavar="URL", help="Send to this OTLP/HTTP URL, such as that of a running Spanledger.")
@click.option("--from-line", type=click.IntRange(1), default=1, show_default=True, help="Begin with this line.")
@configuration
@as_json
def replay(
    file: Path,
    to: str | None,
    endpoint: str | None,
    from_line: int,
    path: ConfigFiles,
    sets: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Send the requests in FILE: one OTLP-JSON request a line, as dead letters and the file exporter are written.

    By default they go to the exporter whose `dead_letter` FILE is. FILE stays as it is: delete it when all is sent. To
    send it twice counts nothing twice: a Spanledger knows each span again, and a backend keeps one of each.

    Exit code 1: something was not sent; the lines are named.
    """
    if to is not None and endpoint is not None:
        fail("--exporter and --endpoint: use one of them", WRONG_USAGE)
    name, settings = _target(configured(path, sets), file, to, endpoint)
    settings = settings.model_copy(update={"sending_queue": QueueSettings(), "dead_letter": None})
    replayed = asyncio.run(_replay(build(name, settings), settings.address, file, from_line))
    if as_json:
        show_json(asdict(replayed))
    else:
        for text in _report(replayed):
            click.echo(text)
    if not replayed.complete:
        raise SystemExit(FAILED)


def _target(config: Config, file: Path, to: str | None, endpoint: str | None) -> tuple[str, NetworkSettings]:
    if endpoint is not None:
        try:
            return "otlp_http/endpoint", OtlpHttpSettings(endpoint=endpoint)
        except ValueError:
            fail(
                f"--endpoint {plain(endpoint)}: write a URL without /v1/traces, such as http://localhost:4318",
                WRONG_USAGE,
            )
    network = {name: given for name, given in config.exporters.items() if isinstance(given, NetworkSettings)}
    if to is None:
        to = next((name for name, given in network.items() if _is_of(file, given.dead_letter)), None)
    if to in network:
        return to, network[to]
    known = f"the exporters that can be sent to: {', '.join(network) or 'none'}"
    problem = f"--exporter {plain(to or '')}: there is none of this name that can be sent to"
    if to is None:
        problem = f"{file} is no exporter's dead_letter: say where to with --exporter or --endpoint"
    return fail(f"{problem}; {known}", WRONG_USAGE)


def _is_of(file: Path, dead_letter: str | None) -> bool:
    """Return whether a file is the one that is configured, or that of another worker."""
    if dead_letter is None:
        return False
    configured_path = Path(dead_letter).expanduser().absolute()
    given = file.absolute()
    stem = re.fullmatch(rf"{re.escape(configured_path.stem)}(?:\.\d+)?", given.stem)
    return given.parent == configured_path.parent and given.suffix == configured_path.suffix and stem is not None


async def _replay(exporter: Exporter, address: str, file: Path, from_line: int) -> Replayed:
    replayed = Replayed(str(file), exporter.name, address)
    click.echo(f"sending {file} to {exporter.name} ({address})", err=True)
    try:
        await exporter.start()
    except DestinationError as error:
        fail(str(error), WRONG_USAGE)
    try:
        for number, line in _lines(file, from_line):
            if not await _send(exporter, number, line, replayed):
                break
    finally:
        await exporter.close()
    return replayed


def _lines(file: Path, from_line: int) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as opened:
        for number, line in enumerate(opened, 1):
            if number >= from_line and line.strip():
                yield number, line


async def _send(exporter: Exporter, number: int, line: bytes, replayed: Replayed) -> bool:
    """Send one line; false where there is no use in sending the next."""
    try:
        signal, body = json_request(line)
    except MalformedError as error:
        half = "" if line.endswith(b"\n") else " (half a line: is the file still being written?)"
        replayed.refused.append(UnsentLine(number, f"{error}{half}"))
        return True
    if signal not in exporter.signals:
        replayed.refused.append(UnsentLine(number, f"{exporter.name} takes no {signal}"))
        return True
    result = await exporter.send(signal, body, asyncio.get_running_loop().time() + _PATIENCE)
    if result.verdict is Verdict.RETRYABLE:
        replayed.stopped_at, replayed.reason = number, result.reason
        return False
    if result.verdict is Verdict.PERMANENT:
        replayed.refused.append(UnsentLine(number, result.reason))
    elif result.rejected:
        replayed.refused.append(UnsentLine(number, f"{result.rejected} items of it were rejected: {result.reason}"))
    else:
        replayed.sent += 1
    return True


def _report(replayed: Replayed) -> Iterator[str]:
    yield f"{counted(replayed.sent, 'request')} sent to {replayed.to} ({replayed.address})"
    for refused in replayed.refused:
        yield plain(f"line {refused.line} was not taken: {refused.reason}")
    if replayed.stopped_at is not None:
        yield plain(f"stopped at line {replayed.stopped_at}, since the destination takes none now: {replayed.reason}")
        yield f"go on later with --from-line {replayed.stopped_at}"
