"""The published document describes the running service, and explains itself to its reader."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx
import jsonschema_rs
import pytest

from tests.support.database import PROJECT
from tests.support.service import SERVICE_TOKEN, Service, run_service
from tests.support.types import Headers, SignIn

type JSON = dict[str, Any]

SERVICE = {"X-Service-Auth": SERVICE_TOKEN, "X-User-ID": "ada"}
SERVICE_TAG = "trusted services"


@pytest.fixture(scope="module")
def document(service_url: str) -> JSON:
    document: JSON = httpx.get(f"{service_url}/openapi.json").json()
    return document


@pytest.fixture
async def headers(sign_in: SignIn) -> Headers:
    return await sign_in()


def operations(document: JSON, prefix: str = "/") -> Iterator[tuple[str, JSON]]:
    """Each operation below a path, by a name such as `GET /health`."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith(prefix):
                yield f"{method.upper()} {path}", operation


def bodies(document: JSON) -> Iterator[tuple[str, JSON, Any]]:
    """Each body of a request or a response: its name, its schema, and its example, if it has one."""
    for name, operation in operations(document):
        messages = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for part, message in messages.items():
            for content in message.get("content", {}).values():
                schema = content["schema"]
                model = document["components"]["schemas"].get(schema.get("$ref", "").split("/")[-1], schema)
                yield f"{name} {part}", schema, content.get("example", model.get("examples", [None])[0])


@pytest.fixture(scope="module")
def service(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that logs every request."""
    settings = {"DATABASE_URL": database_url, "LOG_LEVEL": "DEBUG", "SERVICE_AUTH_TOKEN": SERVICE_TOKEN}
    with run_service(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service


DELETES_ALL = "deleteConversations"  # A run of its own, because it leaves the others nothing to find.


@pytest.mark.parametrize("who", ["a user", "a user who deletes everything", "a trusted service"])
def test_the_service_answers_as_the_document_says(
    who: str, document: JSON, service: Service, headers: Headers, tmp_path: Path
) -> None:
    by_service, deletes_all = who == "a trusted service", who == "a user who deletes everything"
    logged_before = len(service.log.read_text())
    # No schema can say that metadata is at most 64 kB, 100 levels deep and without NUL. The phase that is left out
    # fills 100 messages to their limits, for longer than the rest of the test takes.
    chosen = ["--exclude-checks=positive_data_acceptance", "--phases=examples,fuzzing,stateful"]
    arguments = [f"--include-tag={SERVICE_TAG}", *chosen]
    if not by_service:
        arguments = [f"--exclude-tag={SERVICE_TAG}", f"--exclude-operation-id={DELETES_ALL}"]
    if deletes_all:
        arguments = [f"--include-operation-id={DELETES_ALL}"]

    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"]
        + ["--checks=all", "--generation-deterministic", "--max-examples=10", "--continue-on-failure", *arguments]
        + ["--suppress-health-check=too_slow"]  # It would be the machine that is.
        + [f"--header={name}: {value}" for name, value in (SERVICE if by_service else headers).items()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "SCHEMATHESIS_HOOKS": "tests.contract.hooks"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    served = set(re.findall(r"\] ([A-Z]+ /\S*) 2\d\d ", service.log.read_text()[logged_before:]))
    assert served >= {
        name
        for name, operation in operations(document)
        if (operation["operationId"] == DELETES_ALL) is deletes_all and (SERVICE_TAG in operation["tags"]) is by_service
    }


def test_each_operation_says_what_it_is_for(document: JSON) -> None:
    wanted = ("summary", "description", "operationId", "tags")

    assert [name for name, operation in operations(document) if not all(map(operation.get, wanted))] == []


def test_each_operation_has_an_id_of_its_own_that_can_name_a_function(document: JSON) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]

    assert [id_ for id_ in ids if ids.count(id_) > 1 or not re.fullmatch("[a-z][A-Za-z]+", id_)] == []


def test_each_tag_is_explained(document: JSON) -> None:
    explained = {tag["name"] for tag in document["tags"] if tag["description"]}

    assert {tag for _, operation in operations(document) for tag in operation["tags"]} == explained


def test_each_body_has_an_example_that_fits_its_schema(document: JSON) -> None:
    unfit = [
        name
        for name, schema, example in bodies(document)
        if example is None or not jsonschema_rs.is_valid({**schema, "components": document["components"]}, example)
    ]

    assert unfit == []


async def test_the_example_of_stored_messages_is_what_the_service_returns_for_those_that_are_sent(
    document: JSON, service: Service
) -> None:
    operation = document["paths"]["/api/conversations/{conversation_id}/messages"]["post"]
    [sent] = operation["requestBody"]["content"]["application/json"]["schema"]["examples"]
    shown = operation["responses"]["201"]["content"]["application/json"]["example"]

    async with httpx.AsyncClient(base_url=service.url, headers=SERVICE) as ada:
        id_ = (await ada.post("/api/conversations", json={})).json()["id"]
        stored = await ada.post(f"/api/conversations/{id_}/messages", json=sent)

    assert stored.json() == [{**message, "id": ANY, "created_at": ANY} for message in shown]


def test_each_parameter_and_each_header_of_an_answer_is_described(document: JSON) -> None:
    undescribed = [
        f"{name} {part['name']}"
        for name, operation in operations(document)
        for part in operation.get("parameters", [])
        if not part.get("description")
    ] + [
        f"{name} {status} {header}"
        for name, operation in operations(document)
        for status, response in operation["responses"].items()
        for header, described in response.get("headers", {}).items()
        if not described.get("description")
    ]

    assert undescribed == []


def test_each_operation_lists_every_answer_it_may_give(document: JSON) -> None:
    lacking = {}
    for name, operation in operations(document, "/api"):
        wanted = {"401", "503"}
        wanted |= {"408", "413", "422"} if "requestBody" in operation else set()
        wanted |= {"422"} if "parameters" in operation else set()
        wanted |= {"404"} if "{" in name or "conversation_id" in str(operation.get("requestBody")) else set()
        if missing := wanted - operation["responses"].keys():
            lacking[name] = missing

    assert lacking == {}


def test_each_api_operation_needs_a_bearer_token_and_health_needs_none(document: JSON) -> None:
    schemes = document["components"]["securitySchemes"]
    bearers = {name for name, scheme in schemes.items() if (scheme["type"], scheme.get("scheme")) == ("http", "bearer")}

    assert [name for name, operation in operations(document, "/api") if not operation.get("security")] == []
    assert [name for name, operation in operations(document, "/health") if "security" in operation] == []
    assert bearers == {"sessionToken"}


def test_each_name_of_a_component_is_one_that_openapi_allows(document: JSON) -> None:
    names = [name for components in document["components"].values() for name in components]

    assert [name for name in names if not re.fullmatch("[A-Za-z0-9._-]+", name)] == []
