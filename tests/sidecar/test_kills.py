"""SIGKILL of the sidecar's own process and of the endpoint's, at random moments: every token once in the ledger."""

from __future__ import annotations

import random
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest

from backend import Backend
from scripted_mux import ScriptedMux
from served import COMMAND, Served
from sidecars import Tokens
from tools.programs import PATIENCE

MODELS = ("anthropic:claude-sonnet-4-5", "openai:gpt-5.1")


class Process:
    """`spanledger sidecar` in a process of its own, on one state."""

    def __init__(self, folder: Path, root: Path, port: int) -> None:
        self._command = [*COMMAND, "sidecar", "--root", str(root), "--endpoint", f"127.0.0.1:{port}"]
        self._command += ["--state", str(folder / "sidecar"), "--backfill", "--force", "--log-level", "error"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command)

    def kill(self) -> None:
        """SIGKILL, whatever it is doing."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def once(self) -> None:
        """A last look: all of it is acknowledged."""
        subprocess.run([*self._command, "--once"], check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)


def _tokens(chance: random.Random) -> Tokens:
    return tuple(chance.randint(1, 2000) for _ in range(5))  # type: ignore[return-value]


def _use(mux: ScriptedMux, chance: random.Random) -> None:
    """One thing that Mux does."""
    name, model = chance.choice(list(mux.workspaces)), chance.choice(MODELS)
    what = chance.choice(["turn", "turn", "abort", "call", "create", "fork", "rotate"])
    if what == "create" or (what == "fork" and len(mux.workspaces) < 4):
        mux.create() if what == "create" else mux.fork(name)
    elif what == "rotate":
        mux.rotate(name, crash=chance.random() < 0.5)
    elif what == "call":
        mux.call(name, model, _tokens(chance))
    else:
        mux.turn(name, model, _tokens(chance), aborted=what == "abort")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    mux = ScriptedMux(tmp_path / "mux", chat=True, now_ms=int(time.time() * 1000) - 3_600_000)
    mux.create()
    with Backend() as backend, Served(tmp_path / "serve", backend.port) as served:
        process = Process(tmp_path, mux.root, served.grpc)
        process.start()
        for step in range(8):
            for _ in range(chance.randint(1, 6)):
                _use(mux, chance)
            if chance.random() < 0.5:
                backend.arrived.acquire(timeout=chance.random() * 3)
            if step % 4 == 3:
                served.program.kill()
                served.program.start()
            process.kill()
            process.start()
        process.kill()
        process.once()
        truth: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for (name, _), counts in mux.truth.items():
            truth[name][0] += sum(counts[:3])
            truth[name][1] += sum(counts[3:])
        ledger = {row["id"]: row["tokens"] for row in served.query("sessions")}
        assert {name: [found["input"], found["output"]] for name, found in ledger.items()} == dict(truth)
