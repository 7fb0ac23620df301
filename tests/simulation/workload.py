"""What senders have to send: recordings and generated traces, mixed, cut into requests at random, with their bill.

The bill of a recording is its model server's log, that of a generated trace the list of calls it was made from; both
are priced by genai-prices. Neither knows the accounting under test.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from genai_prices import Usage, calc_price
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from captures import Capture, Request, captures, one_by_one
from chats import set_attributes
from gaps import reported_calls

TENANT_KEY = "simulation.tenant"
"""The resource attribute by which the configuration tells tenants apart."""

START_NS = 1_796_500_000 * 10**9
"""When a run begins: after every recording."""

_SESSIONS_AT_ONCE = 100
_MODELS = (("openai", "gpt-4o-mini"), ("openai", "gpt-4.1"), ("anthropic", "claude-sonnet-4-5"))


@dataclass
class Bill:
    """What one tenant's ledger must come to: money in 1e-12 USD, calls, and tokens of input and output."""

    cost: int = 0
    calls: int = 0
    input: int = 0
    output: int = 0

    def add(self, cost: Decimal, tokens: tuple[int, int]) -> None:
        """One more call; `cost` in USD."""
        self.cost += round(cost * 10**12)
        self.calls += 1
        self.input += tokens[0]
        self.output += tokens[1]

    def extend(self, other: Bill) -> None:
        """Other calls on top of these."""
        self.cost += other.cost
        self.calls += other.calls
        self.input += other.input
        self.output += other.output


@dataclass
class Workload:
    """Requests by sender, and the bill by tenant."""

    senders: list[list[Request]] = field(default_factory=list)
    bills: dict[str, Bill] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)


def make(rng: random.Random, tenants: Sequence[str], senders: int) -> Workload:
    """Draw a workload: each recording or generated trace belongs to one tenant, its spans to any senders."""
    work = Workload([[] for _ in range(senders)], {tenant: Bill() for tenant in tenants})
    singles: list[Request] = []
    for tenant in tenants:
        for capture in rng.sample(captures(), rng.randint(1, 4)):
            singles += _of_capture(capture, tenant, work)
        for number in range(rng.randint(0, 3)):
            singles += _generated(rng, f"{tenant}{number}", tenant, work)
        singles += _logs(rng, tenant)
    if rng.random() < 0.5:
        rng.shuffle(singles)
    for sender, share in zip(work.senders, _shares(rng, singles, senders), strict=True):
        sender += cut(rng, share, rng.choice((1, 5, 50)))
    return work


def later(rng: random.Random, tenants: Sequence[str], senders: int, now_ns: int) -> Workload:
    """Draw generated traces of another time."""
    work = Workload([[] for _ in range(senders)], {tenant: Bill() for tenant in tenants})
    singles = [
        request
        for tenant in tenants
        for number in range(2)
        for request in _generated(rng, f"{tenant} later {number}", tenant, work, now_ns)
    ]
    for sender, share in zip(work.senders, _shares(rng, singles, senders), strict=True):
        sender += cut(rng, share, 10)
    return work


def sessions(rng: random.Random, tenants: Sequence[str], name: str, now_ns: int) -> Workload:
    """Draw a few requests of one sender, with a session of its own for each call."""
    work = Workload([[]], {tenant: Bill() for tenant in tenants})
    for tenant in tenants:
        for number in range(_SESSIONS_AT_ONCE):
            call = _Call(rng, number, now_ns - 60 * 10**9)
            work.bills[tenant].add(call.cost, (call.input, call.output))
            message = ExportTraceServiceRequest()
            group = message.resource_spans.add().scope_spans.add()
            group.scope.name = "simulation.one"
            group.spans.append(call.span(_Ids(rng), b"", f"{name} {number}"))
            work.senders[0].append(_of_tenant(("traces", message.SerializeToString()), tenant))
    work.senders[0] = cut(rng, work.senders[0], 50)
    return work


def _of_capture(capture: Capture, tenant: str, work: Workload) -> list[Request]:
    work.sources.append(f"{tenant or 'default'}: {capture.name}")
    for call in reported_calls(capture):
        work.bills[tenant].add(round(call.cost, 12), (call.tokens["input"], call.tokens["output"]))
    return [_of_tenant(request, tenant) for request in one_by_one(capture.requests)]


def _of_tenant(request: Request, tenant: str) -> Request:
    if not tenant:
        return request
    signal, body = request
    message: Any = ExportLogsServiceRequest() if signal == "logs" else ExportTraceServiceRequest()
    message.ParseFromString(body)
    for group in message.resource_logs if signal == "logs" else message.resource_spans:
        group.resource.attributes.add(key=TENANT_KEY).value.string_value = tenant
    return signal, message.SerializeToString()


def _shares(rng: random.Random, singles: list[Request], senders: int) -> list[list[Request]]:
    """Each request to a sender: stretches of them, so that a trace may come from several."""
    shares: list[list[Request]] = [[] for _ in range(senders)]
    at = 0
    while at < len(singles):
        length = rng.randint(1, 40)
        rng.choice(shares).extend(singles[at : at + length])
        at += length
    return shares


def cut(rng: random.Random, singles: Sequence[Request], most: int) -> list[Request]:
    """Requests of up to `most` items each; encoded messages concatenate."""
    requests: list[Request] = []
    for signal, body in singles:
        if requests and requests[-1][0] == signal and rng.random() < 1 - 1 / most:
            requests[-1] = signal, requests[-1][1] + body
        else:
            requests.append((signal, body))
    return requests


