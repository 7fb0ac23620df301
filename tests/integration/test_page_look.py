"""The page as it is met: on a phone and at 1,300 px nothing is cut, text has its contrast, keys reach everything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from playwright.sync_api import Browser, Page, Route, expect

from backend import Backend
from chats import COST, USAGE, chat, request, set_attributes, without
from page_tabs import open_view, ready, tab, url_of
from served import Served

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

WIDTHS = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1300, "height": 900}}
NAME = "an-agent-with-a-name-of-many-words-and-0123456789-digits"
VIEWS = (
    *("", "sessions", "runs?all=true", "by/user", "by/team", "by/model", "speed", "tools", "candidates", "unpriced"),
    *("span", "session/talk", "run/talk", "session/nowhere", "?dimension=team%3Ared", "tools?dimension=team%3Ared"),
)


@pytest.fixture(scope="module")
def served(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With something in every table and chart, long names among it."""
    budgets = [
        {"name": "the whole company in a month", "amount": COST, "period": "month"},
        {"name": "of each session of anybody", "amount": COST, "period": "session"},
    ]
    warned = {"failure_rate": {"minimum": 4}}
    processor = {"dimensions": {"team": ["app.team"]}, "budgets": budgets, "warnings": warned}
    with Served(tmp_path_factory.mktemp("served"), backend.port, {"processor": processor}) as served:
        served.export(*_conversation(), request(*_odd()))
        yield served


