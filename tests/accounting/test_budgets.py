"""Budgets: what is used is what the ledger says, each threshold is passed once, and spans tell of it."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_in_memory import NOW, TENANT, MemoryLedger, make_fact, take_in_any_order
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch, Fact
from spanledger_processor.ledger import budgets
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.crossings import FORECAST, Crossing, crossings
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import Changes
from spanledger_processor.ledger.warning_rules import FAILURE_RATE
from spanledger_processor.model import Call, Cost, Decision, ToolCall, Usage
from spanledger_processor.server.budget_values import most_used
from spanledger_processor.units import NS_PER_DAY, USD

TODAY = NOW // (86_400 * 10**9)
DAY_END = (TODAY + 1) * 86_400 * 10**9 - 1


def call(name: str, cost: int, *, team: str = "", session: str = "", run: str = "", day: int = TODAY) -> Fact:
    fact = make_fact(name, kind="llm", cost=cost, trace=name, session=session, run=run)
    fact.day = day
    fact.dimensions = ("team", team) if team else ()
    return fact


def take(ledger: MemoryLedger, rules: list[BudgetRule], *facts: Fact, now_ns: int = DAY_END) -> dict[int, Decision]:
    """Account for one request at the end of the day, so that nothing is forecast of it but what is used up."""
    with ledger.store.unit() as unit:
        return enter(Batch(TENANT, list(facts), now_ns, budgets=tuple(rules)), unit).decisions


def passed(ledger: MemoryLedger) -> set[tuple[str, str, int]]:
    with ledger.store.snapshot() as reader:
        kept = crossings(reader, TENANT, warnings=False)
        return {(one.budget, one.value, one.threshold) for one in kept if one.threshold != FORECAST}


def reported(ledger: MemoryLedger) -> set[tuple[str, str, str, int]]:
    """Return thresholds as `passed` does, with the first day of the period."""
    with ledger.store.snapshot() as reader:
        kept = crossings(reader, TENANT, warnings=False)
        return {(one.budget, one.value, one.since, one.threshold) for one in kept if one.threshold != FORECAST}


def used(ledger: MemoryLedger, rule: BudgetRule, value: str | None = None) -> dict[str, int]:
    with ledger.store.snapshot() as reader:
        rows = budgets.rows(reader, TENANT, [rule], DAY_END, value)
    return {row["value"]: round(row["used_usd"] * USD) for row in rows}


RULES = [
    BudgetRule("day", 1000, "day"),
    BudgetRule("red", 500, "month", dimension="team", value="red"),
    BudgetRule("each", 400, "week", dimension="team"),
    BudgetRule("model", 900, "week", dimension="model", value="gpt"),
    BudgetRule("session", 300, "session"),
    BudgetRule("run", 600, "run"),
]
_calls = st.tuples(
    st.integers(1, 400),
    st.sampled_from(["", "red", "blue"]),
    st.sampled_from(["", "s1", "s2"]),
    st.sampled_from([TODAY, TODAY - 1, TODAY - 30, TODAY - 60]),
)
"""NOW is on Wednesday, 18 November 2026: yesterday is in the same week, 30 days ago in October, 60 days ago in a day,
week and month of which nothing is told any more."""


@given(st.lists(_calls, max_size=12), st.data())
def test_what_is_used_and_passed_does_not_depend_on_order(
    calls: list[tuple[int, str, str, int]], data: st.DataObject
) -> None:
    """Cut anywhere, shuffled, sent twice, by processes that remember nothing: against sums over all calls at once."""
    facts = [
        call(f"c{number}", cost, team=team, session=session, day=day)
        for number, (cost, team, session, day) in enumerate(calls)
    ]
    ledger = MemoryLedger()
    left = [*data.draw(st.permutations(facts)), *facts]
    while left:
        size = data.draw(st.integers(1, len(left)))
        take(ledger, RULES, *left[:size])
        ledger.store.cache.clear()
        left = left[size:]

    def spent(*days: int, team: str = "", session: str = "") -> int:
        return sum(
            cost
            for cost, of, in_session, day in calls
            if day in (days or (day,)) and team in ("", of) and session in ("", in_session)
        )

    yesterday, last_month = TODAY - 1, TODAY - 30
    truth = {
        ("day", "", "2026-11-18"): spent(TODAY),
        ("day", "", "2026-11-17"): spent(yesterday),
        ("day", "", "2026-10-19"): spent(last_month),
        ("red", "red", "2026-11-01"): spent(TODAY, yesterday, team="red"),
        ("red", "red", "2026-10-01"): spent(last_month, team="red"),
        **{("each", team, "2026-11-16"): spent(TODAY, yesterday, team=team) for team in ("red", "blue")},
        **{("each", team, "2026-10-19"): spent(last_month, team=team) for team in ("red", "blue")},
        ("model", "gpt", "2026-10-19"): spent(last_month),
        ("model", "gpt", "2026-11-16"): spent(TODAY, yesterday),
        **{("session", name, ""): spent(session=name) for name in ("s1", "s2")},
        **{("run", name, ""): spent(session=name) for name in ("s1", "s2")},
    }
    amounts = {rule.name: rule.amount for rule in RULES}
    assert reported(ledger) == {
        (of, value, since, threshold)
        for (of, value, since), amount in truth.items()
        for threshold in (50, 80, 100)
        if amount * 100 >= threshold * amounts[of]
    }
    assert used(ledger, RULES[0])[""] == truth["day", "", "2026-11-18"]
    assert used(ledger, RULES[1])["red"] == truth["red", "red", "2026-11-01"]
    of_s1 = {"s1": truth["session", "s1", ""]} if any(session == "s1" for *_, session, _ in calls) else {}
    assert used(ledger, RULES[4], "s1") == of_s1


_COUNTED = [
    BudgetRule("month", 1000, "month"),
    BudgetRule("rolling", 1000, "rolling", days=2),
    BudgetRule("each", 1000, "week", dimension="team"),
    BudgetRule("red", 1000, "month", dimension="team", value="red"),
    BudgetRule("model", 1000, "week", dimension="model", value="gpt"),
    BudgetRule("providers", 1000, "week", dimension="provider"),
    BudgetRule("session", 1000, "session"),
    BudgetRule("run", 1000, "run"),
]


@given(st.lists(st.tuples(_calls, st.booleans()), min_size=1, max_size=12), st.data())
def test_calls_without_a_price_are_counted_beside_what_is_used(
    calls: list[tuple[tuple[int, str, str, int], bool]], data: st.DataObject
) -> None:
    """In any order, with repeats and restarts: what a share leaves out, or it understates."""
    ledger, facts = MemoryLedger(), list[Fact]()
    for number, ((cost, team, session, day), priced) in enumerate(calls):
        fact = call(f"c{number}", cost, team=team, session=session, day=day)
        if not priced:
            fact.cost = Cost(unpriced="unknown_model")
        facts.append(fact)
    take_in_any_order(ledger, facts, data)

    def unpriced(*days: int, team: str = "", session: str = "") -> int:
        return sum(
            not priced and day in (days or (day,)) and team in ("", of) and session in ("", in_session)
            for (_, of, in_session, day), priced in calls
        )

    yesterday = TODAY - 1
    truth = {
        ("month", None): {"": unpriced(TODAY, yesterday)},
        ("rolling", None): {"": unpriced(TODAY, yesterday)},
        ("each", None): {
            team: unpriced(TODAY, yesterday, team=team)
            for team in ("red", "blue")
            if any(of == team and day in (TODAY, yesterday) for (_, of, _, day), _ in calls)
        },
        ("each", "red"): {"red": unpriced(TODAY, yesterday, team="red")},
        ("red", None): {"red": unpriced(TODAY, yesterday, team="red")},
        ("model", None): {"gpt": unpriced(TODAY, yesterday)},
        ("providers", "openai"): {"openai": unpriced(TODAY, yesterday)},
        ("session", "s1"): {"s1": unpriced(session="s1")},
        ("run", "s2"): {"s2": unpriced(session="s2")},
    }
    rules = {rule.name: rule for rule in _COUNTED}
    sessions = {session for (_, _, session, _), _ in calls}
    with ledger.store.snapshot() as reader:
        for (name, value), expected in truth.items():
            rows = budgets.rows(reader, TENANT, [rules[name]], DAY_END, value)
            found = {row["value"]: row["unpriced_calls"] for row in rows}
            assert found == ({} if rules[name].period in ("session", "run") and value not in sessions else expected), (
                name
            )


BY_VALUE = [
    BudgetRule(f"{period} {dimension} {value}", 500, period, dimension=dimension, value=value, thresholds=(50, 100))
    for period in ("session", "run")
    for dimension, value in (
        ("team", "red"),
        ("team", ""),
        ("agent", "lead"),
        ("agent", ""),
        ("model", "gpt"),
        ("provider", "anthropic"),
    )
]
_calls_of_sessions = st.tuples(
    st.integers(1, 400),
    st.sampled_from(["", "red", "blue"]),
    st.sampled_from(["", "lead", "other"]),
    st.sampled_from([("gpt", "openai"), ("haiku", "anthropic"), ("", "")]),
    st.sampled_from(["s1", "s2", "s3"]),
    st.sampled_from(["", "", "nightly"]),
)
"""Without a model it is a tool's span, which costs nothing."""


