"""A running server that sends each team's resources to that team's backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from backend import Backend
from chats import COST, chat, request
from served import RefusedError, Served


def of_team(team: str) -> bytes:
    """A request with one resource."""
    message = ExportTraceServiceRequest.FromString(request(chat()))
    attribute = KeyValue(key="team", value=AnyValue(string_value=team))
    message.resource_spans[0].resource.attributes.append(attribute)
    return message.SerializeToString()


def teams(backend: Backend) -> list[str]:
    """What arrived, in order."""
    return [
        attribute.value.string_value
        for body in backend.received
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for attribute in group.resource.attributes
        if attribute.key == "team"
    ]


def to(backend: Backend, team: str | None, **more: Any) -> dict[str, Any]:
    return {"endpoint": f"http://127.0.0.1:{backend.port}", "match": {"team": team}, **more}


def test_each_team_has_a_backend_and_answers_of_its_own(tmp_path: Path) -> None:
    once = {"retry_on_failure": {"enabled": False}}
    with Backend() as everything, Backend() as payments, Backend() as search:
        exporters = {
            "otlp_grpc/payments": to(payments, "payments", **once),
            "otlp_grpc/search": to(search, "search", **once),
        }
        with Served(tmp_path, everything.port, {"exporters": exporters}) as served:
            served.export(of_team("payments") + of_team("search") + of_team("payments"), of_team("other"))
            assert [teams(backend) for backend in (everything, payments, search)] == [
                ["payments", "search", "payments", "other"],
                ["payments", "payments"],
                ["search"],
            ]
            search.refuse(grpc.StatusCode.UNAVAILABLE)
            served.export(of_team("payments"))  # needs nothing of search
            with pytest.raises(RefusedError, match="otlp_grpc/search: UNAVAILABLE"):
                served.export(of_team("search") + of_team("payments"))
            assert served.metric("spanledger_forwarded_items_total", exporter="otlp_grpc/payments") == 4
            assert served.metric("spanledger_unclaimed_items_total") == 0
            assert served.total_usd() == pytest.approx(7 * COST, rel=1e-9)


def test_what_nobody_matches_is_counted_and_warned_of(tmp_path: Path) -> None:
    with Backend() as backend:
        exporters = {"otlp_grpc": {"match": {"team": "payments"}}}
        with Served(tmp_path, backend.port, {"exporters": exporters}) as served:
            served.export(of_team("payments") + of_team("search"), of_team("search"))
            assert teams(backend) == ["payments"]
            assert served.metric("spanledger_unclaimed_items_total", signal="traces") == 2
            assert "no exporter's match takes some spans, which are accepted and go nowhere: 1" in served.program.log()
