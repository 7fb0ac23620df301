"""Which reading has the earlier plain spans of a trace in hand, until it was accounted for.

Requests that come together for one trace would each read all that was kept of it. So the first one does, and the others
wait until it was accounted for.

Of a trace without GenAI spans nothing is stored. So plain spans that come while a reading has the first ones of their
trace, and did not hand all of these to the ledger yet, are kept as well, and added once that reading was accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Self


class EarlierClaim:
    """The traces whose earlier spans one reading has in hand; inside the block of a `with` statement at most."""

    def __init__(self, claims: EarlierClaims) -> None:
        self._claims = claims
        self._number = 0
        self._traces: list[bytes] = []
        self._then: list[Callable[[], object]] = []
        self._has_ended = False
        self.awaited: dict[bytes, EarlierClaim] = {}
        """Traces whose earlier spans another reading has in hand, and its claim."""
        self.read: Container[bytes] = ()
        """Traces of which the reading has GenAI spans, each with its tenant."""
        self.missed: set[bytes] = set()
        """Those of them of which plain spans came that may be accounted for before."""

    def __enter__(self) -> Self:
        """Return this claim."""
        self._claims.unsubmitted.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever came of the reading."""
        self.end()

    def takes(self, trace_id: bytes) -> bool:
        """Return whether the reading is to read the earlier spans of a trace itself.

        It waits for readings that began with theirs before it alone, so that no two wait for each other.
        """
        self._number = self._number or self._claims.next_number()
        holder = self._claims.holders.setdefault(trace_id, self)
        if holder is self:
            self._traces.append(trace_id)
        elif holder._number < self._number:
            self.awaited[trace_id] = holder
            return False
        return True

    def submitted(self) -> None:
        """Note that the ledger accounts for the whole reading before all that others submit from now on."""
        self._claims.unsubmitted.discard(self)

    def when_ended(self, then: Callable[[], object]) -> None:
        """Call `then` once the claim has ended; at once where it has."""
        if self._has_ended:
            then()
        else:
            self._then.append(then)

    def end(self) -> None:
        """Let others read what is left of the earlier spans of its traces."""
        self._has_ended = True
        self.submitted()
        for trace_id in self._traces:
            self._claims.holders.pop(trace_id, None)
        self._traces.clear()
        while self._then:
            self._then.pop()()


class EarlierClaims:
    """The claims of all readings of a stage: `holders` has that of each trace whose earlier spans one has in hand,
    `unsubmitted` those of which others may be accounted for first.
    """

    def __init__(self) -> None:
        self.holders: dict[bytes, EarlierClaim] = {}
        self.unsubmitted: set[EarlierClaim] = set()
        self._number = 0

    def next_number(self) -> int:
        """Return the number of a claim that takes its first trace."""
        self._number += 1
        return self._number

    def misses(self, trace_id: bytes, reader: EarlierClaim | None) -> bool:
        """Return whether a reading that is not submitted, other than the `reader` of a plain span, has GenAI spans of
        its trace (an id with the tenant behind it): that span is to be looked for once it ends.
        """
        others = [claim for claim in self.unsubmitted if claim is not reader and trace_id in claim.read]
        for claim in others:
            claim.missed.add(trace_id)
        return bool(others)
