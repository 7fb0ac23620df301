"""What was counted below a span: the amount that an agent span shows instead of its own."""

from __future__ import annotations

from spanledger_processor.accounting.grouping import MAX_DEPTH
from spanledger_processor.accounting.trace import COUNTED, Trace
from spanledger_processor.units import Pico


def subtrees(trace: Trace, wanted: set[bytes]) -> dict[bytes, Pico]:
    """The counted cost below each of the `wanted` spans, as far as links are known."""
    costs = dict.fromkeys(wanted, 0)
    if not wanted:
        return costs
    for span in trace.spans.values():
        if span.claim is None or span.place is None or span.place.role != COUNTED or not span.claim.amount:
            continue
        above, parent = span, trace.spans.get(span.parent_id)
        for _ in range(MAX_DEPTH):
            if parent is None or parent is above:
                break
            if parent.span_id in costs:
                costs[parent.span_id] += span.claim.amount
            above, parent = parent, trace.spans.get(parent.parent_id)
    return costs
