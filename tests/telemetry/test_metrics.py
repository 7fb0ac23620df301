"""What is counted, read as Prometheus reads it."""

from __future__ import annotations

import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast, get_args

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from spanledger_exporters.interface import DeliveryObserver, Verdict
from spanledger_processor.accounting.facts import Batch, Fact, Ruling
from spanledger_processor.enrichment import Reading
from spanledger_processor.ledger.store import StateError, StoreUsage
from spanledger_processor.ledger.writer import LedgerObserver
from spanledger_processor.model import Call, Cost, Decision, Unpriced, Usage
from spanledger_processor.otlp.request import parse_traces
from spanledger_processor.receivers.driver import RequestObserver
from spanledger_processor.receivers.refusals import Outcome
from spanledger_processor.server.handler import StageObserver
from spanledger_processor.telemetry import metrics, stage_metrics
from spanledger_processor.telemetry.metrics import Telemetry
from spanledger_processor.telemetry.otlp import metrics_request
from spanledger_processor.telemetry.registry import BoundedLabels, Samples
from spanledger_processor.telemetry.table import TABLE
from spanledger_processor.units import USD

HOUR_NS = 3600 * 10**9
NOW_NS = 1_800_000_000 * 10**9


@pytest.fixture
def telemetry() -> Telemetry:
    """With a window of an hour."""
    return Telemetry("1.2.3", window=3600, budget=256)


