"""Decisions as records: `[version, digest, fields]`, with only those fields that differ from their default.

Generic over the dataclasses: a field that is added to them needs no change here. A record with fields that this version
does not know, or without some that it knows, is read as far as both go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from operator import attrgetter
from typing import Any, get_args, get_type_hints

from spanledger_processor.decisions import Decision
from spanledger_processor.state.packing import pack, unpack
from spanledger_processor.state.store import StateError

_VERSION = 1

_SHORT = (
    *("kind", "dialect", "granularity", "session_id", "session_source", "session_parent_id", "session_closed"),
    *("run_id", "run_source", "agent_id", "agent_parent_id", "task_id", "task_kind"),
    *("usage", "cost", "repeats_children", "subtree", "duplicate_of"),
    *("signature", "tool_repeats", "tool_consecutive", "tool_loop"),
    *("session_cost", "run_cost", "source", "note", "aliases"),
    *("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning"),
    *("amount", "computed", "other", "reported", "price", "estimate", "unpriced"),
    *("value", "scope"),
)
"""Field names that records write as their number in this list: only ever append. Others are written in full."""
_NUMBERS = {name: number for number, name in enumerate(_SHORT)}
_ABSENT = object()


class _Plan:
    """How one dataclass is written and read."""

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls
        hints = get_type_hints(cls)
        names = [field.name for field in fields(cls)]
        self.values: Callable[[Any], tuple[Any, ...]] = attrgetter(*names)
        self.marks = tuple(_NUMBERS.get(name, name) for name in names)
        self.defaults = tuple(_default(field) for field in fields(cls))
        self.names = dict(zip(self.marks, names, strict=True))
        kinds = {mark: {hints[name], *get_args(hints[name])} for mark, name in self.names.items()}
        self.nested = {
            mark: _Plan(kind)
            for mark, of in kinds.items()
            for kind in of
            if isinstance(kind, type) and is_dataclass(kind)
        }
        self.integers = frozenset(mark for mark, of in kinds.items() if int in of)

    def to_fields(self, value: Any) -> dict[int | str, Any]:
        found = {
            mark: inner
            for mark, inner, default in zip(self.marks, self.values(value), self.defaults, strict=True)
            if inner != default
        }
        for mark, plan in self.nested.items():
            if mark in found:
                found[mark] = plan.to_fields(found[mark])
        return found

    def from_fields(self, found: dict[int | str, Any]) -> Any:
        return self.cls(
            **{self.names[mark]: self._read(mark, value) for mark, value in found.items() if mark in self.names}
        )

    def _read(self, mark: int | str, value: Any) -> Any:
        if type(value) is dict:
            return self.nested[mark].from_fields(value)
        if type(value) is list:
            return tuple(value)
        return int(value) if type(value) is str and mark in self.integers else value


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return _ABSENT if field.default is MISSING else field.default


_DECISION = _Plan(Decision)


def pack_decision(decision: Decision, digest: bytes) -> bytes:
    """The record of a decision, with the digest of the usage that it was made on."""
    return pack([_VERSION, digest, _DECISION.to_fields(decision)])


def unpack_decision(record: bytes) -> tuple[Decision, bytes]:
    """The decision and the digest of a record.

    Raises:
        StateError: a later version wrote it in another way.
    """
    version, digest, found, *_ = unpack(record)
    if version != _VERSION:
        raise StateError(f"a decision of record version {version}: this version of Spanledger reads {_VERSION}")
    decision: Decision = _DECISION.from_fields(found)
    return decision, digest
