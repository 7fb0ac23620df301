"""Tells of thresholds of budgets that were passed, and of warnings: own log, an OTLP log record, a webhook, a metric.

What has to be told stands in the ledger since the commit that passed it, and is marked when everybody was told: a
restart in between tells it again, with the same id. Nothing waits for a webhook; it is tried again for a day.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import httpx2
import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from spanledger_exporters import Verdict
from spanledger_processor import synthesized
from spanledger_processor.config.limits import Webhook
from spanledger_processor.ledger.budgets import FORECAST, Crossing, untold_crossings
from spanledger_processor.ledger.rows import Row, usd
from spanledger_processor.ledger.store import Changes, StateError, Unit
from spanledger_processor.ledger.warnings import COST_RISE, FAILURE_RATE, warning_row
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.server.ledger_link import Deliver
from spanledger_processor.units import USD, Pico

log = logging.getLogger(__name__)

_EVERY_S = 2.0
_LOOKING = 0.05
"""Share of the time that may go into looking for what has to be told."""
_LONGEST_WAIT_S = 300.0
_GIVE_UP_NS = 86_400 * 10**9
_EVENT, _WARNING = "spanledger.budget.threshold", "spanledger.warning."
OF_WARNINGS = ""
"""Stands for a budget's name, which is never empty, for the webhook of all warnings."""
SIGNATURE, SENT_AT = "x-spanledger-signature", "x-spanledger-timestamp"


@dataclass(slots=True)
class _State:
    """How far the telling of one crossing is; the log record and the webhook each until it worked."""

    delivered: bool = False
    refused: bool = False
    """The log record was refused for good; it is not tried again."""
    posted: bool = False
    failures: int = 0
    next_at: float = 0.0


