"""docs/telemetry.md and the table."""

from __future__ import annotations

import re
from pathlib import Path

from spanledger_processor.telemetry.table import TABLE, document

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_table_says() -> None:
    assert (ROOT / "docs" / "telemetry.md").read_text() == document(), "stale: run `make docs`"


def test_names_follow_the_conventions() -> None:
    """Counters end in _total, seconds and bytes are named with their unit, names are unique."""
    assert len({row.name for row in TABLE}) == len(TABLE)
    for row in TABLE:
        assert re.fullmatch(r"spanledger_[a-z][a-z0-9_]*", row.full_name), row.name
        assert row.type != "counter" or row.name.endswith("_total"), row.name
        assert row.unit != "s" or row.name.endswith("_seconds"), row.name
        assert row.unit != "By" or "_bytes" in row.name, row.name
        assert (row.type == "histogram") == bool(row.buckets), row.name


def test_every_metric_of_the_contract_is_there() -> None:
    contract = {
        "spanledger_late_correction_usd_total",
        "spanledger_spans_beyond_window_total",
        "spanledger_enrichment_failures_total",
    }
    assert contract <= {row.full_name for row in TABLE}
