"""The pure parts, by tables and by laws: names, classes of tokens, the configuration, costs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mux_homes import DOCUMENTS
from spanledger_sidecar.records import Session, dedup_key, span_id, trace_id
from spanledger_sidecar.sources.mux.build import share
from spanledger_sidecar.sources.mux.files import Bucket, ConfigEntry, bucket_of, workspaces
from spanledger_sidecar.sources.mux.reconciliation import Allocation
from spanledger_sidecar.sources.mux.rows import canonical, tokens_of
from spanledger_sidecar.sources.mux.state import ModelState, Workspace
from spanledger_sidecar.sources.tilth import Progress
from spanledger_sidecar.tokens import ZERO, TokenVector, missing, taken

COUNTS = st.integers(0, 1000)
FIVES = st.builds(TokenVector, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)


@pytest.mark.parametrize(
    ("named", "key"),
    [
        ("anthropic:claude-x", "anthropic:claude-x"),
        ("mux-gateway:anthropic/claude-x", "anthropic:claude-x"),
        ("openrouter:openai/gpt-x", "openai:gpt-x"),
        ("coder:anthropic/claude-x", "anthropic:claude-x"),
        ("bedrock:anthropic.claude-x", "anthropic:claude-x"),
        ("openrouter:meta-llama/llama-4", "openrouter:meta-llama/llama-4"),
        ("bedrock:us.anthropic.claude-x", "bedrock:us.anthropic.claude-x"),
        ("coder:mine/claude-x", "coder:mine/claude-x"),
        ("github-copilot:gpt-x", "github-copilot:gpt-x"),
        ("ollama:gpt-oss:20b", "ollama:gpt-oss:20b"),
        ("gpt-4", "gpt-4"),
        ("", "unknown"),
    ],
)
def test_the_key_of_a_model_as_a_request_names_it(named: str, key: str) -> None:
    assert canonical(named) == key


@pytest.mark.parametrize(
    ("usage", "metadata", "classes"),
    [
        (
            {"inputTokens": 100, "cachedInputTokens": 60, "outputTokens": 30, "reasoningTokens": 10},
            None,
            (40, 60, 0, 20, 10),
        ),
        ({"inputTokens": 100, "outputTokens": 30}, {"anthropic": {"cacheCreationInputTokens": 70}}, (30, 0, 70, 30, 0)),
        ({"inputTokens": 10, "cachedInputTokens": 60, "outputTokens": 5, "reasoningTokens": 9}, None, (0, 60, 0, 5, 9)),
        ({"outputTokens": 30}, {"openai": {"reasoningTokens": 8}}, (0, 0, 0, 22, 8)),
        ({"inputTokens": None, "outputTokens": "30", "reasoningTokens": True}, {"anthropic": []}, (0, 0, 0, 0, 0)),
        ({"inputTokens": -5, "outputTokens": 1e300}, None, (0, 0, 0, 0, 0)),
    ],
)
def test_inclusive_usage_in_disjoint_classes(usage: dict[str, Any], metadata: Any, classes: tuple[int, ...]) -> None:
    assert tokens_of(usage, metadata) == classes


def test_what_the_configuration_says_of_workspaces() -> None:
    found = workspaces(json.loads((DOCUMENTS / "home-sample" / "config.json").read_text("utf-8")))
    assert found == {
        "7ac41be902": ConfigEntry(Session("7ac41be902", "", "fix-cache", "widget", ""), 1787140682114),
        "c04e9a7712": ConfigEntry(
            Session("c04e9a7712", "7ac41be902", "agent_exec_c04e9a7712", "widget", "exec"), 1787142000000
        ),
        "d10f5e6a7b": ConfigEntry(Session("d10f5e6a7b", "", "old", "widget", "")),
        "0a1b2c3d4e": ConfigEntry(Session("0a1b2c3d4e", "", "scratch-0a1b", "", "")),
        "ee55aa1122": ConfigEntry(Session("ee55aa1122", "", "both", "widget", "")),
    }


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"projects": None},
        {"projects": {"/src/p": {"workspaces": None}}},
        {"projects": [["/src/p"], [1, {}], "x", ["/src/p", {"workspaces": [None, 1, {"name": "no id"}]}]]},
    ],
)
def test_a_configuration_of_another_shape_names_nothing(document: dict[str, Any]) -> None:
    assert workspaces(document) == {}


def _groups(amount: TokenVector) -> tuple[int, int]:
    return amount.inputs, amount.outputs


@given(FIVES, FIVES)
def test_what_is_missing_fills_each_group_up_and_no_more(whole: TokenVector, part: TokenVector) -> None:
    lack = missing(whole, part)
    assert min(lack) >= 0
    assert _groups(lack) == (max(0, whole.inputs - part.inputs), max(0, whole.outputs - part.outputs))
    assert all(there == 0 or have < want for there, want, have in zip(lack, whole, part, strict=True))


@given(FIVES, FIVES)
def test_taking_takes_as_much_as_there_is(pool: TokenVector, amount: TokenVector) -> None:
    part = taken(pool, amount)
    assert min(pool.minus(part)) >= 0
    assert _groups(part) == (min(pool.inputs, amount.inputs), min(pool.outputs, amount.outputs))


@given(FIVES, FIVES, st.lists(FIVES, max_size=5))
def test_costs_that_are_handed_out_are_those_that_the_file_gained(
    tokens: TokenVector, cost: TokenVector, wanted: list[TokenVector]
) -> None:
    """Never more than it has; all of it, when all of its tokens are covered."""
    workspace = Workspace("w", Session("w"))
    ledger, left, parts = ModelState(), tokens, []
    for amount in wanted:
        part = taken(left, amount)
        left = left.minus(part)
        parts.append(Allocation(workspace, "m", part))
    parts.append(Allocation(workspace, "m", left))
    cost = TokenVector(*(money if count else 0 for money, count in zip(cost, tokens, strict=True)))
    ledger.covered = tokens
    share(parts, ledger, Bucket(tokens, cost), ZERO)
    assert sum(part.cost or 0 for part in parts) == cost.total
    assert ledger.paid == cost


@pytest.mark.parametrize(
    ("change", "complete"),
    [
        ({}, True),
        ({"hasUnknownCosts": True}, False),
        ({"output": {"tokens": 5}}, False),
        ({"output": {"tokens": 0}}, True),
        ({"output": {"tokens": 5, "cost_usd": None}}, False),
        ({"output": {"tokens": 5, "cost_usd": -1}}, False),
    ],
)
def test_when_a_cost_is_known(change: dict[str, Any], complete: bool) -> None:  # noqa: FBT001
    """Only if nothing is marked unknown and every class with tokens has one (docs/formats/mux.md#14-cost)."""
    classes = ("input", "cached", "cacheCreate", "output", "reasoning")
    usage = {name: {"tokens": 1, "cost_usd": 0.1} for name in classes} | change
    assert bucket_of(usage).complete is complete


@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_ids_are_those_of_what_they_name(one: list[str], other: list[str]) -> None:
    for make, size in ((trace_id, 16), (span_id, 8), (dedup_key, 16)):
        assert len(make(*one)) == size
        assert (make(*one) == make(*other)) == (one == other)
        assert any(make(*one))


def test_what_is_remembered_comes_back(tmp_path: object) -> None:
    workspace = Workspace(
        "w", Session("w", "p", "n", "pr", "exec"), {"m": ModelState(TokenVector(1, 2, 3, 4, 5), covered=TokenVector(1))}
    )
    workspace.merged, workspace.signals, workspace.last_request_ms = ["c"], {"chat.jsonl": (1, 2, 3)}, 7
    again = Workspace.unpack("w", workspace.pack())
    assert again.pack() == workspace.pack()
    assert (again.session, again.models, again.merged) == (workspace.session, workspace.models, ["c"])
    progress = Progress(10, {"events.jsonl": (1, 2, 3)}, ["ab"], 7, {b"event": 1})
    assert Progress.unpack(progress.pack()).pack() == progress.pack()
