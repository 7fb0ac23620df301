"""`spanledger budgets`, and what it says of a configuration."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chats import COST, MODEL, chat, request, set_attributes
from commands import answer, ledger, output, run
from spanledger_processor.config import ConfigError, load


def _budgets(*budgets: dict[str, object]) -> str:
    return f"processor.budgets={json.dumps(budgets)}"


MONTH = {"name": "month", "amount": 2 * COST, "period": "rolling", "days": 30}
SESSION = {"name": "session", "amount": 10 * COST, "period": "session"}


def _call(session: str) -> bytes:
    span = chat()
    set_attributes(span, {"gen_ai.conversation.id": session})
    return request(span)


def test_what_is_used(tmp_path: Path) -> None:
    sets = (_budgets(MONTH, SESSION),)
    state = ledger(tmp_path, _call("a"), _call("a"), _call("b"), now_ns=time.time_ns(), sets=sets)
    shown = output("budgets", *state)
    assert "month" in shown
    assert "150%" in shown
    assert "used up" in shown
    found = json.loads(output("budgets", "--of", "a", "--json", *state))
    used = {row["budget"]: (row["value"], row["used"]) for row in found["budgets"]}
    assert used == {"session": ("a", pytest.approx(0.2)), "month": ("", pytest.approx(1.5))}
    assert found["over"] is True
    assert run("budgets", "--check", "--of", "a", *state).exit_code == 1


def test_calls_without_a_price_are_told_beside_the_share(tmp_path: Path) -> None:
    """A share of what is known looks safe while calls whose price is unknown go on."""
    unknown = chat()
    set_attributes(unknown, {"gen_ai.request.model": "acme-7b", "gen_ai.conversation.id": "a"})
    sets = (_budgets({**MONTH, "amount": 10 * COST}, SESSION),)
    state = ledger(tmp_path, _call("a"), request(unknown), _call("b"), now_ns=time.time_ns(), sets=sets)
    assert "1 call without a price" in output("budgets", *state)
    found = json.loads(output("budgets", "--of", "a", "--json", *state))
    assert {row["budget"]: row["unpriced_calls"] for row in found["budgets"]} == {"session": 1, "month": 1}
    found = json.loads(output("budgets", "--of", "b", "--json", *state))
    assert {row["budget"]: row["unpriced_calls"] for row in found["budgets"]} == {"session": 0, "month": 1}


def test_what_has_no_session_is_in_no_budget_of_one(tmp_path: Path) -> None:
    """A hook that does not know its session asks for an empty one, and is not to be stopped by what others spent."""
    run_of = {**SESSION, "name": "run", "period": "run"}
    team = {**MONTH, "name": "team", "dimension": "user"}
    sets = (_budgets({**SESSION, "amount": COST}, {**run_of, "amount": COST}, {**MONTH, "amount": 9 * COST}, team),)
    state = ledger(tmp_path, request(chat(), chat()), now_ns=time.time_ns(), sets=sets)
    found = json.loads(output("budgets", "--of", "", "--json", *state))
    assert ([row["budget"] for row in found["budgets"]], found["over"]) == (["month"], False)


def test_a_budget_of_the_sessions_of_a_team_is_none_of_others(tmp_path: Path) -> None:
    sets = (
        'processor.dimensions={"team": ["team"]}',
        _budgets({**SESSION, "amount": COST, "dimension": "team", "value": "red"}),
    )
    bodies = []
    for team in ("red", "blue", ""):
        span = chat()
        set_attributes(span, {"gen_ai.conversation.id": f"of {team}", **({"team": team} if team else {})})
        bodies.append(request(span))
    state = ledger(tmp_path, *bodies, now_ns=time.time_ns(), sets=sets)
    shown = {
        of: [row["value"] for row in json.loads(output("budgets", *of, "--json", *state))["budgets"]]
        for of in ((), ("--of", "of red"), ("--of", "of blue"), ("--of", "of "))
    }
    assert shown == {(): ["of red"], ("--of", "of red"): ["of red"], ("--of", "of blue"): [], ("--of", "of "): []}


def test_a_session_is_stopped_by_each_budget_that_its_calls_count_against(tmp_path: Path) -> None:
    """Its own, its run's, those of its team, agent, model and provider; not those of others; and those of all."""
    keys = {"gen_ai.conversation.id": "of red", "workflow.run_id": "r", "team": "red", "gen_ai.agent.name": "coder"}
    red, also_of_run, blue = chat(), chat(), chat()
    set_attributes(red, keys)
    set_attributes(also_of_run, {"gen_ai.conversation.id": "other", "workflow.run_id": "r"})
    set_attributes(
        blue,
        {
            "gen_ai.conversation.id": "of blue",
            "team": "blue",
            "gen_ai.agent.name": "critic",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.provider.name": "anthropic",
        },
    )
    rules = (
        {**SESSION, "name": "session"},
        {**SESSION, "name": "run", "period": "run"},
        {**MONTH, "name": "team", "dimension": "team"},
        {**MONTH, "name": "red", "dimension": "team", "value": "red"},
        {**MONTH, "name": "blue", "dimension": "team", "value": "blue"},
        {**MONTH, "name": "agent", "dimension": "agent"},
        {**MONTH, "name": "model", "dimension": "model"},
        {**MONTH, "name": "provider", "dimension": "provider"},
        {**MONTH, "name": "anthropic", "dimension": "provider", "value": "anthropic"},
        {**MONTH, "name": "all"},
    )
    sets = ('processor.dimensions={"team": ["team"]}', _budgets(*rules))
    state = ledger(tmp_path, *(request(span) for span in (red, also_of_run, blue)), now_ns=time.time_ns(), sets=sets)

    def of(session: str) -> dict[str, str]:
        rows = json.loads(output("budgets", "--session", session, "--json", *state))["budgets"]
        return {row["budget"]: row["value"] for row in rows}

    assert of("of red") == {
        "session": "of red",
        "run": "r",
        "team": "red",
        "red": "red",
        "agent": "coder",
        "model": MODEL,
        "provider": "openai",
        "all": "",
    }
    assert of("of blue") == {
        "session": "of blue",
        "run": "of blue",
        "team": "blue",
        "blue": "blue",
        "agent": "critic",
        "model": "claude-sonnet-4-5",
        "provider": "anthropic",
        "anthropic": "anthropic",
        "all": "",
    }
    assert of("of nobody yet") == of("") == {"all": ""}
    used = {
        row["budget"]: row["used"]
        for row in json.loads(output("budgets", "--session", "of red", "--json", *state))["budgets"]
    }
    assert used["run"] == pytest.approx(0.2), "what the other session of the run spent is in it"
    assert run("budgets", "--session", "a", "--of", "a", *state).exit_code == 2


