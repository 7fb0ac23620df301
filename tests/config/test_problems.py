"""What is told of a configuration that cannot be used: the path, and what to do."""

from __future__ import annotations

import pytest

from configurations import loaded, problems

_BUDGET = "name: all, amount: 1, period: day"


@pytest.mark.parametrize(
    ("sets", "reported"),
    [
        (
            'exporters."otlp_grpc/tempo".tls.ca_fle=x',
            "exporters.otlp_grpc/tempo.tls.ca_fle: unknown key, did you mean ca_file?",
        ),
        (
            "receivers.otlp.protocols.grpc.endpiont=x",
            "receivers.otlp.protocols.grpc.endpiont: unknown key, did you mean endpoint?",
        ),
        ("receivers.otlp.protocols.grcp={}", "receivers.otlp.protocols.grcp: unknown key, did you mean grpc?"),
        ("state.pth=x", "state.pth: unknown key, did you mean path?"),
        ("state.retention.span=1h", "state.retention.span: unknown key, did you mean spans?"),
        ("procesor={}", "procesor: unknown key, did you mean processor?"),
        ("processor.pricing.override=[]", "processor.pricing.override: unknown key, did you mean overrides?"),
        ("state.zzz=1", "state.zzz: unknown key; known here: path, max_size_mib, durability, retention"),
    ],
)
def test_a_typo_is_told_with_its_path_and_the_nearest_key(sets: str, reported: str) -> None:
    text = "exporters: {otlp_grpc/tempo: {endpoint: 'tempo:4317'}}"
    assert problems(text, [sets]) == (reported,)


def test_a_typo_inside_a_list() -> None:
    text = """
        processor:
          pricing:
            overrides:
              - {model: a, input: 1}
              - {model: b, inptu: 1, output: 2}
    """
    assert problems(text) == ("processor.pricing.overrides[1].inptu: unknown key, did you mean input?",)


def test_all_problems_are_told_at_once() -> None:
    text = """
        state: {durability: maybe, max_size_mib: 0}
        api: {endpoint: nowhere}
        exporters: {debug: {verbose: true}}
    """
    assert [problem.partition(":")[0] for problem in problems(text)] == [
        "exporters.debug.verbose",
        "state.max_size_mib",
        "state.durability",
        "api.endpoint",
    ]


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("service: {pipelines: {traces: {exporters: [debug]}}}", "service", "one pipeline"),
        ("service: {telemetry: {}}", "service", "one pipeline"),
        ("processors: {batch: {}}", "processors", "did you mean processor?"),
        ("extensions: {health_check: {}}", "extensions", "api.endpoint"),
        ("connectors: {spanmetrics: {}}", "connectors", "remove it"),
        ("receivers: {jaeger: {}}", "receivers.jaeger", "unknown key; known here: otlp, enricher"),
        ("receivers: {otpl: {}}", "receivers.otpl", "did you mean otlp?"),
        ("receivers: {otlp/2: {}}", "receivers.otlp/2", "there is one of each; known here: otlp, enricher"),
        ("processor: {retention: 3d}", "processor.retention", "did you mean state.retention?"),
        ("state: {budgets: []}", "state.budgets", "did you mean processor.budgets?"),
        ("state: {amount: 1}", "state.amount", "known here: path, max_size_mib, "),
        ("state: {signals: []}", "state.signals", "known here: path, max_size_mib, "),
        (
            "processor: {budgets: [{name: a, amount: 1, period: day, limit: 1}]}",
            "processor.budgets[0].limit",
            "known here: name, amount, ",
        ),
        ("exporters: {prometheus: {}}", "exporters.prometheus", "unknown exporter type"),
        ("exporters: {otlp_gprc/a: {}}", "exporters.otlp_gprc/a", "did you mean otlp_grpc?"),
        ("exporters: {}", "exporters", "at least one"),
    ],
)
def test_what_a_collector_has_and_this_has_not(text: str, path: str, says: str) -> None:
    (reported,) = problems(text)
    assert reported.startswith(f"{path}: ")
    assert says in reported


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("processor: {attributes: {enabled: true}}", "processor.attributes.enabled"),
    ],
)
def test_a_known_key_without_its_function_is_refused(text: str, path: str) -> None:
    (reported,) = problems(text)
    assert reported.startswith(f"{path}: not available yet")


