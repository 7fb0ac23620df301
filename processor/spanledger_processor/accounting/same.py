"""Whether two spans report one and the same call to a provider (issue 4, facts/genai.md section 9)."""

from __future__ import annotations

from spanledger_processor.accounting.trace import Claim, Span

SLACK_NS = 5_000_000
"""Two libraries around one call start and end their spans within a few ms of each other."""
LOG_BEFORE_NS = 1_000_000_000
LOG_AFTER_NS = 5_000_000_000
"""A log event is written when its call has ended, or soon after; its clock may be a bit behind."""

AGGREGATES = frozenset({"agent", "workflow", "tool"})
"""Kinds whose usage is that of calls below them; they are no twin of a call."""


def same_response(one: Span, other: Span) -> bool:
    """Whether two spans with one response id report one call: some servers reuse an id for every call.

    One library reports a call once, so its spans are one call only if they overlap; those of two libraries are,
    unless both times and tokens say otherwise. Of log events, several may tell one call, a moment apart.
    """
    if _overlap(one, other):
        return True
    near = not apart(one, other.start_ns, other.end_ns)
    if one.logged and other.logged:
        return near and _alike(one.claim, other.claim)
    return _another_source(one, other) and (near or _alike(one.claim, other.claim))


def apart(span: Span, start_ns: int, end_ns: int) -> bool:
    """Whether a call from `start_ns` to `end_ns` is too far away in time to be the one that `span` reports."""
    return span.start_ns > end_ns + LOG_AFTER_NS or start_ns > span.end_ns + LOG_AFTER_NS


def same_call(one: Span, other: Span) -> bool:
    """Whether two spans without an id in common report one call: another source, equal usage, at the same time."""
    if one.response and other.response:
        return one.response == other.response and same_response(one, other)
    alike = equal_usage(one.claim, other.claim) and _one_model(one.claim, other.claim)
    return _another_source(one, other) and alike and together(one, other)


def _one_model(one: Claim | None, other: Claim | None) -> bool:
    """Whether two names can be one model's: with or without vendor, region and date; one without a price is any's."""
    if one is None or other is None or one.amount is None or other.amount is None:
        return True
    a, b = _model(one.model), _model(other.model)
    return a in b or b in a


def _model(name: str) -> str:
    plain = name.lower().rpartition("/")[2].removesuffix("-latest")
    return plain.replace("@", "-").replace(".", "-").replace(":", "-")


def _another_source(one: Span, other: Span) -> bool:
    return one.scope != other.scope or one.logged != other.logged


def _overlap(one: Span, other: Span) -> bool:
    return one.start_ns <= other.end_ns and other.start_ns <= one.end_ns


def together(one: Span, other: Span) -> bool:
    """Whether two reports lie together in time: one span holds the other, or an event follows a span closely."""
    if one.logged != other.logged:
        span, event = (other, one) if one.logged else (one, other)
        if span.session.id and event.session.id and span.session.id != event.session.id:
            return False
        return span.start_ns - LOG_BEFORE_NS <= event.end_ns <= span.end_ns + LOG_AFTER_NS
    return _contains(one, other) or _contains(other, one)


def _contains(one: Span, other: Span) -> bool:
    return one.start_ns - SLACK_NS <= other.start_ns and other.end_ns <= one.end_ns + SLACK_NS


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
