"""A haystack pipeline of one chat generator, run three times, told by OpenInference.

into: haystack-openinference/S1-openai-chat
requires: haystack-ai==3.4.1
requires: openinference-instrumentation-haystack==0.1.46
"""

import os

from haystack import Pipeline
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from openinference.instrumentation import using_attributes
from openinference.instrumentation.haystack import HaystackInstrumentor
from telemetry import provider

traces = provider()
HaystackInstrumentor().instrument(tracer_provider=traces)
pipeline = Pipeline()
pipeline.add_component("llm", OpenAIChatGenerator(model="gpt-5.1", api_base_url=os.environ["OPENAI_BASE_URL"]))
with using_attributes(session_id=os.environ["SESSION_ID"]):
    for _ in range(3):
        pipeline.run({"llm": {"messages": [ChatMessage.from_user("What is the weather?")]}})
traces.shutdown()