@settings(max_examples=50)
@given(st.lists(_calls_of_sessions, max_size=6), st.data())
def test_a_budget_by_a_value_is_one_of_sessions_and_runs_in_which_something_has_it(
    calls: list[tuple[int, str, str, tuple[str, str], str, str]], data: st.DataObject
) -> None:
    """With all that they spent, in whatever order it comes; also where what has it is no call."""
    facts, of_nightly = list[Fact](), {session for *_, session, run in calls if run}
    spent, values = dict[tuple[str, str], int](), dict[tuple[str, str], set[tuple[str, str]]]()
    for number, (cost, team, agent, (model, provider), session, run) in enumerate(calls):
        fact = call(f"c{number}", cost, team=team, session=session, run=run)
        fact.agent = agent
        if model:
            usage = Usage(input=cost, output=100)
            fact.call = Call("otel", "llm", provider=provider, request_model=model, usage=usage)
        else:
            fact.call, fact.cost = Call("otel", "tool"), None
        facts.append(fact)
        named = {"team": team, "agent": agent, "model": model, "provider": provider}
        has = {(name, of) for name, value in named.items() if value for of in (value, "")}
        for of in (("session", session), ("run", "nightly" if session in of_nightly else session)):
            spent[of] = spent.get(of, 0) + (cost if model else 0)
            values.setdefault(of, set()).update(has)
    ledger, left = MemoryLedger(), [*data.draw(st.permutations(facts)), *facts]
    while left:
        size = data.draw(st.integers(1, len(left)))
        take(ledger, BY_VALUE, *left[:size])
        ledger.store.cache.clear()
        left = left[size:]
    concerned = [
        (rule, name, amount)
        for rule in BY_VALUE
        for (period, name), amount in spent.items()
        if rule.period == period and (rule.dimension, rule.value) in values[period, name]
    ]
    own_runs_before = {(rule.name, name) for rule in BY_VALUE if rule.period == "run" for name in of_nightly}
    assert {one for one in passed(ledger) if one[:2] not in own_runs_before} == {
        (rule.name, name, threshold)
        for rule, name, amount in concerned
        for threshold in (50, 100)
        if amount * 100 >= threshold * rule.amount
    }
    for rule in BY_VALUE:
        of_rule = {name: amount for one, name, amount in concerned if one is rule}
        for name in ("s1", "s2", "s3", "nightly"):
            assert used(ledger, rule, name) == ({name: of_rule[name]} if name in of_rule else {})
        reached = {name: amount for name, amount in of_rule.items() if amount * 100 >= 50 * rule.amount}
        assert used(ledger, rule) == reached


