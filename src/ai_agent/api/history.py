"""Reading conversations back, renaming and deleting them: `/api/conversations`."""

from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.datastructures import URL

from ai_agent.api.deps import BY_SERVICE, CurrentCaller, SessionRoute
from ai_agent.api.fields import ConversationId, Id, Title
from ai_agent.api.responses import BAD_BODY, OWNED, SIGNED_IN, invalid, shown
from ai_agent.database.models import Role
from ai_agent.services import conversations, cursors
from ai_agent.services.conversations import Page

router = APIRouter(route_class=SessionRoute, prefix="/api/conversations", tags=["history"])

Limit = Annotated[int, Query(ge=1, le=1000, description="The most rows in the answer.")]
Cursor = Annotated[
    str | None, Query(description="Where to go on; follow the `Link` of the page before rather than making one.")
]


class ConversationListResponse(BaseModel):
    """A conversation without its messages."""

    id: Id
    title: str | None
    created_at: AwareDatetime
    updated_at: AwareDatetime = Field(description="When its last message was stored.")


class MessageResponse(BaseModel):
    """A message in the shape of OpenAI's chat messages."""

    id: Id = Field(description="Ascends in the order of the conversation.")
    role: Role
    content: str = Field(description="May be empty where `metadata` carries tool calls.")
    metadata: dict[str, Any] | None
    created_at: AwareDatetime


class ConversationDetailResponse(ConversationListResponse):
    """A conversation with a page of its messages, the oldest of them first."""

    messages: list[MessageResponse]


class ConversationUpdateRequest(BaseModel):
    """The new title."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Holiday plans"}]})

    title: Title


CONVERSATION = {
    "id": 42,
    "title": "Chat - 2026-11-22 09:30",
    "created_at": "2026-11-22T09:30:12.345678+00:00",
    "updated_at": "2026-11-22T09:30:12.345678+00:00",
}
MESSAGES = [
    {"id": 83, "role": "user", "content": "Good morning!", "metadata": {}, "created_at": CONVERSATION["created_at"]},
    {
        "id": 84,
        "role": "assistant",
        "content": "Echo: Good morning!",
        "metadata": {"model": "echo"},
        "created_at": CONVERSATION["created_at"],
    },
]
BAD_ID = invalid({"type": "int_parsing", "loc": ["path", "conversation_id"], "msg": "Input should be a valid integer"})
BAD_LIMIT = invalid(
    {"type": "less_than_equal", "loc": ["query", "limit"], "msg": "Input should be less than or equal to 1000"}
)


LINK = {"Link": {"description": 'The next page, `<url>; rel="next"`, if there is one.', "schema": {"type": "string"}}}


@router.get(
    "",
    operation_id="listConversations",
    summary="List your conversations",
    openapi_extra=BY_SERVICE,
    response_model=list[ConversationListResponse],
    responses=shown([CONVERSATION], headers=LINK) | SIGNED_IN | BAD_LIMIT,
)
async def list_conversations(
    request: Request, caller: CurrentCaller, limit: Limit = 1000, cursor: Cursor = None
) -> Response:
    """Your conversations, the most recently used first.

    When more follow, and only then, the answer has a `Link` header with the URL of the next page. Paging neither skips
    nor repeats a conversation, except that one which gets a message meanwhile has moved to the front of the list.
    """
    scope = ("conversations", caller.user_id)
    page = await conversations.read_list(caller.session, caller.user_id, limit, cursors.decode(cursor, *scope))
    return _answer(request, page, *scope)


@router.get(
    "/{conversation_id}",
    operation_id="getConversation",
    summary="Read a conversation",
    openapi_extra=BY_SERVICE,
    response_model=ConversationDetailResponse,
    responses=shown({**CONVERSATION, "messages": MESSAGES}, headers=LINK) | SIGNED_IN | OWNED | BAD_ID,
)
async def get_conversation(
    request: Request, conversation_id: ConversationId, caller: CurrentCaller, limit: Limit = 1000, cursor: Cursor = None
) -> Response:
    """A conversation with its newest messages, oldest first; the `Link` header leads to the page of older ones.

    `?limit=50` gives the last 50 messages, and following `Link` the 50 before them. A page also ends, before its limit,
    where its messages would take more than 1 MiB of JSON, but holds one message at least.
    """
    scope = ("messages", caller.user_id, conversation_id)
    after = cursors.decode(cursor, *scope)
    page = await conversations.read(caller.session, caller.user_id, conversation_id, limit, after)
    return _answer(request, page, *scope)


def _answer(request: Request, page: Page, *scope: object) -> Response:
    response = Response(page.body, media_type="application/json")
    if page.next is not None:
        url = _url_with_cursor(request, cursors.encode(page.next, *scope))
        response.headers["Link"] = f'<{url}>; rel="next"'
    return response


def _url_with_cursor(request: Request, cursor: str) -> URL:
    """The URL as the client sees it, with another cursor; in latin-1 every byte of the query stays what it is."""
    query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    query = [*((name, value) for name, value in query if name != "cursor"), ("cursor", cursor)]
    encoded = urlencode(query, encoding="latin-1").encode()
    return URL(scope={**request.scope, "path": quote(request.scope["path"]), "query_string": encoded})


@router.patch(
    "/{conversation_id}",
    operation_id="renameConversation",
    summary="Rename a conversation",
    openapi_extra=BY_SERVICE,
    response_model=ConversationListResponse,
    responses=shown({**CONVERSATION, "title": "Holiday plans"}) | SIGNED_IN | OWNED | BAD_BODY | BAD_ID,
)
async def rename_conversation(
    conversation_id: ConversationId, body: ConversationUpdateRequest, caller: CurrentCaller
) -> Response:
    """Give a conversation another title. It keeps its place in the list: `updated_at` stays."""
    renamed = await conversations.rename(caller.session, caller.user_id, conversation_id, body.title)
    return Response(renamed, media_type="application/json")


@router.delete(
    "/{conversation_id}",
    operation_id="deleteConversation",
    summary="Delete a conversation",
    openapi_extra=BY_SERVICE,
    status_code=204,
    response_class=Response,
    responses=SIGNED_IN | OWNED | BAD_ID,
)
async def delete_conversation(conversation_id: ConversationId, caller: CurrentCaller) -> None:
    """Delete a conversation with all its messages, for good."""
    await conversations.delete(caller.session, caller.user_id, conversation_id)
