"""The sidecar on 10,000 workspaces: first scan, memory, and CPU while nothing happens. `python -m benchmarks.sidecar`.

Targets: first scan under 10 s, memory under 100 MiB, idle under 1 % of a core.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKSPACES = 10_000
TURNS = 5
IDLE_S = 60.0
QUIET_S = 5.0
"""The running sidecar counts as idle once it has used no CPU to speak of for so long."""

_TICK = os.sysconf("SC_CLK_TCK")
_COMMAND = (sys.executable, "-c", "from spanledger_sidecar.cli import sidecar; sidecar()")


def main() -> None:
    """Measure, and print one line a figure."""
    with tempfile.TemporaryDirectory() as folder:
        home, state = Path(folder) / "mux", Path(folder) / "state"
        _make(home)
        command = [
            *_COMMAND,
            "--source",
            "mux",
            "--root",
            str(home),
            "--state",
            str(state),
            "--endpoint",
            "127.0.0.1:9",
        ]
        begun = time.perf_counter()
        subprocess.run([*command, "--once"], check=True, stdout=subprocess.DEVNULL)
        took, used = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"first scan   {took:8.2f} s ({used.ru_utime + used.ru_stime:.2f} s CPU), start of Python included")
        print(f"its memory   {used.ru_maxrss / 1024:8.1f} MiB at most")
        _run(command)


def _run(command: list[str]) -> None:
    """The sidecar as it runs for good, after its first scan."""
    with subprocess.Popen(command) as running:
        try:
            _wait_until_idle(running.pid)
            before = _cpu_s(running.pid)
            time.sleep(IDLE_S)
            used = _cpu_s(running.pid) - before
            print(f"idle CPU     {100 * used / IDLE_S:8.2f} % of a core over {IDLE_S:g} s")
            print(f"idle memory  {_memory_mib(running.pid):8.1f} MiB")
        finally:
            running.terminate()


def _wait_until_idle(pid: int) -> None:
    quiet, used = 0.0, _cpu_s(pid)
    while quiet < QUIET_S:
        time.sleep(0.5)
        now = _cpu_s(pid)
        quiet, used = (quiet + 0.5 if now - used < 0.05 else 0.0), now


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _make(home: Path) -> None:
    """Workspaces with a usage file, a timing file and a chat of a few turns each."""
    listed = [
        {"id": f"{n:010x}", "name": f"branch-{n}", "createdAt": "2026-01-01T00:00:00Z"} for n in range(WORKSPACES)
    ]
    home.mkdir()
    (home / "config.json").write_text(json.dumps({"projects": [["/src/widget", {"workspaces": listed}]]}), "utf-8")
    for entry in listed:
        folder = home / "sessions" / entry["id"]
        folder.mkdir(parents=True)
        rows = "".join(_row(entry["id"], turn) for turn in range(TURNS))
        (folder / "chat.jsonl").write_text(rows, "utf-8")
        (folder / "session-usage.json").write_text(_usage(), "utf-8")
        (folder / "session-timing.json").write_text('{"version": 2}', "utf-8")


def _row(workspace: str, turn: int) -> str:
    tools = [{"type": "dynamic-tool", "toolCallId": f"t{n}", "toolName": "bash", "input": {"n": n}} for n in range(5)]
    metadata = {
        "timestamp": 1_787_000_000_000 + turn * 60_000,
        "duration": 30_000,
        "model": "anthropic:claude-sonnet-5",
        "usage": {"inputTokens": 1000, "outputTokens": 100, "cachedInputTokens": 900},
    }
    row = {"id": f"{workspace}-{turn}", "role": "assistant", "metadata": metadata, "parts": tools, "text": "x" * 2000}
    return json.dumps(row) + "\n"


def _usage() -> str:
    counts = {"input": 100 * TURNS, "cached": 900 * TURNS, "cacheCreate": 0, "output": 100 * TURNS, "reasoning": 0}
    bucket = {name: {"tokens": count, "cost_usd": count * 1e-6} for name, count in counts.items()}
    return json.dumps({"byModel": {"anthropic:claude-sonnet-5": bucket}, "version": 1}, indent=2)


if __name__ == "__main__":
    main()
