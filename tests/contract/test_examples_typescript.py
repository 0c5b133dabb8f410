"""The examples for front ends: they are type-checked against the contract, and run in Node against the service."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.node import install_packages
from tests.support.service import SERVICE_TOKEN
from tests.support.types import SignIn

EXAMPLES = Path(__file__).parents[2] / "examples"

type RunScript = Callable[..., Any]

CONVERSATIONS = """
    import { Conversations } from "./dist/conversations.js";
    const { URL: url, TOKEN, CONVERSATION } = process.env;
    const conversations = new Conversations(url, () => TOKEN, [0, 0, 0]);
    const id = CONVERSATION ? Number(CONVERSATION) : null;
    const print = (value) => console.log(JSON.stringify(value));
"""

# A bad network: the service does its work, but the first two answers are a broken connection and a 503.
LOSE_ANSWERS = """
    const reach = globalThis.fetch;
    const losses = [() => { throw new TypeError("fetch failed"); }, () => new Response("{}", { status: 503 })];
    globalThis.fetch = async (request) => {
        const response = await reach(request);
        return losses.length ? losses.shift()() : response;
    };
"""

# The runtime is what `useExternalStoreRuntime` gives to a page, here rendered to a string.
ASSISTANT_UI = """
    import { createElement } from "react";
    import { renderToString } from "react-dom/server";
    import { ConversationStore, useConversationRuntime } from "./dist/assistant-ui/conversation.js";
    const render = (store) => {
        let runtime;
        renderToString(createElement(() => { runtime = useConversationRuntime(store); }));
        return runtime.thread;
    };
    const shown = (store) => render(store).getState().messages.map(({ role, content }) => [role, content[0].text]);
"""

AI_SDK = """
    import { openChat } from "./dist/ai-sdk/conversation.js";
    const shown = (chat) => chat.messages.map(({ role, parts }) => [role, parts[0].text]);
