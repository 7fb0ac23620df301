"""A Collector with Spanledger's component built in, and the enricher beside it, from the shipped files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from real_parts import ROOT
from served import COMMAND, measured, told
from tools import parts
from tools.programs import Program, answers, free_port, substituted


class ComponentPair:
    """`deploy/collector/component.yaml` and `enricher.yaml` on free ports; metrics go where traces go.

    `sets` go to `serve --set`, `collector_sets` to the Collector's `--set`.
    """

    def __init__(
        self,
        folder: Path,
        traces_port: int,
        logs_port: int,
        sets: Sequence[str] = (),
        collector_sets: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.grpc, self.http, health, enricher, self.api = (free_port() for _ in range(5))
        shipped = ROOT / "deploy" / "collector"
        self.config = folder / "enricher.yaml"
        self.config.write_text(substituted((shipped / "enricher.yaml").read_text(), {"}:4320": f"}}:{self.api}"}))
        self.environment = {
            "SPANLEDGER_STATE": str(folder / "state"),
            "ENRICHER_ENDPOINT": f"127.0.0.1:{enricher}",
            "BACKEND_ENDPOINT": f"127.0.0.1:{traces_port}",
            "LOGS_ENDPOINT": f"127.0.0.1:{logs_port}",
            "COLLECTOR_STORAGE": str(folder / "storage"),
        }
        self.spanledger = Program(
            "spanledger",
            [*COMMAND, "serve", "--config", str(self.config), *(f"--set={text}" for text in sets)],
            folder,
            lambda: answers(f"http://127.0.0.1:{self.api}/readyz"),
            self.environment,
        )
        self.collector = self._collector(folder, self.grpc, self.http, health, collector_sets)

    def _collector(
        self, folder: Path, grpc: int, http: int, health: int, collector_sets: Sequence[str] = ()
    ) -> Program:
        ports = {"}:4317": f"}}:{grpc}", "}:4318": f"}}:{http}", "}:13133": f"}}:{health}"}
        collector = folder / "component.yaml"
        collector.write_text(substituted((ROOT / "deploy/collector/component.yaml").read_text(), ports))
        return Program(
            "otelcol-spanledger",
            [
                str(parts.obtain("otelcol-spanledger")),
                f"--config={collector}",
                "--set=service.telemetry.metrics.level=none",
                *(f"--set={text}" for text in collector_sets),
            ],
            folder,
            lambda: answers(f"http://127.0.0.1:{health}/"),
            self.environment | {"COLLECTOR_STORAGE": str(folder / "storage")},
        )

    @contextmanager
    def replica(self, folder: Path) -> Iterator[None]:
        """Run a second Collector beside the first, with the same enricher; what is posted goes to it meanwhile."""
        folder.mkdir()
        first, (grpc, self.http, health) = self.http, (free_port() for _ in range(3))
        second = self._collector(folder, grpc, self.http, health)
        try:
            second.start()
            yield
        finally:
            second.stop()
            self.http = first

    def __enter__(self) -> ComponentPair:
        try:
            self.spanledger.start()
            self.collector.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.collector.stop()
        self.spanledger.stop()

    def post(self, signal: str, body: bytes, more: Mapping[str, str] | None = None) -> int:
        """Post one encoded request to the Collector, with `more` headers, and return the status."""
        url = f"http://127.0.0.1:{self.http}/v1/{signal}"
        headers = {"content-type": "application/x-protobuf", **(more or {})}
        return httpx2.post(url, content=body, headers=headers, timeout=60).status_code

    def ledger(self, *arguments: str) -> dict[str, Any]:
        """The whole ledger, as `spanledger summary` tells it."""
        answer: dict[str, Any] = told(self.config, "summary", *arguments, env=self.environment)
        return answer

    def metric(self, name: str, **labels: str) -> float:
        """The sum of one of Spanledger's own metrics."""
        return measured(httpx2.get(f"http://127.0.0.1:{self.api}/metrics", timeout=10).text, name, **labels)
