"""Nothing fails in silence: what an endpoint refuses, what was looked at, what is left out, and how to go on."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from mux_homes import WRITTEN_MS, bucket, last, put, usage
from sidecars import Endpoint, sidecar
from spanledger_exporters.responses import _HINTS
from spanledger_sidecar.cli import sidecar as command
from spanledger_sidecar.files import Watcher
from spanledger_sidecar.sender import _as_options

MODEL = "anthropic:claude-x"


class RefusingEndpoint:
    """An OTLP/HTTP endpoint that refuses what a test has it refuse.

    `answer` gives the status for the names of a request's spans; `arrived` are names of spans that were taken.

    `rejected` is what it says to have left out of each request that it takes.
    """

    def __init__(self, answer: Callable[[list[str]], int], rejected: int = 0) -> None:
        self.arrived: list[str] = []
        self.requests = 0
        self.ledger: set[str] = set()
        """Sessions that its API knows, with `?tenant=` behind those that are of another than the default tenant."""
        self.tenants: list[str | None] = []
        self.token = ""
        """What its API asks for, if anything."""
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportTraceServiceRequest.FromString(body)
                groups = [scope for resource in request.resource_spans for scope in resource.scope_spans]
                names = [span.name for group in groups for span in group.spans]
                endpoint.requests += 1
                status = answer(names)
                if status == 200:
                    endpoint.arrived += names
                partial = ExportTracePartialSuccess(
                    rejected_spans=rejected, error_message="told to" if rejected else ""
                )
                self._end(status, ExportTraceServiceResponse(partial_success=partial).SerializeToString())

            def do_GET(self) -> None:
                if endpoint.token and self.headers["authorization"] != f"Bearer {endpoint.token}":
                    self._end(401, b'{"error": "show the token"}')
                    return
                if self.path == "/api/v1/tenants":
                    self._end(200, json.dumps({"tenants": [{"tenant": name} for name in endpoint.tenants]}).encode())
                    return
                known = self.path.rpartition("/")[2] in endpoint.ledger
                self._end(200 if known else 404, b'{"cost_usd": 1.0}' if known else b"{}")

            def _end(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                """Nothing is written."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> RefusingEndpoint:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _run(folder: Path, *arguments: str) -> Result:
    environ = {"HOME": str(folder / "home"), "COLUMNS": "200"}
    settings = ["--state", str(folder / "state"), "--protocol", "http/protobuf", "--once", *arguments]
    return CliRunner(env=environ).invoke(command, settings)


def _put(folder: Path, workspace: str, model: str) -> None:
    put(folder / "home" / ".mux", usage({model: bucket(5, 6)}), workspace=workspace)


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        (["--endpoint", "http://127.0.0.1:{port}"], "correct its path"),
        (["--endpoint", "127.0.0.1:{port}", "--protocol", "grpc"], "use --protocol http/protobuf"),
        (["--endpoint", "https://127.0.0.1:{port}"], "write http://"),
    ],
)
def test_what_to_do_is_told_in_the_sidecar_s_own_options(given: list[str], reported: str, tmp_path: Path) -> None:
    _put(tmp_path, "w1", MODEL)
    with RefusingEndpoint(lambda _: 404) as endpoint:
        port = endpoint.url.rsplit(":", 1)[-1].strip("/")
        result = _run(tmp_path, "--backfill", "--force", *(one.format(port=port) for one in given))
    assert reported in result.stderr


def test_no_hint_names_a_setting_that_a_sidecar_does_not_have() -> None:
    for _, hint in (pair for pairs in _HINTS.values() for pair in pairs):
        assert not re.search(r"tls\.|otlp_|signals", _as_options(hint.format(signal="traces"))), hint


def _poisoned(status: int) -> Callable[[list[str]], int]:
    return lambda names: status if any("poison" in name for name in names) else 200


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_span_that_is_refused_holds_up_no_other_and_is_kept(status: int, tmp_path: Path) -> None:
    with RefusingEndpoint(_poisoned(status)) as endpoint:
        for number in range(20):
            _put(tmp_path, f"w{number:02}", "x:poison" if number == 7 else f"x:fine{number}")
        result = _run(tmp_path, "--backfill", "--endpoint", endpoint.url)
        assert result.exit_code == 1
        assert endpoint.url in result.stderr
        assert f"HTTP {status}" in result.stderr
        assert "refuses 1 spans for good" in result.stderr
        assert len(endpoint.arrived) == 19
        again = _run(tmp_path, "--endpoint", endpoint.url)
        assert again.exit_code == 1
    with RefusingEndpoint(lambda _: 200) as mended:
        assert _run(tmp_path, "--endpoint", mended.url).exit_code == 0
        assert mended.arrived == ["chat poison"]


