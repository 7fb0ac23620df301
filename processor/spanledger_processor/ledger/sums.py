"""Totals of a session, run, task, day and model, or of the whole ledger: numbers that add up in any order.

How fast calls were stands in them as counts by bucket: of durations, of times to the first token, and of output tokens
a second. A bucket reaches to 1.19 times its beginning, so that any set of calls fits in few numbers; a percentile is
the middle of its bucket, 9 % off at most. The tokens a second are those of the whole call, from when it began: what
waits for the answer sees no more.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import zip_longest
from operator import add, neg
from typing import Any, TypeVar

from msgspec import Struct, structs

from spanledger_processor.ledger.facts import MODELS_KEPT, OTHER_MODELS, Facts
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.model import NO_SPEND, UsageVector

_Name = TypeVar("_Name", str, int)

_NO_COUNTS = NO_SPEND.counts
_VERSION = 1
_CLASSES_OF_VERSION_1 = 6
"""Usage classes that stand before the numbers of tool calls and spans; those declared later stand behind."""
_NAMES_KEPT = 16
"""Runs, and parents, that are told apart in one record: they come from the network."""
_OTHER_NAMES = ""
"""In place of all beyond them; no run or session has it for its id."""


class Added(Struct):
    """What one span adds to each of its totals, or takes out of them: then all of its numbers are negative.

    `models` has its costs by the names of what they are for, `reason` is why a call has no price.
    """

    spans: int
    tool_calls: int = 0
    first_ns: int = 0
    last_ns: int = 0
    closed_ns: int = 0
    calls: int = 0
    usage: tuple[int, ...] = _NO_COUNTS
    models: Sequence[tuple[str, int]] = ()
    reason: str | None = None
    granularity: str = ""


class Sums(Struct):
    """A record of numbers that commute: counts are added, times widened, labels kept (the first one in their order).

    `cost` in 1e-12 USD, `usage` in the order of `USAGE_CLASSES`; both may be negative in a change that moves an amount
    elsewhere, never in what is stored.
    `reasons` counts unpriced calls by reason. `arrival_ms` is when the record last changed; the store writes it, and
    retention goes by it.
    """

    cost: int = 0
    calls: int = 0
    priced: int = 0
    unpriced: int = 0
    usage: tuple[int, ...] = _NO_COUNTS
    tool_calls: int = 0
    spans: int = 0
    first_ns: int = 0
    last_ns: int = 0
    closed_ns: int = 0
    """When a session was ended last, by its source or on demand; 0: never."""
    arrival_ms: int = 0
    labels: dict[str, str] = {}
    reasons: dict[str, int] = {}
    models: dict[str, int] = {}
    named: dict[str, int] = {}
    """Of a session: how many of its spans are of each run that a trace names."""
    elsewhere: Sums | None = None
    """Of a session: the part that stands under runs which its traces know."""
    sessions: int = 0
    """Of what is gone: how many sessions it was."""
    granularities: dict[str, int] = {}
    """Of the calls, those that are no single model calls, by granularity."""
    facts: Facts | None = None
    """Of a session, and of its parts: what spans tell beside sums."""
    summarized_ns: int = 0
    """Of a session that is watched: up to which last activity a summary was sent, 1 before one was; 0 for any other."""
    speeds: dict[int, int] = {}
    """Of a day and model: how many calls were how fast, by bucket (`speeds_of`)."""
    parents: dict[str, int] = {}
    """How many spans name each session that spawned this one; of an agent's part, each agent above it."""
    record: bytes = b""
    """The stored form that they were read from; a copy has none."""

    def add(self, other: Sums, sign: int = 1) -> None:
        """Merge `other` into this one; with `sign` -1 take its counts out again (times and labels stay)."""
        if sign < 0:
            other = other._negative()
        self.cost += other.cost
        self.calls += other.calls
        self.priced += other.priced
        self.spans += other.spans
        if other.usage is not _NO_COUNTS:
            self.usage = other.usage if self.usage is _NO_COUNTS else tuple(map(add, self.usage, other.usage))
        if other.models:
            self.add_models(other.models)
        self.unpriced += other.unpriced
        self.tool_calls += other.tool_calls
        self.sessions += other.sessions
        names = other.named or other.parents
        if other.speeds or other.granularities or other.reasons or other.elsewhere is not None or other.facts or names:
            self._add_rest(other)
        if other.first_ns and (not self.first_ns or other.first_ns < self.first_ns):
            self.first_ns = other.first_ns
        if other.last_ns > self.last_ns:
            self.last_ns = other.last_ns
        if other.closed_ns > self.closed_ns:
            self.closed_ns = other.closed_ns
        if other.summarized_ns > self.summarized_ns:
            self.summarized_ns = other.summarized_ns
        if other.arrival_ms > self.arrival_ms:
            self.arrival_ms = other.arrival_ms
        labels = self.labels
        for name, text in other.labels.items():
            if text < labels.setdefault(name, text):
                labels[name] = text

    def enter(self, added: Added) -> None:
        """Add what one span adds, or takes out."""
        self.spans += added.spans
        if added.tool_calls:
            self.tool_calls += added.tool_calls
        if added.first_ns and (not self.first_ns or added.first_ns < self.first_ns):
            self.first_ns = added.first_ns
        if added.last_ns > self.last_ns:
            self.last_ns = added.last_ns
        if added.closed_ns > self.closed_ns:
            self.closed_ns = added.closed_ns
        for model, amount in added.models:
            self.cost += amount
            self.add_model(model, amount)
        if calls := added.calls:
            self.calls += calls
            if added.usage is not _NO_COUNTS:
                self.usage = added.usage if self.usage is _NO_COUNTS else tuple(map(add, self.usage, added.usage))
            if added.reason is None:
                self.priced += calls
            else:
                self.unpriced += calls
                _merge_counts(self.reasons, {added.reason: calls})
            if added.granularity:
                _merge_counts(self.granularities, {added.granularity: calls})

    def _add_rest(self, other: Sums) -> None:
        """Add what only some records have."""
        _merge_counts(self.speeds, other.speeds)
        _merge_counts(self.granularities, other.granularities)
        _merge_counts(self.reasons, other.reasons)
        if other.named or other.parents:
            count_names(self.named, other.named)
            count_names(self.parents, other.parents)
        if other.elsewhere is not None:
            self.elsewhere = self.elsewhere or Sums()
            self.elsewhere.add(other.elsewhere)
        if other.facts is not None:
            if self.facts is None:
                self.facts = other.facts.copy()
            else:
                self.facts.add(other.facts)

    def _negative(self) -> Sums:
        """Return what takes these counts out where it is added."""
        negative = Sums(-self.cost, -self.calls, -self.priced, -self.unpriced, tuple(map(neg, self.usage)))
        negative.tool_calls, negative.spans, negative.sessions = -self.tool_calls, -self.spans, -self.sessions
        negative.granularities, negative.speeds = _negative(self.granularities), _negative(self.speeds)
        negative.reasons, negative.models = _negative(self.reasons), _negative(self.models)
        negative.named, negative.parents = _negative(self.named), _negative(self.parents)
        negative.elsewhere = None if self.elsewhere is None else self.elsewhere._negative()
        negative.facts = None if self.facts is None else self.facts.negative()
        return negative

    def copy(self) -> Sums:
        """Return the same numbers, to be changed on their own."""
        copy = self._of_spans()
        copy.labels, copy.named, copy.parents = self.labels.copy(), self.named.copy(), self.parents.copy()
        copy.elsewhere = None if self.elsewhere is None else self.elsewhere.copy()
        copy.facts = None if self.facts is None else self.facts.copy()
        return copy

    def _of_spans(self) -> Sums:
        """Return the same numbers without names, what stands elsewhere, and facts."""
        counts = (self.cost, self.calls, self.priced, self.unpriced, self.usage, self.tool_calls, self.spans)
        copy = Sums(*counts, self.first_ns, self.last_ns, self.closed_ns, self.arrival_ms)
        copy.reasons, copy.models = self.reasons.copy(), self.models.copy()
        copy.sessions, copy.summarized_ns = self.sessions, self.summarized_ns
        copy.granularities, copy.speeds = self.granularities.copy(), self.speeds.copy()
        return copy

    def own(self) -> Sums:
        """Return the part of a session whose run the session decides, with no names; its times are the session's."""
        own = self._of_spans()
        if self.elsewhere is not None:
            own.add(structs.replace(self.elsewhere, models={}), -1)
            for name, amount in self.elsewhere.models.items():
                own.add_model(name if name in self.models else OTHER_MODELS, -amount)
        return own

    @property
    def closed(self) -> bool:
        """Return whether a session was ended and nothing was done since."""
        return self.closed_ns > 0 and self.last_ns <= self.closed_ns

    @property
    def is_empty(self) -> bool:
        """Return whether nothing is left of what was added: its spans turned out to be of others."""
        return not (self.spans or self.calls or self.cost or self.tool_calls)

    @property
    def runs(self) -> Collection[str]:
        """Return the runs that traces name for spans of a session; an empty one stands for those beyond a bound."""
        return [name for name, spans in self.named.items() if spans > 0] if self.named else ()

    @property
    def parent(self) -> str:
        """Return the session that spawned this one, or the agent above this one; of several the first by name. None is
        its own.
        """
        own = self.labels.get("id", "")
        return min((name for name, spans in self.parents.items() if name not in ("", own) and spans > 0), default="")

    @property
    def spent(self) -> UsageVector:
        """Return the cost and the counts by class."""
        return UsageVector(self.cost, self.usage)

    def add_models(self, models: Mapping[str, int]) -> None:
        """Merge costs by model."""
        mine = self.models
        if not mine and len(models) <= MODELS_KEPT:
            self.models = {name: amount for name, amount in models.items() if amount}
            return
        for name, amount in models.items():
            if name in mine and (total := mine[name] + amount):
                mine[name] = total
            else:
                self.add_model(name, amount)

    def add_model(self, name: str, amount: int) -> None:
        """Merge one model's cost; names come from the network, so that all beyond `MODELS_KEPT` are one: "other"."""
        models = self.models
        if name not in models and len(models) >= MODELS_KEPT:
            name = OTHER_MODELS
        total = models.get(name, 0) + amount
        if total:
            models[name] = total
        else:
            models.pop(name, None)

    def pack(self) -> bytes:
        """Return the stored form. Its second element is the arrival, as in every record that retention may take."""
        first, later = self.usage[:_CLASSES_OF_VERSION_1], self.usage[_CLASSES_OF_VERSION_1:]
        calls = (self.cost, self.calls, self.priced, self.unpriced)
        counts = [*calls, *first, self.tool_calls, self.spans, *later]
        times = [self.first_ns, self.last_ns, self.closed_ns]
        row = [_VERSION, self.arrival_ms, counts, times, self.labels, self.reasons, self.models, self.named]
        elsewhere = None if self.elsewhere is None else self.elsewhere.pack()
        facts = self.facts.pack() if self.facts is not None and self.facts.says_something else None
        speeds = dict(sorted(self.speeds.items())) if self.speeds else self.speeds
        return pack(
            [*row, elsewhere, self.sessions, self.granularities, facts, self.summarized_ns, speeds, self.parents]
        )

    @classmethod
    def unpack(cls, record: bytes) -> Sums:
        """Read a stored record; what a later version added at its end is left aside."""
        _, arrival_ms, counts, times, labels, reasons, models, named, *more = unpack(record)
        cost, calls, priced, unpriced, *numbers = _integers(counts)
        first, (tool_calls, spans, *later) = numbers[:_CLASSES_OF_VERSION_1], numbers[_CLASSES_OF_VERSION_1:]
        usage = (*first, *later)
        if len(usage) != len(_NO_COUNTS):
            usage = UsageVector.read(cost, usage).counts
        sums = cls(cost, calls, priced, unpriced, usage, tool_calls, spans)
        sums.record = record
        sums.first_ns, sums.last_ns, closed_ns = times
        sums.closed_ns = sums.last_ns if closed_ns is True else int(closed_ns)  # earlier records say no time
        sums.arrival_ms = arrival_ms
        sums.labels, sums.named = labels, named
        sums.reasons, sums.models = _integers_of(reasons), _integers_of(models)
        if more and more[0] is not None:
            sums.elsewhere = cls.unpack(more[0])
        if len(more) > 1:
            sums.sessions = more[1]
        if len(more) > 2:
            sums.granularities = _integers_of(more[2])
        if len(more) > 3 and more[3] is not None:
            sums.facts = Facts.unpack(more[3])
        if len(more) > 4:
            sums.summarized_ns = more[4]
        if len(more) > 5:
            sums.speeds = {int(bucket): int(count) for bucket, count in more[5].items()}
        if len(more) > 6:
            sums.parents = more[6]
        if type(named) is list or "parent" in labels:
            sums._count_earlier_names(named)
        return sums

    def _count_earlier_names(self, named: Collection[str]) -> None:
        """Count the runs and the parent of a record of schema 2 to 6, which tells no numbers: each has all the spans
        that may be of it, so that it stays as long as one of them does.
        """
        if type(named) is list:
            spans = self.elsewhere.spans if self.elsewhere is not None else 0
            self.named = dict.fromkeys(named, max(1, spans))
        if (parent := self.labels.pop("parent", "")) != "":
            count_names(self.parents, {parent: max(1, self.spans)})


