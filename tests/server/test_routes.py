"""What the routes of the API take and answer, and that their documents say the same."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chats import COST, chat, request, set_attributes
from commands import KEY
from ledger_in_memory import NOW, TENANT
from spanledger_processor.accounting.account import enter
from spanledger_processor.config import load
from spanledger_processor.config.model import ApiSettings
from spanledger_processor.ledger import pages, tool_repeats
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.crossings import Crossing
from spanledger_processor.ledger.pages import MOST_ROWS
from spanledger_processor.ledger.store import Changes
from spanledger_processor.ledger.warning_rules import COST_RISE, FAILURE_RATE, UNPRICED_SHARE
from spanledger_processor.pricing import Pricer
from spanledger_processor.server import api_document
from spanledger_processor.server.forms import header, in_path, lines
from spanledger_processor.server.http_api import Api, Health
from spanledger_processor.server.routes import OTHERS, ROUTES, Route, answer_of, read_parameters, route_of
from spanledger_processor.server.shapes import Field, Shape
from spanledger_processor.server.wiring import make_stage
from spanledger_processor.signing.signer import Signer
from stores import WriterInMemory
from tools.programs import http_client

SESSION, RUN, MODEL = "gen_ai.conversation.id", "spanledger.run.id", "gen_ai.request.model"
JAN_30 = 1_769_774_400 * 10**9
"""2026-01-30 12:00 UTC."""
DAY_NS = 86_400 * 10**9


def _chat(start: int = JAN_30, **attributes: str) -> Span:
    span = chat(start_time_unix_nano=start, end_time_unix_nano=start + 10**9)
    set_attributes(span, {name.replace("__", "."): value for name, value in attributes.items() if value})
    return span


def _named(session: str, start: int = JAN_30, run: str = "", model: str = "", **more: str) -> Span:
    span = _chat(start)
    named = {SESSION: session, RUN: run, MODEL: model, **more}
    set_attributes(span, {name: value for name, value in named.items() if value})
    return span


WARNINGS_GIVEN = [
    Crossing("", TENANT, "b", "", 20, 5, 10, JAN_30, warning=FAILURE_RATE),
    Crossing("", TENANT, "", "2026-01-31", 5, 1, 20, JAN_30 + DAY_NS, warning=UNPRICED_SHARE),
    Crossing("", TENANT, "c", "", 0, 50, 10, JAN_30 + 2 * DAY_NS, warning=COST_RISE),
]


def ledger_of(*bodies: bytes) -> WriterInMemory:
    """Return a ledger that has no room for more than what the stage reads of these requests."""
    ledger = WriterInMemory(full_after=0)
    config = load(None, ("processor.tenant.keys=['header:x-tenant']",), {"HOME": "/nowhere"})
    stage = make_stage(config, Signer(KEY))
    for body in bodies:
        for tenant in ("", "acme") if body is bodies[0] else ("",):
            for batch in stage.read(body, {"x-tenant": tenant}, NOW).batches:
                with ledger.store.unit() as unit:
                    enter(batch, unit)
    with ledger.store.unit() as unit:
        unit.apply(Changes(create={one.key: one.pack() for one in WARNINGS_GIVEN}), NOW)
    return ledger


@asynccontextmanager
async def served(*bodies: bytes) -> AsyncIterator[httpx2.AsyncClient]:
    """The API over a ledger of these requests; the first stands in tenant acme as well."""
    health = Health(dict, lambda: True, phase="serving")
    api = Api(ApiSettings(endpoint="127.0.0.1:0"), health, bytes, ledger_of(*bodies), Pricer())
    await api.start()
    try:
        async with http_client(base_url=f"http://127.0.0.1:{api.ports['api']}") as client:
            yield client
    finally:
        await api.stop()


def several() -> bytes:
    """Sessions a (run r, two calls), b (one unpriced), c (spawned by b), none; with tasks, over three days."""
    spans = [
        _named("a", run="r"),
        _named("a", JAN_30 + DAY_NS, run="r"),
        _named("b", JAN_30 + 2 * DAY_NS, model="acme-7b"),
        _named(
            "c",
            JAN_30 + 10**10,
            **{"spanledger.session.parent_id": "b", "spanledger.task.id": "t", "spanledger.task.kind": "judge"},
        ),
        _chat(JAN_30 - DAY_NS),
    ]
    return request(*spans)


def _tool(session: str, arguments: str, start: int) -> Span:
    span = _chat(start)
    del span.attributes[:]
    named = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "read", SESSION: session}
    set_attributes(span, {**named, "gen_ai.tool.call.arguments": arguments})
    return span


def again(session: str = "a") -> list[bytes]:
    """Five executions of one call in a session, and one of another."""
    spans = [_tool(session, '{"path": "x"}', JAN_30 + number * 10**9) for number in range(5)]
    return [request(span) for span in (*spans, _tool(session, '{"path": "y"}', JAN_30 + 10**10))]


async def rows_of(client: httpx2.AsyncClient, path: str, **query: Any) -> list[dict[str, Any]]:
    """All rows of a list."""
    rows: list[dict[str, Any]] = []
    name = path.rpartition("/")[2]
    while True:
        answer = await client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        rows += answer.json()[name]
        if (cursor := answer.json()["next_cursor"]) is None:
            return rows
        query["cursor"] = cursor


async def test_a_budget_that_is_none_is_refused() -> None:
    """A hook with a slip in the name would never stop anything."""
    async with served(several()) as client:
        answer = await client.get("/api/v1/budgets?name=nope")
        assert (answer.status_code, answer.json()) == (
            400,
            {"error": "no budget 'nope'; there are none: processor.budgets is empty"},
        )


def test_budgets_are_chosen_by_their_period() -> None:
    """A page shows those of days and months however many sessions have used up theirs."""
    rules = BudgetRule("day", 1, "day"), BudgetRule("week", 1, "week"), BudgetRule("session", 1, "session")
    route = next(route for route in ROUTES if route.path == "/api/v1/budgets")
    shown = {}
    with ledger_of(several()).snapshot() as reader:
        for periods in ("", "day,week", "session,run"):
            values = read_parameters(route, [("period", periods)] if periods else [])
            answer = answer_of(route, reader, Pricer(), values, {}, budgets=rules)
            assert answer is not None
            shown[periods] = {row["budget"] for row in answer["budgets"]}
    assert shown == {"": {"day", "week", "session"}, "day,week": {"day", "week"}, "session,run": {"session"}}


async def test_warnings_are_filtered_and_come_in_pages() -> None:
    async with served(several()) as client:
        for limit in (1, 2, 100):
            rows = await rows_of(client, "/api/v1/warnings", limit=limit)
            assert [row["warning"] for row in rows] == ["cost_rise", "unpriced_share", "failure_rate"]
        for query, kept in (
            ({"warning": "failure_rate"}, ["b"]),
            ({"session": "c"}, ["c"]),
            ({"since": "2026-01-31"}, ["c", None]),
            ({"until": "2026-01-31"}, [None, "b"]),
            ({"since": "2026-01-31", "warning": "failure_rate"}, []),
        ):
            assert [row["session"] for row in await rows_of(client, "/api/v1/warnings", **query)] == kept
        assert (await client.get("/api/v1/warnings", params={"warning": "rise"})).status_code == 400
        table = (await client.get("/api/v1/warnings", params={"format": "csv"})).text
        assert [row["session"] for row in csv.DictReader(io.StringIO(table))] == ["c", "", "b"]


async def test_pages_are_followed_by_their_cursor() -> None:
    async with served(several()) as client:
        for limit in (1, 2, 100):
            assert [row["id"] for row in await rows_of(client, "/api/v1/sessions", limit=limit)] == ["b", "a", "c", ""]
            rows = await rows_of(client, "/api/v1/sessions", limit=limit, sort="cost")
            assert [row["id"] for row in rows] == ["a", "c", "b", ""]
        assert sum(Decimal(row["cost_usd_exact"]) for row in rows) == Decimal(
            (await client.get("/api/v1/summary")).json()["total"]["cost_usd_exact"]
        )


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("model=openai/gpt-4o-mini", ["a", "c"]),
        ("model=gpt-4o-mini", ["a", "c"]),
        ("model=gpt-4o", []),
        ("contains=a", ["a"]),
        ("unpriced=any", ["b"]),
        ("unpriced=unknown_model", ["b"]),
        ("unpriced=no_usage", []),
        ("since=2026-01-31", ["b", "a"]),
        ("until=2026-01-30", ["c"]),
        ("since=2026-01-31&until=2026-01-31", ["a"]),
        ("parent=b", ["c"]),
        ("closed=true", []),
        ("closed=false", ["b", "a", "c"]),
        ("tenant=acme&contains=b", ["b"]),
    ],
)
async def test_filters(query: str, ids: list[str]) -> None:
    async with served(several()) as client:
        answer = await client.get(f"/api/v1/sessions?{query}")
        assert [row["id"] for row in answer.json()["sessions"]] == ids


async def test_runs_are_those_that_are_named_or_have_several_sessions() -> None:
    async with served(several(), request(_named("alone", JAN_30))) as client:
        assert [row["id"] for row in await rows_of(client, "/api/v1/runs")] == ["r", "b", ""]
        every = await rows_of(client, "/api/v1/runs", all="true", limit=1)
        assert sorted(row["id"] for row in every) == ["", "alone", "b", "r"]
        by_cost = await rows_of(client, "/api/v1/runs", sort="cost", limit=1)
        assert [row["id"] for row in by_cost] == ["r", "b", ""]


async def test_a_page_of_runs_by_cost_says_which_were_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(several()) as client:
        whole = (await client.get("/api/v1/runs?sort=cost")).json()
        monkeypatch.setattr(pages, "_COMPARED", 1)
        first = (await client.get("/api/v1/runs?sort=cost")).json()
    assert (whole["compared_since"], whole["next_cursor"]) == (None, None)
    assert first["compared_since"] is not None
    assert first["next_cursor"] is not None
    described = api_document.openapi()["paths"]["/api/v1/runs"]["get"]["responses"]["200"]["content"]
    assert first.keys() == described["application/json"]["schema"]["properties"].keys()


async def test_fields_are_picked() -> None:
    async with served(several()) as client:
        answer = (await client.get("/api/v1/sessions?fields=id,cost_usd&limit=1")).json()
        assert answer["sessions"][0].keys() == {"id", "cost_usd"}
        assert (await client.get("/api/v1/summary?fields=models")).json().keys() == {"models"}
        refused = await client.get("/api/v1/sessions?fields=id,costs")
        assert (refused.status_code, "'costs'" in refused.json()["error"]) == (400, True)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
async def test_an_unknown_parameter_is_named(route: Route) -> None:
    async with served(several()) as client:
        path = _path(route, {"id": "a"})
        refused = await client.get(f"{path}?limt=1")
        assert refused.status_code == 400
        assert "limt" in refused.json()["error"]
        twice = await client.get(f"{path}?tenant=&tenant=acme")
        assert (twice.status_code, "tenant" in twice.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=%D9%A1", "limit"),
        ("cursor=x", "cursor"),
        ("sort=price", "sort"),
        ("since=January", "since"),
        ("until=2026-02-30", "until"),
        ("closed=yes", "closed"),
        ("format=xml", "format"),
        (f"contains={'x' * 5000}", "contains"),
    ],
)
async def test_a_value_that_cannot_be_read_is_named(query: str, named: str) -> None:
    async with served(several()) as client:
        refused = await client.get(f"/api/v1/sessions?{query}")
        assert refused.status_code == 400
        assert named in refused.json()["error"]


OF_SENDERS = {"contains", "kind", "parent", "session", "task", "value"}
"""Parameters whose values come from whoever sends spans: one that is not here yet is an empty answer."""


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
async def test_no_parameter_takes_a_value_that_nothing_is_known_by(route: Route) -> None:
    """Of every route: a slip is an error that says what is known, never an empty answer."""
    for parameter in route.known:
        if parameter.name in OF_SENDERS or (parameter.name, route.path) == ("provider", "/api/v1/prices/{model}"):
            continue
        ids = {"id": "a", "name": "agent", "model": "gpt-4o", "trace_id": "00" * 16, "span_id": "00" * 8}
        async with served(several()) as client:
            for value in ("no-such-thing", ","):
                refused = await client.get(_path(route, ids), params={parameter.name: value})
                assert refused.status_code == (404 if parameter.name == "tenant" else 400), (parameter.name, value)
                problem = refused.json()["error"]
                named = {"name": "no budget", "dimension": "name:value", "cursor": "not a cursor"}
                assert named.get(parameter.name, parameter.name) in problem, problem


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("sessions?model=acme-7c", "did you mean acme-7b?"),
        ("runs?model=openai/acme-7c", "did you mean openai/acme-7b?"),
        ("runs?model=openai/gpt-4o-mni", "did you mean openai/gpt-4o-mini"),
        (
            "candidates/a?models=anthropic/claude-haiku-4-5,anthropic/claude-hiku-4-5",
            "did you mean anthropic/claude-haiku-4-5",
        ),
        ("sessions?unpriced=unknown", "unknown_model"),
        ("events?tennant=acme", "Known here: tenant"),
    ],
)
async def test_names_that_nothing_is_known_by_are_errors_that_say_what_was_meant(path: str, said: str) -> None:
    async with served(request(_named("a", time.time_ns(), model="acme-7b"))) as client:
        refused = await client.get(f"/api/v1/{path}")
        assert refused.status_code == 400
        assert said in refused.json()["error"]


async def test_a_model_of_the_ledger_may_be_asked_for_behind_any_spelling_of_its_provider() -> None:
    """One without a price has cost nothing that is known: no session spent on it, and it is no slip."""
    async with served(request(_named("a", time.time_ns(), model="acme-7b"))) as client:
        for model in ("acme-7b", "openai/acme-7b", "openai.chat/acme-7b", "OpenAI/acme-7b"):
            answer = await client.get("/api/v1/sessions", params={"model": model})
            assert (answer.status_code, answer.json()["sessions"]) == (200, [])


async def test_a_model_of_the_price_list_that_nothing_was_spent_on_is_an_empty_list() -> None:
    async with served(several()) as client:
        for model in ("gpt-4o", "anthropic/claude-haiku-4-5", "tool:search"):
            answer = await client.get("/api/v1/sessions", params={"model": model})
            assert (answer.status_code, answer.json()["sessions"]) == (200, [])


@pytest.mark.parametrize("route", [route for route in ROUTES if any(one.name == "limit" for one in route.known)])
async def test_only_where_there_is_another_format_an_error_recommends_it(route: Route) -> None:
    """A limit of rows has a way round in lists that can be had whole, and in no other answer."""
    async with served(several()) as client:
        refused = await client.get(f"{_path(route, {'id': 'a'})}?limit=0")
        assert ("format=ndjson" in refused.json()["error"]) == bool(route.rows)


async def test_a_tenant_that_is_not_there_is_an_error() -> None:
    async with served(several()) as client:
        for path in ("summary", "sessions", "sessions/a", "runs", "tasks", "unpriced"):
            answer = await client.get(f"/api/v1/{path}?tenant=acne")
            assert (answer.status_code, "'acne'" in answer.json()["error"]) == (404, True)
            assert (await client.get(f"/api/v1/{path}?tenant=acme")).status_code == 200


async def test_the_summary_of_days() -> None:
    async with served(several()) as client:
        whole = (await client.get("/api/v1/summary?by=model,day,day_model")).json()
        assert [row["day"] for row in whole["days"]] == ["2026-01-29", "2026-01-30", "2026-01-31", "2026-02-01"]
        for rows in (whole["models"], whole["days"], whole["days_by_model"]):
            assert sum(Decimal(row["cost_usd_exact"]) for row in rows) == Decimal(whole["total"]["cost_usd_exact"])
        some = (await client.get("/api/v1/summary?since=2026-01-30&until=2026-01-31")).json()
        assert (some["since"], some["until"]) == ("2026-01-30", "2026-01-31")
        assert some["total"]["cost_usd"] == pytest.approx(3 * COST)
        cut = (await client.get("/api/v1/summary?by=day,model&limit=1")).json()
        assert [(row["day"], row.get("other", False)) for row in cut["days"]] == [("2026-02-01", False), (None, True)]
        assert [row.get("other", False) for row in cut["models"]] == [False, True]
        for rows in (cut["models"], cut["days"]):
            assert sum(row["calls"] for row in rows) == whole["total"]["calls"]


async def test_the_summary_of_a_value_of_a_dimension() -> None:
    """By model with all of it where the value is a model or a provider, else with the cost alone."""
    calls = [_named(one, JAN_30 + day * DAY_NS, **{"user.id": user}) for one, day, user in USERS]
    lost = _named("c", JAN_30, model="acme-7b", **{"user.id": "ann"})
    async with served(request(*calls, lost)) as client:

        async def ask(path: str, **given: str) -> dict[str, Any]:
            answer = await client.get(f"/api/v1/{path}", params=given)
            assert answer.status_code == 200, answer.text
            return answer.json()  # type: ignore[no-any-return]

        whole = await ask("summary", dimension="user:ann", by="model,day,day_model")
        assert (whole["dimension"], whole["value"], whole["not_distinguished"]["calls"]) == ("user", "ann", 0)
        assert (whole["total"]["calls"], whole["total"]["cost_usd"]) == (3, pytest.approx(2 * COST))
        assert whole["total"]["unpriced"] == {"unknown_model": 1}
        assert [(row["model"], "calls" in row) for row in whole["models"]] == [("openai/gpt-4o-mini", False)]
        assert [row["cost_usd"] for row in whole["days_by_model"]] == [COST, COST]
        assert [row["calls"] for row in whole["days"]] == [2, 1]
        some = await ask("summary", dimension="user:ann", since="2026-01-31")
        assert some["total"]["calls"] == 1
        model = await ask("summary", dimension="provider:openai")
        assert (model["models"][0]["provider"], model["models"][0]["calls"]) == ("openai", 3)
        (row,) = (await ask("unpriced", dimension="user:ann"))["unpriced"]
        assert (row["model"], row["reason"], row["calls"]) == (None, "unknown_model", 1)
        assert row["meaning"]
        (row,) = (await ask("unpriced", dimension="model:acme-7b"))["unpriced"]
        assert (row["model"], row["calls"]) == ("acme-7b", 1)
        for path in ("summary", "unpriced"):
            assert (await client.get(f"/api/v1/{path}?dimension=teem:red")).status_code == 400
        refused = await client.get("/api/v1/summary?dimension=user:ann&by=tool")
        assert (refused.status_code, "by" in refused.json()["error"]) == (400, True)


USERS = (("a", 0, "ann"), ("b", 1, "ann"), ("b", 0, "bob"))


@pytest.mark.parametrize("sort", ["last", "cost"])
async def test_runs_of_which_a_session_has_a_value(sort: str) -> None:
    """Of the sessions that it names, or that were spawned, any."""
    calls = [_named(one, JAN_30, run="r", **{"user.id": user}) for one, user in (("a", "ann"), ("b", "bob"))]
    spawned = _named("d", JAN_30, **{"user.id": "ann", "spanledger.session.parent_id": "c"})
    async with served(request(*calls, _named("c", JAN_30, **{"user.id": "bob"}), spawned, _named("e"))) as client:
        for of, runs in (("user:ann", {"r", "c"}), ("user:bob", {"r", "c"}), ("model:gpt-4o-mini", {"r", "c", "e"})):
            given = {"dimension": of, "sort": sort, "all": "true"}
            answer = await client.get("/api/v1/runs", params=given)
            assert {row["id"] for row in answer.json()["runs"]} == runs
        assert (await rows_of(client, "/api/v1/runs", dimension="user:nobody")) == []


async def test_unpriced_calls_say_why() -> None:
    async with served(several()) as client:
        answer = (await client.get("/api/v1/unpriced")).json()
        (row,) = answer["unpriced"]
        assert (answer["calls"], row["model"], row["reason"], row["calls"]) == (1, "acme-7b", "unknown_model", 1)
        assert row["meaning"]
        cut = (await client.get("/api/v1/unpriced?since=2020-01-01&limit=1")).json()
        assert (len(cut["unpriced"]), cut["left_out"]) == (1, 0)


async def test_rows_of_unpriced_calls_beyond_the_limit_are_told() -> None:
    calls = [request(_named("a", JAN_30 + number, model=f"acme-{number}b")) for number in range(3)]
    async with served(*calls) as client:
        answer = (await client.get("/api/v1/unpriced?limit=2")).json()
        assert (answer["calls"], len(answer["unpriced"]), answer["left_out"]) == (3, 2, 1)


async def test_prices_tasks_and_tenants() -> None:
    async with served(several()) as client:
        price = (await client.get("/api/v1/prices/openai/gpt-4o-mini?at=2026-01-30")).json()
        rates = {rate["class"]: rate["usd"] for rate in price["tiers"][0]["rates"]}
        assert (rates["input"], rates["output"]) == (0.15, 0.6)
        assert (await client.get("/api/v1/prices/acme-7b")).json()["unpriced"]
        (task,) = await rows_of(client, "/api/v1/tasks")
        assert (task["session"], task["task"], task["kind"], task["calls"]) == ("c", "t", "judge", 1)
        assert await rows_of(client, "/api/v1/tasks", session="a") == []
        assert len(await rows_of(client, "/api/v1/tasks", session="c", kind="judge")) == 1
        tenants = (await client.get("/api/v1/tenants")).json()["tenants"]
        assert [(row["tenant"], row["calls"]) for row in tenants] == [("", 5), ("acme", 5)]


async def test_tool_calls_that_were_made_again() -> None:
    async with served(several(), *again("a"), *again("b")[:2]) as client:
        rows = {row["session"]: row for row in await rows_of(client, "/api/v1/tools", limit=1)}
        assert {name: (row["tool"], row["times"], row["in_a_row"]) for name, row in rows.items()} == {
            "a": ("read", 5, 5),
            "b": ("read", 2, 2),
        }
        assert [row["session"] for row in await rows_of(client, "/api/v1/tools", loop="true")] == ["a"]
        assert [row["session"] for row in await rows_of(client, "/api/v1/tools", session="b")] == ["b"]
        assert rows["a"]["signature"].startswith("h1:")


def _called(session: str, path: str, times: int, start: int = JAN_30) -> list[bytes]:
    return [request(_tool(session, json.dumps({"path": path}), start + n * 10**9)) for n in range(times)]


async def test_repeated_tool_calls_come_most_times_first_and_of_some_days() -> None:
    calls = [
        *_called("a", "x", 2),
        *_called("b", "x", 4),
        *_called("b", "y", 3, JAN_30 + DAY_NS),
        *_called("c", "x", 3),
    ]
    expected = [("b", 4), ("b", 3), ("c", 3), ("a", 2)]
    async with served(*calls) as client:
        for limit in (1, 2, 100):
            rows = await rows_of(client, "/api/v1/tools", limit=limit)
            assert [(row["session"], row["times"]) for row in rows] == expected, "of as many in a row the latest"
        of_day = await rows_of(client, "/api/v1/tools", since="2026-01-31", until="2026-01-31")
        assert [(row["session"], row["times"]) for row in of_day] == [("b", 3)]
        by_session = [row["session"] for row in await rows_of(client, "/api/v1/tools", sort="session", limit=1)]
        assert sorted(by_session) == ["a", "b", "b", "c"]
        assert abs(by_session.index("b") - (3 - by_session[::-1].index("b"))) == 1, "together"
        first = (await client.get("/api/v1/tools?limit=1")).json()
        assert (first["all_compared"], first["tools"][0]["times"]) == (True, 4)
        other = await client.get("/api/v1/tools", params={"sort": "session", "cursor": first["next_cursor"]})
        assert other.status_code == 400


async def test_repeated_tool_calls_are_compared_in_slices_and_each_is_listed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = [one for n in range(12) for one in _called(f"s{n}", "x", 2 + n % 3)]
    async with served(*calls) as client:
        whole = await rows_of(client, "/api/v1/tools")
        monkeypatch.setattr(tool_repeats, "_COMPARED", 10)
        for limit in (1, 3, 100):
            rows = await rows_of(client, "/api/v1/tools", limit=limit)
            assert sorted(row["session"] for row in rows) == sorted(row["session"] for row in whole)
            assert len(rows) == 12
        assert (await client.get("/api/v1/tools")).json()["all_compared"] is False


async def test_a_span_is_explained_from_the_ledger() -> None:
    """Of two reports alike that with the greater id counts (docs/counting.md)."""
    repeated, one = sorted([_named("a"), _named("a")], key=attrgetter("span_id"))
    set_attributes(one, {"gen_ai.response.id": "r1"})
    set_attributes(repeated, {"gen_ai.response.id": "r1"})
    async with served(request(one), request(repeated), several()) as client:
        first, again = [
            (await client.get(f"/api/v1/spans/{span.trace_id.hex()}/{span.span_id.hex()}")).json()
            for span in (one, repeated)
        ]
        assert (first["role"], first["counts_now"], first["cost"]["cost_usd"]) == ("counted", True, COST)
        assert (again["role"], again["counts_now"], again["duplicate_of"]) == ("duplicate", False, one.span_id.hex())
        assert "share a response or call id" in again["why"]
        assert "counts for the same call" in again["why"]
        for unknown in ("00" * 16 + "/" + "00" * 8, "zz/zz", f"{one.trace_id.hex()}/{'00' * 8}"):
            assert (await client.get(f"/api/v1/spans/{unknown}")).status_code == 404


async def test_a_span_that_counts_and_came_behind_one_alike_says_which_was_sent_with_the_cost() -> None:
    first, counted = sorted([_named("a"), _named("a")], key=attrgetter("span_id"))
    for span in (first, counted):
        set_attributes(span, {"gen_ai.response.id": "r1"})
    async with served(request(first), request(counted)) as client:
        was_first, is_counted = [
            (await client.get(f"/api/v1/spans/{span.trace_id.hex()}/{span.span_id.hex()}")).json()
            for span in (first, counted)
        ]
    assert (was_first["role"], was_first["counts_now"], was_first["cost"]["cost_usd"]) == ("counted", False, COST)
    assert (is_counted["role"], is_counted["counts_now"], is_counted["cost"]) == ("duplicate", True, None)
    assert is_counted["why"].startswith(f"span {first.span_id.hex()} was sent with the cost of the same call")


async def test_everything_streams_as_lines_and_as_csv() -> None:
    spans = [_named(f"s{number}", JAN_30 + number * 10**10) for number in range(1100)]
    async with served(*(request(*spans[first : first + 100]) for first in range(0, 1100, 100))) as client:
        lines = await client.get("/api/v1/sessions?format=ndjson&fields=id,calls")
        assert lines.headers["content-type"] == "application/x-ndjson"
        rows = [json.loads(line) for line in lines.text.splitlines()]
        assert [row["id"] for row in rows] == [f"s{number}" for number in reversed(range(1100))]
        table = await client.get("/api/v1/sessions?format=csv&limit=10")
        found = list(csv.DictReader(io.StringIO(table.text)))
        assert [row["id"] for row in found] == [row["id"] for row in rows]
        assert sum(int(row["tokens.input"]) for row in found) == 1100 * 1000
        assert len((await client.get(f"/api/v1/sessions?limit={MOST_ROWS}")).json()["sessions"]) == MOST_ROWS


@pytest.mark.parametrize("fields", ["cost_usd", "unpriced,cost_usd", "cost_usd,unpriced,calls"])
async def test_a_streamed_cost_is_unknown_whatever_other_fields_are_asked_for(fields: str) -> None:
    """Whether a call has a price is in other fields than its cost."""
    async with served(request(_named("a", JAN_30, model="acme-7b"))) as client:
        answer = await client.get("/api/v1/sessions", params={"format": "csv", "fields": fields})
        (row,) = csv.DictReader(io.StringIO(answer.text))
        assert (list(row), row["cost_usd"]) == (fields.split(","), "unknown")


@pytest.mark.parametrize("route", [route for route in ROUTES if route.table], ids=lambda route: route.path)
async def test_what_is_no_list_in_pages_is_given_as_csv_with_a_head(route: Route) -> None:
    """With all rows, whatever `limit` says."""
    calls = [request(_named("a", JAN_30 + n, model=f"acme-{n}b", run="r")) for n in range(3)]
    async with served(several(), *calls) as client:
        path = _path(route, {"id": "r" if "runs" in route.path else "a", "name": "model"})
        limit = {"limit": 1} if any(one.name == "limit" for one in route.known) else {}
        whole = (await client.get(path, params={"limit": 1000} if limit else {})).json()
        answer = await client.get(path, params={"format": "csv", **limit})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        rows = [*csv.DictReader(io.StringIO(answer.text))]
        assert len(rows) == (1 if route.table == "." else len(whole[route.table]))
        assert answer.text.splitlines()[0].split(",") == header(route.row_shape)
        assert all(None not in row and None not in row.values() for row in rows), "as many cells as the head has"
        assert not any("{'" in cell or "['" in cell for row in rows for cell in row.values()), "no list of Python's"
        (name,) = [*route.row_shape][:1]
        chosen = await client.get(path, params={"format": "csv", "fields": name})
        assert chosen.text.splitlines()[0] == name
        assert (await client.get(path, params={"format": "csv", "fields": "left_out"})).status_code == 400
    assert any(one.table == "budgets" for one in ROUTES)


async def test_ids_are_text_and_nothing_else() -> None:
    odd = '=HYPERLINK("x")\u202e\u2028\u0085'
    async with served(request(_named(odd))) as client:
        answer = await client.get("/api/v1/sessions")
        assert answer.json()["sessions"][0]["id"] == odd
        assert "\u202e" not in answer.text
        assert "\u2028" not in answer.text
        assert "\u0085" not in answer.text
        table = (await client.get("/api/v1/sessions?format=csv")).text
        assert next(csv.DictReader(io.StringIO(table, newline="")))["id"].startswith("'=")


def test_what_is_inside_a_cell_of_csv_has_its_name() -> None:
    """A day with its cost, a figure within figures: no form of Python's, and nothing that looks like a formula."""
    speed = {"duration_s": {"calls": 3, "p50": 1.5}, "first_token_s": None}
    row = {"days": [{"day": "2026-11-30", "cost_usd": 0.5, "cost_usd_exact": "0.5"}], "speed": speed}
    (read,) = csv.DictReader(io.StringIO("days,speed\r\n" + lines(["days", "speed"], [row])))
    assert read == {"days": "2026-11-30=0.5", "speed": "duration_s.calls=3; duration_s.p50=1.5"}


