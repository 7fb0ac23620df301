"""Which spans of a trace are counted: a function of the set of its spans, so that the order of arrival never matters.

The rules, in order (issue 4, facts/genai.md section 9):

1. Usage that only a raw answer inside a span holds stands in where no span of the trace has usage of its own.
2. A span whose call was counted in another trace adds nothing.
3. Spans that report one call (`same`) are counted once: the richest is. Different ids are never one call. A span that
   holds other calls as well is no twin of any.
4. A span with usage that has a descendant with usage repeats it and adds nothing, whatever its own numbers say: a
   remainder would invent calls. Where it holds a single call of equal usage and tells more, it is the one counted.
   Where the links between are not known, containment in time decides for agents.
5. Every other span with usage is counted; one without is, too, as unpriced, unless spans above or below tell it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from spanledger_processor.accounting.grouping import MAX_DEPTH
from spanledger_processor.accounting.same import AGGREGATES, equal_usage, same_call, same_response
from spanledger_processor.accounting.trace import COUNTED, Claim, Span, Trace

REPEATS = "repeats"
DUPLICATE = "duplicate:"
"""Followed by the span id in hex of the span that is counted."""

CONTAINERS = frozenset({"agent", "workflow", "other"})
"""Kinds that may hold calls of which no link tells."""


def roles(trace: Trace) -> dict[bytes, str]:
    """The role of every span that claims usage or cost: COUNTED, REPEATS, DUPLICATE + the counted span's id, or "".

    "" is for a span whose claim says nothing that other spans do not tell.
    """
    claimants = [span for span in trace.spans.values() if span.claim is not None]
    if any(not claim.fallback and claim.spends for claim in _claims(claimants)):
        claimants = [span for span in claimants if span.claim is not None and not span.claim.fallback]
    found = {span.span_id: DUPLICATE + span.twin for span in claimants if span.twin}
    found.update(_twins(trace, [span for span in claimants if not span.twin]))
    repeating = _above(trace, claimants, found)
    for span in claimants:
        if span.span_id not in found:
            found[span.span_id] = REPEATS if span.carries_below or span.span_id in repeating else COUNTED
    _contain(trace, claimants, found)
    _prefer_richer_parents(trace, claimants, found)
    _silence(trace, claimants, found)
    return found


def _claims(spans: Iterable[Span]) -> Iterator[Claim]:
    return (span.claim for span in spans if span.claim is not None)


def richness(span: Span) -> tuple[tuple[bool, int, int], bool, bytes]:
    """How much a span tells of its call; where two tell the same, the one that names a session, then any."""
    claim = span.claim or Claim()
    return claim.richness, bool(span.session.id), span.span_id


def _twins(trace: Trace, claimants: list[Span]) -> dict[bytes, str]:
    """Rule 3: the poorer of spans that report one call."""
    calls = [span for span in claimants if span.kind not in AGGREGATES]
    found: dict[bytes, str] = {}
    by_response: dict[str, list[Span]] = defaultdict(list)
    by_input: dict[int, list[Span]] = defaultdict(list)
    for span in calls:
        if span.response:
            by_response[span.response].append(span)
        if span.claim is not None and span.claim.spends and span.claim.tokens and span.claim.tokens[0]:
            by_input[span.claim.tokens[0]].append(span)
    for response, group in by_response.items():
        if len(group) > 1:
            holding = _above(trace, (span for span in claimants if span.response != response), {})
            found.update(_poorer([span for span in group if span.span_id not in holding]))
    for group in by_input.values():
        if len(group) > 1:
            found.update(_matched(trace, [span for span in group if span.span_id not in found]))
    return found


def _poorer(group: list[Span]) -> Iterator[tuple[bytes, str]]:
    counted: list[Span] = []
    for span in sorted(group, key=richness, reverse=True):
        twin = next((other for other in counted if same_response(span, other)), None)
        if twin is None:
            counted.append(span)
        else:
            yield span.span_id, DUPLICATE + twin.span_id.hex()


def _matched(trace: Trace, group: list[Span]) -> Iterator[tuple[bytes, str]]:
    """Spans with equal usage and without a common id, one to one for each source; parents are rule 4's."""
    counted: list[tuple[Span, set[tuple[str, bool]]]] = []
    for span in sorted(group, key=richness, reverse=True):
        source = (span.scope, span.logged)
        for twin, sources in counted:
            if source not in sources and same_call(span, twin) and not _related(trace, span, twin):
                sources.add(source)
                yield span.span_id, DUPLICATE + twin.span_id.hex()
                break
        else:
            counted.append((span, {source}))


