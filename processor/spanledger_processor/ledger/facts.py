"""What a session's spans tell beside sums: turns, failures, who and where, when it was active, how its context and cost
grew.

All of it commutes and is bounded. Counts and costs are added and can be taken out again. Values, times and sizes are
only ever united: what a set of spans gives does not depend on their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from operator import add, neg
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from spanledger_processor.units import MS_PER_DAY, NS_PER_DAY, NS_PER_MS

EARLIEST_NS = 1_577_836_800 * 10**9
"""2020-01-01: an earlier time is of a clock that was never set, and no activity."""
AHEAD_NS = NS_PER_DAY
"""A time so far ahead of the clock is not kept as activity: the arrival stands for it, as it does where prices go by
time.
"""
_TOLERANCE_NS = 300 * 10**9
"""By so much the clock of a session that is asked for may be ahead."""
_LONGEST_MS = MS_PER_DAY
"""A span that takes longer is no activity in between its ends."""
VALUES_OF_A_NAME = 3
"""Values that are kept of one name: the first ones in their order."""
NEAREST_MS = 60_000
"""Times nearer than this are one stretch; what asks for longer gaps joins stretches (`active_ms`)."""
_STRETCHES = 256
"""From more on, the gap that divides two doubles: a session that pauses so often is measured coarsely."""
_SIZES = 64
"""Sizes kept; from more on, each stands for twice the time."""
_COSTS = 32
"""Costs kept; likewise."""
SHORTEST_S = 64
"""Seconds that a cost stands for at least."""

NO_FED = (0, 0, 0, 0)
"""No results of a tool went into a model call, as far as is seen."""

MODELS_KEPT = 64
"""Models distinguished in one record; the table of days has them all."""
OTHER_MODELS = "other"
TOOL_LABEL = "tool:"
"""With the name of a tool behind it, the model under which the tool's own cost is summed."""
ModelUse: TypeAlias = tuple[int, ...]
"""Calls of a model, and their usage by class."""

Latest: TypeAlias = tuple[int, bytes, bytes]
"""The end of a span in ns, its trace's id and its own."""


