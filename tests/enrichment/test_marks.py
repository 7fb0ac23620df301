"""Attributes that only Spanledger writes, where they come in (docs/contract.md#forged-attributes)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from captures import Capture, captures
from chats import COST, chat, request, set_attributes
from contract_names import ALL, NAMES
from pipelines import KEY, Pipeline
from replays import attributes, spans_of
from spanledger_processor import synthesized
from spanledger_processor.accounting.account import account
from spanledger_processor.config import load
from spanledger_processor.enrichment import marks, write
from spanledger_processor.enrichment.marks import plan_rewrite, rewrite
from spanledger_processor.enrichment.reading import Reading
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.otlp.encoding import encode_traces
from spanledger_processor.otlp.views import SpanView
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.server.wiring import make_id_resolver, make_stage
from spanledger_processor.signing import Signer

NOW = 1_795_500_000_000_000_000


class Stage:
    """The stage over a ledger in memory."""

    def __init__(self, *sets: str) -> None:
        self.stage = make_stage(load(None, sets), Signer(KEY))
        self.store = MemoryStore()
        self.reading = Reading(self.stage.read(b"", {}, NOW).request)
        self.conflicts = 0
        self.replays = 0

    def send(self, body: bytes, *, trusted: bool = False) -> bytes:
        self.reading = self.stage.read(body, {}, NOW, trusted=trusted)
        decisions = []
        for batch in self.reading.batches:
            with self.store.unit() as unit:
                ruling = account(batch, unit)
                unit.apply(ruling.changes, NOW)
            self.conflicts += ruling.conflicts
            self.replays += ruling.replays
            decisions.append(ruling.decisions)
        return write(self.reading, decisions)

    def one(self, span: Span) -> list[tuple[str, Any]]:
        """Send one span; key and value of what comes out, in order."""
        (out,) = spans_of(ExportTraceServiceRequest.FromString(self.send(request(span))))
        return [
            (pair.key, getattr(pair.value, pair.value.WhichOneof("value") or "string_value")) for pair in out.attributes
        ]


def test_the_table_is_read_as_it_is_meant() -> None:
    assert {
        "spanledger.kind",
        "spanledger.cost.output_usd",
        "spanledger.run.source",
        "spanledger.usage.input_tokens",
    } <= set(ALL)
    assert len(ALL) > 50
    assert set(NAMES) <= set(ALL)


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_no_name_of_the_contract_can_be_forged(name: str, *, marked: bool) -> None:
    """On a GenAI span: it is counted, what we say stands once, and what was said is moved aside."""
    span = chat()
    set_attributes(span, {"spanledger.kind": "tool"} if marked and name != "spanledger.kind" else {})
    set_attributes(span, {name: "said"})
    stage = Stage()
    found = stage.one(span)
    honest = Stage().one(chat(span_id=span.span_id, trace_id=span.trace_id))
    keys = Counter(key for key, _ in found)
    assert max(count for key, count in keys.items() if key.startswith("spanledger.")) == 1
    values = dict(found)
    assert len(stage.reading.batches) == 1
    if name in NAMES or name == "spanledger.source":  # which makes it a synthesized span
        assert values[name] == "said"
        return
    aside = f"spanledger.forged.{name.removeprefix('spanledger.')}"
    assert values.pop(aside) == "said"
    values.pop("spanledger.forged.kind", None)
    assert values == dict(honest)
    assert stage.reading.forged == 1 + (marked and name != "spanledger.kind")


@pytest.mark.parametrize("name", [name for name in ALL if name != "spanledger.source"])  # that makes it a GenAI span
def test_a_plain_span_cannot_carry_what_only_we_write(name: str) -> None:
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, name="GET /")
    set_attributes(span, {"http.method": "GET", name: 999})
    left = name if name in NAMES else f"spanledger.forged.{name.removeprefix('spanledger.')}"
    assert Stage().one(span) == [("http.method", "GET"), (left, 999)]


def test_no_name_stands_twice_among_those_moved_aside() -> None:
    span = chat()
    forged = (("cost.usd", 1.5), ("forged.cost.usd", 2.5), ("cost.usd", 3.5), ("note", 4.5), ("note", 5.5))
    for key, value in forged:
        span.attributes.add(key=f"spanledger.{key}").value.double_value = value
    stage = Stage()
    found = [(key, value) for key, value in stage.one(span) if "forged" in key]
    assert found == [("spanledger.forged.cost.usd", 2.5), ("spanledger.forged.note", 4.5)]
    assert stage.reading.forged == 4


def test_a_value_like_ours_beside_another_one_leaves_one_of_the_key() -> None:
    span = chat()
    honest = dict(Stage().one(span))
    for value in ("spoken for", honest["spanledger.kind"], "llm too"):
        span.attributes.add(key="spanledger.kind").value.string_value = value
    found = [(key, value) for key, value in Stage().one(span) if key.endswith("kind")]
    assert found == [
        ("spanledger.forged.kind", "spoken for"),
        ("spanledger.kind", "llm"),
    ]


def test_all_other_bytes_of_the_span_stay() -> None:
    """Order, unknown fields, lengths that are longer than needed, and a value of every type."""
    before = b"\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8 + b"\x4a\x06\x0a\x01a\x12\x01\x01"
    array, later_field = b"\x12\x02\x2a\x00", b"\x1a\x03abc"
    key, new = b"spanledger.cost.usd", b"spanledger.forged.cost.usd"
    attribute = b"\x0a" + bytes((len(key) | 0x80, 0)) + key + array + later_field
    behind = b"\xa2\x06\x03xyz\x22\x00"
    span = before + b"\x4a" + bytes((len(attribute) | 0x80, 0)) + attribute + behind
    moved = rewrite(span, plan_rewrite(span, SpanView.parse(span).attributes, b"", frozenset()))
    aside = b"\x0a" + bytes((len(new),)) + new + array + later_field
    assert moved == before + b"\x4a" + bytes((len(aside),)) + aside + behind


@pytest.mark.parametrize("capture", captures(), ids=lambda capture: capture.name)
def test_what_went_round_a_loop_passes_as_it_is(capture: Capture) -> None:
    """Our own spans come back: same bytes, nothing counted twice, no conflict, and nothing taken for forged."""
    stage, logs = (
        Stage("processor.aliases=[gen_ai.usage.cost, llm.cost.*, operation.cost, mlflow.llm.cost]"),
        Pipeline(),
    )
    for signal, body in capture.requests:
        made = logs._logs.read(body, {}).spans if signal == "logs" else []
        if signal == "logs" and not made:
            continue
        out = stage.send(encode_traces(made) if made else body)
        assert stage.reading.forged == 0
        genai = sum(len(batch) for batch in stage.reading.places) - sum(
            fact.call is None for batch in stage.reading.batches for fact in batch.facts
        )
        before = stage.conflicts
        assert stage.send(out) == out
        assert (stage.reading.forged, stage.conflicts) == (0, before)
        assert stage.reading.marked == genai


def test_a_billed_cost_that_came_in_is_still_one_when_the_span_comes_back() -> None:
    stage = Stage()
    span = chat()
    span.attributes.add(key="gen_ai.usage.cost").value.double_value = 0.5
    out = stage.send(request(span))
    assert stage.send(out) == out
    assert (stage.replays, stage.conflicts) == (1, 0)


def test_another_instance_is_believed_where_its_hop_is_trusted() -> None:
    marked = Stage("processor.pricing.overrides=[{model: gpt-4o-mini, input: 1, output: 1}]").send(request(chat()))
    here = Stage()
    assert here.send(marked, trusted=True) == marked
    assert (here.reading.marked, here.reading.batches) == (1, [])
    out = here.send(marked)
    assert len(here.reading.batches) == 1
    values = attributes(next(iter(spans_of(ExportTraceServiceRequest.FromString(out)))))
    assert values["spanledger.cost.source"] == "computed"  # the other's alias is no bill
    assert values["spanledger.cost.usd"] == pytest.approx(COST, rel=1e-12)
    assert values["spanledger.forged.cost.usd"] == pytest.approx(0.0011, rel=1e-12)  # 1,100 tokens x $1 per million


def test_a_hop_that_is_trusted_says_nothing_for_spans_without_a_mark() -> None:
    span = chat()
    span.attributes.add(key="spanledger.cost.usd").value.double_value = 999.0
    here = Stage()
    here.send(request(span), trusted=True)
    assert here.reading.forged == 1


def test_synthesized_spans_bring_what_they_may_and_nothing_else() -> None:
    span = chat()
    brought = {
        synthesized.SOURCE: "file:mux",
        synthesized.GRANULARITY: "per-turn",
        synthesized.NOTE: "as the file says",
        synthesized.SESSION_ID: "s",
        synthesized.TASK_ID: "t",
        synthesized.TASK_KIND: "worker",
        "spanledger.source.cumulative.cost_usd": "1",
        "spanledger.source.model_key": "m",
    }
    set_attributes(span, brought)
    span.attributes.add(key=synthesized.REPORTED_USD).value.double_value = 0.0021547500000000003
    forged = {"spanledger.cost.usd": 1, "spanledger.dialect": "x", "spanledger.budget.name": "x"}
    set_attributes(span, forged)
    stage = Stage()
    found = stage.one(span)
    values = dict(found)
    assert len(values) == len(found)
    assert {key: values[key] for key in brought} == brought
    assert values[synthesized.REPORTED_USD] == 0.0021547500000000003  # no exact multiple of 1e-12, and as it came
    assert stage.reading.forged == len(forged)


def test_the_component_keeps_the_same_keys_where_it_cannot_ask() -> None:
    """What senders may write, as the Collector component has it in Go."""
    code = (Path(__file__).resolve().parents[2] / "processor/collector/internal/protocol/attributes.go").read_text()

    def listed(name: str) -> set[str]:
        return set(re.findall(r'"([^"]+)"', code.partition(f"var {name} = set(")[2].partition("\n)")[0]))

    assert listed("usualNames") == {
        key for key in make_id_resolver(load(None).processor).keys if key.startswith("spanledger.")
    }
    assert listed("broughtKeys") == marks._BROUGHT_KEYS


def test_a_missed_mark_goes_when_the_span_is_enriched() -> None:
    span = chat()
    set_attributes(span, {"spanledger.missed": "timeout"})
    stage = Stage()
    assert "missed" not in " ".join(key for key, _ in stage.one(span))
    assert stage.reading.forged == 0


def test_on_a_span_that_cannot_be_enriched_nothing_forged_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    monkeypatch.setattr(stage.stage._builder, "detect", lambda _: 1 // 0)
    span = chat()
    span.attributes.add(key="spanledger.cost.usd").value.double_value = 999.0
    values = dict(stage.one(span))
    assert stage.reading.failures == {"ZeroDivisionError": 1}
    sent = attributes(span)
    assert values == {key: sent[key] for key in sent if key != "spanledger.cost.usd"} | {
        "spanledger.forged.cost.usd": 999.0
    }


KEYS = [
    "spanledger.kind",
    "spanledger.cost.usd",
    "spanledger.forged.kind",
    "spanledger.session.id",
    "spanledger.missed",
]
ATTRIBUTES = st.lists(
    st.tuples(st.sampled_from([*KEYS, "gen_ai.usage.cost", "app"]), st.sampled_from(["llm", "x", ""]))
)


@given(ATTRIBUTES)
def test_no_key_of_ours_is_there_twice_and_nothing_else_changes(pairs: list[tuple[str, str]]) -> None:
    span = chat()
    for key, value in pairs:
        span.attributes.add(key=key).value.string_value = value
    found = Stage().one(span)
    keys = Counter(key for key, _ in found if key.startswith("spanledger."))
    names = {key: count for key, count in Counter(key for key, _ in pairs).items() if key in (*NAMES, KEYS[2])}
    assert all(count == 1 or count == names.get(key) for key, count in keys.items())
    assert dict(found)["spanledger.kind"] == "llm"
    others = [pair for pair in found if pair[0] == "app"]
    assert others == [pair for pair in pairs if pair[0] == "app"]


@given(st.binary(max_size=300))
def test_no_bytes_get_past_malformed_error(span: bytes) -> None:
    try:
        rewrite(span, plan_rewrite(span, SpanView.parse(span).attributes, b"", frozenset()))
    except MalformedError:
        return
