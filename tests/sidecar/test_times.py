"""Times that cannot be: named in the log, replaced by the file's, marked on the span, and no one else's trouble."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tilth_logs
from mux_homes import WRITTEN_MS, bucket, last, put, row, usage
from scripted_mux import ScriptedMux
from sidecars import NOW_MS, Endpoint, by_model, scan

MODEL = "anthropic:claude-x"
MICROSECONDS = WRITTEN_MS * 1000
YEAR_9999 = 253_402_214_400_000
BAD = [MICROSECONDS, YEAR_9999, 2**52, -5, "yesterday", 12]


def _usage(at: object) -> tuple[str, str]:
    turn = bucket(5, 6)
    return usage({MODEL: turn}, lastRequest={**last(MODEL, turn), "timestamp": at}), "session-usage.json"


def _chat(at: object) -> tuple[str, str]:
    content = json.loads(row("x1", MODEL, 5, 6))
    content["metadata"]["timestamp"] = at
    content["parts"] = [{"type": "dynamic-tool", "toolName": "bash", "toolCallId": "a", "timestamp": at, "input": {}}]
    return json.dumps(content) + "\n", "chat.jsonl"


def _duration(at: object) -> tuple[str, str]:
    return row("x1", MODEL, 5, 6, duration=at), "chat.jsonl"


def _headless(at: object) -> tuple[str, str]:
    line = {"timestamp": at, "source": "workspace_status", "model": MODEL}
    return json.dumps(line | {"usage": {"inputTokens": 5, "outputTokens": 6}}) + "\n", "headless-usage.jsonl"


@pytest.mark.parametrize("at", BAD)
@pytest.mark.parametrize("make", [_usage, _chat, _headless])
def test_a_bad_time_in_one_file_is_that_files_trouble(
    make: object, at: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint, root = Endpoint(), tmp_path / "mux"
    for name in ("a", "z"):
        put(root, usage({MODEL: bucket(1, 1)}), workspace=name)
    content, file = make(at)  # type: ignore[operator]
    put(root, content, file, workspace="bad")
    scan(tmp_path / "state", endpoint, root)
    counted = {str(span.attributes["gen_ai.conversation.id"]): span for span in endpoint.usage()}
    assert set(counted) == {"a", "bad", "z"}
    assert counted["bad"].attributes["gen_ai.usage.input_tokens"] == 5
    for span in endpoint.spans.values():
        assert 946_684_800_000 <= span.start_ns // 10**6 <= span.end_ns // 10**6 <= NOW_MS
    named = [record for record in caplog.messages if "/bad" in record]
    assert len(named) == 1
    assert "between 2000 and 2100" in named[0]
    if make is not _usage:
        assert "its time is not known" in str(counted["bad"].attributes["spanledger.note"])


def test_a_duration_that_ends_in_another_age_is_none(tmp_path: Path) -> None:
    content, file = _duration(2**52)
    put(tmp_path / "mux", content, file)
    endpoint = Endpoint()
    scan(tmp_path / "state", endpoint, tmp_path / "mux")
    (span,) = endpoint.usage()
    assert span.start_ns == span.end_ns == (WRITTEN_MS - 1000) * 10**6


@pytest.mark.parametrize("at", ["9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z", "soon", None])
def test_a_bad_time_of_tilth(at: object, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    payload = {"task_id": "T", "kind": "worker", "model": "m", "prompt_tokens": 5, "eval_tokens": 6}
    for name, ts in (("s1", "2026-11-20T10:00:00Z"), ("s2", at), ("s3", "2026-11-20T10:00:00Z")):
        event = {"ts": ts, "type": "model_call", "payload": payload}
        tilth_logs.session(tmp_path / "tilth", name, json.dumps(event) + "\n")
    endpoint = Endpoint()
    scan(tmp_path / "state", endpoint, tmp_path / "tilth", source="tilth")
    assert len(endpoint.usage()) == 3
    (bad,) = (span for span in endpoint.usage() if span.attributes["gen_ai.conversation.id"] == "s2")
    assert 946_684_800_000 <= bad.start_ns // 10**6 <= bad.end_ns // 10**6
    assert "its time is not known" in str(bad.attributes["spanledger.note"])
    assert len([record for record in caplog.messages if "between 2000 and 2100" in record]) == 1


def test_what_cannot_be_written_of_one_session_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the spans' stored form, and for both sources."""
    pack = "spanledger_sidecar.spans.Span.pack"
    endpoint, root = Endpoint(), tmp_path / "mux"
    for name in ("a", "bad", "z"):
        put(root, usage({MODEL: bucket(1, 1)}), workspace=name)
        tilth_logs.session(tmp_path / "tilth", name, tilth_logs.RECORDED.read_text("utf-8"))
    from spanledger_sidecar.spans import Span

    whole = Span.pack

    def fails(span: Span) -> bytes:
        if span.attributes["gen_ai.conversation.id"] == "bad":
            raise OverflowError
        return whole(span)

    with monkeypatch.context() as patched:
        patched.setattr(pack, fails)
        scan(tmp_path / "state", endpoint, root)
        scan(tmp_path / "tilth state", endpoint, tmp_path / "tilth", source="tilth")
        sessions = {(span.source, span.attributes["gen_ai.conversation.id"]) for span in endpoint.spans.values()}
        assert sessions == {("mux", "a"), ("mux", "z"), ("tilth", "a"), ("tilth", "z")}
    scan(tmp_path / "state", endpoint, root)
    scan(tmp_path / "tilth state", endpoint, tmp_path / "tilth", source="tilth")
    assert {span.source for span in endpoint.spans.values() if span.attributes["gen_ai.conversation.id"] == "bad"} == {
        "mux",
        "tilth",
    }


