# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build
# More of what pyproject.toml offers: --build-arg EXTRAS="--extra tracing --extra assistant"
ARG EXTRAS=""
COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /bin/
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /app
# The dependencies change less often than the source, so they are a layer of their own.
COPY pyproject.toml uv.lock ./
# hadolint ignore=SC2086
RUN uv sync --frozen --no-dev --no-install-project $EXTRAS
COPY README.md ./
COPY src src
COPY alembic alembic
# hadolint ignore=SC2086
RUN uv sync --frozen --no-dev --no-editable $EXTRAS

FROM python:3.13-slim
LABEL org.opencontainers.image.title="ai-agent" \
    org.opencontainers.image.version="0.2.0" \
    org.opencontainers.image.description="Keeps people's conversations in PostgreSQL."
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin service
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY alembic.ini ./
COPY alembic alembic
ENV PATH=/app/.venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The server's options are in src/ai_agent/server.py; variables like these two change them.
ENV UVICORN_HOST=0.0.0.0 UVICORN_PORT=8000
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-m", "ai_agent.healthcheck"]
CMD ["ai-agent-serve"]
