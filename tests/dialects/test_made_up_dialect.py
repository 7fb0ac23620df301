"""A new dialect is what CONTRIBUTING.md says: one module in vendors/, and nothing else lists it."""

from __future__ import annotations

import json
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from changed_copies import run_changed

MODULE = '''
"""Acme's tracer."""

from dataclasses import replace

from spanledger_processor.dialects.schema import Detection, Kinds, Precedence
from spanledger_processor.dialects.vendors.otel import OTEL

ACME = replace(
    OTEL,
    name="acme",
    precedence=Precedence.OWN_KEYS,
    rank=99,
    about="Acme's tracer",
    detection=Detection(keys=("acme.call.kind",)),
    kinds=(Kinds("acme.call.kind", {"model": "llm"}),),
)
'''


def _span() -> bytes:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="x", trace_id=b"t" * 16, span_id=b"s" * 8)
    span.start_time_unix_nano, span.end_time_unix_nano = 1_795_000_000_000_000_000, 1_795_000_001_000_000_000
    for key, text in (("acme.call.kind", "model"), ("gen_ai.request.model", "gpt-4o"), ("gen_ai.system", "openai")):
        span.attributes.add(key=key).value.string_value = text
    for key, number in (("gen_ai.usage.input_tokens", 10), ("gen_ai.usage.output_tokens", 5)):
        span.attributes.add(key=key).value.int_value = number
    return request.SerializeToString()


def test_a_module_is_all_there_is_to_a_dialect(tmp_path: Path) -> None:
    """In a copy of the package, with one file more."""
    (tmp_path / "span.binpb").write_bytes(_span())
    files = {"processor/spanledger_processor/dialects/vendors/acme.py": MODULE}
    answer = run_changed(tmp_path, files, "-m", "spanledger_processor.cli", "explain", "span.binpb", "--json")
    (span,) = json.loads(answer)["spans"]
    assert (span["dialect"], span["kind"]) == ("acme", "llm")
