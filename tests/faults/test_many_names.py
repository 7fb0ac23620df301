"""Names come from the network: however many there are, memory and metrics stay bounded."""

from __future__ import annotations

import pytest

from backend import Backend
from chats import chat, request, set_attributes
from served import Served

NAMES = 50_000
WARM = 20_000
SPANS = 1000
GROWTH_MIB = 30
"""Far more than caches with a bound need, far less than one record in memory for every name would take (1 KiB)."""


def _requests(first: int) -> list[bytes]:
    bodies = []
    for begin in range(first, first + NAMES, SPANS):
        spans = [chat() for _ in range(SPANS)]
        for number, span in enumerate(spans, start=begin):
            set_attributes(span, {"gen_ai.request.model": f"model-{number}", "gen_ai.conversation.id": f"s-{number}"})
        bodies.append(request(*spans))
    return bodies


@pytest.mark.timeout(400)
def test_fifty_thousand_models_and_sessions(served: Served, backend: Backend) -> None:
    """Memory grows while buffers and caches fill, and no more after that; labels end at "other"."""
    requests = _requests(0)
    served.export(*requests[: WARM // SPANS])
    warm = served.program.memory_mib()
    served.export(*requests[WARM // SPANS :])
    assert served.program.memory_mib() < warm + GROWTH_MIB
    assert served.metric("spanledger_unpriced_spans_total", reason="unknown_model") == NAMES
    assert served.metric("spanledger_genai_spans_total") == NAMES
    scraped = served.scrape()
    assert len(scraped) < 200_000
    assert f"model-{NAMES - 1}" not in scraped
