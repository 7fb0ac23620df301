"""Notifications of budget thresholds that were passed and of warnings: own log, OTLP log record, webhook, metric.

The commit that passes a threshold stores that a notification is due; it is marked as sent once the log record and the
webhook's request were accepted, and until then which of them was, each at once when it was answered. A restart between
an answer and that mark sends it again, with the same id. Requests do not wait for a webhook, which is tried again for a
day; further log records and other webhooks wait for twice its `timeout` at most.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import httpx2
import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from spanledger_exporters import Verdict
from spanledger_processor import synthesized
from spanledger_processor.config.limits import Webhook
from spanledger_processor.ledger.crossings import FORECAST, Crossing, unsent_crossings
from spanledger_processor.ledger.rows import Row, usd
from spanledger_processor.ledger.store import Changes, Unit
from spanledger_processor.ledger.warning_rules import COST_RISE, FAILURE_RATE, warning_row
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.otlp.encoding import any_value
from spanledger_processor.server.ledger_link import Deliver
from spanledger_processor.server.periodic import PeriodicTask
from spanledger_processor.units import NS_PER_DAY, USD, Pico

log = logging.getLogger(__name__)

_INTERVAL_S = 2.0
_READING = 0.05
"""Share of the time that may go into reading what is due from the ledger."""
_LONGEST_WAIT_S = 300.0
_GIVE_UP_NS = NS_PER_DAY
_EVENT, _WARNING = "spanledger.budget.threshold", "spanledger.warning."
OF_WARNINGS = ""
"""Stands for a budget's name, which is never empty, for the webhook of all warnings."""
SIGNATURE, SENT_AT = "x-spanledger-signature", "x-spanledger-timestamp"


@dataclass(slots=True)
class _State:
    """The progress of one notification: its log record and its webhook request are each sent until accepted."""

    delivered: bool = False
    refused: bool = False
    """The log record was refused for good, and is not sent again."""
    posted: bool = False
    tried: bool = False
    """The webhook was tried at the latest look."""
    failures: int = 0
    next_at: float = 0.0


