"""Reports of one call: why two spans report the same call, or do not, and which of the reports tells more of it.

Two spans report one call where they share a response or call id, and usage, model, session and time do not contradict;
or, without an id, where two libraries that can be of one process report equal usage in every class that both have, of
one model, at times of which one contains the other. A library that tells no caches of Anthropic's leaves them out of
the input. Different sessions, services, hosts, processes, users or service tiers named on both sides make two calls.
Equal counts of a few tokens in two traces prove nothing: both count, and the later one is an estimate.

`one_call` compares two spans, and answers with a code of the tables below, which `explain` and the API show and a
decision stores, so that codes stay. `count_once` decides with it on whole traces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

from spanledger_processor.accounting.facts import ORIGIN
from spanledger_processor.accounting.trace import WHAT_IS_REPORTED, Claim, Span
from spanledger_processor.model import ALL_BUT_TOTALS, CACHE_READ, CACHE_WRITE, INPUT, OUTPUT, OUTPUT_ALONE, REASONING
from spanledger_processor.pricing.model_names import one_model

SLACK_NS = 5_000_000
"""Two libraries around one call start and end their spans within a few ms of each other."""
LOG_BEFORE_NS, LOG_AFTER_NS = 1_000_000_000, 5_000_000_000
"""A log event is written at the end of its call, or soon after; its clock may be a little behind."""
EDGE_NS = 250_000_000
"""By how much, in two traces, one span may start before or end after the other that it contains."""
FEW_TOKENS = 16
"""Calls of fewer output tokens (labels, yes or no, embeddings) often have equal counts by chance."""

Outputs: TypeAlias = Literal["equal", "known", "any"]
"""How outputs are compared: equal, equal where both are known, or not at all."""

ReportSource: TypeAlias = tuple[str, bool]
"""The scope of a report, and whether it is a log event."""


class Reason(NamedTuple):
    """Why a span counts beside another one or not: a key of `ONE_CALL` or `TWO_CALLS`, and the other's id in hex."""

    code: str
    other: str


ONE_CALL: Mapping[str, str] = {
    "same id": "they share a response or call id",
    "equal usage": "two libraries of one process tell equal usage of one model at the same time",
    "less": "two libraries of one process tell of one stream at the same time, and one of them no usage or no input",
    "tells more": "the span above holds this one call and knows more of it",
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
    "tier": "they tell two service tiers",
    "library": "one library reports a call once",
    "few": "counts as small as these are often equal by chance, in two traces or where one leaves caches out",
    "loose": "their times hold each other, but not closely enough for two traces, or for a stream or caches left out",
    "many": "too many calls of equal counts at the same time",
    "time": "their times do not hold each other",
    "rounds": "its library called the model again after each tool that stands below, and tells the last answer's usage",
    "cut": "of the calls that it may hold, some are no longer known: the trace is too long",
}
"""Why a span counts although another one is close to being a report of the same call."""

DOUBTS: Mapping[str, str] = {
    "reused id": "span {} has the same id and other usage: counted as another call",
    "few": "span {} may report the same call: its counts are equal, and too small to tell",
    "loose": "span {} may report the same call: its counts are equal, its times are not close",
    "many": "span {} may report the same call, as many with equal counts may",
    "rounds": "its library called the model again after each tool: usage may be of the last answer only",
    "cut": "may repeat calls of this trace that are no longer known, for it is very long",
}
"""Reasons that leave a doubt, with the note on the later of the two spans: both count, and that one is an estimate."""
NEAR_ONE_CALL = TWO_CALLS.keys() - {"usage", "kind", "library", "time"}
"""Reasons that are kept: a reader who sees equal counts would ask for them."""


def one_call(one: Span, other: Span, *, one_trace: bool) -> str:
    """Return why two spans that claim usage report one call, a key of `ONE_CALL`, or why not, a key of `TWO_CALLS`."""
    if _share_id(one, other):
        return _by_id(one, other)
    if one.response and other.response:
        return "other id"
    return _by_usage(one, other, one_trace=one_trace)


