"""The example for the OpenAI Agents SDK: its Runner, with a scripted model, remembers through the real service."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from agents import (
    Agent,
    Model,
    ModelResponse,
    RunConfig,
    Runner,
    Session,
    SessionSettings,
    TResponseInputItem,
    Usage,
    function_tool,
)
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
)

from examples.agents_session import ConversationSession, connect
from tests.support.service import SERVICE_TOKEN

CALL = ResponseFunctionToolCall(type="function_call", call_id="call_1", name="clock", arguments='{"city": "Karachi"}')
STORED_CALL = {"type": "function_call", "call_id": "call_1", "name": "clock", "arguments": '{"city": "Karachi"}'}
STORED_OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "09:30 in Karachi"}

ITEMS: dict[str, Any] = {
    "a user's text": {"role": "user", "content": "Hello"},
    "an empty text": {"role": "user", "content": ""},
    "instructions": {"role": "system", "content": "Be brief."},
    "an image": {"role": "user", "content": [{"type": "input_image", "image_url": "data:,", "detail": "auto"}]},
    "reasoning": {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Think."}]},
    "an output in parts": {**STORED_OUTPUT, "output": [{"type": "input_text", "text": "09:30"}]},
    "an output of a shell": {
        "type": "shell_call_output",
        "call_id": "call_1",
        "output": [{"stdout": "", "stderr": ""}],
    },
    "a screenshot": {"type": "computer_call_output", "call_id": "call_1", "output": {"type": "computer_screenshot"}},
}


def said(text: str) -> ResponseOutputMessage:
    part = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(id="msg_1", type="message", role="assistant", status="completed", content=[part])


class ScriptedModel(Model):
    """Replies with the next item of its script, and keeps its input."""

    def __init__(self, *script: ResponseOutputItem) -> None:
        self.script = list(script)
        self.asked: list[Any] = []

    async def get_response(self, system_instructions: str | None, input: Any, *_: Any, **__: Any) -> ModelResponse:  # noqa: A002  # The SDK's name.
        self.asked.append(input)
        return ModelResponse(output=[self.script.pop(0)], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


@function_tool
def clock(city: str) -> str:
    """Tell the time."""
    return f"09:30 in {city}"


@pytest.fixture
async def client(service_url: str, database: asyncpg.Connection) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(service_url, SERVICE_TOKEN, "ada") as client:
        yield client


@pytest.fixture
def session(client: httpx.AsyncClient) -> ConversationSession:
    return ConversationSession(client)


async def run(message: str, session: Session, model: Model) -> str:
    agent = Agent(name="Assistant", model=model, tools=[clock])
    result = await Runner.run(agent, message, session=session, run_config=RunConfig(tracing_disabled=True))
    return str(result.final_output)


async def read(session: ConversationSession) -> list[tuple[str, str, Any]]:
    """The messages as the user's front end reads them."""
    conversation = await session.client.get(f"/api/conversations/{session.session_id}")
    messages = conversation.json()["messages"]
    return [(message["role"], message["content"], message["metadata"]) for message in messages]


def numbered(count: int) -> list[TResponseInputItem]:
    return [{"role": "user", "content": f"Message {n}"} for n in range(count)]


async def test_a_turn_with_a_tool_call_is_read_back_with_its_roles_and_metadata(session: ConversationSession) -> None:
    answer = await run("What time is it?", session, ScriptedModel(CALL, said("It is half past nine.")))

    assert answer == "It is half past nine."
    assert await read(session) == [
        ("user", "What time is it?", None),
        ("assistant", "", STORED_CALL),
        ("tool", "09:30 in Karachi", STORED_OUTPUT),
        ("assistant", "It is half past nine.", said("It is half past nine.").model_dump(exclude_unset=True)),
    ]


async def test_the_model_of_a_second_run_is_told_the_whole_first_one(session: ConversationSession) -> None:
    await run("What time is it?", session, ScriptedModel(CALL, said("It is half past nine.")))
    again = ConversationSession(session.client, session.session_id)
    model = ScriptedModel(said("You are welcome."))

    await run("Thank you!", again, model)

    assert model.asked == [
        [
            {"role": "user", "content": "What time is it?"},
            STORED_CALL,
            STORED_OUTPUT,
            said("It is half past nine.").model_dump(exclude_unset=True),
            {"role": "user", "content": "Thank you!"},
        ]
    ]


async def test_what_a_user_sent_to_the_chat_is_an_item(session: ConversationSession) -> None:
    sent = await session.client.post("/api/chat", json={"message": "Hello"})
    session.session_id = str(sent.json()["conversation_id"])

    assert await session.get_items() == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Echo: Hello"},
    ]


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS.keys())
async def test_an_item_comes_back_as_it_was_added(item: TResponseInputItem, session: ConversationSession) -> None:
    await session.add_items([item])

    assert await session.get_items() == [item]


FOREIGN: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "the name of a model": (
        {"role": "assistant", "content": "It is half past nine.", "metadata": {"model": "gpt"}},
        [{"role": "assistant", "content": "It is half past nine."}],
    ),
    "a type that the SDK does not know": (
        {"role": "user", "content": "Hello", "metadata": {"type": "greeting", "id": "1"}},
        [{"role": "user", "content": "Hello"}],
    ),
    "half an item": (
        {"role": "assistant", "content": "Hi", "metadata": {"type": "function_call", "name": "clock"}},
        [{"role": "assistant", "content": "Hi"}],
    ),
    "Chat Completions' call": (
        {"role": "assistant", "content": "", "metadata": {"tool_calls": [{"id": "call_1"}]}},
        [],
    ),
    "Chat Completions' output": ({"role": "tool", "content": "09:30", "metadata": {"tool_call_id": "call_1"}}, []),
}


