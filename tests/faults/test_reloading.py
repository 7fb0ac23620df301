"""SIGHUP: what is new is used, what is wrong changes nothing, and the log says which."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend import Backend
from chats import COST, chat, request, set_attributes
from served import Served
from tools.programs import eventually


def reconfigured(served: Served, change: Callable[[dict[str, Any]], object], says: str) -> None:
    """Change the file, send SIGHUP, and wait until the log says so once more."""
    config = json.loads(served.config.read_text())
    change(config)
    served.config.write_text(json.dumps(config))
    hung_up(served, says)


def hung_up(served: Served, says: str) -> None:
    before = served.program.log().count(says)
    os.kill(served.program.pid, signal.SIGHUP)
    eventually(lambda: served.program.log().count(says) > before)


def token(value: str) -> dict[str, Any]:
    return {"receivers": {"otlp": {"protocols": {"http": {"auth": {"bearer_token": value}}}}}}


def status(served: Served, shown: str) -> int:
    return served.post(request(chat()), authorization=f"Bearer {shown}").status_code


OVERRIDE = {"model": "*", "input": 0, "output": 0, "name": "free"}


def test_prices_and_tokens_are_put_into_use(tmp_path: Path) -> None:
    with Backend() as backend, Served(tmp_path, backend.port, token("old")) as served:
        assert (status(served, "old"), status(served, "new")) == (200, 401)

        def change(config: dict[str, Any]) -> None:
            config["receivers"]["otlp"]["protocols"]["http"]["auth"]["bearer_token"] = "new"
            config["processor"] = {"pricing": {"overrides": [OVERRIDE]}}

        reconfigured(served, change, "reloaded: prices, keys, tokens, headers, certificates, budgets and warnings")
        assert (status(served, "old"), status(served, "new")) == (401, 200)
        assert served.total_usd() == pytest.approx(COST, rel=1e-9)  # of the first one alone


def test_a_wrong_configuration_changes_nothing_and_is_told(tmp_path: Path) -> None:
    with Backend() as backend, Served(tmp_path, backend.port, token("old")) as served:

        def change(config: dict[str, Any]) -> None:
            config["receivers"]["otlp"]["protocols"]["http"]["auth"]["bearer_token"] = "new"
            config["exporters"]["otlp_grpc"]["oops"] = 1

        reconfigured(served, change, "not reloaded, everything stays as it was: exporters.otlp_grpc.oops: unknown key")
        assert (status(served, "old"), status(served, "new")) == (200, 401)

        def mend(config: dict[str, Any]) -> None:
            del config["exporters"]["otlp_grpc"]["oops"]
            config["exporters"]["otlp_grpc"]["tls"] = {"ca_file": str(tmp_path / "missing.pem")}
            config["exporters"]["otlp_grpc"]["endpoint"] = f"https://localhost:{backend.port}"

        reconfigured(served, mend, "everything stays as it was: exporters.otlp_grpc: tls.ca_file")
        assert (status(served, "old"), status(served, "new")) == (200, 401)


def test_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    with Backend() as backend, Served(tmp_path, backend.port) as served:

        def change(config: dict[str, Any]) -> None:
            config["exporters"]["otlp_grpc"]["timeout"] = "7s"
            config["api"]["tls"] = None
            config["state"]["max_size_mib"] = 99

        reconfigured(served, change, "next start: exporters.otlp_grpc.timeout, state.max_size_mib")
        assert served.post(request(chat())).status_code == 200


def test_every_worker_takes_it_over(tmp_path: Path) -> None:
    with Backend() as backend, Served(tmp_path, backend.port, token("old"), arguments=("--workers", "2")) as served:

        def change(config: dict[str, Any]) -> None:
            config["receivers"]["otlp"]["protocols"]["http"]["auth"]["bearer_token"] = "new"

        reconfigured(served, change, "reloaded: prices")
        eventually(lambda: served.program.log().count("reloaded: prices") == 3)  # the ledger's process too
        assert {status(served, "old") for _ in range(12)} == {401}
        assert {status(served, "new") for _ in range(12)} == {200}


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_budgets_and_summaries_are_put_into_use(workers: tuple[str, ...], tmp_path: Path) -> None:
    """Told by log record and span also where the exporters are in other processes than the ledger."""

    def change(config: dict[str, Any]) -> None:
        budget = {"name": "small", "amount": COST / 2, "period": "session"}
        summary = {"enabled": True, "wait_duration": "0s"}
        config["processor"] = {"budgets": [budget], "sessions": {"summary": summary}}

    span = chat()
    set_attributes(span, {"gen_ai.conversation.id": "the one"})
    with Backend() as backend, Served(tmp_path, backend.port, arguments=workers) as served:
        reconfigured(served, change, "reloaded: prices")
        processes = 1 + 2 * bool(workers)
        eventually(lambda: served.program.log().count("reloaded: prices") == processes)
        served.export(request(span))
        asked = served.query("budgets", "--endpoint", f"http://127.0.0.1:{served.api}")
        assert [(row["budget"], row["value"], row["over"]) for row in asked["budgets"]] == [("small", "the one", True)]
        eventually(lambda: _holding(backend, b"spanledger.budget.threshold") == 1)
        served.query("close", "the one")
        eventually(lambda: _holding(backend, b"spanledger.session.summary") == 1)
        assert _holding(backend, b"session-summary") == 2, "the span, and the record that names it"
        assert "not taken over" not in served.program.log()


def _holding(backend: Backend, text: bytes) -> int:
    return sum(text in body for body in backend.received)