def test_of_many_values_a_session_is_taken_to_have_each() -> None:
    """It keeps three of a dimension: a budget may then be one of a session too many, and of none too few."""
    ledger, rule = MemoryLedger(), BudgetRule("red", 100, "session", dimension="team", value="red")
    take(ledger, [rule], *(call(team, 100, team=team, session="s") for team in ("a", "b")))
    assert passed(ledger) == set()
    take(ledger, [rule], call("c", 100, team="c", session="s"))
    assert passed(ledger) == {("red", "s", threshold) for threshold in (50, 80, 100)}


def test_a_span_names_the_budget_that_is_used_most() -> None:
    ledger, rules = MemoryLedger(), [BudgetRule("day", 1000, "day"), BudgetRule("session", 200, "session")]
    first = take(ledger, rules, call("a", 90, session="s"))[0]
    second = take(ledger, rules, call("b", 60, session="s"))[0]
    third = take(ledger, rules, call("c", 900))[0]
    assert (first.budget_name, first.budget_used) == ("", 0)
    assert (second.budget_name, second.budget_used) == ("session", 0.75)
    assert (third.budget_name, third.budget_used) == ("day", 1.05)
    assert take(ledger, rules, call("b", 60, session="s"))[0] == second, "a repeat is told what it was told"


def test_a_threshold_is_passed_once_in_each_period() -> None:
    ledger, rule = MemoryLedger(), BudgetRule("day", 100, "day", thresholds=(100,))
    take(ledger, [rule], call("a", 100))
    take(ledger, [rule], call("b", 100))
    tomorrow = call("c", 100, day=TODAY + 1)
    take(ledger, [rule], tomorrow, now_ns=DAY_END + 86_400 * 10**9)
    with ledger.store.snapshot() as reader:
        kept = crossings(reader, TENANT, warnings=False)
        found = sorted((one.since, one.threshold, one.used) for one in kept)
    assert found == [("2026-11-18", 100, 100), ("2026-11-19", 100, 100)]


