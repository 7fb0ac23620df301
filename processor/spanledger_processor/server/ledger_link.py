"""The way between stage workers and the ledger process: a socket file of one user, requests and answers in frames.

A worker that loses the connection connects again and asks again what was not answered: accounting twice for a batch
gives what it gave the first time. Beside that a worker's own metrics go over it, and what counts for rate limits; and
the other way, since only workers have exporters, export requests of our own (`Deliver`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import orjson

from spanledger_exporters import Signal, Verdict
from spanledger_processor.accounting.account import are_alike, enter, enter_together, weight_of
from spanledger_processor.accounting.cross_trace_index import recent_traces
from spanledger_processor.accounting.facts import Batch, Ruling
from spanledger_processor.enrichment.known_traces import KNOWN_TRACES
from spanledger_processor.ledger.packing import pack, unpack
from spanledger_processor.ledger.store import StateError, Unit, UnitTooLargeError
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.server.codec import decode_batch, decode_ruling, encode_batch, encode_ruling

log = logging.getLogger(__name__)

Status: TypeAlias = Mapping[str, Any]
"""A worker's own state as JSON takes it: `listening` by name, `metrics` as samples."""

_FRAME = struct.Struct("<IQc")
"""Length of what follows, number of the request, and its kind."""
_BATCH, _TAKEN, _STATUS, _DELIVERED = b"B", b"L", b"S", b"A"
"""Kinds of frames from a worker: a batch; what is taken of rate limits; its status; the verdict on a delivery."""
_RULING, _REFUSED, _TOO_LARGE, _FAILED, _COUNTED, _TRACES, _DELIVER = b"R", b"N", b"F", b"E", b"C", b"T", b"D"
"""And to it: the ruling on a batch, or one of three errors; which limits are passed; traces that have GenAI spans; an
export request to deliver. An answer has the number of what it answers; a status and traces have 0.
"""
_ERRORS = {_REFUSED: StateError, _TOO_LARGE: UnitTooLargeError}

Deliver: TypeAlias = Callable[[Signal, bytes, bytes], Awaitable[Verdict]]
"""Sends an export request of our own, by its id, to the exporters; gives what the required ones answered together."""

_UNSENT_BYTES = 1 << 20
"""What may wait to be written to a worker: one that does not read is told of no more traces until it has."""

_RECONNECT_S = 0.1
_PATIENCE_S = 5.0
"""How long a batch waits for a ledger process that is not there, before its spans go on as not_accounted."""
_ANSWER_S = 20.0
"""Seconds to wait for the result of a batch that was sent; after that it is unknown, and its sender keeps the data."""


class UnansweredError(Exception):
    """The ledger process was sent a batch and has not answered: it may be accounted for or not."""


class BatchLedger(Protocol):
    """A ledger that accounts for batches, in this process or in another."""

    @property
    def problem(self) -> str | None:
        """Return why it is not available; None when it is."""
        ...

    async def account(self, batch: Batch) -> Ruling:
        """Return the ruling on a batch once it is committed.

        Raises:
            UnitTooLargeError: nothing of the batch is stored, and parts of it may fit.
            StateError: the ledger is not available, and nothing of the batch is stored.
            UnansweredError: whether it is stored is not known.
        """
        ...


@dataclass(frozen=True)
class BatchWork:
    """A `writer.JointWork`: small requests of one tenant that wait are accounted for as one."""

    batch: Batch

    @cached_property
    def size(self) -> int:
        """Return how much it takes, in usual calls."""
        return weight_of(self.batch)

    def __call__(self, unit: Unit) -> Ruling:
        """Return the ruling on the batch."""
        return enter(self.batch, unit)

    def joins(self, other: Any) -> bool:
        """See `writer.JointWork`."""
        return isinstance(other, BatchWork) and are_alike(self.batch, other.batch)

    def together(self, works: Sequence[Any], unit: Unit) -> list[Ruling]:
        """See `writer.JointWork`."""
        return enter_together([work.batch for work in works], unit)


class LocalLedger:
    """Implements `BatchLedger` over the ledger's writer in this process."""

    def __init__(self, writer: LedgerWriter) -> None:
        self._writer = writer

    @property
    def problem(self) -> str | None:
        """Return why it is not available; None when it is."""
        return self._writer.problem

    async def account(self, batch: Batch) -> Ruling:
        """Return the ruling on a batch once it is committed."""
        return await self._writer.submit(BatchWork(batch), takes_long=batch.is_part)


@dataclass(eq=False, slots=True)
class _Asked:
    kind: bytes
    payload: bytes
    answer: asyncio.Future[bytes]
    sent: bool = False


