"""Measure how long others wait beside the largest legal requests: `python -m benchmarks.fairness [--kinds ...]`.

One `serve` with an exporter that compresses (gzip, the default). One sender sends 100 GenAI spans every 50 ms and
`/livez` is asked as often; beside them each kind of large request is sent by another host, by each protocol. Printed
are the usual time (median, without anything beside it), and the longest time beside each large request: the aim is the
usual time x 2 + 0.3 s, and 0.2 s for `/livez`. Senders and the sink are processes of their own.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.spans import Template
from benchmarks.systems import sink
from tools.programs import Program, eventually, free_port, listens

_LARGEST = 64 * 2**20
_SMALL_SPANS = 100
_PAUSE = 0.05
_QUIET_SECONDS = 4.0
_AGAIN, _BACKOFF_SECONDS = ("UNAVAILABLE", "HTTP 503"), 5.0
_SERVICE = "/opentelemetry.proto.collector."
_METHODS = {
    "traces": f"{_SERVICE}trace.v1.TraceService/Export",
    "logs": f"{_SERVICE}logs.v1.LogsService/Export",
    "metrics": f"{_SERVICE}metrics.v1.MetricsService/Export",
}
_CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
exporters: {{otlp_grpc: {{endpoint: "127.0.0.1:{sink}", compression: {compression}, tls: {{insecure: true}}}}}}
state: {{path: "{folder}/state"}}
api: {{endpoint: "127.0.0.1:{api}"}}
"""


def _attributes(into: Span, values: Mapping[str, str | int]) -> None:
    for key, value in values.items():
        into.attributes.append(KeyValue(key=key))
        if isinstance(value, int):
            into.attributes[-1].value.int_value = value
        else:
            into.attributes[-1].value.string_value = value


def _spans(
    number: int, draw: random.Random, trace: Callable[[], bytes], more: Callable[[int], dict[str, str]]
) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    now = time.time_ns()
    for place in range(number):
        span = scope.spans.add(trace_id=trace(), span_id=draw.randbytes(8), name="chat", kind=3)
        span.start_time_unix_nano, span.end_time_unix_nano = now + place * 1000, now + place * 1000 + 10**9
        usage = {"gen_ai.usage.input_tokens": 100 + place, "gen_ai.usage.output_tokens": 10}
        _attributes(span, {"gen_ai.operation.name": "chat", "gen_ai.response.model": "gpt-4o", **usage, **more(place)})
    return request.SerializeToString()


def _one_trace(draw: random.Random) -> bytes:
    trace = draw.randbytes(16)

    def more(_: int) -> dict[str, str]:
        agent = {"gen_ai.provider.name": "openai", "gen_ai.agent.name": "researcher of many things"}
        ids = {"gen_ai.conversation.id": "one", "gen_ai.response.id": f"r{draw.getrandbits(64):x}"}
        return {**agent, **ids, "server.address": "api.openai.com"}

    return _spans(110_000, draw, lambda: trace, more)


def _many_traces(draw: random.Random) -> bytes:
    return _spans(110_000, draw, lambda: draw.randbytes(16), lambda _: {"gen_ai.conversation.id": "p"})


def _one_run(draw: random.Random) -> bytes:
    """Return calls of a session each, all of one run."""
    return _spans(
        60_000,
        draw,
        lambda: draw.randbytes(16),
        lambda _: {"gen_ai.conversation.id": f"s{draw.getrandbits(64):x}", "run_id": "one"},
    )


def _tools(draw: random.Random) -> bytes:
    """Return tool calls of one trace that carry usage, too."""
    trace = draw.randbytes(16)

    def more(place: int) -> dict[str, str]:
        arguments = json.dumps({"path": f"file-{place}"})
        tool = {"gen_ai.tool.name": "read", "gen_ai.tool.call.arguments": arguments}
        return {"gen_ai.operation.name": "execute_tool", "gen_ai.conversation.id": "one", **tool}

    return _spans(60_000, draw, lambda: trace, more)


def _long_spans(draw: random.Random) -> bytes:
    text = draw.randbytes(4096).hex()
    return _spans(7_700, draw, lambda: draw.randbytes(16), lambda _: {"gen_ai.input.messages": text})


