"""What a configuration comes to: defaults, `${env:...}`, `--set`."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from configurations import HOME, loaded, problems
from spanledger_exporters.settings import DebugSettings, FileSettings, OtlpGrpcSettings, OtlpHttpSettings
from spanledger_processor.config import Config, load
from spanledger_processor.config.summary import summary

STATE = Path("/home/someone/.local/state/spanledger")


def test_no_configuration_at_all_runs() -> None:
    config = load(None, (), HOME)
    assert config.receivers.otlp is not None
    assert config.receivers.enricher is None
    protocols = config.receivers.otlp.protocols
    assert protocols.grpc is not None
    assert protocols.http is not None
    assert protocols.grpc.endpoint == "127.0.0.1:4317"
    assert protocols.http.endpoint == "127.0.0.1:4318"
    assert config.api.endpoint == "127.0.0.1:4320"
    assert config.state.path == STATE
    assert (config.state.durability, config.state.retention.spans) == ("sync", 24 * 3600)
    assert set(config.exporters) == {"debug", "file"}
    file = config.exporters["file"]
    assert isinstance(file, FileSettings)
    assert file.path == str(STATE / "spans.jsonl")
    assert config.processor.aliases == ("gen_ai.usage.cost",)
    assert config.receivers.otlp.max_in_flight_mib == 256


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"HOME": "/home/a", "XDG_STATE_HOME": "/var/state"}, "/var/state/spanledger"),
        ({"HOME": "/home/a", "XDG_STATE_HOME": "relative"}, "/home/a/.local/state/spanledger"),
        ({"HOME": "/home/a", "XDG_STATE_HOME": ""}, "/home/a/.local/state/spanledger"),
    ],
)
def test_the_users_state_folder(environ: dict[str, str], folder: str) -> None:
    assert load(None, (), environ).state.path == Path(folder)


def test_the_default_file_follows_the_state() -> None:
    file = load(None, ["state.path=/var/lib/spanledger"], HOME).exporters["file"]
    assert isinstance(file, FileSettings)
    assert file.path == "/var/lib/spanledger/spans.jsonl"


def test_a_collectors_vocabulary() -> None:
    config = loaded("""
        receivers:
          otlp:
            protocols:
              grpc: {endpoint: 0.0.0.0:5317}
              http:
        exporters:
          otlp_grpc/tempo:
            endpoint: tempo:4317
            tls: {insecure: true}
            compression: none
            timeout: 1m30s
            headers: {x-scope-orgid: team}
            retry_on_failure: {enabled: true, initial_interval: 200ms, max_elapsed_time: 0}
            sending_queue: {enabled: false}
          otlphttp: {endpoint: https://example.org/otlp, encoding: json, required: false, signals: [traces]}
          debug:
    """)
    assert config.receivers.otlp is not None
    grpc, http = config.receivers.otlp.protocols.grpc, config.receivers.otlp.protocols.http
    assert grpc is not None
    assert http is not None
    assert (grpc.endpoint, http.endpoint) == ("0.0.0.0:5317", "127.0.0.1:4318")
    tempo, web, debug = config.exporters.values()
    assert isinstance(tempo, OtlpGrpcSettings)
    assert (tempo.target, tempo.secure, tempo.timeout, tempo.required) == ("tempo:4317", False, 90.0, True)
    assert (tempo.retry_on_failure.initial_interval, tempo.retry_on_failure.max_elapsed_time) == (0.2, 0.0)
    assert tempo.headers["x-scope-orgid"].get_secret_value() == "team"
    assert isinstance(web, OtlpHttpSettings)
    assert (web.urls["traces"], web.takes, web.required) == (
        "https://example.org/otlp/v1/traces",
        frozenset({"traces"}),
        False,
    )
    assert isinstance(debug, DebugSettings)


def test_only_the_protocols_that_are_named_run() -> None:
    otlp = loaded("receivers: {otlp: {protocols: {http: }}}").receivers.otlp
    assert otlp is not None
    assert otlp.protocols.grpc is None
    assert otlp.protocols.http is not None


def test_an_enricher_alone_delivers_nothing_and_is_valid() -> None:
    config = loaded("receivers: {enricher: }")
    assert config.receivers.otlp is None
    assert config.receivers.enricher is not None
    assert config.receivers.enricher.endpoint == "127.0.0.1:4321"
    assert not config.exporters
    reported = summary(config)
    assert reported.listeners == {"enricher": "127.0.0.1:4321", "API": "127.0.0.1:4320"}
    assert not reported.warnings


def test_an_enricher_beside_otlp_keeps_the_default_exporters() -> None:
    config = loaded("receivers: {otlp: , enricher: {endpoint: 'unix:///run/spanledger.sock'}}")
    assert config.receivers.otlp is not None
    assert config.receivers.enricher is not None
    assert config.receivers.enricher.endpoint == "unix:///run/spanledger.sock"
    assert set(config.exporters) == {"debug", "file"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("receivers: {enricher: {endpoint: 'unix:x.sock'}}", "receivers.enricher.endpoint"),
        ("receivers: {enricher: {max_in_flight_mib: 8}}", "receivers.enricher"),
        ("{receivers: {enricher: }, api: {endpoint: '127.0.0.1:4321'}}", "api.endpoint"),
        ("{receivers: {enricher: }, sidecar: {sources: {mux: }}}", "sidecar"),
    ],
)
def test_an_enricher_that_cannot_run_is_refused(text: str, path: str) -> None:
    assert any(path in problem for problem in problems(text))


def test_price_overrides_are_exact() -> None:
    (override,) = loaded("""
        processor:
          pricing:
            overrides: [{model: "our-*", provider: us, valid_from: 2026-01-31, input: 0.1, output: "2.30"}]
    """).processor.pricing.overrides
    assert (override.input, override.output) == (Decimal("0.1"), Decimal("2.30"))
    assert override.valid_from == date(2026, 1, 31)


@pytest.mark.parametrize(
    ("value", "environ", "path"),
    [
        ("${env:FOLDER}", {"FOLDER": "/a"}, "/a"),
        ("${FOLDER}", {"FOLDER": "/a"}, "/a"),
        ("/x/${env:ONE}/${env:TWO}", {"ONE": "1", "TWO": "2"}, "/x/1/2"),
        ("${env:FOLDER:-/default}", {}, "/default"),
        ("${env:FOLDER:-/default}", {"FOLDER": "/a"}, "/a"),
        ("/${env:FOLDER:-}b", {}, "/b"),
        ("/$${env:FOLDER}", {}, "/${env:FOLDER}"),
        ("/a$b", {}, "/a$b"),
        ("${env:FOLDER}", {"FOLDER": "/${env:OTHER}"}, "/${env:OTHER}"),
    ],
)
def test_variables(value: str, environ: dict[str, str], path: str) -> None:
    """What a variable holds is not looked through again."""
    assert loaded(f"state: {{path: '{value}'}}", environ=HOME | environ).state.path == Path(path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("${env:NOWHERE}", "environment variable NOWHERE is not set"),
        ("${env:}", "write ${env:NAME}"),
        ("${env:A", "write ${env:NAME}"),
        ("${env:A:-${env:B}}", "write ${env:NAME}"),
        ("${file:/etc/passwd}", "only ${env:NAME}"),
    ],
)
def test_a_reference_that_leads_nowhere(value: str, says: str) -> None:
    reported = problems(f"state: {{path: '{value}'}}")
    assert reported[0].startswith("state.path: ")
    assert says in reported[0]


def test_a_variable_in_a_list_is_told_with_its_place() -> None:
    (reported,) = problems("processor: {sessions: {keys: [a, '${env:NOWHERE}']}}")
    assert reported.startswith("processor.sessions.keys[1]: ")


def test_variables_are_read_as_what_is_wanted() -> None:
    text = "state: {max_size_mib: '${env:SIZE}'}\nexporters: {debug: {required: '${env:WAIT}'}}"
    config = loaded(text, environ=HOME | {"SIZE": "7", "WAIT": "false"})
    assert (config.state.max_size_mib, config.exporters["debug"].required) == (7, False)


@pytest.mark.parametrize(
    ("sets", "read"),
    [
        (["state.max_size_mib=9"], lambda config: config.state.max_size_mib == 9),
        (["state.max_size_mib=9", "state.max_size_mib=8"], lambda config: config.state.max_size_mib == 8),
        (["state.retention.spans=2h"], lambda config: config.state.retention.spans == 7200),
        (["state={max_size_mib: 5}"], lambda config: config.state.max_size_mib == 5),
        (["processor.aliases=[]"], lambda config: config.processor.aliases == ()),
        (["exporters.debug.verbosity=normal"], lambda config: set(config.exporters) == {"debug", "file"}),
        (
            ['exporters."otlp/eu.west".endpoint=a:1'],
            lambda config: set(config.exporters) == {"debug", "file", "otlp/eu.west"},
        ),
        (
            ["receivers.otlp.protocols.grpc.endpoint=127.0.0.1:5317"],
            lambda config: config.receivers.otlp.protocols.http is not None,
        ),
        (["state.path=${env:HOME}/x=y"], lambda config: config.state.path == Path("/home/someone/x=y")),
    ],
)
def test_set_changes_one_value_and_leaves_the_rest_running(sets: list[str], read: object) -> None:
    assert callable(read)
    assert read(load(None, sets, HOME))


def test_set_reaches_a_key_with_a_dot_that_the_file_has() -> None:
    config = loaded("exporters: {otlp/eu.west: {endpoint: 'a:1'}}", ["exporters.otlp/eu.west.timeout=3s"])
    exporter = config.exporters["otlp/eu.west"]
    assert isinstance(exporter, OtlpGrpcSettings)
    assert exporter.timeout == 3.0


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ("state.max_size_mib", "--set number 1: write path.to.key=value"),
        ("=5", "--set : write path.to.key=value"),
        (".a=5", "--set .a: write path.to.key=value"),
        ("state..path=5", "--set state..path: write path.to.key=value"),
        ("api.endpoint.port=5", "api.endpoint.port"),
        ("state.max_size_mib=[1", "--set state.max_size_mib"),
        ("state.max_size_mib=many", "state.max_size_mib: should be a whole number"),
    ],
)
def test_a_set_that_cannot_be(sets: str, says: str) -> None:
    reported = problems("api: {endpoint: '127.0.0.1:1'}", [sets])
    assert says in reported[0]


def test_a_configuration_does_not_change() -> None:
    config = load(None, (), HOME)
    with pytest.raises(ValueError, match="frozen"):
        config.state.__setattr__("max_size_mib", 5)
    assert isinstance(config, Config)
