"""Swagger UI at `/docs`. Every file is in this package, so it needs no internet and runs under a strict policy."""

import hashlib
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

STATIC = Path(__file__).parents[1] / "static"
files = StaticFiles(directory=STATIC)

# The page holds the user's token, so only the service's own scripts run in it, and nobody may frame it. Swagger UI's
# style sheet holds its icons as data: URLs.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _url(name: str) -> str:
    """The file's URL: relative, because a proxy may add a prefix, and with a digest, which changes with the file."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"docs/static/{name}?{digest[:16]}"


PAGE = f"""\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>ai-agent - Swagger UI</title>
    <link rel="stylesheet" href="{_url("swagger-ui/swagger-ui.css")}">
    <link rel="stylesheet" href="{_url("swagger-ui/index.css")}">
    <link rel="icon" type="image/png" href="{_url("swagger-ui/favicon-32x32.png")}">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <noscript>This page needs JavaScript; <a href="openapi.json">the OpenAPI document</a> does not.</noscript>
    <script src="{_url("swagger-ui/swagger-ui-bundle.js")}"></script>
    <script src="{_url("docs.js")}"></script>
  </body>
</html>
"""


@router.get("/")
async def lead_to_docs() -> Response:
    return RedirectResponse("docs")  # Relative, so it holds behind a proxy's prefix too.


@router.get("/docs")
async def show_docs() -> HTMLResponse:
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


@router.get("/docs/static/{path:path}")
async def get_file(path: str, request: Request) -> Response:
    if path.endswith("/"):
        raise HTTPException(404)  # Starlette would serve the file without the slash.
    response = await files.get_response(path, request.scope)
    # A browser need never ask for it again, because the page names another URL when the file changes.
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response