class Facts(Struct):
    """Facts of one session, or of its part by an agent or a tool.

    `turns` counts agents' spans that stand below no other agent's, `failed` spans whose status is an error, `denied`
    tool calls that were not allowed. `values` are what spans say under a name: dimensions, and `instance`
    (`service.instance.id`). `stretches` are times of activity in ms since 1970, from start to end, in order, none
    nearer to another than `gap_ms`; `sizes` are the most input tokens of a call by the time of its start in units of
    `unit_s` seconds. `loops` counts tool calls that completed a loop, `latest` is the span that ended last, and `costs`
    are what calls cost, in 1e-12 USD, by the time of their start in units of `cost_unit_s` seconds. `fed` is what
    results of a tool brought into model calls (`accounting.tool_calls`): results, tokens of input, 1e-12 USD, and
    results of which the cost is not known. `models` are the counted calls of a session by model, and their usage in the
    order of `USAGE_CLASSES`, up to the last that is not 0.
    """

    turns: int = 0
    failed: int = 0
    denied: int = 0
    values: dict[str, list[str]] = {}
    gap_ms: int = NEAREST_MS
    stretches: list[tuple[int, int]] = []
    unit_s: int = 1
    sizes: dict[int, int] = {}
    loops: int = 0
    latest: Latest | None = None
    cost_unit_s: int = SHORTEST_S
    costs: dict[int, int] = {}
    fed: tuple[int, int, int, int] = NO_FED
    models: dict[str, ModelUse] = {}

    def add(self, other: Facts, sign: int = 1) -> None:
        """Merge `other` into this one; with `sign` -1 take its counts out again."""
        if sign < 0:
            other = other.negative()
        self.turns += other.turns
        self.failed += other.failed
        self.denied += other.denied
        self.loops += other.loops
        if other.fed is not NO_FED:
            one, two, three, four = other.fed
            mine = self.fed
            self.fed = (mine[0] + one, mine[1] + two, mine[2] + three, mine[3] + four)
        for model, use in other.models.items():
            self.use(model, use)
        if other.costs:
            self._spend(other.cost_unit_s, [(at * other.cost_unit_s, cost) for at, cost in other.costs.items()])
        for name, values in other.values.items():
            self.say(name, *values)
        if other.stretches:
            self._join(other.gap_ms, other.stretches)
        if other.sizes:
            self._widen(other.unit_s, [(at * other.unit_s, size) for at, size in other.sizes.items()])
        if other.latest is not None:
            self.end(other.latest)

    def negative(self) -> Facts:
        """Return what takes these counts and costs out where it is added."""
        costs = {at: -cost for at, cost in self.costs.items()}
        counts = (-self.turns, -self.failed, -self.denied)
        negative = Facts(*counts, loops=-self.loops, cost_unit_s=self.cost_unit_s, costs=costs)
        if self.fed is not NO_FED:
            one, two, three, four = self.fed
            negative.fed = (-one, -two, -three, -four)
        negative.models = {model: tuple(map(neg, use)) for model, use in self.models.items()}
        return negative

    def copy(self) -> Facts:
        """Return the same facts, to be changed on their own."""
        values = {name: values.copy() for name, values in self.values.items()}
        counts = (self.turns, self.failed, self.denied)
        facts = Facts(*counts, values, self.gap_ms, self.stretches.copy(), self.unit_s, self.sizes.copy())
        facts.loops, facts.latest = self.loops, self.latest
        facts.cost_unit_s, facts.costs, facts.fed = self.cost_unit_s, self.costs.copy(), self.fed
        facts.models = self.models.copy()
        return facts

    def use(self, model: str, use: ModelUse) -> None:
        """Note calls of a model with their usage; names come from the network, so all beyond `MODELS_KEPT` are one."""
        models = self.models
        if model not in models and len(models) >= MODELS_KEPT:
            model = OTHER_MODELS
        total, before = use, models.get(model)
        if before is not None:
            is_even = len(before) == len(use)
            total = tuple(map(add, before, use) if is_even else map(sum, zip_longest(before, use, fillvalue=0)))
        size = len(total)
        while size and not total[size - 1]:
            size -= 1
        total = total[:size]
        if total:
            models[model] = total
        else:
            models.pop(model, None)

    def say(self, name: str, *values: str) -> None:
        """Note what spans say under a name."""
        known = self.values.get(name)
        if known is None or any(value not in known for value in values):
            self.values[name] = sorted({*(known or ()), *values})[:VALUES_OF_A_NAME]

    def act(self, starts_ns: Sequence[int], ends_ns: Sequence[int]) -> None:
        """Note from when to when something was done each time."""
        stretch = _one_stretch(starts_ns, ends_ns, self.gap_ms)
        if stretch is not None:
            self._join(self.gap_ms, [stretch])
            return
        stretches: list[tuple[int, int]] = []
        for start_ns, end_ns in zip(starts_ns, ends_ns, strict=True):
            start, end = start_ns // NS_PER_MS, max(start_ns, end_ns) // NS_PER_MS
            if start_ns >= EARLIEST_NS:
                stretches += [(start, end)] if end - start <= _LONGEST_MS else [(start, start), (end, end)]
        self._join(self.gap_ms, stretches)

    def grow(self, starts_ns: Sequence[int], sizes: Sequence[int]) -> None:
        """Note the input tokens of calls by the time when they began."""
        self._widen(self.unit_s, _by_second(starts_ns, sizes, max))

    def end(self, latest: Latest) -> None:
        """Note the end of a span."""
        if self.latest is None or latest > self.latest:
            self.latest = latest

    def spend(self, starts_ns: Sequence[int], costs: Sequence[int]) -> None:
        """Note what calls cost, by the time when they began; negative amounts take some out again."""
        self._spend(self.cost_unit_s, _by_second(starts_ns, costs, sum))

    def active_ms(self, gap_ms: int) -> int:
        """Return for how long something was done, gaps of up to `gap_ms` between two calls included."""
        return sum(end - start for start, end in _joined(self.stretches, gap_ms))

    def _join(self, gap_ms: int, stretches: Iterable[tuple[int, int]]) -> None:
        gap_ms = max(gap_ms, self.gap_ms)
        joined = _joined([*self.stretches, *stretches], gap_ms)
        while len(joined) > _STRETCHES:
            gap_ms *= 2
            joined = _joined(joined, gap_ms)
        self.gap_ms, self.stretches = gap_ms, joined

    def _widen(self, unit_s: int, sizes: Iterable[tuple[int, int]]) -> None:
        self.unit_s, self.sizes = _united(self.unit_s, self.sizes, unit_s, sizes, _SIZES, max)

    def _spend(self, unit_s: int, costs: Iterable[tuple[int, int]]) -> None:
        """Add amounts by time. Those that come to 0 stay: for how long each stands depends on the times alone."""
        self.cost_unit_s, self.costs = _united(self.cost_unit_s, self.costs, unit_s, costs, _COSTS, add)

    @property
    def says_something(self) -> bool:
        """Return whether it is worth storing: that of most agents and tools, whose spans came to their end, is not."""
        counts = self.turns or self.failed or self.denied or self.loops or any(self.fed)
        return bool(counts or self.latest or self.values or self.stretches or self.sizes or self.costs or self.models)

    def pack(self) -> list[Any]:
        """Return the stored form: plain values."""
        stretches = [time for stretch in self.stretches for time in stretch]
        counts = (self.turns, self.failed, self.denied)
        row = [counts, self.values, self.gap_ms, _steps(stretches), self.unit_s, self.sizes]
        row += [self.loops, self.latest, self.cost_unit_s, self.costs]
        if self.models:
            return [*row, self.fed, self.models]
        return [*row, self.fed] if any(self.fed) else row

    @classmethod
    def unpack(cls, row: list[Any]) -> Facts:
        """Read a stored form; what a later version added at its end is left aside."""
        counts, values, gap_ms, steps, unit_s, sizes, *more = row
        turns, failed, denied = map(int, counts[:3])
        times = _sums(steps)
        stretches = list(zip(times[::2], times[1::2], strict=True))
        facts = cls(turns, failed, denied, values, gap_ms, stretches, unit_s, sizes)
        if more:
            facts.loops, latest, facts.cost_unit_s, costs, *later = more
            facts.latest = None if latest is None else (latest[0], latest[1], latest[2])
            facts.costs = {at: int(cost) for at, cost in costs.items()}
            if later:
                fed = (int(later[0][0]), int(later[0][1]), int(later[0][2]), int(later[0][3]))
                facts.fed = fed if any(fed) else NO_FED
            if len(later) > 1:
                facts.models = {model: tuple(map(int, use)) for model, use in later[1].items()}
        return facts


