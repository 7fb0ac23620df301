"""The page, filtered by one value of a dimension: figures are the value's, and a view that has others says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from backend import Backend
from chats import COST, chat, request, set_attributes
from page_tabs import open_view, ready, tab, url_of
from served import Served
from tools.programs import wait_for_one_day

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

RED = "dimension=team%3Ared"
CALLS = (
    ("red", "gpt-4o-mini", 1),
    ("red", "gpt-4o-mini", 2),
    ("red", "of-nobody", 2),
    ("blue", "gpt-4o-mini", 3),
    ("", "gpt-4o-mini", 4),
)
"""Teams, models and sessions."""


@pytest.fixture(scope="module")
def served(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With calls of two teams and of none, all of today until the module ends."""
    wait_for_one_day(300)
    budgets = [
        {"name": "of each team", "amount": 2 * COST, "period": "month", "dimension": "team"},
        {"name": "of all", "amount": 1, "period": "month"},
        {"name": "of each seller", "amount": 1, "period": "month", "dimension": "provider"},
        {"name": "of a session", "amount": COST / 2, "period": "session"},
    ]
    more = {"processor": {"dimensions": {"team": ["app.team"]}, "budgets": budgets}}
    with Served(tmp_path_factory.mktemp("served"), backend.port, more) as served:
        for team, model, session in CALLS:
            span = chat()
            named = {"app.team": team, "gen_ai.request.model": model, "gen_ai.conversation.id": f"session {session}"}
            set_attributes(span, {name: value for name, value in named.items() if value})
            served.export(request(span))
        yield served


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    with tab(browser, served, viewport={"width": 1300, "height": 900}) as page:
        yield page


def test_what_was_spent_is_that_of_the_value(page: Page, served: Served) -> None:
    """Its budgets, days, models and sessions; nothing that is not of it."""
    open_view(page, served, f"?{RED}")
    expect(page.locator("main h2").first).to_have_text("Spent, team red")
    for title in ("today", "everything"):
        tile = page.locator(".tile", has_text=title)
        expect(tile).to_contain_text(f"${2 * COST:.6f} + unknown")
        expect(tile).to_contain_text("3 calls")
        expect(tile).to_contain_text("1 without a price")
    expect(page.locator(".tile", has_text="this month")).to_contain_text("100 %")
    budget = page.get_by_role("region", name="Budgets", exact=True).locator("tbody tr")
    expect(budget).to_have_count(1)
    expect(budget).to_contain_text("team red")
    expect(page.locator("main")).not_to_contain_text("Budgets of sessions and runs")
    by_model = page.get_by_role("region", name="By model").locator("tbody tr")
    expect(by_model).to_have_text([re.compile(rf"openai/gpt-4o-mini\${2 * COST:.6f}")])
    expect(page.locator("main")).to_contain_text("the cost alone is kept by model")
    dearest = page.get_by_role("region", name="The dearest sessions").locator("tbody tr")
    expect(dearest).to_have_count(2)
    expect(dearest.filter(has_text="session 3")).to_have_count(0)
    expect(page.locator("main")).to_contain_text("With all that each session spent")
    page.get_by_role("link", name="All sessions by cost").click()
    expect(page.locator("main h2").first).to_have_text("Sessions, team red")
    expect(page.get_by_role("region", name="Sessions").locator("tbody tr")).to_have_count(2)


def test_the_budget_of_a_provider_is_found_under_another_spelling(page: Page, served: Served) -> None:
    open_view(page, served, "?dimension=provider%3Aopenai.chat")
    expect(page.get_by_role("region", name="Budgets", exact=True).locator("tbody tr")).to_contain_text(["openai"])


def test_of_a_model_all_is_known(page: Page, served: Served) -> None:
    open_view(page, served, "?dimension=model%3Agpt-4o-mini")
    expect(page.locator(".tile", has_text="everything")).to_contain_text("4 calls")
    row = page.get_by_role("region", name="By model").locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("4,000")  # tokens
    open_view(page, served, "speed?dimension=model%3Agpt-4o-mini")
    expect(page.locator("main h2").first).to_have_text(re.compile("Speed by model, model gpt-4o-mini, the last"))
    expect(page.get_by_role("region", name="Speed by model").locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("note")).to_have_count(0)


def test_calls_without_a_price_are_those_of_the_value(page: Page, served: Served) -> None:
    open_view(page, served, f"unpriced?{RED}")
    expect(page.locator("main h2").first).to_have_text("1 call without a price, team red")
    row = page.get_by_role("region", name="Calls without a price").locator("tbody tr")
    expect(row).to_contain_text("unknown_model")
    row.get_by_role("link", name="sessions").click()
    expect(page.get_by_role("region", name="Sessions").locator("tbody tr")).to_contain_text(["session 2"])
    open_view(page, served, "unpriced?dimension=team%3Ablue")
    expect(page.locator("main h2").first).to_have_text("Every call has a price, team blue")


def test_candidates_are_looked_for_in_sessions_of_the_value(page: Page, served: Served) -> None:
    open_view(page, served, f"candidates?{RED}")
    expect(page.locator("main h2").first).to_contain_text("team red")
    expect(page.locator("main")).to_contain_text("Of the 2 dearest sessions")


