"""Pieces of usage on their way to becoming records, and the cost that goes with each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spanledger_sidecar.sources.mux.chat import Row
from spanledger_sidecar.sources.mux.state import Ledger, Workspace
from spanledger_sidecar.sources.mux.usage_file import Bucket, Turn
from spanledger_sidecar.tokens import ZERO, Five, at_rate, by_class


@dataclass(slots=True)
class Part:
    """Usage of one model to be emitted for `owner`: a row, the last request, or (neither) what is left over.

    `exact` is the last request where it proves this very usage. `cost` (picodollars) is filled in by `share`.
    """

    owner: Workspace
    key: str
    tokens: Five
    row: Row | None = None
    exact: Turn | None = None
    cost: int | None = None
    charged: bool = False

    @property
    def free(self) -> bool:
        """Whether its own row says that a subscription covered it."""
        return self.row is not None and self.row.cost == 0


def share(parts: Iterable[Part], ledger: Ledger, bucket: Bucket, before: Five) -> None:
    """Hand out the cost that the file gained for one model to the parts that are emitted of it.

    Exact turns take what the file says of them; of the rest each class of tokens costs the same, so the sums are the
    file's. `before` is what of the file had been paid for before.
    """
    tokens, cost = by_class(bucket.tokens, before), by_class(bucket.cost, ledger.paid)
    for part in sorted(parts, key=lambda part: (not part.free, part.exact is None)):
        given = ZERO
        if part.exact is not None and part.exact.bucket.complete:
            given = part.exact.bucket.cost
        elif bucket.complete and not part.free:
            given = at_rate(cost, tokens, part.tokens)
        _price(part, bucket, given)
        tokens, cost, ledger.paid = by_class(tokens, part.tokens), by_class(cost, given), ledger.paid.plus(given)
    open_classes = by_class(bucket.tokens, ledger.covered)
    ledger.paid = Five(
        *(paid if left else whole for paid, left, whole in zip(ledger.paid, open_classes, bucket.cost, strict=True))
    )


def _price(part: Part, bucket: Bucket, given: Five) -> None:
    exact = part.exact.bucket if part.exact is not None else None
    if part.row is not None and part.row.cost is not None:
        part.cost, part.charged = part.row.cost, True
    elif exact is not None and exact.included:
        part.cost, part.charged = 0, True
    elif exact is not None and exact.complete:
        part.cost = exact.cost.total
    elif bucket.complete:
        part.cost = given.total
        part.charged = bucket.included and not part.cost
