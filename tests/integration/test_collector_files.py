"""What deploy/collector ships, merged over configurations as users have them, on the real Collector."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from agent_runs import prepare_run, records
from backend import Backend
from real_parts import ROOT, Stage, collector, post, shipped, written
from replays import prepare, spans_of, traced
from tools.programs import Running, eventually, free_port, http_post, substituted

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

CHATS = "otel-genai/S3-openai-chat"
SNIPPET = ("spanledger",)


TYPICAL = ROOT / "tests" / "data" / "collector"


class Merged(Running):
    """A Collector with the typical configuration `name` and the files `over` of deploy/collector merged over it.

    Its own Spanledger (`stage`) is started with it if one of the files sends to one.
    """

    def __init__(self, folder: Path, name: str, over: Sequence[str], environment: Mapping[str, str]) -> None:
        self.grpc, self.http, health, returned = (free_port() for _ in range(4))
        self.stage = Stage(folder, returned)
        configs = [TYPICAL / f"{name}.yaml", *(self._copied(folder, file, returned) for file in over)]
        self.collector = collector(
            folder,
            configs,
            health,
            {
                "GRPC_PORT": str(self.grpc),
                "HTTP_PORT": str(self.http),
                "HEALTH_PORT": str(health),
                "SPANLEDGER_ENDPOINT": f"127.0.0.1:{self.stage.otlp}",
                "COLLECTOR_STORAGE": str(folder / "storage"),
                **environment,
            },
            name=name,
        )
        self.programs = (self.stage.program, self.collector) if "spanledger" in over else (self.collector,)

    @staticmethod
    def _copied(folder: Path, file: str, returned: int) -> Path:
        text = shipped(f"deploy/collector/{file}.yaml")
        port = {"}:6317": f"}}:{returned}"} if file == "spanledger" else {}
        return written(folder / f"{file}.merged.yaml", substituted(text, port))


class Backends:
    """One destination for each signal."""

    def __init__(self) -> None:
        self.traces, self.logs, self.metrics = Backend(), Backend(), Backend()
        self.environment = {
            "TRACES_BACKEND": f"127.0.0.1:{self.traces.port}",
            "LOGS_BACKEND": f"127.0.0.1:{self.logs.port}",
            "METRICS_BACKEND": f"127.0.0.1:{self.metrics.port}",
        }

    def __enter__(self) -> Backends:
        return self

    def __exit__(self, *_: object) -> None:
        for backend in (self.traces, self.logs, self.metrics):
            backend.__exit__()


@pytest.fixture
def backends() -> Iterator[Backends]:
    with Backends() as backends:
        yield backends


def _ordinary_trace(*, failed: bool = False) -> bytes:
    """One span of a web server."""
    request = ExportTraceServiceRequest()
    now = time.time_ns()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="GET /", start_time_unix_nano=now)
    span.trace_id, span.span_id, span.end_time_unix_nano = secrets.token_bytes(16), secrets.token_bytes(8), now + 10**6
    if failed:
        span.status.code = Status.STATUS_CODE_ERROR
    return request.SerializeToString()


def _spans(bodies: list[bytes]) -> list[Span]:
    return [span for body in bodies for span in spans_of(ExportTraceServiceRequest.FromString(body))]


def _names(bodies: list[bytes]) -> list[str]:
    return sorted(span.name for span in _spans(bodies))


def _cost(spans: Iterator[dict[str, Any]]) -> Decimal:
    return sum((round(Decimal(span.get("spanledger.cost.usd") or 0), 12) for span in spans), Decimal(0))


@pytest.mark.parametrize("over", [SNIPPET, ("spanledger", "on-disk")], ids=" + ".join)
def test_over_the_contrib_default(over: tuple[str, ...], otelcol: None, backends: Backends, tmp_path: Path) -> None:
    """Traces are priced, logs are used and at their backend once, metrics arrive; nothing is answered but 200."""
    replay, run = prepare(traced()[CHATS]), prepare_run("claude-code/logs-only")
    cost = replay.cost + run.cost
    with Merged(tmp_path, "contrib-default", over, backends.environment) as merged:
        for signal, body in [("traces", request) for request in replay.requests] + list(run.requests):
            post(merged.http, signal, body)

        def arrived() -> None:
            assert Decimal(merged.stage.ledger()["total"]["cost_usd_exact"]) == cost
            assert _cost(backends.traces.spans()) == cost
            assert records(list(backends.logs.received)) == run.records
            assert len(backends.metrics.received) == 1

        eventually(arrived)
        assert merged.stage.metric("spanledger_refused_requests_total") == 0
    own = [span for span in backends.traces.spans() if not str(span.get("spanledger.source")).startswith("log:")]
    assert len(own) == len(replay.spans)


def test_before_tail_sampling(otelcol: None, backends: Backends, tmp_path: Path) -> None:
    """Sampling sees prices, the ledger sees everything, and logs count although the user has no pipeline for them."""
    replay, run = prepare(traced()[CHATS]), prepare_run("claude-code/logs-only")
    with Merged(tmp_path, "tail-sampling", SNIPPET, backends.environment) as merged:
        for body in (*replay.requests, _ordinary_trace(), _ordinary_trace(failed=True)):
            post(merged.http, "traces", body)
        for signal, body in run.requests:
            if signal == "logs":
                post(merged.http, signal, body)

        def arrived() -> None:
            total = Decimal(merged.stage.ledger()["total"]["cost_usd_exact"])
            assert total == replay.cost + run.cost
            assert _cost(backends.traces.spans()) == total
            assert "GET /" in _names(backends.traces.received)

        eventually(arrived)
    assert _names(backends.traces.received).count("GET /") == 1


def test_in_the_gateway_behind_an_agent(otelcol: None, backends: Backends, tmp_path: Path) -> None:
    """The agent balances over its gateways, and the gateway holds Spanledger. What the gateway adds is still added."""
    replay, run = prepare(traced()[CHATS]), prepare_run("codex/logs-only")
    cost = replay.cost + run.cost
    with Merged(tmp_path / "gateway", "gateway", SNIPPET, backends.environment) as gateway:
        balanced = {"GATEWAYS": f'["127.0.0.1:{gateway.grpc}"]', "GATEWAY": "127.0.0.1:1"}
        with Merged(tmp_path / "agent", "agent", ("load-balancing",), balanced) as agent:
            for body in replay.requests:
                post(agent.http, "traces", body)
            for signal, body in run.requests:
                post(agent.http, signal, body)

            def arrived() -> None:
                assert Decimal(gateway.stage.ledger()["total"]["cost_usd_exact"]) == cost
                assert _cost(backends.traces.spans()) == cost
                assert records(list(backends.logs.received)) == run.records

            eventually(arrived)
    for body in backends.traces.received:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            added = [a.value.string_value for a in resource.resource.attributes if a.key == "k8s.cluster.name"]
            assert added == ["test"]


def test_two_gateways_share_the_work(otelcol: None, tmp_path: Path) -> None:
    """A trace is at one of them as a whole, so each call is counted at one, and both ledgers add up to the truth."""
    replays = [prepare(traced()[CHATS]) for _ in range(20)]  # all at one gateway: once in 2 ** 19 runs
    run = prepare_run("claude-code/logs-only")
    with Backends() as one, Backends() as two, contextlib.ExitStack() as stack:
        gateways = [
            stack.enter_context(Merged(tmp_path / f"gateway{number}", "gateway", SNIPPET, backends.environment))
            for number, backends in enumerate((one, two))
        ]
        hosts = ", ".join(f'"127.0.0.1:{gateway.grpc}"' for gateway in gateways)
        balanced = {"GATEWAYS": f"[{hosts}]", "GATEWAY": "127.0.0.1:1"}
        agent = stack.enter_context(Merged(tmp_path / "agent", "agent", ("load-balancing",), balanced))
        for replay in replays:
            for body in replay.requests:
                post(agent.http, "traces", body)
        for signal, body in run.requests:
            if signal == "logs":
                post(agent.http, signal, body)

        def counted() -> None:
            ledgers = [Decimal(gateway.stage.ledger()["total"]["cost_usd_exact"]) for gateway in gateways]
            assert all(ledgers)
            assert sum(ledgers) == sum(replay.cost for replay in replays) + run.cost
            assert records([*one.logs.received, *two.logs.received]) == run.records

        eventually(counted)
    here, there = ({span.trace_id for span in _spans(backends.traces.received)} for backends in (one, two))
    assert here
    assert there
    assert not here & there


def test_load_balancing_answers_when_a_gateway_has_the_data(otelcol: None, backends: Backends, tmp_path: Path) -> None:
    """While no gateway is there, senders are told to try again; with the inner queue on, they would be answered 200."""
    balanced = {"GATEWAYS": f'["127.0.0.1:{free_port()}"]', "GATEWAY": "127.0.0.1:1"}
    body = _ordinary_trace()
    with Merged(tmp_path, "agent", ("load-balancing",), balanced) as agent:
        url = f"http://127.0.0.1:{agent.http}/v1/traces"
        response = http_post(url, content=body, headers={"content-type": "application/x-protobuf"})
        assert response.status_code == 503, response.text


def test_while_spanledger_is_away(otelcol: None, backends: Backends, tmp_path: Path) -> None:
    """Without a queue the sender is told to try again, and does; nothing is lost and nothing is there twice."""
    replay = prepare(traced()[CHATS])
    with Merged(tmp_path, "contrib-default", SNIPPET, backends.environment) as merged:
        merged.stage.program.kill()
        url = f"http://127.0.0.1:{merged.http}/v1/traces"
        headers = {"content-type": "application/x-protobuf"}
        for body in replay.requests:
            assert http_post(url, content=body, headers=headers).status_code == 503
        merged.stage.program.start()
        for body in replay.requests:  # gRPC dials again a while after it could not, up to two minutes
            eventually(partial(post, merged.http, "traces", body))

        def arrived() -> None:
            assert _cost(backends.traces.spans()) == replay.cost
            assert Decimal(merged.stage.ledger()["total"]["cost_usd_exact"]) == replay.cost

        eventually(arrived)


def test_on_disk_while_spanledger_is_away(otelcol: None, backends: Backends, tmp_path: Path) -> None:
    """With a queue on disk the sender is answered, and both sides killed the data still arrives."""
    replay = prepare(traced()[CHATS])
    with Merged(tmp_path, "contrib-default", ("spanledger", "on-disk"), backends.environment) as merged:
        merged.stage.program.kill()
        for body in replay.requests:
            post(merged.http, "traces", body)
        merged.collector.kill()
        merged.stage.program.start()
        merged.collector.start()

        def arrived() -> None:
            assert _cost(backends.traces.spans()) == replay.cost
            assert Decimal(merged.stage.ledger()["total"]["cost_usd_exact"]) == replay.cost

        eventually(arrived)
