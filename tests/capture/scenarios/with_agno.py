"""An agno agent on Anthropic, told by OpenInference.

into: agno-openinference/S3-anthropic
requires: agno==3.1.10
requires: anthropic
requires: openinference-instrumentation-agno==1.0.15
"""

import os

from agno.agent import Agent
from agno.models.anthropic import Claude
from openinference.instrumentation.agno import AgnoInstrumentor
from telemetry import provider


def get_weather(city: str, days: int) -> str:
    """Tell the weather of a city for some days."""
    return "fine"


traces = provider()
AgnoInstrumentor().instrument(tracer_provider=traces)
Agent(
    model=Claude(id="claude-sonnet-4-5"), tools=[get_weather], session_id=os.environ["SESSION_ID"], telemetry=False
).run("What is the weather?")
traces.shutdown()