def test_a_session_of_several_runs_is_asked_about_for_each(tmp_path: Path) -> None:
    """Its next call may be in any of them."""
    calls = [chat(), chat()]
    for run_id, span in zip(("r", "q"), calls, strict=True):
        set_attributes(span, {"gen_ai.conversation.id": "a", "workflow.run_id": run_id})
    sets = (_budgets({**SESSION, "name": "run", "period": "run", "amount": COST}),)
    state = ledger(tmp_path, *map(request, calls), now_ns=time.time_ns(), sets=sets)
    found = json.loads(output("budgets", "--session", "a", "--json", *state))
    assert ({row["value"] for row in found["budgets"]}, found["over"]) == ({"r", "q"}, True)


def test_thresholds_that_were_passed_are_those_of_what_is_asked_for(tmp_path: Path) -> None:
    sets = (_budgets({**SESSION, "amount": COST}, {**MONTH, "amount": COST}),)
    state = ledger(tmp_path, _call("a"), _call("b"), now_ns=time.time_ns(), sets=sets)

    def passed(*of: str) -> set[tuple[str, str]]:
        found = json.loads(output("budgets", *of, "--json", *state))
        return {(row["budget"], row["value"]) for row in found["passed"]}

    assert passed() == {("session", "a"), ("session", "b"), ("month", "")}
    assert passed("--of", "a") == passed("--session", "a") == {("session", "a"), ("month", "")}
    assert passed("--of", "") == {("month", "")}