@pytest.mark.parametrize(
    ("period", "truth"),
    [
        ("day", {"now": "2026-11-30", "next": "2026-12-01", "late": "2026-11-29", "earliest": "2026-10-30"}),
        ("week", {"now": "2026-11-30", "next": "2026-11-30", "late": "2026-11-23", "earliest": "2026-10-26"}),
        ("month", {"now": "2026-11-01", "next": "2026-12-01", "late": "2026-10-01", "earliest": "2026-10-01"}),
    ],
)
def test_a_call_tells_the_thresholds_of_its_own_period(period: str, truth: dict[str, str]) -> None:
    """Also after an outage of days, and by a clock that is ahead; what was over 31 days ago tells nothing, so that a
    replay of history does not.
    """
    today, rule = date(2026, 11, 30), BudgetRule("team", 100, period, dimension="team", thresholds=(100,))
    calls = {"now": today, "next": date(2026, 12, 1), "far": date(2026, 12, 2)}
    calls["late"] = {"day": date(2026, 11, 29), "week": date(2026, 11, 29), "month": date(2026, 10, 31)}[period]
    calls["earliest"] = {"day": date(2026, 10, 30), "week": date(2026, 10, 26), "month": date(2026, 10, 1)}[period]
    calls["old"] = calls["earliest"] - timedelta(days=1)
    ledger, epoch = MemoryLedger(), date(1970, 1, 1)
    end_ns = ((today - epoch).days + 1) * NS_PER_DAY - 1
    for team, day in calls.items():
        take(ledger, [rule], call(team, 100, team=team, day=(day - epoch).days), now_ns=end_ns)
    assert reported(ledger) == {("team", team, since, 100) for team, since in truth.items()}


