"""Anthropic's requests that only count tokens, beside one call, told by the SDK and by OpenInference.

into: openinference/count-tokens-anthropic
requires: anthropic==2.14.0
requires: openinference-instrumentation-anthropic==3.1.0
"""

from anthropic import Anthropic
from openinference.instrumentation.anthropic import AnthropicInstrumentor
from telemetry import provider

traces = provider()
AnthropicInstrumentor().instrument(tracer_provider=traces)
client = Anthropic()
asked = [{"role": "user", "content": "weather?"}]
client.messages.count_tokens(model="claude-sonnet-4-5", messages=asked)
client.beta.messages.count_tokens(model="claude-sonnet-4-5", messages=asked)
client.messages.create(model="claude-sonnet-4-5", max_tokens=100, messages=asked)
traces.shutdown()
