"""Which spans of a trace are counted: a function of the set of its spans, so that the order of arrival never matters.

The rules, in order (issue 4, `facts` section 9):

1. A span whose response was counted in another trace adds nothing.
2. Two spans that report one provider response (same response id; another scope, or overlapping in time): the richest is
   counted. Different ids are never one call.
3. A span with usage that has a descendant with usage repeats it and adds nothing, whatever its own numbers say: a
   remainder would invent calls. Where the links between are not known, containment in time decides for agents.
4. Every other span with usage is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from spanledger_processor.accounting.trace import Span, Trace
from spanledger_processor.grouping.resolve import MAX_DEPTH

COUNTED = "counted"
REPEATS = "repeats"
DUPLICATE = "duplicate:"
"""Followed by the span id in hex of the span that is counted."""

_AGGREGATES = frozenset({"agent", "workflow", "other"})


def roles(trace: Trace) -> dict[bytes, str]:
    """The role of every span that claims usage or cost: COUNTED, REPEATS, or DUPLICATE + the counted span's id."""
    claimants = [span for span in trace.spans.values() if span.claim is not None]
    found = {span.span_id: DUPLICATE + span.twin for span in claimants if span.twin}
    found.update(_twins(trace, [span for span in claimants if not span.twin]))
    repeating = _above(trace, claimants, found)
    for span in claimants:
        if span.span_id not in found:
            repeats = span.carries_below or span.span_id in repeating
            found[span.span_id] = REPEATS if repeats else COUNTED
    _contain(trace, claimants, found)
    return found


def _twins(trace: Trace, claimants: list[Span]) -> dict[bytes, str]:
    """Rule 2: the poorer of spans that share a response id. One that holds other calls too is no twin of any."""
    found: dict[bytes, str] = {}
    by_response: dict[str, list[Span]] = defaultdict(list)
    for span in claimants:
        if span.response and span.kind not in _AGGREGATES:
            by_response[span.response].append(span)
    for response, group in by_response.items():
        if len(group) > 1:
            holding = _above(trace, (span for span in claimants if span.response != response), {})
            found.update(_poorer([span for span in group if span.span_id not in holding]))
    return found


def _poorer(group: list[Span]) -> Iterable[tuple[bytes, str]]:
    ranked = sorted(group, key=lambda span: (span.claim.richness if span.claim else (0, 0), span.span_id), reverse=True)
    counted: list[Span] = []
    for span in ranked:
        twin = next((other for other in counted if same_response(span, other)), None)
        if twin is None:
            counted.append(span)
        else:
            yield span.span_id, DUPLICATE + twin.span_id.hex()


def same_response(one: Span, other: Span) -> bool:
    """Whether two spans with one response id report one call: some servers reuse an id for every call."""
    return one.scope != other.scope or (one.start_ns <= other.end_ns and other.start_ns <= one.end_ns)


def _above(trace: Trace, claimants: Iterable[Span], found: dict[bytes, str]) -> set[bytes]:
    """Rule 3: all known ancestors of the spans that spend something; of a duplicate, not its counted twin."""
    above: set[bytes] = set()
    for span in claimants:
        if span.claim is None or not span.claim.spends:
            continue
        twin = bytes.fromhex(found.get(span.span_id, "").removeprefix(DUPLICATE))
        parent_id = span.parent_id
        for _ in range(MAX_DEPTH):
            if not parent_id or parent_id in above or parent_id == span.span_id:
                break
            if parent_id != twin:
                above.add(parent_id)
            parent = trace.spans.get(parent_id)
            parent_id = parent.parent_id if parent else b""
    return above


def _contain(trace: Trace, claimants: list[Span], found: dict[bytes, str]) -> None:
    """Rule 3 without links: an agent that wholly contains counted spans whose ancestors are not known."""
    counted = [span for span in claimants if found[span.span_id] == COUNTED]
    agents = [span for span in counted if span.kind in _AGGREGATES]
    if not agents:
        return
    loose = [span for span in counted if span.claim is not None and span.claim.spends and _loose(trace, span)]
    for agent in agents:
        if any(_contains(agent, span) for span in loose):
            found[agent.span_id] = REPEATS


def _contains(agent: Span, span: Span) -> bool:
    inside = agent.start_ns <= span.start_ns and span.end_ns <= agent.end_ns and agent.span_id != span.span_id
    shorter = span.end_ns - span.start_ns < agent.end_ns - agent.start_ns
    return inside and (shorter or span.kind not in _AGGREGATES)


def _loose(trace: Trace, span: Span) -> bool:
    """Whether the way up from a span ends at a parent that is not known."""
    for _ in range(MAX_DEPTH):
        if not span.parent_id:
            return False
        parent = trace.spans.get(span.parent_id)
        if parent is None:
            return True
        span = parent
    return False
