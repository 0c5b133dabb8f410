"""Reading conversations back, renaming and deleting them: `/api/conversations`."""

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict
from starlette.datastructures import URL

from ai_agent.api.caller import CallerRoute, CurrentCaller
from ai_agent.api.openapi import BAD_BODY, BAD_ID, LINK, OWNED, SIGNED_IN, example_entry, invalid_entry, operation_id
from ai_agent.api.schemas import (
    CONVERSATION,
    MESSAGES,
    ConversationDetailResponse,
    ConversationId,
    ConversationListResponse,
    Title,
    check_integer,
)
from ai_agent.services import conversations, cursors
from ai_agent.services.conversations import Page
from ai_agent.services.cursors import FIRST_PAGE

router = APIRouter(
    route_class=CallerRoute,
    prefix="/api/conversations",
    tags=["history"],
    responses=SIGNED_IN,
    generate_unique_id_function=operation_id,
)

Limit = Annotated[
    int,
    Query(ge=1, le=1000, description="The largest number of rows in the response."),
    BeforeValidator(check_integer),
]
Cursor = Annotated[
    str, Query(description="Where the page begins: follow the previous page's `Link` rather than make a cursor.")
]

All = Annotated[
    Literal["true"], Query(alias="all", description="Confirms the deletion; without it nothing is deleted.")
]

# What RFC 3986, section 3.4, allows in a query beside letters, digits and -._~, escapes included. A server takes other
# characters too, and a > would end the link too early.
_QUERY = "%!$&'()*+,;=:@/?"

BAD_LIMIT = invalid_entry("less_than_equal", ["query", "limit"], "Input should be less than or equal to 1000")

NOT_ALL = invalid_entry("missing", ["query", "all"], "Field required")


class ConversationUpdateRequest(BaseModel):
    """The new title."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Holiday plans"}]})

    title: Title


@router.get(
    "",
    summary="List your conversations",
    response_model=list[ConversationListResponse],
    responses=example_entry([CONVERSATION], headers=LINK) | BAD_LIMIT,
)
async def list_conversations(
    request: Request, caller: CurrentCaller, limit: Limit = 1000, cursor: Cursor = FIRST_PAGE
) -> Response:
    """Your conversations, the most recently used first.

    When more follow, and only then, the response has a `Link` header with the URL of the next page. Paging neither
    skips nor repeats a conversation, unless it gets a message meanwhile, which moves it to the top of the list.
    """
    scope = ("conversations", caller.user_id)
    page = await conversations.read_list(caller.connection, caller.user_id, limit, cursors.decode(cursor, *scope))
    return _respond(request, page, *scope)


@router.get(
    "/{conversation_id}",
    summary="Read a conversation",
    response_model=ConversationDetailResponse,
    responses=example_entry({**CONVERSATION, "messages": MESSAGES}, headers=LINK) | OWNED | BAD_ID,
)
async def get_conversation(
    request: Request,
    conversation_id: ConversationId,
    caller: CurrentCaller,
    limit: Limit = 1000,
    cursor: Cursor = FIRST_PAGE,
) -> Response:
    """A conversation with its newest messages, oldest first; the `Link` header leads to the page of older ones.

    `?limit=50` gives the last 50 messages, and its `Link` leads to the 50 before them. A page ends before its limit
    where its messages would take more than 1 MiB of JSON, but it holds at least one.
    """
    scope = ("messages", caller.user_id, conversation_id)
    after = cursors.decode(cursor, *scope)
    page = await conversations.read(caller.connection, caller.user_id, conversation_id, limit, after)
    return _respond(request, page, *scope)


def _respond(request: Request, page: Page, *scope: object) -> Response:
    headers = {}
    if (position := page.next) is not None:
        url = _url_with_cursor(request, cursors.encode(position, *scope))
        headers["Link"] = f'<{url}>; rel="next"'
    return Response(page.body, media_type="application/json", headers=headers)


def _url_with_cursor(request: Request, cursor: str) -> URL:
    """The request's URL with this cursor; the rest of the query stays as it was sent."""
    sent = request.scope["query_string"].decode("latin-1").split("&")
    query = "&".join([*(field for field in sent if field and not field.startswith("cursor=")), f"cursor={cursor}"])
    encoded = quote(query, safe=_QUERY, encoding="latin-1").encode()
    return URL(scope={**request.scope, "path": quote(request.scope["path"]), "query_string": encoded})


@router.patch(
    "/{conversation_id}",
    summary="Rename a conversation",
    response_model=ConversationListResponse,
    responses=example_entry({**CONVERSATION, "title": "Holiday plans"}) | OWNED | BAD_BODY | BAD_ID,
)
async def rename_conversation(
    conversation_id: ConversationId, body: ConversationUpdateRequest, caller: CurrentCaller
) -> Response:
    """Give a conversation another title. It keeps its place in the list, because `updated_at` stays."""
    renamed = await conversations.rename(caller.connection, caller.user_id, conversation_id, body.title)
    return Response(renamed, media_type="application/json")


@router.delete(
    "/{conversation_id}",
    summary="Delete a conversation",
    status_code=204,
    response_class=Response,
    responses=OWNED | BAD_ID,
)
async def delete_conversation(conversation_id: ConversationId, caller: CurrentCaller) -> None:
    """Delete a conversation with all its messages, for good."""
    await conversations.delete_one(caller.connection, caller.user_id, conversation_id)


@router.delete(
    "",
    summary="Delete all your conversations",
    status_code=204,
    response_class=Response,
    responses=NOT_ALL,
)
async def delete_conversations(caller: CurrentCaller, all_: All) -> None:
    """Delete all your conversations with all their messages, for good."""
    await conversations.delete_all(caller.connection, caller.user_id)
