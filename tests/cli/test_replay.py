"""`spanledger replay`: dead letters go where they were refused, or where one says, and count nothing twice."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from backend import Backend
from chats import COST, chat, request
from commands import run
from replays import spans_of
from served import RefusedError, Served
from spanledger_processor.otlp.json_form import to_json
from tools.programs import eventually


def ids(bodies: list[bytes]) -> list[bytes]:
    return [span.span_id for body in bodies for span in spans_of(ExportTraceServiceRequest.FromString(body))]


def letters(path: Path, *bodies: bytes) -> Path:
    path.write_bytes(b"".join(to_json("traces", body) + b"\n" for body in bodies))
    return path


def to(backend: Backend, **more: Any) -> list[str]:
    """Options of a configuration with one exporter."""
    settings = {"endpoint": f"http://127.0.0.1:{backend.port}", "retry_on_failure": {"enabled": False}, **more}
    return ["--set", f"exporters={json.dumps({'otlp_grpc/a': settings, 'debug': {}})}"]


@pytest.mark.parametrize("queue", ["on", "off"])
def test_dead_letters_go_to_the_exporter_that_they_were_refused_by(queue: str, tmp_path: Path) -> None:
    dead = tmp_path / "dead.jsonl"
    bodies = [request(chat()) for _ in range(3)]
    exporter = {"dead_letter": str(dead), "sending_queue": {"enabled": queue == "on"}}
    with Backend() as backend, Served(tmp_path, backend.port, {"exporters": {"otlp_grpc": exporter}}) as served:
        backend.refuse(grpc.StatusCode.INVALID_ARGUMENT)
        for body in bodies:
            with nullcontext() if queue == "on" else pytest.raises(RefusedError, match="INVALID_ARGUMENT"):
                served.export(body)

        def kept() -> None:
            assert len(dead.read_text().splitlines()) == 3

        eventually(kept)
        backend.go_on()
        backend.received.clear()
        result = run("replay", str(dead), "--config", str(served.config))
        assert result.exit_code == 0, result.output
        assert f"sending {dead} to otlp_grpc (127.0.0.1:{backend.port})" in result.stderr
        assert f"3 requests sent to otlp_grpc (127.0.0.1:{backend.port})" in result.stdout
        assert sorted(ids(backend.received)) == sorted(ids(bodies))  # a queue's consumers refuse in any order
        assert served.total_usd() == pytest.approx(3 * COST, rel=1e-9)


def test_replayed_into_spanledger_twice_counts_once(tmp_path: Path) -> None:
    file = letters(tmp_path / "spans.jsonl", request(chat()), request(chat()))
    with Backend() as backend, Served(tmp_path / "served", backend.port) as served:
        for _ in range(2):
            result = run("replay", str(file), "--endpoint", f"http://127.0.0.1:{served.http}", "--json")
            answer = json.loads(result.stdout)
            assert (answer["sent"], answer["refused"], answer["stopped_at"]) == (2, [], None)
            assert answer["address"] == f"http://127.0.0.1:{served.http}"
        assert served.total_usd() == pytest.approx(2 * COST, rel=1e-9)


def test_a_destination_that_is_away_stops_it_and_it_goes_on_from_there(tmp_path: Path) -> None:
    bodies = [request(chat()) for _ in range(3)]
    file = letters(tmp_path / "dead.jsonl", *bodies)
    with Backend() as backend:
        options = to(backend, dead_letter=str(file))
        backend.refuse(grpc.StatusCode.UNAVAILABLE)
        result = run("replay", str(file), "--from-line", "2", *options)
        assert result.exit_code == 1
        assert "stopped at line 2, since the destination takes none now: UNAVAILABLE" in result.stdout
        assert "--from-line 2" in result.stdout
        backend.go_on()
        backend.received.clear()
        assert run("replay", str(file), "--from-line", "2", *options).exit_code == 0
        assert ids(backend.received) == ids(bodies[1:])


def test_lines_that_cannot_be_sent_are_named_and_the_others_go(tmp_path: Path) -> None:
    file = letters(tmp_path / "dead.jsonl", request(chat()), request(chat()))
    with file.open("ab") as opened:
        opened.write(b'not json\n{"resourceMetrics": []}\n{"resourceSpans": [{"sc')
    with Backend() as backend:
        result = run("replay", str(file), "--exporter", "otlp_grpc/a", "--json", *to(backend, signals=["traces"]))
        assert len(backend.received) == 2
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["sent"], [refused["line"] for refused in answer["refused"]]) == (2, [3, 4, 5])
    assert answer["refused"][1]["reason"] == "otlp_grpc/a takes no metrics"
    assert "half a line" in answer["refused"][2]["reason"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "is no exporter's dead_letter: say where to with --exporter or --endpoint"),
        (["--exporter", "debug"], "--exporter debug: there is none of this name that can be sent to"),
        (["--exporter", "otlp_grpc/a", "--endpoint", "http://localhost:1"], "use one of them"),
        (["--endpoint", "localhost"], "write a URL"),
    ],
)
def test_it_never_guesses_where_to(options: list[str], message: str, tmp_path: Path) -> None:
    file = letters(tmp_path / "spans.jsonl", request(chat()))
    with Backend() as backend:
        result = run("replay", str(file), *options, *to(backend))
        assert backend.received == []
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(("name", "is_of"), [("dead.jsonl", True), ("dead.2.jsonl", True), ("dead2.jsonl", False)])
def test_the_files_of_all_workers_belong_to_their_exporter(name: str, is_of: bool, tmp_path: Path) -> None:  # noqa: FBT001
    file = letters(tmp_path / name, request(chat()))
    with Backend() as backend:
        result = run("replay", str(file), *to(backend, dead_letter=str(tmp_path / "dead.jsonl")))
    assert (result.exit_code == 0) is is_of
