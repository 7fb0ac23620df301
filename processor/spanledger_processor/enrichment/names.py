"""Names of sessions, runs, agents, tasks and dimensions on a span or its resource, by one pass over its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import unquote

from spanledger_processor.accounting.facts import in_pairs
from spanledger_processor.accounting.grouping import NOTHING, Named
from spanledger_processor.dialects.values import identifier
from spanledger_processor.ledger.keys import bounded_id

MAX_ID = 1024
"""Characters of an id that go on spans as they are; a longer one is cut as the ledger cuts it: no two become one."""

_SCRUBBED = "[Scrubbed due to "
"""What Logfire writes in place of a value whose key it takes for a secret's, `session_id` among them."""
_ANSWER = "resp_"
_LONG_ANSWER = 32
"""How an id of OpenAI's responses begins, and how long one is at least: frameworks that go on from the answer before
tell it as the conversation, another one each call (https://platform.openai.com/docs/guides/conversation-state)."""


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
    instance: Sequence[str] = ()
    agent_name: Sequence[str] = ()
    service: Sequence[str] = ()


@dataclass(slots=True)
class Names:
    """The ids that a span or resource names, by role: a field of `KeyLists`, or a dimension; none is empty.

    Each comes with the rank of its key.
    """

    ranked: dict[str, tuple[int, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelRule:
    """The project and label of spans of an agent, service and process; patterns, empty for any."""

    agent: str = ""
    service: str = ""
    instance: str = ""
    project: str = ""
    label: str = ""

    def matches(self, agent: str, service: str, instance: str) -> bool:
        """Return whether a span's names match all patterns."""
        named = ((self.agent, agent), (self.service, service), (self.instance, instance))
        return all(not pattern or fnmatchcase(name, pattern) for pattern, name in named)


class IdResolver:
    """Finds names by `lists`: for each thing the best ranked key that holds an id. So it does for `dimensions`.

    `session_first` are, by dialect, keys that name the session of its spans before the others do.
    """

    def __init__(
        self,
        lists: KeyLists,
        dimensions: Dimensions | None = None,
        labels: Sequence[LabelRule] = (),
        session_first: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._labels = labels
        self._session_first = session_first
        self._dimensions = dimensions or Dimensions({})
        self._roles: dict[str, list[tuple[str, int]]] = {}
        for role in KeyLists.__dataclass_fields__:
            for rank, name in enumerate(getattr(lists, role)):
                self._roles.setdefault(name, []).append((role, rank))
        for role, keys in self._dimensions.attributes.items():
            for rank, name in enumerate(keys):
                self._roles.setdefault(name, []).append((role, rank))
        self.keys = frozenset(self._roles)
        """All keys that name something."""

    @property
    def asks_request(self) -> bool:
        """Return whether a dimension may be named in the headers of a request."""
        return self._dimensions.asks_request

    def keys_of(self, roles: Sequence[str]) -> tuple[str, ...]:
        """Return the keys that name one of these things."""
        return tuple(key for key, named in self._roles.items() if any(role in roles for role, _ in named))

    def names(self, attributes: Attributes, dialect: str = "") -> Names:
        """Return what `attributes` name, of a span of `dialect` if there is one."""
        names = Names()
        ranked = names.ranked
        for key in attributes.among(self.keys):
            text = _id(attributes.get(key))
            for role, rank in self._roles[key] if text else ():
                known = ranked.get(role)
                if known is None or rank < known[0]:
                    ranked[role] = (rank, text)
        if dialect in self._session_first:
            texts = (_id(attributes.get(key)) for key in self._session_first[dialect])
            if first := next(filter(None, texts), ""):
                ranked["session"] = (-1, first)
        return names

    def dimensions(self, span: Names, resource: Names, headers: Mapping[str, str]) -> tuple[str, ...]:
        """Return the dimensions of a span with their values, by name: from the span, its resource, or the request."""
        return self._dimensions.of(span, resource, headers)

    def labelled(
        self, dimensions: tuple[str, ...], agent: str, service: str, instance: str
    ) -> tuple[str, str, tuple[str, ...]]:
        """Return the project and the label of a span's session, and its dimensions with that project; "": none."""
        named = dict(in_pairs(dimensions))
        project, label = named.get(PROJECT, ""), ""
        rules = [rule for rule in self._labels if rule.matches(agent, service, instance)] if self._labels else []
        label = next((rule.label for rule in rules if rule.label), "")
        if not project and (configured := next((rule.project for rule in rules if rule.project), "")):
            project = configured
            if self._dimensions.has(PROJECT):
                pairs = sorted({**named, PROJECT: bounded_id(project)}.items())
                dimensions = tuple(text for pair in pairs for text in pair)
        return project, label, dimensions

    def keys_that_name(self, role: str, keys: Sequence[str], dialect: str = "") -> tuple[str, ...]:
        """Return those of `keys` that name a session, say, and nothing else, best first; none if one names more."""
        first = self._session_first.get(dialect, ()) if role == "session" else ()
        ranked = [(rank, key) for key in keys if key in self.keys for of, rank in self._roles[key] if of == role]
        if any(len(self._roles[key]) > 1 for _, key in ranked):
            return ()
        return tuple(key for _, _, key in sorted((key not in first, rank, key) for rank, key in ranked))

    def further_questions(self, role: str, keys: Sequence[str], dialect: str = "") -> list[str]:
        """Return what `names` asks for to find the name of a role, each as often, beside the best key once.

        Keys that name the session of a dialect's spans before the others are asked for twice, up to that which does.
        """
        best, *others = self.keys_that_name(role, keys, dialect) or ("",)
        first = self._session_first.get(dialect, ()) if role == "session" else ()
        return [*others, best] if best in first else others


class Dimensions:
    """The dimensions of spans beside sessions and runs: team, user, cost centre (config `processor.dimensions`).

    `keys` by the name of the dimension, best first: attribute keys, `header:<name>` of the request, and
    `baggage:<name>` of its W3C baggage header. `redact` rewrites the values of some dimensions, which are stored.
    """

    def __init__(
        self, keys: Mapping[str, Sequence[str]], redact: Mapping[str, Callable[[str], str]] | None = None
    ) -> None:
        self._redact = redact or {}
        self.attributes = {
            _DIMENSION + name: [key for key in listed if not key.startswith(_OF_REQUEST)]
            for name, listed in keys.items()
        }
        self._names = [(name, _DIMENSION + name) for name in sorted(keys)]
        self._of_request = {
            name: [key for key in listed if key.startswith(_OF_REQUEST)] for name, listed in keys.items()
        }
        self.asks_request = any(self._of_request.values())

    def has(self, name: str) -> bool:
        """Return whether there is a dimension of this name, with keys."""
        return bool(self.attributes.get(_DIMENSION + name) or self._of_request.get(name))

    def of(self, span: Names, resource: Names, headers: Mapping[str, str]) -> tuple[str, ...]:
        """Return names and values in turn, by name; a dimension without a value is left out."""
        named: list[str] = []
        for name, role in self._names:
            at = span.ranked.get(role) or resource.ranked.get(role)
            value = at[1] if at is not None else ""
            if not value and self.asks_request:
                value = next((text for key in self._of_request[name] if (text := _in_request(key, headers))), "")
            if value and name in self._redact:
                value = self._redact[name](value)
            if value:
                named += (name, bounded_id(value))
        return tuple(named)


PROJECT = "project"
"""The dimension that a session's project stands under."""
_DIMENSION = "dimension:"
"""Before the name of a dimension, where it stands beside the fields of `KeyLists`."""
_HEADER, _BAGGAGE = "header:", "baggage:"
_OF_REQUEST = (_HEADER, _BAGGAGE)


def _in_request(key: str, headers: Mapping[str, str]) -> str:
    """Return what a request's headers, or its baggage (https://www.w3.org/TR/baggage/), hold under a key."""
    if key.startswith(_HEADER):
        return _id(headers.get(key[len(_HEADER) :], ""))
    wanted = key[len(_BAGGAGE) :]
    for member in headers.get("baggage", "").split(","):
        name, _, value = member.partition(";")[0].partition("=")
        if name.strip() == wanted:
            return _id(unquote(value.strip()))
    return ""


def pick(role: str, span: Names, resource: Names) -> Named:
    """Return an id from the span, else from its resource, with where it stood."""
    if role in span.ranked:
        return Named(span.ranked[role][1], "attribute")
    return Named(resource.ranked[role][1], "resource") if role in resource.ranked else NOTHING


def is_plain_id(text: str) -> bool:
    """Return whether a text is an id without any change."""
    return bool(text) and _id(text) == text


def _id(value: Any) -> str:
    """Return an attribute value as an id: text, or a number spelled out, else none."""
    if isinstance(value, str):
        name = identifier(value)
        if len(name) > MAX_ID:
            name = bounded_id(name)
        if name.startswith(_ANSWER) and len(name) >= _LONG_ANSWER:
            return ""
        return "" if name.startswith(_SCRUBBED) else name
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ""
