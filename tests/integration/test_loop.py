"""Real agents' spans through the real Collector and Spanledger into the real Tempo."""

from __future__ import annotations

import secrets
import time
from collections import Counter

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from real_parts import Loop, Tempo
from replays import Replay, attributes, identity, prepare, traced
from tools.programs import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

CAPTURES = traced(but=("claude-code", "codex", "gemini-cli"))
"""Every client whose spans alone tell what it spent."""


@pytest.fixture(scope="module")
def replays(loop: Loop) -> dict[str, Replay]:
    """All captures, sent once."""
    prepared = {name: prepare(capture) for name, capture in CAPTURES.items()}
    for replay in prepared.values():
        loop.send(*replay.requests)
    return prepared


@pytest.mark.parametrize("name", CAPTURES)
def test_every_span_arrives_once_and_otherwise_unchanged(name: str, replays: dict[str, Replay], tempo: Tempo) -> None:
    """What came out is what went in, and attributes of ours; Tempo counts each span once.

    Less what Tempo does not keep: the flags, and the order of attributes.
    """
    replay = replays[name]

    def arrived() -> None:
        counts = tempo.metric(f'{{ resource.replay = "{replay.label}" }} | count_over_time()')
        assert sum(counts.values()) == len(replay.spans)

    eventually(arrived)
    received = [span for trace in {trace for trace, _ in replay.spans} for span in tempo.spans(trace)]
    assert Counter(map(identity, received)) == Counter(replay.spans.keys())
    for span in received:
        sent = replay.spans[identity(span)]
        came, went = (Counter(map(_encoded, either.attributes)) for either in (span, sent))
        assert not went - came
        added = {KeyValue.FromString(attribute).key for attribute in came - went}
        assert all(key.startswith("spanledger.") or key == "gen_ai.usage.cost" for key in added)
        for both in (span, sent):
            both.ClearField("attributes")
            both.ClearField("flags")
        assert span == sent


def _encoded(attribute: KeyValue) -> bytes:
    return attribute.SerializeToString()


@pytest.mark.parametrize("name", CAPTURES)
def test_tempo_sums_to_the_truth(name: str, replays: dict[str, Replay], tempo: Tempo) -> None:
    """A TraceQL sum of `spanledger.cost.usd` is what the model server's own log costs by the price list."""
    replay = replays[name]
    priced = f'{{ resource.replay = "{replay.label}" && span.spanledger.cost.usd > 0.0 }}'

    def summed() -> None:
        counts = tempo.metric(f"{priced} | count_over_time()")
        assert sum(counts.values()) == replay.priced
        sums = tempo.metric(f"{priced} | sum_over_time(span.spanledger.cost.usd)")
        assert sum(sums.values()) == pytest.approx(float(replay.cost), rel=1e-12)

    eventually(summed)


def test_search_finds_what_cost_money(replays: dict[str, Replay], tempo: Tempo) -> None:
    """`{ span.spanledger.cost.usd > 0.0 }` finds every trace of a priced call; `> 0`, an integer, finds none."""
    replay = replays["otel-genai/S1-openai-chat"]
    ours = f'resource.replay = "{replay.label}"'

    def found() -> None:
        traces = tempo.search(f"{{ {ours} && span.spanledger.cost.usd > 0.0 }} | select(span.spanledger.session.id)")
        assert {str(trace["traceID"]).zfill(32) for trace in traces} == {trace for trace, _ in replay.spans}

    eventually(found)
    assert not tempo.search(f"{{ {ours} && span.spanledger.cost.usd > 0 }}")


def test_tool_repeats_are_counted(replays: dict[str, Replay], tempo: Tempo) -> None:
    """The captured agent that calls a tool three times with the same arguments shows a third repeat."""
    label = replays["otel-genai/S7-openai-chat"].label
    query = f'{{ resource.replay = "{label}" && span.spanledger.tool.repeats = 3 }} | count_over_time()'

    def counted() -> None:
        assert sum(tempo.metric(query).values()) == 1

    eventually(counted)


def test_the_ledger_agrees_with_the_backend(replays: dict[str, Replay], loop: Loop, tempo: Tempo) -> None:
    """`spanledger summary`, beside the running server, tells the sum of all that arrived."""
    sent = "|".join(replay.label for replay in replays.values())
    priced = f'{{ resource.replay =~ "{sent}" && span.spanledger.cost.usd > 0.0 }}'
    query = f"{priced} | sum_over_time(span.spanledger.cost.usd)"
    truth = sum(replay.cost for replay in replays.values())

    def agrees() -> None:
        assert sum(tempo.metric(query).values()) == pytest.approx(float(truth), rel=1e-12)
        assert loop.ledger()["total"]["cost_usd"] == pytest.approx(float(truth), rel=1e-12)

    eventually(agrees)


def test_a_request_larger_than_four_mebibytes_comes_through(loop: Loop, tempo: Tempo) -> None:
    """Agents that send whole prompts exceed the default limit of every hop; the shipped files raise them all."""
    request = ExportTraceServiceRequest()
    now = time.time_ns()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="chat", start_time_unix_nano=now)
    span.trace_id, span.span_id, span.end_time_unix_nano = secrets.token_bytes(16), secrets.token_bytes(8), now + 10**6
    span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    span.attributes.add(key="gen_ai.input.messages").value.string_value = secrets.token_hex(5 * 2**20)
    loop.send(request.SerializeToString())

    def arrived() -> None:
        (received,) = tempo.spans(span.trace_id.hex())
        assert attributes(received)["spanledger.kind"] == "llm"

    eventually(arrived)


def test_the_shipped_folders_are_used(loop: Loop, replays: dict[str, Replay]) -> None:
    """The ledger stands where `state.path` says, readable by its owner only."""
    assert (loop.state / "ledger").is_dir()
    assert loop.state.stat().st_mode & 0o077 == 0
