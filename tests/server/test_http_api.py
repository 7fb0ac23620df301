"""The API as probes, Prometheus and readers of JSON see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import grpc.aio
import httpx2
import pytest

from ledger_in_memory import NOW, make_fact
from spanledger_processor.accounting.account import enter
from spanledger_processor.accounting.facts import Batch
from spanledger_processor.config.model import ApiSettings
from spanledger_processor.ledger import queries
from spanledger_processor.ledger.keys import session_key, total_key
from spanledger_processor.ledger.store import Changes, tenant_hash
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.pricing import Pricer
from spanledger_processor.server.http_api import Api, Health
from stores import WriterInMemory
from tools.programs import http_client

COST = 500_000_000_000
ANY_PORT = ApiSettings(endpoint="127.0.0.1:0")


def ledger_of_one_session() -> WriterInMemory:
    """A ledger of session "a/b c", which is its own run, half a dollar; and one of tenant "acme" of the same name."""
    ledger = WriterInMemory()
    with ledger.store.unit() as unit:
        for tenant in (tenant_hash(""), tenant_hash("acme")):
            sums = Sums(cost=COST, calls=1, priced=1, labels={"id": "a/b c"})
            whole = total_key(tenant)
            unit.apply(Changes(add={session_key(tenant, "a/b c"): sums, whole: Sums(cost=COST, calls=1)}), 1)
    return ledger


@dataclass
class Served:
    """The API on a free port, and what stands behind it."""

    client: httpx2.AsyncClient
    health: Health
    ledger: WriterInMemory
    listeners: dict[str, bool]
    state: list[bool]

    @property
    def closed(self) -> list[str]:
        """The sessions of tenant "acme" that are marked as ended."""
        with self.ledger.store.snapshot() as reader:
            return [row["id"] for row in queries.sessions(reader, tenant_hash("acme")) if row.get("closed")]


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    """Ready, with both listeners up and the state available."""
    listeners, state = {"grpc": True, "http": True}, [True]
    ledger = ledger_of_one_session()
    health = Health(lambda: listeners, lambda: state[0], phase="serving")
    api = Api(ANY_PORT, health, lambda _: b"spanledger_build_info 1\n", ledger, Pricer())
    await api.start()
    try:
        async with http_client(base_url=f"http://127.0.0.1:{api.ports['api']}") as client:
            yield Served(client, health, ledger, listeners, state)
    finally:
        await api.stop()


async def test_ready() -> None:
    async with served() as api:
        answer = await api.client.get("/readyz")
        assert answer.status_code == 200
        assert answer.json() == {
            "ready": True,
            "phase": "serving",
            "listeners": {"grpc": "up", "http": "up"},
            "state": "available",
        }


@pytest.mark.parametrize("phase", ["starting", "stopping"])
async def test_not_ready_while_starting_and_stopping_but_alive(phase: Any) -> None:
    async with served() as api:
        api.health.phase = phase
        answer = await api.client.get("/readyz")
        assert (answer.status_code, answer.json()["phase"]) == (503, phase)
        assert (await api.client.get("/livez")).status_code == 200


async def test_not_ready_with_a_listener_down() -> None:
    async with served() as api:
        api.listeners["grpc"] = False
        answer = await api.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["listeners"] == {"grpc": "down", "http": "up"}


async def test_a_state_that_is_not_available_is_said_but_data_still_flows() -> None:
    async with served() as api:
        api.state[0] = False
        answer = await api.client.get("/readyz")
        assert (answer.status_code, answer.json()["state"]) == (200, "unavailable")


async def test_where_the_ledger_is_required_it_is_not_ready_without_it() -> None:
    async with served() as api:
        api.health.requires_ledger = True
        assert (await api.client.get("/readyz")).status_code == 200
        api.state[0] = False
        answer = await api.client.get("/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert (await api.client.get("/livez")).status_code == 200


async def test_metrics_are_prometheus_text() -> None:
    async with served() as api:
        answer = await api.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert answer.content == b"spanledger_build_info 1\n"


async def test_metrics_that_are_not_whole_are_not_given() -> None:
    async with served() as api:
        whole = Api(ANY_PORT, api.health, lambda _: None, api.ledger, Pricer())
        await whole.start()
        async with http_client(base_url=f"http://127.0.0.1:{whole.ports['api']}") as client:
            assert (await client.get("/metrics")).status_code == 503
        await whole.stop()


async def test_answers_of_the_ledger() -> None:
    async with served() as api:
        assert (await api.client.get("/api/v1/summary")).json().keys() == {"total", "models"}
        for kind, query in (("sessions", ""), ("runs", "?all=true")):
            listed = await api.client.get(f"/api/v1/{kind}{query}")
            assert listed.headers["content-type"] == "application/json"
            assert [(row["id"], row["cost_usd"]) for row in listed.json()[kind]] == [("a/b c", 0.5)]


@pytest.mark.parametrize("kind", ["sessions", "runs"])
async def test_ids_are_percent_encoded(kind: str) -> None:
    async with served() as api:
        answer = await api.client.get(f"/api/v1/{kind}/{quote('a/b c', safe='')}")
        assert (answer.json()["id"], answer.json()["cost_usd"]) == ("a/b c", 0.5)
        assert (await api.client.get(f"/api/v1/{kind}/other")).status_code == 404


@pytest.mark.parametrize("odd", ["a\nb", "a\n", "a\u2028/b", "\0", "\r\n"])
async def test_an_id_may_hold_any_character(odd: str) -> None:
    """Senders choose ids: one with the end of a line in it is asked for, and ended, like any other, and no other is."""
    async with served() as api:
        with api.ledger.store.unit() as unit:
            for one in {odd, odd.strip()}:
                sums = Sums(cost=COST if one == odd else 1, calls=1, labels={"id": one})
                unit.apply(Changes(add={session_key(tenant_hash("acme"), one): sums}), 1)
        path = f"/api/v1/sessions/{quote(odd, safe='')}"
        answer = await api.client.get(path, params={"tenant": "acme"})
        assert (answer.status_code, answer.json()["id"], answer.json()["cost_usd"]) == (200, odd, 0.5)
        assert (await api.client.post(f"{path}/close", json={"tenant": "acme"})).status_code == 200
        with api.ledger.store.snapshot() as reader:
            assert reader.sums(session_key(tenant_hash("acme"), odd)).closed


@pytest.mark.parametrize("path", ["summary", "sessions", "sessions/x", "runs", "runs/x"])
async def test_a_ledger_that_cannot_be_read_is_503_with_the_reason(path: str) -> None:
    async with served() as api:
        api.ledger.problem = "/state/ledger: no space left"
        answer = await api.client.get(f"/api/v1/{path}")
        assert answer.status_code == 503
        assert answer.json() == {"error": "the ledger cannot be read now: /state/ledger: no space left"}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/api/v1/sessions"])
async def test_what_is_read_cannot_be_written_and_no_other_site_reads_along(path: str) -> None:
    async with served() as api:
        assert (await api.client.head(path)).status_code == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert (await api.client.request(method, path)).status_code == 405
        for origin in ({}, {"origin": "https://elsewhere.example"}):
            answer = await api.client.get(path, headers=origin)
            assert not [name for name in answer.headers if name.startswith("access-control")]


CLOSE = f"/api/v1/sessions/{quote('a/b c', safe='')}/close"


async def test_a_session_is_ended() -> None:
    async with served() as api:
        answer = await api.client.post(CLOSE, json={"tenant": "acme"})
        assert (answer.status_code, answer.json()) == (200, {"closed": True})
        assert api.closed == ["a/b c"]
        assert (await api.client.post(CLOSE, json={"tenant": "other"})).status_code == 404
        api.ledger.problem = "/state/ledger: no space left"
        assert (await api.client.post(CLOSE, json={"tenant": "acme"})).status_code == 503


async def test_the_tenant_of_a_session_to_end_is_not_read_from_the_query() -> None:
    """It would have ended that of the default tenant."""
    async with served() as api:
        answer = await api.client.post(f"{CLOSE}?tenant=acme", json={})
        assert (answer.status_code, "JSON" in answer.json()["error"], api.closed) == (400, True, [])


@pytest.mark.parametrize(
    ("media", "body", "status", "said"),
    [
        ("text/plain", b'{"tenant": "acme"}', 415, "the content type is not application/json"),
        ("application/x-www-form-urlencoded", b'{"tenant": "acme"}', 415, "the content type is not application/json"),
        ("application/json", b"{", 400, "the body is no JSON"),
        ("application/json; charset=utf-8", b"", 400, "the body is no JSON"),
        ("application/json", b'["acme"]', 400, "the body is no object, or its tenant no text"),
        ("application/json", b'{"tenant": 1}', 400, "the body is no object, or its tenant no text"),
        ("application/json", b'{"tenant": "acme"}' + b" " * 5000, 413, "the body has more than 4096 bytes"),
    ],
)
async def test_nothing_is_ended_by_what_another_site_could_send_or_by_nonsense(
    media: str, body: bytes, status: int, said: str
) -> None:
    async with served() as api:
        answer = await api.client.post(CLOSE, content=body, headers={"content-type": media})
        assert answer.status_code == status
        assert answer.json()["error"].startswith(said)
        assert api.closed == []


@pytest.mark.parametrize("path", ["summary", "sessions", "runs", "dimensions/agent", "unpriced", "gone", "warnings"])
async def test_days_in_the_wrong_order_are_an_error_that_says_so(path: str) -> None:
    """Nothing would be between them, which looks like nothing spent."""
    async with served() as api:
        answer = await api.client.get(f"/api/v1/{path}", params={"since": "2026-02-01", "until": "2026-01-31"})
        said = "parameter since: 2026-02-01 is after until (2026-01-31), so that no day is between them"
        assert (answer.status_code, answer.json()) == (400, {"error": said})
        answer = await api.client.get(f"/api/v1/{path}", params={"since": "2026-02-01", "until": "2026-02-01"})
        assert answer.status_code == 200


async def test_a_dimension_without_a_name_is_none() -> None:
    async with served() as api:
        answer = await api.client.get("/api/v1/dimensions/")
        assert (answer.status_code, answer.json()["error"][:40]) == (400, "no dimension ''; there are agent, model,")


async def test_runs_say_whether_they_are_the_whole() -> None:
    """Sessions that are runs of their own are a list of all sessions: it is given on demand."""
    async with served() as api:
        some = (await api.client.get("/api/v1/runs", params={"tenant": "acme"})).json()
        every = (await api.client.get("/api/v1/runs", params={"tenant": "acme", "all": "true"})).json()
        assert (some["all"], every["all"]) == (False, True)


async def test_an_unknown_path_is_404_in_json() -> None:
    async with served() as api:
        answer = await api.client.get("/nothing")
        says = "Not Found: GET /api/v1/openapi.json lists what there is"
        assert (answer.status_code, answer.json()) == (404, {"error": says})


async def test_a_method_that_a_path_does_not_take_is_405_with_those_that_it_takes() -> None:
    async with served() as api:
        answer = await api.client.delete("/api/v1/sessions/a/close")
        assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed: this path takes POST"})
        assert answer.headers["allow"] == "POST"


async def test_a_taken_port_is_said_with_its_setting() -> None:
    async with served() as api:
        taken = ApiSettings(endpoint=f"127.0.0.1:{api.client.base_url.port}")
        again = Api(taken, api.health, bytes, api.ledger, Pricer())
        with pytest.raises(OSError, match=r"api\.endpoint: cannot listen on 127"):
            await again.start()


async def test_a_grpc_client_at_the_wrong_port_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as api:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{api.client.base_url.port}") as channel:
            call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export", bytes, bytes)
            with pytest.raises(grpc.aio.AioRpcError):
                await call(b"", timeout=30)
        assert any("api: a gRPC client sends to this port" in message for message in caplog.messages)
        assert (await api.client.get("/livez")).status_code == 200


async def test_after_the_stop_nobody_answers() -> None:
    async with served() as api:
        port = api.client.base_url.port
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_all_sessions_of_a_process_are_ended_by_one_request() -> None:
    """Those of another process, and of another tenant, go on; to end them twice changes nothing."""
    async with served() as api:
        for session, instance in (("s1", "shell/1"), ("s2", "shell/1"), ("s3", "shell/2")):
            fact = make_fact(session, kind="llm", cost=1, session=session, trace=session)
            fact.instance = instance
            with api.ledger.store.unit() as unit:
                enter(Batch(tenant_hash("acme"), [fact], NOW), unit)
        for _ in range(2):
            answer = await api.client.post("/api/v1/instances/shell%2F1/close", json={"tenant": "acme"})
            assert (answer.status_code, answer.json()) == (200, {"closed": 2})
        assert sorted(api.closed) == ["s1", "s2"]
        other = await api.client.post("/api/v1/instances/shell%2F1/close", json={"tenant": ""})
        slip = await api.client.post("/api/v1/instances/shell%2F1/close", json={"tennant": "acme"})
        assert other.status_code == 404
        assert (slip.status_code, "'tennant', which nothing reads" in slip.text) == (400, True)
