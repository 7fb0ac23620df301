"""`spanledger prices`: rates of a model on a day, and how its name was read. Rates are from the providers' pages."""

from __future__ import annotations

import json

from commands import answer, output, run

OVERRIDE = 'processor.pricing.overrides=[{model: "acme-*", input: 0.5, output: 2, valid_from: 2026-03-01}]'


def test_a_listed_model() -> None:
    shown = output("prices", "claude-sonnet-4-5", "--at", "2026-11-01").splitlines()
    assert "/anthropic/claude-sonnet-4-5 on 2026-11-01" in shown[1]
    assert [line.split() for line in shown[2:5]] == [
        ["input", "$3.00", "/", "MTok"],
        ["cache", "read", "$0.30", "/", "MTok"],
        ["cache", "write", "$3.75", "/", "MTok"],
    ]
    assert "for a call with more than 200,000 tokens of input:" in shown


def test_a_listed_model_as_json() -> None:
    reported = answer("prices", "gpt-4o-mini", "--provider", "openai")
    assert reported["unpriced"] is None
    (tier,) = reported["tiers"]
    assert tier["input_above"] == 0
    rates = {rate["class"]: (rate["usd_exact"], rate["per"]) for rate in tier["rates"]}
    assert rates["input"] == ("0.15", "MTok")
    assert rates["output"] == ("0.60", "MTok")


def test_a_model_nobody_lists() -> None:
    """Exit 1, so that a script notices; what was tried stands on standard output."""
    result = run("prices", "acme-7b", "--provider", "openai")
    assert result.exit_code == 1
    assert 'not listed: "acme-7b" at openai' in result.stdout
    assert "no seller of the price list has a model of this name" in result.stdout
    assert "never as 0" in result.stderr
    reported = run("prices", "acme-7b", "--json")
    assert reported.exit_code == 1
    assert json.loads(reported.stdout)["unpriced"] == "unknown_model"
    assert json.loads(reported.stdout)["tiers"] == []


def test_an_override_from_its_day_on() -> None:
    assert "override/acme-* on 2026-03-01" in output("prices", "acme-1", "--at", "2026-03-01", "--set", OVERRIDE)
    assert run("prices", "acme-1", "--at", "2026-02-28", "--set", OVERRIDE).exit_code == 1


def test_a_model_is_needed() -> None:
    assert run("prices").exit_code == 2
