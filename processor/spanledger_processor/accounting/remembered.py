"""Long traces as they were last written, so that what adds to one need not read all of it again.

What is remembered is only used where the store holds the very bytes that it was written as: after a commit that
failed, or with another store, the record is read.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from spanledger_processor.accounting.trace import MAX_SPANS, Trace
from spanledger_processor.accounting.usual import Usual
from spanledger_processor.ledger.store import Key
from spanledger_processor.model import NO_SPEND, UsageVector

_LONG = 64
"""Spans from which on a trace is remembered; a short one is read in no time."""
_MOST_SPANS = 16_384
"""In all: about 25 MB."""


@dataclass(slots=True)
class Known:
    """A trace with what follows from its spans: `rows` are their packed rows, in order, by span id.

    `excess` is by how much what was sent of it exceeds the ledger.
    """

    trace: Trace
    excess: UsageVector = NO_SPEND
    rows: dict[bytes, bytes] = field(default_factory=dict)
    usual: Usual | None = None


class Remembered:
    """The long traces that were written last. Whoever takes one owns it: it is changed, and put back when written."""

    def __init__(self, most_spans: int = _MOST_SPANS, long: int = _LONG) -> None:
        self._most_spans = most_spans
        self._long = long
        self._spans = 0
        self._traces: OrderedDict[Key, tuple[bytes, Known]] = OrderedDict()

    def wants(self, trace: Trace) -> bool:
        """Whether a trace is to be remembered. Of one that is too long spans are forgotten, so it is not."""
        return self._long <= len(trace.spans) <= min(MAX_SPANS, self._most_spans)

    def take(self, where: Key, record: bytes) -> Known | None:
        """The trace that was written as `record` under `where`."""
        written, known = self._traces.pop(where, (b"", None))
        if known is None:
            return None
        self._spans -= len(known.rows)
        return known if written == record else None

    def put(self, where: Key, record: bytes, known: Known) -> None:
        """Remember a trace as it is written; others may go for it."""
        self.take(where, b"")
        self._traces[where] = record, known
        self._spans += len(known.rows)
        while self._spans > self._most_spans:
            _, (_, oldest) = self._traces.popitem(last=False)
            self._spans -= len(oldest.rows)
