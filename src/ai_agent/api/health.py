"""Liveness and readiness, for operators and their load balancers."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from ai_agent.api.responses import describe
from ai_agent.database.connection import open_session
from ai_agent.errors import NotMigrated
from ai_agent.services import readiness

router = APIRouter(tags=["health"])


class HealthResponse(BaseModel):
    status: str
    service: str


@router.get(
    "/health",
    operation_id="getHealth",
    summary="Is the process alive?",
    responses={200: {"content": {"application/json": {"example": {"status": "healthy", "service": "ai-agent"}}}}},
)
@router.head("/health", include_in_schema=False)
async def get_health() -> HealthResponse:
    """Answers as long as the process does. It never asks the database, so an outage restarts nothing."""
    return HealthResponse(status="healthy", service="ai-agent")


@router.get(
    "/health/ready",
    operation_id="getReadiness",
    summary="Can the service do its work?",
    responses={
        200: {"content": {"application/json": {"example": {"status": "ready", "service": "ai-agent"}}}},
        **describe(NotMigrated, "The database does not answer, or is not migrated; the text says which."),
    },
)
@router.head("/health/ready", include_in_schema=False)
async def get_readiness(request: Request) -> HealthResponse:
    """Asks the database whether it answers and has the migrations of this release."""
    async with open_session(request.app.state.engine, request.app.state.settings.database_timeout) as session:
        await readiness.check(session)
    return HealthResponse(status="ready", service="ai-agent")


async def get_metrics(request: Request) -> Response:
    """The metrics in Prometheus's text format, at the path that the settings name."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
