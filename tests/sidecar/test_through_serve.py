"""From the files to the ledger of a running `spanledger serve`, over both protocols."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tilth_logs
from backend import Backend
from mux_homes import WRITTEN_MS, bucket, last, put, row, usage
from scripted_mux import ScriptedMux
from served import Served
from sidecars import SIGNER, Clock
from spanledger_sidecar.loop import Settings, Sidecar, SourceSettings
from spanledger_sidecar.sender import PROTOCOLS, otlp
from xum_homes import HOMES, SCENARIOS, Recorded


def _tokens(found: dict[str, Any]) -> tuple[int, ...]:
    counts = found["tokens"]
    names = ("input", "cache_read", "cache_write", "output", "reasoning")
    given, read, written, answer, reasoning = (counts[name] for name in names)
    return given - read - written, read, written, answer - reasoning, reasoning


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_version_of_a_real_home(scenario: str, served: Served, tmp_path: Path) -> None:
    """Versions as they came, half of them by each protocol: sessions add up to what Xum says, tokens and money."""
    home, clock = Recorded(HOMES / scenario), Clock(0)
    ports = {"grpc": served.grpc, "http/protobuf": served.http}
    for place, clock.now_ms in enumerate(home.replay(tmp_path / "root", chat=True)):
        protocol = PROTOCOLS[place % 2]
        settings = Settings(tmp_path / "state", [SourceSettings("mux", [tmp_path / "root"])], 0)
        with Sidecar(settings, otlp(f"127.0.0.1:{ports[protocol]}", protocol, {}), SIGNER, now_ms=clock) as made:
            assert made.once()
    tokens, costs = home.truth()
    assert tokens
    for workspace in {workspace for workspace, _ in tokens}:
        found = served.query("session", workspace)
        classes = [counts for (name, _), counts in tokens.items() if name == workspace]
        assert _tokens(found) == tuple(map(sum, zip(*classes, strict=True)))
        by_model = {f"{model['model'].replace('/', ':', 1)}": model["cost_usd"] for model in found["models"]}
        assert by_model == pytest.approx({model: cost for (name, model), cost in costs.items() if name == workspace})


def test_tasks_of_tilth_after_a_crash_and_a_resume(served: Served, tmp_path: Path) -> None:
    """The ledger holds the log's known totals by task and kind, however often the sidecar was started."""
    lines = tilth_logs.RECORDED.read_text("utf-8").splitlines(keepends=True)
    for end in (3, 3, len(lines)):
        tilth_logs.session(tmp_path / "home", "20260503-101422-a1b2c3", "".join(lines[:end]))
        settings = Settings(tmp_path / "state", [SourceSettings("tilth", [tmp_path / "home"])], 0)
        with Sidecar(settings, otlp(f"127.0.0.1:{served.grpc}", "grpc", {}), SIGNER) as made:
            assert made.once()
    found = served.query("session", "20260503-101422-a1b2c3")
    tasks = {(task["id"], task["kind"]): task["tokens"] for task in found["tasks"]}
    assert {key: counts["input"] + counts["output"] for key, counts in tasks.items()} == tilth_logs.RECORDED_TASKS


def test_views_of_a_workspace_and_its_sub_agent(served: Served, tmp_path: Path) -> None:
    """Where only usage files tell, the views say aggregates; the parent's run holds what its sub-agent used."""
    mux = ScriptedMux(tmp_path / "mux", chat=False)
    parent = mux.create()
    child = mux.create(parent)
    mux.call(parent, "anthropic:claude-sonnet-4-5", (1000, 0, 0, 100, 0))
    mux.call(child, "anthropic:claude-sonnet-4-5", (500, 0, 0, 50, 0))
    settings = Settings(tmp_path / "state", [SourceSettings("mux", [mux.root])], 0)
    with Sidecar(settings, otlp(f"127.0.0.1:{served.grpc}", "grpc", {}), SIGNER) as made:
        assert made.once()
    found = {row["id"]: row for row in served.query("sessions")}
    for name, given in ((parent, 1000), (child, 500)):
        assert found[name]["tokens"]["input"] == given
        assert found[name]["granularities"] == {"per-session-aggregate": 1}
        assert (found[name]["name"], found[name]["project"]) == (f"branch-{name}", "widget")
        assert "no per-call or per-tool detail" in found[name]["note"]
    run = served.query("run", parent)
    assert (run["tokens"]["input"], run["granularities"]) == (1500, {"per-session-aggregate": 2})
    assert child not in {row["id"] for row in served.query("runs")}


