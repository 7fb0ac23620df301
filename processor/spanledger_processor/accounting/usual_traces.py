"""The traces of a batch that may be accounted for as usual calls, by what the batch itself says of them.

Each has usual calls alone (`UsualFact`), with ids of their own, none above another span; plain spans may stand above
and beside them, as long as they name no run. Their calls stand by columns (`UsualColumns`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby
from operator import attrgetter, gt
from typing import Any, NamedTuple

from spanledger_processor.accounting.call_hashes import CallHashes, HashesOfCalls
from spanledger_processor.accounting.columns import Columns, UsualColumns
from spanledger_processor.accounting.facts import Fact
from spanledger_processor.accounting.trace_record import SEGMENT_SPANS
from spanledger_processor.accounting.usual import UsualFact


class UsualTrace(NamedTuple):
    """A trace: the places of its usual calls among those of all such traces, and their indexes in the batch; and the
    plain spans beside them with theirs.
    """

    trace_id: bytes
    places: slice
    indexes: list[int]
    plain: list[Fact]
    of_plain: list[int]

    def moved(self, calls: int, spans: int) -> UsualTrace:
        """Return the same trace behind so many further calls, and so many further spans of a batch."""
        places = slice(self.places.start + calls, self.places.stop + calls)
        of_calls, of_plain = ([index + spans for index in each] for each in (self.indexes, self.of_plain))
        return self._replace(places=places, indexes=of_calls, of_plain=of_plain)


class UsualTraces(NamedTuple):
    """Traces, with the usual calls of all of them, one trace behind the other; and the hashes of these calls, once they
    are worked out.
    """

    traces: Sequence[UsualTrace]
    calls: UsualColumns
    hashes: HashesOfCalls | None = None

    def hashed(self, tenant: bytes) -> HashesOfCalls:
        """Return the hashes of the calls."""
        if self.hashes is not None:
            return self.hashes
        own = self.calls.own
        counts, of_anthropic = zip(*own.counts, strict=True), [form.prototype.of_anthropic for form in self.calls.forms]
        return CallHashes(tenant).of_calls(own.response_ids, counts, own.ends, of_anthropic)

    def only(self, traces: Sequence[UsualTrace]) -> UsualTraces:
        """Return some of the traces with their calls."""
        if len(traces) == len(self.traces):
            return self  # nearly always
        ends = accumulate(len(trace.indexes) for trace in traces)
        moved = [
            trace._replace(places=slice(end - len(trace.indexes), end)) for trace, end in zip(traces, ends, strict=True)
        ]
        return UsualTraces(moved, self.calls.at([trace.places for trace in traces]))

    def apart(self, latest_ns: int) -> UsualTraces:
        """Return the traces whose calls are apart, and end by `latest_ns` and not before they start."""
        own = self.calls.own
        if _are_apart(own, chain.from_iterable(trace.plain for trace in self.traces), latest_ns):
            return self  # nearly always: what holds of all spans holds of those of each trace
        return self.only([trace for trace in self.traces if _are_apart(own.at([trace.places]), trace.plain, latest_ns)])

    def indexes(self) -> Iterator[int]:
        """Yield the index in the batch of each call."""
        return chain.from_iterable(trace.indexes for trace in self.traces)


def usual_traces(facts: Sequence[Fact]) -> UsualTraces | None:
    """Return the traces of a batch that are of usual calls and plain spans; None if there are none."""
    ids = [*map(_trace_id, facts)]
    by_trace: dict[bytes, list[int]] = {}
    for trace_id, side_by_side in groupby(range(len(ids)), ids.__getitem__):
        by_trace.setdefault(trace_id, []).extend(side_by_side)
    traces: list[UsualTrace] = []
    calls: list[UsualFact] = []
    for trace_id, indexes in by_trace.items():
        if len(indexes) > SEGMENT_SPANS:
            continue
        of_trace: list[Any] = [facts[index] for index in indexes]
        kinds = set(map(type, of_trace))
        first = len(calls)
        if kinds == _USUAL:
            calls += of_trace
            traces.append(UsualTrace(trace_id, slice(first, len(calls)), indexes, [], []))
        elif kinds == _MIXED and (parted := _parted(of_trace, indexes)) is not None:
            usual, of_usual, plain, of_plain = parted
            calls += usual
            traces.append(UsualTrace(trace_id, slice(first, len(calls)), of_usual, plain, of_plain))
    return UsualTraces(traces, UsualColumns.of(calls)) if calls else None


_USUAL, _MIXED = {UsualFact}, {UsualFact, Fact}


def _parted(
    facts: Sequence[Fact], indexes: Sequence[int]
) -> tuple[list[UsualFact], list[int], list[Fact], list[int]] | None:
    """Return the usual calls of a trace and its plain spans, each with their indexes; None with another among them, or
    one that names a run.
    """
    usual = [(index, fact) for index, fact in zip(indexes, facts, strict=True) if type(fact) is UsualFact]
    plain = [(index, fact) for index, fact in zip(indexes, facts, strict=True) if type(fact) is Fact]
    if any(fact.call is not None or fact.run.id for _, fact in plain):
        return None
    of_calls, calls = zip(*usual, strict=True)
    of_plain, others = zip(*plain, strict=True)
    return [*calls], [*of_calls], [*others], [*of_plain]


def _are_apart(own: Columns, plain: Iterable[Fact], latest_ns: int) -> bool:
    """Return whether spans and responses have ids of their own, no usual call stands above another span, and the times
    of all can be believed.
    """
    ids, number = set(own.span_ids), len(own.span_ids)
    if not len(ids) == len(set(own.response_ids)) == number or not ids.isdisjoint(own.parent_ids):
        return False
    if max(own.ends) > latest_ns or any(map(gt, own.starts, own.ends)):
        return False
    plain = [*plain]
    others = set(map(_span_id, plain))
    return len(others) == len(plain) and ids.isdisjoint(others) and ids.isdisjoint(map(_parent_id, plain))


_trace_id, _span_id, _parent_id = map(attrgetter, ("trace_id", "span_id", "parent_id"))
