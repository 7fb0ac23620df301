"""The ledger and the metrics list a model under one name; the span keeps the one that came in."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from pipelines import Pipeline
from spanledger_processor.ledger import queries
from spanledger_processor.otlp import json_form

NAMES = ["claude-opus-4-7[1m]", "claude-opus-4-7", "anthropic/claude-opus-4.7", "claude-opus-4-6"]
START = 1_793_620_800 * 10**9


def _span(place: int, model: str) -> dict[str, Any]:
    texts = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.model": model}
    counts = {"input_tokens": 1000 + place, "output_tokens": 100}
    return {
        "traceId": f"{place + 1:032x}",
        "spanId": f"{place + 1:016x}",
        "name": "chat",
        "startTimeUnixNano": str(START + place * 10**12),
        "endTimeUnixNano": str(START + place * 10**12 + 10**9),
        "attributes": [
            *({"key": key, "value": {"stringValue": text}} for key, text in texts.items()),
            *({"key": f"gen_ai.usage.{key}", "value": {"intValue": str(count)}} for key, count in counts.items()),
            {"key": "session.id", "value": {"stringValue": "s"}},
        ],
    }


def test_a_model_has_one_row_however_it_is_spelled() -> None:
    spans = [_span(place, model) for place, model in enumerate(NAMES)]
    scope = {"scope": {"name": "opentelemetry.instrumentation.genai.x"}, "spans": spans}
    body = json_form.to_protobuf("traces", json.dumps({"resourceSpans": [{"scopeSpans": [scope]}]}).encode())
    pipeline = Pipeline()
    pipeline.take([("traces", body)])
    rows = {row["model"]: row for row in pipeline.parts(queries.models)}
    assert set(rows) == {"claude-opus-4-7", "claude-opus-4-6"}
    assert rows["claude-opus-4-7"]["calls"] == 3
    assert sum(Decimal(row["cost_usd_exact"]) for row in rows.values()) == Decimal(pipeline.ledger()["cost_usd_exact"])
    (session,) = [row for row in pipeline.parts(queries.sessions) if row["id"] == "s"]
    assert {row["model"] for row in session["models"]} == {"anthropic/claude-opus-4-7", "anthropic/claude-opus-4-6"}
    assert sorted(reported["gen_ai.request.model"] for reported in pipeline.sent.values()) == sorted(NAMES)
