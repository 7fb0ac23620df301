"""Find what of a parent's usage is that of children which were merged into its file (docs/formats/mux.md)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from spanledger_sidecar.sources.mux.build import Allocation
from spanledger_sidecar.sources.mux.files import MergedChild
from spanledger_sidecar.sources.mux.rows import canonical
from spanledger_sidecar.sources.mux.state import Workspace
from spanledger_sidecar.tokens import ZERO, TokenVector, at_rate, by_class, missing, taken, total


class LostChildren(Protocol):
    """Finds the children of a workspace whose folders are gone."""

    def lost_children(self, workspace: str) -> list[Workspace]: ...


@dataclass(slots=True)
class ChildRemainder:
    """A child's usage that only the parent's file shows, still to be found among what the parent's file gained.

    `key` is the model that the entry names; `tokens` by class, or `amount` where the classes are not known; neither:
    whatever is left over. `cost` is what the entry says of it (picodollars, None: nothing). `parts` is what was found.
    """

    child: Workspace
    key: str
    tokens: TokenVector | None = None
    amount: int | None = None
    cost: int | None = None
    parts: list[Allocation] = field(default_factory=list)

    @property
    def unbounded(self) -> bool:
        """Whether nothing says how much it is."""
        return self.tokens is None and self.amount is None

    def take(self, there: TokenVector) -> TokenVector:
        """The child's part of `there`; what is still to be found shrinks by it."""
        if self.tokens is not None:
            part = taken(there, self.tokens)
            self.tokens = missing(self.tokens, part)
        elif self.amount is not None:
            part = _first(there, self.amount)
            self.amount -= part.total
        else:
            part = there
        return part

    def share_cost(self) -> None:
        """Give the entry's cost to what was found: to each part as to its tokens, the rest to the last."""
        found = sum(part.tokens.total for part in self.parts)
        if not self.cost or not found or (self.tokens or ZERO).total or self.amount:
            return
        shares = [self.cost * part.tokens.total // found for part in self.parts]
        shares[-1] += self.cost - sum(shares)
        for part, share in zip(self.parts, shares, strict=True):
            part.reported = share


def merge_child(
    parent: Workspace, child: Workspace, entry: MergedChild, gained: dict[str, TokenVector], store: LostChildren
) -> ChildRemainder | None:
    """Take what is known of the child out of what the parent's file gained; return what else of it is the child's.

    What is explained is covered in the parent's models, and its cost paid.
    """
    child.named(replace(child.session, parent=parent.id, agent_type=entry.agent_type))
    known = known_usage(child, entry, store)
    complete = True
    paid = 0
    for key, tokens in known.items():
        model, own, there = parent.model(key), child.model(key), gained.get(key, ZERO)
        ours = taken(there, tokens)
        if not ours.total:
            continue
        told = own.complete and tokens == own.file
        cost = own.cost if told else at_rate(by_class(model.cost, model.paid), there, ours)
        complete, paid = complete and told, paid + cost.total
        model.paid = model.paid.plus(cost)
        model.covered = model.covered.plus(ours)
    key, seen = canonical(entry.model_key), total(known.values())
    cost_left = max(0, entry.cost - paid) if entry.cost and complete else None
    if entry.tokens is not None:
        rest = missing(entry.tokens, seen)
        return ChildRemainder(child, key, tokens=rest, cost=cost_left) if rest.total else None
    if entry.total is not None:
        left = entry.total - seen.total
        return ChildRemainder(child, key, amount=left, cost=cost_left) if left > 0 else None
    return None if known else ChildRemainder(child, key)


def known_usage(child: Workspace, entry: MergedChild, store: LostChildren) -> dict[str, TokenVector]:
    """The child's usage by model as far as it was seen, with that of its own children.

    A parent that is removed with its children takes their usage along, and nobody may have seen its file in between.
    """
    known = _seen(child, entry)
    if total(known.values()) != entry.tokens:
        for lost in store.lost_children(child.id):
            if lost.id not in child.merged:
                child.merged.append(lost.id)
                for key, tokens in known_usage(lost, MergedChild(), store).items():
                    known[key] = known.get(key, ZERO).plus(tokens)
    return known


def _seen(child: Workspace, entry: MergedChild) -> dict[str, TokenVector]:
    """What its file said, and rows that the file did not have."""
    seen = {key: state.file for key, state in child.models.items()} if child.seen_file else {}
    if entry.tokens is not None and total(seen.values()) == entry.tokens:
        return seen
    return {
        key: seen.get(key, ZERO).at_least(total([state.covered, *(early.tokens for early in state.early)]))
        for key, state in child.models.items()
    }


def _first(there: TokenVector, amount: int) -> TokenVector:
    result = []
    for count in there:
        result.append(min(count, amount))
        amount -= result[-1]
    return TokenVector(*result)
