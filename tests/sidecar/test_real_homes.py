"""Real homes of Xum: whatever is seen of them, and when, the spans add up to what Xum itself says at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecars import Clock, Endpoint, by_model, cost_by_model, scan, sidecar
from xum_homes import HOMES, SCENARIOS, Recorded


def _agrees(endpoint: Endpoint, home: Recorded) -> None:
    tokens, costs = home.truth()
    assert by_model(endpoint.usage()) == tokens
    assert cost_by_model(endpoint.usage()) == costs


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("chat", [False, True], ids=["usage files only", "with chat"])
def test_every_version_seen(scenario: str, *, chat: bool, tmp_path: Path) -> None:
    home, endpoint, clock = Recorded(HOMES / scenario), Endpoint(), Clock(0)
    with sidecar(tmp_path / "state", endpoint, tmp_path / "root", now_ms=clock) as made:
        for clock.now_ms in home.replay(tmp_path / "root", chat=chat):
            made.scan(lambda: True, hold_back=2)
        clock.now_ms += 2000
        made.scan(lambda: True, hold_back=2)
        made.outbox.drain()
    _agrees(endpoint, home)
    assert {str(span.attributes["spanledger.granularity"]) for span in endpoint.usage()} == {"per-turn"} | (
        {"per-session-aggregate"} if scenario == "two-models" and not chat else set()
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_version_seen_by_a_sidecar_of_its_own(scenario: str, tmp_path: Path) -> None:
    home, endpoint = Recorded(HOMES / scenario), Endpoint()
    for _ in home.replay(tmp_path / "root", chat=True):
        scan(tmp_path / "state", endpoint, tmp_path / "root")
    assert by_model(endpoint.usage()) == home.truth()[0]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_only_the_end_seen(scenario: str, tmp_path: Path) -> None:
    """A backfill: a removed child is known by what its parent keeps of it."""
    home, endpoint = Recorded(HOMES / scenario), Endpoint()
    scan(tmp_path / "state", endpoint, home.path / "xumroot")
    assert by_model(endpoint.usage()) == home.truth()[0]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_chat_found_late(scenario: str, tmp_path: Path) -> None:
    """Turns that the usage file had shown are not counted again when the chat that holds them comes into sight."""
    home, endpoint = Recorded(HOMES / scenario), Endpoint()
    for _ in home.replay(tmp_path / "root", chat=False):
        scan(tmp_path / "state", endpoint, tmp_path / "root", grain="usage")
    for chat in (home.path / "xumroot").rglob("*.jsonl"):
        target = tmp_path / "root" / chat.relative_to(home.path / "xumroot")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(chat.read_bytes())
    scan(tmp_path / "state", endpoint, tmp_path / "root")
    _agrees(endpoint, home)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_first_run_counts_nothing_old(scenario: str, tmp_path: Path) -> None:
    home, endpoint = Recorded(HOMES / scenario), Endpoint()
    scan(tmp_path / "state", endpoint, home.path / "xumroot", since_ms=None)
    assert not endpoint.spans


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_spans_from_a_home_elsewhere(scenario: str, tmp_path: Path) -> None:
    """Ids do not depend on a path."""
    first, second = Endpoint(), Endpoint()
    moved = tmp_path / "moved"
    home = Recorded(HOMES / scenario)
    for _ in home.replay(moved, chat=True):
        pass
    scan(tmp_path / "one", first, home.path / "xumroot")
    scan(tmp_path / "two", second, moved)
    turns = {ids for ids, span in first.spans.items() if span.attributes.get("spanledger.granularity") == "per-turn"}
    assert turns
    assert turns <= set(second.spans)


def test_turns_of_the_chat_have_their_tools_and_no_argument(tmp_path: Path) -> None:
    endpoint = Endpoint()
    scan(tmp_path / "state", endpoint, HOMES / "anthropic-tools" / "xumroot")
    tools = endpoint.named("execute_tool")
    assert len(tools) == 6
    assert len({str(span.attributes["spanledger.tool.signature"]) for span in tools}) == 1
    turns = {span.span_id for span in endpoint.usage()}
    assert {span.parent_id for span in tools} == turns
    assert not any("echo hi" in str(span) for span in endpoint.spans.values())
