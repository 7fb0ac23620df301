"""What one sender, or one tenant, may send in a minute (config `processor.rate_limits`); the rest is for later."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import unquote

from spanledger_processor.accounting.facts import Batch
from spanledger_processor.config.processing import RateLimits as Settings

Limit: TypeAlias = Literal["requests", "bytes", "sessions", "models"]

_SECONDS = 60.0
_MOST = 4096
"""Senders or tenants that are told apart at a time; of more the one that was idle longest begins anew."""


class RateLimitedError(Exception):
    """A request is beyond a limit; its sender may try again after `seconds`."""

    def __init__(self, limit: Limit, per: str, seconds: float) -> None:
        super().__init__(f"more {limit} than one {per} may send in a minute")
        self.limit: Limit = limit
        self.seconds = seconds


@dataclass(slots=True)
class _Minute:
    """What was taken of one sender or tenant since `began`."""

    began: float
    requests: int = 0
    size: int = 0
    names: dict[Limit, set[str]] = field(default_factory=dict)


class RateLimits:
    """Counts by minutes that begin with the first request; nothing is counted of a request that is refused.

    `tenant_of` gives the tenant that a request's headers name.
    """

    def __init__(
        self,
        settings: Settings,
        tenant_of: Callable[[Mapping[str, str]], bytes],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._tenant_of = tenant_of
        self._now = now
        self._minutes: OrderedDict[str | bytes, _Minute] = OrderedDict()
        self.on = any(limit is not None for limit in (settings.requests, settings.bytes))
        self.names_on = any(limit is not None for limit in (settings.sessions, settings.models))

    def admit(self, sender: str, headers: Mapping[str, str], size: int) -> None:
        """Count a request of so many bytes.

        Raises:
            RateLimitedError: it is one too many, or too large for what is left of the minute.
        """
        if not self.on:
            return
        minute = self._minute(sender if self._settings.per == "sender" else self._tenant_of(headers))
        if minute is None:
            return
        most = self._settings
        if most.requests is not None and minute.requests >= most.requests:
            raise self._beyond("requests", minute)
        if most.bytes is not None and minute.size and minute.size + size > most.bytes:
            raise self._beyond("bytes", minute)
        minute.requests += 1
        minute.size += size

    def admit_names(self, sender: str, batches: Iterable[Batch]) -> None:
        """Count the sessions and models that spans name, before any of them is accounted for.

        Raises:
            RateLimitedError: they are too many beside those of this minute.
        """
        if not self.names_on:
            return
        for batch in batches:
            minute = self._minute(sender if self._settings.per == "sender" else batch.tenant)
            if minute is None:
                continue
            sessions = {fact.session.id for fact in batch.facts if fact.session.id}
            models = {fact.call.model for fact in batch.facts if fact.call is not None and fact.call.model}
            self._admit_names("sessions", self._settings.sessions, minute, sessions)
            self._admit_names("models", self._settings.models, minute, models)

    def _admit_names(self, limit: Limit, most: int | None, minute: _Minute, names: set[str]) -> None:
        if most is None:
            return
        known = minute.names.setdefault(limit, set())
        if known and len(known | names) > most:
            raise self._beyond(limit, minute)
        known |= names

    def _minute(self, of: str | bytes) -> _Minute | None:
        """Return the minute of a sender or tenant; None for what the process itself sends."""
        if of == "":
            return None
        if isinstance(of, str):
            of = unquote(of.removeprefix("ipv4:").removeprefix("ipv6:")).strip("[]")  # as gRPC, and as HTTP knows it
        now = self._now()
        minute = self._minutes.get(of)
        if minute is None or now - minute.began >= _SECONDS:
            minute = self._minutes[of] = _Minute(now)
        self._minutes.move_to_end(of)
        if len(self._minutes) > _MOST:
            self._minutes.popitem(last=False)
        return minute

    def _beyond(self, limit: Limit, minute: _Minute) -> RateLimitedError:
        return RateLimitedError(limit, self._settings.per, max(1.0, minute.began + _SECONDS - self._now()))
