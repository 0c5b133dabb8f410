"""The published contract is the document of the running service."""

import json
import os
from pathlib import Path

import httpx

CONTRACT = Path(__file__).parents[2] / "specs/007-chat-persistence/contracts/openapi.json"


def test_the_published_contract_is_the_services_own_document(service_url: str) -> None:
    document = json.dumps(httpx.get(f"{service_url}/openapi.json").json(), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("WRITE_CONTRACT"):
        CONTRACT.write_text(document)

    assert CONTRACT.read_text() == document, (
        "the API has changed: if that is meant, run"
        " `WRITE_CONTRACT=1 uv run pytest tests/contract/test_published_contract.py`"
        " and commit the file with the change"
    )
