"""Whether two spans report one and the same call to a provider: `one_call` gives the reason for its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from spanledger_processor.accounting.facts import ORIGIN
from spanledger_processor.accounting.trace import Claim, Span

SLACK_NS = 5_000_000
"""Two libraries around one call start and end their spans within a few ms of each other."""
LOG_BEFORE_NS = 1_000_000_000
LOG_AFTER_NS = 5_000_000_000
"""A log event is written when its call has ended, or soon after; its clock may be a bit behind."""
FEW_TOKENS = 16
"""Calls of fewer output tokens (labels, yes or no, embeddings) often have equal counts by chance."""
_EDGE_NS = 1_000_000_000
"""In two traces, what one report lasts longer than the other, at most, unless it is no more than twice as long."""

AGGREGATES = frozenset({"agent", "workflow", "tool"})
"""Kinds whose usage is that of calls below them; they are no twin of a call."""

ONE_CALL: Mapping[str, str] = {
    "same id": "they share a response or call id",
    "equal usage": "two libraries of one process tell equal usage of one model at the same time",
    "tells more": "the span above holds this one call and tells more of it",
}
"""Why two spans are one call."""

TWO_CALLS: Mapping[str, str] = {
    "other id": "their response ids differ",
    "reused id": "they share an id, but not the usage",
    "usage": "their usage differs",
    "model": "they name two models",
    "kind": "they are of two kinds",
    "session": "they name two sessions",
    "user": "they name two users",
    "service": "they name two services",
    "host": "they name two hosts",
    "process": "they come from two processes",
    "language": "they come from processes of two languages",
    "library": "one library reports a call once",
    "few": "counts as small as these are often equal by chance, and the spans are in two traces",
    "time": "their times do not hold each other",
    "many": "too many calls of equal counts at the same time",
}
"""Why two spans are two calls."""

DOUBTS = frozenset({"reused id", "few", "many"})
"""Reasons that leave a doubt: both are counted, and the later one is an estimate."""


def one_call(one: Span, other: Span, *, one_trace: bool) -> str:
    """Return why two spans that claim usage report one call, a key of `ONE_CALL`, or why not, a key of `TWO_CALLS`.

    A common id is proof where usage, model and time do not speak against it. Without one it takes different libraries
    that can be one process's, equal usage in every class that both tell, one model, and times that hold each other.
    """
    if _share_id(one, other):
        return _by_id(one, other)
    if one.response and other.response:
        return "other id"
    return _by_usage(one, other, one_trace=one_trace)


def _share_id(one: Span, other: Span) -> bool:
    if one.response and one.response == other.response:
        return True
    ids = one.claim.evidence.ids if one.claim else ()
    return bool(ids) and other.claim is not None and not set(ids).isdisjoint(other.claim.evidence.ids)


def _by_id(one: Span, other: Span) -> str:
    """Some servers reuse an id for every call; one library reports a call once, or again from a proxy meanwhile.

    Spans of one library are one call only if they overlap; those of two libraries are, unless both times and usage say
    otherwise. Of log events, several may tell one call, a moment apart.
    """
    if not _alike(one.claim, other.claim):
        return "reused id"
    if not one_model(one.claim, other.claim):
        return "model"
    if one.logged == other.logged and _differ(one.session.id, other.session.id):
        return "session"
    overlap = one.start_ns <= other.end_ns and other.start_ns <= one.end_ns
    if not overlap:
        near = not apart(one, other.start_ns, other.end_ns)
        told = equal_usage(one.claim, other.claim)
        if not (near if one.logged and other.logged else another_source(one, other) and (near or told)):
            return "time"
    origin = _other_origin(one, other)
    if origin in ("", "user") or (overlap and _is_unique(one.response)):
        return "same id"
    return origin


def _is_unique(identifier: str) -> bool:
    """Whether an id looks like one that no other call has: a proxy's report and its client's are told by it alone."""
    return len(set(identifier)) >= 10 and len(identifier) >= 16


def _by_usage(one: Span, other: Span, *, one_trace: bool) -> str:
    if not another_source(one, other):
        return "library"
    if not equal_usage(one.claim, other.claim):
        return "usage"
    if not together(one, other) or not (one_trace or _as_long(one, other)):
        return "time"
    if one.kind != other.kind and "other" not in (one.kind, other.kind):
        return "kind"
    if not one_model(one.claim, other.claim):
        return "model"
    if _differ(one.session.id, other.session.id):
        return "session"
    if origin := _other_origin(one, other):
        return origin
    in_one_session = one.logged != other.logged and bool(one.session.id) and one.session.id == other.session.id
    return "equal usage" if one_trace or in_one_session or not _few(one.claim, other.claim) else "few"


def apart(span: Span, start_ns: int, end_ns: int) -> bool:
    """Whether a call from `start_ns` to `end_ns` is too far away in time to be the one that `span` reports."""
    return span.start_ns > end_ns + LOG_AFTER_NS or start_ns > span.end_ns + LOG_AFTER_NS


def another_source(one: Span, other: Span) -> bool:
    """Whether two reports come from two libraries, or one from a span and one from a log event."""
    return one.scope != other.scope or one.logged != other.logged


def together(one: Span, other: Span) -> bool:
    """Whether two reports lie together in time: one span holds the other, or an event follows a span closely."""
    if one.logged != other.logged:
        span, event = (other, one) if one.logged else (one, other)
        return span.start_ns - LOG_BEFORE_NS <= event.end_ns <= span.end_ns + LOG_AFTER_NS
    return _contains(one, other) or _contains(other, one)


def _contains(one: Span, other: Span) -> bool:
    return one.start_ns - SLACK_NS <= other.start_ns and other.end_ns <= one.end_ns + SLACK_NS


def _as_long(one: Span, other: Span) -> bool:
    """Whether two reports last so equally long that the longer one has room for no other call of that length."""
    shorter, longer = sorted((one.end_ns - one.start_ns, other.end_ns - other.start_ns))
    return one.logged != other.logged or longer - shorter <= max(shorter, _EDGE_NS)


def _differ(one: str, other: str) -> bool:
    return bool(one) and bool(other) and one != other


def _other_origin(one: Span, other: Span) -> str:
    """What both name, and differently: a service, host, process, language or user; "" for nothing."""
    if one.claim is None or other.claim is None:
        return ""
    origins = zip(ORIGIN, one.claim.evidence.origin, other.claim.evidence.origin, strict=False)
    return next((what for what, a, b in origins if a and b and a != b), "")


def _few(one: Claim | None, other: Claim | None) -> bool:
    return (
        min((claim.tokens[1] or 0 if claim is not None and claim.tokens else 0) for claim in (one, other)) < FEW_TOKENS
    )


def one_model(one: Claim | None, other: Claim | None) -> bool:
    """Whether two claims can be of one model.

    Names may differ in the vendor before them, region, deployment date and context tag. The models that answered are
    compared, or where one side does not tell both, any that it tells.
    """
    if one is None or other is None:
        return True
    asked = one.evidence.asked, other.evidence.asked
    ones = {canonical(name) for name in ((one.model,) if all(asked) else (one.model, asked[0])) if name}
    others = {canonical(name) for name in ((other.model,) if all(asked) else (other.model, asked[1])) if name}
    return not ones or not others or not ones.isdisjoint(others)


_DATE = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|latest|default)$")
_VENDOR = re.compile(
    r"^(?:[a-z]{2,6}\.)?(?:anthropic|amazon|meta|mistral|cohere|openai|google|deepseek|ai21)\.(?=[a-z])"
)


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """Return a model's name without what may differ between two reports of one call."""
    plain = name.strip().lower().rpartition("/")[2]
    plain = _VENDOR.sub("", re.sub(r"\[\w+\]$", "", plain))
    plain = re.sub(r"-v\d+:\d+$|:\d+$", "", plain)
    return _DATE.sub("", plain).replace(".", "-")


def equal_usage(one: Claim | None, other: Claim | None) -> bool:
    """Whether two claims can be of one call: usage on both sides, equal in every class that both know."""
    if one is None or other is None or not one.spends or not other.spends or not one.tokens or not other.tokens:
        return False
    apart_from_output = zip(one.tokens[:1] + one.tokens[2:], other.tokens[:1] + other.tokens[2:], strict=True)
    if not all(a is None or b is None or a == b for a, b in apart_from_output):
        return False
    return _same_output(one.tokens, other.tokens)


def _same_output(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    """Some sources leave reasoning out of the output, and do not say how much it was (Gemini CLI's spans)."""
    if one[0] is None or other[0] is None:
        return False
    (a, a_reasoning), (b, b_reasoning) = (one[1] or 0, one[5]), (other[1] or 0, other[5])
    if a == b:
        return True
    return (a_reasoning is None and b_reasoning is not None and a == b - b_reasoning) or (
        b_reasoning is None and a_reasoning is not None and b == a - a_reasoning
    )


def _alike(one: Claim | None, other: Claim | None) -> bool:
    """No usage on one side, or equal usage."""
    return one is None or other is None or not one.spends or not other.spends or equal_usage(one, other)
