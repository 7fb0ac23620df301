"""Recorded requests of real libraries (tests/data/otlp), cut and ordered in every way, with the truth beside them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from genai_prices import Usage, calc_price
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from spanledger_exporters.interface import Signal
from spanledger_processor.otlp.json_form import to_protobuf
from spanledger_processor.receivers.driver import detect_signal

FOLDER = Path(__file__).resolve().parent.parent / "data" / "otlp"
Request: TypeAlias = tuple[Signal, bytes]
Order: TypeAlias = Callable[[Sequence[Request]], list[Request]]

TOKENS = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning")

SELLERS = {"gemini": "google", "bedrock": "aws", "vertex": "google"}
"""What genai-prices calls the model servers of the recordings, where it calls them otherwise."""


@dataclass(frozen=True)
class Call:
    """One response of the model server, in the convention's sense."""

    provider: str
    model: str
    time: float
    tokens: dict[str, int]

    @property
    def cost(self) -> Decimal:
        """What genai-prices asks for it."""
        t = self.tokens
        usage: dict[str, Any] = {"input_tokens": t["input"], "output_tokens": t["output"]}
        if t["cache_read"]:
            usage["cache_read_tokens"] = t["cache_read"]
        if t["cache_write"]:
            usage["cache_write_tokens"] = t["cache_write"]
        if t["cache_write_1h"]:
            usage["cache_write_1h_tokens"] = t["cache_write_1h"]
        found = calc_price(
            Usage(**usage),
            self.model,
            provider_id=SELLERS.get(self.provider, self.provider),
            genai_request_timestamp=datetime.fromtimestamp(self.time, UTC),
        )
        return found.total_price


@dataclass(frozen=True)
class Capture:
    """One recording: requests in the order they arrived (protobuf), and what the model server billed."""

    name: str
    requests: tuple[Request, ...] = field(repr=False)
    truth: dict[str, Any] = field(repr=False)

    @property
    def sent(self) -> list[Request]:
        """All requests by the signal that they hold, those of metrics last: no call is counted from them."""
        requests: list[Request] = [(detect_signal(signal, body), body) for signal, body in self.requests]
        metrics = sorted((FOLDER / self.name).glob("*.metrics.binpb"))
        return [*requests, *(("metrics", path.read_bytes()) for path in metrics)]

    @property
    def calls(self) -> list[Call]:
        """What was billed: a status other than 200 billed nothing."""
        return [_call(call) for call in self.truth["calls"] if call["status"] == 200]

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens billed, by class."""
        return {name: sum(call.tokens[name] for call in self.calls) for name in TOKENS}

    @property
    def bytes(self) -> bytes:
        """Everything that the client sent, for looking whether something is in it at all."""
        return b"".join(body for _, body in self.requests)


def _call(call: dict[str, Any]) -> Call:
    write = call["cache_write_5m"] + call["cache_write_1h"]
    tokens = {
        "input": call["uncached_input"] + call["cache_read"] + write,
        "output": call["output_total"],
        "cache_read": call["cache_read"],
        "cache_write": write,
        "cache_write_1h": call["cache_write_1h"],
        "reasoning": call["reasoning"],
    }
    return Call(call["provider"], call["response_model"] or call["request_model"], call["time"], tokens)


@cache
def captures() -> tuple[Capture, ...]:
    """All recordings, by name."""
    return tuple(_capture(path.parent) for path in sorted(FOLDER.glob("*/*/truth.json")))


def _capture(folder: Path) -> Capture:
    requests: list[Request] = []
    for path in sorted(folder.iterdir()):
        _, _, rest = path.name.partition(".")
        signal, _, form = rest.partition(".")
        if path.name == "truth.json" or signal == "metrics":
            continue
        body = path.read_bytes()
        requests.append((signal, body if form == "binpb" else to_protobuf(signal, body)))  # type: ignore[arg-type]
    truth = json.loads((folder / "truth.json").read_text())
    return Capture(f"{folder.parent.name}/{folder.name}", tuple(requests), truth)


def one_by_one(requests: Sequence[Request]) -> list[Request]:
    """One span, or one log record, a request."""
    return [single for request in requests for single in _singles(request)]


def all_at_once(requests: Sequence[Request]) -> list[Request]:
    """All spans in one request, all log records in another, in the order in which each signal came first."""
    merged: dict[Signal, bytes] = {}
    for signal, body in requests:
        merged[signal] = merged.get(signal, b"") + body  # encoded messages concatenate
    return list(merged.items())


def backwards(requests: Sequence[Request]) -> list[Request]:
    """The last span first, one a request."""
    return one_by_one(requests)[::-1]


def twice(requests: Sequence[Request]) -> list[Request]:
    """Each request, and at once again, as a sender does that missed the answer."""
    return [request for request in requests for _ in range(2)]


def shuffled(seed: int) -> Order:
    """One span a request, in an order drawn from `seed`."""

    def order(requests: Sequence[Request]) -> list[Request]:
        singles = one_by_one(requests)
        random.Random(seed).shuffle(singles)
        return singles

    return order


def _singles(request: Request) -> Iterator[Request]:
    signal, body = request
    if signal == "logs":
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    logs = ExportLogsServiceRequest()
                    outer = logs.resource_logs.add(resource=resource.resource)
                    outer.scope_logs.add(scope=scope.scope).log_records.add().CopyFrom(record)
                    yield signal, logs.SerializeToString()
        return
    for spans in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scoped in spans.scope_spans:
            for span in scoped.spans:
                traces = ExportTraceServiceRequest()
                group = traces.resource_spans.add(resource=spans.resource)
                group.scope_spans.add(scope=scoped.scope).spans.add().CopyFrom(span)
                yield signal, traces.SerializeToString()


_NUMBER = re.compile(r"(?<![\w.-])\d+(?![\w.-])")


def numbers_in(capture: Capture) -> set[int]:
    """All numbers that a recording shows, as values or as words of their own in texts (JSON, Python's repr, prose).

    They tell what is missing from what was not found.
    """
    found: set[int] = set()
    for signal, body in capture.requests:
        request = ExportLogsServiceRequest if signal == "logs" else ExportTraceServiceRequest
        for value in _values(request.FromString(body)):
            found |= _numbers(value)
    return found


def _values(message: Message) -> Iterator[Any]:
    if isinstance(message, AnyValue):
        kind = message.WhichOneof("value")
        if kind in ("string_value", "int_value", "double_value"):
            yield getattr(message, kind)
            return
    for reported, content in message.ListFields():
        if reported.message_type is None:
            continue
        for inner in content if reported.is_repeated else (content,):
            yield from _values(inner)


def _numbers(value: Any) -> set[int]:
    if isinstance(value, str):
        return {int(number) for number in _NUMBER.findall(value)[:10_000]}
    return {int(value)} if value == int(value) else set()
