"""The input and the output of the accounting: facts in batches, and rulings."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from hashlib import blake2b
from itertools import chain
from operator import attrgetter
from typing import NamedTuple, TypeAlias

from spanledger_processor.accounting.grouping import NOTHING, Named
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.store import Changes
from spanledger_processor.model import Call, Cost, Decision, Signature, counts_of
from spanledger_processor.units import Pico

ORIGIN = (
    *("service", "host", "host", "host", "process", "process", "language", "user", "service", "service", "host"),
    "tier",
)
"""What each element of `Evidence.origin` tells apart; different values of one element are of different origin.

The last one is no origin, but the service tier of the call: flex, priority, batch, and nothing for the standard, which
a report that does not know the tier cannot be told from.
"""


_CLASSES_OF_VERSION_1 = 6
"""Usage classes of the first digests, which are stored; of later ones only those reported are in a digest."""


class Evidence(NamedTuple):
    """The data beside usage, times and libraries by which two spans are known to report one call, or two.

    `asked` is the model that was asked where another name answered. `ids` are hashes of ids of the call other than its
    response id (request ids, call ids of a gateway), `origin` hashes of names in the order of `ORIGIN`, b"" where there
    is none; it may be empty.
    """

    asked: str = ""
    ids: tuple[bytes, ...] = ()
    origin: tuple[bytes, ...] = ()


NO_EVIDENCE = Evidence()


def in_pairs(flat: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return the pairs of a flat list, in which names and values, or ids and tools, stand in turn.

    Those lists are kept flat: they are hashed, compared and packed more often than their pairs are looked at.
    """
    return zip(flat[::2], flat[1::2], strict=True)


AskedAgain: TypeAlias = tuple[str, str, str, int, int]
"""A tool call that a conversation made before: its id, signature and tool; the times that it was made, and in a row."""


@dataclass(slots=True)
class Fact:
    """One span of a request: a GenAI span (`call` is set), or a plain one whose links and names matter.

    `trace_id` and `span_id` are as on the wire, or a digest of the span where those are invalid. `digest` is a hash
    of the usage that was read: a repeat with another digest is a conflict. `result` is a hash of a tool's result.
    `dimensions` are names and values in turn, by name; `failed`: the span's status is an error.
    `instance` is its process (`service.instance.id`), `agent` the name of its agent. `card` is the rate
    card of its model (`Card.written`), where log events below it name no model, `first_token_ns` how long after its
    start the first token of its answer came (0: not reported). `fee` is what an execution of a tool costs by itself.
    `asked` are the tool calls that a model's output asks for, `stuck` those of its input that completed a loop by its
    history: ids and tools in turn. `stuck_steps` are the ids of the steps of those loops. `asked_signatures` are
    those of `asked` by which loops are found where nothing tells their results, one of each, empty of those without
    known arguments; none where results are reported. `asked_again` are calls of its input that it made before.
    Times in ns since 1970; `day` is days since 1970 by the time that prices go by.
    """

    trace_id: bytes
    span_id: bytes
    parent_id: bytes = b""
    start_ns: int = 0
    end_ns: int = 0
    scope: str = ""
    session: Named = NOTHING
    run: Named = NOTHING
    session_parent_id: str = ""
    call: Call | None = None
    cost: Cost | None = None
    signature: Signature | None = None
    result: bytes = b""
    day: int = 0
    digest: bytes = b""
    evidence: Evidence = NO_EVIDENCE
    dimensions: tuple[str, ...] = ()
    failed: bool = False
    instance: str = ""
    agent: str = ""
    card: str = ""
    first_token_ns: int = 0
    fee: Cost | None = None
    asked: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    stuck_steps: tuple[tuple[str, ...], ...] = ()
    asked_signatures: tuple[str, ...] = ()
    asked_again: tuple[AskedAgain, ...] = ()

    @property
    def is_genai(self) -> bool:
        """Return whether it is a GenAI span; of a usual call that is known without making `call`."""
        return self.call is not None


def digest_of(call: Call, begun: blake2b | None = None) -> bytes:
    """Return a hash of the usage and cost that a span reports, by which a repeat is distinguished from a conflict.

    `begun` is the beginning of that of a call with its models and without a cost.
    """
    usage, reported = call.usage or call.fallback, call.reported
    if begun is None or reported is not None:
        begun = begun_digest(models_reported(call, reported.amount if reported else None))
    if usage is None:
        return _ended(begun, "None)")
    counts = counts_of(usage)
    later = counts[_CLASSES_OF_VERSION_1:]
    return digest_with(begun, counts[:5], later if any(later) else ())


def models_reported(call: Call, amount: Pico | None) -> str:
    """Return the part of a digest that has a call's models and its reported amount."""
    return f"({call.request_model!r}, {call.response_model!r}, {amount})"  # twice as fast as repr of tuples


def begun_digest(models: str) -> blake2b:
    """Return the beginning of the digests of calls that tell the same models."""
    return blake2b(f"({models}, ".encode("utf-8", "surrogatepass"), digest_size=16)


def digest_with(begun: blake2b, counts: tuple[int | None, ...], later: tuple[int | None, ...] = ()) -> bytes:
    """Return the digest that was begun, of a call that tells these counts of the first five classes, and later ones."""
    return _ended(begun, f"{counts!r}{later!r})" if later else f"{counts!r})")


def _ended(begun: blake2b, tokens: str) -> bytes:
    digest = begun.copy()
    digest.update(tokens.encode())
    return digest.digest()


