"""The table of metrics, from which `metrics.Telemetry` is built.

`python -m spanledger_processor.telemetry.table` prints docs/telemetry.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias, get_args

from spanledger_exporters.interface import Signal
from spanledger_processor.model import CostSource, Unpriced

MetricType: TypeAlias = Literal["counter", "gauge", "histogram"]

PREFIX = "spanledger_"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FIRST_TOKEN_SECONDS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0)
_TOKEN_RATES = (5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 400.0, 1000.0)
_RATIOS = (0.1, 0.5, 0.67, 0.9, 1.1, 1.5, 2.0, 10.0)
_COUNTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)

OTHER = "other"
"""A label's value for all values without a series of their own."""

_VALUES: Mapping[str, tuple[str, ...]] = {
    "signal": get_args(Signal),
    "protocol": ("grpc", "http"),
    "outcome": ("ok", "retry", "rejected", "unauthenticated", "gone"),
    "source": tuple(source for source in get_args(CostSource) if source),
    "where": ("pipeline", "grpc_receiver", "http_receiver"),
}
"""Labels whose values are few and known: a counter that has no other labels begins at 0 for each of them."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric. `name` is without the prefix; counters are listed with their `_total`."""

    name: str
    type: MetricType
    unit: str
    labels: tuple[str, ...]
    description: str
    buckets: tuple[float, ...] = ()
    reasons: tuple[str, ...] = ()
    """The values of the label `reason` that a counter begins with."""

    @property
    def beginnings(self) -> tuple[tuple[str, ...], ...]:
        """Return the label values of the series that are 0 from the start.

        A rate or an increase over a series needs a sample from before the first event.
        """
        known = {**_VALUES, "reason": self.reasons}
        if self.type != "counter" or not self.labels:
            return ()
        return tuple(product(*(known.get(label, ()) for label in self.labels)))

    @property
    def full_name(self) -> str:
        """Return the name as it is scraped."""
        return PREFIX + self.name


def _counter(name: str, labels: str, description: str, unit: str = "", reasons: tuple[str, ...] = ()) -> MetricRow:
    return MetricRow(name, "counter", unit, tuple(labels.split()), description, reasons=reasons)


def _gauge(name: str, labels: str, description: str, unit: str = "") -> MetricRow:
    return MetricRow(name, "gauge", unit, tuple(labels.split()), description)


def _histogram(name: str, labels: str, description: str, unit: str, buckets: tuple[float, ...]) -> MetricRow:
    return MetricRow(name, "histogram", unit, tuple(labels.split()), description, buckets)


