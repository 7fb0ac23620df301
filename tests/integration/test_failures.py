"""Parts of the pipeline go down and come back: nothing is lost, and nothing counts twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from real_parts import Loop, Tempo
from replays import Replay, attributes, prepare, traced
from tools.programs import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

NAMES = (
    "otel-genai/S1-anthropic",
    "otel-genai/S3-openai-chat",
    "otel-genai/S7-openai-chat",
    "openinference/S3-openai-chat",
    "langchain-openinference/S6",
    "pydantic-ai/S6",
    "vercel-ai-sdk-v5/openai-tools",
)
CAPTURES = [traced()[name] for name in NAMES]


@pytest.fixture
def fresh(otelcol: None, tempo: Tempo, tmp_path: Path) -> Iterator[Loop]:
    """Collector and Spanledger of this test alone."""
    with Loop(tmp_path, tempo.otlp) as loop:
        yield loop


def _all_there_counted_once(replays: list[Replay], loop: Loop, tempo: Tempo) -> None:
    """Every span is in Tempo; the amounts on the spans and the ledger's total are the truth.

    Summed over traces, not by TraceQL metrics: a sender that got no answer sends again, and Tempo's metrics count what
    arrives, while its traces hold each span once.
    """
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for replay in replays:
        for trace in {trace for trace, _ in replay.spans}:
            seen |= {(trace, span.span_id.hex()): attributes(span) for span in tempo.spans(trace)}
    assert seen.keys() == {identity for replay in replays for identity in replay.spans}
    truth = float(sum(replay.cost for replay in replays))
    on_spans = sum(values.get("spanledger.cost.usd", 0.0) for values in seen.values())
    assert on_spans == pytest.approx(truth, rel=1e-9)
    assert loop.ledger()["total"]["cost_usd"] == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("killed", [("spanledger",), ("collector",), ("spanledger", "collector")], ids=" and ".join)
def test_killed_while_requests_stream_in(killed: tuple[str, ...], fresh: Loop, tempo: Tempo) -> None:
    """Killed twice in mid-stream. The sender sends again what was not answered, as senders do."""
    replays = [prepare(capture) for _ in range(6) for capture in CAPTURES]
    answered = threading.Semaphore(0)

    def stream() -> None:
        for replay in replays:
            for request in replay.requests:
                eventually(partial(fresh.send, request))
            answered.release()

    sender = threading.Thread(target=stream)
    sender.start()
    for _ in range(2):
        for _ in range(len(replays) // 3):
            assert answered.acquire(timeout=120)
        for name in killed:
            getattr(fresh, name).kill()
        for name in killed:
            getattr(fresh, name).start()
    sender.join(timeout=120)
    assert not sender.is_alive()
    eventually(lambda: _all_there_counted_once(replays, fresh, tempo), patience=120)


def test_the_collector_killed_with_a_full_queue(fresh: Loop, tempo: Tempo) -> None:
    """What the Collector answered for is on its disk: killed while Spanledger is away, it delivers after a restart."""
    replays = [prepare(capture) for capture in CAPTURES]
    fresh.spanledger.stop()
    for replay in replays:
        fresh.send(*replay.requests)
    fresh.collector.kill()
    fresh.spanledger.start()
    fresh.collector.start()
    eventually(lambda: _all_there_counted_once(replays, fresh, tempo), patience=120)


def test_the_backend_down_and_back(fresh: Loop, tempo: Tempo) -> None:
    """While Tempo is away the ledger counts on, and all spans reach Tempo after it is back.

    It is killed: what it wants to tidy before it ends takes longer than all the rest.
    """
    replays = [prepare(capture) for capture in CAPTURES]
    half = len(replays) // 2
    tempo.program.kill()
    try:
        for replay in replays[:half]:
            fresh.send(*replay.requests)
        truth = float(sum(replay.cost for replay in replays[:half]))

        def counted() -> None:
            assert fresh.ledger()["total"]["cost_usd"] == pytest.approx(truth, rel=1e-12)

        eventually(counted)
    finally:
        tempo.program.start()
    for replay in replays[half:]:
        fresh.send(*replay.requests)
    eventually(lambda: _all_there_counted_once(replays, fresh, tempo), patience=120)


def test_a_loop_wired_into_itself_does_not_grow(otelcol: None, tempo: Tempo, tmp_path: Path) -> None:
    """Spanledger sends to the port that feeds it: spans go round, and after the first time nothing of them changes.

    A file beside the wrong destination shows each pass.
    """
    passes = tmp_path / "passes.jsonl"
    replay = prepare(CAPTURES[0])
    with Loop(tmp_path, tempo.otlp, [f"exporters.file.path={passes}"], wired_into_itself=True) as loop:
        loop.send(*replay.requests)

        def around() -> None:
            assert (
                loop.metric("spanledger_passed_marked_spans_total") >= loop.metric("spanledger_genai_spans_total") > 0
            )

        eventually(around)
        assert loop.ledger()["total"]["cost_usd"] == pytest.approx(float(replay.cost), rel=1e-12)
        genai = loop.metric("spanledger_genai_spans_total")
    seen: dict[str, set[str]] = {}
    for line in passes.read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                seen.setdefault(span["spanId"], set()).add(json.dumps(span, sort_keys=True))
    assert len(seen) == len(replay.spans)
    assert {len(forms) for forms in seen.values()} == {1}
    assert sum("spanledger.kind" in form for forms in seen.values() for form in forms) == genai