def contradict(one: Span, other: Span) -> bool:
    """Return whether two spans can never report one call: two response ids, or two models."""
    other_id = bool(one.response) and bool(other.response) and not _share_id(one, other)
    return other_id or not of_one_model(one.claim, other.claim)


def _share_id(one: Span, other: Span) -> bool:
    if one.response and one.response == other.response:
        return True
    ids = one.claim.evidence.ids if one.claim else ()
    return bool(ids) and other.claim is not None and not set(ids).isdisjoint(other.claim.evidence.ids)


def _by_id(one: Span, other: Span) -> str:
    """Return why two spans with one response id are one call, or the reason why they are not.

    Some servers reuse an id for every call; one library reports a call once, or again from a proxy meanwhile. Spans of
    one library are one call only if they overlap; those of two libraries are, unless both times and usage contradict:
    where they overlap and the id is unique, one may count the output of a stream otherwise. Several log events may
    report one call, a moment apart, and several spans that pass an answer on, at any time. A stored answer keeps the id
    of its call: only spans that overlap it report it.
    """
    overlap = one.start_ns <= other.end_ns and other.start_ns <= one.end_ns
    outputs: Outputs = "any" if overlap and _is_unique(one.response) and _another_source(one, other) else "known"
    if one.spends and other.spends and not equal_usage(one.claim, other.claim, outputs):
        return "reused id"
    if not of_one_model(one.claim, other.claim):
        return "model"
    if one.logged == other.logged and _differ(one.own_session, other.own_session):
        return "session"
    if not overlap and not _near(one, other) and not (_is_answer(one) and _is_answer(other)):
        return "time"
    origin = _other_origin(one, other)
    if origin in ("", "user") or (overlap and _is_unique(one.response)):
        return "same id"
    return origin


def _near(one: Span, other: Span) -> bool:
    if (one.claim is not None and one.claim.cached) or (other.claim is not None and other.claim.cached):
        return False
    near = not (one.start_ns > other.end_ns + LOG_AFTER_NS or other.start_ns > one.end_ns + LOG_AFTER_NS)
    if one.logged and other.logged:
        return near
    return _another_source(one, other) and (near or equal_usage(one.claim, other.claim))


def _is_answer(span: Span) -> bool:
    """Return whether a span only passes an answer on, with its usage: it is the same answer at any time."""
    return span.claim is not None and span.claim.fallback


def _is_unique(identifier: str) -> bool:
    """Return whether an id looks unique to one call, so that a proxy's report and its client's are joined by it."""
    return len(set(identifier)) >= 10 and len(identifier) >= 16


def _by_usage(one: Span, other: Span, *, one_trace: bool) -> str:
    if not _another_source(one, other):
        return "library"
    if not together(one, other):
        return "time"
    less = one_trace and _tell_less(one, other)
    if not less and not equal_usage(one.claim, other.claim):
        return "usage"
    if one.kind != other.kind and "other" not in (one.kind, other.kind):
        return "kind"
    if not of_one_model(one.claim, other.claim):
        return "model"
    if _differ(one.own_session, other.own_session):
        return "session"
    if origin := _other_origin(one, other):
        return origin
    uncached = not less and _input_of(one) != _input_of(other)
    if (less or uncached or not one_trace) and not closely(one, other):
        return "loose"
    if less:
        return "less"
    in_one_session = one.logged != other.logged and bool(one.own_session) and one.own_session == other.own_session
    is_close = (one_trace or in_one_session) and not uncached
    return "equal usage" if is_close or not _few(one.claim, other.claim) else "few"


def _input_of(span: Span) -> int | None:
    return span.claim.tokens[INPUT] if span.claim is not None and span.claim.tokens else None


def _tell_less(one: Span, other: Span) -> bool:
    """Return whether two calls tell no usage, or one of them no input and both one output of more than a few tokens."""
    if one.kind != "llm" or other.kind != "llm" or (one.has_input and other.has_input):
        return False
    if not one.spends and not other.spends:
        return True
    return one.output == other.output >= FEW_TOKENS


def source_of(span: Span) -> str:
    """Return the library, or the client that writes the log, that reports a call."""
    return f"log {span.scope}" if span.logged else f"span {span.scope}"