def _one_stretch(starts_ns: Sequence[int], ends_ns: Sequence[int], gap_ms: int) -> tuple[int, int] | None:
    """Return from when to when something was done in ms, where that is one stretch by the ends of these times alone."""
    if not starts_ns:
        return None
    first_ns, latest_ns = min(starts_ns), max(starts_ns)
    first, last = first_ns // NS_PER_MS, max(latest_ns, max(ends_ns)) // NS_PER_MS
    is_one = latest_ns // NS_PER_MS - first <= gap_ms and last - first <= _LONGEST_MS
    return (first, last) if is_one and first_ns >= EARLIEST_NS else None


def _by_second(
    starts_ns: Sequence[int], values: Sequence[int], join: Callable[[Sequence[int]], int]
) -> Sequence[tuple[int, int]]:
    """Return the values of known times by second, in the order of these; where all are of one, as in a request of quick
    calls, joined.
    """
    if not starts_ns:
        return ()
    first_ns = min(starts_ns)
    second = first_ns // 10**9
    if first_ns >= EARLIEST_NS and max(starts_ns) // 10**9 == second:
        return ((second, join(values)),)
    in_order = sorted(zip(starts_ns, values, strict=True))
    return [(start_ns // 10**9, value) for start_ns, value in in_order if start_ns >= EARLIEST_NS]


def _united(
    unit: int,
    points: dict[int, int],
    other_unit: int,
    others: Iterable[tuple[int, int]],
    most: int,
    join: Callable[[int, int], int],
) -> tuple[int, dict[int, int]]:
    """Join values by second into values by unit; return the unit, doubled until there are `most` at most, and those.

    Both units are powers of 2, and the longer one holds.
    """
    if other_unit > unit:
        unit, points = other_unit, _coarser(points, other_unit // unit, join)
    for second, value in others:
        place = second // unit
        points[place] = join(points[place], value) if place in points else value
    while len(points) > most:
        unit, points = 2 * unit, _coarser(points, 2, join)
    return unit, points


def _coarser(points: dict[int, int], times: int, join: Callable[[int, int], int]) -> dict[int, int]:
    """Let each value stand for so many times the time."""
    coarse: dict[int, int] = {}
    for place, value in points.items():
        at = place // times
        coarse[at] = join(coarse[at], value) if at in coarse else value
    return coarse


def _joined(stretches: Iterable[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _steps(numbers: list[int]) -> list[int]:
    """Return each number less the one before it: short ones."""
    return [number - before for before, number in zip([0, *numbers], numbers, strict=False)]


def _sums(steps: list[int]) -> list[int]:
    return [*accumulate(steps)]


def activity_ns(at_ns: int, now_ns: int) -> int:
    """Return the time of an event as activity: its own, or that of its arrival where it is far ahead of that."""
    return at_ns if at_ns <= now_ns + AHEAD_NS else now_ns


class Session(Protocol):
    """What a state depends on: `sums.Sums`."""

    last_ns: int
    arrival_ms: int

    @property
    def closed(self) -> bool: ...


def believed_ns(session: Session) -> int:
    """Return the last activity of a session; its last arrival, where it is far ahead of that."""
    arrival_ns = session.arrival_ms * NS_PER_MS
    return session.last_ns if session.last_ns <= arrival_ns + NS_PER_DAY else arrival_ns


STATES = ("active", "idle", "stale", "closed")
"""The states of a session."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """When a session ceases to be active, and to be idle; both by the time since its last activity."""

    active_ns: int = 300 * 10**9
    idle_ns: int = 4 * 3600 * 10**9

    def state(self, session: Session, now_ns: int) -> str:
        """Return `active`, `idle` or `stale`, or `closed`.

        By the time of the events against the clock, so that a replay of old data is not live. For a last activity that
        is ahead of the last arrival by more than five minutes, that arrival stands.
        """
        if session.closed:
            return "closed"
        arrival_ns = session.arrival_ms * NS_PER_MS or session.last_ns
        gap = now_ns - (session.last_ns if session.last_ns <= arrival_ns + _TOLERANCE_NS else arrival_ns)
        return "active" if gap <= self.active_ns else "idle" if gap <= self.idle_ns else "stale"


USUAL = Lifecycle()
"""The thresholds that need no configuration."""
