"""Notifications of budget thresholds that were passed and of warnings: own log, OTLP log record, webhook, metric.

The commit that passes a threshold stores that a notification is due; it is marked as sent once the log record and the
webhook's request were accepted, and until then which of them was, each at once when it was answered. A restart between
an answer and that mark sends it again, with the same id. Requests do not wait for a webhook, which is tried again for a
day; further log records and other webhooks wait for twice its `timeout` at most.

Thresholds of a budget that one request passed together are one notification: one line of the log and one post, and a
log record and a count of each.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import httpx2
import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from spanledger_exporters import Verdict
from spanledger_processor import synthesized
from spanledger_processor.config.limits import Webhook
from spanledger_processor.enrichment.marks import TENANT
from spanledger_processor.ledger.crossings import FORECAST, Crossing, unsent_crossings
from spanledger_processor.ledger.queries import tenant_name
from spanledger_processor.ledger.rows import Row, time_of, usd
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
    problem: str = ""
    """Why it did not accept the notification then."""
    failures: int = 0
    next_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told at once: a warning, or the thresholds that one request passed of a budget, the forecast last.

    `tenant` is the tenant's name, empty for the default one and where no name is kept.
    """

    crossings: tuple[Crossing, ...]
    tenant: str = ""

    @property
    def main(self) -> Crossing:
        """Return the crossing that says most: the highest threshold, the forecast only where it is alone."""
        return max(self.crossings, key=lambda one: one.threshold)

    @property
    def id(self) -> bytes:
        """Return its id, which stays the same however often it is sent."""
        return self.main.key

    @property
    def row(self) -> Row:
        """Return it as JSON values; `thresholds` are all that were passed, in percent, and `forecast`."""
        main, tenant = self.main, {"tenant": self.tenant} if self.tenant else {}
        if main.warning:
            return {**warning_row(main), **tenant}
        return {**main.row(), "thresholds": [one.percent for one in self.crossings], **tenant}


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
        due = list[tuple[Notice, _State]]()
        for key, notice in pending.items():
            state = self._states.get(key)
            if state is None:
                state = self._states[key] = self._begin(notice)
            if time.monotonic() >= state.next_at:
                await self._deliver_log(notice, state)
                if state.posted:
                    await self._mark_or_delay(notice, state)
                else:
                    due.append((await self._save_progress(notice, state), state))
        by_webhook = dict[str, list[tuple[Notice, _State]]]()
        for notice, state in due:
            by_webhook.setdefault(_webhook_of(notice), []).append((notice, state))
        try:
            async with asyncio.TaskGroup() as posts:
                for name, notices in by_webhook.items():
                    posts.create_task(self._post_all(client, self.webhooks.get(name), notices))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # what cannot be stored cannot be for any of them
        return reading_s

    def _begin(self, notice: Notice) -> _State:
        """Return how far a notification has come, after a restart too; its line of the log is written at its first."""
        main = notice.main
        if main.recorded is None and not main.posted:
            log.warning("%s", sentence(notice), extra={"kind": main.warning or notice.id.hex()})
        posted = main.posted or _webhook_of(notice) not in self.webhooks
        return _State(main.recorded is not None, main.recorded is False, posted)

    def _pending(self) -> dict[bytes, Notice]:
        """Return the notifications that are due, in the order in which they are told, by id."""
        together = dict[Hashable, list[Crossing]]()
        with self._ledger.snapshot() as reader:
            for crossing in sorted(unsent_crossings(reader), key=_order):
                together.setdefault(_passed_with(crossing), []).append(crossing)
            notices = [Notice((*same,), tenant_name(reader, same[0].tenant)) for same in together.values()]
        return {notice.id: notice for notice in notices}

    async def _deliver_log(self, notice: Notice, state: _State) -> None:
        if not state.delivered:
            verdict = await self._deliver("logs", notice.id, log_request(notice))
            state.delivered, state.refused = verdict is not Verdict.RETRYABLE, verdict is Verdict.PERMANENT

    async def _post_all(
        self, client: httpx2.AsyncClient, webhook: Webhook | None, notices: Sequence[tuple[Notice, _State]]
    ) -> None:
        """Post to one webhook, for as long as one answer of it may take; the rest is tried at the next look.

        What came of each is stored before the next one is posted: one that hangs keeps no other's answer from that.
        """
        until = time.monotonic() + (webhook.timeout if webhook else 0.0)
        waits = False
        for notice, state in notices:
            state.tried = not waits
            if not waits:
                state.problem = "" if webhook is None else await self._post(client, webhook, notice)
                state.posted = not state.problem
                waits = time.monotonic() >= until
            await self._mark_or_delay(notice, state)

    async def _mark_or_delay(self, notice: Notice, state: _State) -> None:
        """Mark as sent what was accepted or is given up; the rest waits longer each time that it was tried."""
        given_up = self._now_ns() - notice.main.at_ns > _GIVE_UP_NS
        if not (state.delivered and state.posted) and not given_up:
            if state.tried or not state.delivered:
                state.failures += 1
                wait_s = min(2.0**state.failures, _LONGEST_WAIT_S)
                state.next_at = time.monotonic() + wait_s
                _log_problem(notice, state, f"tried again in {wait_s:.0f} s, until {_last_try(notice)}")
            await self._save_progress(notice, state)
            return
        _log_problem(notice, state, f"not tried again: {_last_try(notice)} is past")
        accepted = state.delivered and state.posted and not state.refused
        for crossing in notice.crossings:
            self._count(crossing, "told" if accepted else "given_up")
        await self._ledger.submit(lambda unit: mark_sent(unit, *notice.crossings))

    async def _save_progress(self, notice: Notice, state: _State) -> Notice:
        """Store how far a notification has come, unless the ledger has that, and return it with that."""
        recorded = not state.refused if state.delivered else None
        posted = state.posted and _webhook_of(notice) in self.webhooks
        progress = [replace(one, recorded=recorded, posted=posted) for one in notice.crossings]
        if (*progress,) != notice.crossings:
            await self._ledger.submit(lambda unit: store(unit, *progress))
        return replace(notice, crossings=(*progress,))

    async def _post(self, client: httpx2.AsyncClient, webhook: Webhook, notice: Notice) -> str:
        """Return why a webhook does not accept a notification, empty if it does; the body of its answer is not read."""
        body = orjson.dumps({"id": notice.id.hex(), "text": sentence(notice), **notice.row})
        headers = {"content-type": "application/json", SENT_AT: str(int(time.time()))}
        if webhook.secret is not None:
            headers[SIGNATURE] = signature(webhook.secret.get_secret_value(), headers[SENT_AT], body)
        try:
            async with (
                asyncio.timeout(webhook.timeout),
                client.stream("POST", webhook.url, content=body, headers=headers, timeout=webhook.timeout) as response,
            ):
                return "" if response.is_success else f"answered {response.status_code}"
        except TimeoutError:
            return f"no answer in {webhook.timeout:g} s"
        except Exception as error:  # noqa: BLE001 - an address that cannot be one keeps no others from being told
            return type(error).__name__


