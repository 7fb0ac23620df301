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
from itertools import chain, islice, repeat
from struct import Struct, iter_unpack, pack, unpack
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
_PLACE_BYTES = 16
"""Of a hash while many are worked out: counts are below 2**63, and what they are multiplied with below 2**64."""

_PACK = [Struct(f">{number}Q").pack for number in range(64)]
"""The hashes of a call, by how many it has: one id and one usage, mostly."""

_Usage: TypeAlias = tuple[int, int, bytes]
"""Input and output of a call, and what the period adds to their hash."""


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
        return cls(
            ids, usages, beside, uncached, [_PACK[len(one)](*one) for one in (call.remembered for call in calls)]
        )


class _Moment(NamedTuple):
    """What the period in which a call ended adds to the hashes of its usage; likewise of `near` ones, in which a twin
    may have ended, and of all of them for usages that are `uncached`, its own first.
    """

    own: bytes
    near: Sequence[bytes]
    uncached: Sequence[bytes]


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
        return self.of_spans((span,))[0]

    def of_spans(self, spans: Sequence[Span]) -> list[Hashes]:
        """Return the same of several spans, which takes little longer than for one."""
        found, identifiers, of_ids = _Usages(), list[bytes](), list[int]()
        for span in spans:
            claim, before = span.claim, len(identifiers)
            if claim is None or span.kind in AGGREGATES:
                found.numbers.append(_NO_USAGE)
            else:
                if span.response:
                    identifiers.append(id_bytes(span.response))
                identifiers += claim.evidence.ids
                found.add(claim.tokens, self._moment(span.end_ns), of_anthropic=claim.of_anthropic)
            of_ids.append(len(identifiers) - before)
        ids, (usages, beside, uncached) = iter(self._ids(identifiers)), map(iter, found.hashes())
        return [
            Hashes(
                (*islice(ids, number),),
                (*islice(usages, of_usage),),
                (*islice(beside, of_beside),) if of_beside else (),
                (*islice(uncached, of_uncached),) if of_uncached else (),
            )
            for number, (of_usage, of_beside, of_uncached) in zip(of_ids, found.numbers, strict=True)
        ]

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
        found = _Usages()
        for each, moment, is_anthropic in zip(tokens, self._moments_of(ends), of_anthropic, strict=True):
            found.add(each, moment, of_anthropic=is_anthropic)
        usages, beside, uncached = found.hashes()
        if len(usages) == len(ids) and not uncached:
            return HashesOfCalls(ids, usages, beside, uncached, [*map(_PACK[2], ids, usages)])
        each_usage, each_uncached = iter(usages), iter(uncached)
        remembered = [
            _PACK[1 + number + of_uncached](id_, *islice(each_usage, number), *islice(each_uncached, of_uncached))
            for id_, (number, _, of_uncached) in zip(ids, found.numbers, strict=True)
        ]
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

    def _added_by(self, period: int) -> bytes:
        added = period * _OF_PERIOD ^ self._salt
        return added.to_bytes(_PLACE_BYTES, "little", signed=True)

    def _moments_of(self, ends: Sequence[int]) -> Iterable[_Moment]:
        """Return the moment of each of these ends."""
        first, last = self._moment(min(ends)), self._moment(max(ends))
        return repeat(first, len(ends)) if first is last else map(self._moment, ends)


class _Usages:
    """The usages of calls, as `Hashes` has them; `numbers` says of each call how many of each are its own."""

    __slots__ = ("beside", "numbers", "uncached", "usages")

    def __init__(self) -> None:
        self.usages: list[_Usage] = []
        self.beside: list[_Usage] = []
        self.uncached: list[_Usage] = []
        self.numbers: list[tuple[int, int, int]] = []

    def add(self, tokens: Sequence[int | None], moment: _Moment, *, of_anthropic: bool) -> None:
        """Add those of a call of these counts (in the order of `USAGE_CLASSES`, or none)."""
        given = tokens[INPUT] if tokens else None
        if not given:
            self.numbers.append(_NO_USAGE)
            return
        output, reasoning, (own, near, uncached) = tokens[OUTPUT] or 0, tokens[REASONING] or 0, moment
        if not (near or of_anthropic or reasoning):  # what comes out below for most calls
            self.usages.append((given, output, own))
            self.numbers.append(_ONE_USAGE)
            return
        less = uncached_inputs(tokens, of_anthropic=of_anthropic)
        lacking = uncached if may_lack_caches(tokens, of_anthropic=of_anthropic) else ()
        outputs = (output, output - reasoning) if 0 < reasoning < output else (output,)
        of_beside = len(near) + len(lacking) + len(less) * (1 + len(near))
        self.numbers.append((len(outputs), len(outputs) * of_beside, len(outputs) * len(less)))
        for one in outputs:
            self.usages.append((given, one, own))
            if near or lacking:
                self.beside += [(given, one, time) for time in (*near, *lacking)]
            for input_ in less:
                self.uncached.append((input_, one, uncached[0]))
                self.beside.append((input_, one, own))
                if near:
                    self.beside += [(input_, one, time) for time in near]

    def hashes(self) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
        """Return the hashes of `usages`, `beside` and `uncached`."""
        hashes, first = _hashes_of([*self.usages, *self.beside, *self.uncached]), len(self.usages)
        end = first + len(self.beside)
        return hashes[:first], hashes[first:end], hashes[end:]


_NO_USAGE, _ONE_USAGE = (0, 0, 0), (1, 0, 0)


def _hashes_of(usages: Sequence[_Usage]) -> Sequence[int]:
    """Return the hash of each usage, all worked out beside one another in one number."""
    if not usages:
        return ()
    inputs, outputs, times = zip(*usages, strict=True)
    number = len(usages)
    mixed = _beside(inputs) * _OF_INPUT ^ _beside(outputs) * _OF_OUTPUT ^ int.from_bytes(b"".join(times), "little")
    mask = int.from_bytes(_MASK.to_bytes(_PLACE_BYTES, "little") * number, "little")
    hashes = (mixed ^ mixed >> 31) & mask
    return unpack(f"<{2 * number}Q", hashes.to_bytes(_PLACE_BYTES * number, "little"))[::2]


def _beside(counts: Sequence[int]) -> int:
    """Return a number in which each of these has a place."""
    return int.from_bytes(pack(f"<{2 * len(counts)}Q", *chain.from_iterable(zip(counts, repeat(0)))), "little")
