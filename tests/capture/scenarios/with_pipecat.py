"""Three answers of one pipeline of Pipecat, from Anthropic.

into: pipecat/anthropic
requires: pipecat-ai[anthropic]==1.14.0
requires: anthropic==0.125.0
"""

import asyncio
import os

from anthropic import AsyncAnthropic
from pipecat.frames.frames import EndFrame, LLMContextFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.anthropic.llm import AnthropicLLMService
from pipecat.workers.runner import WorkerRunner
from telemetry import provider


async def main() -> None:
    """Let the pipeline answer, and end it."""
    service = AnthropicLLMService(api_key="none", model="claude-sonnet-4-5", client=AsyncAnthropic())
    task = PipelineTask(
        Pipeline([service]),
        params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
        enable_tracing=True,
        conversation_id=os.environ["SESSION_ID"],
    )
    asked = [LLMContextFrame(LLMContext([{"role": "user", "content": "weather?"}])) for _ in range(3)]
    await task.queue_frames([*asked, EndFrame()])
    await WorkerRunner(handle_sigint=False).run(task)


traces = provider()
asyncio.run(main())
traces.shutdown()
