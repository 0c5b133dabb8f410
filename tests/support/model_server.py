"""A model behind HTTP whose replies are scripted: OpenAI's Chat Completions and Responses, streamed or whole.

It runs in the event loop of the test, keeps what it was asked, and fails in the ways that providers do.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

End = Literal["completed", "length", "cut", "early", "incomplete", "failed"]


class Call(NamedTuple):
    """A call of a tool that the model asks for."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


@dataclass(frozen=True)
class Reply:
    """What the model answers, in pieces; `silence` is before the response, and `pause` before each piece of it."""

    pieces: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    silence: float = 0
    pause: float = 0
    status: int = 200
    refuses: bool = False
    """Whether the pieces are a refusal, over Chat Completions."""
    end: End = "completed"
    """`cut` breaks the connection off; `early` ends the response cleanly, but before the model has said so.

    `length` is how Chat Completions says that the reply had to end too soon.
    """
    raw: tuple[str, ...] = ()
    """The data of the events as they are sent, whatever the rest says."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def says(*pieces: str, **options: Any) -> Reply:
    return Reply(pieces, **options)


class Asked(NamedTuple):
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class ModelServer:
    """Gives the replies of `script` in their order, and `default` when there are no more."""

    def __init__(self) -> None:
        self.url = ""
        self.script: list[Reply] = []
        self.default = says("Hello", " from the model.")
        self.asked: list[Asked] = []
        self.answering = 0
        """The requests whose connection is open and whose response has not ended."""
        self._changed = asyncio.Event()
        self._clients: set[asyncio.StreamWriter] = set()

    def reset(self) -> None:
        """Forget the script, and what was asked."""
        self.script = []
        self.asked = []
        self.default = says("Hello", " from the model.")

    async def until_answering(self, count: int) -> None:
        """Wait until this number of requests are being answered."""
        async with asyncio.timeout(10):
            while self.answering != count:
                self._changed.clear()
                await self._changed.wait()

    def messages(self) -> list[Any]:
        """The conversation as the last request gave it, without the agent's instructions."""
        body = self.asked[-1].body
        given: list[Any] = body["messages" if "messages" in body else "input"]
        return [message for message in given if message.get("role") != "system"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._answer(reader, writer):
                pass
        writer.close()
        self._clients.discard(writer)

    def close_clients(self) -> None:
        """As the server of Python 3.13 does."""
        for writer in self._clients:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        asked = await _read(reader)
        self.asked.append(asked)
        reply = self.script.pop(0) if self.script else self.default
        self._count(+1)
        sending = asyncio.create_task(self._send(asked, reply, writer))
        gone = asyncio.create_task(reader.read(1))  # Nothing more comes before the response has ended.
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            return sending.done() and sending.result()
        finally:
            self._count(-1)
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)

    def _count(self, change: int) -> None:
        self.answering += change
        self._changed.set()

    async def _send(self, asked: Asked, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(reply.silence)
        if reply.status != 200:
            await _send_whole(writer, reply.status, {"error": {"message": "SECRET of the provider", "type": "error"}})
            return True
        events = _chat_events if asked.path.endswith("/chat/completions") else _responses_events
        if not asked.body.get("stream"):
            *_, last = (event for event, _ in events(reply, streamed=False))
            await _send_whole(writer, 200, last)
            return True
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for data in reply.raw:
            await _send_event(writer, data, None)
        for event, is_piece in events(reply, streamed=True) if not reply.raw else ():
            await asyncio.sleep(reply.pause if is_piece else 0)
            await _send_event(writer, json.dumps(event), event.get("type"))
        if reply.end == "cut":
            writer.transport.abort()
            return False
        if reply.end in {"completed", "length"} and not reply.raw and events is _chat_events:
            await _send_event(writer, "[DONE]", None)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def _read(reader: asyncio.StreamReader) -> Asked:
    request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Asked(request.split()[1], headers, json.loads(body))


async def _send_whole(writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()


async def _send_event(writer: asyncio.StreamWriter, data: str, name: str | None) -> None:
    event = (f"event: {name}\n" if name else "") + f"data: {data}\n\n"
    writer.write(f"{len(event.encode()):x}\r\n{event}\r\n".encode())
    await writer.drain()


type Events = Iterator[tuple[dict[str, Any], bool]]


def _chat_events(reply: Reply, *, streamed: bool) -> Events:
    """The chunks of a completion with whether each is a piece of the text, or the completion alone."""
    calls: list[dict[str, Any]] = [
        {"index": n, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for n, call in enumerate(reply.calls)
    ]
    finish = "tool_calls" if calls else "stop"
    said: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if not streamed:
        message = {**said, "tool_calls": calls} if calls else said
        yield _completion([{"index": 0, "message": message, "finish_reason": finish}], "chat.completion"), False
        return
    for piece in reply.pieces:
        yield _chunk({"role": "assistant", "refusal" if reply.refuses else "content": piece}), True
    for call in calls:
        yield _chunk({"tool_calls": [call]}), False
    if reply.end in {"completed", "length"}:
        yield _chunk({}, finish if reply.end == "completed" else reply.end), False


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return _completion([{"index": 0, "delta": delta, "finish_reason": finish}], "chat.completion.chunk")


def _completion(choices: list[Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl_1", "object": kind, "created": 0, "model": "scripted", "choices": choices}


def _responses_events(reply: Reply, *, streamed: bool) -> Events:
    """The events of a response with whether each is a piece of the text, or the response alone."""
    items: list[dict[str, Any]] = [_message(reply.text)] if reply.text else []
    items += [
        {"type": "function_call", "id": f"fc_{call.id}", "call_id": call.id, "name": call.name, "status": "completed"}
        | {"arguments": call.arguments}
        for call in reply.calls
    ]
    if streamed:
        yield {"type": "response.created", "response": _response("in_progress", [])}, False
        for index, item in enumerate(items):
            yield from _item_events(item, index, reply)
    if streamed and reply.end in {"cut", "early"}:
        return
    response = _response(reply.end, items)
    yield ({"type": f"response.{reply.end}", "response": response} if streamed else response), False


def _item_events(item: dict[str, Any], index: int, reply: Reply) -> Events:
    place = {"item_id": item["id"], "output_index": index}
    added = {**item, "status": "in_progress"} | ({"content": []} if "content" in item else {})
    yield {"type": "response.output_item.added", "output_index": index, "item": added}, False
    if item["type"] == "message":
        for piece in reply.pieces:
            yield {"type": "response.output_text.delta", **place, "content_index": 0, "delta": piece}, True
    if reply.end not in {"cut", "early"}:
        yield {"type": "response.output_item.done", "output_index": index, "item": item}, False


def _message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def _response(status: str, output: list[Any]) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "model": "scripted",
        "status": status,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": {"code": "server_error", "message": "SECRET of the provider"} if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
    }


@asynccontextmanager
async def run_model_server() -> AsyncIterator[ModelServer]:
    model = ModelServer()
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    model.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield model
    finally:
        server.close()
        model.close_clients()
        await server.wait_closed()
