"""Who is told that a threshold was passed: signed, tried again, once, and also after a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import httpx2
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from ledger_in_memory import NOW, TENANT
from spanledger_exporters import Verdict
from spanledger_processor.config.limits import Webhook
from spanledger_processor.ledger.crossings import FORECAST, Crossing, crossings
from spanledger_processor.ledger.keys import total_key
from spanledger_processor.ledger.store import Changes, StateError, tenant_hash
from spanledger_processor.ledger.sums import Sums
from spanledger_processor.ledger.warning_rules import FAILURE_RATE
from spanledger_processor.ledger.writer import LedgerWriter
from spanledger_processor.server import notices
from spanledger_processor.server.notices import SENT_AT, SIGNATURE, Notice, Notices, log_request, sentence, signature
from spanledger_processor.telemetry.log import RateLimit
from spanledger_processor.units import USD
from stores import WriterInMemory

CROSSING = Crossing("team", TENANT, "red", "2026-11-18", 80, 85 * USD, 100 * USD, NOW)


class World:
    """A threshold was passed: posts to a webhook, which answers what `answers` says, log requests, and counts."""

    def __init__(self) -> None:
        self.ledger = WriterInMemory()
        with self.ledger.store.unit() as unit:
            unit.apply(Changes(create={CROSSING.key: CROSSING.pack()}), NOW)
        self.posts: list[httpx2.Request] = []
        self.logs: list[bytes] = []
        self.counts: list[tuple[str, int, str]] = []
        self.answers = [200]
        self.answers_logs = Verdict.ACCEPTED
        self.now_ns = NOW

    def is_told(self) -> bool:
        with self.ledger.snapshot() as reader:
            (crossing,) = crossings(reader, CROSSING.tenant, warnings=False)
        return crossing.sent

    async def _deliver(self, _: str, __: bytes, body: bytes) -> Verdict:
        self.logs.append(body)
        return self.answers_logs

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.posts.append(request)
        return httpx2.Response(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])

    @asynccontextmanager
    async def process(
        self, webhooks: Mapping[str, Webhook] | None = None, answer: Callable[[httpx2.Request], Any] | None = None
    ) -> AsyncIterator[Callable[[], Any]]:
        """One process's life: a call tells of what is due. `answer` is what the webhooks do."""
        webhook = Webhook(url="http://hook.example/budget", secret=cast(Any, "s3cret"))
        ledger = cast(LedgerWriter, self.ledger)
        count = self.counts.append
        notices = Notices(
            ledger,
            webhooks or {"team": webhook},
            self._deliver,
            lambda one, outcome: count((one.budget, one.threshold, outcome)),
            now_ns=lambda: self.now_ns,
        )
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer or self._answer)) as client:
            yield lambda: notices.send_due(client)


def _records(body: bytes) -> list[tuple[LogRecord, dict[str, AnyValue]]]:
    records = ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0].log_records
    return [(record, {pair.key: pair.value for pair in record.attributes}) for record in records]


async def test_everybody_is_told_once() -> None:
    world = World()
    async with world.process() as tell:
        await tell()
        await tell()
    assert (len(world.posts), len(world.logs), world.counts) == (1, 1, [("team", 80, "told")])
    assert world.is_told()


