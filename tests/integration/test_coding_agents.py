"""Recorded runs of Claude Code, Codex and Gemini CLI, posted to the Collector with the shipped files.

Their usage is in log events, so logs have to make the same round trip as traces, and the spans made from them have to
reach the traces backend.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent_runs import AgentRun, prepare_run, records, runs
from backend import Backend
from real_parts import ROOT, Loop, Tempo
from tools.programs import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

LOGS_ONLY = [name for name in runs() if name.endswith("logs-only")]


@pytest.fixture(scope="module")
def logs() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture(scope="module")
def metrics() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture(scope="module")
def agents_loop(
    otelcol: None, tempo: Tempo, logs: Backend, metrics: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loop]:
    with Loop(
        tmp_path_factory.mktemp("agents"),
        tempo.otlp,
        environment={"LOGS_ENDPOINT": f"127.0.0.1:{logs.port}", "METRICS_ENDPOINT": f"127.0.0.1:{metrics.port}"},
    ) as loop:
        yield loop


@pytest.fixture(scope="module")
def sent(agents_loop: Loop) -> dict[str, AgentRun]:
    """Every run, posted to the Collector's OTLP/HTTP port, each body answered 200."""
    prepared = {name: prepare_run(name) for name in runs()}
    for run in prepared.values():
        for signal, body in run.requests:
            agents_loop.post(signal, body)
    return prepared


def test_there_is_a_run_of_each_agent() -> None:
    assert {name.partition("/")[0] for name in runs()} == {"claude-code", "codex", "gemini-cli"}
    assert {name.partition("/")[0] for name in LOGS_ONLY} == {"claude-code", "codex"}


def test_the_ledger_is_what_the_model_servers_billed(sent: dict[str, AgentRun], agents_loop: Loop) -> None:
    def agrees() -> None:
        total = agents_loop.ledger()["total"]
        assert Decimal(total["cost_usd_exact"]) == sum(run.cost for run in sent.values())
        assert total["calls"] == sum(run.calls for run in sent.values())
        for name in ("input", "output", "cache_read", "cache_write", "cache_write_1h"):
            assert total["tokens"][name] == sum(run.tokens[name] for run in sent.values())

    eventually(agrees)


@pytest.mark.parametrize("name", runs())
def test_tempo_sums_to_the_truth(name: str, sent: dict[str, AgentRun], tempo: Tempo) -> None:
    """In whichever order logs and traces come through: a log may add to its span what the span did not tell."""
    run = sent[name]
    priced = f'{{ resource.replay = "{run.label}" && span.spanledger.cost.usd > 0.0 }}'

    def summed() -> None:
        amounts = tempo.metric(f"{priced} | sum_over_time(span.spanledger.cost.usd)")
        assert sum(amounts.values()) == pytest.approx(float(run.cost), rel=1e-12)

    eventually(summed)


@pytest.mark.parametrize("name", LOGS_ONLY)
def test_spans_made_from_logs_are_in_tempo(name: str, sent: dict[str, AgentRun], tempo: Tempo) -> None:
    """Where an agent sends logs only, there is a synthesized span for each call, and it has the price."""
    run = sent[name]
    assert all(signal != "traces" for signal, _ in run.requests)
    source = f"log:{name.partition('/')[0].replace('-', '_')}"
    made = f'resource.replay = "{run.label}" && span.spanledger.source = "{source}" && span.spanledger.kind = "llm"'

    def arrived() -> None:
        found = tempo.metric(f"{{ {made} && span.spanledger.cost.usd > 0.0 }} | count_over_time()")
        assert sum(found.values()) == run.calls

    eventually(arrived)


def test_every_log_record_is_at_its_backend_once(sent: dict[str, AgentRun], logs: Backend) -> None:
    expected = sum((run.records for run in sent.values()), start=records([]))

    def arrived() -> None:
        assert records(list(logs.received)) == expected

    eventually(arrived)


def test_metrics_arrive(sent: dict[str, AgentRun], metrics: Backend) -> None:
    def names(bodies: list[bytes]) -> list[str]:
        requests = map(ExportMetricsServiceRequest.FromString, bodies)
        return sorted(
            metric.name
            for request in requests
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )

    expected = names([body for run in sent.values() for signal, body in run.requests if signal == "metrics"])
    assert expected

    def arrived() -> None:
        assert names(list(metrics.received)) == expected

    eventually(arrived)


def test_a_backend_that_takes_traces_only(otelcol: None, tempo: Tempo, tmp_path: Path) -> None:
    """As in the containers, with Tempo only: logs and metrics end in the Collector, and nothing is refused."""
    containers = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["otelcol"]["environment"]
    environment = {name: containers[name] for name in ("LOGS_EXPORTER", "METRICS_EXPORTER")}
    run, log = prepare_run("claude-code/logs-only"), tmp_path / "otelcol.log"
    with Loop(tmp_path, tempo.otlp, environment=environment) as loop:
        for signal, body in run.requests:
            loop.post(signal, body)

        def counted() -> None:
            assert Decimal(loop.ledger()["total"]["cost_usd_exact"]) == run.cost
            ended = re.findall(r'"log records": (\d+)', log.read_text())
            assert sum(map(int, ended)) == run.records.total()

        eventually(counted)
    assert "Exporting failed" not in log.read_text()


def test_a_log_record_that_spanledger_knows_nothing_of_passes(agents_loop: Loop, logs: Backend) -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1)
    record.body.string_value = "an ordinary line"
    agents_loop.post("logs", request.SerializeToString())

    def arrived() -> None:
        assert records(list(logs.received))[record.SerializeToString(deterministic=True)] == 1

    eventually(arrived)
