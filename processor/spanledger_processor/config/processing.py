"""`processor`: the settings of the stage; those of grouping and of limits are in modules of their own."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from spanledger_exporters.settings import Duration
from spanledger_processor.config.grouping import (
    DEFAULT_DIMENSIONS,
    Agents,
    DimensionKeyLists,
    Metrics,
    Runs,
    Sessions,
    Tasks,
    Tenant,
)
from spanledger_processor.config.limits import Budget, RateLimitSettings, Warnings
from spanledger_processor.config.section import NULL_IS_DEFAULT, Count, CountOrOff, Section, UsdRate, not_available
from spanledger_processor.dialects.content import CLASSES, names_user
from spanledger_processor.dialects.schema import ContentClass, RedactionMode
from spanledger_processor.model import FURTHER_CLASSES
from spanledger_processor.signing.key import SHORTEST_KEY


def _further_class(name: str) -> str:
    if name not in FURTHER_CLASSES:
        raise ValueError(f"no usage class; there are {', '.join(sorted(FURTHER_CLASSES))}")
    return name


UsageClassName: TypeAlias = Annotated[str, AfterValidator(_further_class)]


class PriceOverride(Section):
    """One price of your own, taken before the price list's."""

    model: str = Field(min_length=1, description="Model as spans name it; `*` and `?` match as in file names.")
    provider: str | None = Field(default=None, min_length=1, description="Provider, in any spelling; default: any.")
    valid_from: date | None = Field(
        default=None,
        description="First UTC day (of the span) that it holds, such as 2026-01-31; default: always.",
    )
    input: UsdRate | None = Field(
        default=None, description="USD per million input tokens that no cache was involved in."
    )
    output: UsdRate | None = Field(default=None, description="USD per million output tokens, reasoning included.")
    cache_read: UsdRate | None = Field(default=None, description="USD per million tokens read from the cache.")
    cache_write: UsdRate | None = Field(default=None, description="USD per million tokens written to the cache.")
    cache_write_1h: UsdRate | None = Field(
        default=None, description="USD per million tokens written to the cache for an hour."
    )
    classes: dict[UsageClassName, UsdRate] = Field(
        default={},
        description="Rates of further usage classes, such as `input_audio: 32`: USD per million tokens, per thousand "
        "of what is sold per call (`web_searches`, `file_searches`, `search_units`).",
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        description="Its name in `spanledger.cost.price` (`override/<name>`); default: the model.",
    )

    @model_validator(mode="after")
    def _priced(self) -> PriceOverride:
        if self.input is None and self.output is None and not self.classes:
            raise ValueError("give a rate for input, output or a usage class")
        return self


class PricingSettings(Section):
    """Prices."""

    overrides: tuple[PriceOverride, ...] = Field(
        default=(),
        description="Your own prices, taken before the price list's. The first that matches counts, so what holds for "
        "fewer calls (a later `valid_from`, an exact name) goes first. A rate left out is never free: cache reads and "
        "writes without one cost as plain input, and a call stays unpriced without one for its input or output.",
    )


class Ignored(Section):
    """Arguments that change from call to call without changing what the call does."""

    tool: str = Field(min_length=1, description="Tool name; `*`, `?` and `[...]` match as in file names.")
    fields: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1,
        description="Argument fields left out of the signature; a dot goes one level down (`options.request_id`).",
    )


def _not_the_first(threshold: int | None) -> int | None:
    if threshold == 1:
        raise ValueError("1 would make a loop of every call: write 2 or more, or 0 to switch the rule off")
    return threshold


LoopThreshold: TypeAlias = Annotated[CountOrOff, Field(le=32), AfterValidator(_not_the_first)]
CycleThreshold: TypeAlias = Annotated[CountOrOff, Field(le=8), AfterValidator(_not_the_first)]


class ToolLoop(Section):
    """Other thresholds for some tools."""

    tool: str = Field(min_length=1, description="Tool name; `*`, `?` and `[...]` match as in file names.")
    consecutive: LoopThreshold | None = Field(default=None, description="Default: as for all tools; 0: no such rule.")
    repeats: LoopThreshold | None = Field(default=None, description="Likewise.")
    cycles: CycleThreshold | None = Field(default=None, description="Likewise.")