class Merging:
    """Adds up stored records, of which no `Sums` is made: lists of them are read in a third of the time.

    Cost, calls, tokens, reasons, models and granularities are added, and with `speeds` how fast calls were; nothing
    else of the records is kept.
    """

    __slots__ = ("_counts", "_granularities", "_models", "_reasons", "_speeds")

    def __init__(self, *, speeds: bool = False) -> None:
        self._counts: list[int] = []
        self._speeds: dict[int, int] | None = {} if speeds else None
        self._reasons: dict[str, int] = {}
        self._models: dict[str, int] = {}
        self._granularities: dict[str, int] = {}

    def add(self, row: list[Any]) -> tuple[int, int]:
        """Add an unpacked record, and return its cost and its calls."""
        counts = _integers(row[2])
        self._counts = [*map(add, self._counts, counts)] if len(self._counts) == len(counts) else self._wider(counts)
        self._add_names(row)
        return counts[0], counts[1]

    def _add_names(self, row: list[Any]) -> None:
        models = self._models
        for name, cost in row[6].items():
            models[name] = models.get(name, 0) + (cost if type(cost) is int else int(cost))
        if row[5]:
            _merge_counts(self._reasons, _integers_of(row[5]))
        if len(row) > 10 and row[10]:
            _merge_counts(self._granularities, _integers_of(row[10]))
        if self._speeds is not None and len(row) > 13:
            _merge_counts(self._speeds, row[13])

    def add_all(self, rows: Sequence[list[Any]]) -> None:
        """Add unpacked records: counts by column, where they are of one length and below 64 bits."""
        counts = [row[2] for row in rows]
        try:
            columns = [sum(column) for column in zip(*counts, strict=True)]
        except (TypeError, ValueError):
            for row in rows:
                self.add(row)
            return
        self._counts = [*map(add, self._counts, columns)] if len(self._counts) == len(columns) else self._wider(columns)
        for row in rows:
            self._add_names(row)

    def take_out(self, other: Merging) -> None:
        """Take out what is in `other`; models and reasons of which nothing is left are dropped."""
        self._counts = self._wider([-count for count in other._counts])
        for mine, theirs in (
            (self._models, other._models),
            (self._reasons, other._reasons),
            (self._granularities, other._granularities),
        ):
            _merge_counts(mine, _negative(theirs))

    @property
    def is_below_nothing(self) -> bool:
        """Return whether more was taken out than was added: a part of what was added stands elsewhere."""
        return min(self._counts, default=0) < 0 or min(self._reasons.values(), default=0) < 0

    def _wider(self, counts: Sequence[int]) -> list[int]:
        return [sum(both) for both in zip_longest(self._counts, counts, fillvalue=0)]

    def row(self) -> list[Any]:
        """Return what the records add up to as an unpacked record, for `add`; all models are in it."""
        counts = self._counts or [0] * (4 + _CLASSES_OF_VERSION_1 + 2)
        return [_VERSION, 0, counts, [0, 0, 0], {}, self._reasons, self._models, {}, None, 0, self._granularities]

    def sums(self) -> Sums:
        """Return what the records add up to."""
        cost, calls, priced, unpriced, *numbers = self._counts or [0] * (4 + _CLASSES_OF_VERSION_1 + 2)
        first, (tool_calls, spans, *later) = numbers[:_CLASSES_OF_VERSION_1], numbers[_CLASSES_OF_VERSION_1:]
        usage = UsageVector.read(cost, (*first, *later)).counts
        sums = Sums(cost, calls, priced, unpriced, usage, tool_calls, spans)
        sums.add_models(dict(sorted(self._models.items(), key=lambda item: (-item[1], item[0]))))
        sums.reasons, sums.granularities = self._reasons, self._granularities
        sums.speeds = self._speeds or {}
        return sums


