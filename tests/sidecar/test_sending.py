"""Sending: over real sockets, to endpoints that are down, slow or gone; nothing lost, nothing twice."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from backend import Backend
from mux_homes import bucket, put, usage
from sidecars import SIGNER, Endpoint, KilledError, scan, sidecar, tokens_of
from spanledger_exporters.interface import ACCEPTED, Result, Verdict
from spanledger_sidecar.cursor import Cursor, CursorError
from spanledger_sidecar.loop import Settings, Sidecar, SourceSettings, start
from spanledger_sidecar.sender import otlp

MODEL = "anthropic:claude-x"


def _settings(folder: Path, **more: float) -> Settings:
    return Settings(folder / "state", [SourceSettings("mux", [folder / "mux"])], 0, **more)  # type: ignore[arg-type]


def _spans(bodies: list[bytes]) -> list[Span]:
    requests = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    resources = [group for request in requests for group in request.resource_spans]
    return [span for group in resources for scope in group.scope_spans for span in scope.spans]


def test_what_goes_over_the_wire(tmp_path: Path, own_backend: Backend) -> None:
    """Our ids, and OTEL_EXPORTER_OTLP_* where the command line says nothing."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{own_backend.port}"}
    put(tmp_path / "mux", usage({MODEL: bucket(5, 6, cost=0.5)}))
    recorded = Endpoint()
    scan(tmp_path / "other state", recorded, tmp_path / "mux")
    with Sidecar(_settings(tmp_path), otlp(None, None, environ), SIGNER) as made:
        assert made.once()
    request = ExportTraceServiceRequest.FromString(own_backend.received[0])
    (group,) = request.resource_spans
    assert {item.key: item.value.string_value for item in group.resource.attributes}["service.name"] == "mux"
    assert group.scope_spans[0].scope.name == "spanledger.sidecar"
    (span,) = _spans(own_backend.received)
    assert (span.trace_id, span.span_id) in recorded.spans
    assert span.name == "chat claude-x"
    values = {item.key: item.value for item in span.attributes}
    assert values["gen_ai.usage.input_tokens"].int_value == 5
    assert values["gen_ai.usage.cost"].double_value == 0.5
    assert values["spanledger.source"].string_value == "file:mux"


def test_an_endpoint_that_refuses_gets_it_later(tmp_path: Path, own_backend: Backend) -> None:
    own_backend.refuse(grpc.StatusCode.FAILED_PRECONDITION)
    put(tmp_path / "mux", usage({MODEL: bucket(5, 6)}))
    with Sidecar(_settings(tmp_path), otlp(f"127.0.0.1:{own_backend.port}", "grpc", {}), SIGNER) as made:
        assert not made.once()
        assert made.cursor.waiting() == 1
    own_backend.go_on()
    with Sidecar(_settings(tmp_path), otlp(f"127.0.0.1:{own_backend.port}", "grpc", {}), SIGNER) as made:
        assert made.once()
        assert made.cursor.waiting() == 0
    assert len(_spans(own_backend.received)) == 1


def test_a_request_holds_as_many_spans_as_it_may_the_oldest_first(tmp_path: Path) -> None:
    root = tmp_path / "mux"
    for number in range(3):
        put(root, usage({MODEL: bucket(5, 5)}), workspace=f"w{number}")
    scan(tmp_path / "state", Endpoint(down=True), root)
    with Cursor(tmp_path / "state") as cursor:
        whole = cursor.oldest(100)
        assert len(whole) == cursor.waiting() >= 3
        assert [cursor.oldest(number) for number in (1, 2)] == [whole[:1], whole[:2]]
        assert sorted(key for key, _ in whole) == [key for key, _ in whole]


def test_killed_before_the_answer_it_sends_the_same_again(tmp_path: Path) -> None:
    """Also where the file has grown in the meantime: what was under way is sent as it was, the growth apart."""
    endpoint, root = Endpoint(dies_after=True), tmp_path / "mux"
    put(root, usage({MODEL: bucket(5, 5)}))
    with pytest.raises(KilledError):
        scan(tmp_path / "state", endpoint, root)
    endpoint.dies_after = False
    put(root, usage({MODEL: bucket(8, 8)}))
    scan(tmp_path / "state", endpoint, root)
    assert endpoint.repeats == 1
    assert [tokens_of(span) for span in endpoint.usage()] == [(5, 0, 0, 5, 0), (3, 0, 0, 3, 0)]