async def test_each_budget_and_value_has_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Also where many are passed at once: lines of other budgets and values are not left out as like one another."""
    world = World()
    others = [replace(CROSSING, value=value, budget=budget) for value in ("a", "b") for budget in ("team", "other")]
    with world.ledger.store.unit() as unit:
        unit.apply(Changes(create={one.key: one.pack() for one in others}), CROSSING.at_ns)
    async with world.process() as tell:
        await tell()
    limit = RateLimit(lambda: 0.0)
    written = {record.getMessage() for record in caplog.records if limit.filter(record)}
    assert written >= {sentence(Notice((one,))) for one in (CROSSING, *others)}


async def test_what_one_request_passed_is_one_message(caplog: pytest.LogCaptureFixture) -> None:
    """A line and a post, by the highest threshold; in records and counts each threshold stands by itself."""
    world = World()
    world.answers = [503]
    others = [replace(CROSSING, threshold=threshold) for threshold in (20, 50, FORECAST)]
    later = replace(CROSSING, threshold=90, at_ns=NOW + 1, used=90 * USD)
    with world.ledger.store.unit() as unit:
        unit.apply(Changes(create={one.key: one.pack() for one in (*others, later)}), CROSSING.at_ns)
    for _ in range(2):
        async with world.process() as tell:
            await tell()
    world.answers = [200]
    async with world.process() as tell:
        await tell()
    posts = [json.loads(post.content) for post in world.posts]
    (first, text, threshold, thresholds), *again = [
        (post["id"], post["text"], post["threshold"], post["thresholds"]) for post in posts[0::2]
    ]
    together = "20, 50 and 80 % passed, $85.00 of $100.00 used since 2026-11-18; at this rate it will not last"
    assert text == f"budget team of red: {together}"
    assert (first, threshold, thresholds) == (CROSSING.key.hex(), "80", ["20", "50", "80", "forecast"])
    assert again == [(first, text, threshold, thresholds)] * 2
    assert posts[1]["text"] == "budget team of red: 90 % passed, $90.00 of $100.00 used since 2026-11-18"
    records = [one for body in world.logs for one in _records(body)]
    assert [attributes["spanledger.budget.threshold"].string_value for _, attributes in records] == [
        *("20", "50", "80", "forecast", "90")
    ]
    assert records[0][0].body.string_value == "budget team of red: 20 % passed, $85.00 of $100.00 used since 2026-11-18"
    assert world.counts == [("team", threshold, "told") for threshold in (20, 50, 80, FORECAST, 90)]
    assert [record.getMessage() for record in caplog.records].count(text) == 1


async def test_thresholds_of_a_rolling_budget_that_are_reached_since_other_days_are_one_message() -> None:
    """What was counted is the same: 80 % are reached since today, 50 % since a call of yesterday that came late."""
    world = World()
    low = replace(CROSSING, threshold=50, since="2026-11-17", counted_since="2026-11-12", until="2026-11-18")
    high = replace(low, threshold=60, since="2026-11-18")
    with world.ledger.store.unit() as unit:
        unit.apply(Changes(create={one.key: one.pack() for one in (low, high)}), CROSSING.at_ns)
    async with world.process() as tell:
        await tell()
    posts = [json.loads(post.content) for post in world.posts]
    assert [(post["thresholds"], post["since"]) for post in posts] == [
        (["50", "60"], "2026-11-12"),
        (["80"], "2026-11-18"),
    ]
    assert posts[0]["text"] == "budget team of red: 50 and 60 % passed, $85.00 of $100.00 used since 2026-11-12"


async def test_a_notification_names_its_tenant(caplog: pytest.LogCaptureFixture) -> None:
    """Each tenant has budgets of its own, and names in common with others; the default one has none."""
    world, acme = World(), tenant_hash("acme")
    one = replace(CROSSING, tenant=acme)
    warning = Crossing("", acme, "s1", "", 20, 5, 10, NOW + 1, warning=FAILURE_RATE)
    with world.ledger.store.unit() as unit:
        unit.apply(Changes(create={each.key: each.pack() for each in (one, warning)}), NOW)
        unit.apply(Changes(add={total_key(acme): Sums(labels={"tenant": "acme"})}), NOW)
    async with world.process() as tell:
        await tell()
    told = [json.loads(post.content) for post in world.posts]
    assert sorted(post.get("tenant", "") for post in told) == ["", "acme"]
    assert "budget team of red, tenant acme: 80 % passed, $85.00 of $100.00 used since 2026-11-18" in caplog.text
    assert "session s1, tenant acme: 5 of 10 (50%) spans failed" in caplog.text
    named = [
        attributes["spanledger.tenant"].string_value
        for body in world.logs
        for _, attributes in _records(body)
        if "spanledger.tenant" in attributes
    ]
    assert named == ["acme", "acme"]


async def test_what_a_webhook_gets() -> None:
    """A receiver checks the signature over the time and the body, with the secret that both know."""
    world = World()
    async with world.process() as tell:
        await tell()
    (post,) = world.posts
    assert post.headers[SIGNATURE] == signature("s3cret", post.headers[SENT_AT], post.content)
    assert post.headers[SIGNATURE] != signature("another", post.headers[SENT_AT], post.content)
    reported = json.loads(post.content)
    assert (reported["id"], reported["budget"], reported["value"], reported["threshold"]) == (
        CROSSING.key.hex(),
        "team",
        "red",
        "80",
    )
    assert (reported["used"], reported["used_usd_exact"], reported["since"]) == (0.85, "85", "2026-11-18")
    assert reported["text"] == "budget team of red: 80 % passed, $85.00 of $100.00 used since 2026-11-18"


def test_calls_without_a_price_are_told_beside_what_is_used() -> None:
    """In the sentence, the webhook's object and the log record; of what is not known nothing is said."""
    notice = Notice((replace(CROSSING, unpriced=1200),))
    assert sentence(notice).endswith("used since 2026-11-18; 1,200 calls without a price beside it")
    assert notice.row["unpriced_calls"] == 1200
    records = ExportLogsServiceRequest.FromString(log_request(notice)).resource_logs[0].scope_logs[0].log_records
    told = {one.key: one.value.int_value for one in records[0].attributes}
    assert told["spanledger.budget.unpriced_calls"] == 1200
    assert b"unpriced_calls" not in log_request(Notice((CROSSING,)))
    assert "without" not in sentence(Notice((replace(CROSSING, unpriced=0),)))


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        ("2026-11-18", "2026-11-18", "since 2026-11-18"),
        ("2026-11-16", "2026-11-22", "since 2026-11-16"),
        ("2026-11-17", "2026-11-17", "on 2026-11-17"),
        ("2026-11-09", "2026-11-15", "from 2026-11-09 to 2026-11-15"),
    ],
)
def test_of_a_period_that_is_over_it_is_told_which_it_was(since: str, until: str, days: str) -> None:
    """It is Wednesday, 18 November 2026: what was used since Monday is not what was used last week."""
    late = replace(CROSSING, since=since, until=until)
    assert sentence(Notice((late,))) == f"budget team of red: 80 % passed, $85.00 of $100.00 used {days}"
    assert (late.row()["since"], late.row()["until"], Crossing.unpack(late.pack())) == (since, until, late)


