"""What broke the sums: lagging file times, rows that the file never gets, files that begin again, copies, growth.

Each test is a row of the table in `reconcile`'s docstring, or an entry of docs/sidecar.md, "What each file proves".
"""

from __future__ import annotations

import json
import os
from functools import wraps
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from mux_homes import WORKSPACE, WRITTEN_MS, bucket, last, put, row, usage
from sidecars import Endpoint, Tokens, by_model, cost_by_model, scan
from spanledger_sidecar.sources.mux import proof
from spanledger_sidecar.spans import Span

MODEL, OTHER = "anthropic:claude-x", "openai:gpt-x"
CLASSES = ("input", "cached", "cacheCreate", "output", "reasoning")


def five(*counts: int) -> dict[str, Any]:
    """A Usage object."""
    return {name: {"tokens": count} for name, count in zip(CLASSES, counts, strict=True)}


def add(*amounts: Tokens) -> Tokens:
    return tuple(map(sum, zip(*amounts, strict=True)))  # type: ignore[return-value]


def sdk(tokens: Tokens) -> dict[str, Any]:
    """A row's usage and what the provider said beside it."""
    given, cached, written, answer, reasoning = tokens
    counts = {"inputTokens": given + cached + written, "outputTokens": answer + reasoning}
    more = {"cachedInputTokens": cached, "reasoningTokens": reasoning}
    return {"usage": counts | more, "providerMetadata": {"anthropic": {"cacheCreationInputTokens": written}}}


class Mux:
    """A workspace's files, written one by one at times that a test sets, and a sidecar that looks when told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.endpoint = folder, folder / "mux", Endpoint()
        self.now_ms = WRITTEN_MS

    def chat(self, *rows: tuple[str, Tokens, int], workspace: str = WORKSPACE) -> None:
        """Rows by name, usage and end."""
        content = "".join(row(name, MODEL, 0, 0, end_ms - 500, **sdk(tokens)) for name, tokens, end_ms in rows)
        put(self.root, content, "chat.jsonl", workspace)

    def file(self, tokens: Tokens, turn: Tokens | None = None, at_ms: int = 0, workspace: str = WORKSPACE) -> Path:
        """The sums of one model, with the last request."""
        more = {"lastRequest": last(MODEL, five(*turn), at_ms)} if turn else {}
        return put(self.root, usage({MODEL: five(*tokens)}, **more), workspace=workspace)

    def scan(self, **options: Any) -> list[Span]:
        """Look; the spans with usage that are new."""
        before = len(self.endpoint.spans)
        scan(self.folder / "state", self.endpoint, self.root, now_ms=lambda: self.now_ms, **options)
        return [
            span for span in list(self.endpoint.spans.values())[before:] if "spanledger.granularity" in span.attributes
        ]

    def counted(self, workspace: str = WORKSPACE) -> Tokens:
        return by_model(self.endpoint.usage()).get((workspace, MODEL), (0, 0, 0, 0, 0))


@pytest.fixture
def mux(tmp_path: Path) -> Mux:
    return Mux(tmp_path)


@pytest.fixture(autouse=True)
def _proofs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold each function of `proof`, wherever a test of this module comes to it, to leaving the state as it was."""

    def held(name: str, function: FunctionType) -> FunctionType:
        @wraps(function)
        def checked(first: Any, *more: Any) -> Any:
            before = repr((first, more))
            result = function(first, *more)
            assert repr((first, more)) == before, name
            return result

        return checked  # type: ignore[return-value]

    functions = {name: one for name, one in vars(proof).items() if isinstance(one, FunctionType)}
    own = {name: one for name, one in functions.items() if one.__module__ == proof.__name__}
    assert sum("Reconciliation" in str(one.__annotations__) for one in own.values()) > 10
    for name, function in own.items():
        monkeypatch.setattr(proof, name, held(name, function))


A, B, C = (100, 2000, 30, 40, 5), (200, 2000, 30, 40, 5), (300, 2000, 30, 40, 5)
T0 = WRITTEN_MS - 600_000


