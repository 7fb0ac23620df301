"""A call of LangChain's that asks for three choices, and one for a single one, told by OpenLLMetry.

into: langchain-traceloop/choices
requires: langchain-openai==1.7.4
requires: opentelemetry-instrumentation-langchain==0.62.4
"""

import os

from langchain_openai import ChatOpenAI
from opentelemetry.instrumentation.langchain import LangchainInstrumentor
from telemetry import provider

traces = provider()
LangchainInstrumentor().instrument(tracer_provider=traces)
named = {"metadata": {"session_id": os.environ["SESSION_ID"]}}
ChatOpenAI(model="gpt-5.1", n=3).invoke("What is the weather?", config=named)
ChatOpenAI(model="gpt-5.1").invoke("What is the weather?", config=named)
traces.shutdown()
