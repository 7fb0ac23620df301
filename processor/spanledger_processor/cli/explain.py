"""`spanledger explain FILE`: what becomes of each span, and why."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.text import Text

from spanledger_processor.cli.explain_text import show_span
from spanledger_processor.cli.options import FAILED, WRONG_USAGE, as_json, configuration, configured, fail
from spanledger_processor.cli.show import console, counted, show_json
from spanledger_processor.config import Config
from spanledger_processor.enrichment.logs import LogStage
from spanledger_processor.explain.captured import requests_in, without_marks
from spanledger_processor.explain.explaining import Told, tell
from spanledger_processor.explain.story import Answer, Teller
from spanledger_processor.ledger.rows import exact_usd
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.server.parts import make_log_stage, make_signer
from spanledger_processor.signing.key import FILE, VARIABLE, SigningKeyError
from spanledger_processor.signing.signer import Signer


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@configuration
@as_json
def explain(file: Path, path: Path | None, sets: tuple[str, ...], *, as_json: bool) -> None:
    """Tell of each GenAI span in FILE which dialect it speaks, what it used, how it was priced and counted, and why.

    FILE holds OTLP: one export request in JSON or protobuf, or a JSON request a line, as file exporters write it;
    - is standard input. The stage runs as in `serve`, but nothing is kept and nothing is sent. Spans that Spanledger
    has marked before are looked at as they were then.
    """
    config = configured(path, sets)
    signer = _signer(config)
    try:
        given = _read(file, make_log_stage(config, signer))
        told = tell(config, signer, given.bodies)
    except MalformedError as error:
        fail(f"{file}: {error}", FAILED)
    answers = list(Teller(config, told).answers())
    if as_json:
        show_json(
            {
                "spans": answers,
                "plain_spans": told.plain,
                "unreadable_spans": told.failures,
                "marked": given.marked,
                "late_correction_usd_exact": exact_usd(told.correction),
            }
        )
        return
    out = console()
    for answer in answers:
        show_span(out, answer)
    for line in _summary(answers, told, given):
        out.print(Text(line))


@dataclass(slots=True)
class _Given:
    """What a file holds: trace requests, also those made from logs; how many spans were marked; other requests."""

    bodies: list[bytes] = field(default_factory=list)
    marked: int = 0
    records: int = 0
    other: int = 0


def _read(file: Path, log_stage: LogStage) -> _Given:
    """The file's requests. Where its spans are marked, those made from its logs are among them already."""
    given = _Given()
    found = requests_in(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
    clean = [(signal, *without_marks(body)) if signal == "traces" else (signal, body, 0) for signal, body in found]
    given.marked = sum(marked for _, _, marked in clean)
    for signal, body, _ in clean:
        if signal == "traces":
            given.bodies.append(body)
        elif signal == "logs":
            reading = log_stage.read(body, {})
            given.records += reading.records
            given.bodies += [reading.traces] if reading.traces is not None and not given.marked else []
        else:
            given.other += 1
    return given


def _signer(config: Config) -> Signer:
    """The key that `serve` signs with, if there is one; none is made for this."""
    known = config.processor.tools.signing_key or os.environ.get(VARIABLE) or (config.state.path / FILE).exists()
    if not known:
        return Signer(secrets.token_bytes(32))
    try:
        return make_signer(config)
    except SigningKeyError as error:
        fail(str(error), WRONG_USAGE)


def _summary(answers: list[Answer], told: Told, given: _Given) -> Iterator[str]:
    costs = [story.decision.cost.amount for story in told.stories if story.decision.cost is not None]
    priced = [amount for amount in costs if amount is not None]
    unpriced = len(costs) - len(priced)
    total = f"${exact_usd(sum(priced))} in all" if priced or not unpriced else "cost unknown"
    yield f"{counted(len(answers), 'GenAI span')}: {total}" + (f", {unpriced} unpriced" if unpriced else "")
    if told.correction:
        yield f"${exact_usd(told.correction)} of that was sent before later spans proved it a repeat: not in the ledger"
    if told.plain:
        yield f"{counted(told.plain, 'other span')}: no GenAI, passed on untouched"
    if told.failures:
        yield f"{counted(told.failures, 'span')} that cannot be read: passed on untouched"
    if given.marked:
        yield f"{counted(given.marked, 'span')} had been marked by Spanledger before; shown as they came in then"
    if given.records:
        yield f"{counted(given.records, 'log record')}: passed on untouched; those that report calls gave spans as well"
    if given.other:
        yield f"{counted(given.other, 'request')} of metrics: passed on untouched, and never counted"
