"""session-usage.json alone: which records a change comes to, in the order of
docs/formats/mux.md#18-reading-a-change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mux_homes import DOCUMENTS, WORKSPACE, WRITTEN_MS, bucket, document, last, put, usage
from sidecars import Endpoint, by_model, cost_by_model, scan, sidecar, tokens_of
from spanledger_sidecar.spans import Span

MODEL = "anthropic:claude-x"


class Home:
    """A home, an endpoint, and a sidecar that looks after every change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "mux"
        self.endpoint = Endpoint()
        self._known = 0

    def see(self, *contents: str | bytes, workspace: str = WORKSPACE, **options: Any) -> list[Span]:
        """Write each content in turn, looking after each; the spans that are new since the last call."""
        for content in contents:
            put(self.root, content, workspace=workspace)
            scan(self.folder / "state", self.endpoint, self.root, **options)
        new = list(self.endpoint.spans.values())[self._known :]
        self._known = len(self.endpoint.spans)
        return new


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def _grains(spans: list[Span]) -> list[str]:
    return [str(span.attributes["spanledger.granularity"]) for span in spans]


def _document(name: str) -> bytes:
    return (DOCUMENTS / name).read_bytes()


def test_each_turn_that_was_seen_is_a_turn(home: Home) -> None:
    spans = home.see(*(_document(f"seq-turns/t{number}.json") for number in range(4)))
    assert _grains(spans) == ["per-turn"] * 3
    assert [tokens_of(span) for span in spans] == [
        (1840, 0, 21450, 960, 0),
        (412, 61220, 5930, 2114, 388),
        (228, 88140, 3310, 1475, 150),
    ]
    assert [span.attributes["spanledger.cost.reported_usd"] for span in spans] == pytest.approx(
        [0.1672625, 0.1322825, 0.1065225]
    )
    assert [span.end_ns // 1_000_000 for span in spans] == [1787140918204, 1787141311930, 1787141725417]


def test_turns_that_were_missed_are_what_is_left_beside_the_last(home: Home) -> None:
    spans = home.see(_document("seq-turns/t0.json"), _document("seq-turns/t3.json"))
    assert _grains(spans) == ["per-turn", "per-session-aggregate"]
    turn, rest = spans
    assert tokens_of(turn) == (228, 88140, 3310, 1475, 150)
    assert tokens_of(rest) == (2252, 61220, 27380, 3074, 388)
    assert rest.attributes == rest.attributes | {
        "spanledger.source": "file:mux",
        "spanledger.source.turn_index": 0,
        "spanledger.note": "per-session aggregate: no per-call or per-tool detail",
        "spanledger.source.cumulative.input_tokens": 2480 + 149360 + 30690,
        "spanledger.source.cumulative.output_tokens": 4549 + 538,
        "spanledger.source.cumulative.cache_read_tokens": 149360,
        "spanledger.source.cumulative.cache_write_tokens": 30690,
        "spanledger.source.cumulative.reasoning_tokens": 538,
        "spanledger.source.cumulative.cost_usd": pytest.approx(0.4060675),
    }
    assert not {"spanledger.kind", "spanledger.cost.usd", "spanledger.session.id"} & set(rest.attributes)


def test_a_write_without_usage_is_none(home: Home) -> None:
    home.see(_document("01-single-model.json"))
    assert home.see(_document("12-token-stats-cache.json")) == []


def test_several_models_and_what_each_cost(home: Home) -> None:
    spans = home.see(_document("03-several-models.json"))
    assert _grains(spans).count("per-turn") == 1
    models = document("03-several-models.json")["byModel"]
    assert cost_by_model(spans) == {
        (WORKSPACE, key): round(sum(part["cost_usd"] for name, part in found.items() if name != "model"), 9)
        for key, found in models.items()
    }


def test_one_request_through_a_gateway(home: Home) -> None:
    """Its canonical key names the model; the gateway's own name does not."""
    (span,) = home.see(_document("02-single-request-gateway.json"))
    assert span.attributes["gen_ai.provider.name"] == "anthropic"
    assert span.attributes["gen_ai.request.model"] == "claude-sonnet-5"


def test_an_unknown_cost_is_no_cost(home: Home) -> None:
    (span,) = home.see(_document("04-unknown-cost-first-request.json"))
    assert span.attributes["gen_ai.provider.name"] == "ollama"
    assert span.attributes["gen_ai.request.model"] == "gpt-oss:20b"
    assert not {"spanledger.cost.reported_usd", "gen_ai.usage.cost"} & set(span.attributes)


def test_partial_costs_are_no_cost_but_an_exact_turn_keeps_its_own(home: Home) -> None:
    """`hasUnknownCosts`: the sums are too small, and 0 is no price (docs/formats/mux.md#14-cost)."""
    home.see(usage({MODEL: bucket(10, 10)}))
    turn = bucket(5, 5, cost=0.5)
    spans = home.see(usage({MODEL: bucket(25, 25, cost=0.5, hasUnknownCosts=True)}, lastRequest=last(MODEL, turn)))
    assert [span.attributes.get("spanledger.cost.reported_usd") for span in spans] == [0.5, None]
    assert "spanledger.source.cumulative.cost_usd" not in spans[1].attributes


def test_what_a_subscription_covers_costs_nothing_and_says_so(home: Home) -> None:
    covered = bucket(5, 5, cost=0, costsIncluded=True)
    (span,) = home.see(usage({"openai:gpt-x": covered}, lastRequest=last("openai:gpt-x", covered)))
    assert span.attributes["spanledger.cost.reported_usd"] == 0
    assert span.attributes["spanledger.source.charged"] is True
    assert span.attributes["spanledger.note"] == "covered by a subscription: nothing was charged"


@pytest.mark.parametrize(
    ("key", "provider", "model"),
    [
        ("historical", None, None),
        ("unknown", None, None),
        ("gpt-4", None, "gpt-4"),
        ("my-proxy:llama:8b", "my-proxy", "llama:8b"),
        ("openrouter:meta-llama/llama-4", "openrouter", "meta-llama/llama-4"),
        ("bedrock:us.anthropic.claude-x", "aws.bedrock", "us.anthropic.claude-x"),
        ("google:gemini-3-flash", "gcp.gemini", "gemini-3-flash"),
        ("xai:grok-5", "x_ai", "grok-5"),
        ("github-copilot:gpt-x", "github-copilot", "gpt-x"),
    ],
)
def test_model_keys(key: str, provider: str | None, model: str | None, home: Home) -> None:
    (span,) = home.see(usage({key: bucket(1, 1)}))
    assert span.attributes.get("gen_ai.provider.name") == provider
    assert span.attributes.get("gen_ai.request.model") == model
    assert span.attributes["spanledger.source.model_key"] == key


def test_history_without_a_model_keeps_its_cost(home: Home) -> None:
    spans = home.see(_document("07-historical-key.json"))
    (span,) = (span for span in spans if span.attributes["spanledger.source.model_key"] == "historical")
    assert span.attributes["spanledger.cost.reported_usd"] == pytest.approx(1.2405353)
    assert "gen_ai.request.model" not in span.attributes


def test_service_tier_is_told_where_it_is_one(home: Home) -> None:
    flex, mixed = bucket(1, 1, serviceTier="flex"), bucket(1, 1, serviceTier="mixed")
    spans = home.see(usage({"openai:a": flex, "openai:b": mixed}))
    tiers = {
        span.attributes["gen_ai.request.model"]: span.attributes.get("spanledger.source.service_tier") for span in spans
    }
    assert tiers == {"a": "flex", "b": None}


@pytest.mark.parametrize(
    ("anew", "key"),
    [
        pytest.param({MODEL: bucket(9, 20)}, MODEL, id="a class shrank"),
        pytest.param({"openai:other": bucket(50, 50)}, "openai:other", id="a model is gone"),
        pytest.param({MODEL: bucket(50, 50, model=MODEL)}, MODEL, id="it holds one request where there were more"),
    ],
)
def test_nothing_is_counted_of_a_file_made_anew_but_its_growth(anew: dict[str, Any], key: str, home: Home) -> None:
    home.see(usage({MODEL: bucket(10, 10)}), usage({MODEL: bucket(20, 20)}))
    assert home.see(usage(anew)) == []
    grown = bucket(anew[key]["input"]["tokens"] + 1, anew[key]["output"]["tokens"] + 2)
    (span,) = home.see(usage({key: grown}))
    assert tokens_of(span) == (1, 0, 0, 2, 0)
    assert span.attributes["spanledger.source.model_key"] == key


def test_old_totals_after_a_rebuild_are_new_usage(home: Home) -> None:
    home.see(usage({MODEL: bucket(10, 10)}), usage({MODEL: bucket(20, 20)}), usage({MODEL: bucket(5, 5)}))
    (span,) = home.see(usage({MODEL: bucket(20, 20)}))
    assert tokens_of(span) == (15, 0, 0, 15, 0)
    assert len(home.endpoint.usage()) == 3


def test_numbers_that_are_none_count_as_nothing(home: Home) -> None:
    """null, negative, missing: tolerated (docs/formats/mux.md#17-sums-that-fall); the rest counts."""
    (span,) = home.see(_document("16-bad/null-tokens.json"))
    assert tokens_of(span) == (0, 10, 0, 0, 0)
    assert "spanledger.cost.reported_usd" not in span.attributes


def test_fork_starts_from_nothing(home: Home) -> None:
    assert home.see(_document("11-fork-empty.json")) == []


def test_headless_calls_alone(home: Home) -> None:
    (span,) = home.see(_document("10-no-last-request.json"))
    assert _grains([span]) == ["per-session-aggregate"]
    assert span.end_ns // 1_000_000 == WRITTEN_MS


def test_start_is_the_change_before(home: Home, tmp_path: Path) -> None:
    home.see(usage({MODEL: bucket(10, 10)}))
    path = put(home.root, usage({MODEL: bucket(20, 20)}))
    later_ns = (WRITTEN_MS + 60_000) * 1_000_000
    os.utime(path, ns=(later_ns, later_ns))
    scan(tmp_path / "state", home.endpoint, home.root)
    span = list(home.endpoint.spans.values())[-1]
    assert (span.start_ns // 1_000_000, span.end_ns // 1_000_000) == (WRITTEN_MS, WRITTEN_MS + 60_000)


def test_duration_comes_from_the_timing_file(home: Home) -> None:
    root = DOCUMENTS / "home-sample"
    for name in ("session-timing.json", "session-usage.json"):
        put(home.root, (root / "sessions" / WORKSPACE / name).read_bytes(), name)
    scan(home.folder / "state", home.endpoint, home.root)
    (turn,) = (span for span in home.endpoint.usage() if span.attributes["spanledger.granularity"] == "per-turn")
    assert (turn.end_ns - turn.start_ns) // 1_000_000 == 120380
    assert turn.attributes["gen_ai.response.time_to_first_chunk"] == 1.9
    assert turn.attributes["gen_ai.agent.name"] == "plan"


def test_since_counts_the_turn_that_is_dated(home: Home) -> None:
    """Of a workspace from before, only what is dated later is new."""
    (span,) = home.see(_document("01-single-model.json"), since_ms=1787141725000)
    assert tokens_of(span) == (228, 88140, 3310, 1475, 150)


def test_first_run_takes_what_is_there_as_known(home: Home) -> None:
    assert home.see(_document("seq-turns/t2.json"), since_ms=None) == []
    (span,) = home.see(_document("seq-turns/t3.json"), since_ms=None)
    assert tokens_of(span) == (228, 88140, 3310, 1475, 150)


def test_workspaces_made_after_the_first_run_count_from_their_beginning(home: Home) -> None:
    home.see(_document("seq-turns/t2.json"), since_ms=None, now_ms=lambda: 1_787_141_000_000)
    spans = home.see(_document("03-several-models.json"), workspace="aaaaaaaaaa", since_ms=None)
    models = document("03-several-models.json")["byModel"].values()
    counts = [part["tokens"] for found in models for name, part in found.items() if name != "model"]
    assert sum(map(sum, by_model(spans).values())) == sum(counts)


def test_deleted_workspace_is_closed_once(home: Home, tmp_path: Path) -> None:
    put(home.root, usage({MODEL: bucket(1, 1)}), workspace="other")
    home.see(_document("01-single-model.json"))
    with sidecar(tmp_path / "state", home.endpoint, home.root) as made:
        for path in (home.root / "sessions" / WORKSPACE).iterdir():
            path.unlink()
        (home.root / "sessions" / WORKSPACE).rmdir()
        made.once()
        made.once()
    (closing,) = home.endpoint.named("session")
    assert closing.attributes == {
        "spanledger.source": "file:mux",
        "gen_ai.conversation.id": WORKSPACE,
        "spanledger.session.closed": True,
    }