def _conversation() -> Iterator[bytes]:
    """Yield an agent's work in four steps, on two days: large calls, and a tool that fails again and again."""
    for step in range(4):
        agent, call, tool = chat(), chat(), chat()
        without(agent, *USAGE)
        without(tool, *USAGE)
        set_attributes(agent, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": NAME})
        large = {"gen_ai.usage.input_tokens": 900_000 + step, "gen_ai.response.time_to_first_chunk": 0.05}
        set_attributes(call, {"gen_ai.request.model": "gpt-4.1", **large})
        named = {"gen_ai.tool.name": "read_many_files_at_once", "gen_ai.tool.call.arguments": '{"path": "a"}'}
        set_attributes(tool, {"gen_ai.operation.name": "execute_tool", **named})
        tool.status.code = Status.STATUS_CODE_ERROR
        for span in (agent, call, tool):
            shift = (step - 4) * 60 * 10**9 - (86_400 * 10**9 if step == 0 else 0)
            span.start_time_unix_nano += shift
            span.end_time_unix_nano += shift
            span.trace_id = agent.trace_id
            span.parent_span_id = b"" if span is agent else agent.span_id
            whose = {"user.id": f"somebody-with-a-long-name-{step}@department.example.org", "app.team": "red"}
            set_attributes(span, {"gen_ai.conversation.id": "talk", "spanledger.task.id": "a task", **whose})
        yield request(agent, call, tool, resource={"service.namespace": "a-project-of-many-words"})


def _odd() -> Iterator[Span]:
    """Yield a call of a session that was spawned, one of a model that nobody knows, and one of no session."""
    for more in (
        {"gen_ai.conversation.id": "spawned-" + "0123456789abcdef" * 4, "spanledger.session.parent_id": "talk"},
        {"gen_ai.conversation.id": "odd", "gen_ai.request.model": "a-model-of-nobody-with-a-name-of-many-words"},
        {},
    ):
        span = chat()
        set_attributes(span, more)
        yield span


def _cut(page: Page) -> Any:
    """Return what is wider than the room that it has, or stands out of it on either side."""
    return page.evaluate(
        """() => {
          const wide = (one) => one.scrollWidth > one.clientWidth + 1;
          const shownAs = (one) => getComputedStyle(one).display;
          const outside = (one) => {
            if (one.matches("html, .table, .scroll")) return false; // heads of tables, and a link to skip, are not seen
            const range = document.createRange(), room = one.getBoundingClientRect();
            range.selectNodeContents(one);
            const inner = range.getBoundingClientRect();
            return inner.width > 0 && (inner.left < room.left - 1 || inner.right > room.right + 1);
          };
          const boxes = "html, .scroll, .table, .tile, .chart, nav, form, h2, td, th, dd, li, p, .who, .number";
          return [document.documentElement, ...document.querySelectorAll("main *, header *, form *")]
            .filter((one) => one.matches(boxes) && one.checkVisibility() && !one.closest("thead, .unseen"))
            .filter((one) => (shownAs(one).startsWith("inline") ? false : wide(one)) || outside(one))
            .map((one) => `${one.tagName}.${one.className}: ${one.textContent.slice(0, 40)} ${one.scrollWidth}`);
        }"""
    )


def _unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    expect(page.locator("details.figures:not(:has(table))")).to_have_count(0)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut(view: str, width: str, browser: Browser, served: Served) -> None:
    with browser.new_context(viewport=WIDTHS[width], color_scheme="dark") as context:  # type: ignore[arg-type]
        page = context.new_page()
        open_view(page, served, view)
        ready(page)
        _unfold(page)
        assert _cut(page) == []
        inner = page.locator("main table, main canvas")
        assert inner.count() or view in ("span", "session/nowhere", "run/talk", "candidates")


def test_a_row_on_a_phone_says_what_each_figure_is(browser: Browser, served: Served) -> None:
    with tab(browser, served, viewport=WIDTHS["phone"]) as page:
        open_view(page, served, "sessions")
        row = page.get_by_role("table").get_by_role("row").filter(has_text="talk").first
        titles = row.locator("td").evaluate_all(
            "cells => cells.map((one) => getComputedStyle(one, '::before').content.replaceAll('\"', ''))"
        )
        assert {"cost, USD", "calls", "tools", "loops", "models"} <= set(titles)
        expect(page.get_by_label("range")).to_be_hidden()
        page.get_by_text("Filter", exact=True).click()
        expect(page.get_by_label("range")).to_be_visible()


CONTRAST = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const [r, g, b, alpha = 1] = channels(getComputedStyle(one).backgroundColor);
      if (alpha > 0.99) return [r, g, b];
    }
    throw new Error("a page without a ground");
  };
  const texts = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) if (walker.currentNode.data.trim()) texts.add(walker.currentNode.parentElement);
  document.querySelectorAll("input, select").forEach((one) => texts.add(one));
  const looked = [...texts].filter((one) => one.checkVisibility());
  const low = looked.flatMap((one) => {
    const style = getComputedStyle(one, null);
    const colours = [style.color, ...(one.tagName === "INPUT" ? [getComputedStyle(one, "::placeholder").color] : [])];
    return colours.flatMap((colour) => {
      const both = [luminance(channels(colour).slice(0, 3)), luminance(ground(one))];
      const [dark, light] = both.sort((a, b) => a - b);
      const ratio = (light + 0.05) / (dark + 0.05);
      const said = `${one.tagName}.${one.className} ${one.textContent.slice(0, 30)} ${ratio.toFixed(2)}`;
      return ratio < 4.5 || Number(style.opacity) < 1 ? [said] : [];
    });
  });
  return [looked.length, low];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(scheme: Any, browser: Browser, served: Served) -> None:
    """4.5 to 1, by the colours that the browser computes: https://www.w3.org/TR/WCAG22/#contrast-minimum."""
    with browser.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        for view in (*VIEWS, "sessions?sort=cost&since=7d"):
            open_view(page, served, view)
            ready(page)
            _unfold(page)
            looked, low = page.evaluate(CONTRAST)
            assert looked > 10
            assert low == [], view


def test_what_charts_draw_stands_out_from_either_ground(page: Page, served: Served) -> None:
    """3 to 1 for what is no text: https://www.w3.org/TR/WCAG22/#non-text-contrast."""
    open_view(page, served)
    grounds = [(255, 255, 255), (0x14, 0x17, 0x1B)]
    text = page.evaluate("async () => (await (await fetch('page/draw.js')).text()).match(/COLOURS = (\\[.*?\\])/)[1]")
    colours = [tuple(bytes.fromhex(one)) for one in re.findall(r"#([0-9a-f]{6})", text)]
    assert len(colours) == 8
    for colour in colours:
        assert min(_contrast(colour, ground) for ground in grounds) >= 3, colour


