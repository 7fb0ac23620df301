"""docs/debugging.md names places to stop at: a request goes through each of them, in the commands that it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backend import Backend
from served import COMMAND, Served
from tools.parts import ROOT
from tools.programs import http_post

RECORDER = """
import atexit, json, sys, threading
from pathlib import Path

written_to, _, _, _, *arguments = sys.argv[1:]
called = {}

def profile(frame, event, _):
    if event == "call":
        called.setdefault(frame.f_code, frame.f_globals.get("__name__"))

def save():
    sys.setprofile(None)
    names = [f"{of}.{code.co_qualname}" for code, of in list(called.items())]
    Path(written_to).write_text(json.dumps(names))

atexit.register(save)
threading.setprofile(profile)
sys.setprofile(profile)
from spanledger_processor.cli import main
main(arguments)
"""
RECORDING = ROOT / "tests/data/otlp/pydantic-ai/S6/001.traces.binpb"
ROW = re.compile(r"^\| `([a-z_.]+)` \| `([A-Za-z_.]+)` \|.*\| ([^|]+) \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs/debugging.md").read_text())


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What stands before a command, and writes what it calls into `called.json` of its folder."""
    folder = tmp_path_factory.mktemp("recorder")
    (folder / "recorder.py").write_text(RECORDER)
    return [sys.executable, str(folder / "recorder.py"), str(folder / "called.json")]


def _called(recorder: list[str]) -> set[str]:
    return set(json.loads(Path(recorder[-1]).read_text()))


def _named(command: str) -> set[str]:
    return {f"{module}.{name}" for module, name, runs in ROWS if "both" in runs or f"`{command}`" in runs}


def test_a_request_to_serve_goes_through_them(recorder: list[str], backend: Backend, tmp_path: Path) -> None:
    with Served(tmp_path, backend.port, within=recorder) as served:
        kind = {"content-type": "application/x-protobuf"}
        url = f"http://127.0.0.1:{served.http}/v1/traces"
        assert http_post(url, content=RECORDING.read_bytes(), headers=kind).status_code == 200
    assert len(_named("serve")) > 5
    assert _named("serve") - _called(recorder) == set()


def test_a_file_to_explain_goes_through_them(recorder: list[str]) -> None:
    subprocess.run([*recorder, *COMMAND, "explain", str(RECORDING)], check=True, capture_output=True, timeout=120)
    assert len(_named("explain")) > 3
    assert _named("explain") - _called(recorder) == set()
