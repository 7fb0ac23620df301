"""Where the records of traces stand in LMDB: in the order in which traces came, those of a commit side by side.

The key of a trace is a hash (`keys.trace_key`). By such keys each new trace would be looked for on a page of its own,
and change that page, wherever in the ledger it is. So the store puts in front of the key the number of the commit that
stored the trace first, its place, and whoever reads and writes traces knows nothing of it. A commit leaves one row that
says which traces it placed. In memory stands the place of every trace, twelve bytes for each, so that to look for one
that is new reads nothing; what is found there may be wrong (two traces with one digest), and is looked up.

In memory traces stand in groups by hashes of their digests, which Python makes others in each process: senders choose
the ids of traces, and cannot have theirs in one group. When there are more than 32 to a group, one group is divided
into two (linear hashing): never does a commit wait until all are sorted anew.

Traces of ledgers before schema 8 have none, and stay under their keys until retention takes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock

import lmdb

from spanledger_processor.ledger.keys import TRACE_PREFIX
from spanledger_processor.ledger.store import Key, Table

TRACE = int(Table.TRACE)
_PLACED, _PLACES = bytes((Table.PLACED,)), bytes((Table.PLACES,))
_PLACE_BYTES = 5
_PLACE_END = 1 + _PLACE_BYTES
"""Where the key of a trace, less its table, goes on in the key under which its record stands."""
_DIGEST = slice(7, 14)
"""What is kept of a trace's key: two bytes of the tenant's hash and five of the trace's."""
_DIGEST_BYTES = 7
_ENTRY_BYTES = _DIGEST_BYTES + _PLACE_BYTES
_MOST_TO_A_GROUP = 32
"""Traces, on average."""