class RemoteLedger:
    """Implements `BatchLedger` in a worker. `path` is the ledger process's socket; `status` is asked every second.

    `traces` is called with traces of which other workers saw GenAI spans (the id of each, and the hash of the tenant
    behind it), `deliver` with export requests of the ledger process.
    """

    def __init__(
        self,
        path: str,
        status: Callable[[], Status],
        traces: Callable[[Sequence[bytes]], None] = lambda _: None,
        deliver: Deliver | None = None,
    ) -> None:
        self.problem: str | None = "the ledger process is not there yet"
        self._path = path
        self._status = status
        self._traces = traces
        self._deliver = deliver
        self._delivering: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._asked: dict[int, _Asked] = {}
        self._number = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Keep connected from now on."""
        self._tasks = [asyncio.create_task(self._keep_connected()), asyncio.create_task(self._keep_reporting())]

    async def close(self) -> None:
        """Report a last time, and disconnect."""
        self._report()
        if self._writer is not None:
            with contextlib.suppress(OSError):
                await self._writer.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._disconnect()

    async def account(self, batch: Batch) -> Ruling:
        """Return the ruling on a batch once the ledger process has committed it."""
        asked = await self._ask(_BATCH, encode_batch(batch), _ANSWER_S)
        if not asked.answer.done():
            if asked.sent:
                raise UnansweredError
            raise StateError(self.problem or "the ledger process is not there")
        return decode_ruling(asked.answer.result(), batch.facts)

    async def count(self, taken: bytes) -> bytes:
        """Count what is taken of rate limits, for all workers together; empty: it is beyond none, or nobody can say."""
        if self.problem is not None:
            return b""
        asked = await self._ask(_TAKEN, taken, _PATIENCE_S)
        return asked.answer.result() if asked.answer.done() else b""

    async def _ask(self, kind: bytes, payload: bytes, seconds: float) -> _Asked:
        """Send a request and wait so long for its answer; less where it cannot be sent."""
        self._number += 1
        number = self._number
        asked = _Asked(kind, payload, asyncio.get_running_loop().create_future())
        self._asked[number] = asked
        try:
            self._send(number, asked)
            await asyncio.wait((asked.answer,), timeout=_PATIENCE_S)
            if not asked.answer.done() and asked.sent:
                await asyncio.wait((asked.answer,), timeout=seconds - _PATIENCE_S)
        finally:
            del self._asked[number]
        return asked

    async def _keep_connected(self) -> None:
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self._path)
            except OSError as error:
                self.problem = f"the ledger process cannot be reached: {error.strerror or error}"
                await asyncio.sleep(_RECONNECT_S)
                continue
            self.problem = None
            self._report()
            for number, asked in self._asked.items():
                self._send(number, asked)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._read(reader)
            self.problem = "the ledger process has gone"
            self._disconnect()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            number, kind, payload = await _frame(reader)
            if kind == _TRACES:
                self._traces(unpack(payload))
                continue
            if kind == _DELIVER:
                task = asyncio.create_task(self._pass_on(number, *unpack(payload)))
                self._delivering.add(task)
                task.add_done_callback(self._delivering.discard)
                continue
            asked = self._asked.get(number)
            if asked is None or asked.answer.done():
                continue
            if kind in (_RULING, _COUNTED):
                asked.answer.set_result(payload)
            elif kind in _ERRORS:
                asked.answer.set_exception(_ERRORS[kind](payload.decode()))
            else:
                asked.answer.set_exception(RuntimeError(f"in the ledger process: {payload.decode()}"))

    async def _pass_on(self, number: int, signal: Signal, request_id: bytes, body: bytes) -> None:
        """Deliver a request of the ledger process, and answer whether that worked."""
        verdict = Verdict.RETRYABLE
        try:
            if self._deliver is not None:
                verdict = await self._deliver(signal, request_id, body)
        except Exception:
            log.exception("a request of our own could not be delivered")
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(_framed(number, _DELIVERED, verdict.value.encode()))

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._report()

    def _report(self) -> None:
        if self._writer is not None:
            self._writer.write(_framed(0, _STATUS, orjson.dumps(self._status())))

    def _send(self, number: int, asked: _Asked) -> None:
        if self._writer is not None and not self._writer.is_closing():
            asked.sent = True
            self._writer.write(_framed(number, asked.kind, asked.payload))

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class AnnouncedTraces:
    """Traces of which other workers saw GenAI spans, until plain spans of them are looked for here: the latest
    `KNOWN_TRACES`, each once, however long the ledger takes meanwhile.

    `unlinked` is called with the number of those that are not looked for.
    """

    def __init__(self, unlinked: Callable[[int], None]) -> None:
        self._unlinked = unlinked
        self._waiting: OrderedDict[bytes, None] = OrderedDict()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def add(self, traces: Iterable[bytes]) -> None:
        """Have these wait, as the latest."""
        for trace in traces:
            self._waiting[trace] = None
            self._waiting.move_to_end(trace)
        beyond = max(0, len(self._waiting) - KNOWN_TRACES)
        for _ in range(beyond):
            self._waiting.popitem(last=False)
        self._unlinked(beyond)
        self._some.set()

    async def take(self) -> Sequence[bytes]:
        """Wait for some, and return all that wait."""
        await self._some.wait()
        self._some.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


@dataclass(eq=False)
class _Worker:
    """A connected worker, and its last status."""

    writer: asyncio.StreamWriter
    status: Status = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class LedgerServer:
    """The ledger process's end of the link: accounts for the batches of connected workers.

    `gone` is called with a worker's last status when it disconnects, `count` with what workers take of rate limits,
    `unlinked` with the number of traces that one could not be told of. `traces` are those of which GenAI spans came
    before.
    """

    def __init__(
        self,
        path: str,
        ledger: BatchLedger,
        gone: Callable[[Status], None],
        count: Callable[[bytes], bytes] = lambda _: b"",
        traces: Iterable[bytes] = (),
        unlinked: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._count = count
        self._unlinked = unlinked
        self._traces = OrderedDict.fromkeys(traces)
        """Those that had GenAI spans lately, the last one last."""
        self._path = path
        self._ledger = ledger
        self._gone = gone
        self._workers: dict[_Worker, None] = {}
        self._delivering: dict[int, tuple[_Worker, asyncio.Future[Verdict]]] = {}
        self._number = 0
        self._server: asyncio.Server | None = None

    @property
    def statuses(self) -> list[Status]:
        """Return the last statuses of the connected workers; callable on any thread."""
        return [worker.status for worker in list(self._workers) if worker.status]

    async def deliver(self, signal: Signal, request_id: bytes, body: bytes) -> Verdict:
        """Have the worker that is connected for longest deliver a request of our own; see `Deliver`."""
        worker = next((one for one in self._workers if one.status and not one.writer.is_closing()), None)
        if worker is None:
            return Verdict.RETRYABLE
        self._number += 1
        number = self._number
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._delivering[number] = (worker, answer)
        worker.writer.write(_framed(number, _DELIVER, pack([signal, request_id, body])))
        try:
            return await answer
        finally:
            del self._delivering[number]

    async def start(self) -> None:
        """Listen on the socket file, whose folder only this user can read."""
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def close(self) -> None:
        """Take no more workers and disconnect those there are."""
        if self._server is not None:
            self._server.close()
        for worker in list(self._workers):
            worker.writer.close()
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker = _Worker(writer)
        self._workers[worker] = None
        if self._traces:
            writer.write(_framed(0, _TRACES, pack(list(self._traces))))
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._read(worker, reader)
        finally:
            del self._workers[worker]
            for of, answer in self._delivering.values():
                if of is worker and not answer.done():
                    answer.set_result(Verdict.RETRYABLE)
            writer.close()
            if worker.status:
                self._gone(worker.status)

    async def _read(self, worker: _Worker, reader: asyncio.StreamReader) -> None:
        while True:
            number, kind, payload = await _frame(reader)
            if kind == _STATUS:
                worker.status = orjson.loads(payload)
            elif kind == _TAKEN:
                worker.writer.write(_framed(number, _COUNTED, self._count(payload)))
            elif kind == _DELIVERED:
                of, answer = self._delivering.get(number, (None, None))
                if of is worker and answer is not None and not answer.done():
                    answer.set_result(Verdict(payload.decode()))
            else:
                task = asyncio.create_task(self._account(worker, number, payload))
                worker.tasks.add(task)
                task.add_done_callback(worker.tasks.discard)

    async def _account(self, worker: _Worker, number: int, payload: bytes) -> None:
        try:
            batch = decode_batch(payload)
            ruling = await self._ledger.account(batch)
            self._announce_traces(worker, batch)
            answer = _framed(number, _RULING, encode_ruling(ruling))
        except StateError as error:
            kind = _TOO_LARGE if isinstance(error, UnitTooLargeError) else _REFUSED
            answer = _framed(number, kind, str(error).encode("utf-8", "replace"))
        except Exception as error:
            log.exception("accounting for a batch failed; its spans go on as they came")
            answer = _framed(number, _FAILED, type(error).__name__.encode())
        if not worker.writer.is_closing():
            worker.writer.write(answer)

    def _announce_traces(self, worker: _Worker, batch: Batch) -> None:
        """Send the other workers the traces that have GenAI spans now, each with its tenant: plain ones are links."""
        others = [other for other in self._workers if other is not worker and not other.writer.is_closing()]
        traces = {trace_id + batch.tenant for trace_id in batch.genai_traces()}
        for trace in traces:
            self._traces[trace] = None
            self._traces.move_to_end(trace)
        while len(self._traces) > KNOWN_TRACES:
            self._traces.popitem(last=False)
        if others and traces:
            frame = _framed(0, _TRACES, pack(list(traces)))
            for other in others:
                if other.writer.transport.get_write_buffer_size() > _UNSENT_BYTES:
                    self._unlinked(len(traces))
                else:
                    other.writer.write(frame)


def traces_before(ledger: LedgerWriter) -> list[bytes]:
    """Return traces that had GenAI spans before this process was started; none while the ledger cannot be read."""
    try:
        with ledger.snapshot() as reader:
            return recent_traces(reader, KNOWN_TRACES)
    except StateError:
        return []


def _framed(number: int, kind: bytes, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), number, kind) + payload


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """Return the next frame: number, kind and payload."""
    length, number, kind = _FRAME.unpack(await reader.readexactly(_FRAME.size))
    return number, kind, await reader.readexactly(length)
