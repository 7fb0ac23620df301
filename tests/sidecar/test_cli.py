"""`spanledger sidecar`: what it says, and how it ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from backend import Backend
from mux_homes import bucket, put, shut_to_us, usage
from spanledger_sidecar.cli import sidecar
from spanledger_sidecar.cursor import Cursor
from tilth_logs import RECORDED, session

MODEL = "anthropic:claude-x"


def _run(folder: Path, *arguments: str, **environ: str) -> Result:
    settings = {"HOME": str(folder / "home"), "COLUMNS": "200", **environ}
    return CliRunner(env=settings).invoke(sidecar, ["--state", str(folder / "state"), *arguments])


def _rows(result: Result) -> dict[str, list[str]]:
    """The summary's cells by the name of their row."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in result.stdout.splitlines() if line.strip()]
    return {name: values for name, *values in cells}


def test_once_ends_with_a_summary(tmp_path: Path) -> None:
    put(tmp_path / "home" / ".mux", usage({MODEL: bucket(5, 6, cost=0.5)}))
    session(tmp_path / "home" / ".tilth", "s1", RECORDED.read_text("utf-8"))
    with Backend() as backend:
        result = _run(tmp_path, "--once", "--backfill", "--endpoint", f"127.0.0.1:{backend.port}")
    assert result.exit_code == 0, result.output
    rows = _rows(result)
    assert rows["new"] == ["mux", "tilth"]
    assert rows["sessions"] == ["1", "1"]
    assert rows["tokens"] == ["11", "9,855"]
    assert rows["spans: calls"] == ["0", "4"]
    assert rows["spans: aggregates"] == ["1", "0"]
    assert rows["cost as the source reports it"] == ["$0.500000", "$0.000000"]
    assert backend.received


def test_once_fails_where_not_everything_was_taken(tmp_path: Path) -> None:
    put(tmp_path / "home" / ".mux", usage({MODEL: bucket(5, 6)}))
    result = _run(tmp_path, "--once", "--backfill", "--endpoint", "127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert result.exit_code == 1
    assert "1 spans wait for the endpoint" in result.stdout
    assert "the rest is sent next time" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backfill", "--since", "7d"], "use one of them"),
        (["--since", "someday"], "write a time such as"),
        (["--since", "2999-01-01"], "that is still to come"),
        (["--root", "x", "--source", "mux", "--source", "tilth"], "name one --source"),
        (["--source", "cursor"], "'cursor' is not one of 'mux', 'tilth'"),
        (["--protocol", "http/json"], "is not one of 'grpc', 'http/protobuf'"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = _run(tmp_path, "--once", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_protocol_of_the_environment_must_be_one_that_is_spoken(tmp_path: Path) -> None:
    result = _run(tmp_path, "--once", OTEL_EXPORTER_OTLP_PROTOCOL="http/json")
    assert result.exit_code == 2
    assert "use grpc or http/protobuf" in result.stderr


def test_a_state_in_use_is_said(tmp_path: Path) -> None:
    with Cursor(tmp_path / "state"):
        result = _run(tmp_path, "--once")
    assert result.exit_code == 2
    assert "another sidecar uses it" in result.stderr


def test_since_counts_from_a_time_on(tmp_path: Path) -> None:
    with Backend() as backend:
        put(tmp_path / "home" / ".mux", usage({MODEL: bucket(5, 6)}))
        session(tmp_path / "home" / ".tilth", "s1", RECORDED.read_text("utf-8"))
        endpoint = f"127.0.0.1:{backend.port}"
        result = _run(tmp_path, "--once", "--since", "2026-05-03T15:13:10Z", "--endpoint", endpoint)
    assert _rows(result)["tokens"] == ["11", "2,480"]  # a file without a date is of the time when it was written


def test_since_is_late_only_where_it_asks_for_more_than_what_counts(tmp_path: Path) -> None:
    """The same command from cron asks for later times each day, all of which count already."""
    put(tmp_path / "home" / ".mux", usage({MODEL: bucket(5, 6)}))
    with Backend() as backend:
        arguments = ["--once", "--endpoint", f"127.0.0.1:{backend.port}", "--since"]
        runs = [_run(tmp_path, *arguments, since) for since in ("2026-11-01", "2026-11-01", "2026-11-02", "2026-10-31")]
    late = "counts what is dated from 2026-11-01 00:00:00Z on, not from 2026-10-31 00:00:00Z"
    assert [late in run.stderr for run in runs] == [False, False, False, True]
    assert ["was read before" in run.stderr for run in runs] == [False, False, False, True]


def test_once_fails_where_nothing_can_be_read(tmp_path: Path) -> None:
    """One session of two is something; a second look, which finds nothing new, is no failure."""
    root = tmp_path / "home" / ".mux"
    with Backend() as backend:
        arguments = ["--once", "--source", "mux", "--endpoint", f"127.0.0.1:{backend.port}"]
        put(root, "{", workspace="bad")
        failed, again = _run(tmp_path, *arguments), _run(tmp_path, *arguments)
        put(root, usage({MODEL: bucket(5, 6)}), workspace="good")
        put(root, "{{", workspace="bad")
        runs = [_run(tmp_path, *arguments) for _ in range(2)]
    for run in (failed, again):
        assert (run.exit_code, "nothing could be read" in run.stderr) == (1, True)
    assert [run.exit_code for run in runs] == [0, 0]
    assert _rows(runs[0])["files with a fault"] == ["1"]


def test_a_name_on_the_disk_cannot_forge_lines(tmp_path: Path) -> None:
    put(tmp_path / "home" / ".mux", "{", workspace="a\x1b[2Jb\nmux: all is well")
    result = _run(tmp_path, "--once", "--source", "mux")
    assert "\x1b" not in result.output
    assert r"a\x1b[2Jb\nmux: all is well has a name that is no text" in result.stdout


def test_a_root_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", "utf-8")
    result = _run(tmp_path, "--once", "--root", str(tmp_path / "config.json"))
    assert (result.exit_code, "config.json is no folder" in result.stdout) == (1, True)


def test_a_home_that_may_not_be_opened_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = put(tmp_path / "home" / ".mux", usage({MODEL: bucket(5, 6)})).parents[2]
    shut_to_us(home, monkeypatch)
    result = _run(tmp_path, "--once", "--source", "mux")
    assert result.exit_code == 1, result.output
    assert f"mux: {home} may not be opened: nothing is read there" in result.stdout
    assert f"mux: {home / 'sessions'} cannot be listed: Permission denied" in result.stdout