class Notices:
    """Looks every two seconds for what has to be told, while it is started."""

    def __init__(
        self,
        ledger: LedgerWriter,
        webhooks: Mapping[str, Webhook],
        deliver: Deliver,
        count: Callable[[Crossing, str], None],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Tell of what `ledger` holds; `webhooks` by budget, `count` gets what was told and how that ended."""
        self._ledger = ledger
        self.webhooks = webhooks
        """Where it is posted to, by budget or `OF_WARNINGS`; may change while it runs."""
        self._deliver = deliver
        self._count = count
        self._now_ns = now_ns
        self._states: dict[bytes, _State] = {}
        self._looked_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; what is not told stays in the ledger."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        async with httpx2.AsyncClient() as client:
            while True:
                try:
                    await self.tell(client)
                except StateError:
                    pass
                except Exception:
                    log.exception("telling of budgets and warnings failed")
                await asyncio.sleep(max(_EVERY_S, self._looked_s / _LOOKING))

    async def tell(self, client: httpx2.AsyncClient) -> None:
        """Tell once of all that is due, and mark what everybody was told.

        Raises:
            StateError: the ledger cannot be read or written.
        """
        began = time.monotonic()
        pending = await asyncio.to_thread(self._pending)
        self._looked_s = time.monotonic() - began
        self._states = {where: state for where, state in self._states.items() if where in pending}
        for where, crossing in pending.items():
            state = self._states.get(where)
            if state is None:
                state = self._states[where] = _State(posted=_webhook_of(crossing) not in self.webhooks)
                log.warning("%s", sentence(crossing))
            if time.monotonic() >= state.next_at:
                await self._try(client, crossing, state)

    def _pending(self) -> dict[bytes, Crossing]:
        with self._ledger.snapshot() as reader:
            return {crossing.where: crossing for crossing in untold_crossings(reader)}

    async def _try(self, client: httpx2.AsyncClient, crossing: Crossing, state: _State) -> None:
        if not state.delivered:
            verdict = await self._deliver("logs", crossing.where, log_request(crossing))
            state.delivered, state.refused = verdict is not Verdict.RETRYABLE, verdict is Verdict.PERMANENT
        if not state.posted:
            state.posted = await self._post(client, crossing)
        over = self._now_ns() - crossing.at_ns > _GIVE_UP_NS
        if not (state.delivered and state.posted) and not over:
            state.failures += 1
            state.next_at = time.monotonic() + min(2.0**state.failures, _LONGEST_WAIT_S)
            return
        told = state.delivered and state.posted and not state.refused
        self._count(crossing, "told" if told else "given_up")
        await self._ledger.submit(lambda unit: mark_told(unit, crossing))

    async def _post(self, client: httpx2.AsyncClient, crossing: Crossing) -> bool:
        webhook, name = self.webhooks.get(_webhook_of(crossing)), crossing.warning or f"budget {crossing.budget}"
        if webhook is None:
            return True
        body, sent_at = (
            orjson.dumps({"id": crossing.where.hex(), "text": sentence(crossing), **_row(crossing)}),
            time.time(),
        )
        headers = {"content-type": "application/json", SENT_AT: str(int(sent_at))}
        if webhook.secret is not None:
            headers[SIGNATURE] = signature(webhook.secret.get_secret_value(), headers[SENT_AT], body)
        try:
            answer = await client.post(webhook.url, content=body, headers=headers, timeout=webhook.timeout)
        except httpx2.HTTPError as error:
            log.warning("webhook of %s: %s", name, type(error).__name__)
            return False
        if not answer.is_success:
            log.warning("webhook of %s: answered %s", name, answer.status_code)
        return answer.is_success


def _webhook_of(crossing: Crossing) -> str:
    """Return the name under which the webhook stands that is posted to."""
    return OF_WARNINGS if crossing.warning else crossing.budget


def _row(crossing: Crossing) -> Row:
    return warning_row(crossing) if crossing.warning else crossing.row()


def mark_told(unit: Unit, crossing: Crossing) -> None:
    """Note in the ledger that everybody was told."""
    told = replace(crossing, told=True)
    unit.apply(Changes(replace={crossing.where: told.pack()}), crossing.at_ns)


def signature(secret: str, sent_at: str, body: bytes) -> str:
    """Return what a receiver compares: HMAC-SHA256 of the time, a dot and the body, under the webhook's secret."""
    digest = hmac.new(secret.encode(), sent_at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def sentence(crossing: Crossing) -> str:
    """Return a line for people."""
    if crossing.warning:
        return _warning_sentence(crossing)
    of = f" of {crossing.value}" if crossing.value else ""
    since = f" since {crossing.since}" if crossing.since else ""
    used = f"${_dollars(crossing.used)} of ${_dollars(crossing.amount)} used{since}"
    if crossing.threshold == FORECAST:
        return f"budget {crossing.budget}{of}: {used}; at this rate it will not last"
    return f"budget {crossing.budget}{of}: {crossing.threshold} % passed, {used}"


def _warning_sentence(crossing: Crossing) -> str:
    if crossing.warning == COST_RISE:
        times = f"{crossing.used / crossing.amount:.1f} times the usual ${_dollars(crossing.amount)}"
        return f"session {crossing.value}: spends ${_dollars(crossing.used)} at a stretch, {times}"
    share = f"{crossing.used} of {crossing.amount} ({crossing.used / crossing.amount:.0%})"
    if crossing.warning == FAILURE_RATE:
        return f"session {crossing.value}: {share} spans failed"
    return f"{crossing.since}: {share} calls have no price (spanledger unpriced)"


def _dollars(amount: Pico) -> str:
    """Return an amount to the cent, and one of less than a dollar to the millionth: small budgets are no nothing."""
    return f"{usd(amount):,.2f}" if amount >= USD else f"{usd(amount):.6f}"


def log_request(crossing: Crossing) -> bytes:
    """Return an OTLP log request of one record; the same crossing gives the same bytes."""
    over = crossing.threshold >= 100 and not crossing.warning
    record = LogRecord(
        time_unix_nano=crossing.at_ns,
        observed_time_unix_nano=crossing.at_ns,
        severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR if over else SeverityNumber.SEVERITY_NUMBER_WARN,
        severity_text="ERROR" if over else "WARN",
        event_name=_WARNING + crossing.warning if crossing.warning else _EVENT,
    )
    record.body.string_value = sentence(crossing)
    prefix, own = ("spanledger.warning.", "warning") if crossing.warning else ("spanledger.budget.", "budget")
    for name, value in _row(crossing).items():
        if crossing.warning and value is None:
            continue
        key = synthesized.SESSION_ID if name == "session" else prefix + ("name" if name == own else name)
        attribute = record.attributes.add(key=key)
        if isinstance(value, float):
            attribute.value.double_value = value
        elif isinstance(value, int):
            attribute.value.int_value = value
        else:
            attribute.value.string_value = "" if value is None else str(value)
    request = ExportLogsServiceRequest()
    of_resource = request.resource_logs.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = "spanledger"
    of_scope = of_resource.scope_logs.add()
    of_scope.scope.name = "spanledger"
    of_scope.log_records.append(record)
    return request.SerializeToString()