def _log_problem(notice: Notice, state: _State, what_follows: str) -> None:
    """Log that the webhook of a notification did not accept it at the latest look, and what follows."""
    if state.problem:
        main = notice.main
        name = main.warning or f"budget {main.budget}"
        more = {"kind": f"webhook of {name}: {state.problem}"}
        log.warning("webhook of %s: %s; %s", name, state.problem, what_follows, extra=more)
    state.problem = ""


def _last_try(notice: Notice) -> str:
    return f"{(time_of(notice.main.at_ns + _GIVE_UP_NS) or '')[:16].replace('T', ' ')} UTC"


def _order(crossing: Crossing) -> tuple[int, str, str, float]:
    """Return the order of notifications: those of one request by budget and threshold, the forecast last."""
    return crossing.at_ns, crossing.budget, crossing.value, crossing.threshold or math.inf


def _passed_with(crossing: Crossing) -> Hashable:
    """Return what crossings have in common that are told together: all but their threshold, and a rolling budget's
    first day of it. An earlier version told each by itself, and may have come less far with one of them.
    """
    if crossing.warning:
        return crossing.key
    return replace(crossing, threshold=0, since=crossing.first_day, counted_since="", unpriced=None)


def _webhook_of(notice: Notice) -> str:
    """Return the key of `Notices.webhooks` for a notification."""
    return OF_WARNINGS if notice.main.warning else notice.main.budget


def mark_sent(unit: Unit, *crossings: Crossing) -> None:
    """Store in the ledger that the notification of crossings is no longer due."""
    store(unit, *(replace(one, sent=True) for one in crossings))