@dataclass(slots=True)
class LoopRule:
    """When a tool call completes a loop without progress: so many times in a row; so many times in all; or as the end
    of two to five calls that come so many times in turn (`cycles`).

    0 switches one off. What began more than `window_ns`, or more than `calls` tool calls, before does not count; nor,
    but for `repeats`, does what had ended more than `gap_ns` before the next call of the loop began.
    `tools` has other thresholds for tools by pattern of their name: pattern, consecutive, repeats, cycles.
    """

    consecutive: int = 0
    repeats: int = 0
    window_ns: int = 3600 * 10**9
    cycles: int = 0
    calls: int = 100
    tools: tuple[tuple[str, int, int, int], ...] = ()
    gap_ns: int = 600 * 10**9

    def of(self, tool: str) -> LoopRule:
        """Return the rule for a tool: the first pattern that its name matches, as file names match."""
        for pattern, consecutive, repeats, cycles in self.tools:
            if fnmatchcase(tool, pattern):
                return replace(self, consecutive=consecutive, repeats=repeats, cycles=cycles, tools=())
        return self

    @property
    def fewest_calls(self) -> int:
        """Return the fewest tool calls that complete a loop, of whichever tools; 0 where none do."""
        rows = [(self.consecutive, self.repeats, self.cycles), *(row[1:] for row in self.tools)]
        steps = [step for consecutive, repeats, cycles in rows for step in (consecutive, repeats, 2 * cycles) if step]
        return min(steps, default=0)


_ids_of: Callable[[Fact], tuple[bytes, bytes]] = attrgetter("trace_id", "span_id")


@dataclass(slots=True)
class Batch:
    """The spans of one request, in any order.

    `aliases` are the keys to which the cost is copied, `budgets` those of all tenants. `watched`: summaries of sessions
    are to be sent when they end (`ledger.summaries`), or warnings of them.

    `is_part`: of a large request, which takes long; others go first.

    `tenant` is the hash of the tenant's name, for keys; `tenant_name` is kept with the tenant's total, to be listed.
    """

    tenant: bytes
    facts: list[Fact]
    now_ns: int
    loop: LoopRule = field(default_factory=LoopRule)
    aliases: tuple[str, ...] = ()
    budgets: tuple[BudgetRule, ...] = ()
    tenant_name: str = ""
    watched: bool = False
    is_part: bool = False

    @property
    def count(self) -> int:
        """Return how many spans it has."""
        return len(self.facts)

    def only(self, indexes: Sequence[int]) -> Batch:
        """Return a batch of some of its spans."""
        return self if len(indexes) == len(self.facts) else replace(self, facts=[self.facts[one] for one in indexes])

    def genai_traces(self) -> set[bytes]:
        """Return the ids of the traces of its GenAI spans."""
        return {fact.trace_id for fact in self.facts if fact.is_genai}

    def digest(self) -> bytes:
        """Return a hash that differs from that of other requests of the same time."""
        ids = chain.from_iterable(map(_ids_of, self.facts))
        return blake2b(b"".join(ids), digest_size=8, key=self.tenant).digest()


class RuledAlike(NamedTuple):
    """Decisions on usual calls by columns: the indexes of the calls in their batch, and of each the decision on a call
    like it, its run, and the running totals of session and run with it.
    """

    indexes: Sequence[int]
    prototypes: Sequence[Decision]
    runs: Sequence[Named]
    session_costs: Sequence[Pico]
    run_costs: Sequence[Pico | None]

    def end_below(self, index: int, first: int) -> int:
        """Return the place of the first of them, from `first` on, that is not below an index: all behind it are not."""
        return bisect_left(self.indexes, True, first, key=lambda one: one >= index)

    def part(self, rows: slice, first: int) -> RuledAlike:
        """Return some of them, on a batch that begins at index `first` of this one."""
        indexes, prototypes, runs, session_costs, run_costs = self
        of_part = [index - first for index in indexes[rows]]
        return RuledAlike(of_part, prototypes[rows], runs[rows], session_costs[rows], run_costs[rows])


@dataclass(slots=True)
class Ruling:
    """The result for a batch: a decision for each GenAI span (by its index in the batch), and what to store.

    Decisions on usual calls of a `ColumnBatch` are `alike`, and stand neither in `decisions` nor in `fresh`.
    `fresh` has the indexes of the spans that were not known before. `replays` counts those seen before, `conflicts`
    those of them with other usage than the first time. `correction` is by how much what was sent now exceeds the
    ledger more than before (docs/contract.md#promise-1-sums-are-true); `cut_traces` counts traces that were
    forgotten in part for the first time, with a loss.
    """

    decisions: dict[int, Decision] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    fresh: list[int] = field(default_factory=list)
    replays: int = 0
    conflicts: int = 0
    corrections: int = 0
    correction: Pico = 0
    cut_traces: int = 0
    alike: RuledAlike | None = None

    def add(self, other: Ruling, indexes: Sequence[int]) -> None:
        """Take in the ruling, less its changes, on further facts, which are at `indexes` of the batch."""
        self.decisions.update((indexes[index], decision) for index, decision in other.decisions.items())
        self.fresh += [indexes[index] for index in other.fresh]
        self.replays += other.replays
        self.conflicts += other.conflicts
        self.corrections += other.corrections
        self.correction += other.correction
        self.cut_traces += other.cut_traces
