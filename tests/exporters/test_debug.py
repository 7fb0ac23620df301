"""What is shown on the terminal, and above all what is not."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from captures import captures
from contents import pieces
from requests_out import data_points, log_records, settings, soon, spans
from spanledger_exporters import ACCEPTED, Result, Signal, Verdict, build
from spanledger_exporters.debug import Debug
from spanledger_exporters.settings import DebugSettings
from spanledger_processor.receivers.driver import detect_signal
from spanledger_processor.server.span_display import SpanDisplay

CAPTURES = Path(__file__).parents[1] / "data" / "otlp"

TRACE = "trace 00000000000000000000000000000001 span"


async def shown(signal: Signal, body: bytes, verbosity: str = "basic", stream: io.StringIO | None = None) -> list[str]:
    """The lines that one request makes."""
    stream = stream or io.StringIO()
    debug = Debug("debug", DebugSettings.model_validate({"verbosity": verbosity}), stream, SpanDisplay())
    await debug.start()
    assert await debug.send(signal, body, soon()) == ACCEPTED
    await debug.close()
    return stream.getvalue().splitlines()


PRICED: dict[str, Any] = {
    "spanledger__kind": "llm",
    "spanledger__cost__usd": 0.0025,
    "spanledger__session__id": "s-1",
    "spanledger__run__id": "r-1",
    "gen_ai__usage__input_tokens": 12,
    "gen_ai__prompt": "a secret",
}


@pytest.mark.parametrize(
    ("signal", "body", "line"),
    [
        ("traces", b"", "traces: 0 spans"),
        ("traces", spans("a", "b", http__route="/"), "traces: 2 spans"),
        ("traces", spans("a", "b", **PRICED), "traces: 2 spans, 2 GenAI, 0.005 USD"),
        (
            "traces",
            spans("a", spanledger__kind="llm", spanledger__cost__unpriced="no_model"),
            "traces: 1 spans, 1 GenAI, 0 USD, 1 unpriced",
        ),
        ("traces", spans("a", spanledger__kind="llm", spanledger__cost__usd="x"), "traces: 1 spans, 1 GenAI, 0 USD"),
        ("logs", log_records("a secret", "b"), "logs: 2 log records"),
        ("metrics", data_points(3), "metrics: 3 data points"),
        ("traces", b"\xff", "traces: cannot be read: "),
    ],
)
async def test_basic_is_one_line_a_request(signal: Signal, body: bytes, line: str) -> None:
    (said,) = await shown(signal, body)
    assert said == line or (line.endswith(": ") and said.startswith(line))


async def test_normal_is_one_line_an_item() -> None:
    lines = await shown("traces", spans("a secret", **PRICED), "normal")
    assert lines[1:] == [f"  llm, 1.500 s, 0.0025 USD, session s-1, run r-1, {TRACE} 0000000000000001"]
    assert (await shown("logs", log_records("a secret"), "normal"))[1:] == ["  user_prompt, severity 9"]
    assert (await shown("metrics", data_points(3), "normal"))[1:] == ["  tokens, sum, 3 data points"]


async def test_detailed_adds_the_attributes_that_hold_no_content() -> None:
    lines = await shown("traces", spans("chat gpt", **PRICED), "detailed")
    assert lines[2:] == [
        "    gen_ai.usage.input_tokens: 12",
        "    spanledger.cost.usd: 0.0025",
        "    spanledger.kind: llm",
        "    spanledger.run.id: r-1",
        "    spanledger.session.id: s-1",
    ]


async def test_a_span_that_bears_content_is_not_shown_by_its_name() -> None:
    """Libraries name spans by tasks and roles, which are parts of prompts."""
    for capture in captures():
        known = [piece for piece in pieces(capture) if len(piece) > 12]
        for signal, body in capture.requests:
            said = "\n".join(await shown(detect_signal(signal, body), body, "detailed"))
            assert not [piece for piece in known if piece in said], capture.name
    named = spans(
        "Answer as a lawyer would. Be brief._execute_core", gen_ai__prompt="x", gen_ai__operation__name="chat"
    )
    assert "lawyer" not in "".join(await shown("traces", named, "normal"))
    assert (await shown("traces", spans("chat gpt", gen_ai__request__model="gpt"), "normal"))[1].startswith(
        "  chat gpt,"
    )


async def test_what_cannot_be_read_is_said_to_be_so() -> None:
    """One span that is none, and one attribute whose value is none, in requests that are some."""
    bad_span = bytes.fromhex("0a0612040a021200")  # would be empty spans
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    scope.spans.add(name="a")
    body = request.SerializeToString().replace(scope.spans[0].SerializeToString(), b"\x2a\x7fa")
    assert await shown("traces", bad_span, "detailed") is not None
    assert (await shown("traces", body, "detailed"))[1:] == ["  a span that cannot be read"]


async def test_no_escape_sequence_and_no_line_of_its_own_from_a_name() -> None:
    lines = await shown("traces", spans("\x1b[2Jgone\nTraces: 0\x07", spanledger__kind="\x1b[0m"), "detailed")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


async def test_a_terminal_that_knows_no_unicode_gets_what_it_can_show() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    debug = Debug("debug", DebugSettings.model_validate({"verbosity": "normal"}), stream, SpanDisplay())
    assert await debug.send("traces", spans("größe"), soon()) == ACCEPTED
    await debug.close()
    assert b"gr??e, 1.500 s" in raw.getvalue()


async def test_a_terminal_that_is_gone_holds_nothing_up() -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    debug = Debug("debug", DebugSettings(), Gone())
    for _ in range(2):
        result = await debug.send("traces", spans("a"), soon())
        assert result == Result(Verdict.ACCEPTED, "not shown: Broken pipe")
    await debug.close()


async def test_a_terminal_that_is_stopped_holds_nothing_up() -> None:
    """As by Ctrl-S: accepted after a moment; what was begun is written when it goes on."""
    go_on = threading.Event()

    class Stopped(io.StringIO):
        def write(self, text: str) -> int:
            assert go_on.wait(30)
            return super().write(text)

    stream = Stopped()
    debug = Debug("debug", DebugSettings(), stream)
    results = await asyncio.gather(*(debug.send("traces", spans("a"), soon()) for _ in range(3)))
    assert set(results) == {Result(Verdict.ACCEPTED, "not shown: the terminal does not move")}
    go_on.set()
    await debug.close()
    assert set(stream.getvalue().splitlines()) == {"traces: 1 spans"}


async def test_a_bug_of_ours_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("spanledger_exporters.debug.summary", bug)
    debug = Debug("debug", DebugSettings(), io.StringIO())
    result = await debug.send("traces", spans("a"), soon())
    assert result == Result(Verdict.ACCEPTED, "not shown: unexpected ZeroDivisionError")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    await debug.close()


async def test_it_writes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    debug = build("debug", settings("debug"))
    await debug.send("traces", spans("a"), soon())
    await debug.close()
    assert capsys.readouterr().out == "traces: 1 spans\n"


CONTENT_KEYS = (
    "ai.prompt",
    "ai.response.text",
    "gen_ai.completion",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.prompt",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "input.value",
    "llm.input_messages.0.message.content",
    "llm.prompts",
    "output.value",
    "prompt",
    "tool.parameters",
    "traceloop.entity.input",
    "user_prompt",
)


@pytest.mark.parametrize("verbosity", ["basic", "normal", "detailed"])
@pytest.mark.parametrize("key", CONTENT_KEYS)
async def test_content_is_never_shown(key: str, verbosity: str) -> None:
    lines = await shown("traces", spans("a", **{key: "a secret", "spanledger.kind": "llm"}), verbosity)
    assert "secret" not in "\n".join(lines)
    assert key not in "\n".join(lines)
