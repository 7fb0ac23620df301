"""OTLP/JSON into protobuf, off the event loop where it is long."""

from __future__ import annotations

import asyncio

from spanledger_exporters.interface import Signal
from spanledger_processor.otlp.json_form import to_protobuf
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.receivers.budget import Claim
from spanledger_processor.receivers.reply import NO_ROOM, RefusedError, rejected

_SHORT = 64 << 10
"""Bytes of JSON that are read in place; longer ones would keep other requests waiting."""


class JsonReader:
    """Reads one long body at a time, since its values take about ten times the room of its text."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def read(self, signal: Signal, text: bytes, claim: Claim) -> tuple[Signal, bytes]:
        """The request as protobuf, and the signal it holds; `claim` then holds its size.

        Raises:
            RefusedError: it is no export request of `signal`, or there is no room for it.
        """
        if not text.strip():
            return signal, b""
        signal = _meant(signal, text)
        try:
            body = await self._convert(signal, text)
        except MalformedError as error:
            raise RefusedError(rejected("malformed", str(error))) from None
        if not claim.settle(len(body)):
            raise RefusedError(NO_ROOM)
        return signal, body

    async def _convert(self, signal: Signal, text: bytes) -> bytes:
        if len(text) <= _SHORT:
            return to_protobuf(signal, text)
        async with self._one:
            return await asyncio.to_thread(to_protobuf, signal, text)


def _meant(signal: Signal, text: bytes) -> Signal:
    """As `mistaken.meant`: traces on the logs path. Their JSON has another first key."""
    if signal == "logs" and b'"resourceSpans"' in text and b'"resourceLogs"' not in text:
        return "traces"
    return signal
