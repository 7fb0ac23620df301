"""`spanledger demo`, as one runs it after installing: what it shows, and the file that it leaves."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import answer
from served import COMMAND

KEY = "a key for the tests"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What it prints where nobody watches; its files go to a folder of the test."""
    folder = tmp_path_factory.mktemp("demo")
    env = {**os.environ, "TMPDIR": str(folder), "HOME": str(folder), "SPANLEDGER_SIGNING_KEY": KEY}
    ended = subprocess.run([*COMMAND, "demo"], capture_output=True, text=True, check=False, timeout=60, env=env)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


@pytest.fixture
def file(shown: str) -> Path:
    """The file that it names."""
    found = re.search(r"^  (/.*spans\.jsonl)$", shown, re.MULTILINE)
    assert found
    return Path(found[1])


def _attributes(file: Path) -> Iterator[tuple[str, str, Any]]:
    """The id of each span, with the key and the value of each of its attributes that is a text or a number."""
    for line in file.read_text().splitlines():
        for resource in json.loads(line).get("resourceSpans", []):
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    for attribute in span.get("attributes", []):
                        yield span["spanId"], attribute["key"], next(iter(attribute["value"].values()))


def test_sessions_and_runs_by_model(shown: str) -> None:
    for text in ("Sessions, $", "Runs, ", "sess-A", "sess-B", "pydantic-ai", "anthropic/claude-sonnet-4-5"):
        assert text in shown


def test_repeated_tool_calls_and_loops(shown: str) -> None:
    rows = [line.split() for line in shown.splitlines() if " h1:" in line]
    assert ["sess-A", "get_weather", "3", "loop"] in [row[:4] for row in rows]
    assert any(row[3] == "-" for row in rows)


def test_what_has_no_price_says_why(shown: str) -> None:
    assert re.search(r"acme-7b-2025-11-13 +unknown_model +3", shown)
    assert re.search(r"sess-with-a-made-up-model-name-01 +unknown ", shown)


def test_the_file_holds_what_was_shown(shown: str, file: Path) -> None:
    """The spans' costs add up to the total on the board."""
    total = sum(value for _, key, value in _attributes(file) if key == "spanledger.cost.usd")
    assert f"Sessions, ${total:.6f} in all" in shown
    assert file.stat().st_mode & 0o777 == 0o600


def test_its_spans_are_explained_as_they_were_decided_on(
    shown: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command that it names: sessions, runs and signatures are those of the file."""
    monkeypatch.setenv("SPANLEDGER_SIGNING_KEY", KEY)
    line = next(line for line in shown.splitlines() if " explain " in line)
    command, *arguments = shlex.split(line)
    assert Path(command).name == "spanledger"
    reported = answer(*arguments)
    assert reported["marked"] == len(reported["spans"]) > 50
    explained = {
        (one["span_id"], f"spanledger.{part}.{name}"): one[part][name]
        for one in reported["spans"]
        for part, name in (("session", "id"), ("run", "id"), ("tool", "signature"))
        if one[part] and one[part][name]
    }
    keys = {key for _, key in explained}
    written = {(id_, key): value for id_, key, value in _attributes(file) if key in keys}
    assert len(keys) == 3
    assert explained == written


def test_it_says_how_to_go_on(shown: str) -> None:
    """The command it names is one that works, also before a backend that takes traces only."""
    line = next(line for line in shown.splitlines() if "spanledger serve" in line)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317" in shown
    assignment = line.partition("'")[2].rpartition("'")[0]
    (exporter,) = answer("check", "--set", assignment)["exporters"]
    assert (exporter["target"], exporter["signals"]) == ("BACKEND:4317", ["traces"])
