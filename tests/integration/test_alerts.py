"""The shipped alert rules, read and tried by Prometheus' own tool, over series that `/metrics` has from the start."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from real_parts import ROOT
from spanledger_processor.telemetry.table import TABLE
from tools import parts

RULES = ROOT / "deploy/alerts.yaml"
CASES = ROOT / "tests/data/alerts.yaml"

pytestmark = pytest.mark.integration


def _promtool(*arguments: str) -> None:
    ended = subprocess.run([parts.obtain("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_rules_are_rules(promtool_program: None) -> None:
    _promtool("check", "rules", str(RULES))


def test_they_fire_on_the_first_event_and_on_nothing_else(promtool_program: None, tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text(CASES.read_text().replace("ALERTS]", f"{RULES}]"))
    _promtool("test", "rules", str(cases))


def test_every_alert_is_tried() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    fired = set(re.findall(r'alertname="(\w+)"', CASES.read_text()))
    assert {rule["alert"] for rule in group["rules"]} == fired


def test_every_metric_exists_and_every_counter_begins_at_zero() -> None:
    """Those of a destination begin when its exporter is made: tests/telemetry."""
    rows = {row.full_name: row for row in TABLE}
    used = set(re.findall(r"\bspanledger_\w+", RULES.read_text()))
    assert used <= rows.keys()
    counters = [rows[name] for name in used if rows[name].type == "counter" and rows[name].labels]
    assert counters
    assert all(row.beginnings or row.labels[0] == "exporter" for row in counters)
