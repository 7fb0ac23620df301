"""`spanledger explain FILE`: what becomes of each span and why, in a paragraph a span or as JSON."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from spanledger_processor.cli.options import (
    FAILED,
    WRONG_USAGE,
    ConfigFiles,
    as_json,
    configuration,
    configured,
    fail,
    is_there,
)
from spanledger_processor.cli.show import counted, show_json
from spanledger_processor.cli.tables import console, plain
from spanledger_processor.config import Config
from spanledger_processor.enrichment.logs import LogStage
from spanledger_processor.explain.explainer import Explainer, Replay, SpanExplanation, replay
from spanledger_processor.explain.otlp_file import requests_in, without_marks
from spanledger_processor.ledger.rows import exact_usd
from spanledger_processor.otlp.encoding import encode_traces
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.server.wiring import make_log_stage, make_signer
from spanledger_processor.signing.key import FILE, VARIABLE, SigningKeyError
from spanledger_processor.signing.signer import Signer


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@configuration
@as_json
def explain(file: Path, path: ConfigFiles, sets: tuple[str, ...], *, as_json: bool) -> None:
    """Explain each GenAI span in FILE: its dialect, what it used, how it was priced and counted, and why.

    FILE holds OTLP: one export request in JSON or protobuf, or a JSON request a line, as file exporters write it;
    - is standard input. The stage runs as in `serve`, but nothing is kept and nothing is sent. Spans that Spanledger
    has marked before are looked at as they were then.
    """
    config = configured(path, sets)
    signer = _signer(config)
    try:
        given = _read(file, make_log_stage(config, signer))
        replayed = replay(config, signer, given.bodies)
    except MalformedError as error:
        fail(f"{file}: {error}", FAILED)
    answers = list(Explainer(config, replayed).rows())
    if as_json:
        show_json(
            {
                "spans": answers,
                "plain_spans": replayed.plain,
                "unreadable_spans": replayed.failures,
                "marked": given.marked,
                "late_correction_usd_exact": exact_usd(replayed.correction),
            }
        )
        return
    out = console()
    for answer in answers:
        show_span(out, answer)
    for line in _summary(answers, replayed, given):
        out.print(Text(line))


@dataclass(slots=True)
class _Given:
    """The requests of a file: traces, among them those made from logs, the number of marked spans, and all others."""

    bodies: list[bytes] = field(default_factory=list)
    marked: int = 0
    records: int = 0
    other: int = 0


def _read(file: Path, log_stage: LogStage) -> _Given:
    """Return the file's requests. Where its spans are marked, those made from its logs are among them already."""
    given = _Given()
    result = requests_in(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
    clean = [(signal, *without_marks(body)) if signal == "traces" else (signal, body, 0) for signal, body in result]
    given.marked = sum(marked for _, _, marked in clean)
    for signal, body, _ in clean:
        if signal == "traces":
            given.bodies.append(body)
        elif signal == "logs":
            reading = log_stage.read(body, {})
            given.records += reading.records
            if reading.spans and not given.marked:
                given.bodies.append(encode_traces(reading.spans))
        else:
            given.other += 1
    return given


def _signer(config: Config) -> Signer:
    """Return the key that `serve` signs with, if there is one; none is made for this."""
    try:
        is_known = config.processor.tools.signing_key or os.environ.get(VARIABLE) or is_there(config.state.path / FILE)
    except PermissionError as error:
        fail(f"{error.filename}: {error.strerror}; give {VARIABLE}, or another state.path", FAILED)
    if not is_known:
        return Signer(secrets.token_bytes(32))
    try:
        return make_signer(config)
    except SigningKeyError as error:
        fail(str(error), WRONG_USAGE)


def _summary(answers: list[SpanExplanation], replayed: Replay, given: _Given) -> Iterator[str]:
    costs = [span.decision.cost.amount for span in replayed.spans if span.decision.cost is not None]
    priced = [amount for amount in costs if amount is not None]
    unpriced = len(costs) - len(priced)
    total = f"${exact_usd(sum(priced))} in all" if priced or not unpriced else "cost unknown"
    yield f"{counted(len(answers), 'GenAI span')}: {total}" + (f", {unpriced} unpriced" if unpriced else "")
    if replayed.correction:
        sent = exact_usd(replayed.correction)
        yield f"${sent} of that was sent before later spans proved it a repeat: not in the ledger"
    if replayed.plain:
        yield f"{counted(replayed.plain, 'other span')}: no GenAI, passed on untouched"
    if replayed.failures:
        yield f"{counted(replayed.failures, 'span')} that cannot be read: passed on untouched"
    if given.marked:
        yield f"{counted(given.marked, 'span')} had been marked by Spanledger before; shown as they came in then"
    if given.records:
        yield f"{counted(given.records, 'log record')}: passed on untouched; those that report calls gave spans as well"
    if given.other:
        yield f"{counted(given.other, 'request')} of metrics: passed on untouched, and never counted"


def show_span(out: Console, answer: SpanExplanation) -> None:
    """Print what became of one span, and why."""
    out.print(Text(plain(answer["name"]) or "(no name)", "bold"), Text(f"span {answer['span_id']}", "dim"))
    for label, text in _lines(answer):
        out.print(Text(f"  {label:<9}", "dim") + Text(plain(text), _style(label, answer)), soft_wrap=True)
    out.print()


def _style(label: str, answer: SpanExplanation) -> str:
    if label != "counts":
        return ""
    if answer["role"] == "counted":
        return "yellow" if answer["cost"]["unpriced"] else "green"
    return "cyan"


def _lines(answer: SpanExplanation) -> Iterator[tuple[str, str]]:
    yield "is", f"{answer['kind']}, told in {answer['dialect']} ({_signs(answer)})"
    yield "scope", answer["scope"] or "-"
    if answer["usage"] is not None:
        yield "model", f"{answer['response_model'] or answer['request_model'] or '-'} of {answer['provider'] or '-'}"
        yield "usage", _usage(answer["usage"])
        yield "input", answer["input_means"] or "-"
    if answer["problem"]:
        yield "problem", answer["problem"]
    for number, line in enumerate(answer["arithmetic"]):
        yield "" if number else "price", line
    yield "counts", _role(answer)
    if (tool := answer["tool"]) is not None:
        yield "tool", _tool(tool)
    for what in ("session", "run"):
        if (named := answer[what]) is not None:
            yield what, f"{named['id']} ({named['why']})"
        else:
            yield what, "none: unattributed"
            if what == "session" and answer["usage"] is not None:
                yield "", answer["session_missing"]
    if answer["note"]:
        yield "note", answer["note"]


def _signs(answer: SpanExplanation) -> str:
    first, *others = answer["recognised_by"] or ["-"]
    return f"{first} and {len(others)} more of its attributes" if others else str(first)


def _usage(usage: dict[str, int | None]) -> str:
    known = [f"{name.replace('_', ' ')} {number:,}" for name, number in usage.items() if number is not None]
    unknown = [name.replace("_", " ") for name, number in usage.items() if number is None]
    return ", ".join(known) + (f" (not told: {', '.join(unknown)})" if unknown else "")


_ROLES = {
    "none": "nothing",
    "repeats_children": "nothing, it repeats its children",
    "duplicate": "nothing, it is a duplicate",
}


def _role(answer: SpanExplanation) -> str:
    if answer["role"] != "counted":
        return f"{_ROLES[answer['role']]}: {answer['why']}"
    cost = answer["cost"]
    return f"${cost['cost_usd_exact']}, {cost['source']}: {answer['why']}" if cost["source"] else str(answer["why"])


def _tool(tool: dict[str, Any]) -> str:
    signed = f"{tool['name'] or '(no name)'}, signed {tool['signature']}"
    if tool["signature_scope"] == "name_only":
        return f"{signed} by its name alone: it holds no arguments, so repeats cannot be told"
    cut = ", by arguments that were cut" if tool["signature_scope"] == "truncated" else ""
    loop = ", a loop" if tool["loop"] else ""
    times = counted(tool["repeats"], "time")
    return f"{signed}{cut}: this very call {times} in the session so far, {tool['consecutive']} in a row{loop}"