class Notices:
    """Sends, every two seconds while it is started, the notifications that are due in the ledger."""

    def __init__(
        self,
        ledger: LedgerWriter,
        webhooks: Mapping[str, Webhook],
        deliver: Deliver,
        count: Callable[[Crossing, str], None],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Read what is due in `ledger`; `webhooks` by budget, `count` gets each crossing with how its sending ended."""
        self._ledger = ledger
        self.webhooks = webhooks
        """By budget or `OF_WARNINGS`; may change while it runs."""
        self._deliver = deliver
        self._count = count
        self._now_ns = now_ns
        self._states: dict[bytes, _State] = {}
        self._client: httpx2.AsyncClient | None = None
        self._task = PeriodicTask(self._run, _INTERVAL_S, "sending notifications of budgets and warnings failed")

    def start(self) -> None:
        """Begin to send notifications."""
        self._task.start()

    async def stop(self) -> None:
        """Stop; what is not sent stays due in the ledger."""
        await self._task.stop()
        if self._client is not None:
            await self._client.aclose()

    async def _run(self) -> float:
        if self._client is None:
            self._client = httpx2.AsyncClient()
        return max(_INTERVAL_S, await self.send_due(self._client) / _READING)

    async def send_due(self, client: httpx2.AsyncClient) -> float:
        """Send what is due once, mark what was accepted, and return for how many seconds the ledger was read.

        Raises:
            StateError: the ledger cannot be read or written.
        """
        began = time.monotonic()
        pending = await asyncio.to_thread(self._pending)
        reading_s = time.monotonic() - began
        self._states = {key: state for key, state in self._states.items() if key in pending}
        due = list[tuple[Crossing, _State]]()
        for key, crossing in pending.items():
            state = self._states.get(key)
            if state is None:
                state = self._states[key] = self._begin(crossing)
            if time.monotonic() >= state.next_at:
                await self._deliver_log(crossing, state)
                if state.posted:
                    await self._mark_or_delay(crossing, state)
                else:
                    due.append((await self._save_progress(crossing, state), state))
        by_webhook = dict[str, list[tuple[Crossing, _State]]]()
        for crossing, state in due:
            by_webhook.setdefault(_webhook_of(crossing), []).append((crossing, state))
        try:
            async with asyncio.TaskGroup() as posts:
                for name, crossings in by_webhook.items():
                    posts.create_task(self._post_all(client, self.webhooks.get(name), crossings))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # what cannot be stored cannot be for any of them
        return reading_s

    def _begin(self, crossing: Crossing) -> _State:
        """Return how far a notification has come, after a restart too; its line of the log is written at its first."""
        if crossing.recorded is None and not crossing.posted:
            log.warning("%s", sentence(crossing), extra={"kind": _kind(crossing)})
        posted = crossing.posted or _webhook_of(crossing) not in self.webhooks
        return _State(crossing.recorded is not None, crossing.recorded is False, posted)

    def _pending(self) -> dict[bytes, Crossing]:
        with self._ledger.snapshot() as reader:
            return {crossing.key: crossing for crossing in sorted(unsent_crossings(reader), key=_order)}

    async def _deliver_log(self, crossing: Crossing, state: _State) -> None:
        if not state.delivered:
            verdict = await self._deliver("logs", crossing.key, log_request(crossing))
            state.delivered, state.refused = verdict is not Verdict.RETRYABLE, verdict is Verdict.PERMANENT

    async def _post_all(
        self, client: httpx2.AsyncClient, webhook: Webhook | None, crossings: Sequence[tuple[Crossing, _State]]
    ) -> None:
        """Post to one webhook, for as long as one answer of it may take; the rest is tried at the next look.

        What came of each is stored before the next one is posted: one that hangs keeps no other's answer from that.
        """
        until = time.monotonic() + (webhook.timeout if webhook else 0.0)
        waits = False
        for crossing, state in crossings:
            state.tried = not waits
            if not waits:
                state.posted = webhook is None or await self._post(client, webhook, crossing)
                waits = time.monotonic() >= until
            await self._mark_or_delay(crossing, state)

    async def _mark_or_delay(self, crossing: Crossing, state: _State) -> None:
        """Mark as sent what was accepted or is given up; the rest waits longer each time that it was tried."""
        given_up = self._now_ns() - crossing.at_ns > _GIVE_UP_NS
        if not (state.delivered and state.posted) and not given_up:
            if state.tried or not state.delivered:
                state.failures += 1
                state.next_at = time.monotonic() + min(2.0**state.failures, _LONGEST_WAIT_S)
            await self._save_progress(crossing, state)
            return
        accepted = state.delivered and state.posted and not state.refused
        self._count(crossing, "told" if accepted else "given_up")
        await self._ledger.submit(lambda unit: mark_sent(unit, crossing))

    async def _save_progress(self, crossing: Crossing, state: _State) -> Crossing:
        """Store how far a notification has come, unless the ledger has that, and return it with that."""
        recorded = not state.refused if state.delivered else None
        posted = state.posted and _webhook_of(crossing) in self.webhooks
        progress = replace(crossing, recorded=recorded, posted=posted)
        if progress != crossing:
            await self._ledger.submit(lambda unit: store(unit, progress))
        return progress

    async def _post(self, client: httpx2.AsyncClient, webhook: Webhook, crossing: Crossing) -> bool:
        """Return whether a webhook accepts a notification; the body of its answer is not read."""
        name = crossing.warning or f"budget {crossing.budget}"
        body = orjson.dumps({"id": crossing.key.hex(), "text": sentence(crossing), **_row(crossing)})
        headers = {"content-type": "application/json", SENT_AT: str(int(time.time()))}
        if webhook.secret is not None:
            headers[SIGNATURE] = signature(webhook.secret.get_secret_value(), headers[SENT_AT], body)
        try:
            async with (
                asyncio.timeout(webhook.timeout),
                client.stream("POST", webhook.url, content=body, headers=headers, timeout=webhook.timeout) as response,
            ):
                accepted, status = response.is_success, response.status_code
        except Exception as error:  # noqa: BLE001 - an address that cannot be one keeps no others from being told
            log.warning("webhook of %s: %s", name, type(error).__name__)
            return False
        if not accepted:
            log.warning("webhook of %s: answered %s", name, status)
        return accepted


def _order(crossing: Crossing) -> tuple[int, str, str, float]:
    """Return the order of notifications: those of one request by budget and threshold, the forecast last."""
    return crossing.at_ns, crossing.budget, crossing.value, crossing.threshold or math.inf


def _kind(crossing: Crossing) -> str:
    """Return by what lines of the log are alike: a threshold has its own, warnings of sessions may be many."""
    return crossing.warning or crossing.key.hex()


def _webhook_of(crossing: Crossing) -> str:
    """Return the key of `Notices.webhooks` for a crossing."""
    return OF_WARNINGS if crossing.warning else crossing.budget


def _row(crossing: Crossing) -> Row:
    return warning_row(crossing) if crossing.warning else crossing.row()


def mark_sent(unit: Unit, crossing: Crossing) -> None:
    """Store in the ledger that a notification is no longer due."""
    store(unit, replace(crossing, sent=True))


def store(unit: Unit, crossing: Crossing) -> None:
    """Store how far the notification of a crossing has come."""
    unit.apply(Changes(replace={crossing.key: crossing.pack()}), crossing.at_ns)


def signature(secret: str, sent_at: str, body: bytes) -> str:
    """Return a signature header: HMAC-SHA256 of the time, a dot and the body, keyed by the webhook's secret."""
    digest = hmac.new(secret.encode(), sent_at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def sentence(crossing: Crossing) -> str:
    """Return the notification as a sentence for people."""
    if crossing.warning:
        return _warning_sentence(crossing)
    of = f" of {crossing.value}" if crossing.value else ""
    used = f"${_dollars(crossing.used)} of ${_dollars(crossing.amount)} used{_days(crossing)}"
    if crossing.threshold == FORECAST:
        return f"budget {crossing.budget}{of}: {used}; at this rate it will not last"
    return f"budget {crossing.budget}{of}: {crossing.threshold} % passed, {used}"


def _days(crossing: Crossing) -> str:
    """Return of which days it is told what was used; nothing for a session or run."""
    first = crossing.first_day
    if not first or not crossing.is_over:
        return f" since {first}" if first else ""
    return f" on {first}" if crossing.until == first else f" from {first} to {crossing.until}"


def _warning_sentence(crossing: Crossing) -> str:
    if crossing.warning == COST_RISE:
        times = f"{crossing.used / crossing.amount:.1f} times the usual ${_dollars(crossing.amount)}"
        return f"session {crossing.value}: spends ${_dollars(crossing.used)} at a stretch, {times}"
    share = f"{crossing.used} of {crossing.amount} ({crossing.used / crossing.amount:.0%})"
    if crossing.warning == FAILURE_RATE:
        return f"session {crossing.value}: {share} spans failed"
    return f"{crossing.since}: {share} calls have no price (spanledger unpriced)"


def _dollars(amount: Pico) -> str:
    """Return an amount to the cent, and one of less than a dollar to the millionth: a small budget must not read 0."""
    return f"{usd(amount):,.2f}" if amount >= USD else f"{usd(amount):.6f}"


def log_request(crossing: Crossing) -> bytes:
    """Return an OTLP log request of one record; the same crossing gives the same bytes."""
    is_spent = crossing.threshold >= 100 and not crossing.warning
    record = LogRecord(
        time_unix_nano=crossing.at_ns,
        observed_time_unix_nano=crossing.at_ns,
        severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR if is_spent else SeverityNumber.SEVERITY_NUMBER_WARN,
        severity_text="ERROR" if is_spent else "WARN",
        event_name=_WARNING + crossing.warning if crossing.warning else _EVENT,
    )
    record.body.string_value = sentence(crossing)
    prefix, own = ("spanledger.warning.", "warning") if crossing.warning else ("spanledger.budget.", "budget")
    for name, value in _row(crossing).items():
        if crossing.warning and value is None:
            continue
        key = synthesized.SESSION_ID if name == "session" else prefix + ("name" if name == own else name)
        record.attributes.add(key=key).value.CopyFrom(any_value("" if value is None else value))
    return logs_of(record)


def logs_of(*records: LogRecord) -> bytes:
    """Return an OTLP log request of records that Spanledger itself writes."""
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    resource_logs.resource.attributes.add(key="service.name").value.string_value = "spanledger"
    resource_logs.scope_logs.add(log_records=records).scope.name = "spanledger"
    return request.SerializeToString()
