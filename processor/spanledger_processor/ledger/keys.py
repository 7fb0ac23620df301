"""Where the totals of a ledger stand: one key for each session, run and whole."""

from __future__ import annotations

from hashlib import blake2b

from spanledger_processor.ledger.store import Key, Table, key

ID_BOUND = 512
"""Bytes of an id, name or label that are kept."""
LEDGER = b"ledger"
CORRECTIONS = b"corrections"
TRACE_PREFIX = 23
"""Bytes that the keys of one trace have in common."""
EVERY_TENANT = bytes(8)
"""Stands for all tenants together where a sum over the whole process is kept: the hash of none."""
_OTHER_VALUES = b"\xff"
"""Of no text: it stands in no UTF-8."""
UNATTRIBUTED = ""
"""The id of the session, and of the run, of what has none."""


def session_key(tenant: bytes, session_id: str) -> Key:
    """Where the totals of one session stand."""
    return key(Table.SESSION, tenant, id_bytes(bounded_id(session_id)))


def run_key(tenant: bytes, run_id: str) -> Key:
    """Where the totals of one run stand."""
    return key(Table.RUN, tenant, id_bytes(bounded_id(run_id)))


def link_key(tenant: bytes, kind: bytes, above: str, session_id: str) -> Key:
    """Where a link stands from a run or a session to a session (`runs`)."""
    return key(Table.LINK, tenant, kind + id_bytes(bounded_id(above)), id_bytes(bounded_id(session_id)))


def dimension_key(tenant: bytes, name: str, day: int, value: str | None) -> Key:
    """Where the totals of one value of a dimension on one UTC day stand; None: of the values not told apart."""
    value_bytes = _OTHER_VALUES if value is None else id_bytes(bounded_id(value))
    return key(Table.DIMENSION, tenant, dimension_day(name, day), value_bytes)


def dimension_day(name: str, day: int) -> bytes:
    """What the keys of one dimension and UTC day have as their first id."""
    return name.encode() + b"\0" + day.to_bytes(4, "big")


def part_key(tenant: bytes, session_id: str, kind: str, name: str) -> Key:
    """Where the sums of a session by one agent, or by one tool, stand (`parts`)."""
    return key(Table.PART, tenant, id_bytes(bounded_id(session_id)), kind.encode(), id_bytes(bounded_id(name)))


def repeat_key(tenant: bytes, session: bytes, signature: str) -> Key:
    """Where it stands which tool call a session has made again."""
    return key(Table.TOOL, tenant, session, b"repeat", signature.encode())


def trace_key(tenant: bytes, trace_id: bytes, segment: int = 0) -> Key:
    """Where the head of a trace stands, and right behind it its closed segments (1 to 65,535)."""
    return key(Table.TRACE, tenant, trace_id)[:TRACE_PREFIX] + segment.to_bytes(2, "big")


def index_key(arrival_ms: int, request: bytes) -> Key:
    """Where a request's row of the cross-trace index stands: by arrival, all tenants together.

    `request` is 8 bytes that tell it from others of its time.
    """
    return bytes((Table.INDEX,)) + EVERY_TENANT + arrival_ms.to_bytes(8, "big") + request


def bounded_id(text: str) -> str:
    """Return an id, name or label as the ledger keeps it and as it may be asked for again.

    One of more than 512 bytes is cut, and ends with a digest of all of it: no two become one, and a bounded one stays.
    """
    if len(text) * 4 <= ID_BOUND:
        return text
    encoded = id_bytes(text)
    if len(encoded) <= ID_BOUND:
        return text
    digest = blake2b(encoded, digest_size=16).hexdigest()
    return encoded[: ID_BOUND - len(digest) - 1].decode("utf-8", "ignore") + "~" + digest


def id_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