"""


@pytest.fixture(scope="module")
def node() -> str:
    """The path of `node`, with the examples type-checked and compiled for it."""
    node, npm = install_packages(EXAMPLES)
    built = subprocess.run([npm, "run", "build"], cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return node


@pytest.fixture
async def run_script(node: str, service_url: str, sign_in: SignIn) -> RunScript:
    """Run a module in Node as Ada's front end, and return the JSON that it prints."""
    token = (await sign_in("ada"))["Authorization"].removeprefix("Bearer ")

    def run(*script: str, conversation_id: object = "") -> Any:
        settings = {"URL": service_url, "TOKEN": token, "CONVERSATION": str(conversation_id)}
        ended = subprocess.run(
            [node, "--input-type=module", "--eval", CONVERSATIONS + "".join(script)],
            cwd=EXAMPLES,
            env={"PATH": os.environ["PATH"], **settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


@pytest.fixture
def ada(service_url: str) -> Iterator[httpx.Client]:
    """A trusted service that acts for the same user."""
    with httpx.Client(base_url=service_url, headers={"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "ada"}) as client:
        yield client


def store(ada: httpx.Client, *messages: dict[str, Any]) -> int:
    conversation_id: int = ada.post("/api/conversations", json={}).json()["id"]
    for n in range(0, len(messages), 100):
        stored = ada.post(f"/api/conversations/{conversation_id}/messages", json=messages[n : n + 100])
        assert stored.status_code == 201, stored.text
    return conversation_id


def stored(ada: httpx.Client) -> list[str]:
    """The texts in the user's one conversation."""
    [conversation] = ada.get("/api/conversations").json()
    messages = ada.get(f"/api/conversations/{conversation['id']}").json()["messages"]
    return [message["content"] for message in messages]


def test_a_long_history_is_read_through_every_page_without_what_people_do_not_read(
    run_script: RunScript, ada: httpx.Client
) -> None:
    said = [{"role": "user", "content": f"Message {n}"} for n in range(248)]
    call = {"role": "assistant", "content": "", "metadata": {"tool_calls": []}}
    conversation_id = store(ada, *said, call, {"role": "tool", "content": "09:30"})

    history = run_script("print(await conversations.history(id));", conversation_id=conversation_id)

    assert [message["text"] for message in history] == [message["content"] for message in said]


def test_a_refusal_is_an_error_with_the_services_words(run_script: RunScript) -> None:
    caught = run_script("print(await conversations.history(id).catch(String));", conversation_id=1)

    assert caught == "Error: Conversation not found."


def test_a_chat_of_the_ai_sdk_opens_a_conversation_and_goes_on_with_it(
    run_script: RunScript, ada: httpx.Client
) -> None:
    chat = """
        const chat = await openChat(conversations);
        await chat.sendMessage({ text: "Hello" });
        await chat.sendMessage({ text: "Are you there?" });
        print([chat.status, shown(chat)]);
    """

    assert run_script(AI_SDK, chat) == [
        "ready",
        [
            ["user", "Hello"],
            ["assistant", "Echo: Hello"],
            ["user", "Are you there?"],
            ["assistant", "Echo: Are you there?"],
        ],
    ]
    assert stored(ada) == ["Hello", "Echo: Hello", "Are you there?", "Echo: Are you there?"]


def test_a_chat_of_the_ai_sdk_begins_with_the_history(run_script: RunScript, ada: httpx.Client) -> None:
    conversation_id = store(ada, {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"})

    shown = run_script(AI_SDK, "print(shown(await openChat(conversations, id)));", conversation_id=conversation_id)

    assert shown == [["user", "Hello"], ["assistant", "Good day"]]


def test_a_chat_of_the_ai_sdk_sends_again_and_stores_once(run_script: RunScript, ada: httpx.Client) -> None:
    chat = """
        const chat = await openChat(conversations);
        await chat.sendMessage({ text: "Hello" });
        print(shown(chat));
    """

    assert run_script(AI_SDK, LOSE_ANSWERS, chat) == [["user", "Hello"], ["assistant", "Echo: Hello"]]
    assert stored(ada) == ["Hello", "Echo: Hello"]


def test_a_chat_of_the_ai_sdk_that_failed_is_repeated_by_regenerate_and_stores_once(
    run_script: RunScript, ada: httpx.Client
) -> None:
    chat = """
        const chat = await openChat(conversations);
        losses.push(losses[1], losses[1]);
        await chat.sendMessage({ text: "Hello" });
        const failed = chat.status;
        await chat.regenerate();
        print([failed, shown(chat)]);
    """

    assert run_script(AI_SDK, LOSE_ANSWERS, chat) == ["error", [["user", "Hello"], ["assistant", "Echo: Hello"]]]
    assert stored(ada) == ["Hello", "Echo: Hello"]


def test_regenerating_an_answer_of_the_ai_sdk_gives_the_stored_one_again(
    run_script: RunScript, ada: httpx.Client
) -> None:
    chat = """
        const chat = await openChat(conversations);
        await chat.sendMessage({ text: "Hello" });
        await chat.regenerate();
        print([chat.status, shown(chat)]);
    """

    assert run_script(AI_SDK, chat) == ["ready", [["user", "Hello"], ["assistant", "Echo: Hello"]]]
    assert stored(ada) == ["Hello", "Echo: Hello"]


def test_a_thread_of_assistant_ui_opens_a_conversation_and_goes_on_with_it(
    run_script: RunScript, ada: httpx.Client
) -> None:
    thread = """
        const store = new ConversationStore(conversations);
        for (const text of ["Hello", "Are you there?"]) {
            const settled = new Promise((resolve) => store.subscribe(() => store.getState().isRunning || resolve()));
            render(store).append({ role: "user", content: [{ type: "text", text }] });
            await settled;
        }
        print(shown(store));
    """

    assert run_script(ASSISTANT_UI, thread) == [
        ["user", "Hello"],
        ["assistant", "Echo: Hello"],
        ["user", "Are you there?"],
        ["assistant", "Echo: Are you there?"],
    ]
    assert stored(ada) == ["Hello", "Echo: Hello", "Are you there?", "Echo: Are you there?"]


def test_a_thread_of_assistant_ui_begins_with_the_history(run_script: RunScript, ada: httpx.Client) -> None:
    conversation_id = store(ada, {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"})
    thread = """
        const store = new ConversationStore(conversations, id);
        await store.load();
        print(shown(store));
    """

    shown = run_script(ASSISTANT_UI, thread, conversation_id=conversation_id)

    assert shown == [["user", "Hello"], ["assistant", "Good day"]]


def test_a_message_of_assistant_ui_that_failed_is_taken_back_sent_again_and_stored_once(
    run_script: RunScript, ada: httpx.Client
) -> None:
    thread = """
        const store = new ConversationStore(conversations);
        losses.push(losses[1], losses[1]);
        const failed = await store.send("Hello").catch(() => shown(store));
        await store.send("Hello");
        print([failed, shown(store)]);
    """

    shown = run_script(ASSISTANT_UI, LOSE_ANSWERS, thread)

    assert shown == [[], [["user", "Hello"], ["assistant", "Echo: Hello"]]]
    assert stored(ada) == ["Hello", "Echo: Hello"]
