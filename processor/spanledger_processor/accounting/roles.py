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

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TypeAlias

from spanledger_processor.accounting.forest import Forest
from spanledger_processor.accounting.same import AGGREGATES, ONE_CALL, equal_usage, one_call
from spanledger_processor.accounting.trace import COUNTED, Claim, Span, Trace

REPEATS = "repeats"
DUPLICATE = "duplicate:"
"""Followed by the span id in hex of the span that is counted."""

CONTAINERS = frozenset({"agent", "workflow", "other"})
"""Kinds that may hold calls of which no link tells."""

_NEAREST = 32
"""Calls compared with a report, on either side of it in time: of equal counts, a call's own report is the nearest."""
_SOURCES = 16
"""Libraries that report one call, at most."""

Source: TypeAlias = tuple[str, bool]
Call: TypeAlias = list[Span]
"""The reports of one call."""


def roles(trace: Trace) -> dict[bytes, str]:
    """The role of every span that claims usage or cost: COUNTED, REPEATS, DUPLICATE + the counted span's id, or "".

    "" is for a span whose claim says nothing that other spans do not tell.
    """
    claimants = [span for span in trace.spans.values() if span.claim is not None]
    if any(not claim.fallback and claim.spends for claim in _claims(claimants)):
        claimants = [span for span in claimants if span.claim is not None and not span.claim.fallback]
    forest = Forest(trace.spans)
    found = {span.span_id: DUPLICATE + span.twin for span in claimants if span.twin}
    found.update(_twins(forest, [span for span in claimants if not span.twin]))
    repeating = _holding(forest, claimants, found)
    for span in claimants:
        if span.span_id not in found:
            found[span.span_id] = REPEATS if span.carries_below or span.span_id in repeating else COUNTED
    _contain(forest, claimants, found)
    _prefer_richer_parents(forest, claimants, found)
    _silence(forest, claimants, found)
    return found


def _claims(spans: Iterable[Span]) -> Iterator[Claim]:
    return (span.claim for span in spans if span.claim is not None)


def richness(span: Span) -> tuple[tuple[bool, int, int], bool, bytes]:
    """How much a span tells of its call; where two tell the same, the one that names a session, then any."""
    claim = span.claim or Claim()
    return claim.richness, bool(span.session.id), span.span_id


def _twins(forest: Forest, claimants: list[Span]) -> dict[bytes, str]:
    """Rule 3: the poorer of spans that report one call."""
    calls = [span for span in claimants if span.kind not in AGGREGATES]
    found: dict[bytes, str] = {}
    by_response: dict[str, list[Span]] = defaultdict(list)
    for span in calls:
        if span.response:
            by_response[span.response].append(span)
    spending = {span.span_id: 1 for span in claimants if span.claim is not None and span.claim.spends}
    below = forest.sums_below(spending)
    for group in by_response.values():
        if len(group) > 1:
            alone = _without_holders(forest, group, below)
            found.update(_poorer(_by_id(alone)))
    by_counts: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in calls:
        if span.span_id not in found:
            for counts in _counts(span.claim):
                by_counts[counts].append(span)
    for group in by_counts.values():
        if len(group) > 1:
            unpaired = [span for span in group if span.span_id not in found]
            found.update(_poorer(_by_usage(forest, unpaired)))
    return found


def _counts(claim: Claim | None) -> Iterator[tuple[int, int]]:
    """Input and output tokens under which equal usage is looked for: some sources leave reasoning out of the output."""
    if claim is None or not claim.spends or not claim.tokens or not claim.tokens[0]:
        return
    output, reasoning = claim.tokens[1] or 0, claim.tokens[5] or 0
    yield claim.tokens[0], output
    if 0 < reasoning < output:
        yield claim.tokens[0], output - reasoning


def _without_holders(forest: Forest, group: list[Span], below: dict[bytes, int]) -> list[Span]:
    """The spans of a group with one id that hold no other calls that spend."""
    places = sorted(forest.position(span.span_id) for span in group if span.claim is not None and span.claim.spends)

    def holds(span: Span) -> bool:
        first, end = forest.range_below(span.span_id)
        return below.get(span.span_id, 0) > bisect_left(places, end) - bisect_left(places, first)

    return [span for span in group if not holds(span)]