def store(unit: Unit, *crossings: Crossing) -> None:
    """Store how far the notification of crossings has come."""
    unit.apply(Changes(replace={one.key: one.pack() for one in crossings}), crossings[0].at_ns)


def signature(secret: str, sent_at: str, body: bytes) -> str:
    """Return a signature header: HMAC-SHA256 of the time, a dot and the body, keyed by the webhook's secret."""
    digest = hmac.new(secret.encode(), sent_at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def sentence(notice: Notice) -> str:
    """Return the notification as a sentence for people."""
    main, tenant = notice.main, f", tenant {notice.tenant}" if notice.tenant else ""
    if main.warning:
        return _warning_sentence(main, tenant)
    of = f" of {main.value}" if main.value else ""
    used = f"${_dollars(main.used)} of ${_dollars(main.amount)} used{_days(main)}"
    passed = [one.percent for one in notice.crossings if one.threshold != FORECAST]
    if passed:
        *others, highest = passed
        used = f"{', '.join(others)}{' and ' if others else ''}{highest} % passed, {used}"
    if len(passed) < len(notice.crossings):
        used += "; at this rate it will not last"
    if main.unpriced:
        used += f"; {main.unpriced:,} call{'' if main.unpriced == 1 else 's'} without a price beside it"
    return f"budget {main.budget}{of}{tenant}: {used}"


def _days(crossing: Crossing) -> str:
    """Return of which days it is told what was used; nothing for a session or run."""
    first = crossing.first_day
    if not first or not crossing.is_over:
        return f" since {first}" if first else ""
    return f" on {first}" if crossing.until == first else f" from {first} to {crossing.until}"


def _warning_sentence(crossing: Crossing, tenant: str) -> str:
    if crossing.warning == COST_RISE:
        times = f"{crossing.used / crossing.amount:.1f} times the usual ${_dollars(crossing.amount)}"
        return f"session {crossing.value}{tenant}: spends ${_dollars(crossing.used)} at a stretch, {times}"
    share = f"{crossing.used} of {crossing.amount} ({crossing.used / crossing.amount:.0%})"
    if crossing.warning == FAILURE_RATE:
        return f"session {crossing.value}{tenant}: {share} spans failed"
    return f"{crossing.since}{tenant}: {share} calls have no price (spanledger unpriced)"


def _dollars(amount: Pico) -> str:
    """Return an amount to the cent, and one of less than a dollar to the millionth: a small budget must not read 0."""
    return f"{usd(amount):,.2f}" if amount >= USD else f"{usd(amount):.6f}"


def log_request(notice: Notice) -> bytes:
    """Return an OTLP log request of a record for each threshold; the same notification gives the same bytes."""
    return logs_of(*(_log_record(Notice((one,), notice.tenant)) for one in notice.crossings))


def _log_record(notice: Notice) -> LogRecord:
    crossing = notice.main
    is_spent = crossing.threshold >= 100 and not crossing.warning
    record = LogRecord(
        time_unix_nano=crossing.at_ns,
        observed_time_unix_nano=crossing.at_ns,
        severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR if is_spent else SeverityNumber.SEVERITY_NUMBER_WARN,
        severity_text="ERROR" if is_spent else "WARN",
        event_name=_WARNING + crossing.warning if crossing.warning else _EVENT,
    )
    record.body.string_value = sentence(notice)
    prefix, own = ("spanledger.warning.", "warning") if crossing.warning else ("spanledger.budget.", "budget")
    for name, value in (warning_row(crossing) if crossing.warning else crossing.row()).items():
        if value is None and (crossing.warning or name == "unpriced_calls"):
            continue
        key = synthesized.SESSION_ID if name == "session" else prefix + ("name" if name == own else name)
        record.attributes.add(key=key).value.CopyFrom(any_value("" if value is None else value))
    if notice.tenant:
        record.attributes.add(key=TENANT).value.string_value = notice.tenant
    return record


def logs_of(*records: LogRecord) -> bytes:
    """Return an OTLP log request of records that Spanledger itself writes."""
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    resource_logs.resource.attributes.add(key="service.name").value.string_value = "spanledger"
    resource_logs.scope_logs.add(log_records=records).scope.name = "spanledger"
    return request.SerializeToString()
