"""What happens before the first request and after the last one."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from ai_agent import logs, metrics, open_files, tracing
from ai_agent.config import Settings, find_mistyped
from ai_agent.database.connection import Connection
from ai_agent.database.pool import close_engine
from ai_agent.errors import DatabaseNotReady, DatabaseUnavailable
from ai_agent.services import readiness
from ai_agent.services.assistant import tasks

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Set logging up and warn of what an operator should change; at the end stop the runs, then close the pool."""
    settings: Settings = app.state.settings
    logs.configure(settings.log_level, settings.log_format)
    for sentence in find_mistyped():
        logger.warning(sentence)
    open_files.warn_of_few()
    if settings.metrics_path != "off" and metrics.is_one_of_several():
        logger.warning(metrics.SEVERAL_WORKERS)
    if app.state.runs is not None:
        tasks.guard(asyncio.get_running_loop())
        logger.info("replies come from %s", settings.assistant)
    await _log_what_is_missing(app)
    yield
    if app.state.runs is not None:
        await app.state.runs.close()
    await close_engine(app.state.engine)
    if tracing.is_wanted():
        tracing.flush()


async def _log_what_is_missing(app: FastAPI) -> None:
    """Log now what `/health/ready` would say. The service starts all the same, and serves once nothing is missing."""
    try:
        async with Connection(app.state.engine, app.state.settings.database_timeout) as connection:
            warning = await readiness.check(connection)
    except DatabaseNotReady as lack:
        logger.error("Not ready: %s", lack.detail)  # noqa: TRY400  # A traceback would say no more.
    except DatabaseUnavailable as error:
        if error.cause == "refused":  # Otherwise the database may be starting, and later requests log it.
            logger.error("Not ready: the database refuses: %r", error.__cause__)  # noqa: TRY400
    else:
        if warning is not None:
            logger.warning(warning)
