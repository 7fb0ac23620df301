"""`processor.budgets`, `warnings` and `rate_limits`: amounts and rates that are watched, and their webhooks."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from spanledger_exporters.settings import Duration
from spanledger_processor.config.section import NULL_IS_DEFAULT, Count, Section, UsdRate, whole


class Webhook(Section):
    """Where a passed threshold is posted to, as JSON."""

    url: str = Field(pattern=r"^https?://[^\s]+$", description="Where to.")
    secret: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="Signs each post: `x-spanledger-signature` is `sha256=` and the HMAC-SHA256 of the time in "
        "`x-spanledger-timestamp`, a dot and the body.",
    )
    timeout: Duration = Field(default=10.0, gt=0, description="How long to wait for an answer. It is tried for a day.")


class Budget(Section):
    """An amount that should not be exceeded."""

    name: Annotated[str, Field(min_length=1, max_length=100)] = Field(description="Its name; no two have one.")
    amount: Annotated[UsdRate, Field(ge=Decimal("1e-12"))] = Field(description="USD.")
    period: Literal["day", "week", "month", "rolling", "session", "run"] = Field(
        description="Of which time, by UTC days of the calls: `week` from Monday, `rolling` the last `days`; or of "
        "each session or run."
    )
    days: Annotated[Count, Field(le=366)] | None = Field(default=None, description="Of `rolling`: today included.")
    dimension: str | None = Field(
        default=None,
        description="Of whose spend: agent, model, provider, or of `processor.dimensions`; with `session` and `run`: "
        "of those in which anything has the value. Default: all of it.",
    )
    value: str | None = Field(
        default=None, min_length=1, description="Of one value of the dimension; default: of each by itself."
    )
    tenant: str | None = Field(default=None, description="Of one tenant; default: of each by itself.")
    thresholds: tuple[Annotated[Count, Field(le=1000)], ...] = Field(
        default=(50, 80, 100), description="Told when so many percent are used, each once in a period."
    )
    forecast: bool = Field(
        default=True,
        description="Told, too, when all of it will be used before the day, week or month ends, at the rate so far.",
    )
    webhook: Webhook | None = Field(default=None, description="Where a passed threshold is posted to, as JSON.")

    @model_validator(mode="after")
    def _fits(self) -> Budget:
        if (self.period == "rolling") != (self.days is not None):
            raise ValueError("days: `period: rolling` needs them, and no other period takes them")
        if self.value is not None and self.dimension is None:
            raise ValueError("value: say of which dimension")
        if not self.thresholds:
            raise ValueError("thresholds: say one at least")
        if twice := sorted(one for one in {*self.thresholds} if self.thresholds.count(one) > 1):
            raise ValueError(f"thresholds: {', '.join(map(str, twice))} stands there twice")
        return self


Percent: TypeAlias = Annotated[int, BeforeValidator(whole), Field(ge=1, le=100)]


class FailureRate(Section):
    """When much of a session fails; warned of once per session."""

    enabled: bool = Field(default=True, description="`false`: it is not looked for.")
    threshold: Percent = Field(default=20, description="Percent of its spans whose status is an error, or more.")
    minimum: Count = Field(default=5, description="And so many such spans at least.")


class UnpricedShare(Section):
    """When many calls of a UTC day have no price; warned of once per day and tenant."""

    enabled: bool = Field(default=True, description="`false`: it is not looked for.")
    threshold: Percent = Field(default=5, description="Percent of the day's calls, or more.")
    minimum: Count = Field(default=20, description="Of so many calls at least.")


class CostRise(Section):
    """When a session suddenly costs more than it did; warned of once per session.

    Its time is divided into up to 32 stretches of a minute or more. It is a rise when the latest one cost so many times
    the median of those before in which anything was spent, at least four of them.
    """

    enabled: bool = Field(default=True, description="`false`: it is not looked for.")
    factor: float = Field(default=5.0, gt=1, le=1e6, description="So many times as much as usual, or more.")
    minimum: Annotated[UsdRate, Field(gt=0)] = Field(
        default=Decimal(1), description="USD that the latest stretch cost at least."
    )


class Warnings(Section):
    """What is warned of, beside budgets."""

    failure_rate: Annotated[FailureRate, NULL_IS_DEFAULT] = Field(
        default_factory=FailureRate, description="When much of a session fails."
    )
    unpriced_share: Annotated[UnpricedShare, NULL_IS_DEFAULT] = Field(
        default_factory=UnpricedShare, description="When many calls of a UTC day have no price."
    )
    cost_rise: Annotated[CostRise, NULL_IS_DEFAULT] = Field(
        default_factory=CostRise, description="When a session suddenly costs more than it did."
    )
    webhook: Webhook | None = Field(default=None, description="Where warnings are posted to, as JSON.")


class RateLimitSettings(Section):
    """What one sender, or one tenant, may send in a minute; what is beyond is answered as retryable. Default: anything.

    The workers of `serve --workers` share them.
    """

    per: Literal["sender", "tenant"] = Field(
        default="sender",
        description="`sender`: the host it comes from. `tenant`: requests and bytes by the tenant that a header names, "
        "sessions and models by the tenant of the spans.",
    )
    requests: Count | None = Field(default=None, description="Requests a minute; default: no limit.")
    bytes: Count | None = Field(
        default=None, description="Bytes a minute, decompressed; the first request of a minute may be larger."
    )
    sessions: Count | None = Field(
        default=None, description="Distinct sessions a minute; the first request of a minute may name more."
    )
    models: Count | None = Field(default=None, description="Distinct models a minute, likewise.")