def test_an_item_of_a_cell_of_csv_is_named_with_its_cost_or_its_values() -> None:
    """What a model without a price cost is unknown, not nothing and not 0."""
    row = {
        "models": [{"model": "a", "cost_usd_exact": "0.5", "calls": 1}, {"model": "b", "calls": 2}],
        "context": [{"at": "2026-01-31", "input_tokens": 5}],
        "dimensions": {"team": ["red", "blue"]},
        "passed": [50, 80],
    }
    assert lines([*row], [row]) == 'a=0.5; b=unknown,"at=2026-01-31, input_tokens=5","team=red, blue",50; 80\r\n'


@pytest.mark.parametrize(
    ("row", "cost"),
    [
        ({"calls": 2, "unpriced": {"unknown_model": 2}, "cost_usd": 0.0, "cost_usd_exact": "0"}, "unknown"),
        ({"calls": 3, "unpriced": {"unknown_model": 2}, "cost_usd": 0.5, "cost_usd_exact": "0.5"}, "0.5"),
        ({"calls": 1, "unpriced": {"no_usage": 1}, "cost_usd": 0.01, "cost_usd_exact": "0.01"}, "0.01"),
        ({"calls": 1, "unpriced": {}, "cost_usd": 0.0, "cost_usd_exact": "0"}, "0"),
    ],
    ids=["no call has a price", "some have", "a tool has", "free"],
)
def test_what_calls_without_a_price_cost_is_unknown_in_csv_never_0(row: dict[str, Any], cost: str) -> None:
    assert lines(["cost_usd_exact"], [row]) == f"{cost}\r\n"
    assert lines(["models"], [{"models": [{"model": "a", **row}]}]) == f"a={cost}\r\n"


