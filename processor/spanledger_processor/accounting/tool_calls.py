"""Tool calls and the model calls around them: which were only asked for, and which calls the results went into.

`AskedTools` are tool calls that exist only in what models asked for. A call that an output asks for is executed by a
span of a tool with its id. Where tools' spans have no id, or another one (a framework's own), each of them may be one
of the calls that no span is known for: so many of those are left out, the earliest first. Whatever is left has no span
of its own, and counts where it was asked for: once, whichever spans report it. What other traces' spans execute is left
out (`Span.elsewhere`), and so is what all but one of the reports of a call in several traces ask for.

`ToolResults` estimates by input growth what results cost. Of the calls of one session and agent, and below one tool or
none, in the order in which they began, each has in its input what the one before had, that one's output, and the
results of the tools that ended in between. So its input grew by these results, as far as it has more tokens than the
input and the output before; what is new in an input is paid for at the rates of what is not read from the cache. Where
calls overlap, the first call of a trace, and where the input did not grow, nothing is known.

Both are functions of the set of spans of a trace: neither their order of arrival nor which report of an execution came
first matters.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import pairwise
from operator import itemgetter
from typing import TypeAlias

from msgspec import Struct

from spanledger_processor.accounting.facts import in_pairs
from spanledger_processor.accounting.grouping import Groups
from spanledger_processor.accounting.one_call import together
from spanledger_processor.accounting.trace import COUNTED, Fed, Span
from spanledger_processor.model import CACHE_READ, INPUT

_Line: TypeAlias = tuple[str, str, str]
"""Session, agent, and the tool above: what a tool asks of a model has a context of its own."""
_KINDS = ("llm", "tool")
"""Kinds of the spans that are looked at."""
_NEAR = 8
"""Executions of one tool without an id that another report is compared with."""


class _Times(Struct):
    """Model calls by start, and tool executions by end, each with the span's id."""

    calls: list[tuple[int, bytes]] = []
    tools: list[tuple[int, bytes]] = []


class ToolResults:
    """The model calls and tool executions of one trace, in order.

    `spans` are those of the trace, also the ones that it is to gain.
    """

    def __init__(self, spans: Mapping[bytes, Span]) -> None:
        self._spans = spans
        self._lines: dict[_Line, _Times] = {}
        self._line_of: dict[bytes, _Line] = {}
        """Of model calls."""
        self._line_of_tool: dict[bytes, _Line] = {}

    @classmethod
    def of(cls, spans: Mapping[bytes, Span], groups: Groups, roles: Mapping[bytes, str]) -> ToolResults:
        """Return the calls and executions of a trace; nothing where it has no tools."""
        results = cls(spans)
        if "tool" in {span.kind for span in spans.values()}:
            for span in spans.values():
                if span.kind in _KINDS:
                    results.add(span, groups, roles)
        return results

    def add(self, span: Span, groups: Groups, roles: Mapping[bytes, str]) -> Iterable[Span]:
        """Take in a span, and return the calls whose results may be others now."""
        is_call = _is_counted_call(span, roles)
        if not is_call and not _is_execution(span):
            return ()
        line = groups.session(span).id, groups.agent(span), groups.tool_above(span)
        times = self._lines.get(line)
        if times is None:
            times = self._lines[line] = _Times()
        if is_call:
            self._line_of[span.span_id] = line
            insort(times.calls, (span.start_ns, span.span_id))
            first = bisect_left(times.calls, (span.start_ns, span.span_id))
            return [self._spans[span_id] for _, span_id in times.calls[first : first + 2]]
        self._line_of_tool[span.span_id] = line
        insort(times.tools, (span.end_ns, span.span_id))
        first = bisect_left(times.calls, span.end_ns, key=itemgetter(0))
        return [self._spans[span_id] for _, span_id in times.calls[first : first + 1]]

    def remove(self, span: Span) -> None:
        """Let go of a span, as if it had never been taken in."""
        line = self._line_of.pop(span.span_id, None)
        if line is not None:
            _take_out(self._lines[line].calls, (span.start_ns, span.span_id))
        line = self._line_of_tool.pop(span.span_id, None)
        if line is not None:
            _take_out(self._lines[line].tools, (span.end_ns, span.span_id))

    def fed(self, call: Span) -> tuple[Fed, ...]:
        """Return the part of a model call that results of each tool make up, by tool; empty where it is not known."""
        line = self._line_of.get(call.span_id)
        times = self._lines[line] if line is not None else None
        if times is None or not times.tools:
            return ()
        index = bisect_left(times.calls, (call.start_ns, call.span_id))
        before = self._spans[times.calls[index - 1][1]] if index else None
        if before is None or before.end_ns > call.start_ns:
            return ()
        first = bisect_right(times.tools, before.start_ns, key=itemgetter(0))
        last = bisect_right(times.tools, call.start_ns, key=itemgetter(0))
        growth = _growth(before, call)
        if growth <= 0 or first == last:
            return ()
        tools = _executions(self._spans[span_id] for _, span_id in times.tools[first:last])
        return _shares(tools, growth, _cost_of(call, growth))


