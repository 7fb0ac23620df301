"""`spanledger demo`: the main job on recorded spans of real agents, in seconds, with nothing else installed."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

import click
import grpc.aio
import orjson
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from spanledger_processor.cli import show, tables
from spanledger_processor.cli.options import FAILED, fail
from spanledger_processor.cli.tables import console
from spanledger_processor.config import load
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.server.app import Running, StartError, running
from spanledger_processor.telemetry.log import set_up

_TENANT = tenant_hash("")
RUN_KEY = "service.name"
"""The key of runs in the demo: the recorded agents name none."""

_WIDEST = 40
"""Characters of an id that are shown."""


class Board:
    """Tables of the ledger, and of the file that the spans are written to."""

    def __init__(self, ledger: LedgerWriter, file: Path) -> None:
        self._ledger = ledger
        self._file = file
        self._read = 0
        self._seen: list[str] = []
        self._calls: dict[str, dict[str, Any]] = {}
        self._unpriced: Counter[tuple[str, str]] = Counter()
        self._silent: Counter[str] = Counter()

    def look(self, name: str) -> None:
        """Read what has been written since the last call; `name` is the recording that was sent."""
        if name not in self._seen:
            self._seen.append(name)
        with self._file.open("rb") as file:
            for attributes in self._spans(file):
                self._note(attributes)

    def shown(self) -> RenderableType:
        """Return everything as tables."""
        with self._ledger.snapshot() as reader:
            sessions, runs = queries.sessions(reader, _TENANT), queries.runs(reader, _TENANT)
            total = queries.total(reader, _TENANT)
        parts: list[RenderableType] = [Text(f"Replayed: {'; '.join(self._seen) or 'nothing yet'}", "dim")]
        parts.append(tables.table(f"Sessions, ${total['cost_usd']:.6f} in all", _SESSION, sessions))
        parts.append(tables.table(f"Runs, in this demo by {RUN_KEY} (processor.runs.keys)", _RUN, runs))
        if self._calls:
            calls = sorted(self._calls.values(), key=lambda call: -call["times"])
            parts.append(tables.table("The very same tool call, several times in a session", _CALL, calls))
        if self._unpriced:
            rows = [{"model": model, "why": why, "spans": n} for (model, why), n in self._unpriced.items()]
            parts.append(tables.table("Counted without a price, and never as 0", _UNPRICED, rows))
        if self._silent:
            reported = ", ".join(f"{n} {why}" for why, n in self._silent.items())
            parts.append(Text(f"Spans with usage that add nothing, since other spans tell it: {reported}."))
        return Group(*parts)

    def _spans(self, file: BinaryIO) -> Iterator[dict[str, Any]]:
        """Yield the attributes of the GenAI spans on the lines that are new."""
        file.seek(self._read)
        for line in file:
            for resource in orjson.loads(line).get("resourceSpans", []):
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        result = {item["key"]: _plain(item["value"]) for item in span.get("attributes", [])}
                        if "spanledger.kind" in result:
                            yield {"name": span.get("name", ""), **result}
        self._read = file.tell()

    def _note(self, span: dict[str, Any]) -> None:
        signature, times = span.get("spanledger.tool.signature", ""), span.get("spanledger.tool.repeats", 0)
        if times > 1:
            session = span.get("spanledger.session.id", "")
            loop = span["spanledger.tool.loop"] or self._calls.get(session + signature, {}).get("loop", False)
            name = span.get("gen_ai.tool.name") or span.get("tool.name") or span["name"]
            row = {"id": session, "tool": name, "signature": signature, "times": times, "loop": loop}
            self._calls[session + signature] = row
        if why := span.get("spanledger.cost.unpriced"):
            model = span.get("gen_ai.response.model") or span.get("llm.model_name") or span["name"]
            self._unpriced[(model, why)] += 1
        if "spanledger.cost.duplicate_of" in span:
            self._silent["duplicates"] += 1
        if span.get("spanledger.cost.repeats_children"):
            self._silent["repeat their children"] += 1


def _plain(value: dict[str, Any]) -> Any:
    """Return a plain value of an attribute; int64 is a text in OTLP-JSON."""
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)


def _id(heading: str) -> tables.Column:
    return (heading, lambda row: show.word(row["id"], most=_WIDEST), False)


def _models(row: dict[str, Any]) -> list[str]:
    return [f"{show.short(model['model'])} {show.money(model['cost_usd'])}" for model in row["models"]]


_SPENT: list[tables.Column] = [*show.SPEND[:2], ("by model", lambda row: _models(row) or "-", False)]
_SESSION: list[tables.Column] = [
    _id("session"),
    *_SPENT,
    ("tools", lambda row: show.count(row["tool_calls"]), True),
]
_RUN: list[tables.Column] = [_id("run"), *_SPENT]
_CALL: list[tables.Column] = [
    _id("session"),
    ("tool", lambda row: show.short(str(row["tool"])), False),
    ("times", lambda row: show.count(row["times"]), True),
    ("loop", lambda row: "loop" if row["loop"] else "-", False),
    ("signature", lambda row: row["signature"], False),
]
_UNPRICED: list[tables.Column] = [
    ("model", lambda row: show.short(str(row["model"])), False),
    ("why", lambda row: row["why"], False),
    ("spans", lambda row: show.count(row["spans"]), True),
]


_NAME = "spanledger"

_SERVICES = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_FREE_PORT = "127.0.0.1:0"
_PAUSE = 0.4
"""Seconds between requests on a terminal."""
_TIMEOUT = 20.0

_BACKEND = 'endpoint: "BACKEND:4317", tls: {insecure: true}, signals: [traces]'

_CLOSING = """
Every span, with what it gained, is in the file (a request a line, OTLP-JSON):
  {file}