def _contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: tuple[int, ...]) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (one / 255 for one in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    with tab(browser, served, viewport=WIDTHS["desk"]) as page:
        yield page


@pytest.mark.parametrize("view", ["", "sessions", "by/user", "tools", "session/talk", "run/talk", "span", "unpriced"])
def test_keys_reach_every_control_and_it_is_seen_where_one_is(view: str, page: Page, served: Served) -> None:
    open_view(page, served, view)
    ready(page)
    controls = page.evaluate(
        """() => {
          const which = "a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']";
          const all = [...document.querySelectorAll(which)].filter((one) => one.checkVisibility());
          all.forEach((one, place) => (one.dataset.place = place));
          return all.length;
        }"""
    )
    reached, seen = set[str](), set[str]()
    for _ in range(controls + 2 * 4 + 2):  # a date is three stops, its calendar one; and the browser's own
        page.keyboard.press("Tab")
        place, outline = page.evaluate(
            """() => {
              const one = document.activeElement, style = getComputedStyle(one);
              return [one.dataset.place ?? "", style.outlineStyle !== "none" && style.outlineWidth !== "0px"];
            }"""
        )
        if place:
            reached.add(place)
            seen |= {place} if outline else set()
    assert len(reached) == controls > 10
    assert seen == reached


def test_keys_open_a_timeline_and_a_table_of_figures(page: Page, served: Served) -> None:
    open_view(page, served, "session/talk")
    lane = page.get_by_role("group", name="Timeline").locator("details.lane summary").first
    lane.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Calls").first).to_be_visible()
    page.locator("details.figures summary").first.focus()
    page.keyboard.press("Space")
    expect(page.locator("details.figures table").first).to_be_visible()


def test_what_the_server_could_not_do_is_told(browser: Browser, served: Served) -> None:
    """In place of a view, and beside one that was drawn before."""
    message = {"error": "the ledger cannot be read now: no space left on device"}
    with browser.new_context() as context:
        page = context.new_page()
        page.route(re.compile("/api/v1/events"), lambda route: route.abort())  # which draws such a view again by itself
        page.route(re.compile("/api/v1/sessions"), lambda route: route.fulfill(status=500, json=message))
        open_view(page, served, "sessions")
        expect(page.locator("main h2").first).to_have_text("This cannot be shown")
        expect(page.locator("main .bad")).to_have_text(message["error"])
        page.unroute(re.compile("/api/v1/sessions"))
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("region", name="Sessions")).to_contain_text("talk")
        page.route(re.compile("/api/v1/sessions"), lambda route: route.fulfill(status=500, json=message))
        page.get_by_role("link", name="Runs").click()
        expect(page.locator("main h2").first).to_have_text("Runs")
        page.route(re.compile("/api/v1/runs"), lambda route: route.abort())
        page.get_by_role("link", name="all runs").click()
        expect(page.locator("main .bad")).to_contain_text("cannot be reached")


def test_a_view_that_cannot_be_drawn_again_stays_and_says_so(browser: Browser, served: Served) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        open_view(page, served)
        expect(page.locator("#live")).to_contain_text("live")
        for problem in ("no space", "no space again"):
            page.route(re.compile("/api/v1/summary"), _refusing(503, problem))
            served.export(request(chat()))
            expect(page.locator("#live")).to_contain_text(f"as it was before: {problem}.")
            expect(page.locator("main h2").first).to_have_text("Spent")


