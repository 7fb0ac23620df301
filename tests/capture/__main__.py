"""Record one real library: `make capture NAME=smolagents` runs tests/capture/scenarios/with_smolagents.py (or .mjs).

The scenario runs in an environment of its own with what its docstring requires, against a scripted model server, and
sends OTLP to a sink; the requests and what the server billed become tests/data/otlp/<client>/<scenario>/. The server
refuses as many requests as the docstring says with `refuses:`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

from tests.capture.environments import prepare
from tests.capture.model_server import ModelServer
from tests.capture.sink import Sink

ROOT = Path(__file__).resolve().parent.parent.parent
SCENARIOS = Path(__file__).resolve().parent / "scenarios"
ENVIRONMENTS = ROOT / ".captures"
_REFUSES = re.compile(r"^(?: \* )?refuses: (\d+)$", re.MULTILINE)
_INTO = re.compile(r"^(?: \* )?into: (\S+/\S+)$", re.MULTILINE)


def main(name: str) -> None:
    """Run the scenario `name` and write its folder."""
    path = _scenario(name)
    into = _INTO.search(path.read_text())
    if into is None:
        raise SystemExit(f"{path}: say where it goes: into: <client>/<scenario>")
    environment = prepare(path, ENVIRONMENTS / name)
    refuses = _REFUSES.search(path.read_text())
    model, sink = ModelServer(int(refuses[1]) if refuses else 0), Sink()
    for server in (model, sink):
        Thread(target=server.serve_forever, daemon=True).start()
    variables = _variables(model.url, sink.url, name)
    subprocess.run(environment.command, check=True, env=variables)
    folder = ROOT / "tests" / "data" / "otlp" / into[1]
    _write(folder, into[1], variables["SESSION_ID"], model.log, sink.bodies, environment.packages)


def _scenario(name: str) -> Path:
    """The scenario's file; a module of the library's own name would hide the library, so all begin with `with_`."""
    found = {path.stem.removeprefix("with_"): path for path in SCENARIOS.glob("with_*.*")}
    if name not in found:
        raise SystemExit(f"no scenario {name!r}; there are: {', '.join(sorted(found))}")
    return found[name]


def _variables(model: str, sink: str, name: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(SCENARIOS.parent),
        "OPENAI_BASE_URL": f"{model}/v1",
        "OPENAI_API_KEY": "none",
        "ANTHROPIC_BASE_URL": model,
        "ANTHROPIC_API_KEY": "none",
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink,
        "OTEL_SERVICE_NAME": "weather-app",
        "SESSION_ID": f"sess-{name}",
    }


def _write(folder: Path, into: str, session: str, log: list[dict[str, Any]], bodies: Any, versions: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for number, (signal, form, body) in enumerate(bodies, start=1):
        (folder / f"{number:03}.{signal}.{form}").write_bytes(body)
    client, _, scenario = into.partition("/")
    executions = [call for entry in log for call in entry["tool_calls"] if call["name"] != "final_answer"]
    truth = {
        "framework": client,
        "scenario": scenario,
        "packages": versions,
        "session_id": session,
        "calls": log,
        "tool_executions": executions,
        "notes": [],
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    print(f"{folder.relative_to(ROOT)}: {len(log)} calls, {len(bodies)} requests")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("make capture NAME=<scenario>")
    main(sys.argv[1])