def _one_prompt(draw: random.Random) -> bytes:
    text = draw.randbytes(30 << 20).hex()
    return _spans(1, draw, lambda: draw.randbytes(16), lambda _: {"gen_ai.input.messages": text})


def _messages(draw: random.Random) -> bytes:
    """Return one span whose prompt is a list of many short messages, as JSON."""
    one = {"role": "user", "parts": [{"type": "text", "content": "Say what it does."}]}
    text = json.dumps([one] * 500_000)
    return _spans(1, draw, lambda: draw.randbytes(16), lambda _: {"gen_ai.input.messages": text})


def _arguments(draw: random.Random) -> bytes:
    """Return one tool call whose arguments are a long list, as JSON."""
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"}
    text = json.dumps({"a": ["x"] * 10_000_000})
    return _spans(1, draw, lambda: draw.randbytes(16), lambda _: {**tool, "gen_ai.tool.call.arguments": text})


def _agents(draw: random.Random) -> bytes:
    """Return a chain of agents, each below the one before."""
    trace, ids = draw.randbytes(16), [draw.randbytes(8) for _ in range(30_000)]
    request = ExportTraceServiceRequest.FromString(
        _spans(len(ids), draw, lambda: trace, lambda _: {"gen_ai.operation.name": "invoke_agent"})
    )
    for place, span in enumerate(request.resource_spans[0].scope_spans[0].spans):
        span.span_id, span.parent_span_id = ids[place], ids[place - 1] if place else b""
    return request.SerializeToString()


def _two_libraries(draw: random.Random) -> bytes:
    """Return calls of one trace of equal usage, each told by two libraries."""
    trace = draw.randbytes(16)
    both = [ExportTraceServiceRequest.FromString(_spans(20_000, draw, lambda: trace, lambda _: {})) for _ in range(2)]
    for library, request in enumerate(both):
        request.resource_spans[0].scope_spans[0].scope.name = f"library-{library}"
        for place, span in enumerate(request.resource_spans[0].scope_spans[0].spans):
            span.start_time_unix_nano = 1_790_000_000 * 10**9 + place * 10**7
            span.end_time_unix_nano = span.start_time_unix_nano + 10**9
            for pair in span.attributes:
                if pair.key == "gen_ai.usage.input_tokens":
                    pair.value.int_value = 512
    return b"".join(request.SerializeToString() for request in both)


def _one_call(draw: random.Random) -> bytes:
    """Return reports of one call by 64 libraries, each in a trace of its own."""
    reports = ExportTraceServiceRequest.FromString(
        _spans(20_000, draw, lambda: draw.randbytes(16), lambda _: {"gen_ai.response.id": "chatcmpl-AbCdEf123456789"})
    )
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    scopes = [group.scope_spans.add() for _ in range(64)]
    for number, scope in enumerate(scopes):
        scope.scope.name = f"library-{number}"
    for place, span in enumerate(reports.resource_spans[0].scope_spans[0].spans):
        span.start_time_unix_nano = 1_790_000_000 * 10**9
        span.end_time_unix_nano = span.start_time_unix_nano + 10**9
        for pair in span.attributes:
            if pair.key == "gen_ai.usage.input_tokens":
                pair.value.int_value = 512
        scopes[place % len(scopes)].spans.append(span)
    return request.SerializeToString()


def _mixed(percent: int, draw: random.Random) -> bytes:
    """Return spans of which so many are calls."""
    one = Template(percent, 1, 512)
    body = b""
    while len(body) < _LARGEST - (1 << 20):
        body += one.renewed(draw.randrange(1 << 24))
    return body


def _resources(draw: random.Random) -> bytes:
    """Return spans with a resource for each, as where every agent process is a resource of its own."""
    return b"".join(_spans(1, draw, lambda: draw.randbytes(16), lambda _: {}) for _ in range(60_000))


def _empty(_: random.Random) -> bytes:
    return b"\x0a\x00" * 262_000