HOUR_MS = 3_600_000


def test_turns_before_and_after_a_clock_was_set_back_count_once(tmp_path: Path) -> None:
    """The file's last request ends before a turn that stands above its own in the chat, and is in the file."""
    mux, endpoint = ScriptedMux(tmp_path / "mux", chat=True), Endpoint()
    name = mux.create()
    mux.turn(name, "openai:gpt-x", (29, 3, 2, 47, 24))
    mux.now_ms -= HOUR_MS
    mux.turn(name, MODEL, (19, 11, 34, 47, 47))
    scan(tmp_path / "state", endpoint, mux.root, now_ms=lambda: mux.now_ms)
    assert by_model(endpoint.usage()) == mux.truth
    assert len(endpoint.usage()) == 2


def test_a_row_that_was_cut_when_the_clock_was_set_back_counts_once(tmp_path: Path) -> None:
    """The row ended after the look at its half, by the clock; but not after the file was written that has it."""
    mux, endpoint = ScriptedMux(tmp_path / "mux", chat=True), Endpoint()
    name = mux.create()
    mux.call(name, MODEL, (3, 7, 1, 48, 32))
    path = mux.root / "sessions" / name / "headless-usage.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    mux.now_ms -= HOUR_MS
    scan(tmp_path / "state", endpoint, mux.root, now_ms=lambda: mux.now_ms)
    path.write_bytes(whole)
    scan(tmp_path / "state", endpoint, mux.root, now_ms=lambda: mux.now_ms)
    assert by_model(endpoint.usage()) == mux.truth


def test_a_fork_that_looks_older_than_its_source_takes_nothing_from_it(tmp_path: Path) -> None:
    mux, endpoint = ScriptedMux(tmp_path / "mux", chat=True), Endpoint()
    name = mux.create()
    scan(tmp_path / "state", endpoint, mux.root, now_ms=lambda: mux.now_ms)
    mux.turn(name, MODEL, (47, 3, 1, 29, 21))
    mux.now_ms -= HOUR_MS
    mux.fork(name)
    scan(tmp_path / "state", endpoint, mux.root, now_ms=lambda: mux.now_ms)
    assert by_model(endpoint.usage()) == mux.truth