def _another_source(one: Span, other: Span) -> bool:
    return one.scope != other.scope or one.logged != other.logged


def _differ(one: str, other: str) -> bool:
    return bool(one) and bool(other) and one != other


def _other_origin(one: Span, other: Span) -> str:
    """Return which of service, host, process, language, user and tier both name differently; "" for none."""
    if one.claim is None or other.claim is None:
        return ""
    if one.claim.evidence.origin == other.claim.evidence.origin:
        return ""
    origins = zip(ORIGIN, one.claim.evidence.origin, other.claim.evidence.origin, strict=False)
    return next((what for what, a, b in origins if a and b and a != b), "")


def _few(one: Claim | None, other: Claim | None) -> bool:
    outputs = [claim.tokens[OUTPUT] or 0 if claim is not None and claim.tokens else 0 for claim in (one, other)]
    return min(outputs) < FEW_TOKENS


def of_one_model(one: Claim | None, other: Claim | None) -> bool:
    """Return whether two claims can be of one model: by the answering one, or by any where one side has only one."""
    if one is None or other is None or one.model == other.model != "":
        return True
    asked = one.evidence.asked, other.evidence.asked
    ones = [name for name in ((one.model,) if all(asked) else (one.model, asked[0])) if name]
    others = [name for name in ((other.model,) if all(asked) else (other.model, asked[1])) if name]
    return not ones or not others or any(one_model(a, b) for a in ones for b in others)


# Usage.


def equal_usage(one: Claim | None, other: Claim | None, outputs: Outputs = "equal") -> bool:
    """Return whether usage is equal in the classes that both know; `outputs` is how strictly outputs are compared."""
    if one is None or other is None or not one.spends or not other.spends or not one.tokens or not other.tokens:
        return False
    if one.tokens == other.tokens:
        return one.tokens[INPUT] is not None
    pairs = zip(one.tokens[ALL_BUT_TOTALS], other.tokens[ALL_BUT_TOTALS], strict=True)
    if not all(a is None or b is None or a == b for a, b in pairs):
        return False
    return _same_input(one.tokens, other.tokens) and _same_output(one.tokens, other.tokens, outputs)


def uncached_inputs(tokens: Sequence[int | None], *, of_anthropic: bool) -> tuple[int, ...]:
    """Return the inputs that libraries tell of a call which leave caches out: without writes, and without any.

    Anthropic's own count leaves caches out. A library that tells no cache copies it (Langtrace, AgentOps), and one that
    tells only what was read adds that (Monocle): docs/formats/genai.md#21-inclusive-or-exclusive. There are none where
    nothing was cached.
    """
    if not of_anthropic or not tokens:
        return ()
    read, write = tokens[CACHE_READ] or 0, tokens[CACHE_WRITE] or 0
    without_writes = (tokens[INPUT] or 0) - write
    without_caches = without_writes - read
    if without_writes <= 0 or not (read or write):
        return ()
    if without_caches <= 0:
        return (without_writes,) if write else ()
    return (without_caches, without_writes) if read and write else (without_caches,)


def may_lack_caches(tokens: Sequence[int | None], *, of_anthropic: bool) -> bool:
    """Return whether an input may be one of `uncached_inputs` of another report."""
    return of_anthropic and bool(tokens) and (tokens[CACHE_READ] is None or tokens[CACHE_WRITE] is None)


