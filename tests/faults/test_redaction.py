"""Every recording through a running server that redacts, over every protocol: its content is nowhere afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from backend import Backend
from captures import captures
from contents import pieces
from served import Served, told
from spanledger_processor.otlp.json_form import to_json
from spanledger_processor.receivers.driver import detect_signal

CUT = 12
PAGES = ("/metrics", "/api/v1/summary", "/api/v1/sessions", "/api/v1/runs")


@pytest.mark.parametrize("mode", ["drop", "hash", "truncate"])
def test_no_content_in_output_state_log_metrics_and_api(mode: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    more = {
        "processor": {"redaction": {"mode": mode, "truncate_to": CUT}},
        "exporters": {"file": {"path": str(out)}, "debug": {"verbosity": "detailed"}},
    }
    known = {piece for capture in captures() for piece in pieces(capture) if len(piece) > CUT}
    with Backend() as backend, Served(tmp_path / "served", backend.port, more) as served:
        for number, capture in enumerate(captures()):
            for signal, body in capture.requests:
                signal = detect_signal(signal, body)
                if number % 3 == 0 and signal == "traces":
                    served.export(body)
                elif number % 3 == 1:
                    assert served.post(body, f"/v1/{signal}").status_code == 200
                else:
                    text = to_json(signal, body)
                    answer = served.post(text, f"/v1/{signal}", content_type="application/json")
                    assert answer.status_code == 200
        pages = [httpx2.get(f"http://127.0.0.1:{served.api}{path}", timeout=60).content for path in PAGES]
        assert served.metric("spanledger_redacted_values_total", mode=mode) > 1000
        assert served.metric("spanledger_redaction_failures_total") == 0
        assert served.metric("spanledger_internal_errors_total") == 0
        total = told(served.config, "summary")["total"]
    assert total["calls"] > 100
    places = {"output": backend.received, "pages": pages, "files": [*_files(tmp_path)]}
    for place, contents in places.items():
        everything = b"\0".join(contents)
        assert everything
        assert not [piece for piece in known if piece.encode() in everything], place


def _files(folder: Path) -> Iterator[bytes]:
    """State, log with what `debug` printed, and the file exporter's output."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes()
