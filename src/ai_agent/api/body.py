"""The body of a request: how large it may be, how slowly it may arrive, and that it is JSON in UTF-8."""

import asyncio
import json
from typing import Any

from fastapi import Request

from ai_agent.errors import BodyTooLarge, BodyTooSlow, ClientGone

MAX_BODY_BYTES = 1024 * 1024

# A request body has five seconds, and another for every 16 KiB of it that have arrived.
BODY_SECONDS = 5.0
BODY_BYTES_PER_SECOND = 16 * 1024


class BoundedRequest(Request):
    """A request that reads no body beyond MAX_BODY_BYTES, declared or not, and none that arrives too slowly.

    A server such as uvicorn waits for a body as long as its client likes, even after it was told to stop.
    """

    async def body(self) -> bytes:
        """The whole body; raises BodyTooLarge, BodyTooSlow, or ClientGone when the client leaves before its end."""
        if not hasattr(self, "_body"):
            self._body: bytes = await self._read()
        return self._body

    async def _read(self) -> bytes:
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
            raise BodyTooLarge
        started_at = asyncio.get_running_loop().time()
        body = b""
        while True:
            try:
                async with asyncio.timeout_at(started_at + BODY_SECONDS + len(body) / BODY_BYTES_PER_SECOND):
                    message = await self.receive()
            except TimeoutError:
                raise BodyTooSlow from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise BodyTooLarge
            if not message.get("more_body", False):
                return body

    async def json(self) -> Any:
        """The body, which RFC 8259 wants in UTF-8; of bytes, json.loads would take UTF-16 and UTF-32 as well."""
        return json.loads((await self.body()).decode("utf-8-sig"))
