"""The finer files: turns by their message ids, with tools, and never the same tokens from two files."""

from __future__ import annotations

import json
from pathlib import Path

from mux_homes import DOCUMENTS, WORKSPACE, WRITTEN_MS, bucket, last, put, row, usage
from sidecars import NOW_MS, Endpoint, by_model, scan, sidecar, tokens_of

MODEL, OTHER = "anthropic:claude-x", "openai:gpt-x"


def _look(folder: Path, endpoint: Endpoint, **options: object) -> None:
    assert scan(folder / "state", endpoint, folder / "mux", **options)


def _grains(endpoint: Endpoint) -> list[str]:
    return sorted(str(span.attributes["spanledger.granularity"]) for span in endpoint.usage())


def test_home_sample_is_told_by_its_rows(tmp_path: Path) -> None:
    """Its usage file equals the sum of its chat, its advisor and its headless call."""
    endpoint = Endpoint()
    scan(tmp_path / "state", endpoint, DOCUMENTS / "home-sample")
    models = json.loads((DOCUMENTS / "home-sample/sessions" / WORKSPACE / "session-usage.json").read_text())["byModel"]
    classes = ("input", "cached", "cacheCreate", "output", "reasoning")
    assert by_model(endpoint.usage()) == {
        (WORKSPACE, key): tuple(found[name]["tokens"] for name in classes) for key, found in models.items()
    }
    assert _grains(endpoint) == ["per-turn"] * 5
    session = {"spanledger.session.name": "fix-cache", "spanledger.session.project": "widget"}
    assert all(span.attributes == span.attributes | session for span in endpoint.spans.values())


def test_an_advisor_stands_beside_the_turn(tmp_path: Path) -> None:
    """Below it, the turn's own usage would look like a repeat of the advisor's."""
    endpoint = Endpoint()
    scan(tmp_path / "state", endpoint, DOCUMENTS / "home-sample")
    (advisor,) = (span for span in endpoint.usage() if span.attributes.get("gen_ai.agent.name") == "advisor")
    turns = [span for span in endpoint.usage() if span.trace_id == advisor.trace_id]
    assert len(turns) == 2
    assert {span.parent_id for span in turns} == {b""}