def test_runs_are_those_with_a_session_of_the_value(page: Page, served: Served) -> None:
    open_view(page, served, f"runs?all=true&{RED}")
    expect(page.locator("main h2").first).to_have_text("Runs, team red")
    expect(page.get_by_role("region", name="Runs").locator("tbody tr")).to_have_count(2)
    expect(page.get_by_label("is", exact=True)).to_have_value("red")


@pytest.mark.parametrize(
    ("view", "why"),
    [
        ("speed", "by model and provider alone"),
        ("tools", "by day and by session alone"),
        ("by/user", "two dimensions together"),
        ("by/team", "all values of team are shown"),
    ],
)
def test_a_view_that_cannot_be_filtered_says_so_and_keeps_the_filter(
    view: str, why: str, page: Page, served: Served
) -> None:
    open_view(page, served, f"{view}?{RED}")
    expect(page.get_by_role("note")).to_contain_text("Not filtered")
    expect(page.get_by_role("note")).to_contain_text(why)
    expect(page.locator("main .bad")).to_have_count(0)
    expect(page.locator("main h2").first).not_to_contain_text("red")
    page.get_by_label("range").select_option("90d")
    expect(page).to_have_url(re.compile("since=90d"))
    ready(page)
    page.get_by_role("link", name="Spent", exact=True).click()
    expect(page.locator("main h2").first).to_have_text("Spent, team red")
    expect(page.get_by_label("is", exact=True)).to_have_value("red")
    page.get_by_role("link", name="Clear").click()
    expect(page.locator(".tile", has_text="everything")).to_contain_text("5 calls")


def test_a_value_is_offered_typed_and_led_to(page: Page, served: Served) -> None:
    open_view(page, served)
    page.get_by_label("only").select_option("team")
    field = page.get_by_label("is", exact=True)
    expect(field).to_be_focused()
    offered = page.locator("datalist option")
    expect(offered).to_have_count(2)
    assert sorted(option.get_attribute("value") or "" for option in offered.all()) == ["blue", "red"]
    field.fill("blue")
    field.press("Enter")
    expect(page.locator("main h2").first).to_have_text("Spent, team blue")
    page.get_by_label("only").select_option("model")
    expect(field).to_have_value("")  # a team is no model
    expect(field).to_be_focused()
    expect(offered).to_have_count(2)
    open_view(page, served, "by/team")
    page.get_by_role("link", name="red", exact=True).click()
    expect(page.locator("main h2").first).to_have_text("Spent, team red")
    open_view(page, served, "by/team")
    row = page.get_by_role("region", name="By team").locator("tbody tr").filter(has_text="blue")
    row.get_by_role("link", name="sessions").click()
    expect(page.get_by_role("region", name="Sessions").locator("tbody tr")).to_contain_text(["session 3"])


def test_a_value_that_spent_nothing_is_no_empty_ledger(page: Page, served: Served) -> None:
    open_view(page, served, "?dimension=team%3Anobody")
    expect(page.locator("main h2").first).to_have_text("Spent, team nobody")
    expect(page.locator(".tile", has_text="everything")).to_contain_text("$0.00")


def test_what_may_be_the_values_among_others_is_said(page: Page, served: Served) -> None:
    def answer(route: Route) -> None:
        found: dict[str, Any] = route.fetch().json()
        route.fulfill(json={**found, "not_distinguished": {"cost_usd": 7.0, "cost_usd_exact": "7", "calls": 9}})

    page.route(re.compile("/api/v1/(summary|unpriced)"), answer)
    for view in ("", "unpriced"):
        open_view(page, served, f"{view}?{RED}")
        expect(page.locator("main")).to_contain_text("$7.00 of 9 calls are of values of team that are not told apart")


def test_the_figures_of_a_chart_are_a_table_and_a_file(page: Page, served: Served) -> None:
    open_view(page, served, f"?{RED}")
    page.get_by_text("These figures as a table").click()
    figures = page.get_by_role("region", name="Cost by day and model")
    expect(figures.locator("th")).to_have_text(["day, UTC", "openai/gpt-4o-mini"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Cost by day and model as CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 2
    assert lines[1].split(",")[-1] == f"{2 * COST:.6f}".rstrip("0")


def test_what_rows_leave_out_of_a_day_is_drawn_with_the_others(page: Page, served: Served) -> None:
    """The API gives the dearest rows of day and model: beyond its limit days have more."""
    page.goto(url_of(served))
    drawn = page.evaluate(
        """async () => {
          const { byDay, exactUsd } = await import("/page/draw.js");
          const row = (day, cost_usd, more) => ({ day, cost_usd: Number(cost_usd), cost_usd_exact: cost_usd, ...more });
          const rows = [row("2026-01-01", "0.1", { name: "a" }), row(null, "9", { name: "b" })];
          const wholes = [row("2026-01-01", "0.3"), row("2026-01-02", "0.000000000001")];
          const [days, series] = byDay(rows, (one) => one.name, wholes);
          return [days, series.map(([name, costs, picos]) => [name, costs, picos.map(exactUsd)])];
        }"""
    )
    assert drawn == [
        ["2026-01-01", "2026-01-02"],
        [
            ["a", [0.1, 0], ["0.1", "0"]],
            ["(other)", [0.2, 1e-12], ["0.2", "0.000000000001"]],
        ],
    ]