def test_each_day_of_an_outage_is_told_once() -> None:
    """A weekend's calls come on Monday, in one request and again, and the next day: with the days that they are of."""
    ledger, rule = MemoryLedger(), BudgetRule("day", 100, "day", thresholds=(50, 100))
    weekend = [call(f"c{ago}", 120 - ago, day=TODAY - ago) for ago in range(4)]
    take(ledger, [rule], *weekend)
    take(ledger, [rule], *weekend)
    take(ledger, [rule], call("later", 60, day=TODAY - 2), now_ns=DAY_END + NS_PER_DAY)
    with ledger.store.snapshot() as reader:
        found = sorted(
            (one.since, one.until, one.threshold, one.used) for one in crossings(reader, TENANT, warnings=False)
        )
    days = ((f"2026-11-{18 - ago}", 120 - ago) for ago in (3, 2, 1, 0))
    assert found == [(day, day, threshold, cost) for day, cost in days for threshold in (50, 100)]


@pytest.mark.parametrize("period", ["week", "month"])
def test_a_call_of_tomorrow_that_comes_first_counts_with_those_of_today(period: str) -> None:
    """Together they pass: what is used says so tomorrow, and no later spend is needed to tell it."""
    ledger, rule = MemoryLedger(), BudgetRule("b", 100, period, thresholds=(100,), forecast=False)
    take(ledger, [rule], call("ahead", 60, day=TODAY + 1))
    assert passed(ledger) == set()
    take(ledger, [rule], call("now", 40))
    assert passed(ledger) == {("b", "", 100)}
    assert used(ledger, rule)[""] == 40


def test_what_a_clock_ahead_spends_tomorrow_is_no_forecast() -> None:
    """By Wednesday midnight 42 % of the week are gone: 30 % are used by then, and as much tomorrow."""
    ledger, rule = MemoryLedger(), BudgetRule("b", 100, "week", thresholds=(100,))
    take(ledger, [rule], call("ahead", 30, day=TODAY + 1), call("now", 30))
    with ledger.store.snapshot() as reader:
        assert [*crossings(reader, TENANT, warnings=False)] == []
    take(ledger, [rule], call("more", 30))
    with ledger.store.snapshot() as reader:
        (one,) = crossings(reader, TENANT, warnings=False)
    assert (one.threshold, one.used) == (FORECAST, 60)


def test_a_threshold_tells_the_calls_without_a_price_by_then() -> None:
    rules = [
        BudgetRule("all", 100, "month"),
        BudgetRule("rolling", 100, "rolling", days=2),
        BudgetRule("team", 100, "day", dimension="team"),
        BudgetRule("session", 100, "session"),
        BudgetRule("run", 100, "run"),
    ]
    ledger, unknown = MemoryLedger(), [call(f"u{n}", 1, team="red", session="s", day=TODAY - n) for n in range(3)]
    for one in unknown:
        one.cost = Cost(unpriced="unknown_model")
    take(ledger, rules, *unknown)
    take(ledger, rules, call("c", 100, team="red", session="s"))
    with ledger.store.snapshot() as reader:
        told = {(one.budget, one.unpriced) for one in crossings(reader, TENANT, warnings=False)}
    assert told == {("all", 3), ("rolling", 2), ("team", 1), ("session", 3), ("run", None)}


def test_a_budget_that_is_changed_tells_thresholds_of_its_own() -> None:
    """Raised in the middle of a month it is told when the new amount is used up, lowered at once; back, nothing is."""
    ledger, told = MemoryLedger(), list[list[int]]()
    for number, (amount, cost) in enumerate([(100, 100), (200, 10), (200, 90), (80, 1), (200, 1), (100, 1)]):
        before = _all(ledger)
        take(ledger, [BudgetRule("b", amount, "month", thresholds=(50, 100))], call(f"c{number}", cost))
        told.append(sorted(threshold for *_, threshold in _all(ledger) - before))
    assert told == [[50, 100], [50], [100], [50, 100], [], []]


