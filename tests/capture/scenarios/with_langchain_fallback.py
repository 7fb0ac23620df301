"""A model that refuses and the one that LangChain turns to, told by OpenInference.

into: langchain-openinference/fallback
refuses: 1
requires: langchain-openai==1.7.4
requires: openinference-instrumentation-langchain==0.1.80
"""

import os

from langchain_openai import ChatOpenAI
from openinference.instrumentation import using_session
from openinference.instrumentation.langchain import LangChainInstrumentor
from telemetry import provider

traces = provider()
LangChainInstrumentor().instrument(tracer_provider=traces)
model = ChatOpenAI(model="gpt-4o", max_retries=0).with_fallbacks([ChatOpenAI(model="gpt-5.1")])
with using_session(os.environ["SESSION_ID"]):
    model.invoke("What is the weather?")
    model.invoke("What is the weather?")
traces.shutdown()
