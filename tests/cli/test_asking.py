"""Where a command asks: the ledger on disk, or a running instance; and which of them it says it asked."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import Backend
from chats import chat, request, set_attributes
from commands import answer, ledger, output, run
from served import Served

TOKEN = "sesame-4711"
COMMANDS = (
    ("summary",),
    ("summary", "--since", "2026-01-01"),
    ("summary", "--by", "day"),
    ("summary", "--by", "day_model"),
    ("summary", "--by", "model"),
    ("sessions",),
    ("sessions", "--sort", "cost", "--limit", "1"),
    ("sessions", "--unpriced", "any"),
    ("session", "ä/b?c"),
    ("session", ""),
    ("runs", "--all"),
    ("runs",),
    ("run", "ä/b?c"),
    ("tenants",),
    ("unpriced",),
    ("tools",),
    ("prices", "gpt-4o-mini"),
)


def _of(session: str, model: str = "gpt-4o-mini") -> bytes:
    span = chat()
    set_attributes(span, {"gen_ai.conversation.id": session, "gen_ai.request.model": model})
    return request(span)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a token, and something in its ledger."""
    more = {"api": {"auth": {"bearer_token": TOKEN}}}
    with Backend() as backend, Served(tmp_path_factory.mktemp("served"), backend.port, more) as running:
        running.export(_of("ä/b?c"), _of("b", "acme-7b"), request(chat()))
        yield running


