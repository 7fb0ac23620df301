"""The attributes that a decision puts on its span (docs/contract.md#attributes-added)."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanledger_processor.enrichment.attributes import ALIASES, alias_keys, encode
from spanledger_processor.model import Cost, Decision, Signature, Usage

COUNTED = Decision(
    kind="llm",
    dialect="otel",
    session_id="s1",
    session_source="attribute",
    run_id="r1",
    run_source="session_id",
    usage=Usage(input=1000, output=200, cache_read=300, cache_write=0),
    cost=Cost(
        amount=4_567_000_000,
        source="computed",
        computed=4_567_000_000,
        input=1_500_000_000,
        cache_read=67_000_000,
        output=3_000_000_000,
        price="genai-prices@0.2.3/anthropic/claude-sonnet-4-5",
    ),
    session_cost=10**12,
    run_cost=3 * 10**12,
)

CONTRACT = {
    "spanledger.kind": "kind",
    "spanledger.dialect": "dialect",
    "spanledger.granularity": "granularity",
    "spanledger.session.id": "session_id",
    "spanledger.session.source": "session_source",
    "spanledger.session.parent_id": "session_parent_id",
    "spanledger.session.closed": "session_closed",
    "spanledger.run.id": "run_id",
    "spanledger.run.source": "run_source",
    "spanledger.agent.id": "agent_id",
    "spanledger.agent.parent_id": "agent_parent_id",
    "spanledger.task.id": "task_id",
    "spanledger.task.kind": "task_kind",
    "spanledger.cost.duplicate_of": "duplicate_of",
    "spanledger.note": "note",
    "spanledger.source": "source",
}
"""Attributes that say what a field of the decision says; absent where it is empty."""


def attributes(decision: Decision) -> dict[str, Any]:
    span = Span.FromString(encode(decision))
    found = {a.key: getattr(a.value, a.value.WhichOneof("value") or "") for a in span.attributes}
    assert len(found) == len(span.attributes), "a key stands twice"
    return found


def test_a_counted_span() -> None:
    assert attributes(COUNTED) == {
        "spanledger.kind": "llm",
        "spanledger.dialect": "otel",
        "spanledger.granularity": "per-message",
        "spanledger.session.id": "s1",
        "spanledger.session.source": "attribute",
        "spanledger.run.id": "r1",
        "spanledger.run.source": "session_id",
        "spanledger.usage.input_tokens": 1000,
        "spanledger.usage.output_tokens": 200,
        "spanledger.usage.cache_read_tokens": 300,
        "spanledger.usage.cache_write_tokens": 0,
        "spanledger.cost.usd": 0.004567,
        "spanledger.cost.input_usd": 0.0015,
        "spanledger.cost.cache_read_usd": 0.000067,
        "spanledger.cost.cache_write_usd": 0.0,
        "spanledger.cost.output_usd": 0.003,
        "spanledger.cost.other_usd": 0.0,
        "spanledger.cost.computed_usd": 0.004567,
        "spanledger.cost.source": "computed",
        "spanledger.cost.price": "genai-prices@0.2.3/anthropic/claude-sonnet-4-5",
        "spanledger.session.cost_usd": 1.0,
        "spanledger.run.cost_usd": 3.0,
    }


def test_a_plain_span_says_only_what_it_is() -> None:
    assert attributes(Decision(kind="workflow", dialect="openinference")) == {
        "spanledger.kind": "workflow",
        "spanledger.dialect": "openinference",
        "spanledger.granularity": "per-message",
    }


def test_a_billed_cost_stands_beside_what_was_computed_and_reported() -> None:
    cost = Cost(
        amount=2, source="billed", computed=10**12, input=10**12, reported=2, price="override/ours", estimate=True
    )
    found = attributes(replace(COUNTED, cost=cost))
    assert found["spanledger.cost.usd"] == found["spanledger.cost.reported_usd"] == 2e-12
    assert found["spanledger.cost.computed_usd"] == found["spanledger.cost.input_usd"] == 1.0
    assert (found["spanledger.cost.source"], found["spanledger.cost.price"]) == ("billed", "override/ours")
    assert found["spanledger.cost.estimate"] is True


def test_an_unpriced_span_says_why_and_has_no_cost() -> None:
    found = attributes(replace(COUNTED, cost=Cost(unpriced="unknown_model"), session_cost=None, run_cost=None))
    assert found["spanledger.cost.unpriced"] == "unknown_model"
    assert [key for key in found if key.endswith("_usd") or key == "spanledger.cost.usd"] == []
    assert found["spanledger.usage.input_tokens"] == 1000


def test_a_span_that_is_not_accounted_keeps_usage_and_what_was_computed() -> None:
    cost = Cost(computed=5, output=5, unpriced="not_accounted")
    found = attributes(replace(COUNTED, cost=cost, session_cost=None, run_cost=None, aliases=tuple(ALIASES)))
    assert "spanledger.cost.usd" not in found
    assert found["spanledger.cost.computed_usd"] == 5e-12
    assert found["spanledger.cost.unpriced"] == "not_accounted"
    assert not found.keys() & ALIASES.keys()


@pytest.mark.parametrize(
    "adds_nothing", [{"repeats_children": True, "subtree": 7}, {"duplicate_of": "00f067aa0ba902b7"}]
)
def test_a_span_that_adds_nothing_has_no_usage_and_no_cost(adds_nothing: dict[str, Any]) -> None:
    """Whatever else the decision holds."""
    found = attributes(replace(COUNTED, aliases=tuple(ALIASES), **adds_nothing))
    assert [key for key in found if key.startswith(("spanledger.usage.", "spanledger.cost."))] == [
        f"spanledger.cost.{key}"
        for key in (["repeats_children", "subtree_usd"] if "subtree" in adds_nothing else ["duplicate_of"])
    ]
    assert not found.keys() & (ALIASES.keys() | {"spanledger.session.cost_usd", "spanledger.run.cost_usd"})


def test_an_agent_that_repeats_its_children_holds_the_cost_below_it() -> None:
    found = attributes(replace(COUNTED, repeats_children=True, subtree=1_500_000_000_000))
    assert found["spanledger.cost.repeats_children"] is True
    assert found["spanledger.cost.subtree_usd"] == 1.5


def test_a_tool_call() -> None:
    tool = Decision("tool", "otel", signature=Signature("h1:01234567:89", "full"), tool_repeats=3, tool_consecutive=2)
    found = attributes(replace(tool, tool_loop=True))
    assert {key: value for key, value in found.items() if ".tool." in key} == {
        "spanledger.tool.signature": "h1:01234567:89",
        "spanledger.tool.signature_scope": "full",
        "spanledger.tool.repeats": 3,
        "spanledger.tool.consecutive": 2,
        "spanledger.tool.loop": True,
    }
    assert attributes(tool)["spanledger.tool.loop"] is False


def test_a_tool_call_without_arguments_is_not_counted() -> None:
    found = attributes(Decision("tool", "otel", signature=Signature("h1:01234567:89", "name_only")))
    assert [key for key in found if ".tool." in key] == ["spanledger.tool.signature", "spanledger.tool.signature_scope"]


AMOUNT = st.integers(0, 10**24)
TEXT = st.text(max_size=200)
COUNT = st.none() | st.integers(-(2**63), 2**63 - 1)
COSTS = st.builds(
    Cost,
    amount=st.none() | AMOUNT,
    source=st.sampled_from(["", "billed", "computed", "reported"]),
    computed=st.none() | AMOUNT,
    input=AMOUNT,
    cache_read=AMOUNT,
    cache_write=AMOUNT,
    output=AMOUNT,
    other=AMOUNT,
    reported=st.none() | AMOUNT,
    price=TEXT,
    estimate=st.booleans(),
    unpriced=st.none() | st.sampled_from(["no_model", "not_accounted"]),
)
DECISIONS = st.builds(
    Decision,
    kind=st.sampled_from(["llm", "tool", "agent"]),
    dialect=TEXT,
    **{
        field: TEXT
        for key, field in CONTRACT.items()
        if field not in {"kind", "granularity", "dialect", "session_closed"}
    },
    session_closed=st.booleans(),
    usage=st.none() | st.builds(Usage, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT),
    cost=st.none() | COSTS,
    repeats_children=st.booleans(),
    subtree=st.none() | AMOUNT,
    signature=st.none() | st.builds(Signature, TEXT, TEXT),
    tool_repeats=st.integers(0, 2**40),
    tool_consecutive=st.integers(0, 2**40),
    tool_loop=st.booleans(),
    session_cost=st.none() | AMOUNT,
    run_cost=st.none() | AMOUNT,
    aliases=st.lists(st.sampled_from(sorted(ALIASES)), unique=True).map(tuple),
)


@given(DECISIONS)
def test_the_bytes_are_those_that_protobuf_writes(decision: Decision) -> None:
    encoded = encode(decision)
    span = Span.FromString(encoded)
    assert span.SerializeToString() == encoded
    assert {field.number for field, _ in span.ListFields()} == {9}
    assert encode(decision) == encoded, "a second time, from the caches"


@given(DECISIONS)
def test_every_field_of_a_decision_is_on_its_span(decision: Decision) -> None:
    found = attributes(decision)
    for key, field in CONTRACT.items():
        value = getattr(decision, field)
        if field in {"session_source", "run_source"} and not getattr(decision, field.replace("source", "id")):
            value = ""
        assert found.get(key, "") == (value or ""), key
    counted = not decision.repeats_children and not decision.duplicate_of
    for name in (field.name for field in fields(Usage)):
        count = getattr(decision.usage, name) if decision.usage and counted else None
        assert found.get(f"spanledger.usage.{name}_tokens") == count


@given(st.integers(0, 10**30))
def test_amounts_are_the_nearest_double(amount: int) -> None:
    written = attributes(replace(COUNTED, cost=Cost(amount=amount)))["spanledger.cost.usd"]
    exact = Fraction(amount, 10**12)
    assert written == float(exact)


@pytest.mark.parametrize("count", [2**63, 10**30, -(2**63) - 1])
def test_a_count_that_no_int64_holds_is_left_out(count: int) -> None:
    found = attributes(replace(COUNTED, usage=Usage(input=count, output=5)))
    assert "spanledger.usage.input_tokens" not in found
    assert found["spanledger.usage.output_tokens"] == 5


def test_text_that_utf_8_cannot_express_is_written_as_near_as_can_be() -> None:
    assert attributes(replace(COUNTED, session_id="a\ud800"))["spanledger.session.id"] == "a?"


def test_aliases_of_a_computed_cost_have_its_parts() -> None:
    cost = Cost(amount=15, source="computed", computed=15, input=1, cache_read=2, cache_write=4, output=8)
    found = attributes(replace(COUNTED, cost=cost, aliases=tuple(ALIASES)))
    doubles = {key: found[key] for key in ALIASES if not isinstance(found[key], str)}
    assert doubles == {
        "gen_ai.usage.cost": 15e-12,
        "operation.cost": 15e-12,
        "llm.cost.total": 15e-12,
        "llm.cost.prompt": 7e-12,
        "llm.cost.prompt_details.input": 1e-12,
        "llm.cost.prompt_details.cache_read": 2e-12,
        "llm.cost.prompt_details.cache_write": 4e-12,
        "llm.cost.completion": 8e-12,
        "llm.cost.completion_details.output": 8e-12,
    }
    assert json.loads(found["mlflow.llm.cost"]) == {"input_cost": 7e-12, "output_cost": 8e-12, "total_cost": 15e-12}
    assert json.loads(found["langfuse.observation.cost_details"]) == {
        "input": 1e-12,
        "input_cached_tokens": 2e-12,
        "input_cache_creation": 4e-12,
        "output": 8e-12,
        "other": 0.0,
        "total": 15e-12,
    }


def test_aliases_of_a_billed_cost_have_its_total_only() -> None:
    """Computed parts are no parts of what someone else charged."""
    cost = Cost(amount=20, source="billed", computed=15, input=7, output=8)
    found = attributes(replace(COUNTED, cost=cost, aliases=tuple(ALIASES)))
    assert {key: found[key] for key in ALIASES if key in found} == {
        "gen_ai.usage.cost": 20e-12,
        "operation.cost": 20e-12,
        "llm.cost.total": 20e-12,
        "langfuse.observation.cost_details": '{"total": 2e-11}',
        "mlflow.llm.cost": '{"total_cost": 2e-11}',
    }


def test_no_alias_that_was_not_asked_for() -> None:
    assert not attributes(COUNTED).keys() & ALIASES.keys()
    assert attributes(replace(COUNTED, aliases=("gen_ai.usage.cost",)))["gen_ai.usage.cost"] == 0.004567


def test_an_alias_of_a_record_by_another_version_is_passed_over() -> None:
    assert attributes(replace(COUNTED, aliases=("gone.cost",))) == attributes(COUNTED)


def test_aliases_never_use_the_keys_of_the_open_proposal_nor_count_as_token_types() -> None:
    written = {key for key in ALIASES if key.startswith("gen_ai.")}
    assert written == {"gen_ai.usage.cost"}


@pytest.mark.parametrize(
    ("configured", "keys"),
    [
        ((), set()),
        (("gen_ai.usage.cost",), {"gen_ai.usage.cost"}),
        (("llm.cost.*",), {key for key in ALIASES if key.startswith("llm.cost.")}),
        (("llm.cost.total", "llm.cost.*"), {key for key in ALIASES if key.startswith("llm.cost.")}),
        (("mlflow.llm.cost", "operation.cost"), {"mlflow.llm.cost", "operation.cost"}),
    ],
)
def test_a_star_stands_for_every_key_that_begins_so(configured: tuple[str, ...], keys: set[str]) -> None:
    found = alias_keys(configured)
    assert set(found) == keys
    assert len(found) == len(keys)
