"""The Collector with the component in it gives what `serve` gives, and says so where it cannot."""

from __future__ import annotations

import hashlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from backend import Backend
from captures import captures
from certificates import Certificates
from chats import COST, chat, request, set_attributes
from conversations import FORMS, add_conversation
from real_parts import ROOT, collector
from replays import attributes, spans_of
from served import Served, Server
from spanledger_processor.receivers.driver import detect_signal
from tools.programs import Program, Running, eventually, free_port, http_post, substituted

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

PARTS = ("processors", "connectors")
PATIENCE = [*(f"{part}.spanledger.timeout=30s" for part in PARTS), "exporters.otlp_grpc/backend.timeout=60s"]
"""The machine may be busy: what the backend does not answer in time is sent again."""
TOKEN = "a token of both"
KEY = "a key for both of them, long enough"


class ComponentPair(Running):
    """`deploy/collector/component.yaml` and `enricher.yaml` on free ports; metrics go where traces go.

    `sets` go to `serve --set`, `collector_sets` to the Collector's `--set`.
    """

    def __init__(
        self,
        folder: Path,
        traces_port: int,
        logs_port: int,
        sets: Sequence[str] = (),
        collector_sets: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.grpc, self.http, health, enricher, api = (free_port() for _ in range(5))
        shipped = ROOT / "deploy" / "collector"
        config = folder / "enricher.yaml"
        config.write_text(substituted((shipped / "enricher.yaml").read_text(), {"}:4320": f"}}:{api}"}))
        self._environment = {
            "SPANLEDGER_STATE": str(folder / "state"),
            "ENRICHER_ENDPOINT": f"127.0.0.1:{enricher}",
            "BACKEND_ENDPOINT": f"127.0.0.1:{traces_port}",
            "LOGS_ENDPOINT": f"127.0.0.1:{logs_port}",
            "COLLECTOR_STORAGE": str(folder / "storage"),
        }
        self.server = Server(
            folder, config, api, arguments=[f"--set={text}" for text in sets], environment=self._environment
        )
        self.spanledger = self.server.program
        self.collector = self._collector(folder, self.grpc, self.http, health, collector_sets)
        self.programs = (self.spanledger, self.collector)

    def _collector(
        self, folder: Path, grpc: int, http: int, health: int, collector_sets: Sequence[str] = ()
    ) -> Program:
        ports = {"}:4317": f"}}:{grpc}", "}:4318": f"}}:{http}", "}:13133": f"}}:{health}"}
        config = folder / "component.yaml"
        config.write_text(substituted((ROOT / "deploy/collector/component.yaml").read_text(), ports))
        return collector(
            folder,
            [config],
            health,
            self._environment | {"COLLECTOR_STORAGE": str(folder / "storage")},
            name="otelcol-spanledger",
            part="otelcol-spanledger",
            sets=["service.telemetry.metrics.level=none", *PATIENCE, *collector_sets],
        )

    @contextmanager
    def replica(self, folder: Path) -> Iterator[None]:
        """Run a second Collector beside the first, with the same enricher; what is posted goes to it meanwhile."""
        folder.mkdir()
        first, (grpc, self.http, health) = self.http, (free_port() for _ in range(3))
        second = self._collector(folder, grpc, self.http, health)
        try:
            second.start()
            yield
        finally:
            second.stop()
            self.http = first

    def post(self, signal: str, body: bytes, more: Mapping[str, str] | None = None) -> int:
        """Post one encoded request to the Collector, with `more` headers, and return the status."""
        url = f"http://127.0.0.1:{self.http}/v1/{signal}"
        headers = {"content-type": "application/x-protobuf", **(more or {})}
        return http_post(url, content=body, headers=headers).status_code

    def ledger(self, *arguments: str) -> dict[str, Any]:
        """Return the whole ledger, as `spanledger summary` reads it beside the running server."""
        summary: dict[str, Any] = self.server.query("summary", *arguments)
        return summary


def _spans(backend: Backend) -> Iterator[Span]:
    for body in list(backend.received):
        yield from _read(body)


def _read(body: bytes) -> Iterator[Span]:
    return spans_of(ExportTraceServiceRequest.FromString(body))


def _by_id(spans: Iterable[Span]) -> Counter[tuple[bytes, bytes, bytes]]:
    """Each span with its ids, once for each time it came. The Collector writes a status where none was set."""
    spans = list(spans)
    for span in spans:
        span.status.SetInParent()
    return Counter((span.trace_id, span.span_id, span.SerializeToString(deterministic=True)) for span in spans)


def _arrived(backend: Backend, count: int) -> Callable[[], None]:
    def arrived() -> None:
        assert sum(1 for _ in _spans(backend)) >= count

    return arrived


def test_every_recording_leaves_as_through_serve(component_collector: None, tmp_path: Path) -> None:
    more = {"processor": {"tools": {"signing_key": KEY}}, "exporters": {"otlp_grpc": {"signals": ["traces"]}}}
    with (
        Backend() as direct,
        Backend() as behind,
        Backend() as logs,
        Served(tmp_path / "serve", direct.port, more) as serve,
        ComponentPair(tmp_path / "component", behind.port, logs.port, [f"processor.tools.signing_key={KEY}"]) as pair,
    ):
        for capture in captures():
            for signal, body in capture.requests:
                if signal == "metrics" or detect_signal(signal, body) != signal:
                    continue  # spans that a client posts to the logs path: no Collector reads them
                if signal == "traces":
                    body += _plain(body)  # encoded requests concatenate
                assert serve.post(body, f"/v1/{signal}").status_code == 200, capture.name
                assert pair.post(signal, body) == 200, capture.name
        for form in FORMS:  # loops that only messages tell of
            body = request(add_conversation(chat(), form, [({"path": "a"}, "the same again and again")] * 3))
            assert serve.post(body, "/v1/traces").status_code == pair.post("traces", body) == 200
        wanted = _by_id(_spans(direct))
        eventually(_arrived(behind, wanted.total()))
        assert _by_id(_spans(behind)) == wanted
        stuck = [span for span in _spans(behind) if attributes(span).get("spanledger.tool.loop")]
        assert sum("spanledger.tool.signature" not in attributes(span) for span in stuck) >= len(FORMS)
        assert logs.received
        assert pair.ledger() == serve.query("summary")


def _plain(body: bytes) -> bytes:
    """A request of plain spans: one of a trace of its own, one in each trace of `body`, below its first span."""
    plain = ExportTraceServiceRequest()
    spans = plain.resource_spans.add().scope_spans.add().spans
    own = hashlib.sha256(body).digest()
    spans.add(trace_id=own[:16], span_id=own[16:24], name="GET /")
    for trace_id, first in {span.trace_id: span for span in reversed(list(_read(body)))}.items():
        spans.add(
            trace_id=trace_id,
            span_id=hashlib.sha256(own + trace_id).digest()[:8],
            parent_span_id=first.span_id,
            name="GET /",
        )
    return plain.SerializeToString()


def test_an_outage_passes_marked_spans_and_ends_by_itself(component_collector: None, tmp_path: Path) -> None:
    with Backend() as backend, ComponentPair(tmp_path, backend.port, backend.port) as pair:
        calls = iter(range(1, 1000))

        def send() -> dict[str, object]:
            number = next(calls)
            span = chat(trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
            assert pair.post("traces", request(span)) == 200
            eventually(_arrived(backend, number))
            return next(attributes(s) for s in _spans(backend) if s.span_id == span.span_id)

        assert "spanledger.cost.usd" in send()
        pair.spanledger.kill()
        missed = send()
        assert missed["spanledger.missed"] in ("not_connected", "timeout")
        assert "spanledger.cost.usd" not in missed
        pair.spanledger.start()

        def enriched() -> None:
            assert "spanledger.cost.usd" in send()

        eventually(enriched)
        spans = list(_spans(backend))
        assert Counter(span.span_id for span in spans).most_common(1)[0][1] == 1  # none was delivered twice
        priced = sum("spanledger.cost.usd" in attributes(span) for span in spans)
        assert pair.ledger()["total"]["calls"] == priced


def test_a_restart_under_load_loses_nothing_and_prices_nothing_twice(component_collector: None, tmp_path: Path) -> None:
    """100 senders at once, and the enricher is killed among them: what is not enriched is marked, and comes again."""
    bodies = {number: request(_numbered(number)) for number in range(1, 301)}
    with Backend() as backend, ComponentPair(tmp_path, backend.port, backend.port) as pair:
        assert pair.post("traces", request(_numbered(1000))) == 200  # the handshake is done
        with ThreadPoolExecutor(100) as senders:
            sent = [senders.submit(pair.post, "traces", bodies[number]) for number in range(1, 151)]
            eventually(_arrived(backend, 50))
            pair.spanledger.kill()
            sent += [senders.submit(pair.post, "traces", bodies[number]) for number in range(151, 301)]
            eventually(_arrived(backend, 200))  # some of them were sent when nothing answered
            pair.spanledger.start()
            assert {one.result() for one in sent} == {200}
        eventually(_arrived(backend, 301))
        spans = {int.from_bytes(span.span_id, "big"): attributes(span) for span in _spans(backend)}
        assert spans.keys() == bodies.keys() | {1000}
        assert sum(1 for _ in _spans(backend)) == 301
        missed = {number for number, span in spans.items() if "spanledger.missed" in span}
        priced = {number for number, span in spans.items() if span.get("spanledger.cost.usd") == COST}
        assert missed | priced == spans.keys()
        assert not missed & priced
        assert missed
        assert {spans[number]["spanledger.missed"] for number in missed} <= {"not_connected", "timeout"}
        assert len(priced) <= pair.ledger()["total"]["calls"] <= 301

        def all_priced() -> None:
            for number in sorted(missed):
                assert pair.post("traces", bodies[number]) == 200
            last = {int.from_bytes(span.span_id, "big"): attributes(span) for span in _spans(backend)}
            assert all(last[number].get("spanledger.cost.usd") == COST for number in missed)

        eventually(all_priced)
        assert pair.ledger()["total"]["calls"] == 301


def _numbered(number: int) -> Span:
    return chat(trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))


class _Sender:
    """Sends spans through a pair, and finds them at the backend by their ids."""

    def __init__(self, pair: ComponentPair, backend: Backend) -> None:
        self._pair, self._backend = pair, backend

    def send(self, *spans: Span, headers: Mapping[str, str] | None = None) -> list[dict[str, object]]:
        """The attributes with which the spans arrive, each time counting what arrived before."""
        arrived = sum(1 for _ in _spans(self._backend))
        assert self._pair.post("traces", request(*spans), headers) == 200
        eventually(_arrived(self._backend, arrived + len(spans)))
        last = {span.span_id: attributes(span) for span in _spans(self._backend)}
        return [last[span.span_id] for span in spans]


def test_one_that_hangs_answers_the_same_once_it_goes_on(component_collector: None, tmp_path: Path) -> None:
    """A timeout may leave a call in the ledger whose span went on unpriced: it is not counted again."""
    patience = ["processors.spanledger.timeout=2s"]
    with Backend() as backend, ComponentPair(tmp_path, backend.port, backend.port, (), patience) as pair:
        sender, first, span = _Sender(pair, backend), chat(), chat()

        def enriched_before() -> None:
            assert sender.send(first)[0].get("spanledger.cost.usd") == COST

        eventually(enriched_before)
        os.kill(pair.spanledger.pid, signal.SIGSTOP)
        try:
            [missed] = sender.send(span)
        finally:
            os.kill(pair.spanledger.pid, signal.SIGCONT)
        assert missed["spanledger.missed"] == "timeout"
        assert "spanledger.cost.usd" not in missed

        def enriched() -> None:
            [again] = sender.send(span)
            assert again.get("spanledger.cost.usd") == COST
            assert "spanledger.missed" not in again

        eventually(enriched)
        assert pair.ledger()["total"]["calls"] == 2


def test_a_plain_parent_names_the_session_of_what_comes_later(component_collector: None, tmp_path: Path) -> None:
    """Its link waits in the Collector, and is gone with it: then the call counts, and has no session."""
    with Backend() as backend, ComponentPair(tmp_path, backend.port, backend.port) as pair:
        sender = _Sender(pair, backend)
        sender.send(chat())  # the handshake is done
        calls = []
        for _ in range(2):
            call = chat(parent_span_id=b"rootspan")
            root = Span(name="GET /", trace_id=call.trace_id, span_id=call.parent_span_id)
            set_attributes(root, {"session.id": "one"})
            assert sender.send(root) == [{"session.id": "one"}]
            calls.append(call)
        [first] = sender.send(calls[0])
        assert (first["spanledger.session.id"], first["spanledger.session.source"]) == ("one", "parent")
        pair.collector.stop()
        pair.collector.start()
        [second] = sender.send(calls[1])
        assert second["spanledger.cost.usd"] == COST
        assert "spanledger.session.id" not in second


def test_a_second_replica_does_not_know_the_links_of_the_first(component_collector: None, tmp_path: Path) -> None:
    """Without routing by trace id: the call counts once, and has no session; one that says its own has it."""
    with Backend() as backend, ComponentPair(tmp_path / "pair", backend.port, backend.port) as pair:
        sender, call = _Sender(pair, backend), chat(parent_span_id=b"rootspan")
        sender.send(chat())
        root = Span(name="GET /", trace_id=call.trace_id, span_id=call.parent_span_id)
        set_attributes(root, {"session.id": "one"})
        sender.send(root)
        with pair.replica(tmp_path / "second"):

            def priced() -> dict[str, object]:
                [found] = sender.send(call)
                assert found.get("spanledger.cost.usd") == COST
                return found

            assert "spanledger.session.id" not in eventually(priced)
            own = chat()
            set_attributes(own, {"session.id": "two"})
            [found] = sender.send(own)
            assert found["spanledger.session.id"] == "two"
        assert pair.ledger()["total"]["calls"] == 3


def test_the_first_trace_after_other_session_keys_has_its_session(component_collector: None, tmp_path: Path) -> None:
    """Spanledger restarts with a key that the lists of the Collector lack."""
    with Backend() as backend, ComponentPair(tmp_path, backend.port, backend.port) as pair:
        sender, call = _Sender(pair, backend), chat(parent_span_id=b"rootspan")
        sender.send(chat())
        pair.spanledger.stop()
        pair.server.config.write_text(
            pair.server.config.read_text() + "\nprocessor: {sessions: {keys: [shop.session]}}\n"
        )
        pair.spanledger.start()
        root = Span(name="GET /", trace_id=call.trace_id, span_id=call.parent_span_id)
        set_attributes(root, {"shop.session": "new"})

        def priced() -> list[dict[str, object]]:
            found = sender.send(root, call)
            assert "spanledger.cost.usd" in found[1]  # the connection is there again
            return found

        assert eventually(priced)[1]["spanledger.session.id"] == "new"


def _secured(certificates: Certificates, token: str, *, known: bool) -> tuple[list[str], list[str]]:
    """Settings of both sides: TLS with certificates of both, and a token; not `known`: the Collector shows none."""
    enricher = {**certificates.server_settings(mutual=True)}
    collector = {"insecure": "false", "ca_file": str(certificates.authority), "server_name_override": "localhost"}
    if known:
        collector |= {"cert_file": str(certificates.cert("client")), "key_file": str(certificates.key("client"))}
    sets = [f"receivers.enricher.tls.{key}={value}" for key, value in enricher.items()]
    parts = [f"{part}.spanledger.tls.{key}={value}" for part in PARTS for key, value in collector.items()]
    shown = [f"{part}.spanledger.headers={{authorization: Bearer {token}}}" for part in PARTS]
    return [*sets, f"receivers.enricher.auth.bearer_token={TOKEN}"], [*parts, *shown]


@pytest.mark.parametrize(("token", "known"), [(TOKEN, True), ("another", True), (TOKEN, False)])
def test_tls_with_certificates_and_a_token(
    component_collector: None,
    token: str,
    known: bool,  # noqa: FBT001 - a parameter of pytest
    tmp_path: Path,
) -> None:
    """Whoever is not let in passes spans on, marked; nothing of theirs is in the ledger."""
    sets = _secured(Certificates(tmp_path), token, known=known)
    with Backend() as backend, ComponentPair(tmp_path, backend.port, backend.port, *sets) as pair:
        [found] = _Sender(pair, backend).send(chat())
        let_in = known and token == TOKEN
        assert found.get("spanledger.cost.usd") == (COST if let_in else None)
        assert ("spanledger.missed" in found) is not let_in
        assert pair.ledger()["total"]["calls"] == let_in


def test_tenants_are_told_by_a_header(component_collector: None, tmp_path: Path) -> None:
    tenants = ["processor.tenant.keys=['header:x-team']"]
    passed_on = [
        "receivers.otlp.protocols.http.include_metadata=true",
        "processors.spanledger.metadata_keys=[x-team]",
    ]
    with Backend() as backend, ComponentPair(tmp_path, backend.port, backend.port, tenants, passed_on) as pair:
        sender = _Sender(pair, backend)
        teams = {"red": 1, "blue": 2, "\u00d6l": 1}  # the last is nothing that gRPC metadata can hold
        for team, calls in teams.items():
            for _ in range(calls):
                [found] = sender.send(chat(), headers={"x-team": cast(str, team.encode()), "x-other": "stays"})
                assert found["spanledger.cost.usd"] == COST
        assert {team: pair.ledger("--tenant", team)["total"]["calls"] for team in teams} == teams