def _integers(counts: Sequence[Any]) -> Sequence[int]:
    """Return stored numbers, of which those beyond 64 bits are text."""
    try:
        sum(counts)
    except TypeError:
        return [int(count) for count in counts]
    return counts


def _integers_of(counts: dict[str, Any]) -> dict[str, int]:
    return dict(zip(counts, _integers(list(counts.values())), strict=True)) if counts else counts


def _negative(counts: Mapping[_Name, int]) -> dict[_Name, int]:
    return {name: -count for name, count in counts.items()}


def _merge_counts(into: dict[_Name, int], counts: Mapping[_Name, int]) -> None:
    for name, count in counts.items():
        total = into.get(name, 0) + count
        if total:
            into[name] = total
        else:
            into.pop(name, None)


def count_names(into: dict[str, int], names: Mapping[str, int]) -> None:
    """Count spans by what they name; all names beyond a bound are one."""
    for name, spans in names.items():
        if name not in into and len(into) >= _NAMES_KEPT:
            name = _OTHER_NAMES
        if total := into.get(name, 0) + spans:
            into[name] = total
        else:
            into.pop(name, None)


_STEPS = 4
"""Buckets from a number to its double."""
_BUCKETS = 128
_EDGES = [2 ** (number / _STEPS) for number in range(1, _BUCKETS)]
"""Where all buckets but the first begin, in thousandths: ms, or tokens in 1,000 s."""
_DURATION, _FIRST_TOKEN, _RATE = range(3)
_PERCENTILES = (50, 90, 99)


