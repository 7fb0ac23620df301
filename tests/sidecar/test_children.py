"""Sub-agents rolled up into their parent: their usage is theirs, once (docs/formats/mux.md#5-sub-agents)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mux_homes import bucket, last, put, row, usage
from scripted_mux import ScriptedMux
from sidecars import Endpoint, by_model, cost_by_model, scan, sidecar, tokens_of

MODEL, OTHER = "anthropic:claude-x", "openai:gpt-x"


def _entry(given: int, answer: int, **more: object) -> dict[str, object]:
    by_class = {"inputTokens": given, "cachedTokens": 0, "cacheCreateTokens": 0}
    return {"totalTokens": given + answer, **by_class, "outputTokens": answer, "reasoningTokens": 0, **more}


def _look(folder: Path, endpoint: Endpoint) -> None:
    assert scan(folder / "state", endpoint, folder / "mux")


def _usage(endpoint: Endpoint) -> dict[tuple[str, str], tuple[int, int]]:
    return {key: (tokens[0], tokens[3]) for key, tokens in by_model(endpoint.usage()).items()}


def test_a_child_that_was_seen(tmp_path: Path) -> None:
    """Also while parent and child both have its usage."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, usage({MODEL: bucket(10, 10), OTHER: bucket(1, 1)}), workspace="child")
    put(root, usage({MODEL: bucket(5, 5)}), workspace="parent")
    _look(tmp_path, endpoint)
    both = usage({MODEL: bucket(15, 15), OTHER: bucket(1, 1)}, rolledUpFrom={"child": _entry(11, 11)})
    put(root, both, workspace="parent")
    _look(tmp_path, endpoint)
    shutil.rmtree(root / "sessions" / "child")
    _look(tmp_path, endpoint)
    assert _usage(endpoint) == {("child", MODEL): (10, 10), ("child", OTHER): (1, 1), ("parent", MODEL): (5, 5)}


def test_the_project_of_a_child_that_was_never_seen_is_its_parent_s(tmp_path: Path) -> None:
    """The configuration no longer lists it when it is found."""
    endpoint, mux = Endpoint(), ScriptedMux(tmp_path / "mux", chat=False)
    parent = mux.create()
    _look(tmp_path, endpoint)
    child = mux.create(parent)
    mux.turn(child, MODEL, (1, 2, 3, 4, 5))
    mux.roll_up(child)
    mux.remove(child)
    _look(tmp_path, endpoint)
    (span,) = endpoint.usage()
    assert span.attributes["gen_ai.conversation.id"] == child
    assert span.attributes["spanledger.session.project"] == "widget"


@pytest.mark.parametrize("entry", [_entry(10, 20), {"totalTokens": 30, "rolledUpAtMs": 1}, True])
def test_a_child_that_was_never_seen(entry: object, tmp_path: Path) -> None:
    """Whatever the parent's file says of it: it is the child's, under its name, below its parent."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, usage({MODEL: bucket(5, 5)}), workspace="parent")
    _look(tmp_path, endpoint)
    put(root, usage({MODEL: bucket(15, 25)}, rolledUpFrom={"child": entry}), workspace="parent")
    _look(tmp_path, endpoint)
    put(root, usage({MODEL: bucket(16, 26)}, rolledUpFrom={"child": entry}), workspace="parent")
    _look(tmp_path, endpoint)
    assert _usage(endpoint) == {("child", MODEL): (10, 20), ("parent", MODEL): (6, 6)}
    (span,) = (span for span in endpoint.usage() if span.attributes["gen_ai.conversation.id"] == "child")
    assert span.attributes["spanledger.session.parent_id"] == "parent"
    assert span.attributes["spanledger.granularity"] == "per-session-aggregate"


@pytest.mark.parametrize(
    "entry",
    [
        _entry(10, 20, inputTokens="10"),
        _entry(10, 20, outputTokens=True, totalTokens=None),
        {"totalTokens": "30"},
        {"totalTokens": [30], "contextTokens": 1e30},
    ],
)
def test_a_number_of_a_childs_tokens_that_is_none_is_no_zero(entry: dict[str, object], tmp_path: Path) -> None:
    """What the parent's file gained with the child is the child's, as a guess, and the file is named."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, usage({MODEL: bucket(5, 5)}), workspace="parent")
    _look(tmp_path, endpoint)
    path = put(root, usage({MODEL: bucket(15, 25)}, rolledUpFrom={"child": entry}), workspace="parent")
    with sidecar(tmp_path / "state", endpoint, root) as made:
        made.once()
        assert "holds numbers of tokens that are none" in made.sources[0].errors.named()[path]
    assert _usage(endpoint)["child", MODEL] == (10, 20)
    (span,) = (span for span in endpoint.usage() if span.attributes["gen_ai.conversation.id"] == "child")
    assert "guess" in str(span.attributes["spanledger.note"])


