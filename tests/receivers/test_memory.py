"""With a backend that hangs and senders that push, memory stays bounded."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import httpx2
import pytest

from otlp_receivers import PROTOBUF, exporter
from tools.programs import PLAIN

MIB = 1 << 20
BUDGET = 64
REQUEST = 8
SENDERS = 96
SUPPORT = Path(__file__).resolve().parent.parent / "support"
SETTINGS = {
    "max_in_flight_mib": BUDGET,
    "protocols": {"grpc": {"max_recv_msg_size_mib": 16}, "http": {"max_request_body_size": 16 * MIB}},
}


@dataclass
class Receiver:
    """The process under test."""

    process: subprocess.Popen[str]
    ports: dict[str, int]

    def memory(self, name: str) -> float:
        """MiB: VmRSS (now) or VmHWM (the most so far)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Up and idle."""
    command = [sys.executable, str(SUPPORT / "hanging_receiver.py"), json.dumps(SETTINGS)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
    assert process.stdin
    assert process.stdout
    try:
        yield Receiver(process, json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()


async def push_grpc(port: int, compression: grpc.Compression) -> list[grpc.StatusCode]:
    """Requests from four connections at once; how each was answered."""

    async def send(channel: grpc.aio.Channel) -> grpc.StatusCode:
        try:
            await exporter(channel)(bytes(REQUEST * MIB), timeout=5, compression=compression)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"localhost:{port}", options) for _ in range(4)]
    try:
        return await asyncio.gather(*(send(channels[number % 4]) for number in range(SENDERS)))
    finally:
        await asyncio.gather(*(channel.close(None) for channel in channels))


async def push_http(port: int, *, packed: bool) -> list[int]:
    """The same by HTTP, a connection each."""
    body = bytes(REQUEST * MIB)
    headers = {"content-type": PROTOBUF, **({"content-encoding": "gzip"} if packed else {})}
    content = gzip.compress(body) if packed else body
    limits = httpx2.Limits(max_connections=SENDERS)
    async with httpx2.AsyncClient(verify=PLAIN, timeout=httpx2.Timeout(60, read=5), limits=limits) as client:

        async def send() -> int:
            try:
                answer = await client.post(f"http://localhost:{port}/v1/traces", content=content, headers=headers)
            except httpx2.ReadTimeout:
                return 0
            return answer.status_code

        return await asyncio.gather(*(send() for _ in range(SENDERS)))


def check(receiver: Receiver, idle: float) -> None:
    """The budget may stand in memory, and once more what is on its way into it or was just let go of."""
    assert receiver.memory("VmHWM") < idle + 2.5 * BUDGET
    assert SENDERS * REQUEST > 10 * BUDGET


def _check_grpc(codes: list[grpc.StatusCode]) -> None:
    """Beside those told to come back, some may not have got their bytes out in time: that is retryable as well."""
    assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


async def test_grpc_that_is_compressed(receiver: Receiver) -> None:
    idle = receiver.memory("VmRSS")
    codes = await push_grpc(receiver.ports["grpc"], grpc.Compression.Gzip)
    assert grpc.StatusCode.UNAVAILABLE in codes
    _check_grpc(codes)
    check(receiver, idle)


async def test_http_that_is_compressed(receiver: Receiver) -> None:
    idle = receiver.memory("VmRSS")
    codes = await push_http(receiver.ports["http"], packed=True)
    assert set(codes) == {503, 0}  # 0: those that the pipeline holds
    check(receiver, idle)


async def test_both_at_once_share_the_budget(receiver: Receiver) -> None:
    idle = receiver.memory("VmRSS")
    codes, statuses = await asyncio.gather(
        push_grpc(receiver.ports["grpc"], grpc.Compression.NoCompression),
        push_http(receiver.ports["http"], packed=False),
    )
    _check_grpc(codes)
    assert set(statuses) <= {503, 0}
    assert grpc.StatusCode.UNAVAILABLE in codes or 503 in statuses
    check(receiver, idle)