def test_killed_while_reading_it_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans and state land together or not at all."""
    endpoint, root = Endpoint(), tmp_path / "mux"
    put(root, usage({MODEL: bucket(5, 5)}))
    with monkeypatch.context() as patched:
        patched.setattr("spanledger_sidecar.cursor.Change.enqueue", _killed)
        with pytest.raises(KilledError):
            scan(tmp_path / "state", endpoint, root)
    scan(tmp_path / "state", endpoint, root)
    assert [tokens_of(span) for span in endpoint.usage()] == [(5, 0, 0, 5, 0)]


def _killed(*_: object) -> None:
    raise KilledError


def test_a_workspace_deleted_while_the_endpoint_is_down_is_not_lost(tmp_path: Path) -> None:
    endpoint, root = Endpoint(down=True), tmp_path / "mux"
    put(root, usage({MODEL: bucket(1, 1)}), workspace="other")
    path = put(root, usage({MODEL: bucket(5, 5)}))
    scan(tmp_path / "state", endpoint, root)
    path.unlink()
    path.parent.rmdir()
    scan(tmp_path / "state", endpoint, root)
    endpoint.down = False
    scan(tmp_path / "state", endpoint, root)
    assert len(endpoint.usage()) == 2
    assert len(endpoint.named("session")) == 1


def test_with_a_full_queue_no_more_is_read(tmp_path: Path) -> None:
    """The files are the buffer then, and memory and disk stay bounded."""
    endpoint, root = Endpoint(down=True), tmp_path / "mux"
    for number in range(450):
        put(root, usage({MODEL: bucket(1, 1)}), workspace=f"w{number:04}")
    settings = Settings(tmp_path / "state", [SourceSettings("mux", [root])], 0, waiting=100)
    with Sidecar(settings, endpoint, SIGNER) as made:
        assert not made.once()
        assert made.cursor.waiting() == 200
        endpoint.down = False
        assert made.once()
    assert len(endpoint.usage()) == 450


def test_two_sidecars_on_one_state_are_one_too_many(tmp_path: Path) -> None:
    with (
        sidecar(tmp_path / "state", Endpoint(), tmp_path / "mux"),
        pytest.raises(CursorError, match="another sidecar uses it"),
    ):
        sidecar(tmp_path / "state", Endpoint(), tmp_path / "mux")


def test_state_is_the_users_alone(tmp_path: Path) -> None:
    put(tmp_path / "mux", usage({MODEL: bucket(5, 5)}))
    scan(tmp_path / "state", Endpoint(), tmp_path / "mux")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state" / "sidecar").iterdir()}
    assert set(modes) == {"data.mdb", "lock.mdb", "lock"}
    assert set(modes.values()) == {0o600}


def test_running_it_follows_the_files(tmp_path: Path) -> None:
    """Without a socket, as in `serve`: what changes arrives, also in a home that is made later, and one that moves."""
    bodies: list[bytes] = []
    arrived = threading.Semaphore(0)

    def post(body: bytes) -> Result:
        bodies.append(body)
        arrived.release()
        return ACCEPTED

    running = start(_settings(tmp_path, tick=0.05, hold_back=0), post, SIGNER)
    try:
        put(tmp_path / "mux", usage({MODEL: bucket(5, 5)}))
        assert arrived.acquire(timeout=60)
        put(tmp_path / "mux", usage({MODEL: bucket(8, 8)}))
        assert arrived.acquire(timeout=60)
        (tmp_path / "mux").rename(tmp_path / "xum")
        (tmp_path / "mux").symlink_to(tmp_path / "xum")
        put(tmp_path / "xum", usage({MODEL: bucket(9, 9)}))
        assert arrived.acquire(timeout=60)
    finally:
        running.close()
    assert len(_spans(bodies)) == 3


def test_running_it_holds_on_through_an_outage(tmp_path: Path) -> None:
    answers = iter([Result(Verdict.RETRYABLE, "not now"), ACCEPTED])
    arrived = threading.Semaphore(0)

    def post(_: bytes) -> Result:
        answer = next(answers)
        if answer is ACCEPTED:
            arrived.release()
        return answer

    put(tmp_path / "mux", usage({MODEL: bucket(5, 5)}))
    running = start(_settings(tmp_path, tick=0.05, hold_back=0), post, SIGNER)
    try:
        assert arrived.acquire(timeout=60)
    finally:
        running.close()
    with sidecar(tmp_path / "state", Endpoint(), tmp_path / "mux") as made:
        assert made.cursor.waiting() == 0
