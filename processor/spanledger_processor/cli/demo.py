"""`spanledger demo`: the main job on recorded spans of real agents, in seconds, with nothing else installed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path

import click
import grpc.aio
from rich.live import Live
from rich.text import Text

from spanledger_processor.cli.demo_board import RUN_KEY, Board
from spanledger_processor.cli.options import FAILED, fail
from spanledger_processor.cli.show import console
from spanledger_processor.config import load
from spanledger_processor.server.running import Running, StartError, running
from spanledger_processor.telemetry.log import set_up

_SERVICES = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_FREE_PORT = "127.0.0.1:0"
_PAUSE = 0.4
"""Seconds between requests where somebody watches."""
_TIMEOUT = 20.0

_SETTINGS = 'endpoint: "BACKEND:4317", tls: {insecure: true}, signals: [traces]'

_CLOSING = """
Every span, with what it gained, is in the file (a request a line, OTLP-JSON):
  {file}
Look at why: spanledger explain {file}

In front of your backend, instead of this demo; without `signals` if it takes logs and metrics too:
  spanledger serve --set 'exporters={{otlp_grpc/backend: {{{settings}}}}}'
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
    config = load(
        None,
        [
            f"receivers.otlp.protocols={protocols}",
            f"api.endpoint={_FREE_PORT}",
            f"state.path={folder / 'state'}",
            f"exporters={{file: {{path: '{file}'}}}}",
            f"processor.runs.keys=[{RUN_KEY}]",
        ],
    )
    out = console()
    async with running(config) as made:
        board = Board(made.ledger, file)
        out.print(Text(f"Spanledger listens on {made.addresses['OTLP/gRPC']} (OTLP/gRPC), its state is in {folder}."))
        with Live(board.shown(), console=out, refresh_per_second=8) if out.is_terminal else nullcontext() as live:
            async for name in _replay(made, pause):
                board.look(name)
                if live is not None:
                    live.update(board.shown(), refresh=True)
        if not out.is_terminal:
            out.print(board.shown())
    out.print(Text(_CLOSING.format(file=file, settings=_SETTINGS)), soft_wrap=True)


async def _replay(made: Running, pause: float) -> AsyncIterator[str]:
    """Send every recorded request; gives the name of each once it is answered."""
    async with grpc.aio.insecure_channel(made.addresses["OTLP/gRPC"]) as channel:
        for name, signal, body in _captures():
            export = channel.unary_unary(_SERVICES[signal], None, None)
            await export(body, timeout=_TIMEOUT)
            yield name
            await asyncio.sleep(pause)


def _captures() -> Iterator[tuple[str, str, bytes]]:
    """What a file was recorded from, its signal, and its export request, in order."""
    folder = files("spanledger_processor.cli") / "captures"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".binpb"):
            stem, signal, _ = file.name.split(".")
            yield stem.partition("-")[2].replace("-", " "), signal, file.read_bytes()
