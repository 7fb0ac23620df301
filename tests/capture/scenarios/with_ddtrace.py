"""Datadog's tracer, sending its own spans as OTLP in JSON: OpenAI and Anthropic, whose SDK tells its calls as well.

into: ddtrace/otlp-json
requires: ddtrace==4.16.0
requires: openai==3.57.0
requires: anthropic==2.14.0
"""

import os

os.environ["OTEL_TRACES_EXPORTER"] = "otlp"
os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{os.environ['OTEL_EXPORTER_OTLP_ENDPOINT']}/v1/traces"
os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/json"
os.environ["DD_TRACE_OTEL_ENABLED"] = "true"
os.environ["DD_INSTRUMENTATION_TELEMETRY_ENABLED"] = "false"
os.environ["DD_REMOTE_CONFIGURATION_ENABLED"] = "false"

import ddtrace.auto  # noqa: F401 - it instruments what is imported after it
from anthropic import Anthropic
from ddtrace import tracer
from openai import OpenAI

client, other = OpenAI(), Anthropic()
asked = [{"role": "user", "content": "weather?"}]
client.chat.completions.create(model="gpt-5.1", messages=asked)
for _ in client.chat.completions.create(
    model="gpt-5.1", messages=asked, stream=True, stream_options={"include_usage": True}
):
    """Read all of it."""
client.responses.create(model="gpt-5.1", input="weather?")
client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
other.messages.create(model="claude-sonnet-4-5", max_tokens=100, messages=asked)
with other.messages.stream(model="claude-sonnet-4-5", max_tokens=100, messages=asked) as stream:
    stream.get_final_message()
tracer.shutdown()
