"""Every query of the shipped dashboard, with its variables filled in, against the real Tempo and Prometheus."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from real_parts import ROOT, Loop, Prometheus, Tempo
from replays import LABEL, Replay, prepare, traced
from tools.programs import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/spanledger.json").read_text())
PANELS: dict[str, dict[str, Any]] = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
QUERIES = [
    pytest.param(panel, target, id=f"{title}, {target['refId']}")
    for title, panel in PANELS.items()
    for target in panel["targets"]
]
REPLAYED = ("otel-genai/S7-openai-chat", "langchain-openinference/S3", "otel-genai/S1-anthropic")
"""Two agents that make the same call three times in a row, which is a loop by default, and plain chats."""


class Board:
    """The dashboard over what one loop has sent."""

    def __init__(self, tempo: Tempo, prometheus: Prometheus, replays: list[Replay], labels: list[str]) -> None:
        self.replays = replays
        self._tempo = tempo
        self._prometheus = prometheus
        self._where = f'resource.{LABEL} =~ "{"|".join(labels)}"'

    def values(self, panel: dict[str, Any], target: dict[str, Any]) -> dict[str, float]:
        """What one query of a panel gives, by label; a search gives how many traces it found."""
        if target["datasource"]["uid"] == "prometheus":
            series = self._prometheus.query(target["expr"].replace("$__rate_interval", "1m"))
            return {str(one["metric"]): float(one["value"][1]) for one in series}
        query = target["query"].replace("$where", self._where)
        assert "$" not in query
        if panel["type"] == "table":
            found = self._tempo.search(query)
            return {"traces": len(found)} if found else {}
        if target["metricsQueryType"] == "range":
            return self._tempo.metric_over_time(query)
        return self._tempo.metric(query)

    def shown(self, title: str) -> dict[str, float]:
        """What the only query of the panel `title` gives."""
        (target,) = PANELS[title]["targets"]
        return self.values(PANELS[title], target)


def _call(label: str, model: str) -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key=LABEL).value.string_value = label
    span = resource_spans.scope_spans.add().spans.add(trace_id=secrets.token_bytes(16), span_id=secrets.token_bytes(8))
    span.name, span.start_time_unix_nano, span.end_time_unix_nano = "chat", time.time_ns() - 10**9, time.time_ns()
    for key, text in (
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", model),
    ):
        span.attributes.add(key=key).value.string_value = text
    for key in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"):
        span.attributes.add(key=key).value.int_value = 10
    return request.SerializeToString()


@pytest.fixture(scope="module")
def board(loop: Loop, tempo: Tempo, prometheus: Prometheus) -> Board:
    """All that was replayed has arrived in Tempo, and Prometheus has seen it."""
    replays = [prepare(traced()[name]) for name in REPLAYED]
    unpriced = f"unpriced-{secrets.token_hex(4)}"
    for replay in replays:
        loop.send(*replay.requests)
    loop.send(_call(unpriced, "nobody-knows-me"))
    labels = [unpriced, *(replay.label for replay in replays)]
    board = Board(tempo, prometheus, replays, labels)

    def arrived() -> None:
        query = f'{{ resource.{LABEL} =~ "{"|".join(labels)}" }} | count_over_time()'
        assert sum(tempo.metric(query).values()) == 1 + sum(len(replay.spans) for replay in replays)
        assert sum(board.shown("Spend counted since start").values()) == pytest.approx(_truth(board), rel=1e-9)

    eventually(arrived)
    return board


@pytest.fixture(scope="module")
def prometheus(loop: Loop, prometheus_program: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, scraping this module's loop."""
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), loop)

    def asked() -> None:
        assert prometheus.query("spanledger_build_info")

    try:
        prometheus.program.start()
        eventually(asked)  # what is counted before that is no increase
        yield prometheus
    finally:
        prometheus.program.stop()


def _truth(board: Board) -> float:
    return float(sum(replay.cost for replay in board.replays))


@pytest.mark.parametrize(("panel", "target"), QUERIES)
def test_every_query_brings_data(panel: dict[str, Any], target: dict[str, Any], board: Board) -> None:
    """No query is refused, and none looks for a name that nobody writes."""

    def some() -> None:
        assert board.values(panel, target)

    eventually(some)


@pytest.mark.parametrize("title", ["Cost", "Cost over time by model", "Calls in loops"])
def test_a_range_of_months_is_no_error(title: str, board: Board, tempo: Tempo) -> None:
    """Whatever range a dashboard is set to: by its own limits Tempo refuses more than three hours of metrics."""
    tempo.seconds_back = 60 * 86_400
    try:
        assert board.shown(title)
    finally:
        tempo.seconds_back = 900


@pytest.mark.parametrize("title", ["Cost", "Cost over time by model", "Cost by session, top 20", "Cost by run, top 20"])
def test_costs_add_up_to_the_truth(title: str, board: Board) -> None:
    assert sum(board.shown(title).values()) == pytest.approx(_truth(board), rel=1e-9)


def test_costs_are_told_apart(board: Board) -> None:
    """One bar for each model and each session that was replayed."""
    assert len({k: v for k, v in board.shown("Cost over time by model").items() if v}) == 3
    assert len({k: v for k, v in board.shown("Cost by session, top 20").items() if v}) == 3


def test_calls_are_counted(board: Board) -> None:
    calls = sum(replay.calls for replay in board.replays)
    assert sum(board.shown("Calls priced").values()) == calls
    assert sum(board.shown("Calls without a price").values()) == 1
    assert board.shown("Calls without a price, by reason") == {"unknown_model": 1}


def test_loops_are_found(board: Board) -> None:
    """Each of the two agents completes one, with the third of its three equal calls."""
    assert sum(board.shown("Tool calls that completed a loop").values()) == 2
    assert sorted(board.shown("Top tool loops").values()) == [3, 3]
    assert board.shown("Calls in loops") == {"traces": 2}


def test_the_first_amount_of_a_model_is_in_the_last_day(board: Board, loop: Loop) -> None:
    """`increase()` by itself leaves out what a series begins with: here 10 tokens in and 10 out, the only call."""
    loop.send(_call("first", "gpt-4.1-nano"))
    expected = 10 * 0.1e-6 + 10 * 0.4e-6  # the price list of OpenAI, USD a million tokens

    def shown() -> None:
        by_model = board.shown("Spend of the last 24 hours by model")
        spent = [amount for labels, amount in by_model.items() if "gpt-4.1-nano" in labels]
        assert spent == [pytest.approx(expected, rel=1e-9)]

    eventually(shown)
    assert sum(board.shown("Spend of the last 24 hours").values()) == pytest.approx(
        sum(board.shown("Spend of the last 24 hours by model").values()), rel=0.01
    )
    assert sum(board.shown("Spend of the last 24 hours").values()) >= (_truth(board) + expected) * (1 - 1e-9)


def test_the_dashboard_has_a_panel_a_place() -> None:
    """No two panels have one id or overlap."""
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
