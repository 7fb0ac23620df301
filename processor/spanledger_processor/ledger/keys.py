"""The key of every record: a function for each table (`store.Table`); ARCHITECTURE.md lists their contents."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from spanledger_processor.ledger.store import PREFIX, Key, Table, record_key, tenant_hash

ID_BOUND = 512
"""Bytes of an id, name or label that are kept."""
_KEPT = 512
"""Cached keys for each kind of sums and tool calls: a request needs those of its sessions and models many times."""
TRACE_PREFIX = 23
"""Bytes that the keys of one trace have in common."""
LAST_SEGMENT = 65_535
TENANT_HASH, ID_HASH, FIRST_ID = slice(1, 9), slice(9, None), slice(9, PREFIX)
"""Parts of a key behind its table: the tenant's hash, the id's, and of the id's what several ids with one first have in
common (`store.near`)."""
_KEY_BYTES = 25
EVERY_TENANT = bytes(8)
"""In place of a tenant's hash where records are of all tenants together: the hash of none."""
_OTHER_VALUES = b"\xff"
"""A byte that is in no UTF-8 text."""
UNATTRIBUTED = ""
"""The id of the session, and of the run, of spans that have none."""


def total_key(tenant: bytes) -> Key:
    """Return the key of the sums of the whole ledger of a tenant."""
    return record_key(Table.TOTAL, tenant, b"ledger")


def corrections_key(tenant: bytes) -> Key:
    """Return the key of what was sent on spans beyond the ledger of a tenant, or of `EVERY_TENANT`."""
    return record_key(Table.TOTAL, tenant, b"corrections")


@lru_cache(maxsize=_KEPT)
def session_key(tenant: bytes, session_id: str) -> Key:
    """Return the key of the sums of one session."""
    return record_key(Table.SESSION, tenant, id_bytes(bounded_id(session_id)))


@lru_cache(maxsize=_KEPT)
def run_key(tenant: bytes, run_id: str) -> Key:
    """Return the key of the sums of one run."""
    return record_key(Table.RUN, tenant, id_bytes(bounded_id(run_id)))


def unattributed_key(tenant: bytes, table: Table) -> Key:
    """Return the key of the sums, in a table of sessions or runs, of what belongs to none."""
    return record_key(table, tenant, id_bytes(UNATTRIBUTED))


def task_key(tenant: bytes, session_id: str, task: str, kind: str, provider: str, model: str) -> Key:
    """Return the key of the sums of a task of a session, by its kind and model."""
    ids = (bounded_id(session_id), task, kind, provider, model)
    return record_key(Table.TASK, tenant, *(id_bytes(one) for one in ids))


@lru_cache(maxsize=_KEPT)
def day_key(tenant: bytes, day: int, provider: str, model: str) -> Key:
    """Return the key of the sums of a model on one UTC day (days since 1970)."""
    return record_key(Table.DAY, tenant, day.to_bytes(4, "big"), id_bytes(provider), id_bytes(model))


def gone_key(tenant: bytes, day: int, project: str) -> Key:
    """Return the key of the sums of sessions that are gone, by UTC day of last arrival and project ("": none)."""
    project_bytes = [id_bytes(project)] if project else []
    return record_key(Table.GONE, tenant, day.to_bytes(4, "big"), *project_bytes)


def budget_key(tenant: bytes, budget: str, value: str, since: str, threshold: int, *rule: str) -> Key:
    """Return the key of a threshold (percent) of a budget that a value passed in the period that began at `since`.

    `rule` is what else makes a budget what it is, empty for warnings and in ledgers of earlier versions.
    """
    ids = (budget, value, since, str(threshold), *rule)
    return record_key(Table.BUDGET, EVERY_TENANT, tenant, *(id_bytes(one) for one in ids))


def reached_key(tenant: bytes, budget: str, value: str, kind: str, amount: int) -> Key:
    """Return the key of the stretches in which thresholds of a rolling budget of a kind were reported."""
    ids = (budget, value, kind, str(amount))
    return record_key(Table.REACHED, EVERY_TENANT, tenant, *(id_bytes(one) for one in ids))


def large_run_key(tenant: bytes, run_id: str) -> Key:
    """Return the key of what is known of a run of too many sessions to be added up with a request."""
    return record_key(Table.LARGE_RUN, EVERY_TENANT, tenant, id_bytes(bounded_id(run_id)))


def link_key(tenant: bytes, kind: bytes, above: str, session_id: str) -> Key:
    """Return the key of a link from a run or a session to a session (`runs`)."""
    return record_key(Table.LINK, tenant, kind + id_bytes(bounded_id(above)), id_bytes(bounded_id(session_id)))