def _poorer(calls: Iterable[Call]) -> Iterator[tuple[bytes, str]]:
    """All reports of each call but the richest one, with the role of a duplicate."""
    for call in calls:
        if len(call) > 1:
            counted = max(call, key=richness)
            repeats = DUPLICATE + counted.span_id.hex()
            yield from ((span.span_id, repeats) for span in call if span is not counted)


def _by_end(span: Span) -> tuple[int, int, bytes]:
    return span.end_ns, span.start_ns, span.span_id


def _by_id(group: list[Span]) -> list[Call]:
    """Put reports with one id together by call, each compared with the calls that ended last before it."""
    calls: list[Call] = []
    for span in sorted(group, key=_by_end):
        for call in islice(reversed(calls), _NEAREST):
            if any(one_call(span, other, one_trace=True) in ONE_CALL for other in islice(reversed(call), _SOURCES)):
                call.append(span)
                break
        else:
            calls.append([span])
    return calls


def _by_usage(forest: Forest, group: list[Span]) -> list[Call]:
    """Put reports with equal counts and no common id together by call, one to one for each source.

    Source by source, each report joins the call nearest in time that has none of its source. Parents are rule 4's.
    """
    by_source: dict[Source, list[Span]] = defaultdict(list)
    for span in group:
        by_source[span.scope, span.logged].append(span)
    calls: list[Call] = []
    for source in sorted(by_source)[:_SOURCES]:
        spans = sorted(by_source.pop(source), key=_by_end)
        calls = sorted(calls + _join(forest, calls, spans), key=lambda call: _by_end(call[0]))
    return calls + [[span] for spans in by_source.values() for span in spans]


def _join(forest: Forest, calls: list[Call], spans: list[Span]) -> list[Call]:
    """Let each of one source's reports join one of `calls`, in order of their ends; return those left alone."""
    free = _Free([call[0].end_ns for call in calls])
    alone: list[Call] = []
    for span in spans:
        place = free.nearest(span.end_ns, partial(_reports, forest, span, calls))
        if place is None:
            alone.append([span])
        else:
            calls[place].append(span)
    return alone


def _reports(forest: Forest, span: Span, calls: list[Call], place: int) -> bool:
    return all(
        one_call(span, told, one_trace=True) in ONE_CALL and not forest.related(span.span_id, told.span_id)
        for told in calls[place]
    )


class _Free:
    """Places in order of time of which each is taken once; no more than twice `_NEAREST` are looked at for one."""

    def __init__(self, times: list[int]) -> None:
        self._times = times
        self._right = list(range(len(times) + 1))
        self._left = list(range(len(times) + 1))
        """For each place, a step towards the nearest free one: `_left` is shifted by one, 0 stands for none."""

    def nearest(self, time: int, fits: Callable[[int], bool]) -> int | None:
        """Take the free place nearest to `time` that fits, and return it."""
        middle = bisect_left(self._times, time)
        left, right = _jump(self._left, middle) - 1, _jump(self._right, middle)
        for _ in range(2 * _NEAREST):
            if left < 0 and right == len(self._times):
                return None
            if left < 0 or (right < len(self._times) and self._times[right] - time <= time - self._times[left]):
                place, right = right, _jump(self._right, right + 1)
            else:
                place, left = left, _jump(self._left, left) - 1
            if fits(place):
                self._right[place] = place + 1
                self._left[place + 1] = place
                return place
        return None


def _jump(steps: list[int], place: int) -> int:
    """Follow `steps` to the one that leads to itself, and shorten the way for the next time."""
    end = place
    while steps[end] != end:
        end = steps[end]
    while steps[place] != end:
        steps[place], place = end, steps[place]
    return end


def _holding(forest: Forest, claimants: list[Span], found: dict[bytes, str]) -> set[bytes]:
    """Rule 4: all spans above others that spend something; of a duplicate, not its counted twin."""
    spending = {span.span_id: 1 for span in claimants if span.claim is not None and span.claim.spends}
    twins: Counter[bytes] = Counter()
    for span_id in spending:
        role = found.get(span_id, "")
        if role and forest.is_above(twin := bytes.fromhex(role.removeprefix(DUPLICATE)), span_id):
            twins[twin] += 1
    return {span_id for span_id, number in forest.sums_below(spending).items() if number > twins[span_id]}