async def test_numbers_stay_numbers_in_csv() -> None:
    """Amounts below nothing among them; what is no number and begins as a formula is text."""
    texts = ["-0.000021", "+5", "12", "-5-1", "+1 555", "@SUM(A1)", "\t=1", "\r=1", "-"]
    column = [
        row["id"] for row in csv.DictReader(io.StringIO("id\r\n" + lines(["id"], [{"id": one} for one in texts])))
    ]
    assert column[:3] == texts[:3]
    assert all(one.startswith("'") for one in column[3:])


@pytest.mark.parametrize("odd", [".", "..", "...", "%2e%2e", "../x", "a/.."])
async def test_an_id_that_a_client_takes_for_a_folder_can_be_asked_for(odd: str) -> None:
    async with served(request(_named(odd), _named("another"))) as client:
        assert (await client.get(f"/api/v1/sessions/{in_path(odd)}")).json()["id"] == odd
        assert (await client.get(f"/api/v1/timeline/{in_path(odd)}")).json()["spans"]


def _path(route: Route, ids: Mapping[str, str]) -> str:
    path = route.path
    for name in route.ids:
        path = path.replace(f"{{{name}}}", ids.get(name, "x"))
    return path


def _problems(shape: Shape, value: Any, where: str) -> Iterator[str]:
    for name in value.keys() - shape.keys():
        yield f"{where}.{name} is in no shape"
    for name, field in shape.items():
        if name not in value:
            if not field.optional:
                yield f"{where}.{name} is missing"
        else:
            yield from _field_problems(field, value[name], f"{where}.{name}")