class Loop(Section):
    """When `spanledger.tool.loop` is true: one of the thresholds is reached without progress.

    Progress is a call that comes to another result than it did before. Results that no span holds count as the
    same. A call that was not allowed is no step.
    """

    consecutive: LoopThreshold = Field(
        default=3, description="The very same call so many times in a row in one session, or more; 0: no such rule."
    )
    cycles: CycleThreshold = Field(
        default=3,
        description="Two to five calls so many times in turn, or more, each time the very same; 0: no such rule.",
    )
    repeats: LoopThreshold = Field(
        default=0,
        description="The very same call so many times in one session, whatever comes between, or more; 0: no such "
        "rule. With it tests that fail alike after several edits are a loop.",
    )
    window: Duration = Field(
        default=3600.0, gt=0, description="Executions that began longer ago than this are no part of a loop."
    )
    gap: Duration = Field(
        default=600.0,
        gt=0,
        description="Nor, in a row and in turn, are those that had ended longer before the next of the loop's own "
        "calls began than this: the same status asked for now and then is no loop.",
    )
    calls: Annotated[Count, Field(le=100_000)] = Field(
        default=100, description="Nor are those that so many tool calls of the session, or more, came after."
    )
    tools: tuple[ToolLoop, ...] = Field(
        default=(), max_length=100, description="Other thresholds for some tools; the first that matches counts."
    )


class ToolPrice(Section):
    """What one execution of a tool costs by itself."""

    tool: str = Field(min_length=1, description="Tool name; `*`, `?` and `[...]` match as in file names.")
    usd: Annotated[UsdRate, Field(le=10**6)] = Field(description="USD for one execution.")
    name: str | None = Field(
        default=None,
        min_length=1,
        description="Its name in `spanledger.cost.price` (`tool/<name>`); default: the tool.",
    )


