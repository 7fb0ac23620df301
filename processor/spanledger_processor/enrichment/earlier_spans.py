"""Plain spans that came before the first GenAI span of their trace: what they link and name, bounded by bytes.

Which plain spans matter is known once their trace has a GenAI span of their tenant. So until then of each is kept what
the rules of sessions, runs and agents look at: its three ids, and all of it where it may name a session or run. The
oldest of the tenant that holds most go first, so that a flood of one takes nothing from another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from operator import add, sub
from typing import TypeAlias

from spanledger_processor.accounting.facts import Fact
from spanledger_processor.enrichment.names import Names
from spanledger_processor.enrichment.plain_spans import NO_NAMES, ROLES, PlainSpans, link
from spanledger_processor.enrichment.span_slice import MOST, SPAN_ID, TRACE_ID, SpanSlice, trace_of
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.otlp.values import GIANT
from spanledger_processor.otlp.wire import MalformedError

NAMING_BYTES, LINKING_BYTES, UNREAD_BYTES = 8 << 20, 4 << 20, 8 << 20
"""Kept at most of spans that name a session or run, of those that only link others, and of requests not yet read."""
UNREAD_REQUEST = 1 << 20
"""Bytes of the largest request that is kept without being read: it is read in one go."""
_PARENT_ID = b"\x22\x08"
"""Tag and length of the parent's id, which libraries write behind the two others, the Collector before them."""
_TRACE_STATE = 0x1A
_HEAD = 38
"""Bytes of the three ids with their tags."""
_TRACE_IDS = [slice(at + 2, at + 18) for at in range(0, MOST * _HEAD, _HEAD)]
"""Where the trace ids of heads stand."""
_BLOCK_BYTES, _TRACE_BYTES, _PLACE_BYTES = 768, 128, 16
"""About what a block takes beside its spans, each of its traces, and where a span of it begins and ends."""
_RANK_BYTES = 1 << 16
"""Tenants that hold as many of these hold as much."""
_REQUEST_BYTES = 2048
"""About what an unread request takes beside its bytes, and what its headers tell."""
_LONGEST = 1 << 20
"""Bytes of spans that are kept as one; of more each is kept for itself, without what stands between them."""

UnreadRequest: TypeAlias = tuple[bytes, Mapping[str, str]]
"""The bytes and headers of a request."""


_UNREADABLE = Fact(b"", b"")


class _Block(ABC):
    """Plain spans of one resource."""

    __slots__ = ("hash", "resource", "size", "tenant", "traces")

    def __init__(self, tenant: str, resource: Names, size: int, traces: set[bytes]) -> None:
        self.tenant, self.hash, self.resource, self.traces = tenant, tenant_hash(tenant), resource, traces
        self.size = _BLOCK_BYTES + size + sum(len(text) for _, text in resource.ranked.values())
        """About how many bytes it takes beside its traces."""

    @abstractmethod
    def facts(self, trace_id: bytes, reader: PlainSpans, /) -> Iterator[Fact]:
        """Yield what the spans of a trace link and name."""


