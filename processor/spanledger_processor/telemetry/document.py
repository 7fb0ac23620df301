"""Prints docs/telemetry.md: `python -m spanledger_processor.telemetry.document`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from spanledger_processor.telemetry.table import TABLE, Row

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


def _line(row: Row) -> str:
    labels = " ".join(f"`{label}`" for label in row.labels)
    return f"| `{row.full_name}` | {row.type} | {row.unit} | {labels} | {row.description} |"


if __name__ == "__main__":
    sys.stdout.write(document())