def scraped(telemetry: Telemetry) -> dict[str, float]:
    """Our samples that are not zero, as name{labels}: value; without histogram buckets."""
    found = {}
    for family in text_string_to_metric_families(telemetry.registry.scrape().decode()):
        for sample in family.samples:
            if sample.name.startswith("spanledger_") and not sample.name.endswith("_bucket") and sample.value:
                labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
                found[sample.name.removeprefix("spanledger_") + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def changes(telemetry: Telemetry) -> dict[str, float]:
    """`scraped` without what stands there from the start."""
    start = Telemetry("1.2.3", window=3600, budget=256)
    before = scraped(start)
    return {name: value for name, value in scraped(telemetry).items() if before.get(name) != value}


def test_it_observes_every_room(telemetry: Telemetry) -> None:
    """For the type checkers: each part is what its room asks for."""
    receivers: RequestObserver = telemetry.requests
    stage: StageObserver = telemetry.stage
    ledger: LedgerObserver = telemetry.ledger
    delivery: DeliveryObserver = telemetry.delivery
    assert len({id(each) for each in (receivers, stage, ledger, delivery)}) == 4


def test_at_the_start(telemetry: Telemetry) -> None:
    assert scraped(telemetry) == {"build_info{version=1.2.3}": 1, "in_flight_budget_bytes": 256}


def test_counters_with_known_labels_begin_at_zero(telemetry: Telemetry) -> None:
    """An alert on an increase sees the first event only where the series was there before it."""
    telemetry.delivery.begin("otlp_grpc/tempo", ["traces"])
    text = telemetry.registry.scrape().decode()
    for series in (
        'refused_items_total{reason="permanent",signal="logs"}',
        'unpriced_spans_total{reason="no_usage"}',
        'priced_spans_total{source="billed"}',
        'requests_total{outcome="gone",protocol="http",signal="traces"}',
        'export_refused_items_total{exporter="otlp_grpc/tempo",signal="traces"}',
        'export_dropped_items_total{exporter="otlp_grpc/tempo",signal="traces"}',
    ):
        assert f"spanledger_{series} 0.0\n" in text


def test_the_values_of_labels_are_those_that_rooms_use() -> None:
    """The table cannot import the receivers."""
    rows = {row.name: {values for row_values in row.beginnings for values in row_values} for row in TABLE}
    assert set(get_args(Outcome)) < rows["requests_total"]
    assert set(get_args(Unpriced)) == rows["unpriced_spans_total"]


def test_the_process_is_measured(telemetry: Telemetry) -> None:
    assert b"process_resident_memory_bytes " in telemetry.registry.scrape()


def test_doors(telemetry: Telemetry) -> None:
    telemetry.requests.received("traces", "grpc", 100)
    telemetry.requests.in_flight(100)
    telemetry.requests.answered("traces", "grpc", "ok", "", 0.25)
    telemetry.requests.answered("traces", "grpc", "retry", "budget", 0.25)
    telemetry.requests.internal_error("pipeline")
    assert changes(telemetry) == {
        "received_bytes_total{protocol=grpc,signal=traces}": 100,
        "in_flight_bytes": 100,
        "requests_total{outcome=ok,protocol=grpc,signal=traces}": 1,
        "requests_total{outcome=retry,protocol=grpc,signal=traces}": 1,
        "refused_requests_total{protocol=grpc,reason=budget,signal=traces}": 1,
        "request_duration_seconds_count{protocol=grpc,signal=traces}": 2,
        "request_duration_seconds_sum{protocol=grpc,signal=traces}": 0.5,
        "internal_errors_total{where=pipeline}": 1,
    }


def test_delivery(telemetry: Telemetry) -> None:
    name = "otlp_grpc/tempo"
    telemetry.delivery.answered(name, "traces", Verdict.ACCEPTED, 3, 0.25)
    telemetry.delivery.forwarded(name, "traces", 9)
    telemetry.delivery.rejected(name, "traces", 1)
    telemetry.delivery.retried(name, "traces", 2)
    telemetry.delivery.dropped("debug", "logs", 3)
    telemetry.delivery.unclaimed("metrics", 4)
    assert changes(telemetry) == {
        "export_requests_total{exporter=otlp_grpc/tempo,signal=traces,verdict=accepted}": 1,
        "forwarded_items_total{exporter=otlp_grpc/tempo,signal=traces}": 9,
        "export_rejected_items_total{exporter=otlp_grpc/tempo,signal=traces}": 1,
        "export_retries_total{exporter=otlp_grpc/tempo,signal=traces}": 2,
        "export_dropped_items_total{exporter=debug,signal=logs}": 3,
        "unclaimed_items_total{signal=metrics}": 4,
    }


def test_ledger(telemetry: Telemetry) -> None:
    telemetry.ledger.available(True)
    telemetry.ledger.committed(0.5, 3, StoreUsage(used_bytes=10, map_bytes=20, records=5))
    assert changes(telemetry) == {
        "state_available": 1,
        "state_commit_duration_seconds_count": 1,
        "state_commit_duration_seconds_sum": 0.5,
        "state_commit_requests_count": 1,
        "state_commit_requests_sum": 3,
        "state_used_bytes": 10,
        "state_map_bytes": 20,
        "state_records": 5,
    }
    assert telemetry.ledger.is_available
    telemetry.ledger.available(False)
    assert "state_available" not in scraped(telemetry)
    assert not telemetry.ledger.is_available


def test_the_late_correction_is_read_from_the_ledger_and_may_go_down(telemetry: Telemetry) -> None:
    answers: list[float | None] = [0.5, 0.25, None]

    def read() -> float:
        answer = answers.pop(0)
        if answer is None:
            raise StateError("closed")
        return answer

    telemetry.ledger.read_correction(read)
    assert [changes(telemetry)["late_correction_usd_total"] for _ in range(3)] == [0.5, 0.25, 0.25]


def fact(end_ns: int = NOW_NS, model: str = "claude") -> Fact:
    """A model's call."""
    return Fact(b"t", b"s", end_ns=end_ns, call=Call("otel", "llm", provider="anthropic", request_model=model))


def priced(amount: int = USD // 2) -> Decision:
    """A call with a price."""
    return Decision("llm", "otel", usage=Usage(1, 1), cost=Cost(amount, "computed"))


def unaccounted(computed: int) -> Decision:
    """A call that was priced while the state was not available."""
    return Decision("llm", "otel", usage=Usage(1, 1), cost=Cost(unpriced="not_accounted", computed=computed))


def test_what_a_batch_counts(telemetry: Telemetry) -> None:
    facts = [fact(), fact(), fact(), fact(end_ns=NOW_NS - HOUR_NS - 1), fact()]
    decisions = [
        priced(),
        Decision("llm", "otel", usage=Usage(1, 1), cost=Cost(unpriced="unknown_model")),
        Decision("llm", "otel", duplicate_of="0102"),
        priced(),
        Decision("tool", "openinference", tool_loop=True),
    ]
    ruling = Ruling(dict(enumerate(decisions)), fresh=[0, 1, 2, 3, 4], corrections=1, correction=USD)
    telemetry.stage.ruled(Batch(b"", facts, NOW_NS), ruling)
    assert changes(telemetry) == {
        "genai_spans_total{dialect=otel,kind=llm}": 4,
        "genai_spans_total{dialect=openinference,kind=tool}": 1,
        "priced_spans_total{source=computed}": 2,
        "unpriced_spans_total{reason=unknown_model}": 1,
        "duplicate_spans_total": 1,
        "tool_loops_total": 1,
        "spans_beyond_window_total": 1,
        "late_corrections_total": 1,
        "cost_usd_total{model=claude,provider=anthropic}": 1.0,
    }


def test_counters_have_one_name_for_a_provider() -> None:
    """As the ledger does; a library is none."""
    telemetry = Telemetry("1.2.3", window=3600, budget=256, dimensions=("provider",))
    facts = [fact(model="gpt-4o") for _ in range(3)]
    for one, provider in zip(facts, ("openai", "openai.responses", "strands-agents"), strict=True):
        assert one.call is not None
        one.call.provider = provider
    ruling = Ruling(dict(enumerate([priced()] * 3)), fresh=[0, 1, 2])
    telemetry.stage.ruled(Batch(b"", facts, NOW_NS), ruling)
    spend = {name: value for name, value in changes(telemetry).items() if "cost_usd" in name}
    assert spend == {
        "cost_usd_total{model=gpt-4o,provider=openai}": 1.5,
        "dimension_cost_usd_total{dimension=provider,model=gpt-4o,value=openai}": 1.5,
    }


def test_how_fast_calls_were_is_observed_where_the_first_token_is_known(telemetry: Telemetry) -> None:
    """0.4 s, and 30 tokens in 2 s; not of what failed, repeats another, or does not tell."""
    facts = [fact() for _ in range(4)]
    for one in facts[:3]:
        one.start_ns, one.first_token_ns = NOW_NS - 2 * 10**9, 400_000_000
    facts[1].failed = True
    decisions = [Decision("llm", "otel", usage=Usage(1, 30), cost=Cost(USD, "computed")) for _ in facts]
    decisions[2] = Decision("llm", "otel", duplicate_of="0102")
    telemetry.stage.ruled(Batch(b"", facts, NOW_NS), Ruling(dict(enumerate(decisions)), fresh=[0, 1, 2, 3]))
    labels = "{model=claude,provider=anthropic}"
    found = {
        name: value for name, value in scraped(telemetry).items() if name.startswith("call_") and "created" not in name
    }
    assert found == {
        f"call_first_token_seconds_count{labels}": 1,
        f"call_first_token_seconds_sum{labels}": 0.4,
        f"call_output_token_rate_count{labels}": 1,
        f"call_output_token_rate_sum{labels}": 15,
    }


def test_a_batch_that_comes_again_counts_as_replays_only(telemetry: Telemetry) -> None:
    """Its decisions are those of the first time, and its spend is in the ledger already."""
    ruling = Ruling({0: priced(), 1: priced()}, fresh=[], replays=2, conflicts=1)
    telemetry.stage.ruled(Batch(b"", [fact(), fact()], NOW_NS), ruling)
    assert changes(telemetry) == {"replayed_spans_total": 2, "conflicting_spans_total": 1}


def test_a_tenants_flood_of_models_takes_no_room_from_anothers(telemetry: Telemetry) -> None:
    flood = [fact(model=f"model-{number}") for number in range(300)]
    ruling = Ruling({number: priced() for number in range(300)}, fresh=list(range(300)))
    telemetry.stage.ruled(Batch(b"flood", flood, NOW_NS), ruling)
    telemetry.stage.ruled(Batch(b"quiet", [fact(model="mine")], NOW_NS), Ruling({0: priced()}, fresh=[0]))
    spend = {name: value for name, value in scraped(telemetry).items() if name.startswith("cost_usd_total")}
    assert [value for name, value in spend.items() if "model=mine" in name] == [0.5]


def test_models_are_bounded_and_no_spend_is_lost(telemetry: Telemetry) -> None:
    facts = [fact(model=f"model-{number}") for number in range(300)]
    ruling = Ruling({number: priced() for number in range(300)}, fresh=list(range(300)))
    telemetry.stage.ruled(Batch(b"", facts, NOW_NS), ruling)
    spend = {name: value for name, value in scraped(telemetry).items() if name.startswith("cost_usd_total")}
    assert len(spend) == 201
    assert spend["cost_usd_total{model=other,provider=other}"] == 50
    assert sum(spend.values()) == 150


def test_what_requests_come_to_is_added_up_until_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request moved each counter once, of ten calls of ten models thirteen of them."""
    telemetry, counted = Telemetry("1.2.3", window=3600, budget=256), list[str]()
    count = telemetry.registry.count

    def counting(name: str, *labels: str, **more: Any) -> None:
        counted.append(name)
        count(name, *labels, **more)

    monkeypatch.setattr(telemetry.registry, "count", counting)
    for _ in range(5):
        facts = [fact(model=f"model-{number}") for number in range(10)]
        ruling = Ruling(dict(enumerate([priced()] * 10)), fresh=list(range(10)))
        telemetry.stage.ruled(Batch(b"", facts, NOW_NS), ruling)
    assert counted == []
    for _ in range(2):
        samples = {name: value for name, _, value, _ in telemetry.registry.samples() if "genai_spans" in name}
        assert samples["spanledger_genai_spans_total"] == 50
    assert counted.count("cost_usd_total") == 10


def test_what_is_added_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may read the counters, and models are named by senders."""
    monkeypatch.setattr(stage_metrics, "_ADDED_UP", 20)
    telemetry = Telemetry("1.2.3", window=3600, budget=256)
    for number in range(100):
        telemetry.stage.ruled(Batch(b"", [fact(model=f"model-{number}")], NOW_NS), Ruling({0: priced()}, fresh=[0]))
        assert len(telemetry.stage._spend) <= 20
    spend = {name: value for name, value in scraped(telemetry).items() if name.startswith("cost_usd_total")}
    assert (len(spend), sum(spend.values())) == (100, 50)


def test_spend_by_tenant_is_bounded_and_whole() -> None:
    telemetry = Telemetry("1.2.3", window=3600, budget=256, dimensions=("tenant",), values=2)
    for tenant in ("", "acme", "other1", "other2"):
        telemetry.stage.ruled(Batch(b"", [fact()], NOW_NS, tenant_name=tenant), Ruling({0: priced()}, fresh=[0]))
    found = {name: value for name, value in scraped(telemetry).items() if name.startswith("dimension_cost_usd_total")}
    assert "dimension_cost_usd_total{dimension=tenant,model=claude,value=acme}" in found
    assert (sum(found.values()), len(found)) == (2, 3)


def test_spend_by_dimension_is_bounded_and_whole() -> None:
    """Each dimension has all of the spend once; what is beyond the limit, and what names none, is in it, too."""
    telemetry = Telemetry("1.2.3", window=3600, budget=256, dimensions=("team", "provider"), values=2)
    facts = [fact(model="claude") for _ in range(4)]
    for one, team in zip(facts, ("red", "blue", "green", ""), strict=True):
        one.dimensions = ("team", team) if team else ()
    decisions = {number: priced() for number in range(4)}
    decisions[0].usage = Usage(input=10, output=2)
    telemetry.stage.ruled(Batch(b"", facts, NOW_NS), Ruling(decisions, fresh=list(range(4))))
    found = scraped(telemetry)
    spend = {name: value for name, value in found.items() if name.startswith("dimension_cost_usd_total")}
    assert spend == {
        "dimension_cost_usd_total{dimension=team,model=claude,value=red}": 0.5,
        "dimension_cost_usd_total{dimension=team,model=claude,value=blue}": 0.5,
        "dimension_cost_usd_total{dimension=team,model=other,value=other}": 1,
        "dimension_cost_usd_total{dimension=provider,model=claude,value=anthropic}": 2,
    }
    assert found["dimension_tokens_total{class=input,dimension=team,model=claude,value=red}"] == 10


def test_a_value_that_reads_like_a_word_of_ours_is_told_apart() -> None:
    """A team may be called as what names none, or what is beyond the limit, is."""
    telemetry = Telemetry("1.2.3", window=3600, budget=256, dimensions=("team",), values=5)
    teams = ("unknown", "other", '"other"', "(unattributed)", "", "beyond")
    facts = [fact(model="claude") for _ in teams]
    for one, team in zip(facts, teams, strict=True):
        one.dimensions = ("team", team) if team else ()
    decisions = {number: priced() for number in range(len(teams))}
    telemetry.stage.ruled(Batch(b"", facts, NOW_NS), Ruling(decisions, fresh=[*decisions]))
    text = telemetry.registry.scrape().decode()
    shown = re.findall(r'spanledger_dimension_cost_usd_total{.*?value="(.*)"}', text)
    assert sorted(shown) == sorted(
        [r"\"unknown\"", r"\"other\"", r"\"\"other\"\"", "(unattributed)", "unknown", "other"]
    )


def test_operations_that_nobody_knows_are_counted_by_name_and_bounded(telemetry: Telemetry) -> None:
    facts = [fact() for _ in range(60)]
    for number, one in enumerate(facts):
        assert one.call is not None
        one.call.unknown_operation = f"brew-{min(number, 54)}"
    ruling = Ruling({number: priced() for number in range(60)}, fresh=list(range(60)))
    telemetry.stage.ruled(Batch(b"", facts, NOW_NS), ruling)
    counted = {name: value for name, value in scraped(telemetry).items() if name.startswith("unknown_operations_total")}
    assert len(counted) == 51
    assert counted["unknown_operations_total{operation=brew-3}"] == 1
    assert counted["unknown_operations_total{operation=other}"] == 10


def test_items_and_failures(telemetry: Telemetry) -> None:
    telemetry.stage.received("traces", 5)
    telemetry.stage.accepted("traces", 3)
    telemetry.stage.refused("traces", 2, "retryable")
    telemetry.stage.unaccounted({number: unaccounted(computed=USD // 4) for number in range(4)})
    telemetry.stage.enrichment_failed("KeyError")
    telemetry.stage.enriched(Reading(parse_traces(b""), marked=2, forged=3, failures=Counter(malformed_span=1)))
    assert changes(telemetry) == {
        "received_items_total{signal=traces}": 5,
        "accepted_items_total{signal=traces}": 3,
        "refused_items_total{reason=retryable,signal=traces}": 2,
        "unaccounted_spans_total": 4,
        "unaccounted_usd_total": 1,
        "enrichment_failures_total{reason=KeyError}": 1,
        "enrichment_failures_total{reason=malformed_span}": 1,
        "passed_marked_spans_total": 2,
        "forged_attributes_total": 3,
    }


def test_a_label_value_from_the_network_can_be_scraped() -> None:
    bounded = BoundedLabels(3)
    assert bounded("", 'a"\n\udcff' + "x" * 500) == ("unknown", 'a"??' + "x" * 116)
    assert cast("object", bounded("b")) == ("b",)


def test_what_others_say_a_call_cost_is_held_against_what_we_say(telemetry: Telemetry) -> None:
    """By dialect, where both say something: a cost that a library told, or what was billed for one's own key."""
    costs = [
        Cost(100, "computed", 100, reported=160),
        Cost(210, "billed", 100, reported=10),
        Cost(100, "computed", 100),
        Cost(1, "computed", 1, reported=10**400),
        Cost(0, "billed", 100, reported=0),
        Cost(7, "reported", None, reported=7),
        Cost(0, "response_cache", 100, reported=0),
    ]
    decisions = {place: Decision("llm", "vercel", cost=cost) for place, cost in enumerate(costs)}
    ruling = Ruling(decisions, fresh=list(decisions))
    telemetry.stage.ruled(Batch(b"", [fact()] * len(costs), NOW_NS), ruling)
    found = scraped(telemetry)
    assert found["reported_cost_ratio_count{dialect=vercel}"] == 3
    assert found["reported_cost_ratio_sum{dialect=vercel}"] == pytest.approx(1.6 + 2.1 + 10**6)


def test_metrics_of_other_processes_are_added_and_counters_outlive_them() -> None:
    whole, worker = Telemetry("1", window=3600, budget=10), Telemetry("1", window=3600, budget=10)
    for telemetry, size in ((whole, 3), (worker, 4)):
        telemetry.requests.received("traces", "grpc", size)
        telemetry.requests.in_flight(size)
        telemetry.requests.answered("traces", "grpc", "ok", "", 0.004)
    worker.requests.received("logs", "http", 5)
    samples = worker.registry.samples()

    def scrape(*others: Samples) -> dict[str, float]:
        text = whole.registry.scrape(others).decode()
        found = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return {f"{sample.name}{sorted(sample.labels.values())}": sample.value for sample in found}

    both = scrape(samples)
    assert both["spanledger_received_bytes_total['grpc', 'traces']"] == 7
    assert both["spanledger_received_bytes_total['http', 'logs']"] == 5
    assert both["spanledger_request_duration_seconds_count['grpc', 'traces']"] == 2
    assert both["spanledger_request_duration_seconds_bucket['0.005', 'grpc', 'traces']"] == 2
    assert both["spanledger_in_flight_bytes[]"] == 7
    assert both["spanledger_build_info['1']"] == 1
    assert scrape()["spanledger_received_bytes_total['grpc', 'traces']"] == 3
    whole.registry.keep_counters(samples)
    whole.registry.keep_counters(samples)
    gone = scrape()
    assert gone["spanledger_received_bytes_total['http', 'logs']"] == 10
    assert gone["spanledger_in_flight_bytes[]"] == 3


def test_counters_of_spend_have_a_counted_span_as_their_exemplar() -> None:
    """In the OpenMetrics format and by OTLP, also of another process; ids that are none on the wire are left out."""
    whole, worker = (Telemetry("1", window=60, budget=1, dimensions=("team",)) for _ in range(2))
    counted = fact(model="mine")
    counted.trace_id, counted.span_id = bytes(range(16)), bytes(range(8))
    ruling = Ruling({0: priced()}, fresh=[0])
    worker.stage.ruled(Batch(b"", [counted], NOW_NS), ruling)
    others = json.loads(json.dumps([worker.registry.samples()]))
    text = whole.registry.scrape(others, as_openmetrics=True).decode()
    families = {family.name: family for family in openmetrics_families(text)}  # type: ignore[no-untyped-call]
    for name in ("cost_usd", "dimension_cost_usd"):
        (sample,) = (one for one in families[f"spanledger_{name}"].samples if one.value)
        assert sample.exemplar is not None
        assert sample.exemplar.labels == {"trace_id": counted.trace_id.hex(), "span_id": counted.span_id.hex()}
    sent = ExportMetricsServiceRequest.FromString(metrics_request(whole.registry.families(others), {}, 1, 2))
    points = {
        metric.name: [point for point in metric.sum.data_points if point.as_double]
        for metric in sent.resource_metrics[0].scope_metrics[0].metrics
    }
    (exemplar,) = points["spanledger_dimension_cost_usd"][0].exemplars
    assert (exemplar.trace_id, exemplar.span_id) == (counted.trace_id, counted.span_id)
    assert exemplar.as_double == points["spanledger_dimension_cost_usd"][0].as_double
    assert "trace_id" not in whole.registry.scrape(others).decode()

    digested = fact(model="mine")
    digested.trace_id = digested.span_id = bytes(range(1, 17))
    other = Telemetry("1", window=60, budget=1)
    other.stage.ruled(Batch(b"", [digested], NOW_NS), ruling)
    assert "trace_id" not in other.registry.scrape(as_openmetrics=True).decode()


def test_an_exemplar_has_the_time_of_its_count_and_the_latest_of_all_processes_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def counted_at(seconds: float, number: int) -> Telemetry:
        telemetry = Telemetry("1", window=60, budget=1)
        one = fact(model="mine")
        one.trace_id, one.span_id = bytes((number,)) * 16, bytes((number,)) * 8
        with monkeypatch.context() as patched:
            patched.setattr(stage_metrics, "time", lambda: seconds)
            ruling = Ruling({0: priced(USD), 1: priced(number * USD)}, fresh=[0, 1])
            telemetry.stage.ruled(Batch(b"", [fact(model="mine"), one], NOW_NS), ruling)
        return telemetry

    whole, *workers = counted_at(20.0, 1), counted_at(30.0, 2), counted_at(10.0, 3)
    text = whole.registry.scrape([one.registry.samples() for one in workers], as_openmetrics=True).decode()
    families = {family.name: family for family in openmetrics_families(text)}  # type: ignore[no-untyped-call]
    (sample,) = families["spanledger_cost_usd"].samples
    assert sample.value == 3 + 6
    assert sample.exemplar is not None
    assert (float(sample.exemplar.timestamp or 0), sample.exemplar.value) == (30.0, 2)
    assert sample.exemplar.labels["trace_id"] == "02" * 16


def test_counts_of_several_threads_are_all_there() -> None:
    telemetry = Telemetry("1", window=60, budget=1)

    def count(_: int) -> None:
        for _ in range(1000):
            telemetry.registry.count("received_bytes_total", "traces", "grpc")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(4)))
    assert changes(telemetry)["received_bytes_total{protocol=grpc,signal=traces}"] == 4000


def _use(budget: str, value: str, used: float, unpriced: int = 0) -> tuple[tuple[str, ...], dict[str, float]]:
    row = {"used_usd": used, "amount_usd": 2.0, "used": used / 2, "unpriced_calls": unpriced}
    return (budget, "day", "", value), row


def test_what_is_used_of_budgets_is_read_for_a_scrape_and_ends_with_its_value(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_PAUSE", 0)
    uses = [_use("team", "red", 1.5, 3), _use("team", "bl\nue", 0.5)]
    telemetry.ledger.read_budgets(lambda: uses)

    def told() -> dict[str, float]:
        return {name: value for name, value in scraped(telemetry).items() if name.startswith("budget_")}

    red, blue = (f"{{budget=team,period=day,tenant=,value={value}}}" for value in ("red", "bl?ue"))
    assert told() == {
        f"budget_used_usd{red}": 1.5,
        f"budget_used_usd{blue}": 0.5,
        f"budget_amount_usd{red}": 2,
        f"budget_amount_usd{blue}": 2,
        f"budget_used_ratio{red}": 0.75,
        f"budget_used_ratio{blue}": 0.25,
        f"budget_unpriced_calls{red}": 3,
    }
    del uses[0]
    assert told() == {f"budget_used_usd{blue}": 0.5, f"budget_amount_usd{blue}": 2, f"budget_used_ratio{blue}": 0.25}
    sent = ExportMetricsServiceRequest.FromString(metrics_request(telemetry.registry.families(), {}, 1, 2))
    by_name = {
        one.name: one for group in sent.resource_metrics for scope in group.scope_metrics for one in scope.metrics
    }
    (point,) = by_name["spanledger_budget_used_ratio"].gauge.data_points
    assert point.as_double == 0.25


def test_budgets_are_read_for_a_tenth_of_the_time(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a large ledger, of many tenants, that may take a second."""
    now, reads = [100.0], list[float]()

    def read() -> list[tuple[tuple[str, ...], dict[str, float]]]:
        reads.append(now[0])
        now[0] += 2
        return [_use("all", "", 1.0)]

    monkeypatch.setattr(metrics, "monotonic", lambda: now[0])
    telemetry.ledger.read_budgets(read)
    for at in (100.0, 102.0, 119.9, 120.0, 130.0):
        now[0] = at
        assert scraped(telemetry)["budget_used_usd{budget=all,period=day,tenant=,value=}"] == 1, "as it was read last"
    assert reads == [100.0, 120.0]


def test_while_the_ledger_cannot_be_read_nothing_is_told_of_budgets(telemetry: Telemetry) -> None:
    def fails() -> list[tuple[tuple[str, ...], dict[str, float]]]:
        raise StateError("away")

    telemetry.ledger.read_budgets(fails)
    assert not [name for name in scraped(telemetry) if name.startswith("budget_")]
