"""What a counted call is remembered under, so that another report of it is found: its ids, and its usage and time.

Calls of equal usage are remembered apart by when they ended, so that those of a busy hour do not crowd out twins. Some
sources leave reasoning out of the output: a call that knows its reasoning stands under the output without it, too. One
of Anthropic's stands under its inputs without caches as well (`uncached_inputs`), apart from the others: only calls
that may lack caches look there, so that the many calls that have the same small input beside a large cache are not
compared with one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import chain, repeat
from struct import Struct, iter_unpack
from typing import NamedTuple, TypeAlias

from spanledger_processor.accounting.one_call import LOG_AFTER_NS, may_lack_caches, uncached_inputs
from spanledger_processor.accounting.trace import Span
from spanledger_processor.ledger.keys import id_bytes
from spanledger_processor.model import AGGREGATES, INPUT, OUTPUT, REASONING

HASH_BYTES = 8
_PERIOD_NS = 600 * 10**9
_UNCACHED = 1 << 40
"""Added to a period: usages without caches are remembered apart."""
_OF_INPUT, _OF_OUTPUT, _OF_PERIOD = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_MASK = (1 << 63) - 1

_PACK = [Struct(f">{number}Q").pack for number in range(64)]
"""The hashes of a call, by how many it has: one id and one usage, mostly."""

_Usages: TypeAlias = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""The hashes of `usages`, `beside` and `uncached` (`Hashes`)."""


class Hashes(NamedTuple):
    """What a call is remembered under: its ids, its usage and time.

    `beside` are the usages of twins that ended just before or after, in another period, or that tell of caches where
    this call does not, or the reverse: they are looked for only. Under those of `uncached` it is remembered only.
    """

    ids: Sequence[int] = ()
    usages: Sequence[int] = ()
    beside: Sequence[int] = ()
    uncached: Sequence[int] = ()

    @property
    def remembered(self) -> tuple[int, ...]:
        """Return all that it is remembered under."""
        return (*self.ids, *self.usages, *self.uncached)


class HashesOfCalls(NamedTuple):
    """The hashes of several calls, by what they are (`Hashes`); and all that each is remembered under, packed."""

    ids: Sequence[int]
    usages: Sequence[int]
    beside: Sequence[int]
    uncached: Sequence[int]
    remembered: Sequence[bytes]

    @classmethod
    def of(cls, calls: Sequence[Hashes]) -> HashesOfCalls:
        """Return those of calls that were hashed one by one."""
        ids, usages, beside, uncached = ([*chain.from_iterable(column)] for column in zip(*calls, strict=True))
        remembered = [_PACK[len(one)](*one) for one in (call.remembered for call in calls)]
        return cls(ids, usages, beside, uncached, remembered)


class _Moment(NamedTuple):
    """What the period in which a call ended adds to the hashes of its usage; likewise of `near` ones, in which a twin
    may have ended, and of all of them for usages that are `uncached`, its own first.
    """

    own: int
    near: Sequence[int]
    uncached: Sequence[int]


