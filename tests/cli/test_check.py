"""`spanledger check`: what a configuration comes to, or every mistake in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import answer, output, run

GOOD = """
exporters:
  otlp_grpc/tempo:
    endpoint: tempo:4317
    tls: {insecure: true}
    headers: {authorization: Bearer do-not-tell}
    signals: [traces]
    required: false
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "spanledger.yaml"
    path.write_text(GOOD)
    return path


def test_the_built_in_configuration_is_valid() -> None:
    told = answer("check")
    assert told["valid"] is True
    assert told["listeners"] == {
        "OTLP/gRPC": "127.0.0.1:4317",
        "OTLP/HTTP": "127.0.0.1:4318",
        "API": "127.0.0.1:4320",
    }
    assert told["warnings"] == []


def test_what_a_file_comes_to(config: Path) -> None:
    told = answer("check", "--config", str(config))
    assert told["exporters"] == [
        {"name": "otlp_grpc/tempo", "target": "tempo:4317", "signals": ["traces"], "required": False}
    ]
    assert [warning.partition(":")[0] for warning in told["warnings"]] == [
        "no exporter takes logs",
        "no exporter takes metrics",
        "no exporter is required",
    ]
    shown = output("check", "--config", str(config))
    assert f"{config} is valid." in shown
    assert "exports to otlp_grpc/tempo -> tempo:4317 (traces only), not waited for" in shown


def test_usage_files_that_are_read() -> None:
    assert answer("check", "--set", "sidecar.sources.mux=")["sidecar"] == ["mux"]
    assert "reads usage files of mux" in output("check", "--set", "sidecar.sources.mux=")


def test_no_secret_is_told(config: Path) -> None:
    assert "do-not-tell" not in output("check", "--config", str(config))
    assert "do-not-tell" not in json.dumps(answer("check", "--config", str(config)))


def test_every_mistake_has_its_path(config: Path) -> None:
    config.write_text(GOOD.replace("insecure", "insecur") + "\nstate: {durbility: sync}\n")
    result = run("check", "--config", str(config))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "exporters.otlp_grpc/tempo.tls.insecur: unknown key, did you mean insecure?",
        "state.durbility: unknown key, did you mean durability?",
    ]


def test_mistakes_as_json(config: Path) -> None:
    config.write_text("state: {durbility: sync}")
    result = run("check", "--json", "--config", str(config))
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "valid": False,
        "problems": ["state.durbility: unknown key, did you mean durability?"],
    }


def test_a_path_that_no_system_has(config: Path) -> None:
    config.write_text('state: {path: "a\\0b"}')
    result = run("check", "--config", str(config))
    assert result.exit_code == 2
    assert result.stderr == "state.path: holds a character that no path can hold\n"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = run("check", "--config", str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert f"{tmp_path / 'none.yaml'}: cannot be read" in result.stderr


@pytest.mark.parametrize("override", ["{model: acme}", "{model: acme, cache_read: 1}"])
def test_an_override_needs_a_price(override: str) -> None:
    result = run("check", "--set", f"processor.pricing.overrides=[{override}]")
    assert result.exit_code == 2
    assert "processor.pricing.overrides[0]: give a rate for input, output or a usage class" in result.stderr
