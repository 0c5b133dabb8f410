"""An operator's module: an agent with tools, which asks the scripted model at the URL in the environment."""

import asyncio
import gc
import os

from agents import (
    Agent,
    GuardrailFunctionOutput,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunContextWrapper,
    function_tool,
    input_guardrail,
)
from openai import AsyncOpenAI

from ai_agent.services.assistant.context import TurnContext

API = {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}[os.environ.get("MODEL_API", "chat")]


@function_tool
async def clock(city: str) -> str:
    """Tell the time."""
    return f"09:30 in {city}"


@function_tool
async def whoami(context: RunContextWrapper[TurnContext]) -> str:
    """Tell what a tool knows of the turn."""
    return repr(context.context)


@function_tool(failure_error_function=None)
async def breaks() -> str:
    """Fail."""
    raise ConnectionError("SECRET of the tool")


@function_tool(failure_error_function=None)
async def exits() -> str:
    """End the process."""
    raise SystemExit("SECRET of the tool")


@function_tool(failure_error_function=None)
async def closes() -> str:
    """Fail with what closes generators, and ends a task whose coroutine does not catch it."""
    raise GeneratorExit("SECRET of the tool")


@function_tool(failure_error_function=None)
def interrupts() -> str:
    """End the process from a thread."""
    raise KeyboardInterrupt("SECRET of the tool")


@function_tool
async def leaves() -> str:
    """Leave a task behind that fails."""

    async def fail() -> None:
        raise ConnectionError(client.api_key)  # The line of the code may be logged, but not the text.

    asyncio.get_running_loop().create_task(fail())
    await asyncio.sleep(0.01)
    gc.collect()
    return "left"


@input_guardrail
async def refuse(*_: object) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput("SECRET of the guardrail", tripwire_triggered=True)


client = AsyncOpenAI(base_url=os.environ["MODEL_URL"], api_key="SECRET", max_retries=0)
agent = Agent(
    name="Assistant",
    instructions="Be brief.",
    model=API("scripted", client),
    tools=[clock, whoami, breaks, exits, closes, interrupts, leaves],
)
strict = agent.clone(input_guardrails=[refuse])
hasty = agent.clone(tool_use_behavior="stop_on_first_tool")
