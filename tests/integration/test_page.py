"""The page at `/` of the HTTP API in a real Chromium: what it shows, to whom, and what it never does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from backend import Backend
from chats import COST, USAGE, chat, request, set_attributes, without
from page_tabs import Watched, open_view, tab, url_of
from real_parts import ROOT
from served import Served
from tools.programs import http_get, wait_for_one_day

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

SCRIPTS = ("app.js", "ask.js", "cells.js", "draw.js", "filter.js", "spent.js", "timeline.js", "views.js")
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
DAY_S = 86_400
VIEWS = (
    "",
    "sessions",
    "runs",
    "by/user",
    "by/project",
    "by/agent",
    "by/model",
    "speed",
    "tools",
    "candidates",
    "unpriced",
    "span",
)


@pytest.fixture(scope="module")
def served(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With three sessions of one call each: one has a hostile name, one a call whose model nobody knows."""
    with Served(tmp_path_factory.mktemp("served"), backend.port) as served:
        spans = [chat() for _ in range(3)]
        for span, session in zip(spans, ("one", HOSTILE, "three"), strict=True):
            set_attributes(span, {"gen_ai.conversation.id": session, "user.id": f"user of {session}"})
        set_attributes(spans[2], {"gen_ai.request.model": "of-nobody", "gen_ai.response.model": "of-nobody"})
        served.export(request(*spans))
        yield served


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """An empty tab; an error on its console or a request to elsewhere fails the test."""
    with tab(browser, served) as page:
        yield page


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_draws(view: str, page: Page, served: Served) -> None:
    open_view(page, served, view)
    expect(page.locator("nav a[aria-current]")).to_have_count(1)
    expect(page.locator("main .bad")).to_have_count(0)


def test_the_figures_are_the_ledgers(page: Page, served: Served) -> None:
    open_view(page, served)
    tile = page.locator(".tile", has_text="everything")
    expect(tile).to_contain_text(f"${2 * COST:.6f} + unknown")
    expect(tile).to_contain_text("3 calls")
    expect(tile).to_contain_text("1 without a price")
    dearest = page.get_by_role("region", name="The dearest sessions").locator("tbody tr")
    expect(dearest).to_have_count(3)
    expect(dearest.filter(has_text="three")).to_contain_text("unknown")
    dearest.get_by_role("link", name="one", exact=True).click()
    expect(page.locator("main h2").first).to_have_text("one")
    expect(page.get_by_role("region", name="By model").locator("tbody tr")).to_contain_text(["gpt-4o-mini"])
    open_view(page, served)
    page.get_by_role("link", name="All sessions by cost").click()
    expect(page.locator("main h2").first).to_have_text("Sessions")
    open_view(page, served, "unpriced")
    expect(page.locator("main h2").first).to_have_text("1 call without a price")
    expect(page.locator("tbody tr")).to_contain_text(["of-nobody"])
    open_view(page, served, "session/three")
    expect(page.locator("dd").filter(has_text="unknown").first).to_have_text("unknown")


def test_a_session_shows_who_did_what_and_budgets_how_much_is_used(
    browser: Browser, backend: Backend, tmp_path: Path
) -> None:
    small = {"name": "small", "amount": COST / 2, "period": "month"}
    each = {"name": "each", "amount": COST / 4, "period": "session"}
    labels = {"sessions": {"labels": [{"agent": "lead", "label": "Reviews"}]}}
    more = {"processor": {"budgets": [small, each], **labels}}
    wait_for_one_day()
    context = browser.new_context()
    with Served(tmp_path, backend.port, more) as served, Watched(context, served) as page:
        span = chat()
        set_attributes(span, {"gen_ai.conversation.id": "talk", "gen_ai.agent.id": "lead"})
        served.export(request(span))
        open_view(page, served)
        for name, share in (("Budgets", "200 %"), ("Budgets of sessions and runs", "400 %")):
            expect(page.get_by_role("region", name=name, exact=True)).to_contain_text("used up")
            expect(page.get_by_role("region", name=name, exact=True)).to_contain_text(share)
        expect(page.get_by_role("region", name="The dearest sessions")).to_contain_text("Reviews · talk")
        open_view(page, served, "session/talk")
        expect(page.get_by_role("region", name="By agent")).to_contain_text("lead")
    context.close()


