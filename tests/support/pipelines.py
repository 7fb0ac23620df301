"""A pipeline without sockets, the stage over a store: requests in, and what was sent and entered afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from replays import spans_of
from spanledger_exporters.interface import Signal
from spanledger_processor.accounting.account import account
from spanledger_processor.config import load
from spanledger_processor.enrichment import write
from spanledger_processor.enrichment.logs import LogStage, encoding
from spanledger_processor.ledger import queries as questions
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.memory_store import MemoryStore
from spanledger_processor.ledger.store import tenant_hash
from spanledger_processor.model import USAGE_CLASSES
from spanledger_processor.otlp.wire import finished
from spanledger_processor.server.wiring import make_stage, make_tenant_of
from spanledger_processor.signing import Signer

TENANT = tenant_hash("")
KEY = b"the key of the tests, 32 bytes.."


def value(any_value: Any) -> Any:
    """An AnyValue as a plain value; lists and objects are not read."""
    return getattr(any_value, any_value.WhichOneof("value") or "", None)


class Pipeline:
    """One process's life with a ledger: in memory, or in a folder and then able to `restart`."""

    def __init__(
        self, folder: Path | None = None, now_ns: Callable[[], int] | None = None, sets: Sequence[str] = ()
    ) -> None:
        self._folder = folder
        self.sets = sets
        self.now_ns = now_ns or (lambda: 1_795_500_000_000_000_000)
        self.sent: dict[tuple[bytes, bytes], dict[str, Any]] = {}
        self.repeats_differ: list[str] = []
        self.made = 0
        self._open()

    def _open(self) -> None:
        config = load(None, self.sets)
        signer = Signer(KEY)
        self._stage = make_stage(config, signer)
        self._logs = LogStage(make_tenant_of(config.processor), signer.sign)
        self.store: LmdbStore | MemoryStore = MemoryStore()
        if self._folder is not None:
            self.store = LmdbStore.open(
                self._folder, max_size_mib=64, durability="async", retention_ns=86_400 * 10**9, now_ns=self.now_ns
            )

    def restart(self) -> None:
        """End the process and start it anew: only what is in the store is known."""
        self.store.close()
        self._open()

    def take(self, requests: Iterable[tuple[Signal, bytes]]) -> None:
        """Send requests one after the other."""
        for signal, body in requests:
            self.send(signal, body)

    def send(self, signal: Signal, body: bytes) -> bytes:
        """Send one request; what goes on to the destinations as traces."""
        if signal == "logs":
            spans = self._logs.read(body, {}).spans
            if not spans:
                return b""
            reading = finished(self._stage.reading_synthesized(finished(encoding(spans)), {}, self.now_ns()))
        else:
            reading = self._stage.read(body, {}, self.now_ns())
        assert not reading.failures
        decisions = []
        for batch in reading.batches:
            with self.store.unit() as unit:
                ruling = account(batch, unit)
                unit.apply(ruling.changes, batch.now_ns)
            decisions.append(ruling.decisions)
        out = write(reading, decisions)
        self._record(out)
        return out

    def _record(self, out: bytes) -> None:
        for span in spans_of(ExportTraceServiceRequest.FromString(out)):
            found = {pair.key: value(pair.value) for pair in span.attributes}
            found["span name"] = span.name
            first = self.sent.setdefault((span.trace_id, span.span_id), found)
            if first != found:
                self.repeats_differ.append(f"{span.name}: {first} != {found}")

    def sent_tokens(self) -> dict[str, int]:
        """Sums of spanledger.usage.* over all spans that were sent."""
        names = [one.name for one in USAGE_CLASSES if one.unit == "token"]
        return {name: int(self._sum(f"spanledger.usage.{name}_tokens")) for name in names}

    def sent_cost(self) -> Decimal:
        """Sum of spanledger.cost.usd over all spans that were sent, in 1e-12 USD each."""
        return self._sum("spanledger.cost.usd")

    def _sum(self, key: str) -> Decimal:
        found = (attributes.get(key) for attributes in self.sent.values())
        return sum((round(Decimal(amount), 12) for amount in found if amount is not None), Decimal(0))

    def ledger(self) -> dict[str, Any]:
        """The whole ledger."""
        with self.store.snapshot() as reader:
            return questions.total(reader, TENANT)

    def parts(self, question: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Rows of the ledger: `reports.ledger.sessions`, `runs` or `models`."""
        with self.store.snapshot() as reader:
            return question(reader, TENANT)