def _field_problems(field: Field, value: Any, where: str) -> Iterator[str]:
    kinds: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "object": dict,
        "array": list,
    }
    if value is None:
        if not field.null:
            yield f"{where} is null"
        return
    if not isinstance(value, kinds[field.type]):
        yield f"{where} is a {type(value).__name__}, no {field.type}"
    elif field.rows is not None:
        for item in value if field.type == "array" else [value]:
            yield from _problems(field.rows, item, where)


async def test_answers_are_as_they_are_described() -> None:
    """Every route, on a ledger that has something for each."""
    span = _named("a", JAN_30, **{"user.id": "ann"})
    paths = {
        "/api/v1/spans/{trace_id}/{span_id}": f"/api/v1/spans/{span.trace_id.hex()}/{span.span_id.hex()}",
        "/api/v1/prices/{model}": "/api/v1/prices/gpt-4o-mini",
        "/api/v1/dimensions/{name}": "/api/v1/dimensions/model?since=2026-01-01",
        "/api/v1/summary": "/api/v1/summary?by=model,day,day_model,tool&since=2026-01-01",
        "/api/v1/sessions/{id}": "/api/v1/sessions/c",
        "/api/v1/candidates/{id}": "/api/v1/candidates/c",
        "/api/v1/timeline/{id}": "/api/v1/timeline/c",
    }
    of_value = [path + "?dimension=user:ann" for path in ("/api/v1/summary", "/api/v1/unpriced")]
    async with served(several(), request(span), *again()) as client:
        for path in of_value:
            body = (await client.get(path + "&since=2026-01-01")).json()
            assert [*_problems(route_of(path.partition("?")[0]).shape, body, path)] == []
        for route in ROUTES:
            answer = await client.get(paths.get(route.path, _path(route, {"id": "r"})))
            assert answer.status_code == 200, f"{route.path}: {answer.text}"
            body = answer.json()
            values = body[route.rows] if route.rows else [body]
            assert values, route.path
            assert [problem for value in values for problem in _problems(route.shape, value, route.path)] == []


