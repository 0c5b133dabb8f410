"""Reading the body of a request, with bounds on its size and on its time; as JSON it must be in UTF-8."""

import asyncio
import json
from typing import Any, ClassVar

from fastapi import Request

from ai_agent.errors import BodyTooLarge, BodyTooSlow, ClientGone, ServerBusy

MAX_BODY_BYTES = 1024 * 1024

# A body has five seconds to arrive, and one second more for every 16 KiB that have arrived.
BODY_SECONDS = 5.0
BODY_BYTES_PER_SECOND = 16 * 1024

# A token is looked up only after the body has arrived, so anybody can send bodies with an invented one. Bodies that
# grow beyond the size of ordinary messages therefore share a bound; smaller ones do not count.
SMALL_BODY_BYTES = 64 * 1024
MAX_BYTES_ARRIVING = 32 * 1024 * 1024


class BoundedRequest(Request):
    """A request that refuses a body larger than MAX_BODY_BYTES, declared or not, and one that arrives too slowly.

    It keeps the time itself, because uvicorn waits for a body as long as the client likes, even when it is stopping.
    """

    _arriving: ClassVar[int] = 0
    """The bytes that have arrived of all bodies that are beyond SMALL_BODY_BYTES and not complete yet."""

    async def body(self) -> bytes:
        """The whole body; raises BodyTooLarge, BodyTooSlow, ServerBusy, or ClientGone if the client leaves first."""
        if not hasattr(self, "_body"):
            declared = self.headers.get("content-length", "")
            if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
                raise BodyTooLarge
            self._body: bytes = await self._read()
        return self._body

    async def _read(self) -> bytes:
        started_at = asyncio.get_running_loop().time()
        body = bytearray()
        counted = 0
        try:
            while True:
                chunk, more = await self._read_chunk(started_at + BODY_SECONDS + len(body) / BODY_BYTES_PER_SECOND)
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise BodyTooLarge
                if not more:
                    return bytes(body)
                if len(body) > SMALL_BODY_BYTES:
                    BoundedRequest._arriving += len(body) - counted
                    counted = len(body)
                    if BoundedRequest._arriving > MAX_BYTES_ARRIVING:
                        raise ServerBusy
        finally:
            BoundedRequest._arriving -= counted

    async def _read_chunk(self, deadline: float) -> tuple[bytes, bool]:
        """The next part of the body, and whether more will follow."""
        try:
            async with asyncio.timeout_at(deadline):
                message = await self.receive()
        except TimeoutError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message.get("body", b""), message.get("more_body", False)

    async def json(self) -> Any:
        """The parsed body, which RFC 8259 wants in UTF-8, although json.loads takes UTF-16 and UTF-32 too."""
        return json.loads((await self.body()).decode("utf-8-sig"))
