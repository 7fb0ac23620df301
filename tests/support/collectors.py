"""Collectors with a configuration of a user's (tests/data/collector), and what we ship merged over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from backend import Backend
from real_parts import ROOT, Stage, shipped, written
from tools import parts
from tools.programs import Program, answers, free_port, substituted

TYPICAL = ROOT / "tests" / "data" / "collector"


class Merged:
    """A Collector with the typical configuration `name` and the files `over` of deploy/collector merged over it.

    Its own Spanledger (`stage`) is started with it if one of the files sends to one.
    """

    def __init__(self, folder: Path, name: str, over: Sequence[str], environment: Mapping[str, str]) -> None:
        self.grpc, self.http, health, returned = (free_port() for _ in range(4))
        self.stage = Stage(folder, returned)
        self._staged = "spanledger" in over
        configs = [TYPICAL / f"{name}.yaml", *(self._copied(folder, file, returned) for file in over)]
        self.collector = Program(
            name,
            [str(parts.obtain("otelcol")), *(f"--config={config}" for config in configs)],
            folder,
            lambda: answers(f"http://127.0.0.1:{health}/"),
            {
                "GRPC_PORT": str(self.grpc),
                "HTTP_PORT": str(self.http),
                "HEALTH_PORT": str(health),
                "SPANLEDGER_ENDPOINT": f"127.0.0.1:{self.stage.otlp}",
                "COLLECTOR_STORAGE": str(folder / "storage"),
                **environment,
            },
        )

    @staticmethod
    def _copied(folder: Path, file: str, returned: int) -> Path:
        text = shipped(f"deploy/collector/{file}.yaml")
        port = {"}:6317": f"}}:{returned}"} if file == "spanledger" else {}
        return written(folder / f"{file}.merged.yaml", substituted(text, port))

    def __enter__(self) -> Merged:
        try:
            if self._staged:
                self.stage.program.start()
            self.collector.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.collector.stop()
        self.stage.program.stop()


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
