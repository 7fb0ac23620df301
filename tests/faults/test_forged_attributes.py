"""A sender that writes what only Spanledger may write, over every protocol (docs/contract.md#forged-attributes)."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from backend import Backend
from chats import COST, chat, request, set_attributes
from replays import attributes, spans_of
from served import Served
from spanledger_processor.otlp.json_form import to_json


def _send(served: Served, body: bytes, protocol: str) -> None:
    if protocol == "grpc":
        served.export(body)
    elif protocol == "http":
        assert served.post(body).status_code == 200
    else:
        assert served.post(to_json("traces", body), content_type="application/json").status_code == 200


@pytest.mark.parametrize("protocol", ["grpc", "http", "json"])
def test_a_sender_neither_hides_from_the_ledger_nor_adds_to_a_sum(
    served: Served, backend: Backend, protocol: str
) -> None:
    hidden = chat()
    set_attributes(hidden, {"spanledger.kind": "other", "spanledger.cost.usd": -999.0})
    plain = Span(trace_id=b"p" * 16, span_id=b"q" * 8, name="GET /")
    set_attributes(plain, {"spanledger.cost.usd": 999.0})
    before, moved = served.total_usd(), served.metric("spanledger_forged_attributes_total")
    _send(served, request(hidden, plain), protocol)
    reported, of_plain = map(attributes, spans_of(ExportTraceServiceRequest.FromString(backend.received[-1])))
    assert served.total_usd() - before == pytest.approx(COST, rel=1e-9)
    assert reported["spanledger.cost.usd"] == pytest.approx(COST, rel=1e-12)
    assert (reported["spanledger.forged.kind"], reported["spanledger.forged.cost.usd"]) == ("other", -999.0)
    assert of_plain == {"spanledger.forged.cost.usd": 999.0}
    assert served.metric("spanledger_forged_attributes_total") - moved == 3

    returned = backend.received[-1]
    _send(served, returned, protocol)
    assert backend.received[-1] == returned
    assert served.total_usd() - before == pytest.approx(COST, rel=1e-9)
    assert served.metric("spanledger_conflicting_spans_total") == 0