@pytest.mark.parametrize(("message", "items"), FOREIGN.values(), ids=FOREIGN.keys())
async def test_metadata_of_another_client_does_not_stand_for_the_text(
    message: dict[str, Any], items: list[Any], session: ConversationSession
) -> None:
    await session.add_items(numbered(1))
    stored = await session.client.post(f"/api/conversations/{session.session_id}/messages", json=[message])

    assert stored.status_code == 201
    assert await session.get_items() == [*numbered(1), *items]


async def test_a_refusal_is_read_as_a_text(session: ConversationSession) -> None:
    refusal: Any = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "refusal", "refusal": "I may not say that."}],
    }

    await session.add_items([refusal])

    assert await read(session) == [("assistant", "I may not say that.", refusal)]
    assert await session.get_items() == [refusal]


class LinksElsewhere(httpx.AsyncHTTPTransport):
    """A proxy in front of the service that names another host in its links."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.hosts.add(request.url.host)
        response = await super().handle_async_request(request)
        if "link" in response.headers:
            link = response.headers["link"].replace("http://127.0.0.1", "http://elsewhere.test")
            response.headers["link"] = link
        return response


async def test_the_services_token_is_sent_to_no_other_host(session: ConversationSession, service_url: str) -> None:
    await session.add_items(numbered(1050))
    transport = LinksElsewhere()
    headers = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "ada"}

    async with httpx.AsyncClient(transport=transport, base_url=service_url, headers=headers) as client:
        items = await ConversationSession(client, session.session_id).get_items()

    assert items == numbered(1050)
    assert transport.hosts == {"127.0.0.1"}


async def test_a_long_session_is_stored_in_order_and_its_newest_items_are_read(session: ConversationSession) -> None:
    items = numbered(1050)
    await session.add_items(items)

    for limit in (0, 1, 1000, 1001, 1100):
        assert await session.get_items(limit) == items[max(0, 1050 - limit) :]
    assert await session.get_items() == items


async def test_the_limit_of_the_sessions_settings_counts_where_none_is_given(session: ConversationSession) -> None:
    session.session_settings = SessionSettings(limit=2)
    await session.add_items(numbered(3))

    assert await session.get_items() == numbered(3)[1:]
    assert await session.get_items(1) == numbered(3)[2:]


async def test_a_cleared_session_is_deleted_and_the_next_item_opens_another(session: ConversationSession) -> None:
    await session.add_items(numbered(1))
    first = session.session_id

    await session.clear_session()
    await session.clear_session()
    emptied = await session.get_items()
    await session.add_items(numbered(2))

    assert (emptied, await session.get_items()) == ([], numbered(2))
    assert session.session_id != first
    assert [row["id"] for row in (await session.client.get("/api/conversations")).json()] == [int(session.session_id)]


class LosesAnswers(httpx.AsyncHTTPTransport):
    """A bad network: the service does its work, but the first two answers are a broken connection and a 503."""

    answered = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self.answered += 1
        if self.answered > 2:
            return response
        await response.aclose()
        if self.answered == 1:
            raise httpx.ReadError("connection reset")
        return httpx.Response(503, headers={"Retry-After": "2"})


@pytest.fixture
def bad_network(monkeypatch: pytest.MonkeyPatch, service_url: str) -> httpx.AsyncClient:
    monkeypatch.setattr("examples.agents_session.RETRY_DELAYS", (0, 0, 0))
    headers = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "ada"}
    return httpx.AsyncClient(transport=LosesAnswers(), base_url=service_url, headers=headers)


async def test_items_are_sent_again_until_they_are_known_to_be_stored_and_stored_once(
    session: ConversationSession, bad_network: httpx.AsyncClient
) -> None:
    await session.add_items(numbered(1))

    async with bad_network:
        await ConversationSession(bad_network, session.session_id).add_items(numbered(3)[1:])

    assert await session.get_items() == numbered(3)


async def test_a_conversation_whose_opening_was_not_answered_is_opened_once_and_goes_on(
    session: ConversationSession, bad_network: httpx.AsyncClient
) -> None:
    async with bad_network:
        await ConversationSession(bad_network).add_items(numbered(1))

    [opened] = (await session.client.get("/api/conversations")).json()
    session.session_id = str(opened["id"])
    assert await session.get_items() == numbered(1)


async def test_the_largest_items_are_stored_in_as_many_requests_as_they_need(session: ConversationSession) -> None:
    items: list[TResponseInputItem] = [
        {"type": "function_call_output", "call_id": str(n), "output": "\n" * 32_000} for n in range(20)
    ]
    items += [{"role": "user", "content": "語" * 100_000} for _ in range(7)]

    await session.add_items(items)

    assert await session.get_items() == items


async def test_a_session_whose_deletion_was_not_answered_is_cleared(
    session: ConversationSession, bad_network: httpx.AsyncClient
) -> None:
    await session.add_items(numbered(1))

    async with bad_network:
        await ConversationSession(bad_network, session.session_id).clear_session()

    assert (await session.client.get("/api/conversations")).json() == []


async def test_a_service_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.agents_session.RETRY_DELAYS", (0, 0, 0))

    async with connect("http://127.0.0.1:1", SERVICE_TOKEN, "ada") as client:
        with pytest.raises(httpx.ConnectError):
            await ConversationSession(client).add_items(numbered(1))


async def test_a_conversation_of_another_user_is_an_error(session: ConversationSession, service_url: str) -> None:
    await session.add_items(numbered(1))

    async with connect(service_url, SERVICE_TOKEN, "bob") as client:
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            await ConversationSession(client, session.session_id).get_items()


async def test_single_items_cannot_be_taken_back(session: ConversationSession) -> None:
    await session.add_items(numbered(1))

    with pytest.raises(NotImplementedError, match="not single messages"):
        await session.pop_item()
