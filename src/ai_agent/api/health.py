"""Liveness and readiness, for operators and their load balancers."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from ai_agent.api.openapi import error_entry, example_entry, operation_id
from ai_agent.database.connection import Connection
from ai_agent.errors import DatabaseNotReady
from ai_agent.services import readiness

router = APIRouter(tags=["health"], generate_unique_id_function=operation_id)


class HealthResponse(BaseModel):
    status: str
    service: str


@router.get(
    "/health",
    summary="Is the process alive?",
    responses=example_entry({"status": "healthy", "service": "ai-agent"}),
)
@router.head("/health", include_in_schema=False)
async def get_health() -> HealthResponse:
    """Responds as long as the process lives. It never asks the database, so a database outage restarts nothing."""
    return HealthResponse(status="healthy", service="ai-agent")


@router.get(
    "/health/ready",
    summary="Can the service do its work?",
    responses=example_entry({"status": "ready", "service": "ai-agent"})
    | error_entry(
        DatabaseNotReady(
            "The database is not at the migration that this release needs: it has no table conversations."
            " Run 'alembic upgrade head'."
        ),
        "The database does not answer, or lacks something that the service needs; the text names it and the remedy.",
    ),
)
@router.head("/health/ready", include_in_schema=False)
async def get_readiness(request: Request) -> HealthResponse:
    """Checks that the database answers and has everything that the other routes need."""
    state = request.app.state
    async with Connection(state.engine, state.settings.database_timeout) as connection:
        await readiness.check(connection)
    return HealthResponse(status="ready", service="ai-agent")


async def get_metrics(request: Request) -> Response:
    """The metrics in Prometheus's text format, at the path that the settings name."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
