"""Keys: no two records share one, whatever the ids are, and what belongs together stands together."""

from __future__ import annotations

import ast

from hypothesis import given
from hypothesis import strategies as st

from spanledger_processor.ledger.store import Table, record_key, tenant_hash
from tools.parts import ROOT

_tables = st.sampled_from(list(Table))
_ids = st.lists(st.binary(max_size=40), min_size=1, max_size=4)
_wheres = st.tuples(_tables, st.text(max_size=5), _ids)


def _key(where: tuple[Table, str, list[bytes]]) -> bytes:
    table, tenant, ids = where
    return record_key(table, tenant_hash(tenant), *ids)


@given(_wheres, _wheres)
def test_other_ids_have_other_keys(one: tuple[Table, str, list[bytes]], other: tuple[Table, str, list[bytes]]) -> None:
    assert (_key(one) == _key(other)) == (one == other)


@given(st.lists(st.binary(max_size=3), min_size=2, max_size=4))
def test_ids_cannot_run_together(ids: list[bytes]) -> None:
    tenant = tenant_hash("")
    joined = [ids[0] + ids[1], *ids[2:]]
    assert record_key(Table.TASK, tenant, *ids) != record_key(Table.TASK, tenant, *joined)


@given(_wheres)
def test_a_key_is_25_bytes_with_its_table_and_tenant_in_front(where: tuple[Table, str, list[bytes]]) -> None:
    """Retention cuts rows of keys by this length; scans go by what stands in front."""
    table, tenant, _ = where
    assert len(_key(where)) == 25
    assert _key(where).startswith(bytes((table,)) + tenant_hash(tenant))


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
def test_the_spans_of_a_trace_stand_side_by_side(trace: bytes, one: bytes, other: bytes) -> None:
    tenant = tenant_hash("")
    assert record_key(Table.SPAN, tenant, trace, one)[:15] == record_key(Table.SPAN, tenant, trace, other)[:15]


def test_no_other_module_lays_out_a_key() -> None:
    """`store.record_key` is called by `ledger/keys.py` alone, so that the layout of a table is read there."""
    package = ROOT / "processor" / "spanledger_processor"
    makers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "record_key"
    }
    assert makers == {"ledger/keys.py"}