def test_inside_serve_by_configuration(tmp_path: Path) -> None:
    """No second process, no socket: what `sidecar.sources` names is read by `serve` itself."""
    tilth_logs.session(tmp_path / "home", "s1", tilth_logs.RECORDED.read_text("utf-8"))
    more = {"sidecar": {"sources": {"tilth": {"roots": [str(tmp_path / "home")]}}, "backfill": True}}
    with Backend() as backend, Served(tmp_path / "serve", backend.port, more) as served:
        assert backend.arrived.acquire(timeout=60)
        tasks = served.query("session", "s1")["tasks"]
    counts = {(task["id"], task["kind"]): task["tokens"]["input"] + task["tokens"]["output"] for task in tasks}
    assert counts == tilth_logs.RECORDED_TASKS


def test_a_call_whose_usage_is_not_known_has_no_price_of_ours(served: Served, tmp_path: Path) -> None:
    """Of a number of tokens that is none, nobody knows how much it stands for: never our price of the rest alone."""
    root, model = tmp_path / "mux", "anthropic:claude-sonnet-4-5"
    odd: Any = "1000"
    counts: dict[str, Any] = {"inputTokens": 9, "outputTokens": odd}
    request = {"model": model, "timestamp": WRITTEN_MS, "source": "status", "usage": counts}
    put(root, row("odd-1", model, odd, 7), "chat.jsonl", "odd-turn")
    put(root, row("odd-2", model, odd, 0), "chat.jsonl", "odd-input-alone")
    put(root, json.dumps(request) + "\n", "headless-usage.jsonl", "odd-headless")
    put(root, usage({model: bucket(odd, 7)}), workspace="odd-sum")
    half = {"input": {"tokens": odd}, "output": {"tokens": 7, "cost_usd": 0.5}}
    put(root, usage({model: half}), workspace="odd-half-cost")
    put(root, usage({model: bucket(odd, 7)}, lastRequest=last(model, bucket(odd, 7))), workspace="odd-last")
    put(root, usage({model: bucket(odd, 7, cost=0.5)}), workspace="odd-cost")
    call = {"model": "anthropic/claude-sonnet-4-5", "prompt_tokens": odd, "eval_tokens": 7}
    tilth_logs.session(tmp_path / "tilth", "odd-tilth", tilth_logs.event("model_call", call))
    homes = [SourceSettings("mux", [root]), SourceSettings("tilth", [tmp_path / "tilth"])]
    settings = Settings(tmp_path / "state", homes, 0)
    with Sidecar(settings, otlp(f"127.0.0.1:{served.grpc}", "grpc", {}), SIGNER) as made:
        assert made.once()
        named = {path.parent.name for source in made.sources for path in source.errors.named()}
    unpriced = ("odd-turn", "odd-input-alone", "odd-headless", "odd-sum", "odd-half-cost", "odd-last", "odd-tilth")
    assert named == {*unpriced, "odd-cost"}
    for name in unpriced:
        found = served.query("session", name)
        assert (name, found["unpriced"], found["cost_usd"]) == (name, {"no_usage": 1}, 0)
    told_cost = served.query("session", "odd-cost")
    assert (told_cost["cost_usd"], told_cost["unpriced"]) == (0.5, {})