def test_a_budget_of_another_kind_under_the_same_name_is_another() -> None:
    """A day and a week, and a session and a run, may begin with the same day and have one value."""
    monday = TODAY - 2
    rules = [
        BudgetRule("b", 100, "day", dimension="team", thresholds=(100,)),
        BudgetRule("b", 100, "week", dimension="team", thresholds=(100,)),
        BudgetRule("b", 100, "week", dimension="user", thresholds=(100,)),
        BudgetRule("b", 100, "rolling", days=7, dimension="team", thresholds=(100,)),
        BudgetRule("b", 100, "rolling", days=7, dimension="user", thresholds=(100,)),
        BudgetRule("b", 100, "session", thresholds=(100,)),
        BudgetRule("b", 100, "run", thresholds=(100,)),
    ]
    ledger = MemoryLedger()
    for number, rule in enumerate(rules):
        fact = call(f"c{number}", 100, session="red", run="red", day=monday)
        fact.dimensions = ("team", "red", "user", "red")
        take(ledger, [rule], fact, now_ns=(monday + 1) * NS_PER_DAY - 1)
        assert len(_all(ledger)) == number + 1


def test_what_an_earlier_version_told_of_a_budget_counts_as_told() -> None:
    """Its records tell no kind of a budget: where the amount is another, so is the budget."""
    for amount, number in ((100, 1), (60, 2)):
        ledger = MemoryLedger()
        old = Crossing("b", TENANT, "", "2026-11-01", 100, 100, amount, NOW, sent=True)
        with ledger.store.unit() as unit:
            unit.apply(Changes(create={old.key: old.pack()}), NOW)
        take(ledger, [BudgetRule("b", 100, "month", thresholds=(100,))], call("a", 100))
        assert len(_all(ledger)) == number


def _all(ledger: MemoryLedger) -> set[tuple[str, str, int, int]]:
    with ledger.store.snapshot() as reader:
        return {(one.rule, one.value, one.amount, one.threshold) for one in crossings(reader, TENANT, warnings=False)}