def test_nearly_all_is_not_all(tmp_path: Path) -> None:
    """A budget that is not used up must not read 100 %; one of 30 days counts from 29 days ago on."""
    budget = {**MONTH, "amount": COST * 1.001}
    state = ledger(tmp_path, _call("a"), now_ns=time.time_ns(), sets=(_budgets(budget),))
    assert "> 99%" in output("budgets", *state)
    assert "> 99%" in output("top", "--once", *state)
    (row,) = json.loads(output("budgets", "--json", *state))["budgets"]
    today = datetime.now(UTC).date()
    assert row["since"] in {str(today - timedelta(days=29)), str(today - timedelta(days=30))}


def test_what_is_not_used_up(tmp_path: Path) -> None:
    state = ledger(tmp_path, _call("a"), now_ns=time.time_ns(), sets=(_budgets(MONTH, SESSION),))
    assert run("budgets", "--check", *state).exit_code == 0


def test_without_budgets(tmp_path: Path) -> None:
    assert "processor.budgets" in output("budgets", *ledger(tmp_path, _call("a")))


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ({**MONTH, "days": None}, "days"),
        ({**SESSION, "days": 3}, "days"),
        ({**SESSION, "amount": 0}, "amount"),
        ({**SESSION, "amount": 1e-13}, "amount"),  # less than the unit of money: 0, of which nothing is a share
        ({**SESSION, "value": "red"}, "dimension"),
        ({**SESSION, "dimension": "teem"}, "teem"),
        ({**SESSION, "webhook": {"url": "ftp://x"}}, "url"),
        ({**SESSION, "webhook": {"url": "http://x", "secret": ""}}, "secret"),  # anybody could sign with that
    ],
)
def test_what_is_no_budget(budget: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(None, (_budgets(budget),), {"HOME": "/nowhere"})


@pytest.mark.parametrize(
    ("budget", "retention", "fits"),
    [
        ({**MONTH, "days": 91, "dimension": "user"}, "90d", False),
        ({**MONTH, "days": 90, "dimension": "user"}, "90d", True),
        ({**MONTH, "days": 366, "dimension": "model"}, "90d", True),
        ({**MONTH, "days": 366}, "1d", True),
        ({"name": "m", "amount": 1, "period": "month", "dimension": "service"}, "30d", False),
        ({"name": "m", "amount": 1, "period": "month", "dimension": "service"}, "31d", True),
        ({"name": "w", "amount": 1, "period": "week", "dimension": "agent"}, "6d", False),
    ],
)
def test_a_budget_counts_no_days_that_the_ledger_has_forgotten(
    budget: dict[str, object],
    retention: str,
    fits: bool,  # noqa: FBT001
) -> None:
    """Sums by user, service and the like go as sessions do; days and models stay."""
    sets = (_budgets(budget), f"state.retention.sessions={retention}")
    if fits:
        load(None, sets, {"HOME": "/nowhere"})
    else:
        with pytest.raises(ConfigError, match="which has to be"):
            load(None, sets, {"HOME": "/nowhere"})


@pytest.mark.parametrize(
    ("mode", "value", "fits"),
    [
        ("keep", "alice", True),
        ("drop", "alice", False),
        ("drop", None, False),
        ("hash", "alice", False),
        ("hash", "redacted:0a1b:2c3d", True),
        ("hash", None, True),
        ("truncate", "alice", True),
        ("truncate", "alice@department.example", False),
    ],
)
def test_a_budget_of_a_user_whom_redaction_leaves_no_name(
    mode: str,
    value: str | None,
    fits: bool,  # noqa: FBT001
) -> None:
    """Nothing would ever count there; a dimension of one's own whose key names a user is one of users, too."""
    for dimension in ("user", "who"):
        budget = {**MONTH, "dimension": dimension, **({"value": value} if value else {})}
        of = (_budgets(budget), f"processor.redaction.user_ids={mode}", "processor.dimensions.who=[app.user.id]")
        if fits:
            load(None, of, {"HOME": "/nowhere"})
        else:
            with pytest.raises(ConfigError, match="no such user"):
                load(None, of, {"HOME": "/nowhere"})
    load(None, (_budgets({**MONTH, "dimension": "service", "value": "x"}), f"processor.redaction.user_ids={mode}"), {})


def test_the_highest_threshold_is_shown(tmp_path: Path) -> None:
    """In whatever order they are configured."""
    budget = {**MONTH, "amount": COST * 1.1, "thresholds": [80, 50, 10]}
    state = ledger(tmp_path, _call("a"), now_ns=time.time_ns(), sets=(_budgets(budget),))
    assert "80 % passed" in output("budgets", *state)


def test_two_of_one_name() -> None:
    with pytest.raises(ConfigError, match="two have one name"):
        load(None, (_budgets(SESSION, SESSION),), {"HOME": "/nowhere"})


OF_MODELS = (
    {**MONTH, "name": "dated", "dimension": "model", "value": "anthropic/claude-sonnet-4-5-20250929"},
    {**MONTH, "name": "slip", "dimension": "model", "value": "gpt-5o"},
    {**MONTH, "name": "of none", "dimension": "model", "value": "openai/claude-sonnet-4-5"},
    {**MONTH, "name": "own", "dimension": "model", "value": "our-own"},
    {**MONTH, "name": "seller", "dimension": "provider", "value": "antropic"},
    {**MONTH, "name": "tool", "dimension": "model", "value": "tool:search"},
    {**MONTH, "name": "user", "dimension": "user", "value": "whoever"},
)


def test_a_model_that_nothing_is_known_by_is_warned_of(tmp_path: Path) -> None:
    """By the price list, and by the ledger where it is looked at: its own models are in no list."""
    span = chat()
    set_attributes(span, {"gen_ai.request.model": "our-own", "gen_ai.response.model": "our-own"})
    state = ledger(tmp_path, request(span), now_ns=time.time_ns(), sets=(_budgets(*OF_MODELS),))
    said = "processor.budgets: {}: neither the price list nor the ledger has the {}: nothing may count there"
    of = {"slip": "model 'gpt-5o'", "of none": "model 'openai/claude-sonnet-4-5'", "seller": "provider 'antropic'"}
    assert _of_budgets(answer("check", *state)) == [said.format(*one) for one in of.items()]
    assert f"warning: {said.format('slip', of['slip'])}" in output("check", *state)
    names = [warning.split(": ")[1] for warning in _of_budgets(answer("check", "--syntax", *state))]
    assert names == ["slip", "of none", "own", "seller"]
    elsewhere = [*state, "--set", f"state.path={tmp_path / 'none'}"]
    assert [warning.split(": ")[1] for warning in _of_budgets(answer("check", *elsewhere))] == names


def _of_budgets(checked: dict[str, Any]) -> list[str]:
    return [warning for warning in checked["warnings"] if warning.startswith("processor.budgets")]


def test_a_model_counts_by_its_one_name(tmp_path: Path) -> None:
    """As lists show it: by a name with a date nothing ever counted."""
    names = {
        "gpt-4o-mini": ("gpt-4o-mini", 0.5),
        "GPT-4o-mini-2024-07-18": ("gpt-4o-mini", 0.5),
        "openai/gpt-4o-mini-2024-07-18": ("openai/gpt-4o-mini", 0.5),
        "azure/gpt-4o-mini": ("azure.ai.openai/gpt-4o-mini", 0.0),
        "openai.responses/gpt-4o-mini": ("openai/gpt-4o-mini", 0.5),
        "gpt-4o": ("gpt-4o", 0.0),
    }
    budgets = ({**MONTH, "name": name, "dimension": "model", "value": name} for name in names)
    state = ledger(tmp_path, request(chat()), now_ns=time.time_ns(), sets=(_budgets(*budgets),))
    found = {row["budget"]: (row["value"], row["used"]) for row in answer("budgets", *state)["budgets"]}
    assert found == {name: (value, pytest.approx(used)) for name, (value, used) in names.items()}