def test_a_sessions_timeline_folds_agents_in_and_explains_each_call(
    browser: Browser, backend: Backend, tmp_path: Path
) -> None:
    context = browser.new_context()
    with Served(tmp_path, backend.port) as served, Watched(context, served) as page:
        root, call, below, inner, unpriced = (chat() for _ in range(5))
        for span, parent, more in (
            (root, None, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "lead"}),
            (call, root, {}),
            (below, root, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "reviewer"}),
            (inner, below, {}),
            (unpriced, below, {"gen_ai.request.model": "of-nobody", "gen_ai.response.model": "of-nobody"}),
        ):
            span.trace_id = root.trace_id
            span.parent_span_id = parent.span_id if parent is not None else b""
            set_attributes(span, {"gen_ai.conversation.id": "talk", **more})
            if span in (root, below):
                without(span, *USAGE)
        child = chat()
        set_attributes(child, {"gen_ai.conversation.id": "spawned", "spanledger.session.parent_id": "talk"})
        served.export(request(root, call, below, inner, unpriced), request(child))
        open_view(page, served, "session/talk")
        lanes = page.get_by_role("group", name="Timeline").locator("details.lane")
        expect(lanes).to_have_count(2)
        expect(lanes.nth(0).locator("summary").first).to_contain_text("lead")
        expect(lanes.nth(0).locator("details.lane summary")).to_contain_text("reviewer")
        for lane, amounts in ((0, f"${COST:.6f} + ${COST:.6f} + unknown below"), (1, f"${COST:.6f} + unknown")):
            expect(lanes.nth(lane).locator("summary").first.locator(".number")).to_have_text(amounts)
        expect(lanes.nth(1).get_by_role("link", name="explain").first).to_be_hidden()
        lanes.nth(0).locator("summary").first.click()
        lanes.nth(1).locator("summary").first.click()
        lanes.nth(1).get_by_role("row").filter(has_text="gpt-4o-mini").get_by_role("link").click()
        expect(page.locator("main h2").first).to_have_text(f"Span {inner.span_id.hex()}")
        expect(page.get_by_role("region", name="Parts of the cost")).to_contain_text("1,0000.150.00015")
        page.go_back()
        expect(page.locator("main h2").first).to_have_text("talk")
        expect(lanes.nth(1).get_by_role("link", name="explain").first).to_be_visible()  # open as it was left
        expect(lanes.nth(1).get_by_role("row").filter(has_text="gpt-4o-mini").get_by_role("link")).to_be_focused()
        page.get_by_role("link", name="Sessions").click()
        page.get_by_role("link", name="talk").click()
        expect(lanes).to_have_count(2)
        expect(lanes.nth(0)).not_to_have_attribute("open", "")
        open_view(page, served, "run/talk")
        expect(page.locator("main .tree .tree li")).to_contain_text(["spawned"])
    context.close()


def test_speed_is_shown_by_model(browser: Browser, backend: Backend, tmp_path: Path) -> None:
    context = browser.new_context()
    with Served(tmp_path, backend.port) as served, Watched(context, served) as page:
        span = chat()  # 100 tokens in 0.1 s
        set_attributes(span, {"gen_ai.response.time_to_first_chunk": 0.05})
        served.export(request(span))
        open_view(page, served, "speed")
        row = page.get_by_role("region", name="Speed by model").locator("tbody tr")
        expect(row).to_contain_text("gpt-4o-mini")
        tokens_a_second = float(row.locator("td").nth(5).inner_text().replace("K", "e3"))
        assert tokens_a_second == pytest.approx(1000, rel=0.1)
        assert float(row.locator("td").nth(2).inner_text().removesuffix(" s")) == pytest.approx(0.05, rel=0.1)
    context.close()


