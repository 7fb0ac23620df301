"""Semantic Kernel with its own GenAI spans, tools called by the kernel itself.

into: semantic-kernel/S3
requires: semantic-kernel==1.45.0
"""

import asyncio
import os

os.environ["SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS"] = "true"

from semantic_kernel import Kernel
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function
from telemetry import provider


class Weather:
    @kernel_function(name="get_weather")
    def get_weather(self, city: str, days: int) -> str:
        """Tell the weather of a city for some days."""
        return "fine"


async def main() -> None:
    traces = provider()
    kernel = Kernel()
    kernel.add_service(OpenAIChatCompletion(ai_model_id="gpt-5.1", api_key="none"))
    agent = ChatCompletionAgent(kernel=kernel, name="weather", plugins=[Weather()])
    # The library names no session: the truth has none.
    await agent.get_response(messages="What is the weather?")
    traces.shutdown()


asyncio.run(main())
