"""Every recording through a running server that redacts: its content is nowhere afterwards.

Each recording goes by one protocol, in the mode that leaves most; tests/enrichment/test_redaction.py has all modes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import grpc

from backend import Backend
from captures import Capture, all_at_once, captures
from contents import LEAST, pieces
from destinations import nobody
from served import Served
from spanledger_processor.otlp.json_form import to_json
from spanledger_processor.server.routes import ROUTES
from tools.programs import http_get

METHODS = {
    signal: f"/opentelemetry.proto.collector.{package}.v1.{package.capitalize()}Service/Export"
    for signal, package in (("traces", "trace"), ("logs", "logs"), ("metrics", "metrics"))
}
ALSO_NAMES = {"done"}
"""What is content in one recording, and stands in the names of another's functions (Codex)."""
METHODS_NAMED = (b"beta.messages.count_tokens",)
"""Names of spans that hold what is content elsewhere."""
PLACES = ("output", "pages", "state", "queue", "dead letters", "log and debug", "file")


def _run(folder: Path, redaction: dict[str, object], wanted: tuple[Capture, ...]) -> dict[str, bytes]:
    """Send recordings, and return everything that can be read of them afterwards, by place."""
    out, queue, letters = folder / "out.jsonl", folder / "queue", folder / "letters.jsonl"
    with Backend() as backend, Backend() as refusing, nobody() as away:
        refusing.refuse(grpc.StatusCode.INVALID_ARGUMENT)
        optional = {"required": False, "tls": {"insecure": True}}
        queued = {"sending_queue": {"enabled": True, "storage": str(queue)}}
        lettered = {"dead_letter": str(letters)}
        more = {
            "processor": {"redaction": redaction},
            "exporters": {
                "file": {"path": str(out)},
                "debug": {"verbosity": "detailed"},
                "otlp_grpc/away": {"endpoint": f"127.0.0.1:{away}", **queued, **optional},
                "otlp_grpc/refusing": {"endpoint": f"127.0.0.1:{refusing.port}", **lettered, **optional},
            },
        }
        with Served(folder / "served", backend.port, more) as served:
            for number, capture in enumerate(wanted):
                _send(served, capture, number % 3)
            pages = b"\0".join(_pages(served))
            assert served.metric("spanledger_internal_errors_total") == 0
            assert served.metric("spanledger_redaction_failures_total") == 0
            assert served.answer("/api/v1/summary")["total"]["calls"] > 0
        return {
            "output": b"\0".join(backend.received),
            "pages": pages,
            "state": _files(served.state),
            "queue": _files(queue),
            "dead letters": letters.read_bytes(),
            "log and debug": (folder / "served" / "spanledger.log").read_bytes(),
            "file": out.read_bytes(),
        }


def _send(served: Served, capture: Capture, protocol: int) -> None:
    for signal, body in all_at_once(capture.sent):
        if protocol == 0:
            served.export(body, method=METHODS[signal])
        elif protocol == 1:
            assert served.post(body, f"/v1/{signal}").status_code == 200
        else:
            text = to_json(signal, body)
            assert served.post(text, f"/v1/{signal}", content_type="application/json").status_code == 200


def _pages(served: Served) -> Iterator[bytes]:
    """Metrics, every list of the API to its end, each session and run, and every dimension."""
    lists = [route.path for route in ROUTES if "{" not in route.path]
    named = [f"/api/v1/dimensions/{name}" for name in ("user", "agent", "project", "service", "model", "provider")]
    for kind in ("sessions", "runs"):
        rows = served.answer(f"/api/v1/{kind}?limit=1000")[kind]
        named += [f"/api/v1/{kind}/{quote(row['id'], safe='')}" for row in rows if row["id"]]
    for path in ("/metrics", *lists, *named, "/api/v1/sessions?format=csv", "/api/v1/runs?format=ndjson&all=true"):
        answer = http_get(f"http://127.0.0.1:{served.api}{path}")
        assert answer.status_code == 200, path
        yield answer.content


def _files(folder: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_no_content_in_output_state_queue_log_metrics_and_api(tmp_path: Path) -> None:
    found = _run(tmp_path, {"mode": "truncate", "truncate_to": LEAST - 1}, captures())
    known = {piece for capture in captures() for piece in pieces(capture)} - ALSO_NAMES
    assert len(known) > 150
    for place, content in found.items():
        assert content, place
        for name in METHODS_NAMED:
            content = content.replace(name, b"")
        assert not [piece for piece in known if piece.encode() in content], place


def test_without_redaction_it_is_found_where_it_is_sent_and_nowhere_else(tmp_path: Path) -> None:
    """So the search above finds what there is to find; and the promise that content is private needs no redaction."""
    wanted = tuple(capture for capture in captures() if capture.name in ("pydantic-ai/S3", "claude-code/tools"))
    found = _run(tmp_path, {"mode": "keep"}, wanted)
    known = {piece for capture in wanted for piece in pieces(capture) if " " in piece}
    holding = {place for place in PLACES if any(piece.encode() in found[place] for piece in known)}
    assert holding == {"output", "queue", "dead letters", "file"}
