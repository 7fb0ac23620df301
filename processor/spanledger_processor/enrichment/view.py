"""A span with its scope and resource, as dialects look at it (`dialects.view.View`)."""

from __future__ import annotations

from collections.abc import Sequence

from spanledger_processor.otlp.envelope import ScopeGroup
from spanledger_processor.otlp.views import Attributes, Event, SpanView


class View:
    """What `dialects.detect` reads: the span's own fields, and those of the scope and resource around it."""

    __slots__ = ("_group", "_span", "attributes", "name")

    def __init__(self, span: SpanView, group: ScopeGroup) -> None:
        self._span = span
        self._group = group
        self.name: str = span.name
        self.attributes: Attributes = span.attributes

    @property
    def status_code(self) -> int:
        return self._span.status_code

    @property
    def events(self) -> Sequence[Event]:
        return self._span.events

    @property
    def scope_name(self) -> str:
        return self._group.scope_name

    @property
    def scope_version(self) -> str:
        return self._group.scope_version

    @property
    def resource(self) -> Attributes:
        return self._group.resource_attributes
