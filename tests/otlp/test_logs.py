"""Log requests as they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otlp_bytes import files, message, name_of, value_of, values, values_of
from spanledger_processor.otlp.request import count_log_records, parse_logs
from spanledger_processor.otlp.views import LogView
from spanledger_processor.otlp.wire import MalformedError


@pytest.mark.parametrize("path", files("logs"), ids=name_of)
def test_recorded_records_read_as_protobuf_reads_them(path: Path) -> None:
    body = path.read_bytes()
    published = ExportLogsServiceRequest.FromString(body)
    groups = iter(parse_logs(body))
    for outer in published.resource_logs:
        for scoped in outer.scope_logs:
            group = next(groups)
            assert (group.scope_name, group.scope_version) == (scoped.scope.name, scoped.scope.version)
            assert values(group.resource_attributes) == values_of(outer.resource.attributes)
            for encoded, record in zip(group.items, scoped.log_records, strict=True):
                same_record(LogView.parse(encoded), record)
                assert LogView.parse(encoded).raw == encoded
    assert next(groups, None) is None
    assert count_log_records(body) == sum(len(s.log_records) for r in published.resource_logs for s in r.scope_logs)


def same_record(view: LogView, record: LogRecord) -> None:
    assert (view.time_ns, view.observed_ns) == (record.time_unix_nano, record.observed_time_unix_nano)
    assert (view.severity_number, view.event_name) == (record.severity_number, record.event_name)
    assert (view.trace_id, view.span_id, view.body) == (record.trace_id, record.span_id, value_of(record.body))
    assert values(view.attributes) == values_of(record.attributes)


def test_a_record_without_fields() -> None:
    view = LogView.parse(b"")
    assert (view.time_ns, view.observed_ns, view.severity_number, view.event_name, view.body) == (0, 0, 0, "", None)
    assert (view.trace_id, view.span_id) == (b"", b"")


def test_a_broken_record_passes_with_its_request_and_is_refused_when_it_is_read() -> None:
    groups = parse_logs(message(1, message(2, message(2, b"\x2a\x05"), message(2, message(12, b"event")))))
    broken, whole = groups[0].items
    assert LogView.parse(whole).event_name == "event"
    with pytest.raises(MalformedError, match="log record"):
        LogView.parse(broken)


def test_text_that_is_not_utf_8_shows_replacement_characters() -> None:
    view = LogView.parse(message(12, b"\xff") + message(5, message(1, b"\xfe")))
    assert (view.event_name, view.body) == ("�", "�")
