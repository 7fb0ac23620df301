"""smolagents' tool calling agent, told by OpenInference: agent, step, model and tool spans, usage on each.

into: smolagents-openinference/S3
requires: smolagents==1.26.0
requires: openai
requires: openinference-instrumentation-smolagents==0.1.43
"""

import os

from openinference.instrumentation import using_attributes
from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from smolagents import OpenAIServerModel, ToolCallingAgent, tool
from telemetry import provider


@tool
def get_weather(city: str, days: int) -> str:
    """Tell the weather.

    Args:
        city: the city
        days: how many days
    """
    return "fine"


traces = provider()
SmolagentsInstrumentor().instrument(tracer_provider=traces)
model = OpenAIServerModel("gpt-5.1", api_base=os.environ["OPENAI_BASE_URL"], api_key="none")
with using_attributes(session_id=os.environ["SESSION_ID"]):
    ToolCallingAgent(tools=[get_weather], model=model).run("What is the weather?")
traces.shutdown()