def test_small_amounts_are_told_to_the_millionth() -> None:
    small = Notice((replace(CROSSING, used=USD // 2000, amount=USD // 1600, threshold=FORECAST),))
    reported = "budget team of red: $0.000500 of $0.000625 used since 2026-11-18; at this rate it will not last"
    assert sentence(small) == reported


async def test_the_log_record() -> None:
    world = World()
    async with world.process() as tell:
        await tell()
    ((record, attributes),) = _records(world.logs[0])
    assert record.event_name == "spanledger.budget.threshold"
    assert record.severity_text == "WARN"
    assert attributes["spanledger.budget.name"].string_value == "team"
    assert attributes["spanledger.budget.used"].double_value == 0.85


async def test_a_webhook_that_fails_is_tried_again_and_the_rest_is_not_told_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.answers = [503, 500, 200]
    monkeypatch.setattr(notices, "_LONGEST_WAIT_S", 0)
    async with world.process() as tell:
        await tell()
        assert not world.is_told()
        await tell()
        await tell()
        await tell()
    assert (len(world.posts), len(world.logs)) == (3, 1)
    assert world.is_told()


async def test_of_a_webhook_that_fails_the_log_says_when_and_until_when_it_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def never(_: httpx2.Request) -> httpx2.Response:
        await asyncio.Event().wait()
        raise AssertionError

    until = datetime.fromtimestamp(NOW / 10**9 + 86_400, UTC).strftime("%Y-%m-%d %H:%M UTC")
    world = World()
    world.answers = [503]
    async with world.process() as tell:
        await tell()
    assert f"webhook of budget team: answered 503; tried again in 2 s, until {until}" in caplog.text
    async with (
        asyncio.timeout(30),
        world.process({"team": Webhook(url="http://h", timeout=cast(Any, "10ms"))}, never) as tell,
    ):
        await tell()
    assert f"webhook of budget team: no answer in 0.01 s; tried again in 2 s, until {until}" in caplog.text
    world.now_ns += 86_401 * 10**9
    async with world.process() as tell:
        await tell()
    assert f"webhook of budget team: answered 503; not tried again: {until} is past" in caplog.text


async def test_what_is_to_be_tried_again_waits() -> None:
    world = World()
    world.answers = [503]
    async with world.process() as tell:
        await tell()
        await tell()
    assert len(world.posts) == 1


def _several(world: World, *budgets: str) -> None:
    with world.ledger.store.unit() as unit:
        for number, budget in enumerate(budgets):
            one = replace(CROSSING, budget=budget, value=str(number), at_ns=NOW + number)
            unit.apply(Changes(create={one.key: one.pack()}), NOW)


async def test_a_webhook_that_hangs_keeps_no_other_waiting() -> None:
    """It answers once the other webhook and every log record were told, so it is in nobody's way."""
    world = World()
    _several(world, "other", "none")
    others = asyncio.Event()

    async def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "other.example":
            others.set()
        await others.wait()
        assert len(world.logs) == 3
        return httpx2.Response(200)

    webhooks = {"team": Webhook(url="http://hook.example"), "other": Webhook(url="http://other.example")}
    async with asyncio.timeout(30), world.process(webhooks, answer) as tell:
        await tell()
    assert sorted(world.counts) == [("none", 80, "told"), ("other", 80, "told"), ("team", 80, "told")]


async def test_of_a_webhook_that_does_not_answer_in_time_the_rest_is_tried_at_the_next_look() -> None:
    world = World()
    _several(world, "team", "team")
    asked: list[str] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content)["value"])
        await asyncio.Event().wait()
        raise AssertionError

    webhooks = {"team": Webhook(url="http://hook.example", timeout=cast(Any, "10ms"))}
    async with asyncio.timeout(30), world.process(webhooks, answer) as tell:
        for looks in (1, 2, 3):
            await tell()
            assert len(asked) == looks
    assert len(set(asked)) == 3
    assert (len(world.logs), world.counts) == (3, [])


async def test_an_answer_without_end_is_not_read() -> None:
    world = World()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=endless())

    async with asyncio.timeout(30), world.process({"team": Webhook(url="http://hook.example")}, answer) as tell:
        await tell()
    assert world.is_told()


