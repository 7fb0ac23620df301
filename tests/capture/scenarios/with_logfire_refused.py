"""A request that OpenAI refuses and one that it answers, told by Logfire.

into: logfire/refused-openai-chat
refuses: 1
requires: openai==3.57.0
requires: logfire==5.4.0
"""

import os

import logfire
from openai import InternalServerError, OpenAI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

traces = BatchSpanProcessor(OTLPSpanExporter())
del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
logfire.configure(send_to_logfire=False, console=False, additional_span_processors=[traces])
logfire.instrument_openai()
asked = [{"role": "user", "content": "weather?"}]
with logfire.set_baggage(session_id=os.environ["SESSION_ID"]):
    try:
        OpenAI(max_retries=0).chat.completions.create(model="gpt-5.1", messages=asked)
    except InternalServerError:
        OpenAI().chat.completions.create(model="gpt-5.1", messages=asked)
logfire.force_flush()
