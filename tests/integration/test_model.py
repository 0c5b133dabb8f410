"""Random requests by several users; a model of a few lines predicts every response."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.shapes import a_conversation
from tests.support.types import SignIn

type JSON = dict[str, Any]
type Clients = dict[str, httpx.Client]

USERS = ("ada", "bob", "eve")
NOT_FOUND = (404, {"detail": "Conversation not found."})
KEY_REUSED = (
    422,
    {"detail": "This Idempotency-Key was sent before with another request: use a new key for each new request."},
)

users = st.sampled_from(USERS)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20).filter(
    str.strip
)
limits = st.sampled_from([1, 2, 3, 1000])
keys = st.sampled_from(["first", "second"])


@dataclass
class Conversation:
    """A conversation and its messages, each as the API has to show it."""

    shown: JSON
    messages: list[JSON]


class Stored(NamedTuple):
    """A request that was stored under a key, and its response."""

    body: JSON
    id: int
    answer: tuple[int, JSON]


class Model(RuleBasedStateMachine):
    """Each user's conversations, in a dict with the most recently used one last."""

    ids = Bundle("ids")

    def __init__(self, clients: Clients) -> None:
        super().__init__()
        self.clients = clients
        self.conversations: dict[str, dict[int, Conversation]] = {user: {} for user in USERS}
        self.stored: dict[tuple[str, str], Stored] = {}
        self.name = uuid4().hex  # Keys outlive what the sequence before has stored.
        for client in clients.values():
            for conversation in client.get("/api/conversations").json():
                client.delete(f"/api/conversations/{conversation['id']}")

    @rule(target=ids, user=users, message=texts)
    def start_conversation(self, user: str, message: str) -> int:
        response = self.clients[user].post("/api/chat", json={"message": message})

        id_: int = response.json()["conversation_id"]
        assert answer(response) == turn(id_, message)
        self._begin(user, id_)
        self._note_turn(user, id_, message)
        return id_

    @rule(user=users, id_=ids, message=texts)
    def send_message(self, user: str, id_: int, message: str) -> None:
        response = self.clients[user].post("/api/chat", json={"message": message, "conversation_id": id_})

        if id_ not in self.conversations[user]:
            assert answer(response) == NOT_FOUND
            return
        assert answer(response) == turn(id_, message)
        self._note_turn(user, id_, message)

    def _begin(self, user: str, id_: int) -> None:
        """Add a conversation without messages, with the title and the times that a new one has."""
        assert all(id_ > known for conversations in self.conversations.values() for known in conversations)
        shown = self.clients[user].get(f"/api/conversations/{id_}").json()
        title = f"Chat - {moment(shown['created_at']):%Y-%m-%d %H:%M}"
        at = shown["created_at"]
        expected = a_conversation(id=id_, title=title, created_at=at, updated_at=at)
        self.conversations[user][id_] = Conversation(expected, [])

    def _note_turn(self, user: str, id_: int, message: str) -> None:
        """Add two messages with the ids and times that the service gave them, after a check that these ascend."""
        conversation = self.conversations[user].pop(id_)
        self.conversations[user][id_] = conversation
        shown = self.clients[user].get(f"/api/conversations/{id_}", params={"limit": 2}).json()
        last_id = conversation.messages[-1]["id"] if conversation.messages else 0
        assert last_id < shown["messages"][0]["id"] < shown["messages"][1]["id"]
        at = shown["updated_at"]
        assert moment(at) > moment(conversation.shown["updated_at"]) or not conversation.messages
        conversation.shown["updated_at"] = at
        conversation.messages += [
            {"id": stored["id"], "role": role, "content": content, "metadata": None, "created_at": at}
            for stored, role, content in zip(
                shown["messages"], ("user", "assistant"), (message, f"Echo: {message}"), strict=True
            )
        ]

    @rule(target=ids, user=users, key=keys, id_=st.none() | ids, message=st.sampled_from(["yes", "no"]))
    def send_with_key(self, user: str, key: str, id_: int | None, message: str) -> int | MultipleResults[int]:
        body = {"message": message, "conversation_id": id_}

        response = self._send_with_key(user, key, body)

        if (known := self.stored.get((user, key))) is not None:
            expected = known.answer if known.body == body else KEY_REUSED
            assert (answer(response), replayed(response)) == (expected, expected[0] == 200)
            return multiple()
        if id_ is not None and id_ not in self.conversations[user]:
            assert (answer(response), replayed(response)) == (NOT_FOUND, False)
            return multiple()
        stored_in: int = response.json()["conversation_id"]
        assert (answer(response), replayed(response)) == (turn(id_ or stored_in, message), False)
        if id_ is None:
            self._begin(user, stored_in)
        self._note_turn(user, stored_in, message)
        self.stored[user, key] = Stored(body, stored_in, turn(stored_in, message))
        return stored_in if id_ is None else multiple()

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        (user, key), stored = data.draw(st.sampled_from(sorted(self.stored.items())))

        response = self._send_with_key(user, key, stored.body)

        assert (answer(response), replayed(response)) == (stored.answer, stored.answer[0] == 200)

    def _send_with_key(self, user: str, key: str, body: JSON) -> httpx.Response:
        return self.clients[user].post("/api/chat", json=body, headers={"Idempotency-Key": f"{key}-{self.name}"})

    @rule(user=users, limit=limits)
    def list_conversations(self, user: str, limit: int) -> None:
        pages = list(read_pages(self.clients[user], "/api/conversations", limit))

        assert all(len(page) == limit for page in pages[:-1])
        expected = [conversation.shown for conversation in reversed(self.conversations[user].values())]
        assert [conversation for page in pages for conversation in page] == expected

    @rule(user=users, id_=ids, limit=limits)
    def read_conversation(self, user: str, id_: int, limit: int) -> None:
        path = f"/api/conversations/{id_}"
        if id_ not in self.conversations[user]:
            assert answer(self.clients[user].get(path)) == NOT_FOUND
            return

        pages = list(read_pages(self.clients[user], path, limit))

        conversation = self.conversations[user][id_]
        messages = [page.pop("messages") for page in reversed(pages)]
        assert pages == [conversation.shown] * len(pages)
        assert all(len(page) == limit for page in messages[1:])
        assert [message for page in messages for message in page] == conversation.messages

    @rule(user=users, id_=ids, title=texts)
    def rename_conversation(self, user: str, id_: int, title: str) -> None:
        response = self.clients[user].patch(f"/api/conversations/{id_}", json={"title": title})

        if id_ not in self.conversations[user]:
            assert answer(response) == NOT_FOUND
            return
        self.conversations[user][id_].shown["title"] = title
        assert answer(response) == (200, self.conversations[user][id_].shown)

    @rule(user=users, id_=ids)
    def delete_conversation(self, user: str, id_: int) -> None:
        response = self.clients[user].delete(f"/api/conversations/{id_}")

        if self.conversations[user].pop(id_, None) is None:
            assert answer(response) == NOT_FOUND
            return
        assert (response.status_code, response.content) == (204, b"")
        for key, stored in self.stored.items():
            if stored.id == id_:
                self.stored[key] = stored._replace(answer=NOT_FOUND)

    def teardown(self) -> None:
        """At the end of any sequence, everything is there."""
        for user, conversations in self.conversations.items():
            self.list_conversations(user, 1000)
            for id_ in conversations:
                self.read_conversation(user, id_, 1000)