def _logs(rng: random.Random, tenant: str) -> Iterator[Request]:
    """Log records that report no call, some of them equal."""
    for number in range(rng.randint(0, 5)):
        message = ExportLogsServiceRequest()
        record = message.resource_logs.add().scope_logs.add().log_records.add()
        record.body.string_value = f"{tenant} line {number // 2}"
        yield "logs", message.SerializeToString()


def _generated(rng: random.Random, name: str, tenant: str, work: Workload, now_ns: int = START_NS) -> Iterator[Request]:
    """An agent with steps and calls: told once or by two libraries, with sums above them or without."""
    work.sources.append(f"{tenant or 'default'}: generated {name}")
    ids = _Ids(rng)
    scope = rng.choice(("one", "two"))
    begin = now_ns - 3600 * 10**9 + rng.randrange(10**9)
    calls = [_Call(rng, number, begin + number * 20 * 10**9) for number in range(_length(rng))]
    if rng.random() < 0.2:  # the same prompt again and again: only their ids tell these calls apart
        calls = [call.like(calls[0]) for call in calls]
    end = begin + len(calls) * 20 * 10**9
    agent = ids.span("invoke_agent", b"", begin, end)
    set_attributes(agent, {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": f"conversation {name}"})
    if rng.random() < 0.5:
        _sum(agent, calls)
    spans = [(scope, agent)]
    for call in calls:
        work.bills[tenant].add(call.cost, (call.input, call.output))
        parent = agent
        if rng.random() < 0.5:
            parent = ids.span("step", agent.span_id, call.start, call.start + 15 * 10**9)
            if rng.random() < 0.5:
                set_attributes(parent, {"gen_ai.operation.name": "invoke_workflow"})
                if rng.random() < 0.5:
                    _sum(parent, [call])
            spans.append((scope, parent))
        first = call.span(ids, parent.span_id, name)
        spans.append((scope, first))
        if rng.random() < 0.4:  # a second library, inside the first one's span or beside it
            other = "two" if scope == "one" else "one"
            spans.append((other, call.span(ids, rng.choice((parent.span_id, first.span_id)), name)))
        if rng.random() < 0.3:
            spans.append((scope, _tool(rng, ids, agent.span_id, call.start + 10**9)))
    for library, span in spans:
        message = ExportTraceServiceRequest()
        group = message.resource_spans.add().scope_spans.add()
        group.scope.name = f"simulation.{library}"
        group.spans.append(span)
        yield _of_tenant(("traces", message.SerializeToString()), tenant)


def _length(rng: random.Random) -> int:
    """How many calls a trace has: few, sometimes many."""
    return rng.randint(200, 400) if rng.random() < 0.02 else rng.randint(1, 12)


class _Ids:
    """Spans of one trace."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._trace_id = rng.randbytes(16)

    def span(self, name: str, parent: bytes, start: int, end: int) -> Span:
        return Span(
            name=name,
            trace_id=self._trace_id,
            span_id=self._rng.randbytes(8),
            parent_span_id=parent,
            start_time_unix_nano=start,
            end_time_unix_nano=end,
        )


class _Call:
    """One response of a model, and the spans that tell it."""

    def __init__(self, rng: random.Random, number: int, start: int) -> None:
        self.provider, self.model = rng.choice(_MODELS)
        self.input, self.output = rng.randint(100, 50_000) * 20 + number, rng.randint(1, 3000)
        self.start = start
        self.response_id = f"resp_{rng.getrandbits(64):x}"

    @property
    def cost(self) -> Decimal:
        """What genai-prices asks for it, in USD."""
        usage = Usage(input_tokens=self.input, output_tokens=self.output)
        return round(calc_price(usage, self.model, provider_id=self.provider).total_price, 12)

    def like(self, other: _Call) -> _Call:
        """This call with the model and the tokens of another."""
        self.provider, self.model, self.input, self.output = other.provider, other.model, other.input, other.output
        return self

    def span(self, ids: _Ids, parent: bytes, agent: str) -> Span:
        span = ids.span(f"chat {self.model}", parent, self.start, self.start + 10**9)
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.model,
            "gen_ai.response.id": self.response_id,
            "gen_ai.usage.input_tokens": self.input,
            "gen_ai.usage.output_tokens": self.output,
            "gen_ai.conversation.id": f"conversation {agent}",
        }
        set_attributes(span, attributes)
        return span


def _sum(span: Span, calls: Sequence[_Call]) -> None:
    usage = {
        "gen_ai.provider.name": calls[0].provider,
        "gen_ai.request.model": calls[0].model,
        "gen_ai.usage.input_tokens": sum(call.input for call in calls),
        "gen_ai.usage.output_tokens": sum(call.output for call in calls),
    }
    set_attributes(span, usage)


def _tool(rng: random.Random, ids: _Ids, parent: bytes, start: int) -> Span:
    span = ids.span("execute_tool", parent, start, start + 10**8)
    arguments = f'{{"path": "file {rng.randint(1, 3)}"}}'
    set_attributes(
        span,
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": rng.choice(("read", "write")),
            "gen_ai.tool.call.arguments": arguments,
        },
    )
    return span
