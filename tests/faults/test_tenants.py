"""Whose data it is: no header that comes twice, none that is missing, and no resource in a header's place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from backend import Backend
from chats import chat, request
from served import TRACES, Served
from tools.programs import http_post

HEADER = "x-scope-orgid"


def _of(team: str) -> bytes:
    message = ExportTraceServiceRequest.FromString(request(chat()))
    for key in ("team", HEADER, f"header:{HEADER}"):
        message.resource_spans[0].resource.attributes.add(key=key).value.string_value = team
    return message.SerializeToString()


def _by_http(served: Served, body: bytes, tenants: Sequence[str]) -> bool:
    headers = [("content-type", "application/x-protobuf"), *((HEADER, tenant) for tenant in tenants)]
    answer = http_post(f"http://127.0.0.1:{served.http}/v1/traces", content=body, headers=headers)
    assert answer.status_code in (200, 400)
    return answer.status_code == 200


def _by_grpc(served: Served, body: bytes, tenants: Sequence[str]) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc}") as channel:
        export = channel.unary_unary(TRACES, bytes, bytes)
        try:
            export(body, timeout=60, metadata=tuple((HEADER, tenant) for tenant in tenants))
        except grpc.RpcError as error:
            call: Any = error
            assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
            return False
    return True


@pytest.mark.parametrize("send", [_by_http, _by_grpc])
def test_a_request_that_has_to_name_its_tenant_by_a_header(tmp_path: Path, send: Any) -> None:
    tenant = {"keys": [f"header:{HEADER}", "team"], "required": True}
    with Backend() as backend, Served(tmp_path, backend.port, {"processor": {"tenant": tenant}}) as served:
        assert send(served, _of("victim"), ["mine"])
        for wrong in ([], [""], ["mine", "victim"], ["mine", "mine"], ["mine,victim"]):
            assert not send(served, _of("victim"), wrong), wrong
        assert len(backend.received) == 1


@pytest.mark.parametrize("send", [_by_http, _by_grpc])
def test_what_names_no_tenant_or_two_has_one_of_its_own_where_it_is_let_in(tmp_path: Path, send: Any) -> None:
    tenant = {"keys": [f"header:{HEADER}"], "default": "unnamed"}
    with Backend() as backend, Served(tmp_path, backend.port, {"processor": {"tenant": tenant}}) as served:
        for tenants in (["mine"], [], ["mine", "victim"]):
            assert send(served, _of("victim"), tenants)
        listed = served.answer("/api/v1/tenants")["tenants"]
        assert sorted(row["calls"] for row in listed) == [1, 2]
        calls = {
            name: served.answer(f"/api/v1/summary?tenant={name}")["total"]["calls"] for name in ("mine", "unnamed")
        }
        assert calls == {"mine": 1, "unnamed": 2}