def test_a_value_that_reads_like_the_word_for_none_is_another_row(
    browser: Browser, backend: Backend, tmp_path: Path
) -> None:
    """In lists and in the legends of charts; a session of that name is no heading of what is in none."""
    names = ("(no model)", "(other)", "(unattributed)", "-", "")
    with Served(tmp_path, backend.port) as served, browser.new_context() as context, Watched(context, served) as page:
        spans = [chat() for _ in names]
        for span, name in zip(spans, names, strict=True):
            set_attributes(span, {"user.id": name, "gen_ai.conversation.id": name} if name else {})
        served.export(request(*spans))
        open_view(page, served, "by/user")
        rows = page.get_by_role("region", name="By user").locator("tbody tr td:first-child, tbody tr th:first-child")
        expect(rows).to_have_text(['"(no model)"', '"(other)"', '"(unattributed)"', '"-"', "(unattributed)"])
        series = page.evaluate("Chart.getChart(document.querySelector('canvas')).data.datasets.map((one) => one.label)")
        assert series == ['"(no model)"', '"(other)"', '"(unattributed)"', '"-"', "(unattributed)"]
        page.locator("tbody tr").filter(has_text='"(other)"').get_by_role("link", name="sessions").click()
        expect(page.locator("tbody tr").first).to_contain_text('"(other)"')
        open_view(page, served, "session/%28unattributed%29")
        expect(page.locator("main h2").first).to_have_text('"(unattributed)"')
        open_view(page, served, "session/")
        expect(page.locator("main h2").first).to_have_text("(unattributed)")
        expect(page.get_by_role("term").first).to_have_text("state")  # there is no id
        expect(page.get_by_role("region", name="Sub-agents")).to_have_count(0)  # all sessions are of no parent


def test_the_bars_of_a_day_add_up_to_the_day(browser: Browser, backend: Backend, tmp_path: Path) -> None:
    """With what has no value, and on days on which nothing has one."""
    with Served(tmp_path, backend.port) as served, browser.new_context() as context, Watched(context, served) as page:
        days = [1764547200, 1764547200 + 2 * DAY_S, 1764547200 + 2 * DAY_S]  # 2025-12-01 and 03
        for day, user in zip(days, ("", "ann", ""), strict=True):
            span = chat(start_time_unix_nano=day * 10**9, end_time_unix_nano=day * 10**9)
            set_attributes(span, {"user.id": user} if user else {})
            served.export(request(span))
        open_view(page, served, "by/user?since=2025-12-01")
        chart = page.evaluate(
            """() => {
              const { labels, datasets } = Chart.getChart(document.querySelector("canvas")).data;
              return [labels, Object.fromEntries(datasets.map((one) => [one.label, one.data]))];
            }"""
        )
        assert chart[0] == ["2025-12-01", "2025-12-02", "2025-12-03"]
        assert chart[1] == {"ann": [0, 0, COST], "(unattributed)": [COST, 0, COST]}


def test_lines_are_drawn_to_the_scale_of_time(browser: Browser, backend: Backend, tmp_path: Path) -> None:
    """A day without calls is a gap; the growth of a context stands at the times of its calls."""
    with Served(tmp_path, backend.port) as served, browser.new_context() as context, Watched(context, served) as page:
        for seconds in (0, 60, 3600, 2 * DAY_S):
            start = (1764547200 + seconds) * 10**9
            span = chat(start_time_unix_nano=start, end_time_unix_nano=start + 10**8)
            set_attributes(span, {"gen_ai.conversation.id": "talk"} if seconds < DAY_S else {})
            served.export(request(span))
        open_view(page, served, "speed?since=2025-12-01")
        median = "Chart.getChart(document.querySelector('canvas')).data.datasets[0].data"
        drawn = page.evaluate(median)
        assert [point["x"] / 1000 for point in drawn] == [1764547200 + day * DAY_S for day in range(3)]
        assert [point["y"] is None for point in drawn] == [False, True, False]
        open_view(page, served, "session/talk")
        drawn = page.evaluate(median)
        times = [point["x"] / 1000 - 1764547200 for point in drawn]
        assert times == pytest.approx([0, 60, 3600], abs=1)
        axis = "Chart.getChart(document.querySelector('canvas')).scales.x.ticks.map((one) => one.label)"
        assert page.evaluate(axis)[:2] == ["12-01 00:00", "12-01 00:15"]


def test_names_are_text(page: Page, served: Served) -> None:
    open_view(page, served, "sessions")
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.locator("main h2").first).to_have_text(HOSTILE)
    expect(page.locator("main img, main script")).to_have_count(0)
    assert page.title() == f"{HOSTILE} · Spanledger"


