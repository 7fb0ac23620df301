"""Children that were rolled up into their parent's file: what of the parent's usage is theirs (facts 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from spanledger_sidecar.sources.mux.names import canonical
from spanledger_sidecar.sources.mux.state import Workspace
from spanledger_sidecar.sources.mux.usage_file import Child
from spanledger_sidecar.tokens import ZERO, Five, at_rate, by_class, missing, taken


@dataclass(slots=True)
class Owed:
    """A child's usage that only the parent's file shows, still to be found among what the parent's file gained.

    `tokens` by class, or `total` where the classes are not known; neither: whatever is left over.
    """

    child: Workspace
    first_key: str
    tokens: Five | None = None
    total: int | None = None

    @property
    def unbounded(self) -> bool:
        """Whether nothing says how much it is."""
        return self.tokens is None and self.total is None

    def take(self, there: Five) -> Five:
        """The child's part of `there`; what is owed shrinks by it."""
        if self.tokens is not None:
            part = taken(there, self.tokens)
            self.tokens = missing(self.tokens, part)
        elif self.total is not None:
            part = _first(there, self.total)
            self.total -= part.total
        else:
            part = there
        return part


class Lost(Protocol):
    """Finds the children of a workspace whose folders are gone."""

    def lost_children(self, workspace: str) -> list[Workspace]: ...


def known_usage(child: Workspace, entry: Child, family: Lost) -> dict[str, Five]:
    """The child's usage by model as far as it was seen, with that of its own children.

    A parent that is removed with its children takes their usage along, and nobody may have seen its file in between.
    """
    known = _seen(child, entry)
    if _sum(known) != entry.tokens:
        for lost in family.lost_children(child.id):
            if lost.id not in child.rolled:
                child.rolled.append(lost.id)
                for key, tokens in known_usage(lost, Child(), family).items():
                    known[key] = known.get(key, ZERO).plus(tokens)
    return known


def _seen(child: Workspace, entry: Child) -> dict[str, Five]:
    """What its file said, and rows that were written after it."""
    seen = {key: ledger.file for key, ledger in child.models.items()} if child.seen_file else {}
    if entry.tokens is not None and _sum(seen) == entry.tokens:
        return seen
    return {key: seen.get(key, ZERO).at_least(ledger.covered) for key, ledger in child.models.items()}


def roll_up(parent: Workspace, child: Workspace, entry: Child, gained: dict[str, Five], family: Lost) -> Owed | None:
    """Take what is known of the child out of what the parent's file gained; say what else is owed to the child.

    Explained usage is counted as covered in the parent's ledgers, and its cost as paid.
    """
    child.named(replace(child.session, parent=parent.id, agent_type=entry.agent_type))
    known = known_usage(child, entry, family)
    for key, tokens in known.items():
        ledger, own, there = parent.ledger(key), child.ledger(key), gained.get(key, ZERO)
        ours = taken(there, tokens)
        told = own.complete and tokens == own.file
        ledger.paid = ledger.paid.plus(own.cost if told else at_rate(by_class(ledger.cost, ledger.paid), there, ours))
        ledger.covered = ledger.covered.plus(ours)
    first = canonical(entry.model_key)
    if entry.tokens is not None:
        owed = missing(entry.tokens, _sum(known))
        return Owed(child, first, tokens=owed) if owed.total else None
    if entry.total is not None:
        left = entry.total - _sum(known).total
        return Owed(child, first, total=left) if left > 0 else None
    return None if known else Owed(child, first)


def _sum(models: dict[str, Five]) -> Five:
    total = ZERO
    for tokens in models.values():
        total = total.plus(tokens)
    return total


def _first(there: Five, amount: int) -> Five:
    found = []
    for count in there:
        found.append(min(count, amount))
        amount -= found[-1]
    return Five(*found)
