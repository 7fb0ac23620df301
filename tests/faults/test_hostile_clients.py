"""A client that means harm, and a running server: tokens, tenants, encodings, names, forged attributes, the API."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from backend import Backend
from chats import COST, chat, request, set_attributes
from contract_names import ALL, NAMES
from replays import attributes, spans_of
from served import TRACES, RefusedError, Served
from spanledger_processor.otlp.json_form import to_json
from tools.programs import eventually, http_get

TOKEN, API_TOKEN, TENANT = "token-of-senders-4711", "token-of-readers-4712", "x-scope-orgid"
OURS = {"authorization": f"Bearer {API_TOKEN}"}
Headers = Sequence[tuple[str, str]]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Backend]]:
    """A server that demands tokens, and tenants by a header, with `debug`."""
    auth = {"auth": {"bearer_token": TOKEN}}
    more = {
        "receivers": {"otlp": {"protocols": {"grpc": auth, "http": auth}}},
        "api": {"auth": {"bearer_token": API_TOKEN}},
        "processor": {"tenant": {"keys": [f"header:{TENANT}"], "required": True}},
        "exporters": {"debug": {"verbosity": "detailed"}},
    }
    with Backend() as backend, Served(tmp_path_factory.mktemp("guarded"), backend.port, more) as served:
        yield served, backend


def _raw(port: int, method: str, path: str, headers: Headers, body: bytes = b"") -> tuple[int, bytes]:
    """Send headers as they are given, also twice; returns status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path)
        for name, value in (*headers, ("content-length", str(len(body)))):
            connection.putheader(name, value.encode("utf-8"))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _post(served: Served, body: bytes, *headers: tuple[str, str], path: str = "/v1/traces") -> int:
    return _raw(served.http, "POST", path, [("content-type", "application/x-protobuf"), *headers], body)[0]


SHOWN, WRONG = ("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer x")
OF_A = (TENANT, "a")
UNAUTHORIZED: dict[str, Headers] = {
    "none": [],
    "wrong": [WRONG],
    "wrong before right": [WRONG, SHOWN],
    "right before wrong": [SHOWN, WRONG],
    "twice": [SHOWN, SHOWN],
    "no scheme": [("authorization", TOKEN)],
    "another scheme": [("authorization", f"Basic {TOKEN}")],
    "empty": [("authorization", "Bearer ")],
    "a beginning": [("authorization", f"Bearer {TOKEN[:-1]}")],
    "more": [("authorization", f"Bearer {TOKEN}x")],
    "another header": [("x-api-key", TOKEN), ("cookie", f"authorization=Bearer {TOKEN}")],
}


@pytest.mark.parametrize("headers", UNAUTHORIZED.values(), ids=UNAUTHORIZED.keys())
def test_a_token_is_shown_once_and_in_its_header(guarded: tuple[Served, Backend], headers: Headers) -> None:
    served, backend = guarded
    before = len(backend.received)
    for path in ("/v1/traces", f"/v1/traces?access_token={TOKEN}", f"/v1/traces?authorization=Bearer%20{TOKEN}"):
        assert _post(served, request(chat()), OF_A, *headers, path=path) == 401
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc}") as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(TRACES, bytes, bytes)(request(chat()), timeout=60, metadata=(OF_A, *headers))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    of_api = [(name, value.replace(TOKEN, API_TOKEN)) for name, value in headers]
    for path in ("/api/v1/summary?tenant=a", f"/metrics?token={API_TOKEN}", f"/api/v1/events?token={API_TOKEN}"):
        assert _raw(served.api, "GET", path, of_api)[0] == 401
    assert len(backend.received) == before


@pytest.mark.parametrize(
    "path", ["//api/v1/summary", "/%61pi/v1/summary", "/page/../api/v1/summary", "/livez/../metrics", "/livez;/metrics"]
)
def test_no_other_spelling_of_a_path_goes_round_the_token(guarded: tuple[Served, Backend], path: str) -> None:
    assert _raw(guarded[0].api, "GET", path, [])[0] in (401, 404)