class TracePlaces:
    """The places of all traces of an environment.

    Its writer alone changes them. One that reads beside the writer catches up with it.
    """

    def __init__(self, environment: lmdb.Environment, *, writes: bool) -> None:
        """Read the places that are stored; without `writes` when they are asked for."""
        self._env = environment
        self._groups = [b""]
        """Digests, each with a place behind it: a search in a few hundred bytes, and one object for many traces."""
        self._mask = 1
        """Of the hash of a digest, the bits that tell groups apart, also those that are not divided yet."""
        self._traces = 0
        self._next = 1
        self._placed: list[bytes] = []
        """The digests of traces that the transaction under way places."""
        self._gone: dict[bytes, list[bytes]] = {}
        """By place, the digests of those of which it leaves nothing there."""
        self._writes = writes
        self._catching_up = Lock()
        if writes:
            with environment.begin() as txn:
                self._read(txn)

    @property
    def traces(self) -> int:
        """Return how many traces have a place."""
        return self._traces

    def catch_up(self, txn: lmdb.Transaction[bytes]) -> None:
        """Read what the writer placed since, as far as a transaction sees it, unless this is the writer."""
        if not self._writes:
            with self._catching_up:
                self._read(txn)

    def _read(self, txn: lmdb.Transaction[bytes]) -> None:
        with txn.cursor() as cursor:
            more = cursor.set_range(_PLACES + self._next.to_bytes(_PLACE_BYTES, "big"))
            while more and cursor.key().startswith(_PLACES):
                self._add(cursor.key()[1:], _each(cursor.value(), _DIGEST_BYTES))
                self._next = int.from_bytes(cursor.key()[1:], "big") + 1
                more = cursor.next()

    def _add(self, place: bytes, placed: Iterable[bytes]) -> None:
        for digest in placed:
            self._groups[self._group(digest)] += digest + place
            self._traces += 1
            if self._traces > _MOST_TO_A_GROUP * len(self._groups):
                self._divide()

    def _group(self, digest: bytes) -> int:
        """Return the number of the group of a digest."""
        number = hash(digest) & self._mask
        return number if number < len(self._groups) else number & self._mask >> 1

    def _divide(self) -> None:
        """Make a further group of a part of the one whose turn it is."""
        number = len(self._groups)
        whole = number & self._mask >> 1
        parts: tuple[list[bytes], list[bytes]] = ([], [])
        for entry in _each(self._groups[whole], _ENTRY_BYTES):
            parts[hash(entry[:_DIGEST_BYTES]) & self._mask == number].append(entry)
        self._groups.append(b"".join(parts[1]))
        self._groups[whole] = b"".join(parts[0])
        if number == self._mask:
            self._mask = 2 * number + 1

    def where(self, key: Key) -> Iterable[Key]:
        """Return the keys under which the record of a trace's key may stand: none for nearly every new trace."""
        digest, group, number = key[_DIGEST], b"", 0
        while number != len(self._groups):  # the writer may divide a group meanwhile, for a reader on another thread
            number = len(self._groups)
            group = self._groups[self._group(digest)]
        if digest not in group:
            return ()
        return [_PLACED + group[at + _DIGEST_BYTES : at + _ENTRY_BYTES] + key[1:] for at in _at(group, digest)]

    def stored_key(self, txn: lmdb.Transaction[bytes], key: Key) -> Key:
        """Return the key under which the record of a trace's key stands, if it does; for it, its own key."""
        for stored in self.where(key) if key[0] == TRACE else ():
            if txn.get(stored) is not None:
                return stored
        return key

    @contextmanager
    def writing(self) -> Iterator[lmdb.Transaction[bytes]]:
        """Provide a transaction that may place and remove traces.

        Places are known here before it lands, to its own retention and to whoever reads right behind it, and until it
        has landed where it leaves none: what is known too much is looked up in vain.
        """
        self._placed, self._gone = [], {}
        try:
            with self._env.begin(write=True) as txn:
                yield txn
                for place, digests in self._gone.items():
                    _take_out(txn, place, digests)
        except BaseException:
            self._remove(self._next.to_bytes(_PLACE_BYTES, "big"), self._placed)
            raise
        self._next += bool(self._placed)
        for place, digests in self._gone.items():
            self._remove(place, digests)

    def place(self, txn: lmdb.Transaction[bytes], rows: Iterable[tuple[Key, bytes]]) -> list[tuple[Key, bytes]]:
        """Return rows with those of traces where these stand, or, if they are new, stand from now on."""
        placed: list[tuple[Key, bytes]] = []
        fronts: dict[Key, Key] = {}
        has_earlier = _is_any(txn, bytes((TRACE,)))
        place = self._next.to_bytes(_PLACE_BYTES, "big")
        for key, record in rows:
            if key[0] == TRACE:
                trace = key[:TRACE_PREFIX]
                front = fronts.get(trace)
                if front is None:
                    front = self._front(txn, trace, has_earlier=has_earlier)
                    if not front:
                        front = _PLACED + place + trace[1:]
                        self._placed.append(trace[_DIGEST])
                        self._add(place, self._placed[-1:])
                    fronts[trace] = front
                key = front + key[TRACE_PREFIX:]
            placed.append((key, record))
        if self._placed:
            placed.append((_PLACES + place, b"".join(self._placed)))
        return placed

    def _front(self, txn: lmdb.Transaction[bytes], trace: Key, *, has_earlier: bool) -> Key:
        """Return how the keys begin under which the records of a trace stand; empty if nothing of it is stored.

        `has_earlier` says whether the ledger has traces that were stored before traces had places (schema 8).
        """
        for front in [*self.where(trace), trace] if has_earlier else self.where(trace):
            if _is_any(txn, front):
                return front
        return b""

    def forget(self, txn: lmdb.Transaction[bytes], stored: Key) -> None:
        """Forget the place of a trace of which a transaction removed a record, if that was the last one."""
        if stored.startswith(_PLACED) and not _is_any(txn, stored[: _PLACE_END + TRACE_PREFIX - 1]):
            self._gone.setdefault(stored[1:_PLACE_END], []).append((stored[:1] + stored[_PLACE_END:])[_DIGEST])

    def _remove(self, place: bytes, digests: Iterable[bytes]) -> None:
        for digest in digests:
            number = self._group(digest)
            group = self._groups[number]
            at = next(_at(group, digest + place), None)
            if at is not None:
                self._groups[number] = group[:at] + group[at + _ENTRY_BYTES :]
                self._traces -= 1


def placed_of(txn: lmdb.Transaction[bytes], tenant: bytes) -> Iterator[tuple[Key, bytes]]:
    """Yield the records of a tenant's traces that have a place, with the keys under which they stand."""
    end = _PLACE_END + len(tenant)
    with txn.cursor() as cursor:
        more = cursor.set_range(_PLACED)
        while more and cursor.key().startswith(_PLACED):
            if cursor.key()[_PLACE_END:end] == tenant:
                yield cursor.item()
            more = cursor.next()


def _take_out(txn: lmdb.Transaction[bytes], place: bytes, gone: list[bytes]) -> None:
    """Take traces out of the row of their place, and remove it with the last one."""
    row = _PLACES + place
    if not _is_any(txn, _PLACED + place):
        txn.delete(row)
        return
    left = Counter(_each(txn.get(row) or b"", _DIGEST_BYTES))
    left.subtract(gone)
    txn.put(row, b"".join(left.elements()))


def _each(flat: bytes, size: int) -> Iterator[bytes]:
    """Return the parts of a size that stand one behind the other."""
    return (flat[at : at + size] for at in range(0, len(flat), size))


def _at(group: bytes, beginning: bytes) -> Iterator[int]:
    """Yield where in a group entries begin so."""
    at = group.find(beginning)
    while at >= 0:
        if at % _ENTRY_BYTES == 0:
            yield at
        at = group.find(beginning, at + 1)


def _is_any(txn: lmdb.Transaction[bytes], front: bytes) -> bool:
    """Return whether a record has a key that begins so."""
    with txn.cursor() as cursor:
        return cursor.set_range(front) and cursor.key().startswith(front)
