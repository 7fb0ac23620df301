"""Several workers and a ledger process: one server to its senders, whichever of its processes ends."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from pathlib import Path

import pytest

from backend import Backend
from chats import CHAT, COST, USAGE, chat, request, set_attributes, without
from served import Served
from spanledger_processor.config import load
from spanledger_processor.server import supervisor
from spanledger_processor.server.app import StartError
from spanledger_processor.server.supervisor import for_worker, supervised
from tools.programs import eventually


def parts(served: Served) -> dict[str, int]:
    """The processes of a server, by part."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            status, command = (entry / "status").read_text(), (entry / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if f"PPid:\t{served.program.pid}\n" in status and "--part" in command:
            found[command[command.index("--part") + 1]] = int(entry.name)
    return found


def test_whichever_process_ends_nothing_is_lost_and_nothing_counts_twice(tmp_path: Path) -> None:
    with Backend() as backend, Served(tmp_path, backend.port, arguments=("--workers", "2")) as served:
        bodies = [request(*(chat() for _ in range(5))) for _ in range(8)]
        before = parts(served)
        assert set(before) == {"ledger", "0", "1"}
        for number, body in enumerate(bodies):
            if number == 2:
                os.kill(before["ledger"], signal.SIGKILL)
            if number == 5:
                os.kill(before["1"], signal.SIGKILL)
            served.export_until_taken(body)
        for body in bodies:  # as senders do that were not sure
            served.export_until_taken(body)
        after = parts(served)
        assert after["0"] == before["0"]
        assert after["ledger"] != before["ledger"]
        total = served.query("summary")["total"]
        assert (total["calls"], total["late_correction_usd"]) == (40, 0.0)
        assert total["cost_usd"] == pytest.approx(40 * COST)

        def all_are_back() -> None:
            assert served.metric("spanledger_in_flight_budget_bytes") == 256 * 2**20

        eventually(all_are_back)
        assert served.answer("/readyz")["listeners"] == {"workers": "up", "grpc": "up", "http": "up"}
    assert served.program.ended_with == 0


def test_plain_spans_name_the_session_of_calls_whichever_worker_gets_either(tmp_path: Path) -> None:
    """Each request comes by a connection of its own, which the system gives to one of the workers."""
    with Backend() as backend, Served(tmp_path, backend.port, arguments=("--workers", "2")) as served:
        traces = [secrets.token_bytes(16) for _ in range(16)]
        for number, trace_id in enumerate(traces):
            plain = without(chat(trace_id=trace_id), *CHAT, *USAGE)
            set_attributes(plain, {"session.id": f"session {number}"})
            served.export(request(plain))
        for trace_id in traces:
            served.export(request(chat(trace_id=trace_id)))

        def all_are_named() -> None:
            calls = {row["id"]: row["calls"] for row in served.query("sessions") if row["calls"]}
            assert calls == {f"session {number}": 1 for number in range(16)}

        eventually(all_are_named)


HANGS_AT_FIRST = """
import os, pathlib, sys, time
runs, ready = pathlib.Path(sys.argv[1]), int(sys.argv[sys.argv.index("--ready-fd") + 1])
first = not runs.exists()
with runs.open("a") as log:
    log.write(f"{os.getpid()}\\n")
while True:
    os.write(ready, b"+")
    time.sleep(3600 if first else 0.01)
"""


async def test_a_process_that_hangs_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, or in a loop without end: it lives, and says nothing."""
    for name, seconds in (("_BEAT_S", 0.05), ("_HANGS_S", 0.5)):
        monkeypatch.setattr(supervisor, name, seconds)
    runs = tmp_path / "runs"
    keeper = supervisor._Supervisor([sys.executable, "-c", HANGS_AT_FIRST, str(runs)])
    try:
        await keeper.start(supervisor.Part())
        await asyncio.to_thread(eventually, lambda: runs.exists() and len(runs.read_text().split()) >= 2)
        first = int(runs.read_text().split()[0])
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
    finally:
        await keeper.stop()


def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    with Backend() as backend, Served(tmp_path, backend.port, arguments=("--workers", "2")) as served:
        children = parts(served)
        assert len(children) == 3
        served.program.kill()
        eventually(lambda: not any(map(_runs, children.values())))


def _runs(pid: int) -> bool:
    try:
        return "--part" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def config(tmp_path: Path, **more: str) -> list[str]:
    exporters = f"{{file: {{path: {tmp_path}/spans.jsonl}}, debug: {{}}}}"
    return [f"state.path={tmp_path}", f"exporters={exporters}", *(f"{key}={value}" for key, value in more.items())]


def test_workers_share_what_can_be_shared_and_the_first_does_what_only_one_can(tmp_path: Path) -> None:
    whole = load(None, [*config(tmp_path), "sidecar.sources={mux: {}}"], {"HOME": str(tmp_path)})
    first, second = (for_worker(whole, number, 2) for number in range(2))
    for worker in (first, second):
        assert worker.receivers.otlp is not None
        assert worker.receivers.otlp.max_in_flight_mib == 128
    assert first.exporters == whole.exporters
    assert second.exporters["file"].path == str(tmp_path / "spans.2.jsonl")  # type: ignore[attr-defined]
    assert (first.sidecar.sources.mux is None, second.sidecar.sources.mux is None) == (False, True)


def test_no_worker_has_less_memory_than_its_largest_request_takes(tmp_path: Path) -> None:
    worker = for_worker(load(None, config(tmp_path), {"HOME": str(tmp_path)}), 1, 16)
    assert worker.receivers.otlp is not None
    assert worker.receivers.otlp.max_in_flight_mib == 64


async def test_a_port_that_is_taken_ends_it_at_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        sets = [*config(tmp_path), f"receivers.otlp.protocols.http.endpoint={endpoint}"]
        whole = load(None, sets, {"HOME": str(tmp_path)})
        with pytest.raises(StartError, match=r"protocols\.http\.endpoint: cannot listen on"):
            async with supervised(whole, ["false"], 2):
                pass
