"""The one shape that every GenAI dialect is read into.

A dialect fills a `Call`; pricing, signing, grouping and accounting read nothing else of a span's attributes.
Amounts of money are integers of 1e-12 USD (`Pico`) everywhere but on spans and in answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import add, attrgetter, sub
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from spanledger_processor.units import Pico

Kind: TypeAlias = Literal["llm", "embedding", "rerank", "retrieval", "tool", "agent", "workflow", "other"]
Granularity: TypeAlias = Literal["per-message", "per-turn", "per-session-aggregate", "cost-only"]
CALLS: frozenset[Kind] = frozenset(("llm", "embedding", "rerank"))
"""Kinds of one call of a model, which costs something."""
CONTAINERS: frozenset[Kind] = frozenset(("agent", "workflow", "other"))
"""Kinds that may hold calls to which no link leads; usage of their own is a sum over calls."""
AGGREGATES: frozenset[Kind] = frozenset(("agent", "workflow", "tool"))
"""Kinds that report no call themselves: usage of theirs is the sum of calls below them."""
NO_OUTPUT: frozenset[Kind] = frozenset(("embedding", "rerank"))
"""Kinds of calls that put out no tokens, and whose answers no chain or agent hands on."""
Unpriced: TypeAlias = Literal[
    "no_model", "no_usage", "unknown_provider", "unknown_model", "inconsistent_usage", "not_accounted"
]
Plan: TypeAlias = Literal["", "subscription", "provisioned"]
CostSource: TypeAlias = Literal["", "response_cache", "billed", "computed", "reported"]
Absent: TypeAlias = Literal["unknown", "none"]


def _sold(price: str, *part_of: str, unit: str = "token", absent: Absent = "unknown", own_price: bool = False) -> Any:
    """Declare a usage class; the arguments are fields of `UsageClass`."""
    fields = {"price": price, "part_of": part_of, "unit": unit, "absent": absent, "own_price": own_price}
    return field(default=None, metadata=fields)


@dataclass(slots=True)
class Usage:
    """The usage of one call, in the convention's sense: input includes both caches, output includes reasoning.

    `None` is unknown; 0 is a count of zero. Each field is a usage class, declared here and nowhere else: prices, sums,
    records, rows and attributes follow `USAGE_CLASSES`. A class stands below the classes that it is part of; a new one
    is appended, because stored records go by the order.
    """

    input: int | None = _sold("input_mtok")
    output: int | None = _sold("output_mtok")
    cache_read: int | None = _sold("cache_read_mtok", "input")
    cache_write: int | None = _sold("cache_write_mtok", "input")
    cache_write_1h: int | None = _sold("cache_write_1h_mtok", "cache_write")
    reasoning: int | None = _sold("output_reasoning_mtok", "output")
    input_audio: int | None = _sold("input_audio_mtok", "input", absent="none", own_price=True)
    input_image: int | None = _sold("input_image_mtok", "input", absent="none", own_price=True)
    cache_read_audio: int | None = _sold("cache_audio_read_mtok", "cache_read", "input_audio", own_price=True)
    cache_read_image: int | None = _sold("cache_image_read_mtok", "cache_read", "input_image", own_price=True)
    output_audio: int | None = _sold("output_audio_mtok", "output", own_price=True)
    output_image: int | None = _sold("output_image_mtok", "output", own_price=True)
    web_searches: int | None = _sold("web_searches_kcount", unit="search", absent="none", own_price=True)
    search_units: int | None = _sold("rerank_searches_kcount", unit="search unit", absent="none", own_price=True)
    file_searches: int | None = _sold("storage_searches_kcount", unit="search", absent="none", own_price=True)


@dataclass(frozen=True, slots=True)
class UsageClass:
    """One class of usage.

    `price` is its key in genai-prices, `part_of` the classes that include it. `absent` says what it means that a call
    does not tell the class: "unknown", or "none", where nearly all calls have none of it. With `own_price` it may cost
    something else than what includes it even where the list has no price for it.
    """

    name: str
    price: str
    part_of: tuple[str, ...]
    unit: str
    absent: Absent
    own_price: bool

    @property
    def attribute(self) -> str:
        """Return the name under `spanledger.usage.`."""
        return f"{self.name}_tokens" if self.unit == "token" else self.name

    @property
    def label(self) -> str:
        """Return the name as people read it."""
        return self.name.replace("_", " ")

    @property
    def cost(self) -> str:
        """Return the part of a `Cost` that its money is in."""
        if self.unit != "token":
            return "other"
        whole = next((one for one in USAGE_CLASSES if one.name == self.part_of[0]), None) if self.part_of else None
        return self.name if whole is None or self.name in ("cache_read", "cache_write") else whole.cost


USAGE_CLASSES = tuple(UsageClass(one.name, **one.metadata) for one in fields(Usage))
"""The classes in the order of `Usage`."""

CLASS_NAMES = tuple(one.name for one in USAGE_CLASSES)
INPUT: Final = 0
OUTPUT: Final = 1
CACHE_READ: Final = 2
CACHE_WRITE: Final = 3
REASONING: Final = 5
"""Indexes of counts that are in the order of `USAGE_CLASSES`."""
OUTPUT_ALONE: Final = slice(OUTPUT, OUTPUT + 1)
ALL_BUT_TOTALS: Final = slice(OUTPUT + 1, None)
"""The output of such counts, and what stands after input and output; nothing where there are no counts."""
FURTHER_CLASSES = frozenset(CLASS_NAMES) - {"input", "output", "cache_read", "cache_write", "cache_write_1h"}
"""The usage classes that an override prices by their names; the others have a field of their own."""

counts_of: Callable[[Usage], tuple[int | None, ...]] = attrgetter(*CLASS_NAMES)
"""The counts of a usage in the order of `USAGE_CLASSES`."""

SixCounts: TypeAlias = tuple[int, int | None, int | None, int | None, int | None, int | None]
"""The counts of `TEXT_CLASSES`: nearly all calls have no others."""
TEXT_CLASSES, OTHER_CLASSES = CLASS_NAMES[:6], CLASS_NAMES[6:]
"""The classes in which usage of text is counted, and those beside them."""

_NO_COUNTS: tuple[int, ...] = (0,) * len(USAGE_CLASSES)
_UNKNOWN: Mapping[int | None, int] = {None: 0}


def known_counts(counts: Sequence[int | None]) -> tuple[int, ...]:
    """Return counts with 0 in place of those that are not known."""
    return tuple(map(_UNKNOWN.get, counts, counts))  # type: ignore[arg-type]


class UsageVector(Struct, frozen=True):
    """Money and counts that are summed over calls; parts of a difference may be negative.

    `counts` in the order of `USAGE_CLASSES`.
    """

    cost: Pico = 0
    counts: tuple[int, ...] = _NO_COUNTS

    @classmethod
    def read(cls, cost: Any, counts: Sequence[Any]) -> UsageVector:
        """Return the vector of a stored record, whose version may have had fewer classes or more."""
        known = tuple(int(count) for count in counts[: len(_NO_COUNTS)])
        return cls(int(cost), known + _NO_COUNTS[len(known) :])

    def __add__(self, other: UsageVector) -> UsageVector:
        return UsageVector(self.cost + other.cost, tuple(map(add, self.counts, other.counts)))

    def __sub__(self, other: UsageVector) -> UsageVector:
        return UsageVector(self.cost - other.cost, tuple(map(sub, self.counts, other.counts)))

    def __bool__(self) -> bool:
        return self.cost != 0 or (self.counts is not _NO_COUNTS and any(self.counts))

    def uncovered(self, credit: UsageVector) -> UsageVector:
        """Return what is left after what `credit` has paid, part by part, never below 0."""
        if not credit:
            return self
        counts = tuple(max(0, count - max(0, paid)) for count, paid in zip(self.counts, credit.counts, strict=True))
        return UsageVector(max(0, self.cost - max(0, credit.cost)), counts)

    def __getitem__(self, name: str) -> int:
        """Return the count of a class."""
        return self.counts[CLASS_NAMES.index(name)]

    def by_class(self) -> dict[str, int]:
        """Return the counts by the names of their classes."""
        return dict(zip(CLASS_NAMES, self.counts, strict=True))


NO_SPEND = UsageVector()
"""Nothing was spent."""


class ReportedCost(Struct):
    """A cost that came in on the span.

    `billed` is true where the one that charges (provider or gateway) said it; false for a library's own estimate.
    `upstream` is what the provider charges for a call that went through a gateway; `own_key` is true or false where
    the span says that the caller's own key was used or was not, None where it says nothing: with it the provider
    charges `upstream` beside the gateway's `amount`. `reliable` is false for a cost that this library is known to get
    wrong, and `means_zero` true where an amount of 0 is not what stands for an unknown one. `same_list` is true for a
    library that multiplies by the price list that we have.
    """

    amount: Pico
    billed: bool
    key: str
    upstream: Pico | None = None
    own_key: bool | None = None
    reliable: bool = True
    means_zero: bool = False
    same_list: bool = False


class ToolCall(Struct):
    """A tool execution. `arguments` is a str (JSON or other text), bytes, a plain Python value, or None if absent.

    `signature` and `signature_scope` are there where the source signed the call itself: its arguments stay where they
    are (docs/contract.md#synthesized-spans). `denied`: it was not allowed, so that it is no step of a loop.
    `result` is what the tool gave back, as plain as the arguments.
    """

    name: str | None
    arguments: Any = None
    call_id: str | None = None
    signature: str = ""
    signature_scope: str = ""
    denied: bool = False
    result: Any = None


class Call(Struct):
    """The content of one GenAI span, whatever its vocabulary.

    `problem` is set where usage was there but contradicts itself (cache larger than input, negative counts); `usage`
    then holds what could be read. `estimate` is true where a class or the inclusive/exclusive reading had to be
    guessed. `price_context` is what genai-prices calls so, e.g. (("service_tier", "flex"),). `response_cache` is true
    where the application's or a proxy's own cache answered: nobody was called. `plan` says that the call is paid for
    otherwise. `unclassed` names what was used beside the usage classes and may cost something: "video tokens", "code
    executions". `present` names the cost alias keys that came in, which are never overwritten. `fallback` is usage that
    only a raw provider answer inside the span holds: it stands in where no span of the trace has usage of its own, else
    a hand-over would be counted again. `answered` is true where an answer began, so that a failed request is a call.
    `unknown_operation` is the operation of a span with usage that no table knows. With `prices_events` log events below
    the span report calls of its model, and do not name it. `provider` is the one that is named, `endpoint_provider` the
    one whose host was asked, where that is told and known.
    """

    dialect: str
    kind: Kind
    granularity: Granularity = "per-message"
    provider: str = ""
    request_model: str = ""
    response_model: str = ""
    usage: Usage | None = None
    fallback: Usage | None = None
    problem: str = ""
    estimate: bool = False
    reported: ReportedCost | None = None
    price_context: tuple[tuple[str, str], ...] = ()
    tool: ToolCall | None = None
    response_id: str = ""
    agent_id: str = ""
    agent_parent_id: str = ""
    task_id: str = ""
    task_kind: str = ""
    session_parent_id: str = ""
    session_name: str = ""
    session_project: str = ""
    session_closed: bool = False
    source: str = ""
    note: str = ""
    response_cache: bool = False
    plan: Plan = ""
    unclassed: tuple[str, ...] = ()
    answered: bool = False
    prices_events: bool = False
    unknown_operation: str = ""
    present: frozenset[str] = frozenset()
    endpoint_provider: str = ""

    @property
    def model(self) -> str:
        """Return the model that decides the price: the one that answered, else the one that was asked for."""
        return self.response_model or self.request_model


CostParts: TypeAlias = tuple[Pico, Pico, Pico, Pico, Pico]
"""The parts of a computed cost, in the order of `Cost`."""


class Cost(Struct):
    """The money of one call.

    `amount` is what counts, by `source`; None exactly where `unpriced` says why. `computed` and its parts are there
    whenever a price was found: input + cache_read + cache_write + output + other == computed, exactly. `price` names
    where the rates came from, `note` what a reader should know about the amount. All amounts are >= 0.
    """

    amount: Pico | None = None
    source: CostSource = ""
    computed: Pico | None = None
    input: Pico = 0
    cache_read: Pico = 0
    cache_write: Pico = 0
    output: Pico = 0
    other: Pico = 0
    reported: Pico | None = None
    price: str = ""
    estimate: bool = False
    unpriced: Unpriced | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class CostAlias:
    """What stands under a key that another backend reads a cost from: the amount that counts.

    With `part` it is the sum of these fields of `Cost` instead. With `total` it is a JSON object, which has the amount
    under that name, and under those of `parts` sums of fields of `Cost`.
    """

    part: tuple[str, ...] = ()
    total: str = ""
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_PROMPT = ("input", "cache_read", "cache_write")

COST_ALIASES: Mapping[str, CostAlias] = {
    "gen_ai.usage.cost": CostAlias(),
    "operation.cost": CostAlias(),
    "llm.cost.total": CostAlias(),
    "llm.cost.prompt": CostAlias(part=_PROMPT),
    "llm.cost.prompt_details.input": CostAlias(part=("input",)),
    "llm.cost.prompt_details.cache_read": CostAlias(part=("cache_read",)),
    "llm.cost.prompt_details.cache_write": CostAlias(part=("cache_write",)),
    "llm.cost.completion": CostAlias(part=("output",)),
    "llm.cost.completion_details.output": CostAlias(part=("output",)),
    "langfuse.observation.cost_details": CostAlias(
        total="total",
        parts={
            "input": ("input",),
            "input_cached_tokens": ("cache_read",),
            "input_cache_creation": ("cache_write",),
            "output": ("output",),
            "other": ("other",),
        },
    ),
    "mlflow.llm.cost": CostAlias(total="total_cost", parts={"input_cost": _PROMPT, "output_cost": ("output",)}),
}
"""Keys of other backends that a cost is copied to (docs/contract.md#aliases). One that came in is never overwritten."""


class Signature(Struct):
    """A keyed hash of a tool call: `value` is h1:<key id>:<hash>, `scope` one of full, truncated, name_only."""

    value: str
    scope: str


@dataclass(slots=True)
class Decision:
    """One GenAI span's place in the ledger, and thereby its attributes.

    `usage` is None where the span adds nothing (no usage, repeats its children, duplicate of another span).
    `aliases` holds the keys to which the amount is copied for other backends. `reason` says why the span counts beside
    another one or not: a code of `accounting/one_call`, and the other's span id. `budget_used` is the share of a budget
    that is used with this span; 1 is all of it.
    """

    kind: Kind
    dialect: str
    granularity: Granularity = "per-message"
    session_id: str = ""
    session_source: str = ""
    session_parent_id: str = ""
    session_closed: bool = False
    run_id: str = ""
    run_source: str = ""
    agent_id: str = ""
    agent_parent_id: str = ""
    task_id: str = ""
    task_kind: str = ""
    usage: Usage | None = None
    cost: Cost | None = None
    repeats_children: bool = False
    subtree: Pico | None = None
    duplicate_of: str = ""
    signature: Signature | None = None
    tool_repeats: int = 0
    tool_consecutive: int = 0
    tool_loop: bool = False
    session_cost: Pico | None = None
    run_cost: Pico | None = None
    source: str = ""
    note: str = ""
    budget_name: str = ""
    budget_used: float = 0.0
    aliases: tuple[str, ...] = field(default=())
    reason: tuple[str, ...] = field(default=())