async def test_the_documents_agree_with_the_code() -> None:
    document = json.loads(json.dumps(api_document.openapi()))
    assert document["openapi"].startswith("3.1")
    health = Health(dict, lambda: True)
    api = Api(ApiSettings(endpoint="127.0.0.1:0"), health, bytes, ledger_of(), Pricer())
    app: Any = api._listeners["api"]._server.config.app
    served_paths = {route.path.replace(":id}", "}") for route in app._app.routes}
    assert served_paths == set(document["paths"]) == {*(route.path for route in ROUTES), *OTHERS}
    for route in ROUTES:
        described = document["paths"][route.path]["get"]["parameters"]
        assert [one["name"] for one in described] == [*route.ids, *(one.name for one in route.known)]
    async with served() as client:
        assert (await client.get("/api/v1/openapi.json")).json() == document


def test_the_page_is_made_of_the_code() -> None:
    page = Path(__file__).parents[2] / "docs" / "http-api.md"
    assert page.read_text() == api_document.page(), "make docs"


async def test_a_timeline_has_the_spans_of_a_session_and_of_no_other() -> None:
    more = request(_named("a", JAN_30 + 10**10, model="acme-7b"), _tool("a", "{}", JAN_30 + 2 * 10**10))
    spans = [_named("a"), _named("b"), _named("a", JAN_30 + 10**9)]
    spans[2].trace_id = spans[1].trace_id
    async with served(request(*spans), more) as client:
        found = (await client.get("/api/v1/timeline/a")).json()
        named = [(row["span_id"], row["trace_id"]) for row in found["spans"]]
        assert named[:2] == [(span.span_id.hex(), span.trace_id.hex()) for span in (spans[0], spans[2])]
        assert [row.get("cost_usd") for row in found["spans"]] == [COST, COST, None, None]
        assert [row["unpriced"] for row in found["spans"]] == [None, None, "unknown_model", None]
        assert found["spans"][3]["kind"] == "tool", "also in a trace without calls"
        assert found["complete"]
        cut = (await client.get("/api/v1/timeline/a?limit=1")).json()
        assert [row in found["spans"] for row in cut["spans"]] == [True]
        assert not cut["complete"]


