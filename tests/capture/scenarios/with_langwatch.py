"""The OpenAI SDK and tools, told by LangWatch.

into: langwatch/openai
requires: langwatch==1.4.0
requires: openai==3.57.0
"""

import json
import os

import langwatch
from openai import OpenAI
from opentelemetry.trace import get_tracer_provider

FUNCTION = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}


@langwatch.span(type="tool")
def get_weather(city: str, days: int) -> str:
    """Tell the weather of a city for some days."""
    return "fine"


langwatch.setup(api_key="none", endpoint_url=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"])
client = OpenAI()
for streamed in (False, True):
    with langwatch.trace(name="turn") as trace:
        trace.autotrack_openai_calls(client)
        asked = {"role": "user", "content": "How is the weather?"}
        if streamed:
            usage = {"include_usage": True}
            list(client.chat.completions.create(model="gpt-5.1", messages=[asked], stream=True, stream_options=usage))
        else:
            tools = [{"type": "function", "function": FUNCTION}]
            for _ in range(3):
                answer = client.chat.completions.create(model="gpt-5.1", messages=[asked], tools=tools)
                for call in answer.choices[0].message.tool_calls or ():
                    get_weather(**json.loads(call.function.arguments))
get_tracer_provider().force_flush()