def _take_out(times: list[tuple[int, bytes]], one: tuple[int, bytes]) -> None:
    """Take a time out of a sorted list that holds it."""
    place = bisect_left(times, one)
    assert times[place] == one
    del times[place]


def _is_counted_call(span: Span, roles: Mapping[bytes, str]) -> bool:
    claim = span.claim
    return (
        span.is_model_call
        and claim is not None
        and not claim.cached
        and claim.tokens[INPUT] is not None
        and roles.get(span.span_id) == COUNTED
    )


def _is_execution(span: Span) -> bool:
    return span.kind == "tool" and bool(span.detail.tool) and not span.detail.denied


def _growth(before: Span, call: Span) -> int:
    """Return by how many tokens an input is more than the input and the output before it."""
    assert before.claim is not None
    assert call.claim is not None
    input_tokens, output_tokens, *_ = before.claim.tokens
    return (call.claim.tokens[INPUT] or 0) - (input_tokens or 0) - (output_tokens or 0)


def _cost_of(call: Span, growth: int) -> int | None:
    """Return what so many new tokens of a call's input cost, at the rates of what it did not read from the cache."""
    claim = call.claim
    assert claim is not None
    if claim.fresh is None:
        return None
    fresh = (claim.tokens[INPUT] or 0) - (claim.tokens[CACHE_READ] or 0)
    return claim.fresh * min(growth, fresh) // fresh if fresh > 0 else 0


def _executions(tools: Iterable[Span]) -> list[str]:
    """Return the tools of executions, each once however many reports of it there are."""
    names: list[str] = []
    ids: set[str] = set()
    without_id: dict[str, list[Span]] = {}
    for span in tools:
        near = without_id.setdefault(span.detail.tool, [])
        if span.call_id in ids or any(_is_one(span, other) for other in near[-_NEAR:]):
            continue
        if span.call_id:
            ids.add(span.call_id)
        near.append(span)
        names.append(span.detail.tool)
    return names


def _is_one(one: Span, other: Span) -> bool:
    """Return whether two sources report one execution, where one of them has no id for it."""
    if one.call_id and other.call_id:
        return False
    return (one.scope, one.logged) != (other.scope, other.logged) and together(one, other)


