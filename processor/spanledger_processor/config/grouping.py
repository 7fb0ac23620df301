"""`processor.sessions`, `runs`, `agents`, `tasks`, `tenant`, `dimensions`: the settings by which spans are grouped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from spanledger_exporters.settings import Duration
from spanledger_processor.config.section import NULL_IS_DEFAULT, AttributeKeys, Count, Section
from spanledger_processor.dialects import registry


class LifecycleSettings(Section):
    """The state of a session, by the time since its last activity."""

    active: Duration = Field(
        default=300.0, gt=0, description="Until then it is `active`; longer pauses are no part of its active time."
    )
    idle: Duration = Field(default=4 * 3600.0, gt=0, description="Until then it is `idle`, then `stale`.")

    @model_validator(mode="after")
    def _in_order(self) -> LifecycleSettings:
        if self.idle < self.active:
            raise ValueError("idle: a session is idle after it was active; give it as much time or more")
        return self


class SessionSummary(Section):
    """The summary of a session, sent once when it was closed or went stale: a span and a log record with its sums."""

    enabled: bool = Field(
        default=True,
        description="Of each session of which something comes from then on: a span of kind `summary` in a trace of its "
        "own with a link to the session's last span, and one log record; neither is counted. Sent anew only where the "
        "session goes on and ends again. `false`: none is sent, nor later of what comes meanwhile.",
    )
    wait_duration: Duration = Field(
        default=30.0,
        ge=0,
        description="How long nothing of it must have arrived before it is sent; of one that is stale, and was not "
        "closed, at least `lifecycle.active`, because a replay or a queue that is emptied may pause.",
    )


class SessionLabel(Section):
    """What sessions of an agent, service or process are called, and which project they belong to."""

    agent: str | None = Field(
        default=None, min_length=1, description="Agent as spans name it; `*`, `?` and `[...]` match as in file names."
    )
    service: str | None = Field(default=None, min_length=1, description="`service.name`, likewise.")
    instance: str | None = Field(default=None, min_length=1, description="`service.instance.id`, likewise.")
    project: str | None = Field(
        default=None, min_length=1, description="Their project, where no span names one (dimension `project`)."
    )
    label: str | None = Field(default=None, min_length=1, max_length=120, description="What they are called.")

    @model_validator(mode="after")
    def _whole(self) -> SessionLabel:
        if self.agent is None and self.service is None and self.instance is None:
            raise ValueError("say of which agent, service or instance")
        if self.project is None and self.label is None:
            raise ValueError("give a project, a label or both")
        return self


class Sessions(Section):
    """How a span's session is found."""

    keys: AttributeKeys = Field(
        default=registry.SESSION_KEYS,
        description="Attributes that name the session, most trusted first. By the default list `session.id` comes "
        "before `gen_ai.conversation.id` on Claude Code's spans, where that may be a sub-agent's. Blanks at the ends "
        "of this id, and of those of runs, agents, tasks and dimensions, are no part of it, nor is a pair of double "
        "quotes around it: MLflow, for one, writes all its attributes as JSON. A quote at one end alone is.",
    )
    parent_keys: AttributeKeys = Field(
        default=registry.SESSION_PARENT_KEYS, description="Attributes that name the session that spawned this one."
    )
    lifecycle: Annotated[LifecycleSettings, NULL_IS_DEFAULT] = Field(
        default_factory=LifecycleSettings, description="Its state, by the time since its last activity."
    )
    labels: tuple[SessionLabel, ...] = Field(
        default=(),
        max_length=1000,
        description="Names and projects of sessions: of the rows that match in all that they name, the first with a "
        "project and the first with a label count.",
    )
    summary: Annotated[SessionSummary, NULL_IS_DEFAULT] = Field(
        default_factory=SessionSummary, description="The summary that is sent when a session ends."
    )


class Runs(Section):
    """How a span's run is found."""

    keys: AttributeKeys = Field(
        default=registry.RUN_KEYS, description="Attributes that name the run, most trusted first."
    )