def _refusing(status: int, error: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(status=status, json={"error": error})


def test_a_view_that_is_being_drawn_is_not_taken_for_the_one_that_is_shown(
    browser: Browser, backend: Backend, tmp_path: Path
) -> None:
    """A change of the ledger meanwhile draws no second time: if that failed, the last view would stay for this one."""
    asked: list[Route] = []
    with Served(tmp_path, backend.port) as served, browser.new_context() as context:
        page = context.new_page()
        open_view(page, served)
        expect(page.locator("#live")).to_have_text("$0.00 in all · live")
        page.route(re.compile("/api/v1/unpriced"), lambda route: asked.append(route))
        page.get_by_role("link", name="Unpriced", exact=True).click()
        served.export(request(chat()))
        expect(page.locator("#live")).not_to_have_text("$0.00 in all · live")
        page.evaluate("new Promise((done) => setTimeout(done, 3000))")  # due after the drawing that the change asks for
        for route in asked:
            _refusing(500, "no space")(route)
        expect(page.locator("main h2").first).to_have_text("This cannot be shown")


def test_while_the_choices_of_the_filter_are_not_known_it_says_so(browser: Browser, served: Served) -> None:
    asked: list[Route] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.route(re.compile("/api/v1/dimensions\\?"), lambda route: asked.append(route))
        page.goto(url_of(served))
        expect(page.locator("main h2").first).to_be_visible()
        expect(page.locator("#filters")).to_have_attribute("aria-busy", "true")
        for route in asked:
            route.continue_()
        expect(page.locator("#filters")).not_to_have_attribute("aria-busy", "true")


def test_rows_that_are_left_out_of_a_list_are_told(page: Page, served: Served) -> None:
    """As many as the API says, with the calls that they stand for."""

    def answer(route: Route) -> None:
        found: dict[str, Any] = route.fetch().json()
        route.fulfill(json={**found, "calls": found["calls"] + 432, "left_out": 422})

    page.route(re.compile("/api/v1/unpriced"), answer)
    open_view(page, served, "unpriced")
    expect(page.locator("main h2").first).to_have_text("433 calls without a price")
    expect(page.locator("main")).to_contain_text("422 further rows, of 432 calls")


def test_what_is_left_out_of_a_session_is_told(page: Page, served: Served) -> None:
    """Sessions that it spawned, and calls that were made again, beyond those that the page asks for."""

    def answer(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "next_cursor": "x"})

    page.route(re.compile("/api/v1/(sessions\\?parent|tools)"), answer)
    open_view(page, served, "session/talk")
    expect(page.locator("main")).to_contain_text("The first 1; all that it spawned.")
    expect(page.locator("main")).to_contain_text("There are more: spanledger tools --session talk.")
    page.unroute_all()
    page.get_by_role("link", name="all that it spawned").click()
    expect(page.get_by_role("region", name="Sessions").locator("tbody tr")).to_contain_text(["spawned-0123"])
    expect(page.locator("main")).to_contain_text("Only those that session talk spawned.")
    page.get_by_label("order").select_option("cost")
    expect(page).to_have_url(re.compile("parent=talk.*sort=cost|sort=cost.*parent=talk"))


def test_what_has_no_value_has_one_word(page: Page, served: Served) -> None:
    for view, region in (("by/user", "By user"), ("runs?all=true", "Runs"), ("sessions", "Sessions")):
        open_view(page, served, view)
        last = page.get_by_role("region", name=region, exact=True).locator("tbody tr").last
        expect(last.locator("td").first).to_have_text("(unattributed)")


def test_agents_beyond_those_that_are_told_apart_are_no_ones_of_none(page: Page, served: Served) -> None:
    """A timeline has a lane for the others and one for what no agent did, each with its own sum."""
    agents = [
        {"id": "lead", "cost_usd": 5, "cost_usd_exact": "5", "calls": 1, "unpriced": {}},
        {"id": "", "other": True, "cost_usd": 3, "cost_usd_exact": "3", "calls": 1, "unpriced": {}},
        {"id": "", "cost_usd": 2, "cost_usd_exact": "2", "calls": 1, "unpriced": {}},
    ]
    spans = [{"trace_id": "0" * 32, "span_id": "0" * 16, "kind": "llm", "start": "2026-01-01T00:00:00Z"}]
    spans = [{**spans[0], "end": "2026-01-01T00:00:01Z", "agent": agent} for agent in ("lead", "a minor one", "")]
    page.goto(url_of(served))
    shown = page.evaluate(
        """async ([agents, spans]) => {
          const { timeline } = await import("/page/timeline.js");
          const parts = timeline({ agents, spans: 3 }, { spans }, [], {});
          const heads = [...parts[0].querySelectorAll("summary")];
          return heads.map((one) => [one.querySelector(".who").textContent, one.querySelector(".number").textContent]);
        }""",
        [agents, spans],
    )
    assert shown == [["(unattributed)", "$2.00"], ["lead", "$5.00"], ["(other)", "$3.00"]]
