"""What one sender, or one tenant, may send in a minute (config `processor.rate_limits`); the rest is for later."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from spanledger_processor.accounting.facts import Batch
from spanledger_processor.config.limits import RateLimitSettings
from spanledger_processor.ledger.packing import pack, unpack

Limit: TypeAlias = Literal["requests", "bytes", "sessions", "models"]

_SECONDS = 60.0
_MOST = 4096
"""The most senders or tenants that are counted at a time; beyond that, the one that was idle longest starts again."""


class RateLimitedError(Exception):
    """A request is beyond a limit; its sender may try again after `seconds`."""

    def __init__(self, limit: str, per: str, seconds: float) -> None:
        super().__init__(f"more {limit} than one {per} may send in a minute")
        self.limit = limit
        self.seconds = seconds


class Taken(NamedTuple):
    """What is counted against a sender or tenant: a request of so many bytes, or, where that is None, names."""

    of: str | bytes
    size: int | None
    sessions: Sequence[str] = ()
    models: Sequence[str] = ()

    def packed(self) -> bytes:
        """Return it as bytes, for another process."""
        return pack([*self])


Beyond: TypeAlias = tuple[Limit, float]
"""The limit that something is beyond, and the seconds until it is not."""


@dataclass(slots=True)
class _Minute:
    """What was taken of one sender or tenant since `began`."""

    began: float
    requests: int = 0
    size: int = 0
    names: dict[Limit, set[str]] = field(default_factory=dict)


class Minutes:
    """Counts by minutes that begin with the first request; nothing is counted of a request that is refused."""

    def __init__(self, settings: RateLimitSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now = now
        self._minutes: OrderedDict[str | bytes, _Minute] = OrderedDict()

    def __len__(self) -> int:
        """Return how many senders or tenants are counted now."""
        return len(self._minutes)

    def take(self, taken: Taken) -> Beyond | None:
        """Count what is taken, or return the limit that it is beyond."""
        most, minute = self._settings, self._minute(taken.of)
        if taken.size is not None:
            limit = self._beyond(minute, taken.size)
            if limit is None:
                minute.requests += 1
                minute.size += taken.size
            return limit and (limit, self._left_of(minute))
        names: tuple[tuple[Limit, int | None, set[str]], ...] = (
            ("sessions", most.sessions, set(taken.sessions)),
            ("models", most.models, set(taken.models)),
        )
        for limit, allowed, named in names:
            known = minute.names.setdefault(limit, set())
            if allowed is not None and known and len(known | named) > allowed:
                return limit, self._left_of(minute)
        for limit, allowed, named in names:
            if allowed is not None:
                minute.names[limit] |= named
        return None

    def take_packed(self, taken: bytes) -> bytes:
        """Return what `take` does, packed for another process; empty where nothing is beyond a limit."""
        beyond = self.take(Taken(*unpack(taken)))
        return b"" if beyond is None else pack([*beyond])

    def _beyond(self, minute: _Minute, size: int) -> Limit | None:
        most = self._settings
        if most.requests is not None and minute.requests >= most.requests:
            return "requests"
        return "bytes" if most.bytes is not None and minute.size and minute.size + size > most.bytes else None

    def _minute(self, of: str | bytes) -> _Minute:
        now = self._now()
        minute = self._minutes.get(of)
        if minute is None or now - minute.began >= _SECONDS:
            minute = self._minutes[of] = _Minute(now)
        self._minutes.move_to_end(of)
        if len(self._minutes) > _MOST:
            self._minutes.popitem(last=False)
        return minute

    def _left_of(self, minute: _Minute) -> float:
        return max(1.0, minute.began + _SECONDS - self._now())


class RateLimits:
    """Refuses what is beyond a limit.

    What the process itself sends, without a sender, is not limited. `tenant_of` gives the tenant that a request's
    headers name. `count` counts packed `Taken` where several processes share the limits, and answers as
    `Minutes.take_packed` does; without it `minutes` counts here.
    """

    def __init__(
        self,
        settings: RateLimitSettings,
        tenant_of: Callable[[Mapping[str, str]], bytes],
        minutes: Minutes,
        count: Callable[[bytes], Awaitable[bytes]] | None = None,
    ) -> None:
        self._settings = settings
        self._tenant_of = tenant_of
        self._minutes = minutes
        self._count = count
        self.on = any(limit is not None for limit in (settings.requests, settings.bytes))
        self.names_on = any(limit is not None for limit in (settings.sessions, settings.models))

    async def admit(self, sender: str, headers: Mapping[str, str], size: int) -> None:
        """Count a request of so many bytes.

        Raises:
            RateLimitedError: it is one too many, or too large for what is left of the minute.
        """
        if self.on and sender:
            await self._take(Taken(self._of(sender) or self._tenant_of(headers), size))

    async def admit_names(self, sender: str, batches: Iterable[Batch]) -> None:
        """Count the sessions and models that spans name, before any of them is accounted for.

        Raises:
            RateLimitedError: they are too many beside those of this minute.
        """
        if not (self.names_on and sender):
            return
        for batch in batches:
            sessions = {fact.session.id for fact in batch.facts if fact.session.id}
            models = {fact.call.model for fact in batch.facts if fact.call is not None and fact.call.model}
            await self._take(Taken(self._of(sender) or batch.tenant, None, sorted(sessions), sorted(models)))

    def _of(self, sender: str) -> str:
        """Return the sender that is counted; empty where it is the tenant."""
        return "" if self._settings.per == "tenant" else sender

    async def _take(self, taken: Taken) -> None:
        beyond: Any = None
        if self._count is None:
            beyond = self._minutes.take(taken)
        elif answer := await self._count(taken.packed()):
            beyond = unpack(answer)
        if beyond is not None:
            limit, seconds = beyond
            raise RateLimitedError(limit, self._settings.per, seconds)
