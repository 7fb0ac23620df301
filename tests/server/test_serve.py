"""`spanledger serve` as a process: how it starts, what it says, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from backend import Backend
from chats import CHAT, COST, USAGE, chat, request, set_attributes, without
from served import TRACES, RefusedError, Served, refused
from tools.programs import PATIENCE, eventually

LOGS = (Path(__file__).parents[1] / "data/otlp/claude-code/logs-only/001.logs.binpb").read_bytes()
LOGS_EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def test_what_it_says_when_it_starts(tmp_path: Path) -> None:
    """A few lines: the version, where it listens, where it sends, the state, and once that the signing key is local."""
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        first = served.program.log()
        for text in (
            "INFO cli.serve: spanledger ",
            f"OTLP/gRPC on 127.0.0.1:{served.grpc}",
            f"OTLP/HTTP on 127.0.0.1:{served.http}",
            f"API on 127.0.0.1:{served.api}",
            f"exports to otlp_grpc -> 127.0.0.1:{backend.port}",
            f"state in {served.state}",
        ):
            assert text in first
        assert first.count("made a signing key") == 1
        assert len(first.splitlines()) < 12
        served.program.stop()
        served.program.start()
        assert served.program.log().count("made a signing key") == 1


def test_a_signal_that_no_exporter_takes_is_warned_about(tmp_path: Path) -> None:
    more = {"exporters": {"otlp_grpc": {"signals": ["traces"]}}}
    with Backend() as backend, Served(tmp_path, backend.port, more) as served:
        assert "WARNING exporters.delivery: no exporter takes logs" in served.program.log()
        assert "(traces only)" in served.program.log()


def test_a_budget_of_a_model_that_nothing_is_known_by_is_warned_about(tmp_path: Path) -> None:
    budgets = [
        {"name": name, "amount": 1, "period": "day", "dimension": "model", "value": value}
        for name, value in {"slip": "gpt-5o", "right": "gpt-5"}.items()
    ]
    with Backend() as backend, Served(tmp_path, backend.port, {"processor": {"budgets": budgets}}) as served:
        warned = [line for line in served.program.log().splitlines() if "processor.budgets" in line]
        assert [line.partition("processor.budgets: ")[2].partition(":")[0] for line in warned] == ["slip"]


def test_the_log_can_be_json_and_less(tmp_path: Path) -> None:
    with Backend() as backend:
        served = Served(tmp_path, backend.port)
        for level, wanted in (("info", True), ("warning", False)):
            command = [*served.command, "--log-format", "json", "--log-level", level]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            eventually(lambda: served.metric("spanledger_build_info"))
            process.send_signal(signal.SIGTERM)
            log = process.communicate(timeout=PATIENCE)[1]
            assert process.returncode == 0
            assert ('"message":"ready"' in log) is wanted
            assert all(line.startswith('{"time":') for line in log.splitlines())


def test_ports_that_are_free_are_named(tmp_path: Path) -> None:
    """With port 0 the log says which port was taken, and that is where it listens."""
    protocols = {name: {"endpoint": "127.0.0.1:0"} for name in ("grpc", "http")}
    with Backend() as backend:
        served = Served(tmp_path, backend.port, {"receivers": {"otlp": {"protocols": protocols}}})
        with served:
            found = re.search(r"OTLP/gRPC on 127\.0\.0\.1:(\d+)", served.program.log())
            assert found
            served.grpc = int(found[1])
            served.export(request(chat()))
            assert len(backend.received) == 1


@pytest.mark.parametrize("which", ["grpc", "http", "api"])
def test_a_port_that_is_taken(which: str, tmp_path: Path) -> None:
    """Exit 2, naming the key and the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = {"endpoint": f"127.0.0.1:{taken.getsockname()[1]}"}
        more: dict[str, Any] = {"api": endpoint}
        if which != "api":
            more = {"receivers": {"otlp": {"protocols": {which: endpoint}}}}
        end = refused(Served(tmp_path, 1, more).command)
    assert end.returncode == 2
    key = "api" if which == "api" else f"receivers.otlp.protocols.{which}"
    assert f"{key}.endpoint: cannot listen on {endpoint['endpoint']}" in end.stderr
    assert "Traceback" not in end.stderr


def test_an_exporter_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    more = {"exporters": {"file": {"path": str(tmp_path / "taken" / "spans.jsonl")}}}
    end = refused(Served(tmp_path, 1, more).command)
    assert end.returncode == 2
    assert "exporters.file" in end.stderr
    assert "Traceback" not in end.stderr