Why each of them has that:
  {command} explain {settings} {file}

In front of your backend, instead of this demo; without `signals` if it takes logs and metrics too:
  {command} serve --set 'exporters={{otlp_grpc/backend: {{{backend}}}}}'
  export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317   # where your agents run
"""


@click.command()
@click.option("--fast", is_flag=True, help="Do not pause between requests.")
def demo(*, fast: bool) -> None:
    """See it work: recorded spans of real agents are sent through OTLP/gRPC, priced, signed, grouped and written.

    It runs on free ports with a ledger of its own, and leaves its files in a folder that is named at the end.
    """
    set_up("error", "text")
    folder = Path(tempfile.mkdtemp(prefix="spanledger-demo-"))
    try:
        asyncio.run(_demo(folder, pause=0.0 if fast or not console().is_terminal else _PAUSE))
    except StartError as error:
        fail(str(error), FAILED)


async def _demo(folder: Path, *, pause: float) -> None:
    file = folder / "spans.jsonl"
    protocols = f"{{grpc: {{endpoint: '{_FREE_PORT}'}}}}"
    # with which `explain` comes to the same runs and, by the key in the state folder, signatures
    deciding = [f"state.path={folder / 'state'}", f"processor.runs.keys=[{RUN_KEY}]"]
    config = load(
        None,
        [
            f"receivers.otlp.protocols={protocols}",
            f"api.endpoint={_FREE_PORT}",
            f"exporters={{file: {{path: '{file}'}}}}",
            *deciding,
        ],
    )
    out = console()
    async with running(config) as instance:
        address = instance.addresses["OTLP/gRPC"]
        board = Board(instance.ledger, file)
        out.print(Text(f"Spanledger listens on {address} (OTLP/gRPC), its state is in {folder}."))
        with Live(board.shown(), console=out, refresh_per_second=8) if out.is_terminal else nullcontext() as live:
            async for name in _replay(instance, pause):
                board.look(name)
                if live is not None:
                    live.update(board.shown(), refresh=True)
        if not out.is_terminal:
            out.print(board.shown())
    settings = shlex.join([part for setting in deciding for part in ("--set", setting)])
    closing = _CLOSING.format(file=file, command=_command(), settings=settings, backend=_BACKEND)
    out.print(Text(closing), soft_wrap=True)


def _command() -> str:
    """Return the command to call this program by: its name, or where that is on no PATH, its file beside Python's."""
    file = Path(sys.executable).with_name(_NAME)
    return str(file) if shutil.which(_NAME) is None and file.exists() else _NAME


async def _replay(instance: Running, pause: float) -> AsyncIterator[str]:
    """Send every recorded request; gives the name of each once it is answered."""
    async with grpc.aio.insecure_channel(instance.addresses["OTLP/gRPC"]) as channel:
        for name, signal, body in _captures():
            export = channel.unary_unary(_SERVICES[signal], None, None)
            await export(body, timeout=_TIMEOUT)
            yield name
            await asyncio.sleep(pause)


def _captures() -> Iterator[tuple[str, str, bytes]]:
    """Yield for each recording, in order, what it was recorded from, its signal and its export request."""
    folder = files("spanledger_processor.cli") / "captures"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".binpb"):
            stem, signal, _ = file.name.split(".")
            yield stem.partition("-")[2].replace("-", " "), signal, file.read_bytes()
