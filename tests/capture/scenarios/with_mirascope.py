"""Mirascope's own spans: a stream and a tool loop, each call traced around the model's span.

Needs Python 3.12, as Mirascope does.

into: mirascope/tools
requires: mirascope[all]==2.8.2
"""

import os

from mirascope import llm, ops
from telemetry import provider

traces = provider()
ops.configure(tracer_provider=traces)
ops.instrument_llm()


@llm.tool
def get_weather(city: str, days: int) -> str:
    """Tell the weather."""
    return "sunny"


@ops.trace
@llm.call("openai/gpt-4o:completions", tools=[get_weather])
def ask(question: str) -> str:
    """Ask with a tool."""
    return question


@ops.trace
@llm.call("anthropic/claude-sonnet-4-5")
def tell(question: str) -> str:
    """Ask without one."""
    return question


with ops.session(id=os.environ["SESSION_ID"]):
    for _ in tell.stream("weather?").text_stream():
        pass
    response = ask.call("weather?")
    while response.tool_calls:
        response = response.resume(response.execute_tools())
traces.shutdown()