def _same_input(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    """Return whether two inputs are equal, or are but for caches of which one tells nothing.

    Instrumentations of Bedrock copy its count of input, which leaves caches out, and some copy no more than that
    (docs/formats/genai.md#21-inclusive-or-exclusive); those that tell reads alone leave writes out.
    """
    a, b = one[INPUT], other[INPUT]
    return a is None or b is None or a == b or a == _uncached(other, beside=one) or b == _uncached(one, beside=other)


def _uncached(tokens: tuple[int | None, ...], *, beside: tuple[int | None, ...]) -> int | None:
    """Return the input less those of its caches of which `beside` tells nothing; None where it has no input."""
    given = tokens[INPUT]
    if given is None:
        return None
    return given - sum(tokens[place] or 0 for place in (CACHE_READ, CACHE_WRITE) if beside[place] is None)


def _same_output(one: tuple[int | None, ...], other: tuple[int | None, ...], outputs: Outputs) -> bool:
    """Return whether two outputs are equal, or are but for reasoning that one leaves out (Gemini CLI's spans)."""
    if one[INPUT] is None or other[INPUT] is None:
        return False
    if outputs == "any" or (outputs == "known" and None in (one[OUTPUT], other[OUTPUT])):
        return True
    (a, a_reasoning), (b, b_reasoning) = (one[OUTPUT] or 0, one[REASONING]), (other[OUTPUT] or 0, other[REASONING])
    if a == b:
        return True
    return (a_reasoning is None and b_reasoning is not None and a == b - b_reasoning) or (
        b_reasoning is None and a_reasoning is not None and b == a - a_reasoning
    )


def holds_usage(upper: Claim | None, call: Claim | None) -> bool:
    """Return whether a sum tells more usage of one model than one of its summands, and less in no class."""
    if upper is None or call is None or upper.model != call.model or not upper.tokens or not call.tokens:
        return False
    pairs = [(a, b or 0) for a, b in zip(upper.tokens, call.tokens, strict=True) if a is not None]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


# Which report tells more.


def order_of_reports(span: Span) -> tuple[tuple[bool, bool, int, int, int], tuple[bool, bool, int, bool, bool], bytes]:
    """Return the order of reports of one call: by the claim's richness, then by what is named (a session, a run, values
    of dimensions, an agent) and whether it tells how long the call took, then by id.
    """
    claim, detail = span.claim or Claim(), span.detail
    lasts = span.end_ns > span.start_ns
    names = bool(span.own_session), bool(span.run.id), len(detail.dimensions), bool(detail.agent), lasts
    return claim.richness, names, span.span_id


def richest(reports: list[Span]) -> Span:
    """Return the report of one call that is to count."""
    first = max(reports, key=order_of_reports)
    exact = [report for report in reports if _exact_of(report, first) is report]
    return max(exact, key=order_of_reports) if exact else first


def _exact_of(one: Span, other: Span) -> Span | None:
    """Return which of two equally rich reports with two outputs is exact; None where no library is known to err."""
    errs = one.library.adds_first_count
    if one.claim is None or other.claim is None or errs == other.library.adds_first_count:
        return None
    if one.claim.richness[WHAT_IS_REPORTED] != other.claim.richness[WHAT_IS_REPORTED]:
        return None
    if one.claim.tokens[OUTPUT_ALONE] == other.claim.tokens[OUTPUT_ALONE]:
        return None
    return other if errs else one


# Time.


class InTime(Protocol):
    """What has times: a span, or what is kept of a report."""

    @property
    def start_ns(self) -> int:
        """Return when it began."""
        raise NotImplementedError

    @property
    def end_ns(self) -> int:
        """Return when it ended."""
        raise NotImplementedError

    @property
    def logged(self) -> bool:
        """Return whether it is a log event."""
        raise NotImplementedError


def together(one: InTime, other: InTime) -> bool:
    """Return whether two reports lie together in time: one span holds the other, or an event follows a span closely."""
    if one.logged != other.logged:
        span, event = (other, one) if one.logged else (one, other)
        return span.start_ns - LOG_BEFORE_NS <= event.end_ns <= span.end_ns + LOG_AFTER_NS
    return contains(one, other) or contains(other, one)


def contains(one: InTime, other: InTime) -> bool:
    """Return whether one span holds another in time, but for `SLACK_NS`."""
    return one.start_ns - SLACK_NS <= other.start_ns and other.end_ns <= one.end_ns + SLACK_NS


def closely(one: Span, other: Span) -> bool:
    """Return whether two spans start and end so close together that no other call of that length fits between."""
    outer, inner = (one, other) if one.start_ns <= other.start_ns else (other, one)
    early = 0 if inner.library.begins_late else inner.start_ns - outer.start_ns
    return one.logged != other.logged or max(early, abs(one.end_ns - other.end_ns)) <= EDGE_NS