def test_a_request_that_is_too_large_is_cut(tmp_path: Path) -> None:
    with RefusingEndpoint(lambda names: 413 if len(names) > 3 else 200) as endpoint:
        for number in range(20):
            _put(tmp_path, f"w{number:02}", "x:fine")
        assert _run(tmp_path, "--backfill", "--endpoint", endpoint.url).exit_code == 0
        assert len(endpoint.arrived) == 20


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_whoever_is_not_let_in_is_told_so_and_keeps_everything(status: int, tmp_path: Path) -> None:
    """One request, not one for each span; address and reason are named."""
    with RefusingEndpoint(lambda _: status) as endpoint:
        for number in range(20):
            _put(tmp_path, f"w{number:02}", "x:fine")
        result = _run(tmp_path, "--backfill", "--endpoint", endpoint.url)
        assert result.exit_code == 1
        assert endpoint.requests == 1
        assert f"{endpoint.url}/v1/traces did not take everything (HTTP {status}" in result.stderr
        assert "20 spans wait" in result.stdout


def test_an_endpoint_that_refuses_everything_gets_it_all_later(tmp_path: Path) -> None:
    with RefusingEndpoint(lambda _: 400) as endpoint:
        for number in range(200):
            _put(tmp_path, f"w{number:03}", "x:fine")
        assert _run(tmp_path, "--backfill", "--endpoint", endpoint.url).exit_code == 1
        assert endpoint.requests < 200
    with RefusingEndpoint(lambda _: 200) as mended:
        assert _run(tmp_path, "--endpoint", mended.url).exit_code == 0
        assert len(mended.arrived) == 200


def test_what_is_left_out_of_a_request_that_was_taken_is_told(tmp_path: Path) -> None:
    with RefusingEndpoint(lambda _: 200, rejected=3) as endpoint:
        _put(tmp_path, "w", "x:fine")
        result = _run(tmp_path, "--backfill", "--endpoint", endpoint.url)
    assert result.exit_code == 1
    assert "left out 3" in result.stderr
    assert "told to" in result.stderr