@pytest.mark.parametrize("lag_ms", [0, 2_500, 60_000, -5_000, 86_400_000])
def test_file_times_that_lag_count_nothing_twice(lag_ms: int, mux: Mux) -> None:
    """Of both files, and whether somebody looks between the two writes or not."""
    rows: list[tuple[str, Tokens, int]] = []
    sums: Tokens = (0, 0, 0, 0, 0)
    for place, tokens in enumerate((A, B, C)):
        mux.now_ms = at_ms = T0 + place * 60_000
        rows.append((f"m{place}", tokens, at_ms))
        sums = add(sums, tokens)
        mux.chat(*rows)
        if place == 1:
            mux.scan()
        path = mux.file(sums, tokens, at_ms + 20)
        for file in (path, path.with_name("chat.jsonl")):
            os.utime(file, ns=((at_ms - lag_ms) * 10**6, (at_ms - lag_ms) * 10**6))
        mux.scan()
    assert mux.counted() == sums
    assert {str(span.attributes["spanledger.granularity"]) for span in mux.endpoint.usage()} == {"per-turn"}


def test_a_turn_that_the_file_never_got_stays_counted_when_the_file_grows(mux: Mux) -> None:
    """A crash between the two writes; then the file gains something that has no row."""
    unseen = (150, 300, 0, 70, 6)
    mux.chat(("m1", A, T0))
    mux.file(A, A, T0 + 20)
    mux.scan()
    mux.chat(("m1", A, T0), ("m2", B, T0 + 10_000))
    mux.scan()
    mux.file(add(A, unseen), A, T0 + 20)
    (rest,) = mux.scan()
    assert rest.attributes["spanledger.granularity"] == "per-session-aggregate"
    assert mux.counted() == add(A, B, unseen)
    mux.chat(("m1", A, T0), ("m2", B, T0 + 10_000), ("m3", C, T0 + 20_000))
    mux.file(add(A, unseen, C), C, T0 + 20_020)
    mux.scan()
    assert mux.counted() == add(A, B, unseen, C)


def test_an_advisor_after_a_crash(mux: Mux) -> None:
    """The file's last request proves what its growth is, although the lost turn would fit into it."""
    advisor = add(A, B)
    mux.chat(("m1", A, T0))
    mux.file((1, 0, 0, 0, 0), (1, 0, 0, 0, 0), T0 - 20_000)
    mux.scan()
    mux.file(add((1, 0, 0, 0, 0), advisor), advisor, T0 + 30_000)
    mux.scan()
    assert mux.counted() == add((1, 0, 0, 0, 0), A, advisor)


def test_rows_that_came_before_the_file_are_found_in_it(mux: Mux) -> None:
    """Two turns seen while the file lagged behind, then the file with both."""
    mux.file(A, A, T0)
    mux.chat(("m1", A, T0 - 20))
    mux.scan()
    mux.chat(("m1", A, T0 - 20), ("m2", B, T0 + 10_000))
    mux.scan()
    mux.chat(("m1", A, T0 - 20), ("m2", B, T0 + 10_000), ("m3", C, T0 + 20_000))
    mux.scan()
    mux.file(add(A, B, C), C, T0 + 20_020)
    assert mux.scan() == []
    assert mux.counted() == add(A, B, C)


def test_a_turn_whose_row_was_deleted_after_a_rebuild(mux: Mux) -> None:
    """All between two looks: turn, the file made anew from the chat, the row deleted. The file still holds the turn."""
    headless: Tokens = (500, 100, 10, 50, 0)
    unseen: Tokens = (1000, 1, 2, 300, 4)
    line = {"timestamp": T0 - 50_000, "source": "workspace_status", "model": MODEL, **sdk(headless)}
    put(mux.root, json.dumps(line) + "\n", "headless-usage.jsonl")
    mux.chat(("m1", A, T0))
    mux.file(add(A, headless), A, T0 + 20)
    mux.scan()
    mux.chat(("m1", A, T0))
    mux.file(add(A, unseen), unseen, T0 + 60_000)
    (rest,) = mux.scan()
    assert mux.counted() == add(A, headless, unseen)
    assert rest.attributes["spanledger.cost.estimate"] is True
    assert "a guess" in str(rest.attributes["spanledger.note"])


def test_a_row_that_was_counted_and_deleted_is_not_counted_from_a_rebuild(mux: Mux) -> None:
    """The file was made anew while the row was there, which is what the file has beyond the chat."""
    headless: Tokens = (500, 100, 10, 50, 0)
    mux.chat(("m1", A, T0), ("m2", B, T0 + 10_000))
    mux.file(add(A, B, headless), B, T0 + 10_020)
    mux.scan()
    mux.chat(("m1", A, T0))
    mux.file(add(A, B), B, T0 + 60_000)
    assert mux.scan() == []
    assert mux.counted() == add(A, B, headless)


