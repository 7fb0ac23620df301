"""An ADK agent on OpenAI by LiteLLM: its output holds the reasoning twice.

into: google-adk/litellm
requires: google-adk==2.13.0
requires: litellm
"""

import asyncio
import os

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.genai.types import Content, Part
from telemetry import provider


def get_weather(city: str, days: int) -> str:
    """Tell the weather of a city for some days."""
    return "fine"


async def main() -> None:
    """Ask the agent once."""
    agent = LlmAgent(name="reporter", model=LiteLlm(model="openai/gpt-5.1"), tools=[get_weather])
    runner = InMemoryRunner(agent, app_name="weather")
    session = await runner.session_service.create_session(
        app_name="weather", user_id="me", session_id=os.environ["SESSION_ID"]
    )
    message = Content(role="user", parts=[Part(text="How is the weather?")])
    async for _ in runner.run_async(user_id="me", session_id=session.id, new_message=message):
        pass


traces = provider()
asyncio.run(main())
traces.shutdown()
