"""What goes, when it goes, and that the sums stay true when it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from counted_work import lines_run
from ledger_in_memory import make_fact
from spanledger_processor.accounting import trace as trace_rules
from spanledger_processor.accounting.account import enter as account
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.ledger import dimensions, queries
from spanledger_processor.ledger.keys import day_key, dimension_key, index_key, link_key, trace_key
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.packing import pack
from spanledger_processor.ledger.queries import gone
from spanledger_processor.ledger.runs import NAMES
from spanledger_processor.ledger.store import Changes, Key, Table, record_key
from spanledger_processor.ledger.sums import Sums
from stores import (
    START_NS,
    TENANT,
    Clock,
    cost_of,
    count,
    enter,
    follow,
    open_store,
    remember,
    session,
    span,
    spend,
    trace,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _maintain(store: LmdbStore) -> None:
    for _ in range(1000):
        if not store.maintain():
            return
    raise AssertionError("upkeep does not end")


def _enter(store: LmdbStore, changes: Changes, clock: Clock) -> None:
    with store.unit() as unit:
        enter(unit, changes, clock())


def _has(store: LmdbStore, where: Key) -> bool:
    with store.snapshot() as reader:
        return reader.get(where) is not None


def test_a_decision_goes_after_its_time_and_not_before(tmp_path: Path, clock: Clock) -> None:
    store = open_store(tmp_path, clock=clock, spans_hours=24)
    empty = store.usage().records
    _enter(store, remember(["a"]), clock)
    clock.forward(23.9)
    _maintain(store)
    assert _has(store, span("a"))
    clock.forward(0.2)
    _maintain(store)
    assert not _has(store, span("a"))
    assert store.usage().records == empty, "the row that named it went, too"
    store.close()


def test_retention_goes_on_while_others_write(tmp_path: Path, clock: Clock) -> None:
    """Without a pause in which `maintain` could run: each commit takes some of what is due, and more than it brings."""
    store = open_store(tmp_path, clock=clock)
    for number in range(20):
        _enter(store, remember(f"{number} {inner}" for inner in range(100)), clock)
    clock.forward(25)
    for number in range(10):
        _enter(store, remember([f"new {number}"]), clock)
    with store.snapshot() as reader:
        assert count(reader, Table.SPAN) == 10
    store.close()


def test_one_commit_takes_a_bounded_slice(tmp_path: Path, clock: Clock) -> None:
    store = open_store(tmp_path, clock=clock)
    _enter(store, remember(map(str, range(5000))), clock)
    clock.forward(25)
    _enter(store, remember(["new"]), clock)
    with store.snapshot() as reader:
        left = count(reader, Table.SPAN)
    assert 4000 < left < 5000
    store.close()


def test_a_trace_that_never_ends_keeps_what_its_rules_look_at(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head lives on with each span that comes; what is known of spans of the day before goes."""
    monkeypatch.setattr(trace_rules, "MAX_SPANS", 40)
    monkeypatch.setattr(trace_rules, "_SLACK", 8)
    store, left, calls = open_store(tmp_path, clock=clock), list[int](), list[Fact]()
    for hour in range(60):
        calls = [make_fact(f"c{hour}/{n}", "root", "llm", 1 + n, trace="endless") for n in range(40)]
        with store.unit() as unit:
            account(Batch(TENANT, calls, clock()), unit)
        clock.forward(1)
        _maintain(store)
        with store.snapshot() as reader:
            traces = sum(1 for _ in reader.scan(Table.PLACED, b""))
            left.append(traces + count(reader, Table.SETTLED))
    assert max(left[40:]) <= max(left[25:30]), "what a day brings"
    with store.unit() as unit:
        again = account(Batch(TENANT, calls, clock()), unit)
    assert again.replays == len(calls)
    store.close()


def test_a_record_that_was_replaced_stays_for_its_new_time(tmp_path: Path, clock: Clock) -> None:
    store = open_store(tmp_path, clock=clock)
    _enter(store, follow("t", clock()), clock)
    clock.forward(20)
    _enter(store, follow("t", clock()), clock)
    clock.forward(20)
    _maintain(store)
    assert _has(store, trace("t"))
    clock.forward(5)
    _maintain(store)
    assert not _has(store, trace("t"))
    store.close()