def test_tools_and_their_outcome(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scan(tmp_path / "state", endpoint, DOCUMENTS / "home-sample")
    read, bash, fetch = endpoint.named("execute_tool")
    assert (bash.end_ns - bash.start_ns) // 1_000_000 == 90411
    assert [span.failed for span in (read, bash, fetch)] == [False, True, False]
    assert bash.attributes["error.type"] == "tool_error"
    assert {span.parent_id for span in (read, bash)} <= {span.span_id for span in endpoint.usage()}


def test_nested_calls_hang_below_their_tool(tmp_path: Path) -> None:
    endpoint = Endpoint()
    inner = {"toolCallId": "b", "toolName": "bash", "input": {"script": "ls"}}
    outer = {
        "type": "dynamic-tool",
        "toolCallId": "a",
        "toolName": "code_execution",
        "input": {},
        "nestedCalls": [inner],
    }
    content = json.loads(row("m1", MODEL, 1, 1))
    put(tmp_path / "mux", json.dumps(content | {"parts": [outer]}) + "\n", "chat.jsonl")
    _look(tmp_path, endpoint)
    outside, inside = endpoint.named("execute_tool")
    assert inside.parent_id == outside.span_id


def test_rows_of_a_fork_count_where_they_were_first(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    rows = row("m1", MODEL, 10, 10)
    put(root, rows, "chat.jsonl", "a-source")
    put(root, usage({MODEL: bucket(10, 10)}), workspace="a-source")
    _look(tmp_path, endpoint)
    put(root, usage({MODEL: bucket(3, 3)}), workspace="fork")
    put(root, rows + row("m2", MODEL, 3, 3), "chat.jsonl", "fork")
    _look(tmp_path, endpoint)
    assert by_model(endpoint.usage()) == {("a-source", MODEL): (10, 0, 0, 10, 0), ("fork", MODEL): (3, 0, 0, 3, 0)}


def test_a_fork_by_an_old_version_has_copied_totals(tmp_path: Path) -> None:
    """Before v0.21 the usage file was copied too (docs/formats/mux.md#17-sums-that-fall)."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    rows = row("m1", MODEL, 10, 10)
    for workspace in ("a-source", "fork"):
        put(root, rows, "chat.jsonl", workspace)
        put(root, usage({MODEL: bucket(10, 10)}), workspace=workspace)
    _look(tmp_path, endpoint)
    put(root, rows + row("m2", MODEL, 3, 3), "chat.jsonl", "fork")
    put(root, usage({MODEL: bucket(13, 13)}), workspace="fork")
    _look(tmp_path, endpoint)
    assert by_model(endpoint.usage()) == {("a-source", MODEL): (10, 0, 0, 10, 0), ("fork", MODEL): (3, 0, 0, 3, 0)}


def test_rotation_that_was_cut_short_leaves_rows_twice(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    for name in ("chat.jsonl", "chat-archive.jsonl"):
        put(root, row("m1", MODEL, 10, 10), name)
    _look(tmp_path, endpoint)
    assert by_model(endpoint.usage()) == {(WORKSPACE, MODEL): (10, 0, 0, 10, 0)}


def test_the_usage_file_fills_what_rows_do_not_show(tmp_path: Path) -> None:
    """And its last request makes no span, since it may be a row's."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, row("m1", MODEL, 10, 10), "chat.jsonl")
    turn = bucket(4, 4)
    put(root, usage({MODEL: bucket(15, 16), OTHER: turn}, lastRequest=last(OTHER, turn)))
    _look(tmp_path, endpoint)
    assert by_model(endpoint.usage()) == {(WORKSPACE, MODEL): (15, 0, 0, 16, 0), (WORKSPACE, OTHER): (4, 0, 0, 4, 0)}
    assert _grains(endpoint) == ["per-session-aggregate", "per-session-aggregate", "per-turn"]


def test_rows_beyond_the_usage_file_count(tmp_path: Path) -> None:
    """A crash between the two writes loses the turn in the usage file only (docs/formats/mux.md#16-writing)."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, row("m1", MODEL, 10, 10) + row("m2", MODEL, 5, 5, WRITTEN_MS + 60_000), "chat.jsonl")
    put(root, usage({MODEL: bucket(10, 10)}))
    _look(tmp_path, endpoint)
    assert by_model(endpoint.usage()) == {(WORKSPACE, MODEL): (15, 0, 0, 15, 0)}


def test_a_compaction_row_lacks_the_cache_writes_that_the_file_has(tmp_path: Path) -> None:
    """The same tokens in another class are not more tokens (docs/formats/mux.md#22-rows)."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, row("m1", MODEL, 100, 10), "chat.jsonl")
    written = bucket(20, 10, cost=0.1)
    written["cacheCreate"] = {"tokens": 80, "cost_usd": 0.2}
    put(root, usage({MODEL: written}, lastRequest=last(MODEL, written, WRITTEN_MS - 400)))
    _look(tmp_path, endpoint)
    (span,) = endpoint.usage()
    assert tokens_of(span) == (20, 0, 80, 10, 0)
    assert span.attributes["spanledger.cost.reported_usd"] == 0.3


def test_rows_share_the_cost_that_the_file_gained(tmp_path: Path) -> None:
    """Every token of a class costs the same; the sum is the file's."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, row("m1", MODEL, 10, 10) + row("m2", MODEL, 10, 30), "chat.jsonl")
    put(root, usage({MODEL: bucket(20, 40, cost=0.4)}))
    _look(tmp_path, endpoint)
    assert [span.attributes["spanledger.cost.reported_usd"] for span in endpoint.usage()] == [0.1, 0.3]


def test_what_was_charged_stands_before_an_estimate(tmp_path: Path) -> None:
    """A turn that a subscription covered, and one whose price xAI told itself."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    billed = row("m2", "xai:grok", 1, 1, providerMetadata={"xai": {"costInUsdTicks": 123_000_000}})
    put(root, row("m1", MODEL, 1, 1, costsIncluded=True) + billed, "chat.jsonl")
    _look(tmp_path, endpoint)
    covered, reported = endpoint.usage()
    assert (covered.attributes["spanledger.cost.reported_usd"], covered.attributes["spanledger.source.charged"]) == (
        0,
        True,
    )
    assert (reported.attributes["spanledger.cost.reported_usd"], reported.attributes["spanledger.source.charged"]) == (
        0.0123,
        True,
    )


def test_a_gateways_name_is_kept_under_the_makers_key(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, row("m1", "openrouter:openai/gpt-x", 5, 5, routeProvider="openrouter"), "chat.jsonl")
    put(root, usage({OTHER: bucket(5, 5)}))
    _look(tmp_path, endpoint)
    (span,) = endpoint.usage()
    assert span.attributes["spanledger.source.model_key"] == OTHER
    assert span.attributes["spanledger.source.route"] == "openrouter"


def test_the_file_tells_under_which_key_it_keeps_a_model(tmp_path: Path) -> None:
    """A name that we do not know how to read is not counted under two keys; the file said so once."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    named = bucket(5, 5, model="new-gateway:x/gpt-x")
    put(root, usage({OTHER: named}, lastRequest=last(OTHER, named)))
    put(root, row("m1", "new-gateway:x/gpt-x", 5, 5), "chat.jsonl")
    _look(tmp_path, endpoint)
    put(root, usage({OTHER: bucket(7, 7)}))
    put(root, row("m1", "new-gateway:x/gpt-x", 5, 5) + row("m2", "new-gateway:x/gpt-x", 2, 2), "chat.jsonl")
    _look(tmp_path, endpoint)
    assert by_model(endpoint.usage()) == {(WORKSPACE, OTHER): (7, 0, 0, 7, 0)}
    assert _grains(endpoint) == ["per-turn", "per-turn"]


def test_a_placeholder_is_a_turn_when_it_has_usage(tmp_path: Path) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    whole = json.loads(row("m1", MODEL, 5, 5))
    empty = whole | {"metadata": {key: value for key, value in whole["metadata"].items() if key != "usage"}}
    put(root, json.dumps(empty) + "\n", "chat.jsonl")
    _look(tmp_path, endpoint)
    assert not endpoint.spans
    put(root, json.dumps(whole) + "\n", "chat.jsonl")
    _look(tmp_path, endpoint)
    assert len(endpoint.usage()) == 1


def test_grain_usage_opens_no_chat(tmp_path: Path) -> None:
    """A link in the place of one would be told of."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    usage_file = put(root, usage({MODEL: bucket(5, 5)}))
    (usage_file.parent / "chat.jsonl").symlink_to(usage_file)
    with sidecar(tmp_path / "state", endpoint, root, grain="usage") as made:
        assert made.once()
        assert made.sources[0].errors.count == 0
    assert _grains(endpoint) == ["per-session-aggregate"]


def test_a_clock_far_ahead_holds_nothing_up(tmp_path: Path) -> None:
    """On a network disk, times may be another machine's."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, row("m1", MODEL, 5, 5, WRITTEN_MS + 3_600_000), "chat.jsonl")
    put(root, usage({MODEL: bucket(3, 3), OTHER: bucket(2, 2)}))
    with sidecar(tmp_path / "state", endpoint, root, now_ms=lambda: WRITTEN_MS - 3_600_000) as made:
        made.scan(lambda: True, hold_back=2)
        assert made.outbox.drain()
    assert by_model(endpoint.usage()) == {(WORKSPACE, MODEL): (5, 0, 0, 5, 0), (WORKSPACE, OTHER): (2, 0, 0, 2, 0)}


def test_a_remainder_waits_a_moment_for_its_row(tmp_path: Path) -> None:
    """An aborted turn is in the usage file before its row is in the chat."""
    endpoint, root, clock = Endpoint(), tmp_path / "mux", [WRITTEN_MS + 500]
    put(root, "", "chat.jsonl")
    put(root, usage({MODEL: bucket(5, 5)}))
    with sidecar(tmp_path / "state", endpoint, root, now_ms=lambda: clock[0]) as made:
        made.scan(lambda: True, hold_back=2)
        assert made.outbox.drain()
        assert not endpoint.spans
        put(root, row("m1", MODEL, 5, 5), "chat.jsonl")
        made.scan(lambda: True, hold_back=2)
        clock[0] = NOW_MS
        made.scan(lambda: True, hold_back=2)
        assert made.outbox.drain()
    assert _grains(endpoint) == ["per-turn"]
