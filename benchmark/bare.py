"""The least that could do the service's work: Starlette, asyncpg and orjson, with the service's own statements.

It has no validation, errors, logging, CORS or deadlines: what the service spends beyond it is the price of those.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ai_agent.database.statements import Statement
from ai_agent.services.conversations import LIST, MAX_PAGE_BYTES, READ
from ai_agent.services.cursors import START
from ai_agent.services.turns import STORE_TURN

USER_OF_TOKEN = """
    SELECT "userId"::text FROM user_sessions WHERE token = $1 AND "expiresAt" > now()
"""


async def chat(request: Request) -> Response:
    body = orjson.loads(await request.body())
    question, reply = body["message"], f"Echo: {body['message']}"
    turn: dict[str, Any] = {
        "conversation_id": body.get("conversation_id"),
        "title": None,
        "messages": orjson.dumps(
            [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
        ).decode(),
        "key": None,
        "fingerprint": None,
    }
    async with signed_in(request) as (connection, turn["user_id"]):
        row = await connection.fetchrow(STORE_TURN.sql, *(turn[name] for name in STORE_TURN.parameters))
    return Response(
        orjson.dumps({"conversation_id": row["stored_in"], "user_message": question, "assistant_message": reply}),
        media_type="application/json",
    )


async def list_conversations(request: Request) -> Response:
    return await read(request, LIST, {"limit": int(request.query_params["limit"])})


async def get_conversation(request: Request) -> Response:
    id_, limit = int(request.path_params["id"]), int(request.query_params["limit"])
    return await read(request, READ, {"conversation_id": id_, "limit": limit, "max_bytes": MAX_PAGE_BYTES})


async def read(request: Request, statement: Statement[Any], values: dict[str, Any]) -> Response:
    values |= START._asdict()
    async with signed_in(request) as (connection, values["user_id"]):
        row = await connection.fetchrow(statement.sql, *(values[name] for name in statement.parameters))
    return Response(row["body"], media_type="application/json")


@asynccontextmanager
async def signed_in(request: Request) -> AsyncIterator[tuple[Any, str]]:
    token = request.headers["authorization"].removeprefix("Bearer ")
    async with request.app.state.pool.acquire() as connection:
        yield connection, await connection.fetchval(USER_OF_TOKEN, token)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=5, max_size=15) as app.state.pool:
        yield


app = Starlette(
    routes=[
        Route("/api/chat", chat, methods=["POST"]),
        Route("/api/conversations", list_conversations),
        Route("/api/conversations/{id}", get_conversation),
    ],
    lifespan=lifespan,
)
