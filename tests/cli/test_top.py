"""`spanledger top`: printed once where nobody can press a key, followed on a terminal until q, Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from backend import Backend
from chats import chat, request, set_attributes
from commands import answer, ledger, output, run
from served import Served
from spanledger_processor.cli import tables
from spanledger_processor.units import NS_PER_DAY


def _of(session: str) -> bytes:
    span = chat()
    set_attributes(span, {"gen_ai.conversation.id": session})
    return request(span)


def test_prints_once_where_there_is_no_terminal(tmp_path: Path) -> None:
    state = ledger(tmp_path, _of("first"), _of("second"))
    printed = output("top", *state)
    assert "2 sessions" in printed
    assert "first" in printed
    assert "in all $0.000420, 2 calls" in printed


def test_today_ends_with_today(tmp_path: Path) -> None:
    """What a sender spends by a clock ahead of this one may be of tomorrow."""
    now_ns = time.time_ns()
    tomorrow = (now_ns // NS_PER_DAY + 1) * NS_PER_DAY
    today, ahead = (chat(start_time_unix_nano=at_ns, end_time_unix_nano=at_ns) for at_ns in (now_ns, tomorrow))
    state = ledger(tmp_path, request(today), request(ahead), now_ns=now_ns)
    screen = answer("top", *state)
    assert (screen["today"]["calls"], screen["total"]["calls"]) == (1, 2)


def test_budgets_of_sessions_leave_room_for_those_of_days(tmp_path: Path) -> None:
    """Although many sessions have used up theirs."""
    session, day = (f'{{"name": "{name}", "amount": {amount}, "period": "{name}"}}' for name, amount in BUDGETS)
    sets = ("--set", f"processor.budgets=[{session}, {day}]")
    state = ledger(tmp_path, *(_of(f"session-{number}") for number in range(5)))
    shown = answer("top", *state, *sets)["budgets"]
    assert [row["budget"] for row in shown] == ["day", "session", "session"]


BUDGETS = (("session", 0.0001), ("day", 100))


def test_what_is_printed_once_fits_a_screen_unless_more_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("COLUMNS", "200")
    names = [f"session-{number}" for number in range(40)]
    state = ledger(tmp_path, *map(_of, names))
    printed = output("top", *state)
    shown = [line for line in printed.splitlines() if "session-" in line]
    assert len(shown) == 15
    assert len(printed.splitlines()) <= 24
    assert "40 sessions" in printed
    assert "25 more not shown" in printed
    everything = output("top", "--once", "--limit", "200", *state)
    assert all(name in everything for name in names)
    assert "not shown" not in everything
    assert len(answer("top", "--limit", "3", *state)["sessions"]) == 3


def test_says_the_same_as_the_other_commands(tmp_path: Path) -> None:
    state = ledger(tmp_path, _of("first"), _of("second"), request(chat()))
    found = answer("top", *state)
    assert found["total"] == answer("summary", *state)["total"]
    assert found["sessions"] == [row for row in answer("sessions", *state) if row["id"]]
    assert [row["id"] for row in answer("top", "--state", "closed", *state)["sessions"]] == []


def test_a_session_that_reads_like_the_word_for_none_stands_in_quotes(tmp_path: Path) -> None:
    """As in all tables; so does what a budget is of."""
    sets = ("--set", 'processor.budgets=[{"name": "each", "amount": 0.0001, "period": "session"}]')
    state = ledger(tmp_path, _of("(unattributed)"), _of("plain"))
    printed = output("top", *state, *sets)
    assert re.search(r'^ *"\(unattributed\)" ', printed, re.MULTILINE)
    assert re.search(r"^ *plain ", printed, re.MULTILINE)
    assert 'budget each of "(unattributed)":' in printed


def test_no_ledger_and_an_empty_one(tmp_path: Path) -> None:
    result = run("top", "--set", f"state.path={tmp_path / 'none'}")
    assert result.exit_code == 1
    assert "does not exist yet" in result.stderr
    assert "No session here yet." in output("top", *ledger(tmp_path / "empty"))


def test_asks_a_running_instance(tmp_path: Path) -> None:
    with Backend() as backend, Served(tmp_path, backend.port) as served:
        served.export(_of("live"))
        assert "live" in output("top", "--endpoint", f"http://127.0.0.1:{served.api}")


@pytest.mark.parametrize("end", ["q", "ctrl-c", "sigterm"])
def test_follows_on_a_terminal_until_it_is_ended(end: str, tmp_path: Path) -> None:
    """The terminal is left as it was, with exit code 0."""
    state = ledger(tmp_path, _of("followed"))
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "spanledger_processor.cli", "top", "--interval", "0.5", *state]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env={**os.environ, "TERM": "xterm"}
    )
    try:
        _read_until(ours, b"followed")
        ledger(tmp_path, _of("new one"))
        _read_until(ours, b"new one")
        if end == "q":
            os.write(ours, b"q")
        else:
            process.send_signal(signal.SIGINT if end == "ctrl-c" else signal.SIGTERM)
        _read_until(ours, b"\x1b[?1049l")
        assert process.wait(30) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def _read_until(descriptor: int, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        assert select.select([descriptor], [], [], 60)[0], seen
        seen += os.read(descriptor, 65536)


def test_sessions_of_one_process_are_told_apart(tmp_path: Path) -> None:
    """Their label is the process's."""
    spans = [chat(), chat()]
    for span, session in zip(spans, ("0199c9a7-first", "0199c9a8-other"), strict=True):
        set_attributes(span, {"gen_ai.conversation.id": session})
    state = ledger(tmp_path, request(*spans, resource={"service.instance.id": "worker-1"}))
    shown = output("top", *state)
    assert "worker-1 0199c9a7-first" in shown
    assert "worker-1 0199c9a8-other" in shown


def test_sessions_whose_ids_begin_alike_are_told_apart(tmp_path: Path) -> None:
    """A process that is named by a UUID takes no room from the ids, by which the commands find a session."""
    names = ["conversation-2026-11-a", "conversation-2026-11-b", "x" * 60 + "-1", "x" * 60 + "-2"]
    spans = [chat() for _ in names]
    for span, session in zip(spans, names, strict=True):
        set_attributes(span, {"gen_ai.conversation.id": session})
    process = "a8544fda-33e0-415a-8e90-081155981c92"
    shown = output("top", *ledger(tmp_path, request(*spans, resource={"service.instance.id": process})))
    assert all(name in shown for name in names[:2])
    assert all(f"…{name[-12:]} " in shown for name in names[2:])
    assert process not in shown


def test_a_session_takes_one_line_of_a_narrow_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models give way before its state does."""
    monkeypatch.setattr(tables, "_WIDE", 90)
    state = ledger(tmp_path, _of("f17e0a6c-ed34-4ed0-8f66-9f01315cd206"), now_ns=time.time_ns())
    (line,) = [line for line in output("top", *state).splitlines() if "gpt" in line or "f17e0a6c" in line]
    assert "active" in line
