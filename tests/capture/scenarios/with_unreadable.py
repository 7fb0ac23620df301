"""An answer that OpenAI's library cannot read as the object that was asked for, told by OpenTelemetry's GenAI package.

into: otel-genai/unreadable-openai-chat
requires: openai==3.57.0
requires: opentelemetry-instrumentation-genai-openai==1.3b0
"""

import os

from openai import OpenAI
from opentelemetry import trace
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from pydantic import BaseModel, ValidationError
from telemetry import provider


class Weather(BaseModel):
    """What is asked for."""

    city: str


traces = provider()
OpenAIInstrumentor().instrument(tracer_provider=traces)
asked = [{"role": "user", "content": "weather?"}]
with trace.get_tracer("app").start_as_current_span("ask", attributes={"session.id": os.environ["SESSION_ID"]}):
    try:
        OpenAI().chat.completions.parse(model="gpt-5.1", messages=asked, response_format=Weather)
    except ValidationError:
        OpenAI().chat.completions.create(model="gpt-5.1", messages=asked)
traces.shutdown()
