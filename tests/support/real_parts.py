"""The real Collector, Tempo and Prometheus, and Spanledger as users start it, from the configuration files we ship.

Only host names, ports, folders and the wait before a retry are substituted in those files.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx2
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from replays import spans_of
from served import CHANNEL, TRACES, Server
from tools import parts
from tools.programs import Program, Running, answers, free_port, http_get, http_post, substituted

ROOT = parts.ROOT


def shipped(path: str) -> str:
    """The text of a file that we ship."""
    return (ROOT / path).read_text()


def written(path: Path, text: str) -> Path:
    """`path`, with `text` in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class Tempo:
    """Grafana Tempo with `deploy/tempo.yaml`."""

    def __init__(self, folder: Path) -> None:
        self.port, self.otlp = free_port(), free_port()
        text = substituted(
            shipped("deploy/tempo.yaml"),
            {
                "0.0.0.0": "127.0.0.1",
                "http_listen_port: 3200": f"http_listen_port: {self.port}",
                "grpc_listen_port: 9095": f"grpc_listen_port: {free_port()}",
                ":14317": f":{self.otlp}",
                "/var/tempo": str(folder / "data"),
            },
        )
        config = written(folder / "tempo.yaml", text)
        self.url = f"http://127.0.0.1:{self.port}"
        command = [str(parts.obtain("tempo")), f"-config.file={config}"]
        self.program = Program("tempo", command, folder, lambda: answers(f"{self.url}/ready"))
        self.seconds_back = 900
        """Of the range of searches and metrics."""

    def _get(self, path: str, **params: Any) -> httpx2.Response:
        response = http_get(f"{self.url}{path}", params=params, headers={"accept": "application/protobuf"})
        assert response.status_code == 200, f"{path} {params}: {response.status_code} {response.text[:500]}"
        return response

    def _range(self) -> dict[str, int]:
        return {"start": int(time.time()) - self.seconds_back, "end": int(time.time()) + 60}

    def spans(self, trace_id: str) -> list[Span]:
        """The spans of one trace, as Tempo has them."""
        return list(spans_of(TracesData.FromString(self._get(f"/api/traces/{trace_id}").content)))

    def search(self, query: str) -> list[dict[str, Any]]:
        """The traces that a TraceQL query finds."""
        asked: dict[str, Any] = {"q": query, "limit": 500, **self._range()}
        response = http_get(f"{self.url}/api/search", params=asked)
        assert response.status_code == 200, f"{query}: {response.text[:500]}"
        traces: list[dict[str, Any]] = response.json().get("traces", [])
        return traces

    def metric(self, query: str) -> dict[str, float]:
        """The value of a TraceQL metrics query over the last minutes, by the values of its labels."""
        return {_labels(series): float(series.get("value", 0)) for series in self._series("query", query)}

    def metric_over_time(self, query: str) -> dict[str, float]:
        """The same of a query in steps of a minute, as a graph asks it, all steps added up."""
        series = self._series("query_range", query, step=f"{max(60, self.seconds_back // 100)}s")
        return {_labels(one): sum(float(step.get("value", 0)) for step in one.get("samples", [])) for one in series}

    def _series(self, form: str, query: str, **params: str) -> list[dict[str, Any]]:
        asked: dict[str, Any] = {"q": query, **self._range(), **params}
        response = http_get(f"{self.url}/api/metrics/{form}", params=asked)
        assert response.status_code == 200, f"{query}: {response.text[:500]}"
        series: list[dict[str, Any]] = response.json().get("series", [])
        return series


def _labels(series: dict[str, Any]) -> str:
    return "/".join(str(next(iter(label["value"].values()), "")) for label in series.get("labels", []))


