"""Pages of the list and of a conversation: together they show each row once, whatever happens between them."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_agent.services.conversations import MAX_PAGE_BYTES
from tests.conftest import Chat, Headers, SignIn, StartService

BAD_CURSOR = {"detail": "The cursor does not belong to this list; start again without one."}

# Page size and number of rows: with and without a rest, the longest page, and one that just holds everything.
SIZES = [(1, 5), (2, 9), (2, 10), (3, 10), (7, 21), (7, 50), (1000, 1000), (1000, 1001)]

KEPT_QUERIES = {
    "another name": "limit=1&view=sidebar",
    "a repeated name": "tag=a&limit=1&tag=b&tag=a",
    "no value": "limit=1&flag=",
    "reserved characters": "limit=1&q=a%26b%3Dc%3F%2F%23%3E+%2B",
    "UTF-8": "limit=1&q=%C3%A9%F0%9F%8F%96",
    "bytes that are no UTF-8": "limit=1&q=%FF%00",
}


async def add_conversations(database: asyncpg.Connection, seconds: list[int], user_id: str = "ada") -> list[int]:
    """Store a conversation for each time, and return their ids."""
    rows = await database.fetch(
        "INSERT INTO conversations (user_id, created_at, updated_at) SELECT $1, at, at FROM"
        " (SELECT timestamptz '2026-01-01Z' + second * interval '1 second' AS at FROM unnest($2::int[]) AS second)"
        " RETURNING id",
        *(user_id, seconds),
    )
    return [row["id"] for row in rows]


async def add_messages(database: asyncpg.Connection, conversation_id: int, seconds: list[int]) -> list[int]:
    """Store a message for each time, and return their ids."""
    rows = await database.fetch(
        "INSERT INTO messages (conversation_id, role, content, created_at)"
        " SELECT $1, 'user', '', timestamptz '2026-01-01Z' + second * interval '1 second'"
        " FROM unnest($2::int[]) AS second RETURNING id",
        *(conversation_id, seconds),
    )
    return [row["id"] for row in rows]


async def pages(client: httpx.AsyncClient, headers: Headers, url: str) -> AsyncIterator[list[int]]:
    """The ids of each page, reached by following `Link` as it is."""
    following: str | None = url
    while following is not None:
        response = await client.get(following, headers=headers)
        assert response.status_code == 200, response.text
        body = response.json()
        yield [row["id"] for row in (body if isinstance(body, list) else body["messages"])]
        following = next_url(response)


def next_url(response: httpx.Response) -> str | None:
    return response.links["next"]["url"] if "Link" in response.headers else None


async def next_cursor(client: httpx.AsyncClient, headers: Headers, path: str) -> str:
    response = await client.get(path, headers=headers, params={"limit": 1})
    return httpx.URL(response.links["next"]["url"]).params["cursor"]


@pytest.mark.parametrize(("limit", "count"), SIZES)
async def test_pages_of_the_list_hold_each_conversation_once_and_only_the_last_has_no_link(
    limit: int, count: int, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    seconds = [n % 4 for n in range(count)]  # Many rows with the same time.
    ids = await add_conversations(database, seconds)
    await add_conversations(database, seconds, "bob")

    shown = [page async for page in pages(client, await sign_in("ada"), f"/api/conversations?limit={limit}")]

    listed = [id_ for _, id_ in sorted(zip(seconds, ids, strict=True), reverse=True)]
    assert shown == [list(page) for page in itertools.batched(listed, limit)]


@pytest.mark.parametrize(("limit", "count"), SIZES)
async def test_pages_of_messages_go_from_new_to_old_and_ascend_inside(
    limit: int, count: int, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [id_, other] = await add_conversations(database, [0, 0])
    seconds = [n // 5 for n in range(count)]  # Five messages at a time.
    ids = await add_messages(database, id_, seconds)
    await add_messages(database, other, seconds)

    shown = [page async for page in pages(client, await sign_in("ada"), f"/api/conversations/{id_}?limit={limit}")]

    assert shown == [list(reversed(page)) for page in itertools.batched(reversed(ids), limit)]


async def test_without_a_limit_a_page_holds_1000_rows(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [id_, *_] = await add_conversations(database, [0] * 1001)
    await add_messages(database, id_, [0] * 1001)
    headers = await sign_in("ada")

    listed = [len(page) async for page in pages(client, headers, "/api/conversations")]
    read = [len(page) async for page in pages(client, headers, f"/api/conversations/{id_}")]

    assert (listed, read) == ([1000, 1], [1000, 1])


async def test_a_page_of_long_messages_ends_early_and_skips_none(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [id_] = await add_conversations(database, [0])
    ids = await add_messages(database, id_, list(range(6)))
    sizes = [1, 1, MAX_PAGE_BYTES - 1000, MAX_PAGE_BYTES, 1, MAX_PAGE_BYTES]
    await database.executemany(
        "UPDATE messages SET content = repeat('x', $2) WHERE id = $1", list(zip(ids, sizes, strict=True))
    )

    shown = [page async for page in pages(client, await sign_in("ada"), f"/api/conversations/{id_}")]

    assert shown == [[ids[5]], [ids[4]], [ids[3]], ids[:3]]


async def test_a_conversation_deleted_under_the_cursor_hides_no_other(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    ids = await add_conversations(database, [1, 1, 1, 1, 1])
    headers = await sign_in("ada")
    following = pages(client, headers, "/api/conversations?limit=2")

    first = await anext(following)
    await client.delete(f"/api/conversations/{first[-1]}", headers=headers)

    assert [first, *[page async for page in following]] == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]


async def test_a_message_deleted_under_the_cursor_hides_no_other(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [id_] = await add_conversations(database, [0])
    ids = await add_messages(database, id_, [1, 1, 1, 1, 1])
    following = pages(client, await sign_in("ada"), f"/api/conversations/{id_}?limit=2")

    first = await anext(following)
    await database.execute("DELETE FROM messages WHERE id = $1", first[0])

    assert [first, *[page async for page in following]] == [ids[3:], ids[1:3], ids[:1]]


async def test_a_turn_appended_between_two_pages_moves_only_its_conversation(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    ids = await add_conversations(database, [1, 2, 3, 4, 5])
    headers = await sign_in("ada")
    following = pages(client, headers, "/api/conversations?limit=2")

    first = await anext(following)
    await chat(headers, "bump one that was shown", ids[4])
    await chat(headers, "bump one that was not", ids[1])
    await chat(headers, "begin another")

    assert [first, *[page async for page in following]] == [[ids[4], ids[3]], [ids[2], ids[0]]]


async def test_turns_appended_between_two_pages_leave_the_older_messages_where_they_are(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    [id_] = await add_conversations(database, [0])
    ids = await add_messages(database, id_, [1, 2, 3, 4, 5])
    headers = await sign_in("ada")
    following = pages(client, headers, f"/api/conversations/{id_}?limit=3")

    first = await anext(following)
    await chat(headers, "more", id_)

    assert [first, *[page async for page in following]] == [ids[2:], ids[:2]]


async def test_two_turns_of_the_same_microsecond_have_one_order_in_the_list_and_in_its_pages(
    chat: Chat, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    headers = await sign_in("ada")
    first, second = [(await chat(headers))["conversation_id"] for _ in range(2)]
    for at in await database.fetch("SELECT updated_at AS at FROM conversations"):
        await database.execute("UPDATE conversations SET updated_at = $1", at["at"])

        listed = await client.get("/api/conversations", headers=headers)
        paged = [page async for page in pages(client, headers, "/api/conversations?limit=1")]

        assert [row["id"] for row in listed.json()] == [second, first]
        assert paged == [[second], [first]]


SECONDS = st.lists(st.integers(0, 3), min_size=1, max_size=10)
# What happens before the next page, and to which row.
CHANGES = st.lists(st.tuples(st.sampled_from(["begin", "insert", "append", "delete"]), st.integers(0, 9)), max_size=3)
EXAMPLES = settings(
    max_examples=30,
    deadline=None,
    database=None,
    # Each example has a user of its own, so they may share the app and its tables.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@EXAMPLES
@given(seconds=SECONDS, limit=st.integers(1, 4), changes=st.lists(CHANGES, max_size=6))
async def test_no_conversation_that_stayed_is_skipped_or_repeated(
    seconds: list[int],
    limit: int,
    changes: list[list[tuple[str, int]]],
    client: httpx.AsyncClient,
    chat: Chat,
    sign_in: SignIn,
    database: asyncpg.Connection,
) -> None:
    user_id = f"user-{await database.fetchval('SELECT count(*) FROM user_sessions')}"
    headers, ids = await sign_in(user_id), await add_conversations(database, seconds, user_id)
    stayed, changing, shown = set(ids), iter(changes), []

    async for page in pages(client, headers, f"/api/conversations?limit={limit}"):
        shown += page
        for change, n in next(changing, []):
            changed = ids[n % len(ids)]
            match change:
                case "begin":
                    await chat(headers)
                case "insert":
                    await add_conversations(database, [n % 4], user_id)
                case "delete":
                    await client.delete(f"/api/conversations/{changed}", headers=headers)
                    stayed.discard(changed)
                case "append":
                    await client.post(
                        "/api/chat", headers=headers, json={"message": "Hello", "conversation_id": changed}
                    )
                    stayed.discard(changed)

    assert len(shown) == len(set(shown))
    assert stayed <= set(shown)


@EXAMPLES
@given(seconds=SECONDS, limit=st.integers(1, 4), changes=st.lists(CHANGES, max_size=6))
async def test_no_message_that_stayed_is_skipped_or_repeated(
    seconds: list[int],
    limit: int,
    changes: list[list[tuple[str, int]]],
    client: httpx.AsyncClient,
    chat: Chat,
    sign_in: SignIn,
    database: asyncpg.Connection,
) -> None:
    user_id = f"user-{await database.fetchval('SELECT count(*) FROM user_sessions')}"
    headers, [id_] = await sign_in(user_id), await add_conversations(database, [0], user_id)
    ids = await add_messages(database, id_, seconds)
    stayed, changing, shown = set(ids), iter(changes), []

    async for page in pages(client, headers, f"/api/conversations/{id_}?limit={limit}"):
        shown += page
        for change, n in next(changing, []):
            match change:
                case "begin":
                    await chat(headers)
                case "insert":
                    await add_messages(database, id_, [n % 4])
                case "append":
                    await chat(headers, "Hello", id_)
                case "delete":
                    await database.execute("DELETE FROM messages WHERE id = $1", ids[n % len(ids)])
                    stayed.discard(ids[n % len(ids)])

    assert len(shown) == len(set(shown))
    assert stayed <= set(shown)


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1.5", "", str(2**64)])
async def test_a_limit_outside_1_to_1000_is_a_422(
    limit: str, chat: Chat, client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    headers = await sign_in()
    id_ = (await chat(headers))["conversation_id"]

    answers = [
        await client.get(path, headers=headers, params={"limit": limit})
        for path in ("/api/conversations", f"/api/conversations/{id_}")
    ]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert [answer.json()["detail"][0]["loc"] for answer in answers] == [["query", "limit"]] * 2


@pytest.mark.parametrize("cursor", ["", "x", "0", "null", "é", "A" * 32, "A" * 31, "A" * 10_000, "\x00", "../..", "%"])
async def test_a_garbage_cursor_is_a_422(cursor: str, chat: Chat, client: httpx.AsyncClient, sign_in: SignIn) -> None:
    headers = await sign_in()
    id_ = (await chat(headers))["conversation_id"]

    answers = [
        await client.get(path, headers=headers, params={"cursor": cursor})
        for path in ("/api/conversations", f"/api/conversations/{id_}")
    ]

    assert [(answer.status_code, answer.json()) for answer in answers] == [(422, BAD_CURSOR)] * 2


async def test_a_cursor_fits_only_the_list_and_the_user_that_it_was_made_for(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    ada, bob = await sign_in("ada"), await sign_in("bob")
    [first, second] = await add_conversations(database, [1, 2])
    [foreign, _] = await add_conversations(database, [1, 2], "bob")
    for id_ in (first, second, foreign):
        await add_messages(database, id_, [1, 2])
    paths = ["/api/conversations", *(f"/api/conversations/{id_}" for id_ in (first, second))]
    cursors = [await next_cursor(client, ada, path) for path in paths]
    cursors += [
        await next_cursor(client, bob, path) for path in ("/api/conversations", f"/api/conversations/{foreign}")
    ]

    answers = [
        [(await client.get(path, headers=ada, params={"cursor": cursor})).status_code for cursor in cursors]
        for path in paths
    ]

    assert answers == [[200, 422, 422, 422, 422], [422, 200, 422, 422, 422], [422, 422, 200, 422, 422]]


async def test_a_cursor_with_any_character_changed_is_a_422(
    client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2])
    headers = await sign_in("ada")
    cursor = await next_cursor(client, headers, "/api/conversations")

    answers = [
        await client.get(
            "/api/conversations", headers=headers, params={"cursor": cursor[:n] + changed + cursor[n + 1 :]}
        )
        for n, original in enumerate(cursor)
        for changed in ("A" if original != "A" else "B", "", "~", "+")
    ]

    assert {(answer.status_code, answer.text) for answer in answers} == {(422, answers[0].text)}
    assert answers[0].json() == BAD_CURSOR


@pytest.mark.parametrize("query", KEPT_QUERIES.values(), ids=KEPT_QUERIES.keys())
async def test_the_link_keeps_the_other_parameters_of_the_query(
    query: str, client: httpx.AsyncClient, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2, 3])
    headers = await sign_in("ada")

    first = await client.get(f"/api/conversations?{query}", headers=headers)
    second = await client.get(first.links["next"]["url"], headers=headers)

    urls = [response.links["next"]["url"].partition("&cursor=") for response in (first, second)]
    assert [url for url, _, _ in urls] == [f"http://service.test/api/conversations?{query}"] * 2
    assert urls[0] != urls[1]


class ReverseProxy(httpx.AsyncBaseTransport):
    """Ends TLS, takes a prefix off the path, and passes everything on to the service, as ingresses do."""

    def __init__(self, service_url: str, prefix: bytes) -> None:
        self._service = httpx.AsyncHTTPTransport()
        self._url = httpx.URL(service_url)
        self._prefix = prefix

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path.startswith(self._prefix)
        path = request.url.raw_path.removeprefix(self._prefix)
        headers = {**request.headers, "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": request.url.scheme}
        passed_on = httpx.Request(request.method, self._url.copy_with(raw_path=path), headers=headers)
        return await self._service.handle_async_request(passed_on)

    async def aclose(self) -> None:
        await self._service.aclose()


async def walk_through_proxy(service_url: str, url: str, headers: Headers) -> list[str]:
    """The URLs of all pages as a client behind a proxy meets them."""
    urls = [url]
    proxy = ReverseProxy(service_url, httpx.URL(url).raw_path.partition(b"/api/")[0])
    async with httpx.AsyncClient(transport=proxy) as client:
        while following := next_url(await client.get(urls[-1], headers=headers)):
            urls.append(following)
    return [url.partition("&cursor=")[0] for url in urls]


@pytest.mark.parametrize("prefix", ["", "/chat", "/my chat"])
async def test_the_link_is_the_url_that_the_client_sees_behind_a_proxy(
    prefix: str, start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2, 3])
    service = start_service("--forwarded-allow-ips=127.0.0.1", f"--root-path={prefix}")
    url = str(httpx.URL(f"https://chat.example.com:8443{prefix}/api/conversations?limit=1"))

    urls = await walk_through_proxy(service.url, url, await sign_in("ada"))

    assert urls == [url] * 3


async def test_a_proxy_that_is_not_trusted_cannot_change_the_scheme_of_the_link(
    start_service: StartService, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2])
    service = start_service("--forwarded-allow-ips=192.0.2.1")
    headers = {**await sign_in("ada"), "X-Forwarded-Proto": "https"}

    async with httpx.AsyncClient() as client:
        response = await client.get(f"{service.url}/api/conversations?limit=1", headers=headers)

    assert response.links["next"]["url"].startswith(f"{service.url}/api/conversations?limit=1&cursor=")


@pytest.mark.parametrize("host", ['a>; rel="next", <b', "a b", "é.example", "", "a:99999", "?", "a/b"])
async def test_a_host_that_is_none_cannot_break_the_link(
    host: str, service_url: str, sign_in: SignIn, database: asyncpg.Connection
) -> None:
    await add_conversations(database, [1, 2])
    headers = {**await sign_in("ada"), "Host": host}

    head = await raw_request(service_url, b"GET /api/conversations?limit=1 HTTP/1.1", **headers)

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"\r\nlink: <{service_url}/api/conversations?limit=1&cursor=".encode() in head


async def raw_request(service_url: str, line: bytes, **headers: str) -> bytes:
    """Send what a well-behaved client would not, and return the head of the answer."""
    url = httpx.URL(service_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = [line, *(f"{name}: {value}".encode("latin-1") for name, value in headers.items()), b"", b""]
    writer.write(b"\r\n".join(lines))
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head