class CallHashes:
    """Hashes calls of a tenant."""

    def __init__(self, tenant: bytes) -> None:
        self._salt = int.from_bytes(tenant, "big")
        self._keyed = blake2b(digest_size=HASH_BYTES, key=tenant)
        """Hashes ids; what a key adds is hashed once."""
        self._moments: dict[int, _Moment] = {}
        """By period, of ends to which no other period is near."""

    def of(self, span: Span) -> Hashes:
        """Return what `span` is remembered under, and looked for."""
        claim = span.claim
        if claim is None or span.kind in AGGREGATES:
            return Hashes()
        identifiers = [id_bytes(span.response)] if span.response else []
        usages = _usages_of(claim.tokens, self._moment(span.end_ns), of_anthropic=claim.of_anthropic)
        return Hashes(self._ids([*identifiers, *claim.evidence.ids]), *usages)

    def of_calls(
        self,
        response_ids: Sequence[str],
        tokens: Iterable[Sequence[int | None]],
        ends: Sequence[int],
        of_anthropic: Sequence[bool],
    ) -> HashesOfCalls:
        """Return those of calls by their response ids, counts (in the order of `USAGE_CLASSES`), ends, and whether they
        are Anthropic's.
        """
        ids = self._ids([one.encode("utf-8", "surrogatepass") for one in response_ids])
        usages, beside, uncached, remembered = list[int](), list[int](), list[int](), list[bytes]()
        for id_, each, moment, is_anthropic in zip(ids, tokens, self._moments_of(ends), of_anthropic, strict=True):
            own, near, others = _usages_of(each, moment, of_anthropic=is_anthropic)
            usages += own
            if near or others:
                beside += near
                uncached += others
            remembered.append(_PACK[1 + len(own) + len(others)](id_, *own, *others))
        return HashesOfCalls(ids, usages, beside, uncached, remembered)

    def _ids(self, identifiers: Sequence[bytes]) -> list[int]:
        """Return the hashes of ids."""
        digests = bytearray()
        for identifier in identifiers:
            hashed = self._keyed.copy()
            hashed.update(identifier)
            digests += hashed.digest()
        return [hash_ & _MASK for (hash_,) in iter_unpack(">Q", digests)]

    def _moment(self, end_ns: int) -> _Moment:
        """Return what its end gives the usage of a call. Most ends of a request come to the same one."""
        period, within = divmod(end_ns, _PERIOD_NS)
        if not LOG_AFTER_NS <= within < _PERIOD_NS - LOG_AFTER_NS:
            near = {(end_ns - LOG_AFTER_NS) // _PERIOD_NS, (end_ns + LOG_AFTER_NS) // _PERIOD_NS}
            return self._moment_of(period, *[other for other in near if other != period])
        moment = self._moments.get(period)
        if moment is None:
            moment = self._moments[period] = self._moment_of(period)
        return moment

    def _moment_of(self, *periods: int) -> _Moment:
        own, *near = map(self._added_by, periods)
        return _Moment(own, near, [self._added_by(period + _UNCACHED) for period in periods])

    def _added_by(self, period: int) -> int:
        return period * _OF_PERIOD ^ self._salt

    def _moments_of(self, ends: Sequence[int]) -> Iterable[_Moment]:
        """Return the moment of each of these ends."""
        first, last = self._moment(min(ends)), self._moment(max(ends))
        return repeat(first, len(ends)) if first is last else map(self._moment, ends)


def _usages_of(tokens: Sequence[int | None], moment: _Moment, *, of_anthropic: bool) -> _Usages:
    """Return the hashes of the usages of a call of these counts (in the order of `USAGE_CLASSES`, or none)."""
    given = tokens[INPUT] if tokens else None
    if not given:
        return _NO_USAGES
    output, reasoning, (own, near, uncached) = tokens[OUTPUT] or 0, tokens[REASONING] or 0, moment
    if not (near or of_anthropic or reasoning):  # what comes out below for most calls
        return (_hash_of(given, output, own),), (), ()
    less = uncached_inputs(tokens, of_anthropic=of_anthropic)
    lacking = uncached if may_lack_caches(tokens, of_anthropic=of_anthropic) else ()
    outputs = (output, output - reasoning) if 0 < reasoning < output else (output,)
    beside = [_hash_of(given, one, time) for one in outputs for time in (*near, *lacking)]
    if less:
        beside += [_hash_of(input_, one, time) for one in outputs for input_ in less for time in (own, *near)]
    return (
        [_hash_of(given, one, own) for one in outputs],
        beside,
        [_hash_of(input_, one, uncached[0]) for one in outputs for input_ in less],
    )


_NO_USAGES: _Usages = ((), (), ())


def _hash_of(input_: int, output: int, time: int) -> int:
    mixed = input_ * _OF_INPUT ^ output * _OF_OUTPUT ^ time
    return (mixed ^ mixed >> 31) & _MASK