def test_what_a_child_used_after_it_was_last_seen(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, usage({MODEL: bucket(10, 10)}), workspace="child")
    put(root, usage({}), workspace="parent")
    _look(tmp_path, endpoint)
    shutil.rmtree(root / "sessions" / "child")
    put(root, usage({MODEL: bucket(13, 14)}, rolledUpFrom={"child": _entry(13, 14)}), workspace="parent")
    _look(tmp_path, endpoint)
    assert _usage(endpoint) == {("child", MODEL): (13, 14)}


def test_a_turn_of_the_parent_in_the_same_look(tmp_path: Path) -> None:
    """The child's is taken out first; then the last request proves the parent's own turn."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, usage({MODEL: bucket(10, 10, cost=1)}), workspace="child")
    put(root, usage({MODEL: bucket(5, 5, cost=0.5)}), workspace="parent")
    _look(tmp_path, endpoint)
    turn = bucket(7, 8, cost=0.75)
    together = usage(
        {MODEL: bucket(22, 23, cost=2.25)}, lastRequest=last(MODEL, turn), rolledUpFrom={"child": _entry(10, 10)}
    )
    put(root, together, workspace="parent")
    _look(tmp_path, endpoint)
    assert _usage(endpoint) == {("child", MODEL): (10, 10), ("parent", MODEL): (12, 13)}
    assert cost_by_model(endpoint.usage()) == {("child", MODEL): 1, ("parent", MODEL): 1.25}
    assert list(endpoint.spans.values())[-1].attributes["spanledger.granularity"] == "per-turn"


@pytest.mark.parametrize("seen_between", [True, False])
def test_a_grandchild_stays_its_own(tmp_path: Path, *, seen_between: bool) -> None:
    """Also where the child's file with the grandchild's usage was never seen, and the parent's names the child only."""
    endpoint, mux = Endpoint(), ScriptedMux(tmp_path / "mux", chat=False)
    parent = mux.create()
    child = mux.create(parent)
    grandchild = mux.create(child)
    for name in (parent, child, grandchild):
        mux.turn(name, MODEL, (1, 2, 3, 4, 5))
    _look(tmp_path, endpoint)
    for name in (grandchild, child):
        mux.roll_up(name)
        mux.remove(name)
        if seen_between:
            _look(tmp_path, endpoint)
    _look(tmp_path, endpoint)
    assert by_model(endpoint.usage()) == mux.truth