def test_two_writers_that_overwrite_each_other_count_nothing_again(mux: Mux) -> None:
    """The sums went down, but they still have what no row ever told: nothing was made anew."""
    unseen: Tokens = (5000, 100, 100, 500, 50)
    mux.chat(("m1", A, T0), ("m2", B, T0 + 10_000))
    mux.file(add(A, B, unseen), B, T0 + 10_020)
    mux.scan()
    mux.chat(("m1", A, T0), ("m2", B, T0 + 10_000), ("m3", C, T0 + 20_000))
    mux.file(add(A, (1, 0, 0, 1, 0), unseen), (1, 0, 0, 1, 0), T0 + 20_020)
    mux.scan()
    given, answer = sum(mux.counted()[:3]), sum(mux.counted()[3:])
    truth = add(A, B, unseen, C)
    assert (sum(truth[:3]), sum(truth[3:])) <= (given, answer) <= (sum(truth[:3]) + 1, sum(truth[3:]) + 1)


def test_a_file_that_still_names_its_children_was_not_made_anew(mux: Mux) -> None:
    """A crash and unseen growth between two looks contradict the sums as well; the child's usage counts once."""
    entry = {"totalTokens": 10_000, "inputTokens": 9_000, "outputTokens": 1_000, "model": MODEL}
    child: Tokens = (9_000, 0, 0, 1_000, 0)

    def write(tokens: Tokens, turn: Tokens, at_ms: int) -> None:
        more = {"lastRequest": last(MODEL, five(*turn), at_ms), "rolledUpFrom": {"child": entry}}
        put(mux.root, usage({MODEL: five(*tokens)}, **more))

    mux.file((1, 0, 0, 0, 0), (1, 0, 0, 0, 0), T0 - 50_000)
    mux.scan()
    mux.chat(("m1", A, T0))
    write(add((1, 0, 0, 0, 0), A, child), A, T0 + 20)
    mux.scan()
    mux.chat(("m1", A, T0), ("m2", B, T0 + 10_000), ("m3", C, T0 + 20_000))
    write(add((1, 0, 0, 0, 0), A, child, C, (7, 0, 0, 0, 0)), C, T0 + 20_020)
    mux.scan()
    assert mux.counted("child") == child
    assert sum(mux.counted()) <= sum(add((1, 0, 0, 0, 0), A, B, C, (7, 0, 0, 0, 0)))
    assert sum(mux.counted()) >= sum(add((1, 0, 0, 0, 0), A, B, C))


@pytest.mark.parametrize("with_file", [False, True])
def test_a_row_that_grows_counts_its_growth(with_file: bool, mux: Mux) -> None:  # noqa: FBT001 - a parameter of pytest
    """The same id with more usage, as a turn that goes on after an interruption."""
    more = add(A, (50, 0, 0, 20, 0))
    for tokens in (A, more, more):
        mux.chat(("m1", tokens, T0))
        if with_file:
            mux.file(tokens, tokens, T0 + 20)
        mux.scan()
    assert mux.counted() == more
    first, second = mux.endpoint.usage()
    assert first.trace_id == second.trace_id


def test_the_growth_of_a_copied_row_is_counted_where_the_row_was(mux: Mux) -> None:
    """A fork copies a row that has grown since it was counted, and is looked at before the workspace that it is of."""
    grown = add(A, (0, 0, 0, 10, 0))
    mux.chat(("m1", A, T0))
    mux.scan()
    mux.chat(("m1", grown, T0), workspace="fork")
    mux.scan()
    assert (mux.counted(), mux.counted("fork")) == (A, (0, 0, 0, 0, 0))
    mux.chat(("m1", grown, T0))
    mux.scan()
    assert (mux.counted(), mux.counted("fork")) == (grown, (0, 0, 0, 0, 0))


def test_an_old_fork_without_a_chat(mux: Mux) -> None:
    """Before 2026-03 the usage file was copied: its last request is another workspace's."""
    mux.file(add(A, B), B, T0)
    mux.scan()
    mux.file(add(A, B), B, T0, workspace="fork")
    mux.scan()
    assert mux.counted("fork") == (0, 0, 0, 0, 0)
    mux.file(add(A, B, C), C, T0 + 60_000, workspace="fork")
    mux.scan()
    assert mux.counted("fork") == C


def test_an_old_fork_of_a_workspace_that_went_on(mux: Mux) -> None:
    """Its last request is older than itself, and another workspace has all that it has."""
    config = {"projects": [["/p", {"workspaces": [{"id": "fork", "createdAt": "2026-08-19T10:00:00Z"}]}]]}
    mux.root.mkdir(parents=True)
    (mux.root / "config.json").write_text(json.dumps(config))
    created_ms = 1_787_133_600_000
    mux.file(add(A, B, C), C, created_ms + 60_000)
    mux.scan()
    mux.file(add(A, B), B, created_ms - 60_000, workspace="fork")
    mux.scan()
    assert mux.counted("fork") == (0, 0, 0, 0, 0)