class Prometheus:
    """Prometheus with `deploy/prometheus.yaml`."""

    def __init__(self, folder: Path, loop: Loop) -> None:
        port = free_port()
        text = substituted(
            shipped("deploy/prometheus.yaml"),
            {
                "spanledger:4320": f"127.0.0.1:{loop.api}",
                "otelcol:8888": f"127.0.0.1:{loop.collector_metrics}",
                "scrape_interval: 5s": "scrape_interval: 1s",
            },
        )
        config = written(folder / "prometheus.yaml", text)
        self.url = f"http://127.0.0.1:{port}"
        command = [
            str(parts.obtain("prometheus")),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self.program = Program("prometheus", command, folder, lambda: answers(f"{self.url}/-/ready"))

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        response = http_get(f"{self.url}/api/v1/query", params={"query": promql})
        assert response.status_code == 200, f"{promql}: {response.text[:500]}"
        series: list[dict[str, Any]] = response.json()["data"]["result"]
        return series


class Stage(Server):
    """Spanledger with `deploy/spanledger.yaml`, sending to the port `to`; `sets` go to `serve --set`."""

    def __init__(self, folder: Path, to: int, sets: Sequence[str] = ()) -> None:
        self.otlp, api = free_port(), free_port()
        text = substituted(
            shipped("deploy/spanledger.yaml"),
            {"}:5317": f"}}:{self.otlp}", "}:5318": f"}}:{free_port()}", "}:4320": f"}}:{api}"},
        )
        self.state = folder / "state"
        super().__init__(
            folder,
            written(folder / "spanledger.yaml", text),
            api,
            arguments=[f"--set={text}" for text in sets],
            environment={"RETURN_ENDPOINT": f"127.0.0.1:{to}", "SPANLEDGER_STATE": str(self.state)},
        )

    def ledger(self) -> dict[str, Any]:
        """Return the whole ledger, as `spanledger summary` reads it beside the running server."""
        summary: dict[str, Any] = self.query("summary")
        return summary


def collector(
    folder: Path,
    configs: Sequence[Path],
    health: int,
    environment: Mapping[str, str] | None = None,
    *,
    name: str = "otelcol",
    part: str = "otelcol",
    sets: Sequence[str] = (),
) -> Program:
    """Return the real Collector with these files, merged, as a program `name`; `health` is its health check's port."""
    command = [str(parts.obtain(part)), *(f"--config={path}" for path in configs), *(f"--set={text}" for text in sets)]
    return Program(name, command, folder, lambda: answers(f"http://127.0.0.1:{health}/"), environment)


def post(port: int, signal: str, body: bytes) -> None:
    """Post one encoded request to an OTLP/HTTP port; it must be answered 200."""
    headers = {"content-type": "application/x-protobuf"}
    url = f"http://127.0.0.1:{port}/v1/{signal}"
    response = http_post(url, content=body, headers=headers)
    assert response.status_code == 200, f"{url}: {response.status_code} {response.text[:300]}"


class Loop(Running):
    """The Collector with `otelcol-config.yaml`, and Spanledger with `deploy/spanledger.yaml` in its loop.

    `wired_into_itself` has Spanledger send to the port that feeds it; `environment` is the Collector's, beside what
    every loop needs. The Collector tries again after half a second, not after five and more: else tests only wait.
    """

    def __init__(
        self,
        folder: Path,
        backend_port: int,
        sets: Sequence[str] = (),
        *,
        wired_into_itself: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.otlp, self.http, returned, health, self.collector_metrics = (free_port() for _ in range(5))
        self._stage = Stage(folder, self.otlp if wired_into_itself else returned, sets)
        self.api, self.state, self.spanledger = self._stage.api, self._stage.state, self._stage.program
        self.ledger, self.metric = self._stage.ledger, self._stage.metric
        text = substituted(
            shipped("otelcol-config.yaml"),
            {
                "}:4317": f"}}:{self.otlp}",
                "}:4318": f"}}:{self.http}",
                "}:6317": f"}}:{returned}",
                "}:13133": f"}}:{health}",
                "port: 8888": f"port: {self.collector_metrics}",
                "retry_on_failure:\n": "retry_on_failure:\n      initial_interval: 500ms\n      max_interval: 1s\n",
            },
        )
        config = written(folder / "otelcol-config.yaml", text)
        self.collector = collector(
            folder,
            [config],
            health,
            {
                "SPANLEDGER_ENDPOINT": f"127.0.0.1:{self._stage.otlp}",
                "BACKEND_ENDPOINT": f"127.0.0.1:{backend_port}",
                "COLLECTOR_STORAGE": str(folder / "otelcol-storage"),
                **(environment or {}),
            },
        )
        self.programs = (self.spanledger, self.collector)

    def send(self, *requests: bytes) -> None:
        """Send each encoded request to the Collector; returns when it has answered all.

        Raises:
            AssertionError: it was not there, or did not answer OK.
        """
        with grpc.insecure_channel(f"127.0.0.1:{self.otlp}", options=CHANNEL) as channel:
            export = channel.unary_unary(TRACES, bytes, bytes)
            for request in requests:
                try:
                    export(request, timeout=30, wait_for_ready=True)
                except grpc.RpcError as error:
                    raise AssertionError(f"the Collector did not take a request: {error}") from error

    def post(self, signal: str, body: bytes) -> None:
        """Post one encoded request to the Collector's OTLP/HTTP port; it must be answered 200."""
        post(self.http, signal, body)
