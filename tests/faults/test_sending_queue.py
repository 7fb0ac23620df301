"""A running server with a queue on disk: killed, full and damaged, and what its destination has in the end."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from backend import Backend
from chats import COST, chat, request
from destinations import nobody
from replays import spans_of
from served import RefusedError, Served
from tools.programs import eventually


def queued(port: int, **more: Any) -> dict[str, Any]:
    """A configuration with one destination behind a queue."""
    destination = {
        "endpoint": f"http://127.0.0.1:{port}",
        "sending_queue": {"enabled": True, "num_consumers": 1, **more},
        "retry_on_failure": {"initial_interval": "10ms", "max_interval": "100ms"},
    }
    return {"exporters": {"otlp_grpc": destination}}


def segments(served: Served, ending: str = "seg") -> list[Path]:
    """The files of its queue, at the place that nothing was configured for."""
    return sorted((served.state / "queue" / "otlp_grpc").glob(f"*.{ending}"))


def test_killed_with_the_destination_away_everything_goes_in_order(tmp_path: Path) -> None:
    """Acknowledged requests survive kill -9, twice, and are counted once."""
    bodies = [request(chat()) for _ in range(30)]
    with Backend() as backend, Served(tmp_path, 1, queued(backend.port)) as served:
        backend.refuse(grpc.StatusCode.UNAVAILABLE)
        for body in bodies[:20]:
            served.export(body)
        served.program.kill()
        served.program.start()
        for body in bodies[20:]:
            served.export(body)
        assert served.metric("spanledger_export_queue_size") == 30
        assert served.metric("spanledger_export_queue_capacity") == 1000
        served.program.kill()
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (served.state / "queue" / "otlp_grpc").iterdir()}
        assert modes == {0o600}
        backend.go_on()
        served.program.start()
        eventually(lambda: served.metric("spanledger_export_queue_size") == 0)
        assert served.metric("spanledger_forwarded_items_total") == 30
        assert served.total_usd() == pytest.approx(30 * COST, rel=1e-9)
        assert [_ids(body) for body in backend.received] == [_ids(body) for body in bodies]


def _ids(body: bytes) -> list[bytes]:
    return [span.span_id for span in spans_of(ExportTraceServiceRequest.FromString(body))]


def test_a_full_queue_is_unavailable_with_retry_info(tmp_path: Path) -> None:
    with nobody() as port, Served(tmp_path, 1, queued(port, queue_size=2)) as served:
        served.export(request(chat()), request(chat()))
        with pytest.raises(RefusedError, match="sending_queue is full") as refused:
            served.export(request(chat()))
        assert refused.value.code is grpc.StatusCode.UNAVAILABLE
        assert refused.value.retry_after == 1.0
        answer = served.post(request(chat()))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert served.metric("spanledger_export_queue_refused_items_total", signal="traces") == 2


def test_a_damaged_queue_is_set_aside_and_the_rest_goes(tmp_path: Path) -> None:
    bodies = [request(chat()) for _ in range(3)]
    with Backend() as backend, Served(tmp_path, 1, queued(backend.port)) as served:
        backend.refuse(grpc.StatusCode.UNAVAILABLE)
        served.export(*bodies)
        served.program.kill()
        (segment,) = segments(served)
        content = bytearray(segment.read_bytes())
        content[-1] ^= 1  # in the last body
        segment.write_bytes(content)
        backend.go_on()
        served.program.start()
        eventually(lambda: len(backend.received) == 2)
        assert [_ids(body) for body in backend.received] == [_ids(body) for body in bodies[:2]]
        assert served.metric("spanledger_export_queue_set_aside_total") == 1
        (aside,) = segments(served, "corrupt")
        assert aside.read_bytes() == bytes(content)
        assert f"it is kept as {aside}" in served.program.log()


def test_workers_have_queues_of_their_own_and_what_they_leave_is_taken_over(tmp_path: Path) -> None:
    """Two workers take requests while the destination is away; then one process runs, and sends what both kept."""
    bodies = [request(chat()) for _ in range(24)]
    with Backend() as backend:
        backend.refuse(grpc.StatusCode.UNAVAILABLE)
        with Served(tmp_path, 1, queued(backend.port), arguments=("--workers", "2")) as served:
            for body in bodies:
                served.export(body)
        assert (served.state / "queue" / "otlp_grpc" / "worker-2").is_dir()
        backend.received.clear()
        backend.go_on()
        with Served(tmp_path, 1, queued(backend.port)) as served:
            eventually(lambda: len(backend.received) == 24)
            assert sorted(map(_ids, backend.received)) == sorted(map(_ids, bodies))
