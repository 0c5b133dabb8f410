"""The stock clients of the stream, the AI SDK's and assistant-ui's, read it as the example's lock file has them."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from tests.support.assistant import finished, shown, with_agent
from tests.support.database import USER_SESSIONS
from tests.support.model_server import Call, run_model_server, says
from tests.support.node import install_packages
from tests.support.service import run_service
from tests.support.types import NewDatabase
from tests.support.web import WEB

SIGN_IN = """
    INSERT INTO user_sessions (id, token, "userId", "expiresAt", "updatedAt")
    VALUES ('1', 'ada', 'ada', now() + interval '1 hour', now())
"""
CLOCK = Call("clock", '{"city": "Karachi"}')
NINE = says("Half past ", "nine.")
SCRIPT = {
    "sent": [says("Let me look.", calls=(CLOCK,)), NINE],
    "sent again": [says("Bye.")],
    "stopped": [says("Half past ", "nine.", pause=1)],
    "refused": [says(status=500), NINE],
    "failed": [says("Half past ", end="cut"), NINE],
    "read by assistant-stream": [says(calls=(CLOCK,)), NINE],
    "failed in assistant-stream": [says("Half past ", end="cut")],
}
UNAVAILABLE = "The assistant is not available at the moment, and nothing was stored; try again shortly."


@pytest.fixture(scope="module")
async def seen(migrated_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """What the clients saw in each step, and how often the model was asked in all of them."""
    node, _ = install_packages(WEB)
    folder = tmp_path_factory.mktemp("services")
    settings = {"DATABASE_URL": await migrated_database(USER_SESSIONS, SIGN_IN)}
    async with run_model_server() as model:
        model.script = [reply for replies in SCRIPT.values() for reply in replies]
        with (
            run_service(folder, **settings) as echo,
            run_service(folder, **settings, **with_agent(model)) as agent,
        ):
            urls = {"ECHO_URL": echo.url, "AGENT_URL": agent.url}
            yield await run_clients(node, AUTHORIZATION="Bearer ada", **urls) | {"asked": len(model.asked)}


async def run_clients(node: str, **environment: str) -> Any:
    script = Path(__file__).with_name("javascript_clients.mjs").read_bytes()
    process = await asyncio.create_subprocess_exec(
        *(node, "--input-type=module", "-"),
        cwd=WEB,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=PIPE,
        stdout=PIPE,
    )
    output, _ = await process.communicate(script)
    assert process.returncode == 0
    return json.loads(output)


def asked(text: str = "What time is it?") -> Any:
    return {"role": "user", "parts": [{"type": "text", "text": text}]}


def text(content: str, state: str = "done") -> Any:
    return {"type": "text", "text": content, "state": state}


def replied(*parts: Any, conversation_id: Any = ANY, replayed: bool = False) -> Any:
    metadata = {"conversation_id": conversation_id, "replayed": replayed}
    return {"role": "assistant", "parts": list(parts), "metadata": metadata}


def ready(*messages: Any) -> Any:
    """A chat after a reply that came to its end."""
    end = {"isAbort": False, "isDisconnect": False, "isError": False, "finishReason": "stop"}
    return {"status": "ready", "messages": list(messages), "end": end}


def failed(error: str, *messages: Any) -> Any:
    end = {"isAbort": False, "isDisconnect": False, "isError": True}
    return {"status": "error", "error": error, "messages": list(messages), "end": end}


def test_a_chat_shows_texts_and_tool_calls_and_goes_on_in_the_same_conversation(seen: Any) -> None:
    call = {
        "type": "dynamic-tool",
        "toolName": "clock",
        "toolCallId": "call_1",
        "state": "output-available",
        "input": {"city": "Karachi"},
        "output": "09:30 in Karachi",
    }
    first = replied(text("Let me look."), call, text("Half past nine."))
    conversation_id = seen["sent"]["messages"][1]["metadata"]["conversation_id"]
    replay = replied(text("Half past nine."), conversation_id=conversation_id, replayed=True)
    second = replied(text("Bye."), conversation_id=conversation_id)

    assert seen["sent"] == ready(asked(), first)
    assert seen["regenerated"] == ready(asked(), replay)
    assert seen["sent again"] == ready(asked(), replay, asked("Thanks"), second)


def test_a_stop_leaves_the_part_that_was_shown_and_the_turn_is_stored_whole(seen: Any) -> None:
    part = {"role": "assistant", "parts": [text("Half past ", "streaming")]}
    end = {"isAbort": True, "isDisconnect": False, "isError": False}

    assert seen["stopped"] == {"status": "ready", "messages": [asked(), part], "end": end}
    assert seen["stopped, then regenerated"] == ready(asked(), replied(text("Half past nine."), replayed=True))


def test_a_failure_is_the_chats_error_and_the_message_can_be_sent_again(seen: Any) -> None:
    part = {"role": "assistant", "parts": [text("Half past ", "streaming")]}
    whole = ready(asked(), replied(text("Half past nine.")))

    assert seen["refused"] == failed(json.dumps({"detail": UNAVAILABLE}, separators=(",", ":")), asked())
    assert seen["refused, then regenerated"] == whole
    assert seen["failed"] == failed(UNAVAILABLE, asked(), part)
    assert seen["failed, then regenerated"] == whole


def test_the_model_is_asked_once_for_each_message_and_its_calls(seen: Any) -> None:
    assert seen["asked"] == sum(map(len, SCRIPT.values()))


def test_assistant_stream_reads_texts_tool_calls_and_errors(seen: Any) -> None:
    call = {"type": "tool-call", "toolName": "clock", "args": {"city": "Karachi"}, "result": "09:30 in Karachi"}
    error = {"code": "unknown", "message": UNAVAILABLE}

    assert seen["read by assistant-stream"] == {
        "status": {"type": "complete", "reason": "stop"},
        "parts": [call, {"type": "text", "text": "Half past nine."}],
    }
    assert seen["failed in assistant-stream"] == {
        "status": {"type": "incomplete", "reason": "error", "error": error},
        "parts": [{"type": "text", "text": "Half past "}],
    }


def test_the_echo_is_a_stream_whose_every_part_is_in_the_ai_sdks_schema(seen: Any) -> None:
    echo = "Echo: What time is it?"
    parts = [{"type": "start"}, *shown(echo), finished(ANY)]

    assert seen["read by readUIMessageStream"] == {"id": "", **replied(text(echo))}
    assert seen["parsed by parseJsonEventStream"] == [
        {"success": True, "value": part, "rawValue": part} for part in parts
    ]
