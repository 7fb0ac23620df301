"""A delivery of a test's own, by what takes a whole request: parts are as many requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from spanledger_exporters.interface import Result, Signal, Verdict, combined


class InParts:
    """Delivers parts of a request through `deliver`, and ends at the first that is not taken now."""

    def __init__(self, deliver: Callable[..., Awaitable[Result]], signal: Signal, request_id: bytes) -> None:
        self._deliver = deliver
        self._signal = signal
        self._request_id = request_id
        self._results: list[Result] = []

    async def deliver(self, body: bytes, deadline: float, items: int) -> bool:
        number = len(self._results)
        part_id = self._request_id + (number.to_bytes(4, "big") if number else b"")
        result = await self._deliver(self._signal, part_id, body, deadline, items)
        self._results.append(result)
        return result.verdict is not Verdict.RETRYABLE

    def end(self) -> Result:
        if len(self._results) == 1:
            return self._results[0]
        return combined({f"part {number}": result for number, result in enumerate(self._results)})
