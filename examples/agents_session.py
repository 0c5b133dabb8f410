"""The OpenAI Agents SDK's memory kept by this service: its `Session` protocol over the HTTP API, for a trusted service.

    async with connect("http://127.0.0.1:8000", service_token, user_id="ada") as client:
        await Runner.run(agent, "What time is it?", session=ConversationSession(client))

Each item of the SDK is a message: `role` and `content` are what people read, `metadata` is the item as it was, of 64 kB
at most. A user's or assistant's plain text has none, so what was said by `POST /api/chat` is remembered too, and so is
the text of a message whose metadata another client has made for itself.
"""

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import batched
from typing import Any, Required, cast, get_args, get_origin, get_type_hints
from uuid import uuid4

import httpx
from agents import SessionSettings, TResponseInputItem

RETRY_DELAYS = (0.5, 2, 4)  # In seconds; a 503 of the service asks for 2.

# What an item of each type has at least. The SDK's classes do not know it, as their hints are text.
FIELDS: dict[str, set[str]] = {
    kind: {name for name, hint in get_type_hints(item, include_extras=True).items() if get_origin(hint) is Required}
    for item in get_args(TResponseInputItem)
    for kind in get_args(get_type_hints(item)["type"])
} | {"message": {"role", "content"}}


def connect(url: str, service_token: str, user_id: str) -> httpx.AsyncClient:
    """A client that acts for one user; `service_token` is the service's SERVICE_AUTH_TOKEN."""
    return httpx.AsyncClient(base_url=url, headers={"X-Service-Auth": service_token, "X-User-ID": user_id}, timeout=10)


@dataclass
class ConversationSession:
    """A conversation of the client's user; without an id the first item opens one. Failures are httpx's own errors."""

    client: httpx.AsyncClient
    session_id: str = ""
    session_settings: SessionSettings | None = None

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The newest `limit` items, or all, in the order of the conversation."""
        if limit is None and self.session_settings:
            limit = self.session_settings.limit
        wanted = sys.maxsize if limit is None else limit
        messages: list[dict[str, Any]] = []
        query = f"limit={min(wanted, 1000)}" if self.session_id else ""
        while query and len(messages) < wanted:
            page = (await self._send("GET", f"/api/conversations/{self.session_id}?{query}")).raise_for_status()
            messages = page.json()["messages"] + messages
            # Of the link only the query is used: its host may be another one, which must not get the service's token.
            query = httpx.URL(page.links.get("next", {}).get("url", "")).query.decode()
        items = [item for said in messages[-wanted:] if (item := _item(said))]
        return cast(list[TResponseInputItem], items)

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Store the items in their order; what fits into a request, up to 100, is stored whole or not at all, once."""
        if items and not self.session_id:
            opened = (await self._send("POST", "/api/conversations", {})).raise_for_status()
            self.session_id = str(opened.json()["id"])
        for chunk in batched(items, 100):
            stored = await self._send("POST", f"/api/conversations/{self.session_id}/messages", [*map(_message, chunk)])
            if stored.status_code == 413 and len(chunk) > 1:  # The body of a request may have 1 MiB.
                for half in batched(chunk, (len(chunk) + 1) // 2):
                    await self.add_items(list(half))
            else:
                stored.raise_for_status()

    async def pop_item(self) -> TResponseInputItem | None:
        """Not possible; the SDK, which takes items back before some retries, logs this and goes on."""
        raise NotImplementedError("The service deletes conversations, not single messages.")

    async def clear_session(self) -> None:
        """Delete the conversation; the next item opens another."""
        if self.session_id:
            deleted = await self._send("DELETE", f"/api/conversations/{self.session_id}")
            if deleted.status_code != 404:  # Which it is when the answer to the first request was lost.
                deleted.raise_for_status()
            self.session_id = ""

    async def _send(self, method: str, url: str, body: object = None) -> httpx.Response:
        """Send, and again with the same key if the answer is lost or a 503, so that no item is stored twice."""
        request = self.client.build_request(method, url, json=body, headers={"Idempotency-Key": str(uuid4())})
        for delay in RETRY_DELAYS:
            with suppress(httpx.TransportError):
                response = await self.client.send(request)
                if response.status_code != 503:
                    return response
            await asyncio.sleep(delay)
        return await self.client.send(request)


def _item(said: dict[str, Any]) -> dict[str, Any] | None:
    """What the model is given for a message: the item that it was made of, else its text; a tool's text is no item."""
    kept: dict[str, Any] = said["metadata"] or {}
    kind = kept.get("type", "message")
    if isinstance(kind, str) and kind in FIELDS and kept.keys() >= FIELDS[kind]:
        return kept
    is_call = said["role"] == "tool" or not (said["content"] or said["role"] == "user")
    return None if is_call else {"role": said["role"], "content": said["content"]}


def _message(item: TResponseInputItem) -> dict[str, Any]:
    fields = cast(dict[str, Any], item)
    is_output = fields.get("type", "").endswith("_output")
    role = "tool" if is_output else "user" if fields.get("role") == "user" else "assistant"
    message = {"role": role, "content": _text(fields.get("output" if is_output else "content"))}
    return message if message == fields and message["content"] else {**message, "metadata": fields}


def _text(said: object) -> str:
    """What an item says to people, a refusal too: images, files and reasoning are in the metadata alone."""
    if not isinstance(said, list):
        return said if isinstance(said, str) else ""
    texts = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
    return "".join(part[texts[part["type"]]] for part in said if part.get("type") in texts)
