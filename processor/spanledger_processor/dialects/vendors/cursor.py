"""Cursor: log events only."""

from __future__ import annotations

from spanledger_processor.dialects.normalize import Input
from spanledger_processor.dialects.schema import LogEvent, Tokens

LOG_EVENTS = (
    LogEvent(
        client="cursor",
        names=("cursor.api.request",),
        operation="chat",
        model=("cursor.api.request.model", "cursor.model.name"),
        session=("cursor.conversation.id",),
        identity=("cursor.event.id",),
        tokens=Tokens(
            input=("cursor.api.request.input_tokens",),
            output=("cursor.api.request.output_tokens",),
            cache_read=("cursor.api.request.cache_read_tokens",),
            cache_write=("cursor.api.request.cache_creation_tokens", "cursor.api.request.cache_write_tokens"),
        ),
        input=Input.UNSURE,
        cost=("cursor.api.request.cost_usd",),
        duration_ms=("cursor.api.request.duration_ms",),
    ),
)
