"""The ledger of every release is read by the next: its sums, its repeats, its twins."""

from __future__ import annotations

import shutil
from pathlib import Path

import lmdb
import pytest

from ledger_in_memory import NOW, TENANT, make_fact
from release_ledgers import LONG, RUNS, SESSIONS, TOTAL, USUAL, USUAL_ROWS, requests, usual_calls
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch
from spanledger_processor.accounting.usual import UsualFact
from spanledger_processor.ledger import queries as questions
from spanledger_processor.ledger.keys import SCHEMA_KEY, bounded_id
from spanledger_processor.ledger.lmdb_store import SCHEMA_VERSION, LmdbStore
from spanledger_processor.ledger.packing import unpack
from spanledger_processor.ledger.rows import exact_usd
from spanledger_processor.ledger.store import Reader
from spanledger_processor.ledger.tool_repeats import WantedRepeats, repeated_calls
from spanledger_processor.model import Signature, ToolCall
from stores import open_store

OLDEST_READ, DIGESTS_ARE_TRUE = 2, 6
RELEASES = sorted((Path(__file__).parents[1] / "data" / "ledgers").glob("*/"))


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a release's state folder."""
    return Path(shutil.copytree(request.param, tmp_path / "state"))


def _views(reader: Reader) -> tuple[dict[str, str], dict[str, str], str]:
    sessions = {row["id"]: row["cost_usd_exact"] for row in questions.sessions(reader, TENANT)}
    runs = {row["id"]: row["cost_usd_exact"] for row in questions.runs(reader, TENANT)}
    return sessions, runs, questions.total(reader, TENANT)["cost_usd_exact"]


def _has_usual_rows(folder: Path) -> bool:
    return _layout(folder) >= USUAL_ROWS


def _layout(folder: Path) -> int:
    with lmdb.open(str(folder / "ledger"), readonly=True, lock=False) as env, env.begin() as txn:
        layout: int = unpack(txn.get(SCHEMA_KEY) or b"")[0]
        return layout


def _expected(*, usual: bool) -> tuple[dict[str, str], dict[str, str], str]:
    more = {bounded_id(LONG): 6} | ({"usual": USUAL} if usual else {})
    return (
        {name: exact_usd(cost) for name, cost in (SESSIONS | more).items()},
        {name: exact_usd(cost) for name, cost in (RUNS | more).items()},
        exact_usd(TOTAL + (USUAL if usual else 0)),
    )


def test_there_is_one_of_each_layout() -> None:
    assert {_layout(folder) for folder in RELEASES} == set(range(OLDEST_READ, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("read_only", [True, False])
def test_its_sums_are_read(folder: Path, *, read_only: bool) -> None:
    usual = _has_usual_rows(folder)
    store = open_store(folder, read_only=read_only)
    with store.snapshot() as reader:
        assert _views(reader) == _expected(usual=usual)
        works = questions.session(reader, TENANT, "works")
        assert sum(row["calls"] for row in questions.models(reader, TENANT)) == 106 + 4 * usual
    assert works is not None
    assert [(task["id"], task["kind"], task["cost_usd_exact"]) for task in works["tasks"]] == [
        ("t", "judge", exact_usd(3))
    ]
    store.close()


def test_a_repeat_of_its_spans_counts_nothing(folder: Path) -> None:
    usual = _has_usual_rows(folder)
    made_up = _layout(folder) < DIGESTS_ARE_TRUE  # a digest that no usage comes to stands there for usual calls
    store = LmdbStore.open(
        folder, max_size_mib=16, durability="sync", retention_ns=86_400 * 10**9, now_ns=lambda: NOW + 1
    )
    for facts in [*requests(), *[usual_calls()] * usual]:
        with store.unit() as unit:
            ruling = enter(Batch(TENANT, facts, NOW + 1), unit)
        assert ruling.replays == len(facts)
        assert ruling.conflicts == sum(type(fact) is UsualFact for fact in facts) * made_up
        for index, fact in enumerate(facts):
            decision = ruling.decisions[index]
            assert (decision.session_id, decision.kind) == (fact.session.id, fact.call and fact.call.kind)
            assert type(fact) is not UsualFact or decision.cost == fact.cost
    with store.snapshot() as reader:
        assert _views(reader) == _expected(usual=usual)
    store.close()


def test_twins_of_its_calls_are_known(folder: Path) -> None:
    """As another library reports them, in traces of its own."""
    store = LmdbStore.open(
        folder, max_size_mib=16, durability="sync", retention_ns=86_400 * 10**9, now_ns=lambda: NOW + 1
    )
    twins = [
        make_fact(f"y{number}", kind="llm", cost=1000 + number, trace="t9", scope="other", response_id=f"x{number}")
        for number in range(100)
    ]
    with store.unit() as unit:
        ruling = enter(Batch(TENANT, twins, NOW + 1), unit)
    assert len([one for one in ruling.decisions.values() if one.duplicate_of]) == len(twins)
    store.close()


def test_sessions_that_it_holds_go_on_to_call_tools(folder: Path) -> None:
    """One call that is made again by the same library, and another report of one that is known."""
    store = LmdbStore.open(
        folder, max_size_mib=16, durability="sync", retention_ns=86_400 * 10**9, now_ns=lambda: NOW + 1
    )
    *_, known = requests()
    again = make_fact("n", kind="tool", session="alone", trace="t9", start=9)
    report = make_fact("m", kind="tool", session="alone", trace="t9", start=0, scope="other")
    for fact in (again, report):
        assert fact.call is not None
        fact.call.tool, fact.signature = ToolCall("read"), Signature("h1:0:1", "full")
    with store.unit() as unit:
        enter(Batch(TENANT, [again, report], NOW + 1), unit)
    with store.snapshot() as reader:
        session = questions.session(reader, TENANT, "alone")
        rows = repeated_calls(reader, TENANT, WantedRepeats(9, session="alone")).page.rows
    assert session is not None
    assert session["tool_calls"] == len(known) + 1
    assert [row["times"] for row in rows] == [len(known) + 1]
    store.close()
