"""Tools that cost something by themselves: once in every sum and on the span, in any order, however often told."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import COST, chat, request, set_attributes
from commands import answer, ledger
from ledger_in_memory import NOW
from pipelines import Pipeline
from spanledger_processor.config import ConfigError, load
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.store import tenant_hash

PRICES = 'processor.tools.prices=[{"tool": "search*", "usd": 0.01, "name": "search"}, {"tool": "*", "usd": 0}]'


def tool(name: str, number: int, session: str = "a", **attributes: Any) -> Span:
    span = chat(name=name)
    del span.attributes[:]
    set_attributes(
        span,
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": f"call-{number}",
            "gen_ai.tool.call.arguments": json.dumps({"q": number}),
            "gen_ai.conversation.id": session,
            **attributes,
        },
    )
    return span


def call(session: str = "a") -> Span:
    span = chat()
    set_attributes(span, {"gen_ai.conversation.id": session})
    return span


def opened() -> Pipeline:
    return Pipeline(now_ns=lambda: NOW, sets=(PRICES,))


def take(pipeline: Pipeline, *spans: Span) -> list[dict[str, Any]]:
    """Send one request; what its spans say then."""
    pipeline.send("traces", request(*spans))
    return [pipeline.sent[span.trace_id, span.span_id] for span in spans]


def sums(pipeline: Pipeline) -> dict[str, float]:
    parts = {"sessions": queries.sessions, "runs": queries.runs, "models": queries.models}
    return {
        "total": pipeline.ledger()["cost_usd"],
        "spans": float(pipeline.sent_cost()),
        **{name: sum(row["cost_usd"] for row in pipeline.parts(question)) for name, question in parts.items()},
    }


def test_what_the_span_says() -> None:
    (search, other) = take(opened(), tool("search_web", 1), tool("read", 2))
    assert search["spanledger.cost.usd"] == 0.01
    assert search["spanledger.cost.other_usd"] == search["spanledger.cost.computed_usd"] == 0.01
    assert (search["spanledger.cost.source"], search["spanledger.cost.price"]) == ("computed", "tool/search")
    assert "spanledger.cost.usd" not in other


def test_an_agent_above_says_what_is_below(tmp_path: Path) -> None:
    agent, search, model = chat(name="agent"), tool("search_web", 1), call()
    set_attributes(agent, {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "a"})
    for span in (search, model):
        span.trace_id, span.parent_span_id = agent.trace_id, agent.span_id
    (reported, *_) = take(opened(), agent, search, model)
    assert reported["spanledger.cost.subtree_usd"] == pytest.approx(0.01 + COST)
    state = ledger(tmp_path, request(agent, search, model), now_ns=time.time_ns(), sets=(PRICES,))
    found = answer("span", search.trace_id.hex(), search.span_id.hex(), *state)
    assert (found["role"], found["counts_now"], found["model"]) == ("counted", True, "tool:search_web")
    assert "processor.tools.prices" in found["why"]


@pytest.mark.parametrize("seed", range(6))
def test_every_sum_has_it_once(seed: int) -> None:
    """In any order and any cut into requests, with each request sent twice, and two reports of one execution."""
    draw = random.Random(seed)
    spans = [tool("search_web", number, f"s{number % 3}") for number in range(6)]
    spans += [tool("read", 10), call("s0"), call("s1"), tool("search_web", 7, ""), call("")]
    spans += [Span.FromString(span.SerializeToString()) for span in spans[:2]]
    for span in spans[-2:]:  # another library tells of the same executions
        span.span_id = bytes(draw.randrange(1, 256) for _ in range(8))
    draw.shuffle(spans)
    pipeline, at = opened(), 0
    while at < len(spans):
        size = draw.randrange(1, 5)
        take(pipeline, *spans[at : at + size])
        take(pipeline, *spans[at : at + size])
        at += size
    assert sums(pipeline) == pytest.approx(dict.fromkeys(sums(pipeline), 7 * 0.01 + 3 * COST))


def test_a_session_that_is_known_later_takes_the_cost_along() -> None:
    pipeline = opened()
    span = tool("search_web", 1, "")
    late = call("late")
    late.trace_id = span.trace_id
    take(pipeline, span)
    take(pipeline, late)
    with pipeline.store.snapshot() as reader:
        found = queries.session(reader, tenant_hash(""), "late")
    assert found is not None
    assert found["cost_usd"] == pytest.approx(0.01 + COST)
    assert set(sums(pipeline).values()) == {sums(pipeline)["total"]}


def test_where_it_is_told(tmp_path: Path) -> None:
    spans = [tool("search_web", 1), tool("search_web", 2), call()]
    state = ledger(tmp_path, request(*spans), sets=(PRICES,))
    session = answer("session", "a", *state)
    assert [(row["id"], row["calls"], row["cost_usd_exact"]) for row in session["tools"]] == [("search_web", 2, "0.02")]
    assert {row["model"]: row["cost_usd"] for row in session["models"]} == {
        "tool:search_web": 0.02,
        "openai/gpt-4o-mini": COST,
    }
    assert session["calls"] == 1, "a tool is no call of a model"
    models = {row["model"]: row for row in answer("summary", *state)["models"]}
    assert (models["tool:search_web"]["cost_usd_exact"], models["tool:search_web"]["calls"]) == ("0.02", 0)
    by_agent = answer("summary", "--by", "model", *state)["values"]
    assert sum(row["cost_usd"] for row in by_agent) == pytest.approx(0.02 + COST)


@pytest.mark.parametrize("wrong", ['[{"tool": "a"}]', '[{"tool": "a", "usd": -1}]', '[{"usd": 1}]'])
def test_a_price_names_a_tool_and_an_amount(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"processor\.tools\.prices"):
        load(None, (f"processor.tools.prices={wrong}",), {"HOME": "/nowhere"})