def test_a_child_that_was_never_seen_has_the_model_and_the_cost_that_its_entry_names(mux: Mux) -> None:
    """Also where the parent's own model comes first, and gained as much in the same look."""
    put(mux.root, usage({MODEL: bucket(5, 5, cost=0.5)}), workspace="parent")
    mux.scan()
    entry = {"totalTokens": 30, "contextTokens": 10, "outputTokens": 20, "totalCostUsd": 0.25, "model": OTHER}
    both = {MODEL: bucket(45, 45, cost=4.5), OTHER: bucket(12, 21, cost=0.275)}
    put(mux.root, usage(both, rolledUpFrom={"child": entry}), workspace="parent")
    spans = mux.scan()
    tokens = {key: (counts[0], counts[3]) for key, counts in by_model(mux.endpoint.usage()).items()}
    assert tokens == {("parent", MODEL): (45, 45), ("child", OTHER): (10, 20), ("parent", OTHER): (2, 1)}
    assert cost_by_model(spans) == {("parent", MODEL): 4.0, ("child", OTHER): 0.25, ("parent", OTHER): 0.025}
    (child,) = (span for span in spans if span.attributes["gen_ai.conversation.id"] == "child")
    assert child.attributes["gen_ai.usage.cost"] == 0.25
    assert "spanledger.cost.estimate" not in child.attributes


def test_what_a_child_is_only_guessed_to_have_used_says_so(mux: Mux) -> None:
    """More than its model gained: the rest is looked for in the parent's other models."""
    put(mux.root, usage({MODEL: bucket(5, 5)}), workspace="parent")
    mux.scan()
    entry = {"totalTokens": 30, "inputTokens": 10, "outputTokens": 20, "model": OTHER}
    put(
        mux.root, usage({MODEL: bucket(9, 13), OTHER: bucket(6, 12)}, rolledUpFrom={"child": entry}), workspace="parent"
    )
    spans = mux.scan()
    guesses = {
        span.attributes["spanledger.source.model_key"]: "spanledger.cost.estimate" in span.attributes for span in spans
    }
    assert guesses == {OTHER: False, MODEL: True}


def test_classes_of_a_compaction_are_those_of_the_file(mux: Mux) -> None:
    """Its row lacks what was written to the cache, which stands in its input; the file has both, class by class."""
    compaction: Tokens = (135, 500, 1700, 60, 0)
    reported = {"inputTokens": sum(compaction[:3]), "outputTokens": 60, "cachedInputTokens": 500}
    content = row("m1", MODEL, 0, 0, T0 - 500, **sdk(A)) + row(
        "m2", MODEL, 0, 0, T0 + 9_500, usage=reported, agentId="compact"
    )
    put(mux.root, content + row("m3", MODEL, 0, 0, T0 + 19_500, **sdk(B)), "chat.jsonl")
    mux.file(add(A, compaction, B), B, T0 + 20_020)
    mux.scan()
    assert mux.counted() == add(A, compaction, B)
    assert len(mux.endpoint.usage()) == 3


@pytest.mark.parametrize(("last_write", "hour"), [(30, 12), (20, None)])
def test_what_was_written_for_an_hour(last_write: int, hour: int | None, mux: Mux) -> None:
    """Known where the raw usage, which is the last call's, has all that the row wrote."""
    raw = {
        "cache_creation_input_tokens": last_write,
        "cache_creation": {"ephemeral_5m_input_tokens": last_write - 12, "ephemeral_1h_input_tokens": 12},
    }
    line = {"timestamp": T0, "source": "workspace_status", "model": MODEL, **sdk(A)}
    line["providerMetadata"]["anthropic"]["usage"] = raw
    put(mux.root, json.dumps(line) + "\n", "headless-usage.jsonl")
    (span,) = mux.scan()
    assert span.attributes.get("spanledger.source.cache_write_1h_tokens") == hour


def test_ids_after_a_lost_state_are_those_of_the_sums(mux: Mux) -> None:
    """An endpoint that has the aggregate refuses it again: same ids, whatever happened to the file before."""
    mux.file((9000, 0, 0, 9, 0))
    mux.scan()
    mux.file(A)
    mux.scan()
    mux.file(add(A, B))
    mux.scan()
    again = Endpoint()
    scan(mux.folder / "other state", again, mux.root)
    assert set(again.spans) <= set(mux.endpoint.spans)
