"""The least that could do the service's work: Starlette, asyncpg and orjson, with the service's own statements.

No validation, no errors, no logging, no CORS, no deadline: what the service spends beyond this is what those cost.
"""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from sqlalchemy import TextClause
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ai_agent.services.conversations import LIST_STATEMENT, MAX_PAGE_BYTES, READ_STATEMENT
from ai_agent.services.cursors import START as START_OF_LIST
from ai_agent.services.turns import store_statement

USER_OF_TOKEN = """
    SELECT "userId"::text FROM user_sessions WHERE token = $1 AND "expiresAt" > now()
"""


def numbered(statement: TextClause) -> tuple[str, list[str]]:
    """The statement with asyncpg's numbered parameters, and their names in that order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return re.sub(r"(?<![:\w]):(\w+)(?!:)", number, statement.text), names


START = numbered(store_statement(new=True, keyed=False, show_messages=False))
APPEND = numbered(store_statement(new=False, keyed=False, show_messages=False))
LIST = numbered(LIST_STATEMENT)
HISTORY = numbered(READ_STATEMENT)


async def chat(request: Request) -> Response:
    body = orjson.loads(await request.body())
    question, answer = body["message"], f"Echo: {body['message']}"
    statement, names = START if body.get("conversation_id") is None else APPEND
    turn: dict[str, Any] = {
        "conversation_id": body.get("conversation_id"),
        "lines": orjson.dumps(
            [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        ).decode(),
    }
    async with signed_in(request) as (connection, turn["user_id"]):
        conversation_id = await connection.fetchval(statement, *(turn[name] for name in names))
    return Response(
        orjson.dumps({"conversation_id": conversation_id, "user_message": question, "assistant_message": answer}),
        media_type="application/json",
    )


async def list_conversations(request: Request) -> Response:
    return await read(request, LIST, {"limit": int(request.query_params["limit"])})


async def get_conversation(request: Request) -> Response:
    id_, limit = int(request.path_params["id"]), int(request.query_params["limit"])
    return await read(request, HISTORY, {"conversation_id": id_, "limit": limit, "max_bytes": MAX_PAGE_BYTES})


async def read(request: Request, statement: tuple[str, list[str]], values: dict[str, Any]) -> Response:
    sql, names = statement
    values |= START_OF_LIST._asdict()
    async with signed_in(request) as (connection, values["user_id"]):
        row = await connection.fetchrow(sql, *(values[name] for name in names))
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