def test_chat_of_a_removed_child_names_its_models(tmp_path: Path) -> None:
    """Its parent keeps its chat; the file knows only sums."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, usage({MODEL: bucket(5, 5)}), workspace="parent")
    _look(tmp_path, endpoint)
    rows = row("m1", MODEL, 10, 10) + row("m2", OTHER, 20, 20)
    kept = put(root, rows, "chat.jsonl", workspace="parent/subagent-transcripts/child")
    assert kept.is_file()
    together = usage({MODEL: bucket(15, 15), OTHER: bucket(20, 20)}, rolledUpFrom={"child": _entry(30, 30)})
    put(root, together, workspace="parent")
    _look(tmp_path, endpoint)
    assert _usage(endpoint) == {("parent", MODEL): (5, 5), ("child", MODEL): (10, 10), ("child", OTHER): (20, 20)}
    children = [span for span in endpoint.usage() if span.attributes["gen_ai.conversation.id"] == "child"]
    assert {str(span.attributes["spanledger.granularity"]) for span in children} == {"per-turn"}
    assert not endpoint.named("session")


def test_what_the_turns_of_a_child_that_was_never_seen_cost(tmp_path: Path) -> None:
    """Its rows tell no cost; the parent's file tells that of all of them, and at which rates (USD a token)."""
    endpoint, mux = Endpoint(), ScriptedMux(tmp_path / "mux", chat=True)
    parent = mux.create()
    mux.turn(parent, MODEL, (100, 0, 0, 10, 0))
    _look(tmp_path, endpoint)
    child = mux.create(parent)
    mux.turn(child, MODEL, (1000, 200, 0, 100, 0))
    mux.turn(child, MODEL, (2000, 0, 0, 0, 0))
    mux.turn(parent, MODEL, (500, 0, 40, 50, 0))
    mux.roll_up(child)
    mux.remove(child)
    _look(tmp_path, endpoint)
    assert cost_by_model(endpoint.usage()) == {
        (child, MODEL): round(3000 * 3e-6 + 200 * 3e-7 + 100 * 15e-6, 9),
        (parent, MODEL): round(600 * 3e-6 + 40 * 3.75e-6 + 60 * 15e-6, 9),
    }
    turns = [span for span in endpoint.usage() if span.attributes["gen_ai.conversation.id"] == child]
    assert {str(span.attributes["spanledger.session.project"]) for span in turns} == {"widget"}
    assert {str(span.attributes["spanledger.session.agent_type"]) for span in turns} == {"explore"}
    assert [span.attributes["gen_ai.usage.cost"] for span in turns] == pytest.approx([0.00456, 0.006])


@pytest.mark.parametrize("compacted", [[MODEL], [MODEL, OTHER]])
def test_a_compaction_of_a_child_that_was_never_seen(compacted: list[str], tmp_path: Path) -> None:
    """Its row has what was written to the cache among the input; the parent's file tells that class, of all models."""
    endpoint, mux = Endpoint(), ScriptedMux(tmp_path / "mux", chat=True)
    parent = mux.create()
    _look(tmp_path, endpoint)
    child = mux.create(parent)
    mux.turn(child, MODEL, (5, 4, 3, 2, 1))
    mux.turn(child, OTHER, (1, 2, 3, 4, 5))
    for model in compacted:
        mux.turn(child, model, (100, 20, 30, 40, 5), compaction=True)
    mux.turn(parent, MODEL, (7, 7, 7, 7, 7))
    mux.roll_up(child)
    mux.remove(child)
    _look(tmp_path, endpoint)
    found = by_model(endpoint.usage())
    assert len(compacted) > 1 or found == mux.truth
    assert [sum(counts) for counts in zip(*found.values(), strict=True)] == [
        sum(counts) for counts in zip(*mux.truth.values(), strict=True)
    ]
    guessed = [span for span in endpoint.usage() if span.attributes.get("spanledger.cost.estimate")]
    assert len(guessed) == (len(compacted) if len(compacted) > 1 else 0)


def test_a_compaction_that_nothing_but_its_row_tells_of_is_a_guess(tmp_path: Path) -> None:
    """The parent's file was made anew: what was written to the cache is uncached input in the row, and says so."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, usage({MODEL: bucket(5, 5)}), workspace="parent")
    rows = row("m1", MODEL, 10, 10) + row("m2", MODEL, 20, 20, agentId="compact")
    put(root, rows, "chat.jsonl", workspace="parent/subagent-transcripts/child")
    _look(tmp_path, endpoint)
    assert _usage(endpoint) == {("parent", MODEL): (5, 5), ("child", MODEL): (30, 30)}
    (span,) = (span for span in endpoint.usage() if span.attributes.get("spanledger.cost.estimate"))
    assert tokens_of(span)[0] == 20
