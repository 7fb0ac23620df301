"""Keys of content whose values nothing here reads: a client may send them without (processor/collector/enrich.proto).

A dialect lists the keys of prompts, messages and tool definitions that it knows (`Dialect.content`). Where another one
reads such a key, its detection is the exception. A tool's arguments and result are read of tool executions only, so a
span that names another kind is an exception from that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from spanledger_processor.dialects.engine import keys_of
from spanledger_processor.dialects.registry import DIALECTS
from spanledger_processor.dialects.schema import NO_TOOL, Detection, Dialect, Keys


@dataclass(frozen=True, slots=True)
class UnreadValue:
    """A key whose value is not read, and of which spans; `*` in it stands for digits.

    It is read of spans that hold one of `unless_keys`, or whose scope or name begins with one of `unless_scopes` or
    `unless_names`; but for those whose text under `where` is, in lower case, one of `values`.
    """

    key: str
    unless_keys: Keys = ()
    unless_scopes: Keys = ()
    unless_names: Keys = ()
    where: str = ""
    values: Keys = ()


def unread_values(named: Iterable[str] = ()) -> tuple[UnreadValue, ...]:
    """Return what is not read; `named` are keys that a configuration reads."""
    read_anyway = frozenset(named)
    keys = sorted({key for dialect in DIALECTS for key in dialect.content})
    return tuple(_unread(key) for key in keys if not _any(key, read_anyway))


def _unread(key: str) -> UnreadValue:
    of_all_kinds = [dialect for dialect in DIALECTS if _any(key, _read_of_all_kinds(dialect))]
    of_tools = [dialect for dialect in DIALECTS if _any(key, _read_of_tools(dialect))]
    spoken = [dialect.detection for dialect in (*of_all_kinds, *of_tools)]
    kinds = {dialect.kinds[0].key for dialect in of_tools if dialect.kind_of is None and dialect.kinds}
    where, values = "", Keys()
    if not of_all_kinds and len(kinds) == 1 and all(d.kind_of is None and d.kinds for d in of_tools):
        where = kinds.pop()
        tables = (dialect.kinds[0].table.items() for dialect in of_tools)
        values = tuple(
            sorted(set.intersection(*({value for value, kind in rows if kind != "tool"} for rows in tables)))
        )
    return UnreadValue(
        key,
        tuple(sorted({known for one in spoken for known in one.keys})),
        tuple(sorted({known for one in spoken for known in one.scopes})),
        tuple(sorted({known for one in spoken for known in one.names})),
        where,
        values,
    )


def _read_of_all_kinds(dialect: Dialect) -> frozenset[str]:
    """Return keys whose values a dialect's tables ask for. Of the others it matters only that they hold something."""
    by_value = replace(dialect, detection=Detection(), answered=(), sources=(), tool=NO_TOOL)
    return frozenset(keys_of(by_value))


def _read_of_tools(dialect: Dialect) -> frozenset[str]:
    groups = (getattr(dialect.tool, item.name) for item in fields(dialect.tool))
    return frozenset(key for group in groups if isinstance(group, tuple) for key in group)


def _any(key: str, keys: Iterable[str]) -> bool:
    pattern = re.compile("[0-9]+".join(map(re.escape, key.split("*"))))
    return any(pattern.fullmatch(other) for other in keys)