@lru_cache(maxsize=_KEPT)
def dimension_key(tenant: bytes, name: str, day: int, value: str | None) -> Key:
    """Return the key of the sums of a value of a dimension on one UTC day; None: of all other values."""
    value_bytes = _OTHER_VALUES if value is None else id_bytes(bounded_id(value))
    return record_key(Table.DIMENSION, tenant, dimension_day(name, day), value_bytes)


def dimension_day(name: str, day: int) -> bytes:
    """Return the first id of the keys of one dimension and UTC day."""
    return name.encode() + b"\0" + day.to_bytes(4, "big")


def day_values_key(key: bytes) -> Key:
    """Return the key of the packed values of a dimension and day, by the key of one of them or by its `PREFIX`."""
    return bytes((Table.DAY_VALUES,)) + key[1:PREFIX].ljust(_KEY_BYTES - 1, b"\0")


@lru_cache(maxsize=_KEPT)
def part_key(tenant: bytes, session_id: str, kind: str, name: str) -> Key:
    """Return the key of the sums of a session by one agent, or by one tool (`dimensions`)."""
    return record_key(Table.PART, tenant, id_bytes(bounded_id(session_id)), kind.encode(), id_bytes(bounded_id(name)))


@lru_cache(maxsize=_KEPT)
def tool_key(tenant: bytes, session: bytes) -> Key:
    """Return the key of what a session's tool calls were last, and how often in a row."""
    return record_key(Table.TOOL, tenant, session)


@lru_cache(maxsize=_KEPT)
def tool_times_key(tenant: bytes, session: bytes, signature: str) -> Key:
    """Return the key of how often a session made a tool call."""
    return record_key(Table.TOOL, tenant, session, signature.encode())


@lru_cache(maxsize=_KEPT)
def tool_call_key(tenant: bytes, session: bytes, call_id: str) -> Key:
    """Return the key that a session has once it has named this id of a tool call."""
    return record_key(Table.TOOL, tenant, session, b"call", id_bytes(call_id))


@lru_cache(maxsize=_KEPT)
def repeat_key(tenant: bytes, session: bytes, signature: bytes) -> Key:
    """Return the key of the row of a tool call that a session has made again, by the digest of its signature."""
    return record_key(Table.TOOL, tenant, session, b"repeat", signature)


def trace_key(tenant: bytes, trace_id: bytes, segment: int = 0) -> Key:
    """Return the key of the head of a trace, or of a closed segment (1 to `LAST_SEGMENT`) right behind it."""
    return record_key(Table.TRACE, tenant, trace_id)[:TRACE_PREFIX] + segment.to_bytes(2, "big")


def settled_key(tenant: bytes, trace_id: bytes, span_id: bytes) -> Key:
    """Return the key of the row with the segment of a span that the rules of its long trace do not look at any more."""
    return record_key(Table.SETTLED, tenant, trace_id, span_id)


def index_key(arrival_ms: int, request: bytes) -> Key:
    """Return the key of a request's row of the cross-trace index: by arrival, all tenants together.

    `request` is 8 bytes that tell it from others of its time.
    """
    return bytes((Table.INDEX,)) + EVERY_TENANT + arrival_ms.to_bytes(8, "big") + request


SCHEMA_KEY = record_key(Table.META, tenant_hash(""), b"schema")
ORDERS_COMPLETE = record_key(Table.META, EVERY_TENANT, b"orders")
"""Present once all sessions and runs of a ledger have their rows in the orders."""
CROSSINGS_COMPLETE = record_key(Table.META, EVERY_TENANT, b"crossings")
"""Likewise for thresholds of budgets and warnings."""


def order_key(tenant: bytes, within: bytes, rank: int, id_hash: bytes) -> Key:
    """Return the key of a row of `orders`; `within` is the table and the order, a byte each."""
    return bytes((Table.ORDER,)) + tenant + within + rank.to_bytes(8, "big") + id_hash


def hashed_key(tenant: bytes, table: Table, id_hash: bytes) -> Key:
    """Return the key of a record with ids that are hashed already."""
    return bytes((table,)) + tenant + id_hash


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


def bounded_ids(*texts: str) -> tuple[str, ...]:
    """Return ids, names or labels as the ledger keeps them: all of them at once, for nearly all are short."""
    return texts if max(map(len, texts), default=0) * 4 <= ID_BOUND else tuple(map(bounded_id, texts))


def id_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