async def test_a_webhook_that_cannot_be_posted_to_keeps_no_other_from_being_told() -> None:
    """Such as one at a port that is none, of which the client has its own mind."""
    world = World()
    _several(world, "other")

    async def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "hook.example":
            raise OverflowError("port must be 0-65535.")
        return httpx2.Response(200)

    webhooks = {"team": Webhook(url="http://hook.example"), "other": Webhook(url="http://other.example")}
    async with world.process(webhooks, answer) as tell:
        await tell()
    assert (len(world.logs), world.counts) == (2, [("other", 80, "told")])


async def test_what_was_not_told_is_told_by_the_next_process() -> None:
    world = World()
    world.answers_logs = Verdict.RETRYABLE
    async with world.process() as tell:
        await tell()
    assert not world.is_told()
    world.answers_logs = Verdict.ACCEPTED
    async with world.process() as tell:
        await tell()
    assert world.is_told()
    assert len({json.loads(post.content)["id"] for post in world.posts}) == 1


async def test_a_restart_while_a_webhook_fails_tells_no_log_record_again(caplog: pytest.LogCaptureFixture) -> None:
    """Nor a line of the log; one that was refused for good is still counted as given up in the end."""
    for verdict, outcome in ((Verdict.ACCEPTED, "told"), (Verdict.PERMANENT, "given_up")):
        world = World()
        world.answers, world.answers_logs = [503], verdict
        caplog.clear()
        for _ in range(3):
            async with world.process() as tell:
                await tell()
        assert (len(world.posts), len(world.logs), world.counts) == (3, 1, [])
        assert [record.getMessage() for record in caplog.records].count(sentence(Notice((CROSSING,)))) == 1
        world.answers = [200]
        async with world.process() as tell:
            await tell()
        assert (len(world.posts), len(world.logs), world.counts) == (4, 1, [("team", 80, outcome)])
        assert world.is_told()


