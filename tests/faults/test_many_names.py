"""Names come from the network: however many there are, memory and metrics stay bounded."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chats import chat, request, set_attributes
from configurations import loaded
from spanledger_processor.server.app import running
from tools.programs import http_client

WARM = 9_000
"""Names that fill every cache: the largest has room for 8,192."""
MORE = 3_000
SPANS = 250
"""A request."""
ROUND, MOST_ROUNDS = 1_000, 10
"""Names between two times that the ledger joins models, and some more: it keeps 512 to 1,024 apart of a day. How often
memory is looked at over so many before it counts as grown.
"""
CONFIGURATION = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:0"}}}}}}}}
exporters: {{file: {{path: "{folder}/spans.jsonl"}}}}
state: {{path: "{folder}/state", durability: sync}}
api: {{endpoint: "127.0.0.1:0"}}
"""


def _requests(names: range) -> Iterator[bytes]:
    for begin in names[::SPANS]:
        spans = [chat() for _ in range(SPANS)]
        for number, span in enumerate(spans, start=begin):
            set_attributes(span, {"gen_ai.request.model": f"model-{number}", "gen_ai.conversation.id": f"s-{number}"})
        yield request(*spans)


async def test_models_and_sessions_without_end(tmp_path: Path) -> None:
    """Allocations grow while caches fill, and no more after that; labels end at "other".

    Counted are the interpreter's blocks of memory, in the test's own process: how fast it runs changes nothing.
    """
    async with (
        running(loaded(CONFIGURATION.format(folder=tmp_path))) as server,
        http_client(headers={"content-type": "application/x-protobuf"}) as client,
    ):

        async def send(names: range) -> None:
            for body in _requests(names):
                answer = await client.post(f"http://{server.addresses['OTLP/HTTP']}/v1/traces", content=body)
                assert answer.status_code == 200, answer.text

        async def least(begin: int) -> int:
            """Count behind each request of a round of names: least is held when the ledger has joined models."""
            counts = []
            for names in (range(at, at + SPANS) for at in range(begin, begin + ROUND, SPANS)):
                await send(names)
                await client.get(f"http://{server.addresses['API']}/livez")
                gc.collect()
                counts.append(sys.getallocatedblocks())
            return min(counts)

        await send(range(WARM))
        most = await least(WARM) + MORE // 4  # one for every fourth name
        sent = WARM + ROUND + MORE
        await send(range(WARM + ROUND, sent))
        for _ in range(MOST_ROUNDS):
            sent += ROUND
            if await least(sent - ROUND) <= most:
                break
        else:
            pytest.fail("memory grows with names")
        scraped = (await client.get(f"http://{server.addresses['API']}/metrics")).text
    assert f'spanledger_unpriced_spans_total{{reason="unknown_model"}} {sent}.0' in scraped
    assert len(scraped) < 200_000
    assert f"model-{sent - 1}" not in scraped
