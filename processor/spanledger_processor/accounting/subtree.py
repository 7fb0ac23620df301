"""What was counted below a span: the amount that an agent span shows instead of its own."""

from __future__ import annotations

from spanledger_processor.accounting.forest import Forest
from spanledger_processor.accounting.trace import Trace
from spanledger_processor.units import Pico


def subtrees(trace: Trace, wanted: set[bytes]) -> dict[bytes, Pico]:
    """The counted cost below each of the `wanted` spans, as far as links are known."""
    if not wanted:
        return {}
    counted = {
        span.span_id: span.claim.amount
        for span in trace.spans.values()
        if span.counted and span.claim is not None and span.claim.amount
    }
    below = Forest(trace.spans).sums_below(counted)
    return {span_id: below.get(span_id, 0) for span_id in wanted}
