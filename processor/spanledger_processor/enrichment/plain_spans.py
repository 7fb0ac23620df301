"""Plain spans of traces that have GenAI spans: their ids and times, and the session and run that they name.

Spans of one instrumentation have the same keys in the same order. So of most the ids, times and names are cut out where
they stood in one before (`otlp.layout`). Of another the ids and times are read, and its attributes where it may name
something.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from spanledger_processor.accounting.facts import Fact
from spanledger_processor.enrichment.names import IdResolver, Names, pick
from spanledger_processor.otlp.layout import Layouts
from spanledger_processor.otlp.prefilter import Prefilter
from spanledger_processor.otlp.values import GIANT
from spanledger_processor.otlp.views import SpanHead, SpanView, head_of

ROLES = ("session", "run")
"""What a plain span may name that matters."""
NO_NAMES = Names()
_MOST_SCOPES, _MOST_NAMES = 256, 4096

_Keys: TypeAlias = tuple[str, ...]


class PlainSpans:
    """Reads plain spans. What it keeps is bounded: all of it goes when there is too much.

    `marks` are words of which every span that names a session or run holds one.
    """

    def __init__(self, resolver: IdResolver, marks: tuple[bytes, ...]) -> None:
        self._resolver = resolver
        self._marks = Prefilter(marks)
        self._keys = frozenset(resolver.keys_of(ROLES))
        self._layouts: dict[str, Layouts[_Keys]] = {}
        """By scope. What is known of a layout are the keys that name something, with texts."""
        self._names: dict[tuple[_Keys, tuple[bytes, ...]], Names] = {}
        """By keys and texts."""

    def fact(self, span: bytes, resource: Names, scope: str = "") -> Fact:
        """Return the fact of a span: its ids and times, and the session and run that it and its resource name. One of
        more than `GIANT` bytes may be read on a thread.

        Raises:
            MalformedError: it cannot be read.
        """
        head, names = self._by_layout(span, scope) if len(span) <= GIANT else self._in_full(span)
        return link(Fact(*head, scope), names, resource)

    def _by_layout(self, span: bytes, scope: str) -> tuple[SpanHead, Names]:
        """Return ids, times and names of a span by one like it; if there is none, keep where they stand for others."""
        layouts = self._layouts.get(scope)
        if layouts is None:
            if len(self._layouts) >= _MOST_SCOPES:
                self._layouts.clear()
            layouts = self._layouts[scope] = Layouts()
        found = layouts.find(span)
        if found is not None:
            layouts.used += 1
            keys, (trace_id, span_id, parent_id, start_ns, end_ns, *texts), _ = found
            return (trace_id, span_id, parent_id, start_ns, end_ns), self._named(keys, tuple(texts))
        if not self._marks.is_in(span):
            head, values = head_of(span), _Values()
        else:
            head, values = self._parsed(span)
        if not layouts.learns():
            layouts.forget()
        elif all(type(value) is str for value in values.values()):
            keys = tuple(values)
            layouts.learn(span, keys, (), keys)
        return head, self._resolver.names(values) if values else NO_NAMES

    def _named(self, keys: _Keys, texts: tuple[bytes, ...]) -> Names:
        """Return what texts name under keys."""
        if not keys:
            return NO_NAMES
        names = self._names.get((keys, texts))
        if names is None:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            decoded = [text.decode("utf-8", "replace") for text in texts]
            names = self._names[keys, texts] = self._resolver.names(_Values(zip(keys, decoded, strict=True)))
        return names

    def _in_full(self, span: bytes) -> tuple[SpanHead, Names]:
        head, values = self._parsed(span)
        return head, self._resolver.names(values)

    def _parsed(self, span: bytes) -> tuple[SpanHead, _Values]:
        """Return the ids and times of a span, and its values that may name something."""
        view = SpanView.parse(span)
        attributes = view.attributes
        values = _Values((key, attributes.get(key)) for key in sorted(attributes.among(self._keys)))
        if len(span) > GIANT:
            attributes.clear()
        return view.head(), values


class _Values(dict[str, object]):
    """The values of some attributes of a span, as `IdResolver` reads them."""

    def among(self, keys: frozenset[str]) -> frozenset[str]:
        """See `Attributes.among`."""
        return keys.intersection(self)


def link(fact: Fact, span: Names, resource: Names) -> Fact:
    """Return a fact of ids with the session and run that its span and resource name."""
    fact.session, fact.run = pick("session", span, resource), pick("run", span, resource)
    return fact


def naming_marks(resolver: IdResolver, markers: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return what to look for beside `markers`: what names a session or run holds one of them, or a marker."""
    marks = {key for key in map(str.encode, resolver.keys_of(ROLES)) if not any(marker in key for marker in markers)}
    return tuple(sorted(mark for mark in marks if not any(other != mark and other in mark for other in marks)))
