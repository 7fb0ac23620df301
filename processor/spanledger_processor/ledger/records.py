"""Decisions as records: `[version, digest, values]`, values in the order of `_ORDER`, nested dataclasses in place.

A record of an older version has fewer values, and the others keep their defaults; what a newer one adds is left aside.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import StateError
from spanledger_processor.model import CLASS_NAMES, Cost, Decision, Signature, Usage

_VERSION = 1

_ORDER: dict[type[Any], tuple[str, ...]] = {
    Decision: (
        *("kind", "dialect", "granularity", "session_id", "session_source", "session_parent_id", "session_closed"),
        *("run_id", "run_source", "agent_id", "agent_parent_id", "task_id", "task_kind"),
        *("usage", "cost", "repeats_children", "subtree", "duplicate_of"),
        *("signature", "tool_repeats", "tool_consecutive", "tool_loop"),
        *("session_cost", "run_cost", "source", "note", "aliases", "reason"),
        *("budget_name", "budget_used"),
    ),
    Usage: CLASS_NAMES,
    Cost: (
        *("amount", "source", "computed", "input", "cache_read", "cache_write", "output", "other"),
        *("reported", "price", "estimate", "unpriced", "note"),
    ),
    Signature: ("value", "scope"),
}
"""Records lie on disks: only ever append. A field that is not here yet is stored behind those that are."""


def field_names(kind: Any) -> tuple[str, ...]:
    """Return the names of a record's fields: of a struct, a named tuple or a dataclass."""
    names: tuple[str, ...] = getattr(kind, "__struct_fields__", ()) or getattr(kind, "_fields", ())
    return names or tuple(one.name for one in fields(kind))


class _Shape:
    """The codec of one record."""

    def __init__(self, cls: type[Any]) -> None:
        order = _ORDER[cls]
        self._cls = cls
        self._names = (*order, *(name for name in field_names(cls) if name not in order))
        self._values = attrgetter(*self._names)
        hints = get_type_hints(cls)
        kinds = [{hints[name], *get_args(hints[name])} - {NoneType} for name in self._names]
        self._nested = [(at, _Shape(kind)) for at, of in enumerate(kinds) for kind in of if kind in _ORDER]
        self._integers = [at for at, of in enumerate(kinds) if int in of]
        self._tuples = [at for at, name in enumerate(self._names) if get_origin(hints[name]) is tuple]

    def row(self, value: Any) -> Any:
        """Return the values of a record, as they are packed."""
        if not self._nested:
            return self._values(value)
        row = list(self._values(value))
        for at, shape in self._nested:
            if (inner := row[at]) is not None:
                row[at] = shape.row(inner) if shape._nested else shape._values(inner)
        return row

    def read(self, row: list[Any]) -> Any:
        """Return the record of a packed row."""
        for at, shape in self._nested:
            if at < len(row) and row[at] is not None:
                row[at] = shape.read(row[at])
        for at in self._tuples:
            if at < len(row):
                row[at] = tuple(row[at])
        for at in self._integers:
            if at < len(row) and type(row[at]) is str:
                row[at] = int(row[at])
        return self._cls(**dict(zip(self._names, row, strict=False)))


_DECISION = _Shape(Decision)
DECISION_VALUES: tuple[str, ...] = _DECISION._names
"""The fields of a decision's record, in their order."""


def pack_decision(decision: Decision, digest: bytes) -> bytes:
    """Return the record of a decision, with the digest of the usage that it was made on."""
    return pack([_VERSION, digest, _DECISION.row(decision)])


def pack_values(values: list[Any], digest: bytes) -> bytes:
    """Return the record of a decision with these values (`DECISION_VALUES`; usage and cost as the values of theirs)."""
    return pack([_VERSION, digest, values])


def values_in(record: bytes) -> list[Any]:
    """Return the values that `pack_values` packed."""
    values: list[Any] = unpack(record)[2]
    return values


def unpack_decision(record: bytes) -> tuple[Decision, bytes]:
    """Return the decision and the digest of a record.

    Raises:
        StateError: a later version wrote it in another way.
    """
    version, digest, row, *_ = unpack(record)
    if version != _VERSION:
        raise StateError(f"a decision of record version {version}: this version of Spanledger reads {_VERSION}")
    decision: Decision = _DECISION.read(row)
    return decision, digest