@pytest.mark.parametrize("name", ["a\tb", "a\x01b", "a\u202eb", "a\x85b", "a\u2028b", "a\x7f"])
def test_a_tenant_has_a_name_that_can_be_printed(guarded: tuple[Served, Backend], name: str) -> None:
    """Whatever bytes a header holds: it stands in lists, labels and logs."""
    assert _post(guarded[0], request(chat()), SHOWN, (TENANT, name)) == 400


def test_a_long_tenant_is_one_tenant(guarded: tuple[Served, Backend]) -> None:
    served, _ = guarded
    for name in ("x" * 5000, "x" * 5000, "x" * 5000 + "y"):
        assert _post(served, request(chat()), SHOWN, (TENANT, name)) == 200
    answer = http_get(f"http://127.0.0.1:{served.api}/api/v1/tenants", headers=OURS).json()
    assert sorted(row["calls"] for row in answer["tenants"] if row["tenant"].startswith("x")) == [1, 2]


BODY = request(chat())
ENCODED: dict[str, tuple[Headers, bytes, int]] = {
    "twice in a header": ([("content-encoding", "gzip, gzip")], gzip.compress(gzip.compress(BODY)), 415),
    "in two headers": ([("content-encoding", "gzip"), ("content-encoding", "gzip")], gzip.compress(BODY), 415),
    "unknown": ([("content-encoding", "br")], BODY, 415),
    "garbage": ([("content-encoding", "gzip")], b"garbage", 400),
    "cut": ([("content-encoding", "gzip")], gzip.compress(BODY)[:-6], 400),
    "more behind it": ([("content-encoding", "gzip")], gzip.compress(BODY) + b"x", 400),
    "a bomb": ([("content-encoding", "gzip")], gzip.compress(bytes(100_000_000), 9), 413),
    "empty members": ([("content-encoding", "gzip")], gzip.compress(b"") * 100_000, 400),
}


@pytest.mark.parametrize(("headers", "body", "status"), ENCODED.values(), ids=ENCODED.keys())
def test_an_encoding_that_means_harm(
    guarded: tuple[Served, Backend], headers: Headers, body: bytes, status: int
) -> None:
    served, _ = guarded
    assert _post(served, body, SHOWN, OF_A, *headers) == status
    assert _post(served, BODY, SHOWN, OF_A) == 200


HOSTILE = (
    "esc\x1b[31m",
    "bell\x07",
    "nul\x00",
    "\u202ederewop",
    "line\u2028sep",
    "nel\x85",
    "zero\u200b",
    "=HYPERLINK(1)",
    '"}\nevil_total 99\n#',
    "<script>alert(1)</script>",
)
"""Names that move a cursor, turn text round, end a line, or are code to a spreadsheet, a scraper or a browser."""


def test_hostile_names_do_nothing_wherever_they_are_shown(served: Served) -> None:
    keys = ("gen_ai.conversation.id", "gen_ai.request.model", "gen_ai.provider.name", "gen_ai.agent.name", "user.id")
    for name in HOSTILE:
        span = chat()
        set_attributes(span, {**dict.fromkeys(keys, name), "spanledger.run.id": name})
        served.export(request(span))
    lists = ("sessions?limit=100", "sessions?format=csv", "sessions?format=ndjson", "runs?all=true&format=csv")
    dimensions = ("dimensions/user", "dimensions/agent", "summary", "unpriced")
    for path in ("/metrics", *(f"/api/v1/{path}" for path in (*lists, *dimensions))):
        answer = http_get(f"http://127.0.0.1:{served.api}{path}")
        text = answer.text
        assert answer.status_code == 200
        assert not [char for char in text if not (char.isprintable() or char in "\r\n")], path
        assert not [line for line in text.splitlines() if line.startswith(("=", "evil_total"))], path
        assert not answer.headers["content-type"].startswith("text/html")
    log = (served.config.parent / "spanledger.log").read_text()
    assert "ready" in log
    assert not [char for char in log if not (char.isprintable() or char == "\n")]


