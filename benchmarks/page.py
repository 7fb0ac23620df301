"""The page over a large ledger, in a real Chromium: `python -m benchmarks.page FOLDER`, a state folder of a ledger.

Of each view: when something is painted first and when all of it is there, by the browser's own clock, the best of
three; and of the requests that it makes, each asked again alone, the one that takes the server the most CPU, by its
best of five, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from playwright.sync_api import Browser, sync_playwright

from tools import parts
from tools.programs import Program, answers, free_port, http_get

_VIEWS = ("", "sessions", "sessions?sort=cost", "runs", "runs?sort=cost", "by/user", "by/project", "by/model", "speed")
_MORE = (
    "tools",
    "unpriced",
    "candidates",
    "?dimension={value}",
    "sessions?dimension={value}",
    "unpriced?dimension={value}",
)
_ONE = ("session/{session}", "run/{session}", "sessions?contains=none-has-this")
_TRIES, _ASKED = 3, 5
_PATIENT_S = 300.0


def main() -> None:
    """Serve a state folder, open each view, and print a line of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    state = parser.parse_args().folder.resolve()
    with TemporaryDirectory() as folder:
        api = free_port()
        config = Path(folder) / "spanledger.yaml"
        protocols = {name: {"endpoint": f"127.0.0.1:{free_port()}"} for name in ("grpc", "http")}
        settings = {
            "receivers": {"otlp": {"protocols": protocols}},
            "exporters": {"file": {"path": f"{folder}/out"}},
            "state": {"path": str(state)},
            "api": {"endpoint": f"127.0.0.1:{api}"},
        }
        config.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "spanledger_processor.cli", "serve", "--config", str(config)]
        serve = Program("serve", command, Path(folder), lambda: answers(f"http://127.0.0.1:{api}/readyz"))
        serve.start()
        try:
            _measure(f"http://127.0.0.1:{api}", serve.pid)
        finally:
            serve.stop()


def _measure(url: str, pid: int) -> None:
    dearest = _json(f"{url}/api/v1/sessions?sort=cost&limit=1")["sessions"][0]
    value = _json(f"{url}/api/v1/dimensions/user?limit=1")["values"][0]["value"]
    named = {"session": quote(dearest["id"], safe=""), "value": quote(f"user:{value}", safe="")}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=parts.obtain("chromium"), args=["--no-sandbox"])
        for view in (*_VIEWS, *_MORE, *_ONE):
            seen = [_open(browser, f"{url}/#/{view.format(**named)}") for _ in range(_TRIES)]
            painted, drawn = min(one[0] for one in seen), min(one[1] for one in seen)
            asked = {one: _alone_ms(one, pid) for one in seen[0][2]}
            longest = max(asked, key=lambda one: asked[one])
            line = f"{view or 'spent':30} painted {painted:5.0f} ms, all there {drawn:6.0f} ms, {len(asked):3} requests"
            cpu, clock = asked[longest]
            what = longest.partition("/api/v1/")[2][:70]
            print(f"{line}, the longest {cpu:6.1f} ms of CPU, {clock:6.1f} by the clock: {what}", flush=True)
        browser.close()


def _open(browser: Browser, address: str) -> tuple[float, float, list[str]]:
    """Return when a view was painted first, and drawn, in ms since the navigation, and what it asked for."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.goto(address)
    page.wait_for_selector("main:not([aria-busy]) h2", timeout=_PATIENT_S * 1000)
    drawn: float = page.evaluate("performance.now()")
    painted: float = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    asked: list[str] = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    page.close()
    return painted, drawn, [one for one in asked if "/api/v1/" in one and "/events" not in one]


def _alone_ms(url: str, pid: int) -> tuple[float, float]:
    """Return how long the server works on an answer, and how long that takes, in ms, nothing else being asked."""
    used, took = list[float](), list[float]()
    for _ in range(_ASKED):
        before, begun = _cpu_ns(pid), time.perf_counter()
        http_get(url, timeout=_PATIENT_S)
        took.append((time.perf_counter() - begun) * 1000)
        used.append((_cpu_ns(pid) - before) / 1e6)
    return min(used), min(took)


def _cpu_ns(pid: int) -> int:
    """Return the CPU that all threads of a process have used."""
    return sum(int(one.read_text().split()[0]) for one in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _json(url: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = http_get(url, timeout=_PATIENT_S).json()
    return found


if __name__ == "__main__":
    main()