def answer(response: httpx.Response) -> tuple[int, Any]:
    return response.status_code, response.json()


def turn(id_: int, message: str) -> tuple[int, JSON]:
    return 200, {"conversation_id": id_, "user_message": message, "assistant_message": f"Echo: {message}"}


def replayed(response: httpx.Response) -> bool:
    return bool(response.headers.get("Idempotency-Replayed") == "true")


def moment(time: str) -> datetime:
    return datetime.fromisoformat(time)


def read_pages(client: httpx.Client, path: str, limit: int) -> Iterator[Any]:
    """The bodies of all pages, from the first on."""
    response = client.get(path, params={"limit": limit})
    for _ in range(200):
        assert response.status_code == 200
        yield response.json()
        if "next" not in response.links:
            return
        response = client.get(response.links["next"]["url"])
    raise AssertionError("The pages have no end.")


@pytest.fixture
async def headers(sign_in: SignIn) -> dict[str, dict[str, str]]:
    return {user: await sign_in(user) for user in USERS}


@pytest.fixture
def clients(service_url: str, headers: dict[str, dict[str, str]]) -> Iterator[Clients]:
    with ExitStack() as stack:
        yield {user: stack.enter_context(httpx.Client(base_url=service_url, headers=headers[user])) for user in USERS}


def test_every_answer_is_what_the_model_expects(clients: Clients) -> None:
    run_state_machine_as_test(
        lambda: Model(clients),  # type: ignore[arg-type]  # It calls this as it would call the class.
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
