"""The sidecar inside `serve` (`sidecar.sources`): a real home of Xum is in the ledger, once, whatever is restarted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backend import Backend
from served import Served
from tools.programs import eventually

HOME = Path(__file__).parents[1] / "data" / "xum" / "anthropic-tools"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of a home as Xum left it."""
    return Path(shutil.copytree(HOME / "xumroot", tmp_path / "xumroot"))


def _config(root: Path, **more: Any) -> dict[str, Any]:
    return {"sidecar": {"sources": {"mux": {"roots": [str(root)]}}, **more}}


def _billed() -> int:
    """Tokens of all answers, as the model server counted them."""
    calls = json.loads((HOME / "truth.json").read_text())["calls"]
    return sum(int(call["output_total"]) for call in calls)


def _output(served: Served, *more: str) -> int:
    sessions = served.query("sessions", *more)
    return sum(int(session["tokens"]["output"]) for session in sessions)


def _delivered(backend: Backend) -> int:
    return sum(int(str(span.get("spanledger.usage.output_tokens", 0))) for span in backend.spans())


def test_what_a_home_holds_is_counted_once(root: Path, tmp_path: Path) -> None:
    """All of it with backfill; a restart, or a kill, adds nothing."""
    with Backend() as backend, Served(tmp_path, backend.port, _config(root, backfill=True)) as served:
        eventually(lambda: _delivered(backend) == _billed())
        assert _output(served) == _billed()
        assert {span["spanledger.source"] for span in backend.spans()} == {"file:mux"}
        for end in (served.program.stop, served.program.kill):
            end()
            served.program.start()
        eventually(lambda: served.metric("spanledger_state_available") == 1)
        assert _output(served) == _billed()
        (session,) = served.query("sessions")
        assert session["id"] == "89bac497e7"
        assert session["cost_usd"] > 0


def test_a_backfill_over_a_ledger_that_has_the_sessions_is_refused(root: Path, tmp_path: Path) -> None:
    """The sidecar's state was lost, the ledger was not: it says why it does not run, and nothing counts twice."""
    with Backend() as backend, Served(tmp_path, backend.port, _config(root, backfill=True)) as served:
        eventually(lambda: _delivered(backend) == _billed())
        spans = len(list(backend.spans()))
        for _ in range(2):
            served.program.stop()
            shutil.rmtree(served.state / "sidecar", ignore_errors=True)
            served.program.start()
            log = served.program.log()
            assert "the ledger has session 89bac497e7 of mux already" in log
            assert f"spanledger sidecar --backfill --force --once --state {served.state}" in log
        assert _output(served) == _billed()
        assert len(list(backend.spans())) == spans


def test_a_backfill_over_a_tenant_s_sessions_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=blue")
    config = _config(root, backfill=True) | {"processor": {"tenant": {"keys": ["team"]}}}
    with Backend() as backend, Served(tmp_path, backend.port, config) as served:
        eventually(lambda: _output(served, "--tenant", "blue") == _billed())
        served.program.stop()
        shutil.rmtree(served.state / "sidecar")
        served.program.start()
        assert "the ledger has session 89bac497e7 of mux already" in served.program.log()


def test_what_was_there_before_counts_as_old(root: Path, tmp_path: Path) -> None:
    with Backend() as backend, Served(tmp_path, backend.port, _config(root)) as served:
        assert "reading usage files of mux" in served.program.log()
        served.program.stop()
        assert served.program.ended_with == 0
        assert served.query("sessions") == []


def test_its_spans_wait_while_the_destination_is_away(root: Path, tmp_path: Path) -> None:
    """They stay on disk until it is back, also over a restart."""
    with Backend() as backend:
        served = Served(tmp_path, backend.port, _config(root, backfill=True))
        with served:
            backend.hang()
            assert backend.arrived.acquire(timeout=60)
            served.program.kill()
            backend.go_on()
            served.program.start()
            eventually(lambda: _delivered(backend) >= _billed())
            assert _output(served) == _billed()


def test_without_a_folder_for_its_state_data_flows(root: Path, tmp_path: Path) -> None:
    """A file stands where its folder should be: the server says so and serves."""
    served = Served(tmp_path, 1, _config(root))
    served.state.mkdir()
    (served.state / "sidecar").write_text("")
    with served:
        assert "ERROR server.embedded_sidecar: the sidecar does not run" in served.program.log()