TABLE: tuple[MetricRow, ...] = (
    _gauge("build_info", "version", "Always 1; the label says which version runs."),
    # Requests received
    _counter(
        "requests_total",
        "signal protocol outcome",
        "Export requests answered. outcome: ok, retry (the sender keeps the data), rejected (it drops the data), "
        "unauthenticated, gone (the sender left before the answer).",
    ),
    _histogram("request_duration_seconds", "signal protocol", "From arrival to answer.", "s", _SECONDS),
    _counter(
        "refused_requests_total",
        "signal protocol reason",
        "Export requests that were not answered ok, by reason: budget, unauthenticated, media_type, encoding, "
        "too_large, unreadable (not decompressible; by gRPC also over the limit, or left before it was read), "
        "malformed, slow_body, aborted, "
        "pipeline (its answer was retry or rejected), deadline, stopping, internal.",
    ),
    _counter("received_bytes_total", "signal protocol", "Bytes of export requests, decompressed, as protobuf.", "By"),
    _gauge("in_flight_bytes", "", "Bytes of requests being worked on, both protocols together.", "By"),
    _gauge(
        "in_flight_budget_bytes", "", "What in_flight_bytes may grow to before senders get a retryable error.", "By"
    ),
    _counter("internal_errors_total", "where", "Unexpected errors of our own; the data was kept or let through."),
    _counter("suppressed_log_lines_total", "", "Own log lines left out because they repeated."),
    # What was in the requests
    _counter("received_items_total", "signal", "Spans, log records and data points that came in."),
    _counter("accepted_items_total", "signal", "Of those, how many were delivered to every required exporter."),
    _counter(
        "refused_items_total",
        "signal reason",
        "Of those, how many the sender has to keep (reason: retryable) or to drop (permanent).",
        reasons=("retryable", "permanent"),
    ),
    # The stage
    _counter("genai_spans_total", "kind dialect", "GenAI spans detected."),
    _counter("priced_spans_total", "source", "Spans counted with a price, by spanledger.cost.source."),
    _counter(
        "unpriced_spans_total",
        "reason",
        "Spans counted without a price, by spanledger.cost.unpriced.",
        reasons=get_args(Unpriced),
    ),
    _counter(
        "unknown_operations_total",
        "operation",
        'Spans with usage whose operation no dialect knows, counted as `other`. Beyond 50 the label is "other".',
    ),
    _histogram(
        "reported_cost_ratio",
        "dialect",
        "A span's own cost over ours, where both are known: a move away from 1 with a release of a library says "
        "that it counts otherwise than before, or that a price is old.",
        "",
        _RATIOS,
    ),
    _counter(
        "passed_marked_spans_total",
        "",
        "Spans that were marked already and passed untouched: ours that came back, and those of a trusted hop.",
    ),
    _counter(
        "forged_attributes_total",
        "",
        "Attributes that only Spanledger writes, on spans from outside; moved aside to spanledger.forged.*.",
    ),
    _counter("replayed_spans_total", "", "Spans that came again within the window; not counted again."),
    _counter("duplicate_spans_total", "", "Spans that report a response which another span counted (duplicate_of)."),
    _counter("conflicting_spans_total", "", "Spans that came again with other usage; the first one counts."),
    _counter(
        "cut_traces_total",
        "",
        "Traces so long that spans were forgotten on which later agents may depend; those are marked as estimates.",
    ),
    _counter(
        "unlinked_traces_total",
        "",
        "Traces of which another worker saw GenAI spans while over 8,192 such waited for a slow ledger, or a worker "
        "did not read what it was told: plain spans that it had before name no session of theirs.",
    ),
    _counter("unaccounted_spans_total", "", "Spans let through while the state was not available (not_accounted)."),
    _counter(
        "unaccounted_usd_total",
        "",
        "Sum of spanledger.cost.computed_usd over spans let through as not_accounted: not in the ledger.",
        "USD",
    ),
    _counter(
        "enrichment_failures_total",
        "reason",
        "Spans or requests let through untouched after a failure of ours.",
        reasons=(OTHER,),
    ),
    _counter(
        "redacted_values_total", "mode", "Attributes, names and bodies that processor.redaction changed or left out."
    ),
    _counter(
        "redaction_failures_total",
        "",
        "Spans, log records and metrics left out by processor.redaction because they could not be read.",
    ),
    _counter(
        "rate_limited_requests_total",
        "limit",
        "Requests that processor.rate_limits put off, by limit: requests, bytes, sessions, models. Senders keep them.",
    ),
    _counter("tool_loops_total", "", "Tool calls that completed a loop."),
    _counter(
        "cost_usd_total",
        "provider model",
        'Spend counted. Beyond 200 pairs of provider and model of one tenant both labels are "other".',
        "USD",
    ),
    _histogram(
        "call_first_token_seconds",
        "provider model",
        "From the start of a model call to its first token, of calls that tell it and did not fail; bounded like "
        "cost_usd_total.",
        "s",
        _FIRST_TOKEN_SECONDS,
    ),
    _histogram(
        "call_output_token_rate",
        "provider model",
        "Output tokens a second of the same calls, over the whole of each.",
        "",
        _TOKEN_RATES,
    ),
    _counter(
        "dimension_cost_usd_total",
        "dimension value model",
        "Spend counted, by the dimensions of processor.metrics, of all tenants together: each dimension has all of it "
        "once, so never add two. "
        'Beyond processor.metrics.limit pairs of value and model of one dimension and tenant both are "other"; value '
        'is "unknown" where there is none. A name that is one of these words stands in quotes.',
        "USD",
    ),
    _counter(
        "dimension_tokens_total",
        "dimension value model class",
        "Tokens counted, likewise, by usage class; classes that are part of another are in that one, too.",
    ),
    _counter(
        "budget_thresholds_total",
        "budget threshold outcome",
        "Thresholds of budgets that were passed, by threshold in percent or `forecast`. outcome: told, given_up (a "
        "webhook or exporter did not take it for a day).",
    ),
    _gauge(
        "budget_used_usd",
        "budget period tenant value",
        "What is used now of each budget of a day, week, month or rolling sum, as GET /api/v1/budgets says: of the 20 "
        "most used values of its dimension (value is empty where it is of all), for the 32 tenants that spent most "
        "(tenant is empty for the default one). Series come and go with these. It is read for a tenth of the time at "
        "most. Not of sessions and runs, which have no end: see budget_thresholds_total.",
        "USD",
    ),
    _gauge("budget_amount_usd", "budget period tenant value", "What may be spent of it.", "USD"),
    _gauge("budget_used_ratio", "budget period tenant value", "The share of it that is used: 1 is all."),
    _gauge(
        "budget_unpriced_calls",
        "budget period tenant value",
        "Calls without a price of the same period and value: what these cost is in none of it.",
    ),
    _counter(
        "warnings_total",
        "warning outcome",
        "What was warned of: failure_rate, unpriced_share, cost_rise. outcome: told, given_up (likewise).",
    ),
    _counter(
        "session_summaries_total",
        "state outcome",
        "Sessions whose summary was sent (processor.sessions.summary), by their state: closed, stale. outcome: told, "
        "refused (a destination will never take the span or the record).",
    ),
    # The ledger
    _counter(
        "spans_beyond_window_total",
        "",
        "Counted spans that ended before state.retention.spans: the only way a repeat can slip in.",
    ),
    _counter("late_corrections_total", "", "Corrections of the ledger for spans that had been sent already."),
    _gauge(
        "late_correction_usd_total",
        "",
        "Sum of spanledger.cost.usd over spans minus the ledger's total, exactly; read from the ledger, may go down.",
        "USD",
    ),
    _gauge("state_available", "", "1 while the state can be written, 0 while spans pass as not_accounted."),
    _gauge("state_used_bytes", "", "Bytes in use in the state file.", "By"),
    _gauge("state_map_bytes", "", "Bytes the state file may grow to.", "By"),
    _gauge("state_records", "", "Records in the state."),
    _gauge(
        "state_evicted_records",
        "",
        "Records that gave way to state.max_size_mib since the state was opened; the sums of sessions stay.",
    ),
    _histogram("state_commit_duration_seconds", "", "One commit of the state.", "s", _SECONDS),
    _histogram("state_commit_requests", "", "Export requests that one commit of the state carried.", "", _COUNTS),
    # The way out
    _counter("forwarded_items_total", "exporter signal", "Items a destination accepted."),
    _counter("export_requests_total", "exporter signal verdict", "Answers of destinations, retries apart."),
    _counter("export_retries_total", "exporter signal", "Attempts after the first."),
    _counter(
        "export_refused_items_total",
        "exporter signal",
        "Items in requests that a destination refused for good: the ledger may have counted them, the destination has "
        "not got them.",
    ),
    _counter(
        "export_rejected_items_total",
        "exporter signal",
        "Items a destination rejected in a partial success; they are lost there.",
    ),
    _counter(
        "export_dropped_items_total",
        "exporter signal",
        "Items not sent to a destination that is not required and does not keep up.",
    ),
    _gauge(
        "export_queue_size", "exporter", "What a sending_queue holds, in its sizer's unit (requests, items, bytes)."
    ),
    _gauge("export_queue_capacity", "exporter", "What a sending_queue holds at most, in the same unit."),
    _counter(
        "export_queue_refused_items_total",
        "exporter signal",
        "Items that a sending_queue had no room for, or could not write; their senders keep them.",
    ),
    _counter("export_queue_set_aside_total", "exporter", "Damaged files of a sending_queue that were set aside."),
    _counter("unclaimed_items_total", "signal", "Items accepted that no exporter takes."),
)