def _shares(tools: list[str], growth: int, cost: int | None) -> tuple[Fed, ...]:
    """Divide tokens and cost among executions, evenly: how long each result was is not kept."""
    number = len(tools)
    edges = [(growth * index // number, (cost or 0) * index // number) for index in range(number + 1)]
    shares: dict[str, list[int]] = {}
    for tool, ((tokens, amount), (tokens_after, amount_after)) in zip(tools, pairwise(edges), strict=True):
        share = shares.setdefault(tool, [0, 0, 0, 0])
        share[0] += 1
        share[1] += tokens_after - tokens
        share[2] += amount_after - amount
        share[3] += cost is None
    return tuple(Fed(tool, *share) for tool, share in sorted(shares.items()))


AskedOnly: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""The tools that a model's span asks for without a span of theirs, and those of them that complete a loop there."""

_NOTHING: AskedOnly = ((), ())


class AskedTools:
    """The tool calls of a trace that have no span of their own, by the span that asks for them."""

    def __init__(self) -> None:
        self._askers: list[Span] = []
        self._tools: list[Span] = []
        self._only: dict[bytes, AskedOnly] = {}
        self._is_known = True

    @classmethod
    def of(cls, spans: Iterable[Span]) -> AskedTools:
        """Return those of the spans of a trace."""
        asked = cls()
        asked.add(spans)
        return asked

    def add(self, spans: Iterable[Span]) -> None:
        """Take in spans."""
        for span in spans:
            if span.detail.asked or span.detail.stuck:
                self._askers.append(span)
            elif span.kind == "tool":
                self._tools.append(span)
            else:
                continue
            self._is_known = False

    def remove_tools(self, gone: Container[bytes]) -> None:
        """Let go of spans of tools, by their ids."""
        self._tools = [span for span in self._tools if span.span_id not in gone]
        self._is_known = False

    def asking(self, call_id: str) -> list[Span]:
        """Return the spans that ask for a call, or show it to complete a loop."""
        return [span for span in self._askers if call_id in (*span.detail.asked[::2], *span.detail.stuck[::2])]

    def look_again(self) -> None:
        """Find anew what has no span of its own; to be called when spans' parts in tool calls changed."""
        self._is_known = False

    def changed(self) -> list[Span]:
        """Return the spans whose places do not have the current tool calls yet."""
        return [
            span
            for span in self._askers
            if span.posting is not None and self.only(span) != (span.posting.asked, span.posting.stuck)
        ]

    def only(self, span: Span) -> AskedOnly:
        """Return the tool calls that a span asks for and that have no span of their own."""
        if span.asks_elsewhere:
            return _NOTHING
        if not self._is_known:
            self._only, self._is_known = dict(self._find()) if self._askers else {}, True
        return self._only.get(span.span_id, _NOTHING)

    def _find(self) -> Iterator[tuple[bytes, AskedOnly]]:
        alone_in_trace = (span for span in self._askers if not span.asks_elsewhere)
        askers = sorted(alone_in_trace, key=lambda span: (span.start_ns, span.span_id))
        asked: dict[str, tuple[bytes, str]] = {}
        elsewhere: set[str] = set()
        for span in askers:
            for identifier, tool in in_pairs(span.detail.asked):
                if identifier in span.elsewhere:
                    elsewhere.add(identifier)
                else:
                    asked.setdefault(identifier, (span.span_id, tool))
        named = asked.keys() | elsewhere if elsewhere else asked.keys()
        executed = {span.call_id for span in self._tools}
        # those that count with another report stand for none of these
        others = sum(span.call_id not in named for span in self._tools if not span.again)
        alone = [identifier for identifier in asked if identifier not in executed][others:]
        stuck: dict[str, tuple[bytes, str]] = {}
        for span in askers:
            for identifier, tool in in_pairs(span.detail.stuck):
                if identifier not in span.elsewhere:
                    stuck.setdefault(identifier, (span.span_id, tool))
        known = {*alone} | ({*stuck} - named if not self._tools else set())
        by_span: dict[bytes, tuple[list[str], list[str]]] = {}
        for identifier in alone:
            by_span.setdefault(asked[identifier][0], ([], []))[0].append(asked[identifier][1])
        for identifier, (span_id, tool) in stuck.items():
            if identifier in known:
                by_span.setdefault(span_id, ([], []))[1].append(tool)
        for span_id, (tools, looping) in by_span.items():
            yield span_id, (tuple(tools), tuple(looping))
