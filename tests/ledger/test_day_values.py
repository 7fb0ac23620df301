"""Values of days that are over are packed together: answers are what the single records give, with far fewer reads."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, cast

from counted_work import CountedReads
from spanledger_processor.ledger import budgets, dimensions
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.keys import EVERY_TENANT, dimension_key
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.retention import Packing
from spanledger_processor.ledger.store import Changes, Reader, Table, record_key
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.units import NS_PER_DAY
from stores import START_NS, TENANT, Clock, open_store

TODAY = START_NS // NS_PER_DAY
VALUES = 40


def spent(costs: dict[str, int], day: int) -> Changes:
    """A call of each team, with its cost, as accounting enters it: in the day and in the dimension."""
    whole = record_key(Table.DAY, TENANT, day.to_bytes(4, "big"), b"", b"gpt")
    total = Sums(sum(costs.values()), len(costs), labels={"day": str(day), "model": "gpt", "provider": "openai"})
    changes = Changes(add={whole: total, record_key(Table.TOTAL, TENANT, b"ledger"): Sums(total.cost, total.calls)})
    for team, cost in costs.items():
        sums = Sums(cost, 1, usage=(cost, 1, *[0] * (len(Sums().usage) - 2)), models={f"gpt-{cost % 3}": cost})
        sums.labels = {"day": str(day), "dimension": "team", "value": team}
        changes.add[dimension_key(TENANT, "team", day, team)] = sums
    return changes


def put(store: LmdbStore | MemoryStore, costs: dict[str, int], day: int, now_ns: int) -> None:
    with store.unit() as unit:
        unit.apply(spent(costs, day), now_ns)


def drawn(draw: Random, most: int = VALUES) -> dict[str, int]:
    """The costs of some teams; one of them more than 64 bits hold."""
    teams = draw.sample(range(VALUES), draw.randrange(1, most + 1))
    return {f"team {team}": draw.randrange(1, 1000) + (10**20 if team == 7 else 0) for team in teams}


def upkeep(store: LmdbStore) -> int:
    """Do all that is due, and return how many slices that took."""
    for slices in range(1000):
        if not store.maintain():
            return slices
    raise AssertionError("upkeep does not end")


def packed_days(reader: Reader) -> int:
    return sum(record != b"" for _, record in reader.scan(Table.DAY_VALUES, TENANT))


def test_answers_are_the_same_whatever_is_added_to_days_that_are_packed(tmp_path: Path) -> None:
    draw, clock, plain = Random(14), Clock(), MemoryStore()
    store = open_store(tmp_path, clock=clock)
    days = [TODAY - 3, TODAY - 2, TODAY - 1]
    for day in days:
        for one in (store, plain):
            put(one, {f"team {team}": team + 1 for team in range(VALUES)}, day, clock())
    for number in range(30):
        clock.forward(1)
        upkeep(store)
        with store.snapshot() as reader:
            assert packed_days(reader) == len(days)
        costs, day = drawn(draw), draw.choice(days)
        put(store, costs, day, clock())
        put(plain, costs, day, clock())
        most = draw.choice([None, 1, 5])
        since, until = draw.choice([(0, None), (days[1], None), (days[0], days[1]), (days[2], days[2])])
        if number % 2:
            clock.forward(1)
            upkeep(store)
        with store.snapshot() as reader, plain.snapshot() as other:
            assert packed_days(reader) == len(days) - 1 + number % 2
            result = dimensions.values(reader, TENANT, "team", since, until, most)
            assert result == dimensions.values(other, TENANT, "team", since, until, most)
            whole = sum(round(row["cost_usd"] * 10**12) for row in dimensions.values(reader, TENANT, "model")[0])
            if not since:
                assert abs(sum(round(row["cost_usd"] * 10**12) for row in result[0]) - whole) <= 10**6
    store.close()


def test_values_beyond_the_limit_are_one_row_and_nothing_is_lost(tmp_path: Path) -> None:
    clock = Clock()
    store = open_store(tmp_path, clock=clock)
    for day in (TODAY - 2, TODAY - 1):
        put(store, {f"team {team:02d}": team + 1 for team in range(VALUES)}, day, clock())
    clock.forward(1)
    upkeep(store)
    with store.snapshot() as reader:
        rows, left_out = dimensions.values(reader, TENANT, "team", most=3)
        each, none_left_out = dimensions.values(reader, TENANT, "team")
    assert (left_out, none_left_out) == (VALUES - 3, 0)
    assert rows[:3] == each[:3]
    assert (rows[3]["value"], rows[3]["other"]) == ("", True)
    for field in ("calls",):
        assert rows[3][field] == sum(row[field] for row in each[3:])
    assert rows[3]["tokens"]["input"] == sum(row["tokens"]["input"] for row in each[3:])
    costs = {model["model"]: round(model["cost_usd"] * 10**12) for model in rows[3]["models"]}
    expected: dict[str, int] = {}
    for row in each[3:]:
        for model in row["models"]:
            expected[model["model"]] = expected.get(model["model"], 0) + round(model["cost_usd"] * 10**12)
    assert costs == expected
    assert [round(day["cost_usd"] * 10**12) for day in rows[3]["days"]] == [sum(range(1, VALUES - 2))] * 2
    store.close()


def test_lists_and_budgets_read_a_record_a_day_that_is_over(tmp_path: Path) -> None:
    clock, days = Clock(), 30
    store = open_store(tmp_path, clock=clock)
    for day in range(TODAY - days, TODAY):
        put(store, {f"team {team}": team + 1 for team in range(VALUES)}, day, clock())
    clock.forward(1)
    upkeep(store)
    with store.snapshot() as reader:
        counted = CountedReads(reader)
        rows, _ = dimensions.values(counted, TENANT, "team", TODAY - days)
        assert len(rows) == VALUES
        assert counted.reads <= 2 * days + 2
        counted.reads = 0
        rule = BudgetRule("team", 10, "rolling", days=days, dimension="team", tenant=TENANT)
        used = budgets.rows(counted, TENANT, [rule], clock(), None)
        assert len(used) == VALUES
        assert counted.reads <= 2 * days + 2
    store.close()


def test_what_other_tenants_and_other_dimensions_have_is_packed_by_itself(tmp_path: Path) -> None:
    clock = Clock()
    store = open_store(tmp_path, clock=clock)
    put(store, {f"team {team}": 1 for team in range(VALUES)}, TODAY - 1, clock())
    with store.unit() as unit:
        for user in range(VALUES):
            labels = {"day": str(TODAY - 1), "dimension": "user", "value": f"user {user}"}
            key = dimension_key(EVERY_TENANT, "user", TODAY - 1, f"user {user}")
            unit.apply(Changes(add={key: Sums(5, 1, labels=labels)}), clock())
    clock.forward(1)
    assert upkeep(store) == 2
    with store.snapshot() as reader:
        assert packed_days(reader) == 1
        assert not dimensions.costs(reader, TENANT, "user", TODAY - 1, TODAY)
    store.close()


def test_a_day_is_packed_when_it_is_over_and_quiet(tmp_path: Path) -> None:
    """Values that still come, and those of today, stay single records."""
    clock = Clock()
    store = open_store(tmp_path, clock=clock)
    put(store, {f"team {team}": 1 for team in range(VALUES)}, TODAY - 1, clock())
    put(store, {f"team {team}": 1 for team in range(VALUES)}, TODAY, clock())
    clock.forward(0.1)
    assert upkeep(store) == 0
    clock.forward(0.1)
    assert upkeep(store) == 1
    with store.snapshot() as reader:
        assert packed_days(reader) == 1
    store.close()


def test_days_of_few_values_are_not_read_each_second() -> None:
    """They stay as they are: the ledger's thread looks at them once a minute."""
    looks: list[str] = []

    class Cursor:
        def __enter__(self) -> Cursor:
            return self

        def __exit__(self, *_: object) -> None:
            return

        def set_range(self, _: bytes) -> bool:
            looks.append("look")
            return False

    class Transaction:
        def cursor(self) -> Cursor:
            return Cursor()

    packing, txn = Packing(), cast(Any, Transaction())
    for second in range(121):
        assert packing.go(txn, second * 1000) is None
    assert len(looks) == 3