@pytest.fixture
def url(served: Served, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where it is asked, with its token in the environment."""
    monkeypatch.setenv("SPANLEDGER_API_TOKEN", TOKEN)
    return f"http://127.0.0.1:{served.api}"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_instance_answers_what_its_ledger_does(command: tuple[str, ...], served: Served, url: str) -> None:
    on_disk = ("--config", str(served.config))
    assert answer(*command, "--endpoint", url) == answer(*command, *on_disk)
    assert output(*command, "--endpoint", url) == output(*command, *on_disk)


@pytest.mark.parametrize("command", [("sessions",), ("runs", "--all"), ("summary",), ("tenants",), ("unpriced",)])
def test_csv_too(command: tuple[str, ...], served: Served, url: str) -> None:
    table = output(*command, "--csv", "--endpoint", url)
    assert table == output(*command, "--csv", "--config", str(served.config))
    head, *rows = table.splitlines()
    assert "cost_usd" in head or "reason" in head
    assert rows


def test_it_is_found_in_the_environment(
    url: str, served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is given on the command line goes first."""
    monkeypatch.setenv("SPANLEDGER_ENDPOINT", url.removeprefix("http://"))
    assert answer("summary")["total"]["calls"] == 3
    elsewhere = ledger(tmp_path / "other")
    assert answer("summary", *elsewhere)["total"]["calls"] == 0
    assert answer("summary", "--endpoint", url, *elsewhere)["total"]["calls"] == 3


def test_a_session_is_ended_there(url: str, served: Served) -> None:
    served.export(_of("ends"))
    assert "marked as ended" in output("close", "ends", "--endpoint", url)
    assert answer("session", "ends", "--endpoint", url)["closed"] is True
    refused = run("close", "nope", "--endpoint", url)
    assert (refused.exit_code, url in refused.stderr) == (1, True)


def test_what_is_wrong_is_said_so_that_it_can_be_mended(
    url: str, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    grpc = run("summary", "--endpoint", f"http://127.0.0.1:{served.grpc}")
    assert (grpc.exit_code, "port of api.endpoint" in grpc.stderr) == (1, True)
    otlp = run("summary", "--endpoint", f"http://127.0.0.1:{served.http}")
    assert (otlp.exit_code, "port of api.endpoint" in otlp.stderr) == (1, True)
    nobody = run("summary", "--endpoint", "http://127.0.0.1:1")
    assert (nobody.exit_code, "127.0.0.1:1" in nobody.stderr) == (1, True)
    for odd in ("ftp://x", "http://", "http://x/v1", "http://u:p@x", "http://x:99999", "http://x?y"):
        assert run("summary", "--endpoint", odd).exit_code == 2
    nope = run("session", "nope", "--endpoint", url)
    assert (nope.exit_code, url in nope.stderr) == (1, True)
    tenant = run("summary", "--tenant", "nope", "--endpoint", url)
    assert (tenant.exit_code, "'nope'" in tenant.stderr) == (1, True)
    monkeypatch.setenv("SPANLEDGER_API_TOKEN", "wrong")
    wrong = run("summary", "--endpoint", url)
    assert (wrong.exit_code, "SPANLEDGER_API_TOKEN" in wrong.stderr, TOKEN in wrong.stderr) == (1, True, False)
    monkeypatch.delenv("SPANLEDGER_API_TOKEN")
    known = run("summary", "--endpoint", url, "--config", str(served.config))
    assert known.exit_code == 0, "the token of the configuration"


def test_the_configuration_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the working directory, of the environment, and the given one, which goes first."""
    for name, calls in (("here", 1), ("named", 2), ("given", 3)):
        folder = tmp_path / name
        ledger(folder, *(_of(str(number)) for number in range(calls)))
        (folder / "spanledger.yaml").write_text(json.dumps({"state": {"path": str(folder)}}))
    monkeypatch.chdir(tmp_path / "here")
    assert answer("summary")["total"]["calls"] == 1
    monkeypatch.setenv("SPANLEDGER_CONFIG", str(tmp_path / "named" / "spanledger.yaml"))
    assert answer("summary")["total"]["calls"] == 2
    assert str(tmp_path / "named" / "spanledger.yaml") in output("check")
    assert answer("summary", "--config", str(tmp_path / "given" / "spanledger.yaml"))["total"]["calls"] == 3
    monkeypatch.setenv("SPANLEDGER_CONFIG", str(tmp_path / "nowhere.yaml"))
    assert run("summary").exit_code == 2


def test_a_ledger_that_is_empty_or_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = ledger(tmp_path / "state")
    assert f"in the ledger in {tmp_path / 'state'} (built-in configuration)" in output("summary", *state)
    missing = run("session", "x", *state)
    assert str(tmp_path / "state") in missing.stderr
    shutil.rmtree(tmp_path / "state")
    nowhere = run("summary", *state)
    assert (nowhere.exit_code, "--endpoint" in nowhere.stderr) == (1, True)


def test_escapes_in_json_and_tables(tmp_path: Path) -> None:
    odd = "a\u202eb\u2028c\u0085d\u200fe\x1bf"
    state = ledger(tmp_path / "state", _of(odd))
    for shown in (output("sessions", *state), output("sessions", "--json", *state), output("session", odd, *state)):
        assert not {"\u202e", "\u2028", "\u0085", "\u200f", "\x1b"} & set(shown)
        assert "\\u202e" in shown
    assert answer("sessions", *state)[0]["id"] == odd


def test_a_span_of_the_ledger_is_explained(tmp_path: Path) -> None:
    span = chat()
    state = ledger(tmp_path / "state", request(span), now_ns=time.time_ns())
    ids = (span.trace_id.hex().upper(), span.span_id.hex())
    reported = answer("span", *ids, *state)
    assert (reported["role"], reported["counts_now"]) == ("counted", True)
    shown = output("span", *ids, *state)
    assert "gpt-4o-mini of openai" in shown
    assert "no other span that counts reports its usage" in shown
    missing = run("span", ids[0], "00" * 8, *state)
    assert (missing.exit_code, "state.retention.spans" in missing.stderr) == (1, True)
    mistyped = run("span", ids[0], "0o", *state)
    assert (mistyped.exit_code, "SPAN_ID is not hexadecimal" in mistyped.stderr) == (2, True)


@pytest.mark.parametrize("remote", [True, False], ids=["an instance", "on disk"])
@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("sessions", "--dimension", "user"), "--dimension: write name:value, such as user:ann"),
        (("session", "b", "--candidates", "--models", "acme"), "--models: the price list has no model 'acme'"),
        (("summary", "--since", "2026-02-01", "--until", "2026-01-01"), "--since: 2026-02-01 is after until"),
    ],
)
def test_what_is_wrong_is_told_of_the_option(
    command: tuple[str, ...],
    says: str,
    remote: bool,  # noqa: FBT001 - a parameter of pytest
    served: Served,
    url: str,
) -> None:
    """The API speaks of its parameters; on the command line nobody gave one."""
    result = run(*command, *(("--endpoint", url) if remote else ("--config", str(served.config))))
    assert result.exit_code == 2
    assert result.stderr.removeprefix(f"the instance at {url}: ").startswith(says)


def _forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder be as that of another user is. Its mode would not do: root may look everywhere."""
    look = os.stat

    def stat(path: Any, *args: Any, **named: Any) -> os.stat_result:
        if not isinstance(path, int) and folder in Path(os.path.abspath(os.fsdecode(path))).parents:  # noqa: PTH100
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, *args, **named)

    monkeypatch.setattr(os, "stat", stat)


@pytest.mark.parametrize("command", [("sessions",), ("summary",), ("top",), ("forget", "session", "a")], ids=" ".join)
def test_the_ledger_of_another_user_is_told_as_such(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """State folders are for their user alone, so this is what anyone else meets first."""
    state = ledger(tmp_path / "state", _of("a"))
    _forbid(monkeypatch, tmp_path / "state")
    result = run(*command, *state, "--set", "api.endpoint=127.0.0.1:0")
    assert result.exit_code == 1
    assert f"the ledger in {tmp_path / 'state'} (built-in configuration) may not be read: run the " in result.stderr


def test_a_working_directory_of_another_user_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That of root, when the command runs as another user: whether a configuration is there is not known."""
    (tmp_path / "there").mkdir()
    (tmp_path / "given.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path / "there")
    _forbid(monkeypatch, tmp_path / "there")
    result = run("prices", "gpt-4o-mini")
    assert (result.exit_code, result.stderr) == (
        2,
        "the working directory may not be read, and with it no spanledger.yaml: give --config FILE\n",
    )
    assert run("prices", "gpt-4o-mini", "--config", str(tmp_path / "given.yaml")).exit_code == 0


def test_the_signing_key_of_another_user_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it `explain` would sign by a key that nobody else has, and not say so."""
    state = tmp_path / "state"
    state.mkdir()
    _forbid(monkeypatch, state)
    result = run("explain", "-", "--set", f"state.path={state}", given=request(chat()))
    assert result.exit_code == 1
    assert result.stderr == (
        f"{state / 'signing.key'}: Permission denied; give SPANLEDGER_SIGNING_KEY, or another state.path\n"
    )
