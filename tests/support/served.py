"""A real `spanledger serve` in a process of its own, on free ports, with a folder and a destination of the test's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx2
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from commands import answer
from tools.programs import PATIENCE, Program, Running, answers, free_port, http_get, http_post

COMMAND = (sys.executable, "-m", "spanledger_processor.cli")
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
CHANNEL = [("grpc.max_send_message_length", -1), ("grpc.max_reconnect_backoff_ms", 100)]
"""Options of a sender: requests of any size, and a server that is back is found at once."""


class RefusedError(Exception):
    """An export that was not answered OK. `retry_after` is RetryInfo's delay in seconds, None without one."""

    def __init__(self, error: grpc.RpcError) -> None:
        call: Any = error  # what a channel raises is both an RpcError and the call
        super().__init__(f"{call.code().name}: {call.details()}")
        self.code: grpc.StatusCode = call.code()
        self.reason: str = call.details() or ""
        self.retry_after = _retry_after(call)


def _retry_after(call: Any) -> float | None:
    status = rpc_status.from_call(call)
    for detail in status.details if status else ():
        info = RetryInfo()
        if detail.Unpack(info):
            seconds: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
            return seconds
    return None


class Server:
    """`spanledger serve` with the configuration file `config`, and questions to it.

    `api` is the port of its HTTP API, `probed_at` that of `/readyz` where it is another. `within` stands before the
    command and `arguments` behind it; `environment` is added to that of the tests.
    """

    def __init__(
        self,
        folder: Path,
        config: Path,
        api: int,
        *,
        within: Sequence[str] = (),
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        probed_at: int = 0,
    ) -> None:
        self.config, self.api = config, api
        self.command = [*within, *COMMAND, "serve", "--config", str(config), *arguments]
        self._environment = environment or {}
        url = f"http://127.0.0.1:{probed_at or api}/readyz"
        self.program = Program("spanledger", self.command, folder, lambda: answers(url), self._environment)

    def query(self, *command: str) -> Any:
        """Return what a reading command says with --json, beside the running server: it is not of this process."""
        return answer(*command, "--config", str(self.config), env=self._environment)

    def answer(self, path: str) -> Any:
        """Return what its HTTP API says."""
        response = http_get(f"http://127.0.0.1:{self.api}{path}")
        assert response.status_code == 200, f"{path}: {response.text[:300]}"
        return response.json()

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the series of one of its own metrics that carry `labels`; 0 where there is none."""
        total = 0.0
        for series, value in re.findall(rf"^{name}(\{{.*?\}})? (\S+)$", self.scrape(), re.MULTILINE):
            if all(f'{label}="{wanted}"' in series for label, wanted in labels.items()):
                total += float(value)
        return total

    def scrape(self) -> str:
        """Return its own metrics, as Prometheus gets them."""
        return http_get(f"http://127.0.0.1:{self.api}/metrics").text


class Served(Running, Server):
    """`spanledger serve` with one destination, `otlp_grpc` to the port `to`.

    `more` is put into its configuration, `within` before its command and `arguments` behind it. `probed_at` is the port
    of `/readyz` where that is not the API's.
    """

    def __init__(
        self,
        folder: Path,
        to: int,
        more: Mapping[str, Any] | None = None,
        within: Sequence[str] = (),
        arguments: Sequence[str] = (),
        probed_at: int = 0,
    ) -> None:
        self.grpc, self.http, api = free_port(), free_port(), free_port()
        self.state = folder / "state"
        path = folder / "spanledger.yaml"
        patient = f"{PATIENCE:g}s"  # 64 MiB may take longer than the 5 s of the default on a busy machine
        endpoints = {"grpc": self.grpc, "http": self.http}
        config = {
            "receivers": {
                "otlp": {"protocols": {key: {"endpoint": f"127.0.0.1:{port}"} for key, port in endpoints.items()}}
            },
            "exporters": {"otlp_grpc": {"endpoint": f"127.0.0.1:{to}", "tls": {"insecure": True}, "timeout": patient}},
            "state": {"path": str(self.state)},
            "api": {"endpoint": f"127.0.0.1:{api}"},
        }
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_merged(config, more or {})))  # JSON is YAML
        super().__init__(folder, path, api, within=within, arguments=arguments, probed_at=probed_at)
        self.programs = (self.program,)

    def channel(self) -> grpc.Channel:
        """Return a connection of a sender."""
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc}", options=CHANNEL)

    def export(
        self,
        *bodies: bytes,
        timeout: float = PATIENCE,
        compression: grpc.Compression | None = None,
        method: str = TRACES,
    ) -> None:
        """Send each body over gRPC and wait for its answer; raises RefusedError unless it is OK."""
        with self.channel() as channel:
            export = channel.unary_unary(method, bytes, bytes)
            for body in bodies:
                try:
                    export(body, timeout=timeout, wait_for_ready=True, compression=compression)
                except grpc.RpcError as error:
                    raise RefusedError(error) from error

    def export_until_taken(self, body: bytes) -> None:
        """Send as senders do: again while the server is away, or says that it is to be sent again."""
        while True:
            try:
                self.export(body)
            except RefusedError as refusal:
                if refusal.code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    raise
            else:
                return

    def post(self, body: bytes, path: str = "/v1/traces", **headers: str) -> httpx2.Response:
        """Send one body over HTTP; header names with underscores for dashes."""
        named = {"content-type": "application/x-protobuf"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return http_post(f"http://127.0.0.1:{self.http}{path}", content=body, headers=named)

    def total_usd(self) -> float:
        """The ledger's total."""
        total: float = self.query("summary")["total"]["cost_usd"]
        return total


def refused(command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """What a command that is expected to end by itself said."""
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)


def _merged(into: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        into[key] = _merged(into[key], value) if isinstance(value, dict) and isinstance(into.get(key), dict) else value
    return into