def _contain(forest: Forest, claimants: list[Span], found: dict[bytes, str]) -> None:
    """Rule 4 without links: an agent that wholly contains spans that spend and whose ancestors are not known."""
    agents = [span for span in claimants if found[span.span_id] == COUNTED and span.kind in CONTAINERS]
    if not agents:
        return
    unlinked = forest.unlinked()
    loose = [
        span
        for span in claimants
        if span.span_id in unlinked and span.claim is not None and span.claim.spends and found[span.span_id] != REPEATS
    ]
    calls = _Ends([span for span in loose if span.kind not in CONTAINERS], found)
    others = _Ends([span for span in loose if span.kind in CONTAINERS], found)
    for agent in agents:
        start, end, own = agent.start_ns, agent.end_ns, agent.span_id
        if (
            calls.any_within(start, end, own)
            or others.any_within(start + 1, end, own)
            or others.any_within(start, end - 1, own)
        ):
            found[agent.span_id] = REPEATS


class _Ends:
    """The times of some spans, to ask whether a time wholly contains one of them that does not report a given call."""

    def __init__(self, spans: list[Span], found: dict[bytes, str]) -> None:
        ordered = sorted(spans, key=lambda span: span.start_ns)
        self._starts = [span.start_ns for span in ordered]
        self._first: list[list[tuple[int, bytes]]] = [[]]
        """From the last start back to the first: the two earliest ends from there on, of two different calls."""
        for span in reversed(ordered):
            role = found[span.span_id]
            call = bytes.fromhex(role.removeprefix(DUPLICATE)) if role.startswith(DUPLICATE) else span.span_id
            best: list[tuple[int, bytes]] = []
            for end in sorted([*self._first[-1], (span.end_ns, call)]):
                if len(best) < 2 and all(end[1] != other for _, other in best):
                    best.append(end)
            self._first.append(best)

    def any_within(self, start_ns: int, end_ns: int, but: bytes) -> bool:
        """Return whether one starts at `start_ns` or later and ends at `end_ns` or before, reports of `but` aside."""
        later = len(self._starts) - bisect_left(self._starts, start_ns)
        return any(end <= end_ns and call != but for end, call in self._first[later])


def _prefer_richer_parents(forest: Forest, claimants: list[Span], found: dict[bytes, str]) -> None:
    """Rule 4's exception: a parent that holds one call of equal usage and knows more of it is counted in its place."""
    repeating = [span for span in claimants if found[span.span_id] == REPEATS and not span.carries_below]
    if not repeating:
        return
    calls = {
        span.span_id: span
        for span in claimants
        if found[span.span_id] == COUNTED and span.claim is not None and span.claim.spends
    }
    numbers = forest.sums_below(dict.fromkeys(calls, 1))
    by_place = {forest.position(span_id): span for span_id, span in calls.items()}
    places = sorted(by_place)
    for parent in sorted(repeating, key=richness, reverse=True):
        if numbers.get(parent.span_id) != 1:
            continue
        call = by_place[places[bisect_left(places, forest.position(parent.span_id))]]
        if found[call.span_id] == COUNTED and _tells_more(parent, call):
            found[parent.span_id] = COUNTED
            found[call.span_id] = DUPLICATE + parent.span_id.hex()


def _tells_more(parent: Span, call: Span) -> bool:
    if parent.claim is None or call.claim is None or not equal_usage(parent.claim, call.claim):
        return False
    return parent.claim.richness[:2] > call.claim.richness[:2] and parent.claim.richness[0] >= call.claim.richness[0]


def _silence(forest: Forest, claimants: list[Span], found: dict[bytes, str]) -> None:
    """Rule 5: a call without usage is told by what is counted above it, or repeats what is below it."""
    silent = [span for span in claimants if span.claim is not None and not span.claim.spends and not span.claim.tokens]
    if not silent:
        return
    below = forest.below_any({span.span_id for span in claimants if found[span.span_id] == COUNTED})
    for span in silent:
        if found[span.span_id] == REPEATS or (found[span.span_id] == COUNTED and span.span_id in below):
            found[span.span_id] = ""
