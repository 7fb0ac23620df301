"""No file of the ledger holds a text that a recording brought: prompts, answers, arguments and results of tools."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from captures import Capture, captures
from pipelines import Pipeline

_TYPES: dict[str, Any] = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}
_WORDS = 4
"""A text of so many words is content: names and ids have fewer."""


def test_after_every_recording(tmp_path: Path) -> None:
    texts = {text for capture in captures() for text in _texts_of(capture)}
    assert len(texts) > 100
    pipeline = Pipeline(tmp_path / "state")
    for capture in captures():
        pipeline.take(capture.requests)
    assert pipeline.ledger()["calls"] > 100
    pipeline.store.close()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) > 2**16
    assert [text for text in texts if text.encode() in written] == []


def _texts_of(capture: Capture) -> Iterator[str]:
    for signal, body in capture.requests:
        if signal in _TYPES:
            yield from _texts(MessageToDict(_TYPES[signal].FromString(body)))


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value, also in JSON that stands in a text."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif isinstance(value, str):
        if value[:1] in ("{", "["):
            with contextlib.suppress(ValueError):
                yield from _texts(json.loads(value))
        if len(value.split()) >= _WORDS:
            yield value
