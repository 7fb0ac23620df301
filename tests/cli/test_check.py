"""`spanledger check`: what a configuration comes to, or every mistake in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend import Backend
from commands import answer, output, run
from spanledger_processor.cli.check import _folder

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
    reported = answer("check")
    assert reported["valid"] is True
    assert reported["listeners"] == {
        "OTLP/gRPC": "127.0.0.1:4317",
        "OTLP/HTTP": "127.0.0.1:4318",
        "API": "127.0.0.1:4320",
    }
    assert reported["warnings"] == []


def test_what_a_file_comes_to(config: Path) -> None:
    reported = answer("check", "--config", str(config))
    assert reported["exporters"] == [
        {
            "name": "otlp_grpc/tempo",
            "target": "tempo:4317",
            "signals": ["traces"],
            "required": False,
            "queued": False,
            "match": None,
        }
    ]
    assert [warning.partition(":")[0] for warning in reported["warnings"]] == [
        "no exporter takes logs",
        "no exporter takes metrics",
        "no exporter is required",
    ]
    shown = output("check", "--config", str(config))
    assert f"{config} is valid." in shown
    assert f"{config}, {config} are valid, merged." in output("check", "--config", str(config), "--config", str(config))
    assert "exports to otlp_grpc/tempo -> tempo:4317 (traces only), not waited for" in shown


def test_queue_and_match_of_an_exporter(tmp_path: Path) -> None:
    file = tmp_path / "spanledger.yaml"
    queue = f"sending_queue: {{enabled: true, storage: {tmp_path}}}"
    file.write_text(f"exporters: {{otlp_grpc: {{endpoint: 'a:1', match: {{team: [x, y]}}, {queue}}}}}")
    (exporter,) = answer("check", "--config", str(file))["exporters"]
    assert exporter["queued"] is True
    assert exporter["match"] == "team is x or y"


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


def test_certificates_and_folders_are_opened(tmp_path: Path) -> None:
    """Each that cannot be used is named with its path; with --syntax none is looked at."""
    (tmp_path / "file").write_text("no certificate")
    sets = [
        f"receivers.otlp.protocols.grpc.tls={{cert_file: {tmp_path}/none.pem, key_file: {tmp_path}/none.key}}",
        f"api.tls={{cert_file: {tmp_path}/file, key_file: {tmp_path}/file}}",
        f"state.path={tmp_path}/file/state",
        f"exporters={{otlp_http/a: {{endpoint: 'https://x:1', tls: {{ca_file: {tmp_path}/none.pem}}}}, "
        f"file: {{path: {tmp_path}/file/out/spans.jsonl}}}}",
    ]
    options = [word for text in sets for word in ("--set", text)]
    result = run("check", *options)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    for path in (
        "receivers.otlp.protocols.grpc.tls.cert_file",
        "api.tls.cert_file",
        "state.path",
        "exporters.otlp_http/a",
        "exporters.file.path",
    ):
        assert any(line.startswith(path) for line in lines), f"{path} in {lines}"
    reported = json.loads(run("check", "--json", *options).stdout)
    assert (reported["valid"], len(reported["problems"])) == (False, 5)
    assert run("check", "--syntax", *options).exit_code == 0


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """Also where permissions do not say so: of the root, of a system's own folders, of names that are too long."""
    assert list(_folder(tmp_path / "new" / "state", "state.path")) == []
    assert list(_folder(tmp_path, "state.path")) == []
    assert [*tmp_path.iterdir()] == [], "nothing is left behind"
    (problem,) = _folder(Path("/proc/new/state"), "state.path")
    assert problem.startswith("state.path: /proc/new/state cannot be made in /proc (")
    (problem,) = _folder(Path("/proc"), "state.path")
    assert problem.startswith("state.path: /proc may not be written (")
    (problem,) = _folder(tmp_path / ("x" * 300), "state.path")
    assert "cannot be made" in problem
    (tmp_path / "file").write_text("")
    (problem,) = _folder(tmp_path / "file" / "state", "state.path")
    assert problem == f"state.path: {tmp_path / 'file'} is no folder"
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (problem,) = _folder(tmp_path / "nowhere" / "state", "state.path")
    assert problem == f"state.path: {tmp_path / 'nowhere'} is no folder"


def test_a_state_folder_that_cannot_be_made_is_a_mistake() -> None:
    result = run("check", "--set", "state.path=/proc/new")
    assert (result.exit_code, result.stderr.startswith("state.path: /proc/new/ledger cannot be made")) == (2, True)


def test_destinations_are_tried(tmp_path: Path) -> None:
    with Backend() as backend:
        at = f"endpoint: '127.0.0.1:{backend.port}', signals: [traces]"
        good = f"exporters.otlp_grpc/good={{{at}, tls: {{insecure: true}}}}"
        fine = answer("check", "--connect", "--set", good)
        assert [(one["exporter"], one["problem"]) for one in fine["connections"]] == [("otlp_grpc/good", None)]
        bad = f"exporters.otlp_grpc/bad={{{at}}}"
        result = run("check", "--connect", "--set", bad)
        assert result.exit_code == 1
        assert "set tls.insecure to true" in result.stdout
        assert run("check", "--connect", "--set", bad, "--set", "exporters.otlp_grpc/bad.required=false").exit_code == 0


def test_destinations_of_own_telemetry_are_tried() -> None:
    with Backend() as backend:
        otlp = f"otlp: {{protocol: grpc, endpoint: 'http://127.0.0.1:{backend.port}'}}"
        traces = f"telemetry.traces.processors=[{{batch: {{exporter: {{{otlp}}}}}}}]"
        metrics = "telemetry.metrics.readers=[{periodic: {exporter: {otlp: {endpoint: 'http://127.0.0.1:1'}}}}]"
        reached = answer("check", "--connect", "--set", traces, "--set", metrics)["connections"]
    assert [(one["exporter"], one["signal"]) for one in reached] == [
        ("telemetry.metrics", "metrics"),
        ("telemetry.traces", "traces"),
    ]
    assert "refused" in reached[0]["problem"]
    assert reached[1]["problem"] is None


def test_a_secret_in_a_query_is_not_told() -> None:
    sets = ("--set", "exporters.otlp_http/x={endpoint: 'http://x:1/base?key=URLSECRET', signals: [traces]}")
    assert "URLSECRET" not in output("check", *sets)
    assert "URLSECRET" not in json.dumps(answer("check", *sets))
    assert "http://x:1/base" in output("check", *sets)
