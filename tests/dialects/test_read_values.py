"""Which values of content are read, as a client has to see it: the cases are also those of the component's tests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from clients import left_out
from conversations import any_value
from real_parts import ROOT
from spanledger_processor.dialects import asked_tools
from spanledger_processor.dialects.content import ReadValue, UnreadValue, read_values, unread_values

CASES = json.loads((ROOT / "processor/collector/internal/selection/testdata/read_values.json").read_text())


def _read_value(given: dict[str, Any]) -> ReadValue:
    values: dict[str, Any] = {**given, "markers": tuple(given.get("markers", ()))}
    return ReadValue(**values)


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_a_client_goes_by_the_same_conditions(case: dict[str, Any]) -> None:
    span = Span()
    for key, value in case["attributes"].items():
        span.attributes.add(key=key).value.CopyFrom(any_value(value))
    unread = [UnreadValue(**one) for one in CASES["unread"]]
    read = [_read_value(one) for one in case.get("read", CASES["read"])]
    assert sorted(one.key for one in left_out(span, "", unread, read)) == case["left_out"]


def test_what_is_read_is_content_that_would_be_left_out() -> None:
    keys = {value.key for value in read_values(3)}
    assert keys <= {value.key for value in unread_values()}
    assert {"gen_ai.input.messages", "ai.prompt.messages", "gen_ai.prompt.*.content"} <= keys
    listed = {value.key for value in read_values(3) if value.markers}
    assert listed == {*asked_tools.INPUTS}