@pytest.mark.parametrize(
    "text",
    [
        "exporters: {otlp: {endpoint: 'a:1', sending_queue: {enabled: false}}}",
        "processor: {redaction: {mode: keep}, attributes: {enabled: false}}",
        "sidecar:",
    ],
)
def test_to_switch_it_off_is_fine(text: str) -> None:
    assert loaded(text)


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("state: []", "state: should be a section of keys and values"),
        ("receivers: {otlp: 5}", "receivers.otlp: should be a section of keys and values"),
        ("exporters: [debug]", "exporters: should be a section of keys and values"),
        ("exporters: {debug: 5}", "exporters.debug: should be a section of keys and values"),
        ("state: {max_size_mib: many}", "state.max_size_mib: should be a whole number"),
        ("state: {max_size_mib: true}", "state.max_size_mib: should be a whole number"),
        ("state: {max_size_mib: 1.5}", "state.max_size_mib: should be a whole number"),
        ("exporters: {debug: {required: maybe}}", "exporters.debug.required: should be true or false"),
        ("exporters: {file: {}}", "exporters.file.path: is required"),
        ("exporters: {otlp: {}}", "exporters.otlp.endpoint: is required"),
        ("processor: {sessions: {keys: session.id}}", "processor.sessions.keys: should be a list"),
    ],
)
def test_values_of_the_wrong_kind(text: str, reported: str) -> None:
    assert problems(text) == (reported,)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("state: {retention: {spans: 5}}", "state.retention.spans"),
        ("state: {retention: {spans: 24 hours}}", "state.retention.spans"),
        ("state: {retention: {spans: -1h}}", "state.retention.spans"),
        ("state: {retention: {spans: 0}}", "state.retention.spans"),
        ("api: {endpoint: 'http://127.0.0.1:4320'}", "api.endpoint"),
        ("api: {endpoint: '127.0.0.1'}", "api.endpoint"),
        ("api: {endpoint: '127.0.0.1:65536'}", "api.endpoint"),
        ("processor: {aliases: [gen_ai.usage.cost.amount]}", "processor.aliases[0]"),
        ("processor: {tools: {loop: {repeats: 1}}}", "processor.tools.loop.repeats"),
        ("processor: {pricing: {overrides: [{model: a}]}}", "processor.pricing.overrides[0]"),
        ("processor: {pricing: {overrides: [{model: a, input: -1}]}}", "processor.pricing.overrides[0].input"),
        ("processor: {tenant: {keys: ['header:x y']}}", "processor.tenant.keys[0]"),
        (f"processor: {{budgets: [{{{_BUDGET}, thresholds: [50, 100, 50]}}]}}", "processor.budgets[0]"),
        (f"processor: {{budgets: [{{{_BUDGET}, thresholds: []}}]}}", "processor.budgets[0]"),
        (f"processor: {{budgets: [{{{_BUDGET}, thresholds: [true]}}]}}", "processor.budgets[0].thresholds[0]"),
    ],
)
def test_values_that_are_out_of_place(text: str, path: str) -> None:
    (reported,) = problems(text)
    assert reported.startswith(f"{path}: ")


def test_a_default_that_follows_from_what_is_wrong_is_no_problem_of_its_own() -> None:
    """As which exporters there are, without a section of them."""
    (reported,) = problems("receivers: {enricher: {max_in_flight_mib: 1, max_recv_msg_size_mib: 3}}")
    assert reported.startswith("receivers.enricher: max_recv_msg_size_mib is more than max_in_flight_mib")


def test_two_listeners_on_one_port() -> None:
    (reported,) = problems("api: {endpoint: '127.0.0.1:4317'}")
    assert reported == "api.endpoint: receivers.otlp.protocols.grpc listens on 127.0.0.1:4317 already"
    assert loaded("{api: {endpoint: ':0'}, receivers: {otlp: {protocols: {grpc: {endpoint: ':0'}}}}}")


def test_a_key_with_a_dot_is_told_in_quotes() -> None:
    (reported,) = problems("exporters: {otlp/eu.west: {endpoint: 'a:1', tsl: {}}}")
    assert reported == 'exporters."otlp/eu.west".tsl: unknown key, did you mean tls?'


def test_a_tenant_by_header_is_not_demanded_of_files() -> None:
    (reported,) = problems("{processor: {tenant: {keys: ['header:x'], required: true}}, sidecar: {sources: {mux: {}}}}")
    assert "processor.tenant.required" in reported