def test_the_segments_of_a_trace_go_with_it(tmp_path: Path, clock: Clock) -> None:
    store = open_store(tmp_path, clock=clock)
    keys = [trace_key(TENANT, name, number) for name in (b"t", b"u") for number in range(3)]
    records = {where: pack([2, clock() // 1_000_000, []]) for where in keys}
    _enter(store, Changes(replace=records, expire=[keys[0]]), clock)
    clock.forward(25)
    _maintain(store)
    assert [_has(store, where) for where in keys] == [False] * 3 + [True] * 3
    store.close()


def test_rows_of_the_index_go_after_their_time(tmp_path: Path, clock: Clock) -> None:
    store = open_store(tmp_path, clock=clock)
    keys = []
    for hours in (0, 20):
        clock.forward(hours)
        keys.append(index_key(clock() // 1_000_000, b"request1"))
        _enter(store, Changes(replace={keys[-1]: pack([1, clock() // 1_000_000, {}])}), clock)
    clock.forward(5)
    _maintain(store)
    assert [_has(store, where) for where in keys] == [False, True]
    store.close()


def test_a_claim_that_came_too_late_does_not_shorten_the_next(tmp_path: Path, clock: Clock) -> None:
    """Claimed at 0 h, in vain at 20 h, gone at 24 h, claimed anew at 30 h: the second attempt leaves nothing due."""
    store = open_store(tmp_path, clock=clock)
    _enter(store, remember(["a"]), clock)
    clock.forward(20)
    _enter(store, remember(["a"]), clock)
    clock.forward(10)
    _maintain(store)
    assert not _has(store, span("a"))
    _enter(store, remember(["a"]), clock)
    clock.forward(20)
    _maintain(store)
    assert _has(store, span("a"))
    store.close()


def test_what_is_due_is_known_after_opening_anew(tmp_path: Path, clock: Clock) -> None:
    for durability in ("sync", "async"):
        store = open_store(tmp_path, clock=clock, durability=durability)
        _enter(store, remember([durability]), clock)
        store.close()
    clock.forward(25)
    store = open_store(tmp_path, clock=clock)
    _maintain(store)
    assert not _has(store, span("sync"))
    assert not _has(store, span("async"))
    store.close()


def test_records_that_cannot_be_read_hold_nothing_up(tmp_path: Path, clock: Clock) -> None:
    """Of those that are due, retention takes what it cannot read; of totals it leaves it."""
    store = open_store(tmp_path, clock=clock, sessions_hours=100)
    broken = [b"", b"\xc1", b"\x93\x01", b"not msgpack"]
    keys = [trace(f"broken {number}") for number in range(len(broken))]
    _enter(store, Changes(replace=dict(zip(keys, broken, strict=True)), expire=keys), clock)
    _enter(store, Changes(replace={session("broken"): b"\xc1"}), clock)
    _enter(store, remember(["a"]), clock)
    clock.forward(101)
    _maintain(store)
    assert not any(_has(store, where) for where in [*keys, span("a")])
    assert _has(store, session("broken"))
    store.close()


def _total(store: LmdbStore, table: Table) -> Sums:
    total = Sums()
    with store.snapshot() as reader:
        for _, record in reader.scan(table, TENANT):
            total.add(Sums.unpack(record))
    return total


def _run(name: str) -> Key:
    return record_key(Table.RUN, TENANT, name.encode())


def _session_and_run(name: str, cost: int) -> Changes:
    sums = Sums(cost=cost, calls=1, last_ns=START_NS + 10**18, labels={"id": name}, models={"m": cost})
    return Changes(add={session(name): sums, _run(name): sums})


def test_idle_sessions_and_runs_go_and_the_sums_stay(tmp_path: Path, clock: Clock) -> None:
    """What they cost belongs to no session (run) afterwards. Arrival counts, not what the spans say of the time."""
    store = open_store(tmp_path, clock=clock, sessions_hours=100)
    with store.unit() as unit:
        for number in range(1000):
            enter(unit, _session_and_run(f"old {number}", 10**9 + number), clock())
    clock.forward(60)
    _enter(store, _session_and_run("new", 7), clock)
    _enter(store, _session_and_run("old 5", 7), clock)
    before = _total(store, Table.SESSION)
    clock.forward(60)
    _maintain(store)
    with store.snapshot() as reader:
        left = {Sums.unpack(record).labels["id"] for _, record in reader.scan(Table.SESSION, TENANT)}
        runs = {Sums.unpack(record).labels["id"] for _, record in reader.scan(Table.RUN, TENANT)}
        assert cost_of(reader, "old 5") == 10**9 + 5 + 7
    assert left == runs == {"", "new", "old 5"}
    for table in (Table.SESSION, Table.RUN):
        after = _total(store, table)
        assert (after.cost, after.calls, after.models) == (before.cost, before.calls, before.models)
    store.close()


def test_what_gave_way_is_told_by_day_project_and_model(tmp_path: Path, clock: Clock) -> None:
    """Of a bounded number of projects, whose names come from the network; the others are with those of none."""
    store = open_store(tmp_path, clock=clock, sessions_hours=100)
    with store.unit() as unit:
        for number in range(300):
            changes = _session_and_run(f"s {number}", 10**9 + number)
            changes.add[session(f"s {number}")].labels["project"] = f"project {min(number // 2, 100)}"
            enter(unit, changes, clock())
        enter(unit, _session_and_run("of none", 5), clock())
    clock.forward(120)
    _maintain(store)
    with store.snapshot() as reader:
        _, rows = gone(reader, TENANT)
    store.close()
    assert len(rows) == 65
    assert {row["day"] for row in rows} == {rows[0]["day"]}
    assert sum(row["sessions"] for row in rows) == 301
    assert sum(round(row["cost_usd"] * 10**12) for row in rows) == 5 + sum(10**9 + number for number in range(300))
    reported = next(row for row in rows if row["project"] == "project 0")
    assert (reported["sessions"], round(reported["cost_usd"] * 10**12)) == (2, 2 * 10**9 + 1)
    assert [model["model"] for model in reported["models"]] == ["m"]


def test_idle_tasks_and_links_go(tmp_path: Path, clock: Clock) -> None:
    task, link = record_key(Table.TASK, TENANT, b"t"), link_key(TENANT, NAMES, "run", "session")
    store = open_store(tmp_path, clock=clock, sessions_hours=100)
    record = pack([1, clock() // 1_000_000, "session"])
    _enter(store, Changes(add={task: Sums(cost=1)}, create={link: record}), clock)
    clock.forward(99)
    _maintain(store)
    assert _has(store, task)
    assert _has(store, link)
    clock.forward(2)
    _maintain(store)
    assert not _has(store, task)
    assert not _has(store, link)
    store.close()


def test_days_and_the_whole_stay(tmp_path: Path, clock: Clock) -> None:
    day, whole = record_key(Table.DAY, TENANT, b"d"), record_key(Table.TOTAL, TENANT, b"ledger")
    store = open_store(tmp_path, clock=clock, sessions_hours=1, spans_hours=1)
    _enter(store, Changes(add={day: Sums(cost=1), whole: Sums(cost=1)}), clock)
    clock.forward(10_000)
    _maintain(store)
    assert _has(store, day)
    assert _has(store, whole)
    store.close()


def test_sessions_never_go_before_the_traces_that_may_still_move_them(tmp_path: Path, clock: Clock) -> None:
    store = open_store(tmp_path, clock=clock, sessions_hours=1, spans_hours=24)
    _enter(store, spend("s"), clock)
    clock.forward(23)
    _maintain(store)
    assert _has(store, session("s"))
    store.close()


def test_other_tenants_sessions_go_to_their_own(tmp_path: Path, clock: Clock) -> None:
    tenants = [b"tenant-1", b"tenant-2"]
    store = open_store(tmp_path, clock=clock, sessions_hours=100)
    for number, tenant in enumerate(tenants):
        _enter(store, Changes(add={record_key(Table.SESSION, tenant, b"s"): Sums(cost=number + 1)}), clock)
    clock.forward(101)
    _maintain(store)
    with store.snapshot() as reader:
        for number, tenant in enumerate(tenants):
            record = reader.get(record_key(Table.SESSION, tenant, b""))
            assert record is not None
            assert Sums.unpack(record).cost == number + 1
    store.close()


def _spend_by_team(teams: dict[str, int], day: int = 3) -> Changes:
    """A call of each team, with its cost, as accounting enters it: in the day and in the dimension."""
    whole = record_key(Table.DAY, TENANT, day.to_bytes(4, "big"), b"", b"gpt")
    changes = Changes(add={whole: Sums(sum(teams.values()), len(teams), labels={"day": str(day), "model": "gpt"})})
    for team, cost in teams.items():
        labels = {"day": str(day), "dimension": "team", "value": team}
        changes.add[dimension_key(TENANT, "team", day, team)] = Sums(cost, 1, labels=labels)
    return changes


def test_a_dimension_keeps_its_dearest_values_and_the_rest_exactly(tmp_path: Path, clock: Clock) -> None:
    """More values than are told apart: what is kept are the dearest, and the sum of all is what it was."""
    store = open_store(tmp_path, clock=clock)
    costs = {f"team {number}": number + 1 for number in range(3 * dimensions.VALUES_KEPT)}
    for batch in range(3):
        part = dict(list(costs.items())[batch::3])
        _enter(store, _spend_by_team(part), clock)
    _maintain(store)
    with store.snapshot() as reader:
        rows, _ = dimensions.values(reader, TENANT, "team")
        kept = count(reader, Table.DIMENSION)
    dearest = sorted(costs, key=lambda team: -costs[team])[: dimensions.VALUES_KEPT // 2]
    assert kept <= 2 * dimensions.VALUES_KEPT
    assert [row["value"] for row in rows[: len(dearest)]] == dearest
    assert rows[-1]["other"] is True
    assert sum(round(row["cost_usd"] * 10**12) for row in rows) == sum(costs.values())
    assert sum(row["calls"] for row in rows) == len(costs)
    store.close()


def test_a_value_that_joined_the_others_and_is_taken_back_is_never_below_nothing(tmp_path: Path, clock: Clock) -> None:
    store = open_store(tmp_path, clock=clock)
    _enter(store, _spend_by_team({f"team {number}": 10 for number in range(2 * dimensions.VALUES_KEPT + 1)}), clock)
    _maintain(store)
    with store.snapshot() as reader:
        joined = {f"team {number}" for number in range(2 * dimensions.VALUES_KEPT + 1)} - {
            row["value"] for row in dimensions.values(reader, TENANT, "team")[0]
        }
    taken = _spend_by_team({min(joined): 10})
    for where, sums in taken.add.items():
        taken.add[where] = Sums(-sums.cost, -1, labels=sums.labels)
    _enter(store, taken, clock)
    with store.snapshot() as reader:
        rows, _ = dimensions.values(reader, TENANT, "team")
    assert all(row["cost_usd"] > 0 for row in rows)
    assert sum(row["calls"] for row in rows) == 2 * dimensions.VALUES_KEPT
    store.close()


def _spend_by_model(costs: dict[tuple[str, str], int], calls: int = 1, day: int = 3) -> Changes:
    """Calls of each provider and model, with their cost."""
    changes = Changes()
    for (provider, model), cost in costs.items():
        labels = {"day": str(day), "provider": provider, "model": model}
        sums = Sums(cost, calls, priced=calls, models={f"{provider}/{model}": cost}, labels=labels)
        changes.add[day_key(TENANT, day, provider, model)] = sums
    return changes


def _many_models() -> dict[tuple[str, str], int]:
    """More than are told apart, of two providers, and of as many as there are models."""
    numbers = range(3 * dimensions.VALUES_KEPT)
    names = [("acme", "tiny", f"provider {number}") for number in numbers]
    return {(of[number % 3], f"model {number}"): number + 1 for number, of in enumerate(names)}


def test_a_day_keeps_its_dearest_models_and_the_rest_exactly(tmp_path: Path, clock: Clock) -> None:
    """Models are named by senders: of one that names each call's otherwise a list took 14 s."""
    store, costs = open_store(tmp_path, clock=clock), _many_models()
    for batch in range(3):
        _enter(store, _spend_by_model(dict(list(costs.items())[batch::3])), clock)
    _maintain(store)
    with store.snapshot() as reader:
        kept, rows = count(reader, Table.DAY), queries.models(reader, TENANT)
        lists = [queries.Days(reader, TENANT).by(what) for what in ("day", "day_model")]
        lists += [dimensions.values(reader, TENANT, name)[0] for name in ("model", "provider")]
    assert kept <= 2 * dimensions.VALUES_KEPT
    dearest = sorted(costs, key=lambda name: -costs[name])[: dimensions.VALUES_KEPT // 2]
    assert [(row["provider"], row["model"]) for row in rows if row["model"] != "other"][: len(dearest)] == dearest
    for some in (rows, *lists):
        assert sum(round(row["cost_usd"] * 10**12) for row in some) == sum(costs.values())
        assert sum(row["calls"] for row in some) == len(costs)
    providers = {row["value"]: round(row["cost_usd"] * 10**12) for row in lists[-1]}
    for provider in ("acme", "tiny"):
        assert providers[provider] == sum(cost for (of, _), cost in costs.items() if of == provider)
    store.close()


def test_no_model_is_lost_that_joins_others_which_join_those_of_all_providers(tmp_path: Path, clock: Clock) -> None:
    """What an earlier round made of a provider's models may be among the cheapest itself."""
    store = open_store(tmp_path, clock=clock)
    costs = {("acme", "new"): 1, ("acme", "other"): 2}
    costs |= {("tiny", f"model {number}"): 3 + number for number in range(2 * dimensions.VALUES_KEPT - 1)}
    _enter(store, _spend_by_model(costs), clock)
    _maintain(store)
    with store.snapshot() as reader:
        rows = queries.models(reader, TENANT)
    assert ("acme", "new") not in {(row["provider"], row["model"]) for row in rows}
    assert sum(row["calls"] for row in rows) == len(costs)
    assert sum(round(row["cost_usd"] * 10**12) for row in rows) == sum(costs.values())
    store.close()


def test_a_model_that_joined_the_others_and_is_taken_back_is_never_below_nothing(tmp_path: Path, clock: Clock) -> None:
    store, costs = open_store(tmp_path, clock=clock), _many_models()
    _enter(store, _spend_by_model(costs), clock)
    _maintain(store)
    with store.snapshot() as reader:
        kept = {(row["provider"], row["model"]) for row in queries.models(reader, TENANT)}
    joined = {name: costs[name] for name in costs if name not in kept}
    assert {"acme", "tiny"} < {provider for provider, _ in joined}
    _enter(store, _spend_by_model({name: -cost for name, cost in joined.items()}, calls=-1), clock)
    with store.snapshot() as reader:
        lists = [queries.Days(reader, TENANT).by(what, most) for what in ("model", "day_model") for most in (None, 9)]
        unpriced = queries.Days(reader, TENANT).unpriced()
    for rows in lists:
        assert all(row["cost_usd"] >= 0 and row["calls"] >= 0 for row in rows)
        assert sum(row["calls"] for row in rows) == len(costs) - len(joined)
        assert sum(round(row["cost_usd"] * 10**12) for row in rows) == sum(costs.values()) - sum(joined.values())
    assert not unpriced
    store.close()


def test_a_model_that_joined_the_others_before_its_calls_got_a_price_lacks_none(tmp_path: Path, clock: Clock) -> None:
    """What costs nothing joins first: calls that a later report gives a price."""
    store, costs = open_store(tmp_path, clock=clock), _many_models()
    unpriced = _spend_by_model(dict.fromkeys(costs, 0))
    for sums in unpriced.add.values():
        sums.priced, sums.unpriced, sums.reasons, sums.models = 0, 1, {"unknown_model": 1}, {}
    _enter(store, unpriced, clock)
    _maintain(store)
    priced = _spend_by_model(costs, calls=0)
    for sums in priced.add.values():
        sums.priced, sums.unpriced, sums.reasons = 1, -1, {"unknown_model": -1}
    _enter(store, priced, clock)
    with store.snapshot() as reader:
        days = queries.Days(reader, TENANT)
        assert not days.unpriced()
        lists = [days.by("model"), days.by("day_model"), dimensions.values(reader, TENANT, "model")[0]]
        for rows in lists:
            assert all(row["calls"] >= 0 and not row["unpriced"] for row in rows)
            assert sum(round(row["cost_usd"] * 10**12) for row in rows) == sum(costs.values())
    store.close()


def test_a_list_of_many_models_takes_a_few_steps_for_each(clock: Clock) -> None:
    """Counted: lines run. Each record was unpacked twice and made into sums in each of three passes."""
    store = MemoryStore()
    names = {("acme", f"model {number}"): number + 1 for number in range(5000)}
    with store.unit() as unit:
        unit.apply(_spend_by_model(names), clock())
    with store.snapshot() as reader:
        days = queries.Days(reader, TENANT)
        assert lines_run(lambda: days.by("model", 100)) < 110 * len(names)


def test_values_of_days_long_past_become_one(tmp_path: Path, clock: Clock) -> None:
    store = open_store(tmp_path, clock=clock, sessions_hours=48)
    _enter(store, _spend_by_team({"red": 5, "blue": 7}), clock)
    clock.forward(49)
    _maintain(store)
    with store.snapshot() as reader:
        ((row,), _) = dimensions.values(reader, TENANT, "team")
    assert (row["other"], row["calls"], row["cost_usd_exact"]) == (True, 2, "0.000000000012")
    store.close()
