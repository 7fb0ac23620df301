"""The commands that read the ledger: what they tell people, and what they tell programs."""

from __future__ import annotations

import csv
import io
import re
import time
from decimal import Decimal
from pathlib import Path

import click
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import CHAT, COST, USAGE, chat, request, set_attributes, without
from commands import answer, ledger, output, run
from conversations import add_conversation
from spanledger_processor.cli import main
from spanledger_processor.ledger import pages
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.rows import time_of
from spanledger_processor.server.routes import route_of

SESSION, RUN, MODEL = "gen_ai.conversation.id", "spanledger.run.id", "gen_ai.request.model"
DAY_NS = 86_400 * 10**9


def command_of(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


JAN_30 = 1_769_774_400 * 10**9
"""2026-01-30 12:00 UTC."""


def _call(session: str = "", run_id: str = "", model: str = "", start: int = JAN_30) -> bytes:
    span = chat(start_time_unix_nano=start, end_time_unix_nano=start + 10**9)
    named = {SESSION: session, RUN: run_id, MODEL: model}
    set_attributes(span, {key: value for key, value in named.items() if value})
    return request(span)


@pytest.fixture
def state(tmp_path: Path) -> tuple[str, ...]:
    """Options naming a ledger of 6 calls: 3 in session a (run r), 2 in b (1 without a price), 1 in none."""
    return ledger(
        tmp_path / "state",
        _call("a", "r"),
        _call("a", "r"),
        _call("a", "r", start=JAN_30 + DAY_NS),
        _call("b", start=JAN_30 + 2 * DAY_NS),
        _call("b", model="acme-7b", start=JAN_30 + 2 * DAY_NS),
        _call(start=JAN_30 - DAY_NS),
        now_ns=JAN_30 + 2 * DAY_NS,
    )


def test_sessions_come_last_active_first_and_what_has_none_comes_last(state: tuple[str, ...]) -> None:
    rows = answer("sessions", *state)
    assert [(row["id"], row["calls"], row["unpriced"]) for row in rows] == [
        ("b", 2, {"unknown_model": 1}),
        ("a", 3, {}),
        ("", 1, {}),
    ]
    assert [row["cost_usd"] for row in rows] == pytest.approx([COST, 3 * COST, COST])
    assert rows[1]["models"] == [{"model": "openai/gpt-4o-mini", "cost_usd": 3 * COST, "cost_usd_exact": "0.00063"}]
    assert rows[1]["tokens"]["input"] == 3000


@pytest.mark.parametrize("name", ["sessions", "runs", "tasks", "tools", "warnings"])
def test_a_list_is_filtered_by_all_that_the_api_filters_by(name: str) -> None:
    options = {text.lstrip("-") for option in command_of(name).params for text in option.opts}
    parameters = {parameter.name for parameter in route_of(f"/api/v1/{name}").parameters}
    assert parameters - {"cursor"} <= options


def test_sessions_by_state_parent_and_dimension(tmp_path: Path) -> None:
    """The states of times against the clock: closed, active now, idle for an hour, stale for a day."""
    now = time.time_ns()
    hour = 3600 * 10**9

    def call(session: str, start: int, **attributes: str) -> bytes:
        span = chat(start_time_unix_nano=start, end_time_unix_nano=start + 10**6)
        set_attributes(span, {SESSION: session, **attributes})
        return request(span)

    calls = [
        call("active", now - 10**9, **{"user.id": "ann"}),
        call("idle", now - hour, **{"user.id": "bob", "spanledger.session.parent_id": "active"}),
        call("stale", now - 24 * hour, **{"user.id": "ann"}),
        call("closed", now - 24 * hour, **{"user.id": "bob"}),
    ]
    state = ledger(tmp_path / "state", *calls, now_ns=now)
    assert run("close", "closed", *state).exit_code == 0

    def ids(*options: str) -> list[str]:
        return [row["id"] for row in answer("sessions", *options, *state)]

    for name in ("active", "idle", "stale", "closed"):
        assert ids("--state", name) == [name]
        assert name in output("sessions", "--state", name, *state)
    assert ids("--closed") == ["closed"]
    assert set(ids("--not-closed")) == {"active", "idle", "stale"}
    assert ids("--parent", "active") == ["idle"]
    assert set(ids("--dimension", "user:ann")) == {"active", "stale"}
    assert ids("--dimension", "user:ann", "--state", "stale") == ["stale"]
    assert "Whole sessions in which" in output("sessions", "--dimension", "user:ann", *state)
    assert "Whole sessions in which" not in output("sessions", *state)
    assert run("sessions", "--dimension", "ann", *state).exit_code == 2
    assert run("sessions", "--state", "gone", *state).exit_code == 2


def test_the_timeline_of_a_session(tmp_path: Path) -> None:
    now = time.time_ns()
    state = ledger(tmp_path / "state", *(_call("a", start=now - second * 10**9) for second in (3, 2, 1)), now_ns=now)
    spans = answer("session", "a", "--timeline", *state)["spans"]
    assert len(spans) == 3
    reported = output("session", "a", "--timeline", *state)
    assert all(f"{one['trace_id']} {one['span_id']}" in reported for one in spans)
    assert reported.count(" 1.0 s ") == 3
    assert run("session", "nobody", "--timeline", *state).exit_code == 1


def test_what_takes_less_than_a_second_is_told_in_milliseconds(tmp_path: Path) -> None:
    """Tools often take a few, which read as 0.0 s."""
    now = time.time_ns()
    span = chat(start_time_unix_nano=now - 20 * 10**6, end_time_unix_nano=now)
    set_attributes(span, {SESSION: "a"})
    state = ledger(tmp_path / "state", request(span), now_ns=now)
    assert " 20 ms " in output("session", "a", "--timeline", *state)


def test_the_candidates_of_a_session(tmp_path: Path) -> None:
    """A premium model with little output: 100,000 input tokens of gpt-5.2-pro at 21 USD a million, output at 168."""
    span = chat()
    named = {SESSION: "a", MODEL: "gpt-5.2-pro", "gen_ai.agent.name": "helper", "gen_ai.usage.input_tokens": 100_000}
    set_attributes(without(span, "gen_ai.response.model"), named)
    state = ledger(tmp_path / "state", request(span))
    (row,) = answer("session", "a", "--candidates", "--models", "openai/gpt-5-mini", *state)["candidates"]
    assert (row["agent"], row["kinds"]) == ("helper", ["over_powered", "over_provisioned"])
    assert [one["model"] for one in row["same_tokens_on"]] == ["gpt-5-mini"]
    reported = output("session", "a", "--candidates", *state)
    assert "helper" in reported
    assert "over-powered" in reported
    assert run("session", "a", "--models", "x", *state).exit_code == 2
    assert run("session", "a", "--timeline", "--candidates", *state).exit_code == 2


def test_tasks_of_all_sessions(tmp_path: Path) -> None:
    span = chat()
    set_attributes(span, {SESSION: "a", "spanledger.task.id": "t1", "spanledger.task.kind": "judge"})
    state = ledger(tmp_path / "state", request(span), _call("b"))
    (row,) = answer("tasks", *state)
    assert (row["task"], row["kind"], row["session"]) == ("t1", "judge", "a")
    assert "t1" in output("tasks", "--kind", "judge", *state)
    assert answer("tasks", "--kind", "worker", *state) == []
    assert "named a task" in output("tasks", "--session", "b", *state)


def test_no_warning_was_given(state: tuple[str, ...]) -> None:
    assert answer("warnings", *state) == []
    assert "Nothing was warned of" in output("warnings", *state)


def test_runs_by_cost_are_all_compared_although_the_api_sorts_slices(
    state: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_COMPARED", 1)
    by_cost = "runs", "--all", "--sort", "cost"
    assert [row["id"] for row in answer(*by_cost, *state)] == ["r", "b", ""]
    assert [row["id"] for row in answer(*by_cost, "--limit", "1", *state)] == ["r"]
    assert "the first 1 runs" in output(*by_cost, "--limit", "1", *state)


def test_the_parts_add_up_to_the_last_digit(state: tuple[str, ...]) -> None:
    whole = answer("summary", *state)
    for rows in (answer("sessions", *state), answer("runs", "--all", *state), whole["models"]):
        assert sum(Decimal(row["cost_usd_exact"]) for row in rows) == Decimal("0.00105")
    assert whole["total"]["cost_usd_exact"] == "0.00105"


def test_tables_show_every_session_on_a_line(state: tuple[str, ...]) -> None:
    lines = output("sessions", *state).splitlines()
    assert lines[0].strip() == "3 sessions"
    a, b = (next(line for line in lines if line.split()[:1] == [name]) for name in "ab")
    assert "$0.000630" in a
    assert "openai/gpt-4o-mini" in a
    assert "2026-01-31 12:00:01" in a
    assert "$0.000210 + ?" in b
    assert "1 unknown_model" in b
    assert any(line.startswith(" (unattributed)") for line in lines)


def test_what_is_not_known_is_never_shown_as_zero(tmp_path: Path) -> None:
    state = ledger(tmp_path, _call("b", model="acme-7b"))
    shown = output("session", "b", *state)
    assert "unknown" in shown
    assert "$0" not in shown


def test_a_list_can_be_cut_and_says_so(state: tuple[str, ...]) -> None:
    shown = output("sessions", "--limit", "1", *state)
    assert "There are more: --limit N" in shown
    assert len(answer("sessions", "--limit", "1", *state)) == 1


def test_one_session_and_one_run(state: tuple[str, ...]) -> None:
    assert answer("session", "a", *state)["cost_usd_exact"] == "0.00063"
    assert answer("summary", "--session", "a", *state) == answer("session", "a", *state)
    assert answer("run", "r", *state)["calls"] == 3
    assert answer("summary", "--run", "r", *state) == answer("run", "r", *state)
    assert "run r" in output("run", "r", *state)


def test_a_session_by_task_and_model(tmp_path: Path) -> None:
    spans = [chat(start_time_unix_nano=JAN_30, end_time_unix_nano=JAN_30 + 9) for _ in range(3)]
    for span, (kind, model) in zip(spans, [("worker", ""), ("judge", ""), ("worker", "gpt-4o")], strict=True):
        named = {SESSION: "s", "spanledger.task.id": "t1", "spanledger.task.kind": kind}
        set_attributes(span, named | ({MODEL: model} if model else {}))
    state = ledger(tmp_path, request(*spans))
    tasks = answer("summary", "--session", "s", *state)["tasks"]
    assert [(task["id"], task["kind"], task["calls"]) for task in tasks] == [("t1", "judge", 1), ("t1", "worker", 2)]
    (task,) = answer("session", "s", *state)["by_task"]
    assert task["tokens_total"] == sum(task["kinds"].values())
    assert {row["model"]: row["calls"] for row in answer("session", "s", *state)["by_model"]} == {
        "gpt-4o-mini": 2,
        "gpt-4o": 1,
    }
    shown = output("session", "s", *state)
    assert re.search(rf"t1 +{task['tokens_total']:,} +worker {task['kinds']['worker']:,}, judge", shown)
    assert "per model\n" in shown
    assert "by model" not in shown


def test_a_session_of_which_some_calls_name_a_task_is_shown_whole(tmp_path: Path) -> None:
    spans = [chat(start_time_unix_nano=JAN_30, end_time_unix_nano=JAN_30 + 9) for _ in range(3)]
    for span, named in zip(spans, [{"spanledger.task.id": "t1"}, {}, {MODEL: "gpt-4o"}], strict=True):
        set_attributes(span, {SESSION: "s"} | named)
    shown = output("session", "s", *ledger(tmp_path, request(*spans)))
    assert "per model, of calls that name a task" in shown
    whole = shown[shown.index("by model") :]
    assert re.search(r"gpt-4o-mini +\$\S+ +2 ", whole)
    assert re.search(r"gpt-4o +\$\S+ +1 ", whole)


def test_a_run_is_shown_with_its_sessions(tmp_path: Path) -> None:
    state = ledger(tmp_path, _call("a", "r"), _call("b", "r", "gpt-4o"))
    shown = output("run", "r", *state)
    for session in "ab":
        assert re.search(rf"^ *{session} +\$", shown, re.MULTILINE)
    assert re.search(r"gpt-4o-mini +\$", shown[shown.index("by model") :])


def _of_a_file(granularity: str, session: str = "w1") -> bytes:
    """A span as the sidecar makes it of a Mux workspace."""
    span = chat(start_time_unix_nano=JAN_30, end_time_unix_nano=JAN_30 + 9)
    made = {"spanledger.source": "file:mux", "spanledger.granularity": granularity, SESSION: session}
    set_attributes(span, made | {"spanledger.session.name": "fix-cache", "spanledger.session.project": "widget"})
    return request(span)


def test_what_is_no_call_is_not_shown_as_one(tmp_path: Path) -> None:
    aggregates = [_of_a_file("per-session-aggregate") for _ in range(4)]
    state = ledger(tmp_path, *aggregates)
    found = answer("session", "w1", *state)
    assert (found["calls"], found["granularities"]) == (4, {"per-session-aggregate": 4})
    assert "no per-call or per-tool detail" in found["note"]
    for command in (("sessions",), ("session", "w1"), ("summary",), ("summary", "--since", "2026-01-01")):
        shown = output(*command, *state)
        assert "4 aggregates" in shown
        assert "Note: " in shown
        assert "no per-call or per-tool detail" in shown


def test_calls_beside_turns_and_aggregates(tmp_path: Path) -> None:
    made = [_of_a_file(name) for name in ("per-turn", "per-turn", "per-session-aggregate", "per-message")]
    state = ledger(tmp_path, *made, _call("a"))
    shown = output("sessions", *state)
    assert "1 call, 1 aggregate, 2 turns" in shown
    assert "call" not in next(line for line in shown.splitlines() if line.split()[:1] == ["a"])
    assert answer("session", "a", *state)["granularities"] == {"per-message": 1}
    assert "note" not in answer("session", "a", *state)


def test_a_session_has_the_names_that_its_source_gives_it(tmp_path: Path) -> None:
    state = ledger(tmp_path, _of_a_file("per-turn"), _call("a"))
    found = answer("session", "w1", *state)
    assert (found["name"], found["project"]) == ("fix-cache", "widget")
    assert "name" not in answer("session", "a", *state)
    for command in (("sessions",), ("session", "w1")):
        shown = output(*command, *state)
        assert "fix-cache" in shown
        assert "widget" in shown
    assert "project" not in output("session", "a", *state)


def test_sessions_that_others_spawned(tmp_path: Path) -> None:
    """Their run is that of the session at the top; the session that spawned them lists them."""
    top, below, lowest = chat(), chat(), chat()
    set_attributes(top, {SESSION: "top"})
    set_attributes(below, {SESSION: "below", "spanledger.session.parent_id": "top"})
    set_attributes(lowest, {SESSION: "lowest", "spanledger.session.parent_id": "below"})
    where = ledger(tmp_path / "state", request(top), request(below), request(lowest))
    shown = output("session", "top", *where)
    assert "spawned by it" in shown
    assert re.search(r"below +\$0\.000210 +1 ", shown)
    assert "lowest" not in shown
    assert answer("run", "top", *where)["calls"] == 3
    result = run("run", "lowest", *where)
    assert (result.exit_code, "counts in another: `spanledger run top`" in result.stderr) == (1, True)
    assert "lists those there are" in run("run", "nobody", *where).stderr


def test_by_day_since(state: tuple[str, ...]) -> None:
    """Days are UTC days of the calls, not of their arrival."""
    reported = answer("summary", "--since", "2026-01-31", *state)
    assert reported["since"] == "2026-01-31"
    assert [(day["day"], day["calls"]) for day in reported["days"]] == [("2026-01-31", 1), ("2026-02-01", 2)]
    assert reported["total"]["calls"] == 3
    assert sum(Decimal(model["cost_usd_exact"]) for model in reported["models"]) == Decimal(
        reported["total"]["cost_usd_exact"]
    )
    assert "2026-01-31" in output("summary", "--since", "2026-01-31", *state)
    for command in ("summary", "unpriced"):
        assert "Nothing was spent since 2026-02-02 (UTC) in " in output(command, "--since", "2026-02-02", *state)


def _retire_a(state: Path) -> None:
    """Let session a go, which was last active a day before the others: its sums stay."""
    store = LmdbStore.open(
        state,
        max_size_mib=16,
        durability="sync",
        retention_ns=DAY_NS,
        sessions_retention_ns=DAY_NS,
        now_ns=lambda: JAN_30 + 3 * DAY_NS,
    )
    while store.maintain():
        pass
    store.close()


def test_what_gave_way_is_told_by_day_and_adds_up(tmp_path: Path) -> None:
    calls = [_call("a"), _call("a"), _call()]
    state = ledger(tmp_path / "state", *calls, now_ns=JAN_30)
    ledger(tmp_path / "state", _call("b", start=JAN_30 + 3 * DAY_NS), now_ns=JAN_30 + 3 * DAY_NS)
    assert "No session has given way" in output("summary", "--gone", *state)
    _retire_a(tmp_path / "state")
    sessions = {row["id"]: Decimal(row["cost_usd_exact"]) for row in answer("sessions", *state)}
    total, gone = answer("summary", *state)["total"], answer("summary", "--gone", *state)
    assert set(sessions) == {"b", ""}
    assert [(row["day"], row["project"], row["sessions"], row["calls"]) for row in gone["gone"]] == [
        ("2026-01-30", "", 1, 2)
    ]
    reported = Decimal(gone["total"]["cost_usd_exact"])
    assert reported == Decimal(total["gone_usd_exact"]) == 2 * Decimal("0.00021")
    assert sessions[""] == reported + Decimal("0.00021"), "the call of no session, and what gave way"
    assert sum(sessions.values()) == Decimal(total["cost_usd_exact"])
    assert "Of it, $0.000420 was spent by one session no longer told apart" in output("summary", *state)
    shown = output("summary", "--gone", *state)
    assert "2026-01-30" in shown
    assert "$0.000420" in shown
    assert answer("summary", "--gone", "--since", "2026-01-31", *state)["gone"] == []
    assert output("summary", "--gone", "--csv", *state).startswith("day,project,sessions,cost_usd")


def test_by_a_dimension(tmp_path: Path) -> None:
    """Of the configured dimensions, and of those that need no configuration; all rows add up to the ledger."""
    spans = [chat(start_time_unix_nano=JAN_30, end_time_unix_nano=JAN_30 + 9) for _ in range(4)]
    for span, team in zip(spans, ["red", "blue", "red", ""], strict=True):
        set_attributes(span, ({"app.team": team} if team else {}) | {"user.id": "u1"})
    message = ExportTraceServiceRequest.FromString(request(*spans))
    message.resource_spans[0].resource.attributes.add(key="service.name").value.string_value = "shop"
    state = ledger(tmp_path, message.SerializeToString(), sets=("processor.dimensions.team=[app.team]",))
    teams = answer("summary", "--by", "team", *state)["values"]
    assert [(row["value"], row["calls"]) for row in teams] == [("red", 2), ("blue", 1), ("", 1)]
    for by, value in (("service", "shop"), ("user", "u1"), ("model", "gpt-4o-mini"), ("provider", "openai")):
        (row,) = answer("summary", "--by", by, *state)["values"]
        assert (row["value"], row["calls"], row["cost_usd_exact"]) == (value, 4, "0.00084")
    shown = output("summary", "--by", "team", *state)
    assert re.search(r"red +\$0.000420", shown)
    assert re.search(r"\(unattributed\) +\$0.000210", shown)
    assert "Nothing was spent since" in output("summary", "--by", "team", "--since", "2026-02-03", *state)


def test_of_one_value_of_a_dimension(tmp_path: Path) -> None:
    """What it spent, by day and model, what has no price, its sessions and runs."""
    spans = [chat(start_time_unix_nano=JAN_30, end_time_unix_nano=JAN_30 + 9) for _ in range(4)]
    for span, team in zip(spans, ["red", "blue", "red", "red"], strict=True):
        set_attributes(span, {"app.team": team, SESSION: f"of {team}", "gen_ai.request.model": "gpt-4o-mini"})
    set_attributes(spans[3], {"gen_ai.request.model": "acme-7b", "gen_ai.response.model": "acme-7b"})
    state = ledger(tmp_path, request(*spans), sets=("processor.dimensions.team=[app.team]",))
    red = ("--dimension", "team:red")
    assert answer("summary", *red, *state)["total"]["calls"] == 3
    shown = output("summary", *red, "--since", "2026-01-01", *state)
    assert "of team red since 2026-01-01 (UTC)" in shown
    assert re.search(r"openai/gpt-4o-mini +\$0.000420", shown)
    assert re.search(
        r"2026-01-30 +openai/gpt-4o-mini +\$0.000420", output("summary", *red, "--by", "day_model", *state)
    )
    (row,) = csv.DictReader(io.StringIO(output("summary", *red, "--csv", *state)))
    assert (row["model"], row["cost_usd_exact"], row["calls"]) == ("openai/gpt-4o-mini", "0.00042", "")
    shown = output("unpriced", *red, *state)
    assert "1 unpriced call of team red" in shown
    assert re.search(r"1 +unknown_model", shown)
    assert "Every call of team blue in" in output("unpriced", "--dimension", "team:blue", *state)
    assert "Nothing was spent of team nobody in" in output("summary", "--dimension", "team:nobody", *state)
    for command in ("sessions", "runs"):
        rows = answer(command, *red, *(["--all"] if command == "runs" else []), *state)
        assert [row["id"] for row in rows] == ["of red"]
    model = output("summary", "--dimension", "model:gpt-4o-mini", *state)
    assert re.search(r"openai +gpt-4o-mini +\$0.000630", model)
    assert "speed by model of provider openai" in output("summary", "--speed", "--dimension", "provider:openai", *state)
    refused = run("summary", "--speed", *red, *state)
    assert (refused.exit_code, "kept by model and provider alone" in refused.output) == (2, True)
    for more in (["--by", "team"], ["--by", "tool"], ["--gone"], ["--session", "of red"]):
        result = run("summary", *red, *more, *state)
        assert (result.exit_code, "--dimension goes with" in result.output) == (2, True)


def test_a_value_that_reads_like_the_word_for_none_is_another_row(tmp_path: Path) -> None:
    """A team may be called anything; nothing of it goes to what has no team, or to the others."""
    names = ["(unattributed)", "(other)", "-", ""]
    spans = [chat(start_time_unix_nano=JAN_30, end_time_unix_nano=JAN_30 + 9) for _ in names]
    for span, name in zip(spans, names, strict=True):
        set_attributes(span, {"team": name, SESSION: name} if name else {})
    state = ledger(tmp_path, *map(request, spans), sets=("processor.dimensions.team=[team]",))
    rows = answer("summary", "--by", "team", *state)["values"]
    assert {(row["value"], row.get("unattributed", False)): row["calls"] for row in rows} == {
        **{(name, False): 1 for name in names[:-1]},
        ("", True): 1,
    }
    for shown in (output("summary", "--by", "team", *state), output("sessions", *state)):
        firsts = [line.split()[0] for line in shown.splitlines() if "$0.000210" in line]
        assert sorted(firsts) == sorted(['"(unattributed)"', '"(other)"', '"-"', "(unattributed)"])
    (session,) = answer("sessions", "--dimension", "team:(unattributed)", *state)
    assert session["id"] == "(unattributed)"
    sets = ("--set", 'processor.budgets=[{"name": "b", "amount": 1, "period": "month", "dimension": "team"}]')
    of_budgets = answer("budgets", "--of", "(unattributed)", *state, *sets)["budgets"]
    assert [row["value"] for row in of_budgets] == ["(unattributed)"]


def test_calls_below_an_agent_are_its_own(tmp_path: Path) -> None:
    """Only the agent's span has its name; it is a sub-agent's where another agent's span stands above."""
    lead, helper, call = (chat(start_time_unix_nano=JAN_30, end_time_unix_nano=JAN_30 + 9) for _ in range(3))
    for span, above, name in ((lead, None, "lead"), (helper, lead, "helper"), (call, helper, "")):
        span.trace_id, span.parent_span_id = lead.trace_id, above.span_id if above is not None else b""
        named = {"gen_ai.agent.name": name, "gen_ai.agent.id": "asst_1", "gen_ai.operation.name": "invoke_agent"}
        set_attributes(span, {SESSION: "s", **(named if name else {})})
    bodies = [request(call), request(without(helper, *USAGE)), request(without(lead, *USAGE))]
    state = ledger(tmp_path, *bodies, now_ns=time.time_ns())  # a trace is remembered for a day by arrival
    (row,) = answer("summary", "--by", "agent", *state)["values"]
    assert (row["value"], row["calls"]) == ("helper", 1)
    agents = {row["id"]: row for row in answer("session", "s", *state)["agents"]}
    assert (agents["helper"]["parent_id"], agents["helper"]["calls"], agents["lead"]["calls"]) == ("lead", 1, 0)


def test_a_dimension_that_is_not_there(state: tuple[str, ...]) -> None:
    result = run("summary", "--by", "teem", *state)
    assert result.exit_code == 2
    assert "service" in result.stderr
    assert run("summary", "--by", "user", "--session", "a", *state).exit_code == 2
    result = run("sessions", "--dimension", "teem:red", *state)
    assert result.exit_code == 2
    assert "there are agent, model, project, provider, service, user" in result.stderr


@pytest.mark.parametrize("when", ["today", "yesterday", "7d"])
def test_since_by_word(when: str, now_ns: int, tmp_path: Path) -> None:
    """A call of just now is within each of them."""
    state = ledger(tmp_path, request(chat()), now_ns=now_ns)
    assert answer("summary", "--since", when, *state)["total"]["calls"] == 1


@pytest.mark.parametrize("when", ["0d", "2026-13-01", "week", "12h"])
def test_since_what_is_no_day(when: str, state: tuple[str, ...]) -> None:
    result = run("summary", "--since", when, *state)
    assert result.exit_code == 2
    assert "2026-01-31" in result.stderr


def test_only_one_choice_at_a_time(state: tuple[str, ...]) -> None:
    assert run("summary", "--session", "a", "--run", "r", *state).exit_code == 2


@pytest.mark.parametrize("what", ["session", "run"])
def test_one_session_or_run_as_csv_is_a_row_with_a_head(what: str, state: tuple[str, ...]) -> None:
    name = {"session": "a", "run": "r"}[what]
    (row,) = csv.DictReader(io.StringIO(output(what, name, "--csv", *state)))
    assert (row["id"], row["calls"], row["cost_usd_exact"]) == (name, "3", "0.00063")
    assert row["models"] == "openai/gpt-4o-mini=0.00063"
    assert output("summary", f"--{what}", name, "--csv", *state) == output(what, name, "--csv", *state)


def test_budgets_as_csv_are_guarded_against_formulas(now_ns: int, tmp_path: Path) -> None:
    budget = "[{name: '=all', amount: 1, period: day, thresholds: [50]}]"
    state = ledger(tmp_path, _call("a", start=now_ns), now_ns=now_ns, sets=(f"processor.budgets={budget}",))
    (row,) = csv.DictReader(io.StringIO(output("budgets", "--csv", *state)))
    assert (row["budget"], row["used_usd_exact"], row["over"]) == ("'=all", "0.00021", "false")


def test_csv_of_a_timeline_and_of_candidates_has_a_head(state: tuple[str, ...]) -> None:
    assert output("session", "a", "--timeline", "--csv", *state).startswith("trace_id,span_id,")
    assert output("session", "a", "--candidates", "--csv", *state).startswith("agent,kinds,")


@pytest.mark.parametrize(
    "command",
    ["summary", "sessions", "runs", "tenants", "unpriced", "tools", "tasks", "warnings", "budgets"],
)
def test_what_is_asked_for_has_one_form(command: str, state: tuple[str, ...]) -> None:
    result = run(command, "--json", "--csv", *state)
    assert (result.exit_code, "--csv and --json" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", ["tools", "tasks", "warnings"])
def test_a_list_of_a_session_that_is_not_there(command: str, state: tuple[str, ...]) -> None:
    """A mistyped id must not read as a session of which there is nothing to tell."""
    result = run(command, "--session", "nope", *state)
    assert (result.exit_code, "no session 'nope'" in result.stderr) == (1, True)
    assert run(command, "--session", "a", *state).exit_code == 0


def test_how_fast_calls_were(tmp_path: Path) -> None:
    """One call of 2 s with 100 output tokens: 50 a second; each figure is within 9 % (docs/views.md)."""
    span, now = chat(), time.time_ns()
    span.start_time_unix_nano, span.end_time_unix_nano = now - 2 * 10**9, now
    span.attributes.add(key="gen_ai.response.time_to_first_chunk").value.double_value = 0.5
    state = ledger(tmp_path, request(span), now_ns=now)
    for by in ((), ("--by", "day"), ("--by", "day_model", "--since", "7d")):
        shown = output("summary", "--speed", *by, *state)
        figures = [
            float(value) for text in re.findall(r"[\d.]+ / [\d.]+ / [\d.]+", shown) for value in text.split(" / ")
        ]
        assert figures == pytest.approx([2] * 3 + [0.5] * 3 + [50] * 3, rel=0.09)
    assert "is it known how long" in output("summary", "--speed", "--until", "2026-01-01", *state)
    for other in (("--by", "user"), ("--json",), ("--gone",), ("--session", "a")):
        assert run("summary", "--speed", *other, *state).exit_code == 2


def test_a_session_tells_of_its_largest_context(tmp_path: Path) -> None:
    state = ledger(tmp_path, _call("a"), now_ns=time.time_ns())
    assert "context of up to 1,000 tokens" in output("session", "a", *state)


def test_a_session_tells_its_run(tmp_path: Path) -> None:
    """The one that its spans name, which one that it spawned counts in as well; without any, it is its own."""
    child = chat()
    set_attributes(child, {SESSION: "child", "spanledger.session.parent_id": "a"})
    state = ledger(tmp_path / "state", _call("a", run_id="nightly"), request(child), _call("alone"))
    runs = {one: answer("session", one, *state)["run_id"] for one in ("a", "child", "alone")}
    assert runs == {"a": "nightly", "child": "nightly", "alone": "alone"}
    shown = {one: "run nightly" in output("session", one, *state) for one in runs}
    assert shown == {"a": True, "child": True, "alone": False}
    assert "`spanledger run nightly`" in run("run", "a", *state).stderr


def test_no_tool_was_called(state: tuple[str, ...]) -> None:
    shown = output("summary", "--by", "tool", *state)
    assert ("No tool call is known" in shown, "own cost" in shown) == (True, False)
    assert "completed a loop" in output("tools", "--loop", *state)


@pytest.mark.parametrize("what", ["session", "run"])
def test_an_id_that_is_not_there(what: str, state: tuple[str, ...]) -> None:
    result = run(what, "nope", *state)
    assert result.exit_code == 1
    assert f"no {what} 'nope'" in result.stderr
    assert f"spanledger {what}s" in result.stderr


def test_an_empty_ledger(tmp_path: Path) -> None:
    state = ledger(tmp_path)
    for command in ("sessions", "runs", "summary", "tenants", "unpriced"):
        shown = output(command, *state)
        assert "Nothing has been counted" in shown
        assert str(tmp_path) in shown
    assert answer("sessions", *state) == []
    assert answer("summary", *state)["total"]["calls"] == 0


def test_sessions_that_are_no_named_runs(tmp_path: Path) -> None:
    state = ledger(tmp_path, _call("a"))
    assert "--all lists each session" in output("runs", *state)
    assert answer("runs", *state) == []
    assert [row["id"] for row in answer("runs", "--all", *state)] == ["a"]


def test_no_ledger_at_all(tmp_path: Path) -> None:
    """Says which folder it looked into, and makes none."""
    result = run("sessions", "--set", f"state.path={tmp_path / 'state'}")
    assert result.exit_code == 1
    assert str(tmp_path / "state") in result.stderr
    assert "--config" in result.stderr
    assert not (tmp_path / "state").exists()


def test_tenants_do_not_see_each_other(tmp_path: Path) -> None:
    keys = "processor.tenant.keys=[team]"
    span = chat(start_time_unix_nano=JAN_30, end_time_unix_nano=JAN_30 + 9)
    set_attributes(span, {SESSION: "s"})
    message = ExportTraceServiceRequest.FromString(request(span))
    message.resource_spans[0].resource.attributes.add(key="team").value.string_value = "red"
    state = ledger(tmp_path, message.SerializeToString(), sets=(keys,))
    assert answer("sessions", "--tenant", "red", *state)[0]["id"] == "s"
    assert answer("sessions", *state) == []
    for empty in ("sessions", "runs", "summary"):
        assert "There is data under red: --tenant NAME" in output(empty, *state)
    message.resource_spans[0].resource.attributes.pop()
    message.resource_spans[0].scope_spans[0].spans[0].span_id = b"another!"
    both = ledger(tmp_path, message.SerializeToString(), sets=(keys,))
    shown = output("summary", *both)
    assert "the whole ledger of the default tenant" in shown
    assert "What is under red is not in it: --tenant NAME" in shown
    assert "is not in it" not in output("summary", "--tenant", "red", *both)
    for command in (["sessions"], ["summary"], ["session", "s"], ["runs"], ["close", "s"]):
        unknown = run(*command, "--tenant", "blue", *state)
        assert (unknown.exit_code, "blue" in unknown.stderr or "no session 's'" in unknown.stderr) == (1, True)


def test_names_from_the_network_do_not_move_the_cursor(tmp_path: Path) -> None:
    state = ledger(tmp_path, _call("evil\x1b[2J[red]x"))
    shown = output("sessions", *state)
    assert "\x1b" not in shown
    assert "[red]x" in shown


def _asking(session: str, times: int) -> Span:
    """A model's span that was sent the results of so many equal tool calls, of which no span of their own tells."""
    call = add_conversation(chat(), "convention", [({"path": "a"}, "text")] * times)
    set_attributes(call, {SESSION: session})
    return call


def _executing(session: str, number: int, ends_ns: int = 0) -> Span:
    """One of several equal executions of a tool, a second apart; they are remembered for a day."""
    span = without(chat(), *CHAT, *USAGE)
    span.start_time_unix_nano += number * 10**9
    span.end_time_unix_nano = ends_ns or span.end_time_unix_nano + number * 10**9
    names = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "read", SESSION: session}
    set_attributes(span, {**names, "gen_ai.tool.call.arguments": '{"path": "a"}', "gen_ai.tool.call.id": f"c{number}"})
    return span


def test_tools_names_the_tools_of_a_loop_in_turn(tmp_path: Path) -> None:
    calls = [_executing("turns", number) for number in range(6)]
    for number, span in enumerate(calls):
        set_attributes(span, {"gen_ai.tool.name": ("read", "grep")[number % 2]})
    state = ledger(tmp_path, request(*calls), now_ns=time.time_ns())
    (row,) = answer("tools", "--loop", *state)
    assert (row["tool"], row["cycle"], row["rounds"]) == ("grep", ["read", "grep"], 3)
    assert "read > grep, 3 times" in output("tools", "--loop", *state)
    assert "read; grep,3" in output("tools", "--loop", "--csv", *state)


@pytest.mark.parametrize("executed_first", [False, True])
def test_tools_lists_calls_that_only_a_models_messages_tell_of_each_once(
    tmp_path: Path, *, executed_first: bool
) -> None:
    asking = [request(_asking("asked", times)) for times in (3, 4)]
    both = [request(_asking("both", 4)), request(*(_executing("both", number) for number in range(4)))]
    bodies = [*asking, *(both[::-1] if executed_first else both)]
    state = ledger(tmp_path, *bodies, now_ns=time.time_ns())
    rows = {
        row["session"]: (row["tool"], row["times"], row["in_a_row"], row["loop"]) for row in answer("tools", *state)
    }
    assert rows == {"asked": ("read", 4, 4, True), "both": ("read", 4, 4, True)}
    assert len({row["signature"] for row in answer("tools", *state)}) == 1
    assert [row["session"] for row in answer("tools", "--loop", "--session", "asked", *state)] == ["asked"]


@pytest.mark.parametrize("ends_ns", [10**9, 2**62])
@pytest.mark.parametrize("is_first", [False, True])
def test_the_last_time_of_a_repeated_call_is_none_of_a_clock_that_is_wrong(
    ends_ns: int, tmp_path: Path, *, is_first: bool
) -> None:
    """Neither 1970 nor a time far ahead, in whichever order they come: what ended before it started was done at its
    start, and of a time far ahead the arrival stands for it.
    """
    spans = [_executing("s", number) for number in range(3)]
    odd = _executing("s", 3, ends_ns)
    now_ns = time.time_ns() + 60 * 10**9
    state = ledger(tmp_path, *map(request, [odd, *spans] if is_first else [*spans, odd]), now_ns=now_ns)
    (row,) = answer("tools", *state)
    last = now_ns if ends_ns > now_ns else odd.start_time_unix_nano
    assert (row["times"], row["last"]) == (4, time_of(last))


def test_a_repeated_call_of_which_no_time_is_known_stands_behind_those_made_as_often(tmp_path: Path) -> None:
    timeless = [_executing("never", number) for number in range(2)]
    for span in timeless:
        span.start_time_unix_nano = span.end_time_unix_nano = 10**9
    known = [_executing("known", number) for number in range(2)]
    state = ledger(tmp_path, request(*timeless), request(*known), now_ns=time.time_ns())
    rows = answer("tools", *state)
    assert [(row["session"], row["last"] is None) for row in rows] == [("known", False), ("never", True)]


def test_a_long_id_is_cut_in_the_middle_of_a_table_and_whole_elsewhere(tmp_path: Path) -> None:
    """Ids often begin alike, and end so."""
    names = ["0199" + "a" * 248 + end for end in ("1234", "5678")]
    state = ledger(tmp_path, *map(_call, names))
    for command in ("sessions", "runs --all", "top --once"):
        shown = output(*command.split(), *state)
        assert "$0.000210" in shown
        assert re.findall(r"0199a+…a+(\d{4}) ", shown) in (["1234", "5678"], ["5678", "1234"])
        assert all(len(line) < 200 for line in shown.splitlines())
    assert all(name in output("sessions", "--whole", *state) for name in names)
    assert {row["id"] for row in answer("sessions", *state)} == {*names}
    assert all(name in output("sessions", "--csv", *state) for name in names)
    assert names[0] in output("session", names[0], *state), "what was asked for is said"


@pytest.mark.parametrize(
    "odd", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\x9b2Jb", "a\u202eb", "a\u2066b", "a\u2028b", "a\x08b"]
)
def test_a_name_takes_one_line_and_moves_nothing_wherever_it_is_shown(odd: str, tmp_path: Path) -> None:
    tool = Span(name="execute_tool x", trace_id=b"trace of a tool.", span_id=b"of tools")
    tool.start_time_unix_nano, tool.end_time_unix_nano = 1_795_000_000 * 10**9, 1_795_000_001 * 10**9
    keys = ("gen_ai.tool.name", "gen_ai.conversation.id", "gen_ai.agent.name", "spanledger.task.id", "user.id")
    names = {**dict.fromkeys(keys, odd), "gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": "{}"}
    set_attributes(tool, names)
    again = Span()
    again.CopyFrom(tool)
    again.span_id = b"tools, 2"
    call = chat()
    set_attributes(call, {**dict.fromkeys(keys[1:], odd), "gen_ai.request.model": odd, "gen_ai.response.model": odd})
    state = ledger(tmp_path, request(tool, again, call, resource={"service.name": odd, "service.namespace": odd}))
    seen = 0
    for command in (
        *("sessions", "runs --all", "tools", "tasks", "unpriced", "summary", "top --once"),
        *(f"summary --by {what}" for what in ("agent", "user", "service", "project", "model", "tool")),
        *(("session", odd), ("session", odd, "--timeline"), ("run", odd), ("session", odd + "?"), ("prices", odd)),
        *(("span", call.trace_id.hex(), call.span_id.hex()), ("summary", "--session", odd)),
    ):
        said = run(*(command.split() if isinstance(command, str) else command), *state)
        for shown in (said.stdout, said.stderr):
            assert not {char for char in shown if char != "\n" and not char.isprintable()}
            assert "a\nb" not in shown
            assert not re.search(r"^b\b", shown, re.MULTILINE), "a line of its own"
            seen += odd[:1] in shown
    assert seen > 10


def _on_a_terminal(width: int, monkeypatch: pytest.MonkeyPatch, *command: str) -> list[str]:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in output(*command).splitlines()]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_narrow_terminal_gets_fewer_columns(
    width: int, state: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids, costs, states, the last activity and why something has no price stay; models and details go first."""
    lines = _on_a_terminal(width, monkeypatch, "sessions", *state)
    assert all(len(line) <= width for line in lines)
    shown = "\n".join(lines)
    heading = lines[: next(number for number, line in enumerate(lines) if "─" in line)]
    for name in ("session", "cost", "calls", "unpriced", "last", "active", "(UTC)", "state"):
        assert any(re.search(rf"(^|\s){re.escape(name)}(\s|$)", line) for line in heading), name
    for text in ("(unattributed)", "$0.000210 + ?", "unknown_model", "2026-02-01", "stale"):
        assert text in shown, text
    assert ("openai/gpt-4o-mini" in shown) is (width == 200)
    assert ("No room here for" in shown) is (width < 200), "what is left out is said"


def test_where_all_models_have_no_room_the_first_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-mini")
    state = ledger(tmp_path, *(_call("a", model=model) for model in models))
    shown = "\n".join(_on_a_terminal(140, monkeypatch, "sessions", *state))
    assert "openai/gpt-4o and 3 more" in shown, "the dearest"
    assert "gpt-4.1" not in shown
    assert "openai/gpt-4.1-mini" in "\n".join(_on_a_terminal(200, monkeypatch, "sessions", *state))


def test_an_id_that_a_table_cut_is_not_found_and_where_it_is_is_said(tmp_path: Path) -> None:
    """None is taken for it: another may begin and end alike."""
    name = "0199c9a7-5b1e-7c3d-9f52-" + "a" * 60
    state = ledger(tmp_path, _call(name), _call(name.replace("aaa", "bbb", 1)))
    cut = next(word for line in output("sessions", *state).splitlines() for word in line.split() if "…" in word)
    for command in (("session", cut), ("session", cut, "--timeline"), ("tools", "--session", cut)):
        refused = run(*command, *state)
        assert refused.exit_code == 1
        assert f"a table cut it: `spanledger session {name}" in refused.stderr
    assert f"a table cut it: `spanledger run {name}" in run("run", cut, *state).stderr
    assert "`spanledger sessions --whole`" in run("session", "other…aaa", *state).stderr
    assert "--whole" in run("close", cut, *state).stderr
    assert "--whole" not in run("session", "other", *state).stderr


@pytest.mark.parametrize(
    "command", [("sessions", "--model"), ("runs", "--model"), ("session", "a", "--candidates", "--models")]
)
def test_a_model_that_nothing_is_known_by_is_a_mistake(command: tuple[str, ...], tmp_path: Path) -> None:
    state = ledger(tmp_path, _call("a", model="gpt-4o-mini"))
    refused = run(*command, "gpt-4o-mni", *state)
    assert refused.exit_code == 2
    assert re.search("did you mean (.*/)?gpt-4o-mini", refused.stderr)
    assert run(*command, "gpt-4o", *state).exit_code == 0, "the price list has it"


def test_rows_of_unpriced_calls_that_are_left_out_are_told(tmp_path: Path) -> None:
    state = ledger(tmp_path, *(_call("a", model=f"acme-{number}b") for number in range(1003)))
    shown = output("unpriced", *state)
    assert "The first 1,000 rows; 3 with fewer calls or as many are left out." in shown
    assert shown.count("unknown_model") >= 1000
    for form in ("--csv", "--json"):
        assert "3 with fewer calls or as many are left out." in run("unpriced", form, *state).stderr


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("length", [36, 64, 256])
def test_an_id_is_never_broken(length: int, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be copied from the terminal, however narrow that is; of a long one if that is asked for."""
    name = "0199c9a7-5b1e-7c3d-9f52-" + "a" * (length - 24)
    state = ledger(tmp_path, _call(name), _call("b", model="acme-7b"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    for command in (("sessions",), ("runs", "--all"), ("summary", "--by", "model"), ("session", name)):
        shown = re.sub(r"\x1b\[[0-9;]*m", "", output(*command, *(["--whole"] if length > 64 else []), *state))
        assert name in shown or command[0] == "summary"
        assert "$0.000210" in shown
    assert "1 unknown_model" in re.sub(r"\x1b\[[0-9;]*m", "", output("sessions", *state))


def _executed(session: str, path: str, number: int) -> bytes:
    span = _executing(session, number)
    span.start_time_unix_nano, span.end_time_unix_nano = JAN_30 + number * 10**9, JAN_30 + (number + 1) * 10**9
    span.span_id = f"{session}{path}{number}".encode().rjust(8, b"-")
    set_attributes(span, {"gen_ai.tool.call.id": f"{session} {path} {number}"})
    set_attributes(span, {"gen_ai.tool.call.arguments": f'{{"path": "{path}"}}'})
    return request(span)


def test_repeated_tool_calls_come_most_times_first_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    times = {("a", "x"): 2, ("b", "x"): 4, ("b", "y"): 3, ("c", "x"): 2}
    calls = [_executed(*one, number) for one, most in times.items() for number in range(most)]
    state = ledger(tmp_path, *calls, now_ns=time.time_ns())
    rows = answer("tools", *state)
    assert [row["times"] for row in rows] == [4, 3, 2, 2]
    assert [row["session"] for row in answer("tools", "--limit", "1", *state)] == ["b"]
    shown = output("tools", "--limit", "2", *state)
    assert "4 tool calls made again" in shown
    assert "2 more, made less often or as often, are left out: --limit N shows so many." in shown
    assert "left out" not in output("tools", *state)
    assert output("tools", "--csv", *state).splitlines()[1].startswith("b,read,")
    assert sorted(row["session"] for row in answer("tools", "--sort", "session", *state)) == ["a", "b", "b", "c"]
    assert "of this kind" in output("tools", "--since", "2026-02-01", *state)
    assert len(answer("tools", "--until", "2026-01-30", *state)) == 4