def _logs(draw: random.Random) -> bytes:
    """Return records of a client whose log events become spans."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    request.resource_logs[0].resource.attributes.add(key="service.name").value.string_value = "claude-code"
    scope.scope.name = "com.anthropic.claude_code.events"
    for _ in range(120_000):
        record = scope.log_records.add(time_unix_nano=time.time_ns())
        record.body.string_value = "claude_code.api_request"
        values: dict[str, str] = {
            "event.name": "api_request", "session.id": f"s{draw.randrange(50)}", "model": "claude-sonnet-4-5",
            "input_tokens": str(draw.randrange(10**5)), "output_tokens": "10", "cost_usd": "0.01", "duration_ms": "900",
            "request_id": f"req_{draw.getrandbits(64):x}",
        }  # fmt: skip
        for key, value in values.items():
            record.attributes.add(key=key).value.string_value = value
    return request.SerializeToString()


def _metrics(draw: random.Random) -> bytes:
    request = ExportMetricsServiceRequest()
    points = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m").gauge.data_points
    for _ in range(1_500_000):
        points.add(time_unix_nano=time.time_ns(), as_int=draw.randrange(10**6), start_time_unix_nano=1)
    return request.SerializeToString()


KINDS: Mapping[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "one trace of 110,000 calls": ("traces", _one_trace),
    "110,000 calls, a trace each": ("traces", _many_traces),
    "60,000 sessions of one run": ("traces", _one_run),
    "60,000 tool calls of one trace": ("traces", _tools),
    "7,700 calls with prompts of 8 KiB": ("traces", _long_spans),
    "one prompt of 60 MiB": ("traces", _one_prompt),
    "one prompt of 500,000 messages": ("traces", _messages),
    "arguments of 50 MB": ("traces", _arguments),
    "a chain of 30,000 agents": ("traces", _agents),
    "20,000 equal calls told by two libraries": ("traces", _two_libraries),
    "20,000 traces that tell of one call": ("traces", _one_call),
    "60,000 calls, a resource each": ("traces", _resources),
    "262,000 empty resources": ("traces", _empty),
    "63 MiB of plain spans": ("traces", partial(_mixed, 0)),
    "63 MiB of spans, 10 % calls": ("traces", partial(_mixed, 10)),
    "120,000 log events that are calls": ("logs", _logs),
    "1,500,000 data points": ("metrics", _metrics),
}
WAYS = ("grpc", "grpc+gzip", "http", "http+gzip", "json")


def _as_json(signal: str, body: bytes) -> bytes:
    kinds: dict[str, Any] = {
        "traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest, "metrics": ExportMetricsServiceRequest,
    }  # fmt: skip
    message = MessageToDict(kinds[signal].FromString(body))
    for group in message.get("resourceSpans", ()):
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in span:
                        span[key] = base64.b64decode(span[key]).hex()
    return json.dumps(message, separators=(",", ":")).encode()


def _send(signal: str, body: bytes, way: str, ports: Mapping[str, int]) -> str:
    if way.startswith("grpc"):
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        compression = grpc.Compression.Gzip if way.endswith("gzip") else grpc.Compression.NoCompression
        with grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}", options, compression) as channel:
            try:
                channel.unary_unary(_METHODS[signal], bytes, bytes)(body, timeout=120)
            except grpc.RpcError as error:
                return f"{error.code().name} {error.details()}"[:120]
            return "OK"
    headers = {"content-type": "application/json" if way == "json" else "application/x-protobuf"}
    if way.endswith("gzip"):
        headers["content-encoding"] = "gzip"
    request = urllib.request.Request(f"http://127.0.0.1:{ports['http']}/v1/{signal}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return "OK" if answer.status == 200 else str(answer.status)
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code} {error.read()[:80]!r}"


def _big_sender(pipe: Connection, ports: Mapping[str, int]) -> None:
    """Make large requests and send them, as a process of its own."""
    for number in range(1 << 20):
        signal, kind, way = pipe.recv()
        body = KINDS[kind][1](random.Random(time.time_ns() + number))
        if way == "json":
            body = _as_json(signal, body)
        size = len(body)
        if way == "http+gzip":
            body = gzip.compress(body, 1)
        pipe.send(size)
        pipe.recv()
        began = time.monotonic()
        answer = "(more than 64 MiB)"
        while size <= _LARGEST and (answer := _send(signal, body, way, ports)).startswith(_AGAIN):
            time.sleep(_BACKOFF_SECONDS)  # it is worked on: the next kind must not run beside it
        pipe.send((answer, time.monotonic() - began))


def _small_sender(pipe: Connection, ports: Mapping[str, int]) -> None:
    """Send 100 spans at a time, as a process of its own; tells the times since it was last asked."""
    template, number, times = Template(100, 3, _SMALL_SPANS), os.getpid() * 7, list[float]()
    with grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        export = channel.unary_unary(_METHODS["traces"], bytes, bytes)
        while True:
            began = time.monotonic()
            try:
                export(template.renewed(number % (1 << 24)), timeout=60)
                times.append(time.monotonic() - began)
            except grpc.RpcError as error:
                print("small:", error.code(), error.details(), file=sys.stderr)
            number += 1
            if pipe.poll(_PAUSE):
                pipe.recv()
                pipe.send(times)
                times = []


def _asker(pipe: Connection, ports: Mapping[str, int]) -> None:
    """Ask for /livez, as a process of its own."""
    times = list[float]()
    while True:
        began = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['api']}/livez", timeout=60) as answer:
            answer.read()
        times.append(time.monotonic() - began)
        if pipe.poll(_PAUSE):
            pipe.recv()
            pipe.send(times)
            times = []


def _started(
    target: Callable[[Connection, Mapping[str, int]], None], ports: Mapping[str, int], ending: ExitStack
) -> Connection:
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=target, args=(theirs, ports), daemon=True)
    process.start()
    ending.callback(process.kill)
    return mine


def _told(pipe: Connection) -> list[float]:
    pipe.send(None)
    times: list[float] = pipe.recv()
    return times


def main() -> None:
    """Print a line a kind and way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", nargs="+", help="parts of their names; default: all")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--compression", default="gzip", help="of the exporter")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="where the state is made; a disk, no tmpfs")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as name:
        folder = Path(name).absolute()
        end = sink(folder)
        end.start()
        ports = {"grpc": free_port(), "http": free_port(), "api": free_port(), "sink": end.port}
        config = folder / "config.yaml"
        config.write_text(_CONFIG.format(**ports, folder=folder, compression=options.compression))
        command = [sys.executable, "-m", "spanledger_processor.cli", "serve", "--config", str(config)]
        serve = Program("serve", command, folder, lambda: None, {"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
        serve.start()
        eventually(lambda: listens(ports["grpc"]))
        try:
            _measure(options, ports, serve)
        finally:
            serve.stop()
            end.stop()


def _measure(options: argparse.Namespace, ports: Mapping[str, int], serve: Program) -> None:
    with ExitStack() as ending:
        _compare(options, serve, *(_started(target, ports, ending) for target in (_small_sender, _asker, _big_sender)))


def _compare(
    options: argparse.Namespace, serve: Program, small: Connection, livez: Connection, big: Connection
) -> None:
    time.sleep(1.0)
    for kind, (signal, _) in KINDS.items():
        if options.kinds and not any(part in kind for part in options.kinds):
            continue
        for way in options.ways:
            big.send((signal, kind, way))
            size = big.recv()
            _told(small)
            _told(livez)
            time.sleep(_QUIET_SECONDS)
            usual, quiet = _told(small), _told(livez)
            big.send(None)
            answer, seconds = big.recv()
            time.sleep(0.3)
            beside, alive = _told(small), _told(livez)
            bound = 2 * statistics.median(usual) + 0.3
            print(
                f"{kind:42} {way:9} {size / 2**20:5.1f} MiB {seconds:6.2f} s  usual {statistics.median(usual):.3f} "
                f"(longest {max(usual):.3f}), beside {max(beside):.3f} of {bound:.3f} s; livez {max(quiet):.3f}, "
                f"{max(alive):.3f} of 0.200 s; {serve.memory_mib('VmHWM'):.0f} MiB  {answer}",
                flush=True,
            )


if __name__ == "__main__":
    main()
