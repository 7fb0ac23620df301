"""What a dialect may look at: one span, with the scope and resource around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Attributes(Protocol):
    """Attributes as the wire room reads them: text, numbers, lists (array) and dictionaries (key-value list)."""

    def get(self, key: str, /) -> Any: ...

    def keys(self) -> Iterable[str]: ...

    def among(self, keys: frozenset[str], /) -> frozenset[str]: ...

    def __contains__(self, key: object, /) -> bool: ...


class Event(Protocol):
    """One event of a span."""

    @property
    def name(self) -> str: ...

    @property
    def attributes(self) -> Attributes: ...


class View(Protocol):
    """A span. `status_code` is OTLP's: 2 is an error."""

    @property
    def name(self) -> str: ...

    @property
    def status_code(self) -> int: ...

    @property
    def attributes(self) -> Attributes: ...

    @property
    def events(self) -> Sequence[Event]: ...

    @property
    def scope_name(self) -> str: ...

    @property
    def scope_version(self) -> str: ...

    @property
    def resource(self) -> Attributes: ...


def has(view: View, *keys: str) -> bool:
    """Whether a span has one of these keys."""
    return any(key in view.attributes for key in keys)
