"""What the stage reads of a request, and the writer writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeAlias

from spanledger_processor.accounting.facts import Batch
from spanledger_processor.enrichment.claims import EarlierClaim
from spanledger_processor.otlp.request import TraceRequest

Place: TypeAlias = tuple[int, int]
"""The index of a group in the request, and of a span in the group."""
NO_PLACE = -1, -1
"""That of a span that came in an earlier request."""


@dataclass(slots=True)
class Reading:
    """A request as it was read. `places` are those of the span of each fact, by batch.

    `marked` counts spans that pass as they are: of a trusted hop, and once written, ours that came back. `failures`
    counts by reason the spans that pass as they came because something in them could not be read.
    """

    request: TraceRequest
    batches: list[Batch] = field(default_factory=list)
    places: list[list[Place]] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    """Keys by which a span may name its session, run, agent or task."""
    marked: int = 0
    forged: int = 0
    """Attributes that were moved aside, once written."""
    own: dict[Place, None] = field(default_factory=dict)
    """Places, in order, of spans that may have attributes which only Spanledger writes."""
    failures: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, int, str]] = field(default_factory=list)
    """Indexes of the group and the span of each of them, and the reason."""
    traces: dict[bytes, None] = field(default_factory=dict)
    """Those of its GenAI spans, in order, each with the hash of its tenant behind the id."""
    earlier: set[bytes] = field(default_factory=set)
    """Likewise traces of which plain spans that came before are among the facts."""
    claim: EarlierClaim | None = None

    def fact_count(self) -> int:
        """Return how many spans are to be accounted for."""
        return sum(len(batch.facts) for batch in self.batches)

    def failed_spans(self) -> dict[int, str]:
        """Return the reasons by the spans' places in the request, counted over all groups."""
        first = self.first_places()
        return {first[group] + index: reason for group, index, reason in self.failed}

    def first_places(self) -> list[int]:
        """Return the place in the request of each group's first span."""
        return list(accumulate((len(group.items) for group in self.request.groups), initial=0))

    def drop_empty_batches(self) -> None:
        """Drop batches without facts, and their places."""
        full = [index for index, batch in enumerate(self.batches) if batch.facts]
        self.batches, self.places = [self.batches[index] for index in full], [self.places[index] for index in full]
