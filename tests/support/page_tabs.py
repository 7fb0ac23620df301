"""Tabs of a real Chromium that show the page of a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

from served import Served
from tools.programs import PATIENCE

PATIENCE_MS = 1000 * PATIENCE


class Watched:
    """A tab whose errors, and requests to elsewhere, fail the test."""

    def __init__(self, context: BrowserContext, served: Served) -> None:
        self._page, self._problems = context.new_page(), list[str]()
        self._own = url_of(served)
        self._page.on("console", lambda said: self._note(said.type in ("error", "warning"), said.text))
        self._page.on("pageerror", lambda error: self._note(True, str(error)))
        self._page.on(
            "request",
            lambda asked: self._note(not asked.url.startswith((self._own, "data:", "about:", "blob:")), asked.url),
        )

    def _note(self, bad: bool, text: str) -> None:  # noqa: FBT001
        if bad and "401" not in text:
            self._problems.append(text)

    def __enter__(self) -> Page:
        return self._page

    def __exit__(self, *_: object) -> None:
        assert self._problems == []


def url_of(served: Served) -> str:
    return f"http://127.0.0.1:{served.api}/"


def open_view(page: Page, served: Served, view: str = "") -> None:
    page.set_default_timeout(PATIENCE_MS)
    page.goto("about:blank")  # else a change behind "#" alone leaves the last view there until the next is ready
    page.goto(f"{url_of(served)}#/{view}")
    expect(page.locator("main h2").first).to_be_visible()
    expect(page.locator("#filters:not([aria-busy])")).to_have_count(1)  # else its fields are made anew under a test


@contextmanager
def tab(browser: Browser, served: Served, **options: Any) -> Iterator[Page]:
    """An empty tab; an error on its console or a request to elsewhere fails the test."""
    with browser.new_context(**options) as context, Watched(context, served) as page:
        yield page


def ready(page: Page) -> None:
    """Wait until all of a view is drawn."""
    expect(page.locator("main:not([aria-busy]) h2").first).to_be_visible()