def test_what_is_not_seen_or_turns_text_round_is_escaped(page: Page, served: Served) -> None:
    open_view(page, served)
    shown = page.evaluate(
        "async () => (await import('/page/draw.js')).named('a\\u001b[31m\\u202eevil \u65e5').textContent"
    )
    assert shown == "a\\u001b[31m\\u202eevil \u65e5"


def test_the_middle_of_a_long_name_is_not_seen_in_a_table_and_saved_all_the_same(page: Page, served: Served) -> None:
    open_view(page, served)
    name = "0199" + "a" * 248 + "1234"
    shown = page.evaluate("async (name) => (await import('/page/draw.js')).named(name).textContent", name)
    assert shown == name
    page.evaluate(
        """async (name) => {
          const { named, table } = await import('/page/draw.js');
          document.querySelector('main').replaceChildren(table('x', [['name', named, 'id']], [name]));
        }""",
        name,
    )
    middle = page.locator("td .middle")
    shown_as = middle.bounding_box()
    assert shown_as is not None
    assert shown_as["width"] < 30, "an ellipsis"
    assert page.locator("td").inner_text().endswith("1234")


def test_runs_say_what_is_not_among_them(page: Page, served: Served) -> None:
    open_view(page, served, "runs")
    expect(page.locator("main")).to_contain_text("Sessions that are runs of their own are not among them")
    page.get_by_role("link", name="all runs").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_label("which")).to_have_value("true")
    expect(page.locator("main")).not_to_contain_text("are not among them")


def test_the_range_that_is_shown_is_the_one_of_the_filter(page: Page, served: Served) -> None:
    open_view(page, served, "tools")
    expect(page.locator("main h2")).to_have_text("Tools, the last 30 days")
    expect(page.get_by_label("range").locator("option:checked")).to_have_text("30 days")
    open_view(page, served, "tools?until=2020-01-01")
    expect(page.get_by_label("range").locator("option:checked")).to_have_text("any time")


def test_a_range_between_two_days_is_given_by_two_days(page: Page, served: Served) -> None:
    open_view(page, served)
    page.get_by_label("from").fill("2020-11-20")
    expect(page).to_have_url(re.compile("since=2020-11-20"))
    page.get_by_label("to, UTC day").fill("2020-11-25")
    expect(page).to_have_url(re.compile("since=2020-11-20&until=2020-11-25"))
    expect(page.get_by_label("to, UTC day")).to_be_focused()
    expect(page.locator("main")).to_contain_text("By day and model, from 2020-11-20 until 2020-11-25")
    expect(page.get_by_label("range").locator("option:checked")).to_have_text("from a day")
    page.get_by_label("range").select_option("7d")
    expect(page).to_have_url(re.compile("since=7d$"))
    for name in ("from", "to, UTC day"):
        expect(page.get_by_label(name)).to_have_value("")


def test_a_day_half_typed_is_no_range(page: Page, served: Served) -> None:
    open_view(page, served)
    page.get_by_label("from").fill("0002-11-20")
    expect(page.get_by_label("from")).to_have_value("0002-11-20")
    assert "since" not in page.url


@pytest.mark.parametrize(("view", "since", "chosen"), [("tools", "30d", "30 days"), ("sessions", "36500d", "any time")])
def test_a_range_that_a_view_has_without_any_is_one_choice(
    view: str, since: str, chosen: str, page: Page, served: Served
) -> None:
    open_view(page, served, f"{view}?since={since}")
    options = page.get_by_label("range").locator("option")
    expect(page.get_by_label("range").locator("option:checked")).to_have_text(chosen)
    assert len(set(options.all_inner_texts())) == options.count()
    assert since not in options.all_inner_texts()


def test_a_tenant_that_is_not_there_is_no_id_that_may_be_cut(browser: Browser, served: Served) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        open_view(page, served, "?tenant=zzz")
        expect(page.locator("main .bad")).to_contain_text("no tenant 'zzz' in this ledger")


def test_links_keep_the_filter_and_it_is_applied(page: Page, served: Served) -> None:
    open_view(page, served, "sessions?since=7d&contains=three")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Runs").click()
    assert "since=7d" in page.url
    page.get_by_label("range").select_option("30d")
    expect(page).to_have_url(re.compile("since=30d"))