PLACES = ("resource", "scope", "event", "link")


def _everywhere(name: str, value: Any) -> ExportTraceServiceRequest:
    """A span, and everything around and inside it that may carry attributes, with a forged one."""
    message = ExportTraceServiceRequest.FromString(request(chat()))
    group = message.resource_spans[0]
    (span,) = group.scope_spans[0].spans
    span.events.add(name="e")
    span.links.add(trace_id=b"l" * 16, span_id=b"l" * 8)
    for holder in (group.resource, group.scope_spans[0].scope, span, span.events[0], span.links[0]):
        pair = holder.attributes.add(key=name)
        if isinstance(value, list):
            pair.value.array_value.values.add(string_value="x")
        elif isinstance(value, dict):
            pair.value.kvlist_value.values.add(key="x").value.int_value = 1
        elif value is not None:
            kind = {bool: "bool", int: "int", float: "double", str: "string", bytes: "bytes"}[type(value)]
            setattr(pair.value, f"{kind}_value", value)
    return message


# Not `True`: a span that says what was decided on it, such as `spanledger.cost.estimate`, forges nothing.
VALUES: tuple[Any, ...] = ("said", 999, -999.0, False, b"raw", [], {}, None)


@pytest.mark.parametrize("protocol", ["grpc", "http", "json"])
def test_every_name_of_the_contract_as_every_type_in_every_place(
    served: Served, backend: Backend, protocol: str
) -> None:
    """On the span it is moved aside; around it nothing is touched, and nothing there counts for anything."""
    before = served.total_usd()
    forged = [_everywhere(name, value) for name in ALL for value in VALUES]
    for start in range(0, len(forged), 64):
        whole = ExportTraceServiceRequest()
        for message in forged[start : start + 64]:
            whole.MergeFrom(message)
        body = whole.SerializeToString()
        if protocol == "grpc":
            served.export(body)
        elif protocol == "http":
            assert served.post(body).status_code == 200
        else:
            assert served.post(to_json("traces", body), content_type="application/json").status_code == 200
        out = ExportTraceServiceRequest.FromString(backend.received[-1])
        for came, left in zip(whole.resource_spans, out.resource_spans, strict=True):
            assert (left.resource, left.scope_spans[0].scope) == (came.resource, came.scope_spans[0].scope)
            (was,), (span,) = came.scope_spans[0].spans, left.scope_spans[0].spans
            assert (span.events, span.links) == (was.events, was.links)
            name = was.attributes[-1].key
            keys = [pair.key for pair in span.attributes]
            assert len([key for key in keys if key.startswith("spanledger.")]) == len(
                {key for key in keys if key.startswith("spanledger.")}
            )
            if name not in NAMES and name != "spanledger.source":
                moved = f"spanledger.forged.{name.removeprefix('spanledger.')}"
                assert moved in keys, (name, was.attributes[-1].value)
                aside = next(pair for pair in span.attributes if pair.key == moved)
                assert aside.value == was.attributes[-1].value
                assert attributes(span)["spanledger.cost.usd"] == pytest.approx(COST, rel=1e-12)
    counted = [message for message in forged if message.resource_spans]
    others = sum(_name(message) == "spanledger.source" for message in counted)  # synthesized: other rules
    spent = served.total_usd() - before
    assert len(counted) > others > 0
    assert (len(counted) - others) * COST <= spent + 1e-9
    assert spent <= len(counted) * COST + 1e-9


def _name(message: ExportTraceServiceRequest) -> str:
    (span,) = spans_of(message)
    return span.attributes[-1].key


