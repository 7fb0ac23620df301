"""Tool calls that exist only in what models asked for: a function of the set of a trace's spans.

A call that an output asks for is executed by a span of a tool with its id. Where tools' spans have no id, or another
one (a framework's own), each of them may be one of the calls that no span is known for: so many of those are left out,
the earliest first. Whatever is left has no span of its own, and counts where it was asked for: once, whichever spans
tell of it. What spans ask for whose call is reported in two traces is left out: the tools may stand in the other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from spanledger_processor.accounting.trace import Span

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
        """Return those of a trace."""
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

    def changed(self) -> list[Span]:
        """Return the spans for which something else is true than where they stand."""
        return [
            span
            for span in self._askers
            if span.place is not None and self.only(span) != (span.place.asked, span.place.stuck)
        ]

    def only(self, span: Span) -> AskedOnly:
        """Return what a span asks for that has no span of its own."""
        if not self._is_known:
            self._only, self._is_known = dict(self._found()) if self._askers else {}, True
        return self._only.get(span.span_id, _NOTHING)

    def _found(self) -> Iterator[tuple[bytes, AskedOnly]]:
        alone_in_trace = (span for span in self._askers if not span.twin and not span.reported_by)
        askers = sorted(alone_in_trace, key=lambda span: (span.start_ns, span.span_id))
        asked: dict[str, tuple[bytes, str]] = {}
        for span in askers:
            for identifier, tool in _pairs(span.detail.asked):
                asked.setdefault(identifier, (span.span_id, tool))
        executed = {span.call_id for span in self._tools if span.call_id in asked}
        others = sum(span.call_id not in asked for span in self._tools)
        alone = [identifier for identifier in asked if identifier not in executed][others:]
        stuck: dict[str, tuple[bytes, str]] = {}
        for span in askers:
            for identifier, tool in _pairs(span.detail.stuck):
                stuck.setdefault(identifier, (span.span_id, tool))
        known = {*alone} | ({*stuck} - {*asked} if not self._tools else set())
        by_span: dict[bytes, tuple[list[str], list[str]]] = {}
        for identifier in alone:
            by_span.setdefault(asked[identifier][0], ([], []))[0].append(asked[identifier][1])
        for identifier, (span_id, tool) in stuck.items():
            if identifier in known:
                by_span.setdefault(span_id, ([], []))[1].append(tool)
        for span_id, (tools, looping) in by_span.items():
            yield span_id, (tuple(tools), tuple(looping))


def _pairs(values: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return zip(values[::2], values[1::2], strict=True)
