"""Content of agents' files never reaches a file of ours (docs/contract.md#promise-5-content-stays-private)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tilth_logs
from mux_homes import bucket, put, row, usage
from sidecars import Endpoint, scan
from xum_homes import HOMES, SCENARIOS

MODEL = "anthropic:claude-x"
MARKERS = ("PROMPTPROMPT", "ANSWERANSWER", "ARGUMENTARG", "OUTPUTOUTPUT", "TOPSECRETTOKEN", "TITLETITLE")


def written_with(folder: Path, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """The files below `folder` that hold one of `texts`, and which."""
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert contents
    return [(path.name, text) for path, content in contents.items() for text in texts if text.encode() in content]


@pytest.mark.parametrize("down", [False, True])
def test_what_a_chat_holds_is_in_no_file(down: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter of pytest
    """Sixty workspaces, so that freed memory with their content is used again while the state is written."""
    root, endpoint = tmp_path / "mux", Endpoint(down=down)
    tool = {
        "type": "dynamic-tool",
        "toolCallId": "c",
        "toolName": "bash",
        "input": {"script": "ARGUMENTARG " * 200},
        "output": {"text": "OUTPUTOUTPUT " * 200},
    }
    for number in range(60):
        prompt = {"id": f"u{number}", "role": "user", "parts": [{"type": "text", "text": "PROMPTPROMPT " * 200}]}
        answer = json.loads(row(f"m{number}", MODEL, 5, 6))
        answer["parts"] = [{"type": "text", "text": "ANSWERANSWER " * 200}, tool]
        put(root, json.dumps(prompt) + "\n" + json.dumps(answer) + "\n", "chat.jsonl", workspace=f"w{number}")
        put(root, usage({MODEL: bucket(5, 6)}), workspace=f"w{number}")
    listed = [{"id": "w1", "name": "branch", "title": "TITLETITLE " * 20}]
    config = {"projects": [["/src/p", {"workspaces": listed}]], "muxGovernorToken": "TOPSECRETTOKEN" * 20}
    (root / "config.json").write_text(json.dumps(config), "utf-8")
    scan(tmp_path / "state", endpoint, root)
    assert down or len(endpoint.usage()) == 60
    assert not written_with(tmp_path / "state", MARKERS)
    assert not any(marker in str(span) for span in endpoint.spans.values() for marker in MARKERS)


def test_what_a_log_of_tilth_holds_is_in_no_file(tmp_path: Path) -> None:
    args = {"script": "ARGUMENTARG " * 200}
    event = {
        "ts": "2026-11-27T10:00:00Z",
        "type": "tool_call",
        "payload": {"task_id": "T", "tool": "bash", "args": args},
    }
    result = {"ts": "2026-11-27T10:00:01Z", "type": "tool_result", "payload": {"result_preview": "OUTPUTOUTPUT " * 200}}
    for number in range(60):
        tilth_logs.session(tmp_path / "tilth", f"s{number}", json.dumps(event) + "\n" + json.dumps(result) + "\n")
    endpoint = Endpoint()
    scan(tmp_path / "state", endpoint, tmp_path / "tilth", source="tilth")
    assert len(endpoint.spans) == 60
    assert not written_with(tmp_path / "state", MARKERS)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_texts_of_a_real_home_are_in_no_file(scenario: str, tmp_path: Path) -> None:
    texts = set()
    for chat in (HOMES / scenario / "xumroot").rglob("chat*.jsonl"):
        for line in chat.read_text("utf-8").splitlines():
            texts |= {text for text in _texts(json.loads(line)["parts"]) if " " in text.strip()}
    assert texts
    scan(tmp_path / "state", Endpoint(down=True), HOMES / scenario / "xumroot")
    assert not written_with(tmp_path / "state", tuple(texts))


def _texts(value: object) -> set[str]:
    """The texts in `parts` of a row: what was asked, answered, given to a tool and returned by it."""
    if isinstance(value, dict):
        kept = [item for key, item in value.items() if key not in {"type", "toolName", "toolCallId", "state"}]
        return set[str]().union(*map(_texts, kept))
    if isinstance(value, list):
        return set[str]().union(*map(_texts, value))
    return {value} if isinstance(value, str) else set()