def test_a_signing_key_that_others_can_read(tmp_path: Path) -> None:
    """It must not be used, so nothing starts; another key would silently sign everything anew."""
    served = Served(tmp_path, 1)
    served.state.mkdir()
    key = served.state / "signing.key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    key.chmod(0o644)
    end = refused(served.command, SPANLEDGER_SIGNING_KEY="")
    assert end.returncode == 2
    assert f"{key}: other users may read or change it" in end.stderr
    assert "0123456789abcdef" not in end.stderr


@contextmanager
def _process(served: Served) -> Iterator[subprocess.Popen[bytes]]:
    """The server as a process at hand."""
    process = subprocess.Popen(served.command, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: served.metric("spanledger_build_info"))
        yield process
    finally:
        process.kill()
        process.wait()


def _is_stopping(served: Served) -> None:
    """Assert by gRPC health that it takes no more requests: another export could still be taken, and arrive as well."""
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        answer = check(HealthCheckRequest(), timeout=PATIENCE)
    assert answer.status == HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_after_a_restart_a_plain_span_names_the_session_of_a_call_that_came_before(
    how: signal.Signals, tmp_path: Path
) -> None:
    with Backend() as backend:
        served = Served(tmp_path, backend.port)
        call = chat()
        with _process(served) as process:
            served.export(request(call))
            process.send_signal(how)
            process.wait(timeout=PATIENCE)
        plain = without(chat(trace_id=call.trace_id), *CHAT, *USAGE)
        set_attributes(plain, {"session.id": "s"})
        with _process(served):
            served.export(request(plain))
            assert [row["id"] for row in served.query("sessions") if row["calls"]] == ["s"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_requests_under_way_end_before_it_does(how: signal.Signals, tmp_path: Path) -> None:
    """Told to stop while the destination thinks: new requests are turned away, the one under way gets its answer."""
    with Backend() as backend, ThreadPoolExecutor() as sender, ExitStack() as stack:
        served = Served(tmp_path, backend.port)
        process = stack.enter_context(_process(served))
        backend.hang()
        answer = sender.submit(served.export, request(chat()))
        assert backend.arrived.acquire(timeout=PATIENCE)
        process.send_signal(how)
        eventually(lambda: _is_stopping(served))
        with pytest.raises(RefusedError) as refusal:
            served.export(request(chat()))
        assert refusal.value.code is grpc.StatusCode.UNAVAILABLE
        assert process.poll() is None
        assert not answer.done()
        backend.go_on()
        answer.result(timeout=PATIENCE)
        assert process.wait(timeout=PATIENCE) == 0
        assert len(backend.received) == 1
        assert served.query("summary")["total"]["cost_usd"] == pytest.approx(COST, rel=1e-12)


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with Backend() as backend, ExitStack() as stack:
        served = Served(tmp_path, backend.port)
        process = stack.enter_context(_process(served))
        backend.hang()
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{served.grpc}"))
        call = channel.unary_unary(TRACES, bytes, bytes).future(request(chat()), timeout=PATIENCE)
        assert backend.arrived.acquire(timeout=PATIENCE)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: _is_stopping(served))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == -signal.SIGTERM
        assert call.code() is grpc.StatusCode.UNAVAILABLE  # and kept until here: a call that is let go of is cancelled


def test_logs_that_report_calls(tmp_path: Path) -> None:
    """The log arrives as it was, and what it reports is in the ledger and at the destination as spans."""
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        with grpc.insecure_channel(f"127.0.0.1:{served.grpc}") as channel:
            channel.unary_unary(LOGS_EXPORT, bytes, bytes)(LOGS, timeout=PATIENCE)
        assert LOGS in backend.received
        (session,) = served.query("sessions")
        assert session["calls"] > 0
        assert session["cost_usd"] > 0


def test_without_a_configuration(tmp_path: Path) -> None:
    """It runs: lines on the terminal, everything in a file in the user's state folder. (Only the ports are ours.)"""
    free = [
        f"--set={key}.endpoint=127.0.0.1:0"
        for key in ("receivers.otlp.protocols.grpc", "receivers.otlp.protocols.http", "api")
    ]
    served = Served(tmp_path, 1)
    process = subprocess.Popen(
        [*served.command[:-2], *free],
        env={"HOME": str(tmp_path), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    port = ""
    for line in process.stderr:
        if found := re.search(r"OTLP/gRPC on 127\.0\.0\.1:(\d+)", line):
            port = found[1]
        if line.endswith(" ready\n"):
            break
    served.grpc = int(port)
    served.export(request(chat()))
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "1 GenAI" in out
    assert (tmp_path / ".local/state/spanledger/spans.jsonl").read_text().count("spanledger.cost.usd") == 1
