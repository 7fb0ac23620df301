"""Who may ask a running server's API: tokens, other sites' pages, probes, TLS."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from backend import Backend
from certificates import Certificates
from chats import chat, request, set_attributes
from commands import answer, run
from served import Served
from tools.programs import free_port, http_get, http_post

TOKEN = "sesame-4711"
SHOWN = {"authorization": f"Bearer {TOKEN}"}
BEHIND_A_TOKEN = ("/metrics", "/api/v1/summary", "/api/v1/sessions", "/api/v1/sessions/a", "/api/v1/runs", "/nowhere")


def _get(port: int, path: str, **headers: str) -> httpx2.Response:
    return http_get(f"http://127.0.0.1:{port}{path}", headers=headers)


def _named() -> bytes:
    span = chat()
    set_attributes(span, {"gen_ai.conversation.id": "a"})
    return request(span)


def test_a_token_is_demanded_of_everybody_but_probes(tmp_path: Path) -> None:
    with Backend() as backend, Served(tmp_path, backend.port, {"api": {"auth": {"bearer_token": TOKEN}}}) as served:
        served.export(_named())
        for path in BEHIND_A_TOKEN:
            for wrong in ({}, {"authorization": "Bearer x"}, {"authorization": TOKEN}):
                refused = _get(served.api, path, **wrong)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
                assert TOKEN not in refused.text
            assert _get(served.api, path, **SHOWN).status_code == (404 if path == "/nowhere" else 200)
        close = f"http://127.0.0.1:{served.api}/api/v1/sessions/a/close"
        assert http_post(close, json={"tenant": ""}).status_code == 401
        assert "closed" not in answer("session", "a", "--config", str(served.config))
        assert _get(served.api, "/livez").status_code == _get(served.api, "/readyz").status_code == 200
        assert run("close", "a", "--config", str(served.config)).exit_code == 0
        assert answer("session", "a", "--config", str(served.config))["closed"] is True


FOREIGN = ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "svc.evil.example")
OURS = (
    "127.0.0.1",
    "localhost:1",
    "[::1]:4320",
    "10.1.2.3:9",
    "spanledger:4320",
    "LEDGER.example.com",
    "a.ns.svc:1",
    "host.docker.internal",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> object:
    """One server without a token, which may be asked for as ledger.example.com."""
    more = {"api": {"allowed_hosts": ["ledger.example.com"]}}
    with Backend() as backend, Served(tmp_path_factory.mktemp("served"), backend.port, more) as running:
        running.export(_named())
        yield running


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_that_a_stranger_can_register_is_refused(host: str, served: Served) -> None:
    for path in ("/api/v1/sessions", "/metrics", "/nowhere"):
        refused = _get(served.api, path, host=host)
        assert refused.status_code == 403
        assert "api.allowed_hosts" in refused.json()["error"]
    close = f"http://127.0.0.1:{served.api}/api/v1/sessions/a/close"
    origin = {"host": host, "origin": f"http://{host}"}
    assert http_post(close, json={"tenant": ""}, headers=origin).status_code == 403
    assert _get(served.api, "/livez", host=host).status_code == 200


@pytest.mark.parametrize("host", OURS)
def test_addresses_and_names_of_ours_are_answered(host: str, served: Served) -> None:
    assert _get(served.api, "/api/v1/sessions", host=host).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://[", "file://"])
def test_a_page_of_another_origin_is_refused(origin: str, served: Served) -> None:
    refused = _get(served.api, "/api/v1/sessions", origin=origin)
    assert (refused.status_code, "Origin" in refused.json()["error"]) == (403, True)
    close = f"http://127.0.0.1:{served.api}/api/v1/sessions/a/close"
    assert http_post(close, json={"tenant": ""}, headers={"origin": origin}).status_code == 403
    assert "closed" not in answer("session", "a", "--config", str(served.config))


def test_a_page_of_its_own_may_ask(served: Served) -> None:
    own = _get(served.api, "/api/v1/sessions", origin=f"http://127.0.0.1:{served.api}")
    assert own.status_code == 200
    assert own.headers["x-content-type-options"] == "nosniff"
    assert own.headers["cache-control"] == "no-store"


def test_health_and_metrics_on_a_listener_of_their_own(tmp_path: Path) -> None:
    port = free_port()
    api = {"auth": {"bearer_token": TOKEN}, "health_check": {"endpoint": f"127.0.0.1:{port}"}}
    with Backend() as backend, Served(tmp_path, backend.port, {"api": api}, probed_at=port):
        assert _get(port, "/livez").status_code == 200
        assert "spanledger_build_info" in _get(port, "/metrics").text
        assert _get(port, "/api/v1/summary").status_code == 404
        assert _get(port, "/metrics", host="evil.example").status_code == 403


def test_they_are_then_gone_from_the_api_in_several_processes_too(tmp_path: Path) -> None:
    port = free_port()
    api = {"health_check": {"endpoint": f"127.0.0.1:{port}"}}
    with (
        Backend() as backend,
        Served(tmp_path, backend.port, {"api": api}, arguments=("--workers", "2"), probed_at=port) as served,
    ):
        for path in ("/livez", "/readyz", "/metrics"):
            assert _get(served.api, path).status_code == 404
        assert _get(served.api, "/api/v1/summary").status_code == 200


def test_over_tls_the_command_trusts_the_configured_certificate(tmp_path: Path) -> None:
    certificates, port = Certificates(tmp_path), free_port()
    api = {"tls": certificates.server_settings(), "health_check": {"endpoint": f"127.0.0.1:{port}"}}
    with Backend() as backend, Served(tmp_path / "served", backend.port, {"api": api}, probed_at=port) as served:
        served.export(_named())
        with pytest.raises(httpx2.HTTPError):
            _get(served.api, "/api/v1/summary")
        assert run("close", "a", "--config", str(served.config)).exit_code == 0
