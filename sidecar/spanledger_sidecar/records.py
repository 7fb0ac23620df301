"""Records, one for each span that a source makes, and the values that they are made of.

Also here: ids as hashes of what a span stands for, single values out of files that other programs write, and the
stored form of plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

from msgspec.msgpack import decode, encode

from spanledger_sidecar.tokens import TokenVector

Granularity: TypeAlias = Literal["per-message", "per-turn", "per-session-aggregate"]


@dataclass(frozen=True, slots=True)
class Session:
    """A Mux workspace or a tilth session. Fields are empty where not known; none is a title or a path."""

    id: str
    parent: str = ""
    name: str = ""
    project: str = ""
    agent_type: str = ""


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """Fields of all records. Times in ms since 1970; `source` is the source's name (`mux`, `tilth`)."""

    source: str
    session: Session
    trace_id: bytes
    span_id: bytes
    start_ms: int
    end_ms: int
    parent_id: bytes = field(default=b"", kw_only=True)
    note: str = field(default="", kw_only=True)
    task_id: str = field(default="", kw_only=True)
    task_kind: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class UsageRecord(BaseRecord):
    """Tokens that were used. `tokens` are Mux's disjoint classes.

    `cost` is what the source says it cost (picodollars), None where it does not know; `charged` is true where that is
    what was really charged: nothing under a subscription, or the provider's own figure. `cumulative` is what the
    source's file says of this session and model in all, with its cost (None: not known). `ttft_ms` is the time to the
    first token, `write_1h` how much of the cache writes lives for an hour (None: not known). `estimate` is true where
    it is a guess whose usage this is. `unknown` are directions of which the file holds a number of tokens that is none.
    """

    granularity: Granularity
    provider: str
    model: str
    tokens: TokenVector
    cost: int | None = None
    charged: bool = False
    cumulative: tuple[TokenVector, int | None] | None = None
    model_key: str = ""
    service_tier: str = ""
    agent: str = ""
    route: str = ""
    ttft_ms: int | None = None
    finish_reason: str = ""
    response_id: str = ""
    write_1h: int | None = None
    estimate: bool = False
    unknown: tuple[Direction, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolRecord(BaseRecord):
    """A tool call, signed where it was read: its arguments are not here."""

    name: str
    call_id: str = ""
    signature: str = ""
    signature_scope: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class ClosedRecord(BaseRecord):
    """The source ended this session."""


Record: TypeAlias = UsageRecord | ToolRecord | ClosedRecord

UNDATED = "its time is not known: it stands where its file was written"


def trace_id(*parts: object) -> bytes:
    """Return the id (16 bytes) of the trace that `parts` identify."""
    return _digest(b"trace", 16, parts)


def span_id(*parts: object) -> bytes:
    """Return the id (8 bytes) of the span that `parts` identify."""
    return _digest(b"span", 8, parts)


def dedup_key(*parts: object) -> bytes:
    """Return the key (16 bytes) under which it is stored that what `parts` identify was counted."""
    return _digest(b"dedup_key", 16, parts)


def _digest(purpose: bytes, size: int, parts: tuple[object, ...]) -> bytes:
    """Return a hash of the parts and their lengths, so that no two lists are alike; never all zeros, OTLP's "no id"."""
    encoded = [str(part).encode("utf-8", "surrogatepass") for part in parts]
    joined = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
    digest = blake2b(joined, digest_size=size, person=purpose).digest()
    return digest if any(digest) else b"\1" * size


Sign: TypeAlias = Callable[[str, Any], tuple[str, str]]
"""Returns a tool call's signature and its scope for the tool's name and arguments; both empty if there is none."""

_LONGEST = 256
_MOST = 2**53


class UnreadableError(Exception):
    """A file cannot be used as it is now; the message has the reason, and never its content."""


def count(value: Any) -> int:
    """Return a number of tokens or milliseconds: whole and not negative, 0 for anything else.

    Files hold null, negative and missing numbers: docs/formats/mux.md#17-sums-that-fall.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST:
        return 0
    return int(value)


def no_counts(values: Iterable[Any]) -> int:
    """Return how many values are no numbers of tokens, nor what files hold instead: nothing, or less than 0."""
    return sum(value is not None and not (type(value) in (int, float) and value < _MOST) for value in values)


Direction: TypeAlias = Literal["input", "output"]


def unknown_directions(given: Iterable[Any], answer: Iterable[Any]) -> tuple[Direction, ...]:
    """Return the directions in which a value that should be a number of tokens is none, so that usage is unknown."""
    directions: list[Direction] = []
    if no_counts(given):
        directions.append("input")
    if no_counts(answer):
        directions.append("output")
    return tuple(directions)


EARLIEST_MS, LATEST_MS = 946_684_800_000, 4_102_444_800_000
"""2000 and 2100: what is no time between them is no time of a call, but seconds, microseconds or a mistake."""
NO_TIME = "holds times that are none between 2000 and 2100 in ms, and are taken as not known: {}"
NO_COUNT = "holds numbers of tokens that are none, so that nobody knows how much was used: {}"
USAGE_UNKNOWN = "a number of tokens in its file is none: nobody knows how much was used"
DAMAGED = "has damaged lines, which are left out: {}"


def time_ms(value: Any) -> int:
    """Return a time in ms since 1970; 0 for anything that is none between 2000 and 2100."""
    at_ms = count(value)
    return at_ms if EARLIEST_MS <= at_ms < LATEST_MS else 0


def later(start_ms: int, duration_ms: int) -> int:
    """Return the time so long after `start_ms`; `start_ms` itself where that would be beyond 2100 or it is 0."""
    return time_ms(start_ms + duration_ms) or start_ms


def dated(record: Record, fallback_ms: int) -> Record:
    """Return a record with known times: one without an end gets `fallback_ms`, and a note on that."""
    end_ms = time_ms(record.end_ms)
    if not end_ms:
        note = "; ".join(filter(None, (record.note, UNDATED)))
        return replace(record, start_ms=fallback_ms, end_ms=fallback_ms, note=note)
    start_ms = min(time_ms(record.start_ms) or end_ms, end_ms)
    return record if start_ms == record.start_ms else replace(record, start_ms=start_ms)


def text(value: Any) -> str:
    """Return text of at most 256 characters, `?` for each lone surrogate; empty for anything that is no text."""
    return value[:_LONGEST].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def nested(value: Any, *keys: str) -> Any:
    """Return the value at a path of keys, None if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def pack(value: Any) -> bytes:
    """Return the stored form of a plain value."""
    return encode(value)


def unpack(packed: bytes) -> Any:
    """Return the plain value of a stored form."""
    return decode(packed)
