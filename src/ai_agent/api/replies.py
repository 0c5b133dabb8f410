"""The response to a message, as JSON or as a stream, for a reply that is stored or still being made."""

import asyncio

from fastapi import Response
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from ai_agent import logs
from ai_agent.api import streams
from ai_agent.errors import ApiError, OtherReplyStored
from ai_agent.services.assistant.run import Run
from ai_agent.services.chat import Reply

# The head of a stream waits this many seconds for the first part, so that an early failure gets a status of its own.
# After this many seconds of silence a stream shows that it is alive.
HEAD_SECONDS = 10.0
SILENCE_SECONDS = 10.0


def respond(reply: Reply, message: str, *, streamed: bool) -> Response:
    """The response for a stored reply."""
    logs.note_conversation(reply.conversation_id)
    headers = {"Idempotency-Replayed": "true"} if reply.replayed else {}
    if streamed:
        return Response(streams.encode_whole(reply), headers=streams.HEADERS | headers)
    body = {
        "conversation_id": reply.conversation_id,
        "user_message": message,
        "assistant_message": reply.text,
    }
    return Response(to_json(body), media_type="application/json", headers=headers)


class RunResponse(Response):
    """The response for a run; the run goes on even if the client goes away.

    It waits for the run after the request has given its connection back. An error before the head is raised, so it gets
    a status of its own.
    """

    def __init__(self, run: Run, message: str, *, streamed: bool) -> None:
        super().__init__()
        self._run = run
        self._message = message
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._run.add_listener()
        try:
            if self._streamed:
                await self._run.wait_for_more(0, HEAD_SECONDS)
            is_shown = self._streamed and (self._run.parts or not self._run.is_over)
            reply = None if is_shown else await self._run.wait()
        except asyncio.CancelledError:  # The graceful period is over, and uvicorn would respond with a plain 500.
            raise self._run.stop() from None
        if reply is None:
            await self._stream(send)
        else:
            await respond(reply, self._message, streamed=self._streamed)(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        head = Response(headers=streams.HEADERS).raw_headers
        raw = [(name, value) for name, value in head if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await _send(send, streams.encode(streams.START))
        try:
            await self._send_parts(send)
            end = self._end()
        except asyncio.CancelledError:
            end = streams.fail(self._run.stop().detail)
        await _send(send, end, more=False)

    async def _send_parts(self, send: Send) -> None:
        run, sent = self._run, 0
        while sent < len(run.parts) or not run.is_over:
            parts = run.parts[sent:]
            if parts:
                sent += len(parts)
                await _send(send, streams.encode(*streams.show(parts)))
            elif not await run.wait_for_more(sent, SILENCE_SECONDS):
                await _send(send, streams.SILENCE)

    def _end(self) -> bytes:
        """`finish` if the reply is stored as shown; `error` if nothing or another reply is, or if nobody knows."""
        reply, error = self._run.reply, self._run.error
        if reply is None:
            return streams.fail(error.detail if isinstance(error, ApiError) else "Internal server error.")
        logs.note_conversation(reply.conversation_id)
        if self._run.is_shown_otherwise:
            return streams.fail(OtherReplyStored.detail)
        return streams.finish(reply)


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