class _Heads(_Block):
    """Spans that only link others, `heads` of them: in that of a root something else stands in the parent's place."""

    __slots__ = ("_heads",)

    def __init__(self, tenant: str, resource: Names, heads: bytes) -> None:
        self._heads = heads
        traces = set(map(heads.__getitem__, _TRACE_IDS[: len(heads) // _HEAD]))
        super().__init__(tenant, resource, len(heads), traces)

    def facts(self, trace_id: bytes, _: PlainSpans, /) -> Iterator[Fact]:
        """See `_Block`."""
        key, heads = TRACE_ID + trace_id, self._heads
        at = heads.find(key)
        while at >= 0:
            if at % _HEAD == 0:
                parent = heads[at + 30 : at + _HEAD] if heads.startswith(_PARENT_ID, at + 28) else b""
                yield link(Fact(trace_id, heads[at + 20 : at + 28], parent), NO_NAMES, self.resource)
            at = heads.find(key, at + 1)


class _Whole(_Block):
    """Spans that may name a session or run: the bytes in which they stand, and where in these each begins and ends.

    Of a request that they are most of all of it is kept, as it came: to copy them would take longer than to cut out
    what is asked for.
    """

    __slots__ = ("_ends", "_first", "_spans", "_starts")

    def __init__(
        self, tenant: str, resource: Names, body: bytes, starts: Sequence[int], ends: Sequence[int], traces: set[bytes]
    ) -> None:
        is_most = 2 * (ends[-1] - starts[0]) >= len(body)
        self._first = 0 if is_most else starts[0]
        """Where the bytes begin in the request; the others by that, too."""
        self._spans = body if is_most else body[self._first : ends[-1]]
        self._starts, self._ends = array("L", starts), array("L", ends)
        super().__init__(tenant, resource, len(self._spans) + _PLACE_BYTES * len(starts), traces)

    def facts(self, trace_id: bytes, reader: PlainSpans, /) -> Iterator[Fact]:
        """See `_Block`."""
        first, last = self._first, self._ends[-1] - self._first
        at = self._spans.find(trace_id, self._starts[0] - first, last)
        while at >= 0:
            place = bisect_right(self._starts, at + first) - 1
            start, end = self._starts[place] - first, self._ends[place] - first
            if at < end:
                try:
                    fact = reader.fact(self._spans[start:end], self.resource)
                except MalformedError:
                    fact = _UNREADABLE  # it went on as it came, and costs the request read now nothing
                if fact.trace_id == trace_id:
                    yield fact
            at = self._spans.find(trace_id, max(at + 1, end), last)


class _Blocks:
    """Blocks by trace, `most` bytes of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._of_trace: dict[bytes, _Block | dict[_Block, None]] = {}
        """Most traces have one; of several each is found at once, however many requests brought spans of a trace."""
        self._of_tenant: dict[str, deque[tuple[int, _Block]]] = {}
        self._sizes: Counter[str] = Counter()
        self._ranks: dict[int, OrderedDict[str, None]] = {}
        """Tenants by how many times `_RANK_BYTES` they hold: of many it is found at once which holds most."""

    def __bool__(self) -> bool:
        return bool(self._of_trace)

    def of(self, trace_id: bytes, tenant: bytes) -> Sequence[_Block]:
        """Return those of a trace that are kept now, in order: of one tenant, by its hash, or of all."""
        found = self._of_trace.get(trace_id)
        blocks = (found,) if isinstance(found, _Block) else tuple(found or ())
        return blocks if not tenant else [block for block in blocks if block.hash == tenant]

    def add(self, block: _Block) -> None:
        of_trace, traces = self._of_trace, block.traces
        if of_trace.keys().isdisjoint(traces):
            of_trace.update(dict.fromkeys(traces, block))
        else:
            for trace_id in traces:
                known = of_trace.setdefault(trace_id, block)
                if isinstance(known, dict):
                    known[block] = None
                elif known is not block:
                    of_trace[trace_id] = {known: None, block: None}
        size = block.size + _TRACE_BYTES * len(traces)
        self._of_tenant.setdefault(block.tenant, deque()).append((size, block))
        self._resize(block.tenant, size)
        while self._size > self._most:
            self._drop(next(iter(self._ranks[max(self._ranks)])))

    def forget(self, trace_id: bytes, tenant: bytes) -> None:
        for block in self.of(trace_id, tenant):
            block.traces.discard(trace_id)
            self._remove(trace_id, block)

    def _drop(self, tenant: str) -> None:
        """Let go of the oldest block of a tenant."""
        blocks = self._of_tenant[tenant]
        size, block = blocks.popleft()
        self._resize(tenant, -size)
        if not blocks:
            del self._of_tenant[tenant]
        for trace_id in block.traces:
            self._remove(trace_id, block)

    def _remove(self, trace_id: bytes, block: _Block) -> None:
        known = self._of_trace[trace_id]
        if isinstance(known, dict) and len(known) > 1:
            del known[block]
        else:
            del self._of_trace[trace_id]

    def _resize(self, tenant: str, by: int) -> None:
        """Note that a tenant holds so much more."""
        self._size += by
        before = self._sizes[tenant]
        after = self._sizes[tenant] = before + by
        old, new = before // _RANK_BYTES, after // _RANK_BYTES
        if before and (old != new or not after):
            ranked = self._ranks[old]
            del ranked[tenant]
            if not ranked:
                del self._ranks[old]
        if not after:
            del self._sizes[tenant]
        elif not before or old != new:
            self._ranks.setdefault(new, OrderedDict())[tenant] = None


class EarlierSpans:
    """Plain spans whose trace has no GenAI span of their tenant yet, as far as they were kept. `reader` makes facts of
    them.
    """

    def __init__(self, reader: PlainSpans) -> None:
        self._reader = reader
        self._naming, self._linking = _Blocks(NAMING_BYTES), _Blocks(LINKING_BYTES)
        self._unread: deque[tuple[int, UnreadRequest]] = deque()
        self._unread_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._naming or self._linking)

    def keep_unread(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Keep a request of plain spans as it came, for as long as no trace is known to have GenAI spans: to read it
        would cost more than to let it pass. Return whether it is small enough.
        """
        if len(body) > UNREAD_REQUEST:
            return False
        size = _REQUEST_BYTES + len(body) + sum(len(key) + len(text) for key, text in headers.items())
        self._unread.append((size, (body, headers)))
        self._unread_bytes += size
        while self._unread_bytes > UNREAD_BYTES:
            self.next_unread()
        return True

    def next_unread(self) -> UnreadRequest | None:
        """Return the oldest request that was kept as it came, which is kept no more; None: there is none."""
        if not self._unread:
            return None
        size, request = self._unread.popleft()
        self._unread_bytes -= size
        return request

    def add(self, tenant: str, spans: SpanSlice, resource: Names, *, may_name: bool) -> None:
        """Keep the spans of a slice, of one resource. If they `may_name` a session or run, they are kept whole: to look
        for those that do would take longer.
        """
        body, starts, ends = spans.items.body, spans.starts, spans.ends
        if not may_name:
            heads, odd = _heads(body, starts, ends)
            names = _kept_names(resource)
            self._enter(self._naming if names.ranked else self._linking, _Heads(tenant, names, heads))
            for start, end in odd:
                self._keep_whole(tenant, body, (start,), (end,), resource, trace_of(body[start:end]))
        elif ends[-1] - starts[0] <= _LONGEST and not _has_giant(starts, ends):
            self._keep_whole(tenant, body, starts, ends, resource, spans.traces())
        else:
            for place, start, end in zip(spans.places, starts, ends, strict=True):
                one = SpanSlice(spans.items, (place,))
                if end - start <= GIANT:
                    self._keep_whole(tenant, body, (start,), (end,), resource, one.traces())
                else:
                    self.add(tenant, one, resource, may_name=False)

    def _keep_whole(
        self,
        tenant: str,
        body: bytes,
        starts: Sequence[int],
        ends: Sequence[int],
        resource: Names,
        traces: set[bytes],
    ) -> None:
        self._enter(self._naming, _Whole(tenant, _kept_names(resource), body, starts, ends, traces))

    def _enter(self, blocks: _Blocks, block: _Block) -> None:
        if block.traces:
            blocks.add(block)

    def facts(self, trace_id: bytes, tenant: bytes = b"") -> Iterator[tuple[str, Fact]]:
        """Yield what is kept of a trace's spans, each with its tenant: of one tenant, by its hash, or of all."""
        for blocks in (self._linking, self._naming):
            for block in blocks.of(trace_id, tenant):
                for fact in block.facts(trace_id, self._reader):
                    yield block.tenant, fact

    def has(self, trace_id: bytes, tenant: bytes) -> bool:
        """Return whether anything of a trace is kept: of one tenant, by its hash, or of any."""
        return bool(self._linking.of(trace_id, tenant) or self._naming.of(trace_id, tenant))

    def forget(self, trace_id: bytes, tenant: bytes) -> None:
        """Keep nothing of a tenant's trace any more."""
        self._linking.forget(trace_id, tenant)
        self._naming.forget(trace_id, tenant)


def _kept_names(resource: Names) -> Names:
    """Return the session and run that a resource names."""
    return Names({role: resource.ranked[role] for role in ROLES if role in resource.ranked})


def _has_giant(starts: Sequence[int], ends: Sequence[int]) -> bool:
    """Return whether one of some spans, in order, is giant: in such a one stands one of the places that are `GIANT`
    bytes apart.
    """
    for at in range(starts[0] + GIANT, ends[-1], GIANT):
        place = bisect_right(starts, at) - 1
        if ends[place] - starts[place] > GIANT:
            return True
    return False


def _heads(body: bytes, starts: Sequence[int], ends: Sequence[int]) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the ids of spans as heads, and where those stand of which they cannot be cut out so simply."""
    if not starts:
        return b"", []
    if min(map(sub, ends, starts)) >= _HEAD:
        heads = b"".join(map(body.__getitem__, map(slice, starts, map(add, starts, repeat(_HEAD)))))
    else:
        heads = b"".join([body[start:end][:_HEAD].ljust(_HEAD) for start, end in zip(starts, ends, strict=True)])
    if _in_order(heads, len(starts)):
        return heads, []
    cut, odd = [], []
    for at, (start, end) in enumerate(zip(starts, ends, strict=True)):
        head, last = heads[at * _HEAD : (at + 1) * _HEAD], body[max(start, end - _HEAD) : end]
        if _in_order(head, 1):
            cut.append(head)
        elif last[:2] == _PARENT_ID and last[10:12] == SPAN_ID and last[20:22] == TRACE_ID:
            cut += (last[20:], last[10:20], last[:10])
        elif end - start <= GIANT:
            odd.append((start, end))
    return b"".join(cut), odd


def _in_order(heads: bytes, count: int) -> bool:
    """Return whether each of so many heads begins with both ids, and holds the parent's next if there is one."""
    tags = zip((0, 1, 18, 19), TRACE_ID + SPAN_ID, strict=True)
    return all(heads[at::_HEAD].count(tag) == count for at, tag in tags) and _TRACE_STATE not in heads[28::_HEAD]
