"""A sender that is beyond its limits is told to come back, and loses nothing."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from backend import Backend
from chats import chat, request, set_attributes
from served import RefusedError, Served


def test_what_is_beyond_a_limit_is_retryable_by_both_protocols_and_counted(tmp_path: Path) -> None:
    more = {"processor": {"rate_limits": {"sessions": 2}}}
    with Backend() as backend, Served(tmp_path, backend.port, more) as served:

        def of(session: str) -> bytes:
            span = chat()
            set_attributes(span, {"session.id": session})
            return request(span)

        served.export(of("1"), of("2"), of("1"))
        with pytest.raises(RefusedError) as refused:
            served.export(of("3"))
        assert refused.value.code is grpc.StatusCode.UNAVAILABLE
        assert refused.value.retry_after is not None
        answer = served.post(of("3"))
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert served.metric("spanledger_rate_limited_requests_total", limit="sessions") == 2
        assert len(backend.received) == 3
        assert served.answer("/api/v1/summary")["total"]["calls"] == 3


def test_workers_share_a_limit(tmp_path: Path) -> None:
    """Each connection comes to any of them, and has what is left of the minute for all."""
    more = {"processor": {"rate_limits": {"requests": 3}}}
    with Backend() as backend, Served(tmp_path, backend.port, more, arguments=("--workers", "2")) as served:
        statuses = [served.post(request(chat())).status_code for _ in range(12)]
        assert statuses == [200] * 3 + [503] * 9
        assert len(backend.received) == 3