def speeds_of(calls: Iterable[tuple[int, int, int]]) -> list[int]:
    """Return the buckets of calls: of the duration of each, and of what else is known of it; none without a duration.

    A call is its duration and the time to its first token in ns (0: not reported), and its output tokens.
    """
    buckets: list[int] = []
    for duration_ns, first_token_ns, output in calls:
        if duration_ns > 0:
            buckets.append(bisect(_EDGES, duration_ns / 10**6))
            if first_token_ns > 0:
                buckets.append(_FIRST_TOKEN * _BUCKETS + bisect(_EDGES, first_token_ns / 10**6))
            if output > 0:
                buckets.append(_RATE * _BUCKETS + bisect(_EDGES, output * 10**12 / duration_ns))
    return buckets


def percentiles(speeds: Mapping[int, int]) -> dict[str, Any]:
    """Return calls and percentiles of what is known: seconds, and output tokens a second; nothing if nothing is."""
    rows = {}
    for kind, name in ((_DURATION, "duration_s"), (_FIRST_TOKEN, "first_token_s"), (_RATE, "output_tokens_per_s")):
        counts = sorted((bucket, calls) for bucket, calls in speeds.items() if bucket // _BUCKETS == kind)
        total = sum(calls for _, calls in counts)
        if total > 0:
            rows[name] = {"calls": total, **{f"p{share}": _at(counts, total, share) for share in _PERCENTILES}}
    return rows


def _at(counts: list[tuple[int, int]], total: int, share: int) -> float:
    """Return the middle of the bucket in which the call stands that `share` percent are not above."""
    left = -(-total * share // 100)
    for bucket, calls in counts:
        left -= calls
        if left <= 0:
            return float(f"{2 ** ((bucket % _BUCKETS + 0.5) / _STEPS) / 1000:.3g}")
    return 0.0
