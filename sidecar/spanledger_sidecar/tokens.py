"""Vectors over Mux's five disjoint token classes, of tokens or of money, and their arithmetic by class and by group.

The classes of one group are one amount seen at another resolution: a chat row may lack the cache writes or the
estimated reasoning that the usage file has, so what is too much in one class of a group makes up for what is missing in
another (docs/formats/mux.md#13-token-classes, docs/formats/mux.md#22-rows).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class TokenVector(NamedTuple):
    """One amount for each class; tokens, or picodollars (1e-12 USD)."""

    input: int = 0
    cached: int = 0
    cache_create: int = 0
    output: int = 0
    reasoning: int = 0

    def plus(self, other: TokenVector) -> TokenVector:
        """Return the sum of each class."""
        return TokenVector(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: TokenVector) -> TokenVector:
        """Return the difference of each class, which may be negative."""
        return TokenVector(*(a - b for a, b in zip(self, other, strict=True)))

    def at_least(self, other: TokenVector) -> TokenVector:
        """Return the larger of each class."""
        return TokenVector(*(max(a, b) for a, b in zip(self, other, strict=True)))

    def at_most(self, other: TokenVector) -> TokenVector:
        """Return the smaller of each class."""
        return TokenVector(*(min(a, b) for a, b in zip(self, other, strict=True)))

    @property
    def inputs(self) -> int:
        """Return the input group: what was not cached, cache reads and cache writes."""
        return self.input + self.cached + self.cache_create

    @property
    def outputs(self) -> int:
        """Return the output group: text and reasoning."""
        return self.output + self.reasoning

    @property
    def total(self) -> int:
        """Return the sum over all classes."""
        return self.inputs + self.outputs

    def contains(self, other: TokenVector) -> bool:
        """Return whether every class is at least `other`'s."""
        return all(a >= b for a, b in zip(self, other, strict=True))

    def holds(self, other: TokenVector) -> bool:
        """Return whether both groups have room for `other`'s."""
        return self.inputs >= other.inputs and self.outputs >= other.outputs


ZERO = TokenVector()


def total(amounts: Iterable[TokenVector]) -> TokenVector:
    """Return the sum of amounts."""
    result = ZERO
    for amount in amounts:
        result = result.plus(amount)
    return result


def same(one: TokenVector, other: TokenVector) -> bool:
    """Return whether two amounts are equal by group."""
    return (one.inputs, one.outputs) == (other.inputs, other.outputs)


def missing(whole: TokenVector, part: TokenVector) -> TokenVector:
    """Return `whole` less `part`: by group, and within a group from the classes that lack something."""
    return TokenVector(*_lacks(whole[:3], part[:3]), *_lacks(whole[3:], part[3:]))


def _lacks(whole: tuple[int, ...], part: tuple[int, ...]) -> list[int]:
    gaps = [a - b for a, b in zip(whole, part, strict=True)]
    surplus = -sum(gap for gap in gaps if gap < 0)
    result = []
    for gap in gaps:
        used = min(max(gap, 0), surplus)
        surplus -= used
        result.append(max(gap, 0) - used)
    return result


def capped(whole: TokenVector, part: TokenVector) -> TokenVector:
    """Return `part`, but no more of a group than `whole` has, spread over the classes as `whole` is."""
    return whole.minus(missing(whole, part))


def taken(pool: TokenVector, amount: TokenVector) -> TokenVector:
    """Return `amount` as far as `pool` has it: class by class, then from the rest of the group."""
    return TokenVector(*_from_group(pool[:3], amount[:3]), *_from_group(pool[3:], amount[3:]))


def _from_group(pool: tuple[int, ...], amount: tuple[int, ...]) -> list[int]:
    result = [min(a, b) for a, b in zip(pool, amount, strict=True)]
    left = sum(amount) - sum(result)
    for index, available in enumerate(pool):
        more = min(left, available - result[index])
        result[index] += more
        left -= more
    return result


def by_class(whole: TokenVector, part: TokenVector) -> TokenVector:
    """Return `whole` less `part`, each class by itself, none below 0."""
    return whole.minus(part).at_least(ZERO)


def at_rate(cost: TokenVector, there: TokenVector, used: TokenVector) -> TokenVector:
    """Return the share of `cost`, which is that of `there`, for `used`: every token of a class costs the same."""
    return TokenVector(*(_share(c, t, min(u, t)) for c, t, u in zip(cost, there, used, strict=True)))


def _share(cost: int, there: int, used: int) -> int:
    return cost if used == there else cost * used // there


def with_total(amounts: TokenVector, whole: int) -> TokenVector:
    """Return the amounts with another sum, each changed as the sum is; the first takes what division leaves."""
    if not amounts.total:
        return TokenVector(whole)
    scaled = TokenVector(*(amount * whole // amounts.total for amount in amounts))
    return scaled.plus(TokenVector(whole - scaled.total))
