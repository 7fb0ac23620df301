"""What a span, or its resource, names: session, run, agent, task. One pass over the keys there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from spanledger_processor.accounting.grouping import NOTHING, Named

MAX_ID = 1024
"""Characters of an id that are kept; ids come from the network."""

_SCRUBBED = "[Scrubbed due to "
"""What Logfire writes in place of a value whose key it takes for a secret's, `session_id` among them."""


class Attributes(Protocol):
    """Attributes of a span or resource, as the wire room reads them."""

    def get(self, key: str, /) -> Any: ...

    def among(self, keys: frozenset[str], /) -> frozenset[str]: ...


@dataclass(frozen=True)
class KeyLists:
    """The keys under which each thing may be named, best first (config `processor.sessions.keys` and so on)."""

    session: Sequence[str] = ()
    session_parent: Sequence[str] = ()
    run: Sequence[str] = ()
    agent: Sequence[str] = ()
    agent_parent: Sequence[str] = ()
    task_id: Sequence[str] = ()
    task_kind: Sequence[str] = ()


@dataclass(slots=True)
class Names:
    """The ids found by what they name (a field of KeyLists), each with the rank of its key; none is empty."""

    found: dict[str, tuple[int, str]] = field(default_factory=dict)


class IdResolver:
    """Finds names by `lists`: for each thing the best ranked key that holds an id."""

    def __init__(self, lists: KeyLists) -> None:
        self._roles: dict[str, list[tuple[str, int]]] = {}
        for what in KeyLists.__dataclass_fields__:
            for rank, name in enumerate(getattr(lists, what)):
                self._roles.setdefault(name, []).append((what, rank))
        self.keys = frozenset(self._roles)
        """All keys that name something."""

    def names(self, attributes: Attributes) -> Names:
        """What `attributes` name."""
        names = Names()
        for key in attributes.among(self.keys):
            self._take(names, attributes, key)
        return names

    def _take(self, names: Names, attributes: Attributes, key: str) -> None:
        text = _id(attributes.get(key))
        if not text:
            return
        for what, rank in self._roles[key]:
            if what not in names.found or rank < names.found[what][0]:
                names.found[what] = (rank, text)


def pick(what: str, span: Names, resource: Names) -> Named:
    """An id from the span, else from its resource, with where it stood."""
    if what in span.found:
        return Named(span.found[what][1], "attribute")
    return Named(resource.found[what][1], "resource") if what in resource.found else NOTHING


def _id(value: Any) -> str:
    """An attribute value as an id: text (some write it as JSON, in quotes), or a number spelled out, else none."""
    if isinstance(value, str):
        return "" if value.startswith(_SCRUBBED) else value.strip(' \t\r\n"')[:MAX_ID]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ""