async def test_a_stop_while_a_webhook_hangs_tells_nothing_again(caplog: pytest.LogCaptureFixture) -> None:
    """No log record or line, of a budget without a webhook neither, and no post that was answered."""
    world = World()
    _several(world, "team", "none")
    hangs = asyncio.Event()

    async def answer(request: httpx2.Request) -> httpx2.Response:
        world.posts.append(request)
        if len(world.posts) > 1:
            hangs.set()
            await asyncio.Event().wait()
        return httpx2.Response(200)

    hook = {"team": Webhook(url="http://hook.example")}
    async with asyncio.timeout(30), world.process(hook, answer) as tell:
        looking = asyncio.create_task(tell())
        await hangs.wait()
        looking.cancel()
        await asyncio.wait([looking])
    assert looking.cancelled()
    assert sorted(world.counts) == [("none", 80, "told"), ("team", 80, "told")]
    async with world.process(hook) as tell:
        await tell()
    assert sorted(world.counts) == [("none", 80, "told"), ("team", 80, "told"), ("team", 80, "told")]
    assert len(world.logs) == len(set(world.logs)) == 3
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("budget")]
    assert len(lines) == len(set(lines)) == 3
    ids = [json.loads(post.content)["id"] for post in world.posts]
    assert ids[1] == ids[2] != ids[0]


async def test_what_cannot_be_stored_is_an_error_of_the_state_and_is_stored_at_the_next_look() -> None:
    """Not one of the group of posts; nothing is told again for it."""
    world = World()
    async with world.process() as tell:
        world.ledger.full_after = world.ledger.units + 1
        with pytest.raises(StateError):
            await tell()
        world.ledger.full_after = 10**9
        await tell()
    assert (len(world.posts), len(world.logs)) == (1, 1)
    assert world.is_told()


async def test_a_restart_while_log_records_fail_posts_nothing_again() -> None:
    world = World()
    world.answers_logs = Verdict.RETRYABLE
    for _ in range(3):
        async with world.process() as tell:
            await tell()
    assert (len(world.posts), len(world.logs)) == (1, 3)
    world.answers_logs = Verdict.ACCEPTED
    async with world.process() as tell:
        await tell()
    assert (len(world.posts), world.counts) == (1, [("team", 80, "told")])


async def test_a_day_later_it_is_given_up() -> None:
    world = World()
    world.answers = [503]
    world.now_ns += 86_401 * 10**9
    async with world.process() as tell:
        await tell()
    assert world.counts == [("team", 80, "given_up")]
    assert world.is_told()


async def test_a_record_that_is_refused_for_good_is_given_up_and_the_webhook_is_told() -> None:
    """As a destination does that takes no logs."""
    world = World()
    world.answers_logs = Verdict.PERMANENT
    async with world.process() as tell:
        await tell()
        await tell()
    assert (len(world.logs), len(world.posts), world.counts) == (1, 1, [("team", 80, "given_up")])
    assert world.is_told()