class Agents(Section):
    """How a span's agent is found."""

    keys: AttributeKeys = Field(
        default=registry.AGENT_KEYS, description="Attributes that name the agent, most trusted first."
    )
    name_keys: AttributeKeys = Field(
        default=registry.AGENT_NAME_KEYS,
        description="Attributes with the agent's name, under which its spend is summed up; one without is summed up by "
        "its id.",
    )
    parent_keys: AttributeKeys = Field(
        default=registry.AGENT_PARENT_KEYS, description="Attributes that name the agent above it."
    )


class Tasks(Section):
    """How a span's task is found."""

    id_keys: AttributeKeys = Field(
        default=registry.TASK_ID_KEYS, description="Attributes that name the task, most trusted first."
    )
    kind_keys: AttributeKeys = Field(
        default=registry.TASK_KIND_KEYS, description="Attributes that say what kind of task it is."
    )


_HEADER = re.compile(r"header:[!#$%&'*+.^_`|~0-9a-z-]+", re.ASCII)


def _tenant_key(key: str) -> str:
    if not key.lower().startswith("header:"):
        return key
    if not _HEADER.fullmatch(lowered := key.lower()):
        raise ValueError("write a request header as header:<name>, such as header:x-scope-orgid")
    return lowered


class Tenant(Section):
    """Whose data it is: tenants never share sessions, runs or sums."""

    keys: tuple[Annotated[str, Field(min_length=1), AfterValidator(_tenant_key)], ...] = Field(
        default=(),
        description="Sources of the tenant's name, the first one present wins: a resource attribute by its key, "
        "a request header (or gRPC metadata) as `header:<name>`, such as `header:x-scope-orgid`. Default: one tenant.",
    )
    required: bool = Field(
        default=False,
        description="Refuse, for good, what names no tenant, and headers that name several. Where `keys` has headers, "
        "only they count: a resource attribute, which the sender writes, does not replace one.",
    )
    default: str = Field(
        default="",
        description="The tenant of what names none, or whose header names several (it came twice, or holds a comma).",
    )

    @model_validator(mode="after")
    def _demanded_by(self) -> Tenant:
        if self.required and not self.keys:
            raise ValueError("required: name the keys of the tenant")
        if self.required and self.default:
            raise ValueError("default: nothing is without a tenant where one is required")
        return self


_DIMENSION = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_BUILT_IN = frozenset({"agent", "day", "model", "other", "provider", "run", "session", "tenant", "tool"})
_MOST_DIMENSIONS = 16

DEFAULT_DIMENSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "service": ("service.name",),
        "project": ("service.namespace",),
        "user": registry.USER_KEYS,
    }
)


def _dimension_name(name: str) -> str:
    if name in _BUILT_IN:
        raise ValueError("this name is taken")
    if not _DIMENSION.fullmatch(name):
        raise ValueError("small letters, digits and _, 32 at most, a letter first")
    return name


def _dimension_key(key: str) -> str:
    return _tenant_key(key) if key.lower().startswith("header:") else key


def _with_defaults(given: Any) -> Any:
    return {**DEFAULT_DIMENSIONS, **given} if isinstance(given, Mapping) else given


_OneDimension: TypeAlias = Annotated[
    tuple[Annotated[str, Field(min_length=1), AfterValidator(_dimension_key)], ...], Field(max_length=32)
]
DimensionKeyLists: TypeAlias = Annotated[
    dict[Annotated[str, AfterValidator(_dimension_name)], _OneDimension],
    Field(max_length=_MOST_DIMENSIONS),
    BeforeValidator(_with_defaults),
]
"""Keys of dimensions by their names; the default ones are there unless they are given other keys."""


class Metrics(Section):
    """Counters of spend and tokens by dimension on `/metrics`."""

    dimensions: tuple[str, ...] = Field(
        default=(),
        description="Dimensions that have them: agent, model, provider, tenant, or of `processor.dimensions`. Where "
        "`processor.tenant.keys` are configured, tenant has them too.",
    )
    limit: Count = Field(
        default=200,
        le=10_000,
        description="Pairs of value and model of one dimension with a series of their own; all others are `other`.",
    )