class Tools(Section):
    """Signatures, loops and prices of tool calls."""

    signing_key: SecretStr | None = Field(
        default=None,
        description=f"Key of the signatures, {SHORTEST_KEY} characters at least; they compare only under one key. "
        "Default: $SPANLEDGER_SIGNING_KEY, else one made once in the state folder.",
    )
    ignore: tuple[Ignored, ...] = Field(default=(), description="Argument fields left out of signatures.")
    loop: Annotated[Loop, NULL_IS_DEFAULT] = Field(default_factory=Loop, description="When a call completes a loop.")
    prices: tuple[ToolPrice, ...] = Field(
        default=(),
        max_length=1000,
        description="Tools that cost something by themselves; the first that matches counts. It is paid for each "
        "execution that was allowed, is on the tool's span, and under the model `tool:<its name>`. Not of spans that "
        "report usage of their own; what a provider charges for its own tools is in the call's price already.",
    )

    @field_validator("signing_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value().strip()) < SHORTEST_KEY:
            raise ValueError(
                f"too short: {SHORTEST_KEY} characters at least, such as the output of: openssl rand -hex 32"
            )
        return key


Alias: TypeAlias = Literal[
    "gen_ai.usage.cost",
    "llm.cost.total",
    "llm.cost.*",
    "operation.cost",
    "langfuse.observation.cost_details",
    "mlflow.llm.cost",
]


class Redaction(Section):
    """Removal of content (prompts, answers, arguments, results, users) before it is sent on, after signing.

    A value that may be of several classes is treated by the strictest of their modes: `drop`, `hash`, `truncate`.
    """

    mode: RedactionMode = Field(
        default="keep",
        description="For every class that is not named: `keep`; `drop`: the attribute is left out; `hash`: "
        "`redacted:<key id>:<hash>` under the signing key replaces it; `truncate`: the first `truncate_to` "
        "characters of each text stay.",
    )
    prompts: RedactionMode | None = Field(default=None, description="What users and applications ask; default: `mode`.")
    completions: RedactionMode | None = Field(default=None, description="What models answer; default: `mode`.")
    system_instructions: RedactionMode | None = Field(
        default=None, description="System prompts, definitions of tools and agents; default: `mode`."
    )
    tool_arguments: RedactionMode | None = Field(default=None, description="What tools are given; default: `mode`.")
    tool_results: RedactionMode | None = Field(default=None, description="What tools give back; default: `mode`.")
    user_ids: RedactionMode | None = Field(default=None, description="Ids and names of users; default: `mode`.")
    truncate_to: Count = Field(default=16, description="Characters that `truncate` leaves of a text.")

    @property
    def modes(self) -> dict[ContentClass, RedactionMode]:
        """Return the mode of each class."""
        return {one: getattr(self, one) or self.mode for one in CLASSES}

    @property
    def is_on(self) -> bool:
        """Return whether anything is removed."""
        return any(mode != "keep" for mode in self.modes.values())


class AttributeSettings(Section):
    """Rules that set or remove attributes."""

    enabled: bool = Field(default=False, description="Not available yet: only false.")

    @field_validator("enabled")
    @classmethod
    def _off(cls, enabled: bool) -> bool:  # noqa: FBT001
        return enabled and not_available("set and remove attributes in the Collector")


class Processor(Section):
    """What is made of GenAI spans."""

    pricing: Annotated[PricingSettings, NULL_IS_DEFAULT] = Field(default_factory=PricingSettings, description="Prices.")
    sessions: Annotated[Sessions, NULL_IS_DEFAULT] = Field(
        default_factory=Sessions, description="How a span's session is found."
    )
    runs: Annotated[Runs, NULL_IS_DEFAULT] = Field(default_factory=Runs, description="How a span's run is found.")
    agents: Annotated[Agents, NULL_IS_DEFAULT] = Field(
        default_factory=Agents, description="How a span's agent is found."
    )
    tasks: Annotated[Tasks, NULL_IS_DEFAULT] = Field(default_factory=Tasks, description="How a span's task is found.")
    tools: Annotated[Tools, NULL_IS_DEFAULT] = Field(
        default_factory=Tools, description="Signatures, loops and prices of tool calls."
    )
    aliases: tuple[Alias, ...] = Field(
        default=("gen_ai.usage.cost",),
        description="Other backends' keys that the cost is copied to (`llm.cost.*`: OpenInference's total and parts); "
        "never over one that came in.",
    )
    dimensions: Annotated[DimensionKeyLists, NULL_IS_DEFAULT] = Field(
        default=dict(DEFAULT_DIMENSIONS),
        description="Dimensions of spend, beside agent, model and provider, which need no configuration: "
        "a name, and the sources of its value, the first one present wins: an attribute of the span, else of its "
        "resource, by its key; a request header (or gRPC metadata) as `header:<name>`; a member of the request's W3C "
        "baggage as `baggage:<name>`. `service`, `project` and `user` are there unless given other keys, or none: "
        "`user: []`.",
    )
    budgets: tuple[Budget, ...] = Field(
        default=(),
        description="Amounts that should not be exceeded: notified of, and named on spans; nothing is stopped.",
    )
    warnings: Annotated[Warnings, NULL_IS_DEFAULT] = Field(
        default_factory=Warnings, description="What is warned of, as of a budget's threshold: nothing is stopped."
    )
    metrics: Annotated[Metrics, NULL_IS_DEFAULT] = Field(
        default_factory=Metrics, description="Counters of spend and tokens by dimension on `/metrics`."
    )
    tenant: Annotated[Tenant, NULL_IS_DEFAULT] = Field(default_factory=Tenant, description="Whose data it is.")
    rate_limits: Annotated[RateLimitSettings, NULL_IS_DEFAULT] = Field(
        default_factory=RateLimitSettings, description="What one sender, or one tenant, may send in a minute."
    )
    redaction: Annotated[Redaction, NULL_IS_DEFAULT] = Field(
        default_factory=Redaction, description="Removal of content before it is sent on, after signing."
    )
    attributes: Annotated[AttributeSettings, NULL_IS_DEFAULT] = Field(
        default_factory=AttributeSettings, description="Rules that set or remove attributes."
    )

    @model_validator(mode="after")
    def _known_dimensions(self) -> Processor:
        known = {*self.dimensions, "agent", "model", "provider"}
        asked = [("metrics.dimensions", name) for name in self.metrics.dimensions if name != "tenant"]
        asked += [(f"budgets: {budget.name}", budget.dimension) for budget in self.budgets if budget.dimension]
        for setting, name in asked:
            if name not in known:
                raise ValueError(f"{setting}: no dimension {name!r}; there are {', '.join(sorted(known))}")
        if len({budget.name for budget in self.budgets}) < len(self.budgets):
            raise ValueError("budgets: two have one name")
        return self

    @model_validator(mode="after")
    def _budgets_of_known_users(self) -> Processor:
        """Refuse a budget of a user whom the ledger has by no name, or by another one."""
        mode = self.redaction.modes["user_ids"]
        for budget in self.budgets:
            if budget.dimension not in self.user_dimensions:
                continue
            value = budget.value or ""
            counts = {
                "keep": True,
                "drop": False,
                "hash": not value or value.startswith("redacted:"),
                "truncate": len(value) <= self.redaction.truncate_to,
            }[mode]
            if not counts:
                raise ValueError(f"budgets: {budget.name}: with redaction.user_ids: {mode} the ledger has no such user")
        return self

    @property
    def user_dimensions(self) -> list[str]:
        """Return the dimensions that name users, which redaction applies to."""
        return [name for name, keys in self.dimensions.items() if name == "user" or any(map(names_user, keys))]
