"""Secrets are in no message, whatever is wrong around them, and in no printed configuration."""

from __future__ import annotations

import pytest

from configurations import HOME, loaded, problems

SECRET = "hunter2-hunter2"
KEY = "a-signing-key-nobody-may-see"


@pytest.mark.parametrize(
    "text",
    [
        f"exporters: {{otlp: {{endpoint: 'a:1', headers: '{SECRET}'}}}}",
        f"exporters: {{otlp: {{endpoint: 'a:1', headers: [{SECRET}]}}}}",
        f"exporters: {{otlp: {{endpoint: 'a:1', headers: {{authorization: [{SECRET}]}}}}}}",
        f"exporters: {{otlp: {{endpoint: 'a:1', headers: {{authorization: \"{SECRET}\\u0007\"}}}}}}",
        f"exporters: {{otlp: {{endpoint: 'a:1', headers: {{'bad name': {SECRET}}}}}}}",
        f"exporters: {{otlp: {{endpoint: 'https://user:{SECRET}@a:1/x'}}}}",
        f"exporters: {{otlphttp: {{endpoint: 'https://user:{SECRET}@a/'}}}}",
        f"receivers: {{otlp: {{protocols: {{grpc: {{auth: {{bearer_token: [{SECRET}]}}}}}}}}}}",
        f"receivers: {{otlp: {{protocols: {{grpc: {{auth: {SECRET}}}}}}}}}",
        f"processor: {{tools: {{signing_key: [{SECRET}]}}}}",
        f"processor: {{tools: {{signing_key: {SECRET}}}}}",
        f"processor: {{tools: {SECRET}}}",
        f"processor: {{tools: {{signing_key: '{SECRET}}}}}",
        f'processor: {{tools: {{signing_key: "{SECRET}\\q"}}}}',
        f"processor: {{tools: {{signing_key: &{SECRET}! x}}}}",
        f"processor: {{tools: {{signing_key: !{SECRET} x}}}}",
        f"processor: {{tools: {{signing_key: *{SECRET}}}}}",
        f"processor: {{tools: {{signing_key: [{SECRET}: {{]}}}}",
        f"processor: {{tools: {{signing_key: %{SECRET}}}}}",
        f"processor: {{tools: {{signing_key: |{SECRET}}}}}",
        f"processor: {{tools: {{signing_key: '${{env:{SECRET}}}'}}}}",
        f"processor: {{tools: {{signing_key: '${{{SECRET}:x}}'}}}}",
        f"state: {{max_size_mib: {SECRET}}}",
        f"state: {{durability: {SECRET}}}",
        f"state: {{retention: {{spans: {SECRET}}}}}",
        f"processor: {{aliases: [{SECRET}]}}",
        f"{SECRET}",
    ],
)
def test_no_message_repeats_a_value(text: str) -> None:
    reported = "\n".join(problems(text))
    assert reported
    assert SECRET not in reported
    assert "hunter2" not in reported


@pytest.mark.parametrize(
    "sets",
    [
        f"processor.tools.signing_key=[{SECRET}",
        f"processor.tools.signing_key={SECRET}",
        f"state.path.deeper={SECRET}",
        f"{SECRET}",
    ],
)
def test_no_message_repeats_what_was_set(sets: str) -> None:
    reported = "\n".join(problems("state: {path: /a}", [sets]))
    assert reported
    assert "hunter2" not in reported


def test_what_a_variable_holds_is_in_no_message() -> None:
    text = "state: {max_size_mib: '${env:A}', durability: '${env:A}'}\nprocessor: {tools: {signing_key: ['${env:A}']}}"
    reported = "\n".join(problems(text, environ=HOME | {"A": SECRET}))
    assert reported.count("\n") == 2
    assert "hunter2" not in reported


def test_a_printed_configuration_hides_them() -> None:
    config = loaded(f"""
        exporters: {{otlp: {{endpoint: 'a:1', headers: {{authorization: Bearer {SECRET}}}}}}}
        receivers: {{otlp: {{protocols: {{grpc: {{auth: {{bearer_token: {SECRET}}}}}}}}}}}
        processor: {{tools: {{signing_key: {KEY}}}}}
    """)
    for printed in (repr(config), str(config), config.model_dump_json()):
        assert "hunter2" not in printed
        assert KEY not in printed
    assert config.processor.tools.signing_key is not None
    assert config.processor.tools.signing_key.get_secret_value() == KEY
