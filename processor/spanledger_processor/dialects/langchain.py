"""What LangChain's counts look like, whoever passes them on."""

from __future__ import annotations

from spanledger_processor.model import Call


def forget_zero_writes(call: Call) -> None:
    """LangChain leaves the sum of cache writes at 0 where it tells them by time to live: alone, that 0 says nothing."""
    if call.usage is not None and call.usage.cache_write == 0:
        call.usage.cache_write = None