async def test_a_run_has_its_sessions_with_who_spawned_whom() -> None:
    spans = [
        _named("a", run="r"),
        _named("b", JAN_30, **{"spanledger.session.parent_id": "a"}),
        _named("c", run="other"),
    ]
    async with served(request(*spans)) as client:
        run = (await client.get("/api/v1/runs/r")).json()
        assert [(row["id"], row.get("parent_id")) for row in run["sessions"]] == [("a", None), ("b", "a")]
        assert run["sessions_left_out"] == 0
        assert run["cost_usd"] == sum(row["cost_usd"] for row in run["sessions"])


async def test_sessions_of_a_value_of_a_dimension() -> None:
    spans = [_named("a", JAN_30, **{"user.id": "ann"}), _named("b", JAN_30, **{"user.id": "bob:1"}), _named("c")]
    async with served(request(*spans)) as client:
        for value, ids in (("user:ann", ["a"]), ("user:bob:1", ["b"]), ("user:nobody", [])):
            rows = (await client.get("/api/v1/sessions", params={"dimension": value})).json()["sessions"]
            assert [row["id"] for row in rows] == ids
        assert (await client.get("/api/v1/sessions?dimension=ann")).status_code == 400


async def test_sessions_of_an_agent_a_model_or_a_provider() -> None:
    """Whatever a list by dimension shows leads to the sessions of it."""
    spans = [_named("a", JAN_30, **{"gen_ai.agent.name": "lead"}), _named("b", JAN_30)]
    set_attributes(spans[1], {"gen_ai.request.model": "claude-haiku-4-5", "gen_ai.provider.name": "anthropic"})
    async with served(request(*spans)) as client:
        for name in ("agent", "model", "provider"):
            values = (await client.get(f"/api/v1/dimensions/{name}")).json()["values"]
            assert len(values) == 2, name
            for row in (row for row in values if row["value"]):
                asked = {"dimension": f"{name}:{row['value']}"}
                listed = (await client.get("/api/v1/sessions", params=asked)).json()["sessions"]
                assert sum(one["calls"] for one in listed) == row["calls"] == 1
                if name == "model":
                    by_model = await client.get("/api/v1/sessions", params={"model": row["value"]})
                    assert by_model.json()["sessions"] == listed
        assert (await client.get("/api/v1/sessions?dimension=agent:nobody")).json()["sessions"] == []
        for asked in ({"dimension": "provider:Claude"}, {"model": "anthropic.messages/claude-haiku-4-5"}):
            listed = (await client.get("/api/v1/sessions", params=asked)).json()["sessions"]
            assert [one["id"] for one in listed] == ["b"], "a provider may be written as libraries spell it"


async def test_an_unknown_dimension_is_a_mistake_that_names_the_known_ones() -> None:
    async with served(request(_named("a", JAN_30, **{"user.id": "ann"}))) as client:
        for path in ("/api/v1/dimensions/teem", "/api/v1/sessions?dimension=teem:red"):
            answer = await client.get(path)
            assert answer.status_code == 400, path
            assert answer.json()["error"].startswith("no dimension 'teem'; there are agent, model, provider")
        assert (await client.get("/api/v1/dimensions/user")).status_code == 200, (
            "a ledger may have more than configured"
        )