@pytest.mark.parametrize("period", ["day", "week", "rolling"])
def test_a_clock_that_is_set_back_tells_nothing_twice(period: str) -> None:
    """It was ahead by some days, and so were the calls of clients on the same machine."""
    ledger, rule = MemoryLedger(), BudgetRule("b", 100, period, days=2, thresholds=(100,))
    for number, today in enumerate((TODAY + 3, TODAY, TODAY + 1, TODAY + 2, TODAY + 3)):
        take(ledger, [rule], call(f"c{number}", 100, day=today), now_ns=(today + 1) * NS_PER_DAY - 1)
    with ledger.store.snapshot() as reader:
        found = sorted(
            (one.since, one.at_ns // NS_PER_DAY - TODAY) for one in crossings(reader, TENANT, warnings=False)
        )
    assert (
        found
        == {
            "day": [("2026-11-18", 0), ("2026-11-19", 1), ("2026-11-20", 2), ("2026-11-21", 3)],
            "week": [("2026-11-16", 3)],
            "rolling": [("2026-11-18", 0), ("2026-11-21", 3)],
        }[period]
    )


def test_a_late_call_makes_no_forecast_of_a_period_that_has_ended() -> None:
    ledger, rule, noon = MemoryLedger(), BudgetRule("day", 100, "day"), TODAY * NS_PER_DAY + NS_PER_DAY // 2
    take(ledger, [rule], call("a", 90, day=TODAY - 1), now_ns=noon)
    with ledger.store.snapshot() as reader:
        kept = [*crossings(reader, TENANT, warnings=False)]
    assert sorted((one.since, one.threshold) for one in kept) == [("2026-11-17", 50), ("2026-11-17", 80)]


def test_what_a_later_request_names_is_told_of_calls_that_came_before() -> None:
    """Children come before parents: the parent's agent, session and run are what a call counts against, too."""
    rules = [
        BudgetRule("agent", 100, "week", dimension="agent", thresholds=(100,)),
        BudgetRule("session", 100, "session", thresholds=(100,)),
        BudgetRule("run", 100, "run", thresholds=(100,)),
    ]
    child = make_fact("call", parent="root", kind="llm", cost=100)
    child.day = TODAY
    agent = make_fact("root", kind="agent", session="s", run="r")
    agent.agent = "lead"
    for root in (make_fact("root", session="s", run="r"), agent):
        ledger = MemoryLedger()
        take(ledger, rules, child)
        assert passed(ledger) == set()
        take(ledger, rules, root)
        of_agent = {("agent", "lead", 100)} if root is agent else set()
        assert passed(ledger) == {("session", "s", 100), ("run", "r", 100)} | of_agent


def test_the_own_cost_of_a_tool_is_told() -> None:
    ledger, rule = MemoryLedger(), BudgetRule("team", 100, "day", dimension="team", thresholds=(100,))
    fact = call("search", 0, team="red")
    fact.call, fact.cost = Call("otel", "tool", tool=ToolCall("search")), None
    fact.fee = Cost(amount=100, source="computed", computed=100, input=0, price="p")
    take(ledger, [rule], fact)
    assert (passed(ledger), used(ledger, rule)) == ({("team", "red", 100)}, {"red": 100})


def test_a_model_may_be_named_with_its_provider() -> None:
    """In a budget of days as in one of sessions; lists show it so."""
    rules = [
        BudgetRule(f"{period} {value}", 100, period, dimension="model", value=value, thresholds=(100,))
        for period in ("day", "session")
        for value in ("gpt", "openai/gpt", "azure/gpt")
    ]
    ledger = MemoryLedger()
    decision = take(ledger, rules, call("a", 100, session="s"))[0]
    assert passed(ledger) == {
        (f"{period} {value}", value if period == "day" else "s", 100)
        for period in ("day", "session")
        for value in ("gpt", "openai/gpt")
    }
    assert decision.budget_used == 1
    assert [used(ledger, rule)[rule.value] for rule in rules[:3]] == [100, 100, 0]


def test_what_is_kept_comes_back_by_tenant_and_kind_the_newest_first() -> None:
    """Also where another tenant's name stands in a value, and times differ in length."""
    store, at = MemoryStore(), [1_700_000_000 * 10**9 + step * 10**9 for step in (0, 255, 256, 70_000)]
    kept = [
        Crossing(budget, tenant, f"12345678 {number}", "", 50, 5 * 10**20, 10, at_ns, warning=warning)
        for number, at_ns in enumerate(at)
        for tenant in (TENANT, b"12345678")
        for budget, warning in (("day", ""), ("", FAILURE_RATE))
    ]
    with store.unit() as unit:
        unit.apply(Changes(create={one.key: one.pack() for one in kept}), at[0])
    with store.snapshot() as reader:
        for tenant in (TENANT, b"12345678"):
            for warnings in (False, True):
                wanted = [one for one in kept[::-1] if one.tenant == tenant and bool(one.warning) == warnings]
                assert [*crossings(reader, tenant, warnings=warnings)] == wanted


def test_another_tenants_budget_is_no_matter() -> None:
    ledger = MemoryLedger()
    decision = take(ledger, [BudgetRule("theirs", 1, "day", tenant=b"another!")], call("a", 100))[0]
    assert decision.budget_name == ""
    assert passed(ledger) == set()


@pytest.mark.parametrize(
    ("hour", "used_share", "forecast"),
    [(12, 0.5, True), (12, 0.49, False), (2, 0.5, False), (18, 0.8, True), (18, 1.0, False)],
)
def test_a_forecast_is_by_the_present_rate(hour: int, used_share: float, forecast: bool) -> None:  # noqa: FBT001
    """Half of the day for half of the money: it will just not last. Early in a period nothing is forecast."""
    rule = BudgetRule("day", 1000, "day")
    now_ns = TODAY * 86_400 * 10**9 + hour * 3600 * 10**9
    assert rule.will_not_last(round(1000 * used_share), now_ns) is forecast


def test_a_forecast_is_stored_once_with_the_request_that_makes_it() -> None:
    """At noon: 40 % will do, 60 % will not last, 70 % says nothing new, and what is used up is no forecast."""
    rule, ledger = BudgetRule("day", 100, "day", thresholds=(100,)), MemoryLedger()
    noon = TODAY * NS_PER_DAY + NS_PER_DAY // 2
    stored = list[list[tuple[int, int]]]()
    forecast = list[bool]()
    for number, cost in enumerate((40, 20, 10, 30)):
        take(ledger, [rule], call(f"c{number}", cost), now_ns=noon)
        with ledger.store.snapshot() as reader:
            kept = crossings(reader, TENANT, warnings=False)
            stored.append(sorted((one.threshold, one.used) for one in kept))
            (row,) = budgets.rows(reader, TENANT, [rule], noon, None)
        forecast.append(row["forecast"])
    assert stored == [[], [(FORECAST, 60)], [(FORECAST, 60)], [(FORECAST, 60), (100, 100)]]
    assert forecast == [False, True, True, False]


@pytest.mark.parametrize(
    ("period", "today", "first", "length"),
    [
        ("day", date(2026, 11, 18), date(2026, 11, 18), 1),
        ("week", date(2026, 11, 18), date(2026, 11, 16), 7),
        ("week", date(2026, 11, 16), date(2026, 11, 16), 7),
        ("month", date(2026, 2, 28), date(2026, 2, 1), 28),
        ("month", date(2028, 2, 3), date(2028, 2, 1), 29),
        ("rolling", date(2026, 11, 18), date(2026, 11, 12), 7),
    ],
)
def test_periods(period: str, today: date, first: date, length: int) -> None:
    rule, epoch = BudgetRule("b", 1, period, days=7), date(1970, 1, 1).toordinal()
    days = rule.days_until(today.toordinal() - epoch)
    assert (days[0] + epoch, days[-1] + epoch) == (first.toordinal(), today.toordinal())
    assert rule.length(today.toordinal() - epoch) == length
    assert rule.since(today.toordinal() - epoch) == first.isoformat()


def test_a_run_that_a_session_counts_in_only_now_is_told_of_by_what_moves_it() -> None:
    """What stands under no run of its own is of the only run that its session names, with a second one of its own."""
    ledger, rules = MemoryLedger(), [BudgetRule("run", 600, "run")]
    take(ledger, rules, call("a", 700, session="s"), call("b", 1, session="s", run="r"))
    assert {value for _, value, _ in passed(ledger)} == {"r"}
    take(ledger, rules, call("c", 1, session="s", run="q"))
    assert {value for _, value, _ in passed(ledger)} == {"r", "s"}


def test_the_metrics_have_the_most_used_values_of_budgets_by_days() -> None:
    """As lists have them, unpriced calls among it; of sessions and runs, and of the 21st value, there is none."""
    rules = [
        BudgetRule("all", 1000, "month"),
        BudgetRule("team", 100, "day", dimension="team"),
        BudgetRule("session", 1, "session"),
        BudgetRule("run", 1, "run"),
        BudgetRule("other tenant", 1, "day", tenant=b"12345678"),
    ]
    ledger = MemoryLedger()
    unpriced = call("unpriced", 0, team="t25")
    unpriced.cost = Cost(unpriced="unknown_model")
    take(ledger, rules, unpriced, *(call(f"c{n}", n, team=f"t{n:02}", session="s", run="r") for n in range(1, 26)))
    with ledger.store.snapshot() as reader:
        found = {names: (row["used_usd"], row["unpriced_calls"]) for names, row in most_used(rules, reader, DAY_END)}
        assert [*most_used(rules[2:], reader, DAY_END)] == []
    assert found[("all", "month", "", "")] == (pytest.approx(sum(range(1, 26)) / USD), 1)
    teams = {names[3]: spent for names, spent in found.items() if names[0] == "team"}
    assert teams == {f"t{n:02}": (pytest.approx(n / USD), int(n == 25)) for n in range(6, 26)}
    assert len(found) == 21