@pytest.mark.parametrize("root", ["nowhere", "empty"])
def test_a_root_where_nothing_is_is_told(root: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = _run(tmp_path, "--root", str(tmp_path / root), "--endpoint", "127.0.0.1:9")
    assert result.exit_code == 1
    assert str(tmp_path / root) in result.stdout
    assert "nothing to read" in result.stderr


def test_every_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for number in range(24):
        put(tmp_path / "home" / ".mux", "{broken", workspace=f"bad{number}")
    result = _run(tmp_path, "--endpoint", "127.0.0.1:9")
    for number in range(24):
        assert f"/bad{number}/session-usage.json is no JSON" in result.stdout
        assert f"/bad{number}/session-usage.json is no JSON" in result.stderr


@pytest.mark.parametrize("source", ["mux", "tilth"])
def test_a_file_that_is_still_bad_is_named_by_every_run(source: str, tmp_path: Path) -> None:
    """It is not read again before it changes; the run after it was mended, and one of another home, do not name it."""
    home = tmp_path / "home" / f".{source}"
    name, content = ("session-usage.json", "{broken") if source == "mux" else ("events.jsonl", "{broken\n")
    path = put(home, content, name)

    def faults(*arguments: str) -> tuple[bool, bool]:
        reported = _run(tmp_path, "--source", source, "--endpoint", "127.0.0.1:9", *arguments).stdout
        return re.search(r"files with a fault +1\b", reported) is not None, f"{source}: {path} " in reported

    (tmp_path / "other" / "sessions").mkdir(parents=True)
    assert faults() == faults() == (True, True)
    assert faults("--root", str(tmp_path / "other")) == (False, False)
    assert faults() == (True, True)
    path.write_text("{}" if source == "tilth" else usage({MODEL: bucket(5, 6)}))
    assert faults() == faults() == (False, False)


def test_a_first_run_says_what_it_took_as_known_and_a_second_how_to_have_a_first_again(tmp_path: Path) -> None:
    _put(tmp_path, "w", MODEL)
    first = _run(tmp_path, "--endpoint", "127.0.0.1:9")
    assert first.exit_code == 0
    assert "11 tokens of 1 session (w) are not counted: that was there before the first run" in first.stdout
    second = _run(tmp_path, "--backfill", "--endpoint", "127.0.0.1:9")
    assert second.exit_code == 2
    assert f"delete {tmp_path / 'state' / 'sidecar'}" in second.stderr


@pytest.mark.parametrize("root", ["nowhere", "home/.mux"])
def test_a_run_that_found_nothing_to_read_is_no_first_run(root: str, tmp_path: Path) -> None:
    """With a root that was misspelled, or before there was a home: the next run may say from when usage counts."""
    assert _run(tmp_path, "--root", str(tmp_path / root), "--endpoint", "127.0.0.1:9").exit_code == 1
    _put(tmp_path, "w", MODEL)
    with RefusingEndpoint(lambda _: 200) as endpoint:
        arguments = ("--backfill", "--source", "mux", "--endpoint", endpoint.url)
        assert _run(tmp_path, *arguments).exit_code == 0
        assert endpoint.arrived == ["chat claude-x"]


def test_what_came_after_a_run_that_found_nothing_to_read_is_new(tmp_path: Path) -> None:
    """From cron: the home was made between two runs."""
    put(tmp_path / "home" / ".mux", usage({MODEL: bucket(5, 6)}, lastRequest=last(MODEL, bucket(5, 6))))
    (tmp_path / "home").rename(tmp_path / "later")
    earlier = ("--since", "2020-01-01")
    assert _run(tmp_path, *earlier, "--source", "mux", "--endpoint", "127.0.0.1:9").exit_code == 1
    (tmp_path / "later").rename(tmp_path / "home")
    with RefusingEndpoint(lambda _: 200) as endpoint:
        assert _run(tmp_path, "--source", "mux", "--endpoint", endpoint.url).exit_code == 0
        assert endpoint.arrived == ["chat claude-x"]


def test_a_usage_file_that_is_taken_for_a_copy_is_told(tmp_path: Path) -> None:
    """Of an old fork: the last request is another workspace's, and no row tells anything."""
    copied = usage({MODEL: bucket(5, 6)}, lastRequest=last(MODEL, bucket(5, 6)))
    for workspace in ("a-source", "fork"):
        put(tmp_path / "home" / ".mux", copied, workspace=workspace)
    with RefusingEndpoint(lambda _: 200) as endpoint:
        result = _run(tmp_path, "--backfill", "--source", "mux", "--endpoint", endpoint.url)
        assert endpoint.arrived == ["chat claude-x"]
    assert re.search(r"tokens not counted +11\b", result.stdout)
    why = "are not counted: the usage file is taken for a copy of another session's"
    assert f"11 tokens of 1 session (fork) {why}" in result.stdout


def test_what_is_not_counted_while_watching_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A backup that is put back is dated before the first run; a fork's file may be copied."""
    root = tmp_path / "mux"
    put(root, usage({MODEL: bucket(1, 1)}))
    now_ms = WRITTEN_MS + 1000
    with sidecar(tmp_path / "state", Endpoint(), root, since_ms=None, now_ms=lambda: now_ms) as made:
        silent = _Silent(made.sources[0].names)
        made._read(lambda: True, [silent], 0.0)
        caplog.clear()
        put(root, usage({MODEL: bucket(5, 6)}, lastRequest=last(MODEL, bucket(5, 6))), workspace="restored")
        copied = usage({MODEL: bucket(7, 8)}, lastRequest=last(MODEL, bucket(7, 8), now_ms + 1))
        put(root, copied, workspace="source")
        made._read(lambda: True, [silent], 0.0)
        put(root, copied, workspace="zz-fork")
        made._read(lambda: True, [silent], 0.0)
        made._read(lambda: True, [silent], 0.0)
        assert made.sources[0].counts.left_out == 2 + 11 + 15
        reported = [message for message in caplog.messages if "not counted" in message]
        assert len(reported) == 2
        assert reported[0].startswith(
            "mux: 11 tokens of 1 session (restored) are not counted: that is dated before 2026-08-19"
        )
        assert (
            f"--backfill count at a first run only. To have one again, stop the sidecar, delete {made.cursor.path}"
            in reported[0]
        )
        assert reported[1].startswith(
            "mux: 15 tokens of 1 session (zz-fork) are not counted: the usage file is taken for a copy"
        )


def test_a_later_run_says_what_it_left_out(tmp_path: Path) -> None:
    """From cron: the options that count at a first run only are not offered as if they did now."""
    _put(tmp_path, "w", MODEL)
    arguments = ("--source", "mux", "--endpoint", "127.0.0.1:9")
    _run(tmp_path, *arguments)
    put(
        tmp_path / "home" / ".mux", usage({MODEL: bucket(5, 7)}, lastRequest=last(MODEL, bucket(5, 7))), workspace="new"
    )
    later = _run(tmp_path, *arguments)
    assert "12 tokens of 1 session (new) are not counted: that is dated before 2" in later.stdout
    assert "To have one again, stop the sidecar" in later.stdout


def test_since_says_what_it_left_out(tmp_path: Path) -> None:
    put(tmp_path / "home" / ".mux", usage({MODEL: bucket(5, 6)}, lastRequest=last(MODEL, bucket(5, 6), WRITTEN_MS)))
    result = _run(tmp_path, "--since", "2026-10-01", "--endpoint", "127.0.0.1:9")
    assert "11 tokens of 1 session (7ac41be902) are not counted: that is from before 2026-10-01" in result.stdout


def test_a_backfill_over_a_ledger_that_has_these_sessions_is_refused(tmp_path: Path) -> None:
    """The state was lost: sums of which no turn is known would count twice."""
    _put(tmp_path, "w1", MODEL)
    with RefusingEndpoint(lambda _: 200) as endpoint:
        arguments = ("--backfill", "--endpoint", endpoint.url, "--api", endpoint.url)
        endpoint.ledger.add("w1")
        result = _run(tmp_path, *arguments)
        assert result.exit_code == 1
        assert "has session w1 of mux already" in result.stderr
        assert endpoint.requests == 0
        again = _run(tmp_path, *arguments)
        assert again.exit_code == 1
        assert _run(tmp_path, *arguments, "--force").exit_code == 0
        assert endpoint.arrived == ["chat claude-x"]


def test_a_backfill_over_a_tenant_s_sessions_is_refused(tmp_path: Path) -> None:
    """Which tenant the spans are of is found out by the processor: all of them are asked for."""
    _put(tmp_path, "w1", MODEL)
    with RefusingEndpoint(lambda _: 200) as endpoint:
        endpoint.tenants = [None, "a b", "acme"]
        endpoint.ledger.add("w1?tenant=acme")
        result = _run(tmp_path, "--backfill", "--endpoint", endpoint.url, "--api", endpoint.url)
        assert (result.exit_code, endpoint.requests) == (1, 0)
        assert "has session w1 of mux already" in result.stderr


def test_a_backfill_that_may_not_ask_the_ledger_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows whether it has these sessions already; with its token it is asked."""
    monkeypatch.delenv("SPANLEDGER_API_TOKEN", raising=False)
    _put(tmp_path, "w1", MODEL)
    with RefusingEndpoint(lambda _: 200) as endpoint:
        endpoint.token = "sesame"
        arguments = ("--backfill", "--endpoint", endpoint.url, "--api", endpoint.url)
        refused = _run(tmp_path, *arguments)
        assert (refused.exit_code, "SPANLEDGER_API_TOKEN" in refused.stderr) == (1, True)
        assert endpoint.requests == 0
        monkeypatch.setenv("SPANLEDGER_API_TOKEN", "sesame")
        assert _run(tmp_path, *arguments).exit_code == 0
        assert endpoint.arrived == ["chat claude-x"]


def test_a_watching_sidecar_says_where_it_looks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with sidecar(tmp_path / "state", Endpoint(), tmp_path / "mux") as made:
        made._read(lambda: True, [Watcher(made.sources[0].names)], 0.0)
    assert any(f"{tmp_path / 'mux'} is not there (yet)" in message for message in caplog.messages)


class _Silent(Watcher):
    """On a system that tells of no change."""

    def follow(self, roots: Iterable[Path]) -> bool:
        return False


def test_a_change_that_no_event_tells_of_waits_for_the_next_scan_and_no_longer(tmp_path: Path) -> None:
    """The scans begin at a fixed distance, whatever the last one cost; each sees what changed since."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    for number in range(50):
        put(root, usage({MODEL: bucket(1, 1)}), workspace=f"w{number}")
    with sidecar(tmp_path / "state", endpoint, root) as made:
        silent = _Silent(made.sources[0].names)
        before = time.monotonic()
        due = made._read(lambda: True, [silent], 0.0)
        assert before + made.settings.scan_every <= due <= time.monotonic() + made.settings.scan_every
        assert made.settings.scan_every == 30
        put(root, usage({MODEL: bucket(4, 4)}), workspace="w7")
        put(root, usage({MODEL: bucket(4, 4)}), workspace="new")
        assert made._read(lambda: True, [silent], due) == due
        assert made.cursor.waiting() == 50
        made._read(lambda: True, [silent], 0.0)
        assert made.cursor.waiting() == 52