_HEAD = """\
# Spanledger's own metrics

Written by `make docs` from `processor/spanledger_processor/telemetry/table.py`; change that table, not this page.

`GET /metrics` on `api.endpoint` (127.0.0.1:4320 unless configured) answers in the Prometheus text format. The Python
process metrics (`process_*`, `python_*`) of prometheus-client stand beside these. A counter whose label values are
known from the start begins at 0 for each of them, so that an alert on its increase sees the first event; others appear
with the first thing they count. Label values that come from the network are bounded: beyond the bound they read
"other". With `serve --workers` the metrics of all processes are added up, and the process metrics are those of the
ledger's process. Alert rules for Prometheus: [deploy/alerts.yaml](../deploy/alerts.yaml).

## By OTLP

Off by default. `telemetry` has the form of the Collector's `service.telemetry`:

```yaml
telemetry:
  resource:
    deployment.environment.name: prod
  metrics:
    readers:
      - periodic:
          interval: 60000 # milliseconds
          exporter:
            otlp:
              protocol: http/protobuf # or grpc
              endpoint: https://otlp.example.com
              headers:
                - name: authorization
                  value: Bearer ${env:OTLP_TOKEN}
  traces:
    processors:
      - batch:
          exporter:
            otlp:
              protocol: grpc
              endpoint: http://collector:4317
```

Metrics are those of the table below; counters go without their `_total`, which a Prometheus that takes OTLP adds
again. With `serve --workers` the ledger's process sends them for all. Traces hold a span for each request received
(`receiver/otlp/<signal>`: transport, outcome, cause) and below it one for each exporter's answer
(`exporter/<id>/<signal>`: verdict, items); out of a `sending_queue` such a span has no parent. Nothing of what the
requests hold is in them. Beyond `max_queue_size` spans between two exports the rest is left out. What cannot be sent is
left out, with a warning in the log, and harms nothing else.

## Metrics
"""


def document() -> str:
    """Return the page."""
    return "\n".join((_HEAD, *_table()))


def _table() -> Iterator[str]:
    yield "| metric | type | unit | labels | meaning |"
    yield "|---|---|---|---|---|"
    for row in TABLE:
        yield _line(row)
    yield ""


def _line(row: MetricRow) -> str:
    labels = " ".join(f"`{label}`" for label in row.labels)
    return f"| `{row.full_name}` | {row.type} | {row.unit} | {labels} | {row.description} |"


if __name__ == "__main__":
    sys.stdout.write(document())
