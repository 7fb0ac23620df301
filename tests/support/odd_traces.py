"""Generated spans of few names, so that whatever may meet does."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ledger_in_memory import make_fact
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.model import USAGE_CLASSES, Cost, Usage
from spanledger_processor.pricing.rate_card import Card

SPANS = 12
CALLS_AGAIN = "openinference.instrumentation.google_genai"
CARD = Card("p", 1, (1,) * (len(USAGE_CLASSES) + 1)).written()


@st.composite
def spans(draw: st.DrawFn, names: int = SPANS) -> list[Fact]:
    """Spans of one trace, or two: parents known and not, rings, equal usage and equal ids, some silent, some plain.

    With fewer `names` than spans, some come again and again, as other spans than the first time.
    """
    model = draw(st.sampled_from(["gpt", "claude"]))
    return [draw(_span(number % names, names, model)) for number in range(draw(st.integers(2, SPANS)))]


@st.composite
def _span(draw: st.DrawFn, number: int, names: int, model: str) -> Fact:
    kind = draw(st.sampled_from(["llm", "llm", "llm", "tool", "agent", "other", ""]))
    more: dict[str, Any] = {"scope": draw(st.sampled_from(["one", "one", "two", CALLS_AGAIN]))}
    if kind == "llm" and draw(st.booleans()):
        more["response_id"] = f"r{draw(st.integers(0, 2 * SPANS))}"
    cost = draw(st.sampled_from([100 + number, 100 + number, 100, None])) if kind not in ("", "tool") else None
    fact = make_fact(
        f"s{draw(st.sampled_from([number, number, number, 0]))}",
        draw(st.sampled_from(["", *(f"s{parent}" for parent in range(names))])),
        kind,
        cost,
        trace=draw(st.sampled_from(["t1", "t1", "t1", "t2"])),
        session=draw(st.sampled_from(["", "", "s", "s", "other"])),
        run=draw(st.sampled_from(["", "", "", "r", "q"])),
        start=draw(st.integers(0, 30)),
        model=model,
        **more,
    )
    if fact.call is not None and fact.call.usage is not None and model == "claude":
        read, write = draw(st.sampled_from([(None, None), (None, None), (50, None), (50, 7), (0, 57)]))
        told = (fact.call.usage.input or 0) + (read or 0) + (write or 0)
        fact.call.usage = Usage(told, 100, cache_read=read, cache_write=write)
    if fact.call is not None and fact.call.usage is not None and draw(st.integers(0, 9)) == 0:
        fact.call.usage, fact.call.fallback = None, fact.call.usage
    if kind == "llm" and fact.call is not None and cost is not None:
        fact.card = draw(st.sampled_from(["", "", CARD]))
        if not fact.card and draw(st.integers(0, 4)) == 0:  # a log event whose model the span above it names
            fact.call.source, fact.call.request_model, fact.cost = "log:x", "", Cost(unpriced="no_model")
    return fact