def test_sessions_are_found_by_the_value_of_a_dimension(page: Page, served: Served) -> None:
    open_view(page, served, "by/user")
    page.locator("tbody tr").filter(has_text="user of one").get_by_role("link", name="sessions").click()
    expect(page).to_have_url(re.compile("sessions\\?.*dimension=user%3Auser\\+of\\+one"))
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("is", exact=True).fill("user of three")
    page.get_by_label("is", exact=True).press("Enter")
    expect(page.locator("tbody tr")).to_contain_text(["three"])
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("tbody tr")).to_have_count(3)


def test_rows_come_as_a_file(page: Page, served: Served) -> None:
    open_view(page, served, "sessions")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    text = Path(download.value.path()).read_text()
    assert text.startswith("id,")
    assert text.count("\n") == 4  # one is the row of what belongs to no session


def test_what_a_table_shows_comes_as_a_file_that_is_no_formula(page: Page, served: Served) -> None:
    open_view(page, served, "by/user")
    with page.expect_download() as download:
        page.get_by_role("button", name="By user as CSV").click()
    lines = Path(download.value.path()).read_text().split("\r\n")
    assert lines[0].startswith("user,")
    assert any(line.endswith(",1 unknown_model") and ",,1," in line for line in lines)  # no amount, and not 0


def test_it_finds_a_server_again_that_was_away(browser: Browser, backend: Backend, tmp_path: Path) -> None:
    context = browser.new_context()
    with Served(tmp_path, backend.port) as served:
        page = context.new_page()
        open_view(page, served)
        served.program.stop()
        expect(page.locator("#live")).to_have_text("not connected, trying again")
        expect(page.locator("main h2").first).to_have_text("Nothing was counted yet")  # what was shown stays
        page.get_by_role("link", name="Sessions").click()
        expect(page.locator("main h2").first).to_have_text("This cannot be shown")
        served.program.start()
        expect(page.locator("main h2").first).to_have_text("Sessions")
    context.close()


def test_it_follows_the_ledger(browser: Browser, backend: Backend, tmp_path: Path) -> None:
    context = browser.new_context()
    with Served(tmp_path, backend.port) as served, Watched(context, served) as page:
        open_view(page, served)
        expect(page.locator("#live")).to_have_text("$0.00 in all · live")
        served.export(request(chat()))
        expect(page.locator("#live")).not_to_have_text("$0.00 in all · live")
        expect(page.locator(".tile", has_text="everything")).to_contain_text("1 call,")
    context.close()


def test_a_ledger_with_a_token_asks_for_it(browser: Browser, backend: Backend, tmp_path: Path) -> None:
    more = {"api": {"auth": {"bearer_token": "right"}}}
    context = browser.new_context()
    with Served(tmp_path, backend.port, more) as served, Watched(context, served) as page:
        open_view(page, served)
        for token in ("wrong", "right"):
            expect(page.locator("main h2").first).to_have_text("This ledger asks for a token")
            expect(page.locator("main .bad")).to_have_count(0 if token == "wrong" else 1)
            page.get_by_label("API token").fill(token)
            page.get_by_role("button", name="Show").click()
        expect(page.locator("main h2").first).to_have_text("Nothing was counted yet")
        assert "right" not in page.url
    context.close()


def test_the_keyboard_reaches_everything(page: Page, served: Served) -> None:
    open_view(page, served)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent"))
    assert {"Spent", "Sessions", "Explain"} <= reached


def test_nothing_comes_from_elsewhere(served: Served) -> None:
    answer = http_get(url_of(served))
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    folder = ROOT / "processor/spanledger_processor/server/page"
    own = "".join((folder / name).read_text() for name in ("index.html", "style.css", *SCRIPTS))
    assert re.search(r"https?:|url\(|@import|[\"'`]//", own) is None
    assert "innerHTML" not in own


def test_colours_have_the_contrast_of_wcag_aa() -> None:
    """4.5 to 1 for text: https://www.w3.org/TR/WCAG22/#contrast-minimum."""
    style = (ROOT / "processor/spanledger_processor/server/page/style.css").read_text()
    schemes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for text in ("ink", "soft", "accent", "bad", "good", "warn"):
            for ground in ("paper", "raised"):
                assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted(map(_luminance, (one, other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    linear: Callable[[float], float] = lambda v: v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4  # noqa: E731
    red, green, blue = (linear(int(colour[place : place + 2], 16) / 255) for place in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
