"""The load generator, a process of its own: `python -m benchmarks.load PORT LOAD SPANS SECONDS FIRST` sends and counts.

`LOAD` is the percentage of GenAI spans, `recorded` or `prompts`; `SPANS` how many a request has.

Closed loop: `IN_FLIGHT` requests are always under way. Prints one line of JSON: spans answered, seconds, failures, and
how many requests it made, so that the next run can go on with ids that were not used.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from contextlib import AsyncExitStack

import grpc
import grpc.aio

from benchmarks.spans import Recorded, Template

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
IN_FLIGHT = 8
CONNECTIONS = 4
"""Senders: workers share a port by connections."""
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
TEMPLATES = 32


async def run(port: int, load: str, spans: int, seconds: float, first: int) -> dict[str, float]:
    """Send for `seconds`; every answer that is not OK counts as a failure."""
    templates = [_template(load, seed, spans) for seed in range(TEMPLATES)]
    numbers = itertools.count(first)
    sent = failed = 0
    async with AsyncExitStack() as open_channels:
        channels = [
            await open_channels.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", _OWN_CONNECTION))
            for _ in range(CONNECTIONS)
        ]
        for channel in channels:
            await channel.channel_ready()
        begin = time.monotonic()

        async def sender(export: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
            nonlocal sent, failed
            while time.monotonic() - begin < seconds:
                number = next(numbers)
                template = templates[number % TEMPLATES]
                try:
                    await export(template.renewed(number), timeout=60)
                    sent += template.spans
                except grpc.aio.AioRpcError:
                    failed += template.spans

        exports = [channel.unary_unary(EXPORT, bytes, bytes) for channel in channels]
        await asyncio.gather(*(sender(exports[number % CONNECTIONS]) for number in range(IN_FLIGHT)))
        taken = time.monotonic() - begin
    return {"spans": sent, "failed": failed, "seconds": taken, "next": next(numbers)}


def _template(load: str, seed: int, spans: int) -> Template | Recorded:
    if load == "recorded":
        return Recorded(seed, spans)
    return Template(100, seed, spans, prompts=True) if load == "prompts" else Template(int(load), seed, spans)


if __name__ == "__main__":
    _, port, load, spans, seconds, first = sys.argv
    print(json.dumps(asyncio.run(run(int(port), load, int(spans), float(seconds), int(first)))))