def _related(trace: Trace, one: Span, other: Span) -> bool:
    return other.span_id in ancestors(trace, one) or one.span_id in ancestors(trace, other)


def ancestors(trace: Trace, span: Span) -> Iterator[bytes]:
    """The ids of all ancestors as far as links are known, the nearest first; rings end."""
    parent_id = span.parent_id
    for _ in range(MAX_DEPTH):
        if not parent_id or parent_id == span.span_id:
            return
        yield parent_id
        parent = trace.spans.get(parent_id)
        if parent is None:
            return
        parent_id = parent.parent_id


def _above(trace: Trace, claimants: Iterable[Span], found: dict[bytes, str]) -> set[bytes]:
    """Rule 4: all known ancestors of the spans that spend something; of a duplicate, not its counted twin."""
    above: set[bytes] = set()
    for span in claimants:
        if span.claim is None or not span.claim.spends:
            continue
        twin = found.get(span.span_id, "").removeprefix(DUPLICATE)
        for ancestor in ancestors(trace, span):
            if ancestor in above and not twin:
                break
            if not twin or ancestor.hex() != twin:
                above.add(ancestor)
    return above


def _contain(trace: Trace, claimants: list[Span], found: dict[bytes, str]) -> None:
    """Rule 4 without links: an agent that wholly contains spans that spend and whose ancestors are not known."""
    agents = [span for span in claimants if found[span.span_id] == COUNTED and span.kind in CONTAINERS]
    if not agents:
        return
    loose = [
        span
        for span in claimants
        if span.claim is not None and span.claim.spends and found[span.span_id] != REPEATS and _loose(trace, span)
    ]
    for agent in agents:
        repeats = DUPLICATE + agent.span_id.hex()
        if any(_contains(agent, span) and found[span.span_id] != repeats for span in loose):
            found[agent.span_id] = REPEATS


def _contains(agent: Span, span: Span) -> bool:
    inside = agent.start_ns <= span.start_ns and span.end_ns <= agent.end_ns and agent.span_id != span.span_id
    shorter = span.end_ns - span.start_ns < agent.end_ns - agent.start_ns
    return inside and (shorter or span.kind not in CONTAINERS)


def _loose(trace: Trace, span: Span) -> bool:
    """Whether the way up from a span ends at a parent that is not known."""
    way = list(ancestors(trace, span))
    return bool(way) and way[-1] not in trace.spans


def _prefer_richer_parents(trace: Trace, claimants: list[Span], found: dict[bytes, str]) -> None:
    """Rule 4's exception: a parent that holds one call of equal usage and knows more of it is counted in its place."""
    below: dict[bytes, list[Span]] = defaultdict(list)
    repeating = {span.span_id: span for span in claimants if found[span.span_id] == REPEATS}
    if not repeating:
        return
    for span in claimants:
        if found[span.span_id] == COUNTED and span.claim is not None and span.claim.spends:
            for ancestor in ancestors(trace, span):
                if ancestor in repeating:
                    below[ancestor].append(span)
    for parent_id, calls in sorted(below.items(), key=lambda item: richness(repeating[item[0]]), reverse=True):
        parent, (call, *others) = repeating[parent_id], calls
        if others or found[call.span_id] != COUNTED or parent.carries_below or not _tells_more(parent, call):
            continue
        found[parent_id] = COUNTED
        found[call.span_id] = DUPLICATE + parent_id.hex()


def _tells_more(parent: Span, call: Span) -> bool:
    if parent.claim is None or call.claim is None or not equal_usage(parent.claim, call.claim):
        return False
    return parent.claim.richness[:2] > call.claim.richness[:2] and parent.claim.richness[0] >= call.claim.richness[0]


def _silence(trace: Trace, claimants: list[Span], found: dict[bytes, str]) -> None:
    """Rule 5: a call without usage is told by what is counted above it, or repeats what is below it."""
    for span in claimants:
        if span.claim is None or span.claim.spends or span.claim.tokens:
            continue
        if found[span.span_id] == REPEATS or (
            found[span.span_id] == COUNTED
            and any(found.get(ancestor) == COUNTED for ancestor in ancestors(trace, span))
        ):
            found[span.span_id] = ""