def test_on_logs_and_metrics_no_name_counts_for_anything(served: Served, backend: Backend) -> None:
    before = served.total_usd()
    logs = ExportLogsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add(event_name="x")
    metrics = ExportMetricsServiceRequest()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="spanledger.cost.usd")
    point = metric.sum.data_points.add(as_double=999.0)
    for holder in (record, point):
        for name in ALL:
            holder.attributes.add(key=name).value.double_value = 999.0
    for path, body in (("logs", logs.SerializeToString()), ("metrics", metrics.SerializeToString())):
        assert served.post(body, f"/v1/{path}").status_code == 200
        assert backend.received[-1] == body
    assert served.total_usd() == before


def test_a_cursor_of_one_tenant_is_none_of_anothers(guarded: tuple[Served, Backend]) -> None:
    served, _ = guarded
    for tenant in ("one", "two"):
        for number in range(3):
            span = chat()
            set_attributes(span, {"gen_ai.conversation.id": f"{tenant} {number}"})
            assert _post(served, request(span), SHOWN, (TENANT, tenant)) == 200
    url = f"http://127.0.0.1:{served.api}/api/v1"
    for kind in ("sessions", "runs"):
        page = http_get(f"{url}/{kind}?tenant=one&limit=1&all=true"[: None if kind == "runs" else -9], headers=OURS)
        cursor = page.json()["next_cursor"]
        assert cursor
        for tenant, status in (("one", 200), ("two", 400), ("", 400)):
            query = {"tenant": tenant, "cursor": cursor} | ({"all": "true"} if kind == "runs" else {})
            assert http_get(f"{url}/{kind}", params=query, headers=OURS).status_code == status


LIMIT = 256
_LIMITED = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))"
LIMITED = (sys.executable, "-c", f"{_LIMITED}; os.execvp(sys.argv[1], sys.argv[1:])")


def test_connections_that_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    """More of them than the process may open files, at each of its listeners; all are held until the end."""
    with (
        Backend() as backend,
        Served(tmp_path, backend.port, within=LIMITED) as served,
        contextlib.ExitStack() as held,
    ):
        for port, begun in ((served.http, b"POST /v1/tr"), (served.grpc, b""), (served.api, b"GET /liv")):
            for _ in range(LIMIT + 50):
                connection = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
                with contextlib.suppress(OSError):  # this one was ended already
                    connection.sendall(begun)
            assert http_get(f"http://127.0.0.1:{served.api}/livez").status_code == 200
            assert served.post(request(chat())).status_code == 200
        assert "Traceback" not in (served.config.parent / "spanledger.log").read_text()
        assert served.answer("/api/v1/summary")["total"]["calls"] == 3


class _Elsewhere(BaseHTTPRequestHandler):
    """A webhook that sends whoever posts to it on, to an address of its own choice."""

    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(307)
        self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/internal")  # type: ignore[attr-defined]
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Nothing."""


def test_a_webhook_leads_nowhere_else_and_its_secrets_are_not_logged(tmp_path: Path) -> None:
    hook = ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{hook.server_port}/hook?key=secret-of-the-url"
    webhook = {"url": url, "secret": "secret-of-the-signature"}
    more = {"processor": {"budgets": [{"name": "b", "amount": 0.00001, "period": "day", "webhook": webhook}]}}
    with Backend() as backend, Served(tmp_path, backend.port, more, arguments=("--log-level", "debug")) as served:
        served.export(request(chat()))
        eventually(lambda: "answered 307" in (tmp_path / "spanledger.log").read_text())
    hook.shutdown()
    hook.server_close()
    assert set(_Elsewhere.asked) == {"/hook?key=secret-of-the-url"}
    assert "secret-of" not in (tmp_path / "spanledger.log").read_text()


def test_no_secret_stands_in_a_message(guarded: tuple[Served, Backend], tmp_path: Path) -> None:
    served, _ = guarded
    with pytest.raises(RefusedError):
        served.export(request(chat()))
    log = (served.config.parent / "spanledger.log").read_text()
    assert TOKEN not in log
    assert API_TOKEN not in log
    assert json.loads(served.config.read_text())["api"]["auth"]["bearer_token"] == API_TOKEN
