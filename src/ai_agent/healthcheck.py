"""`python -m ai_agent.healthcheck`: exits with 0 if the server of this container is alive, else with 1."""

import http.client
import os
import socket
import sys


def main() -> int:
    """Ask `/health` at the address in the UVICORN_ variables, never through a proxy; return the exit status."""
    path = os.environ.get("UVICORN_UDS")
    host = os.environ.get("UVICORN_HOST", "127.0.0.1")
    port = os.environ.get("UVICORN_PORT", "8000")
    listens_everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    connection = http.client.HTTPConnection(listens_everywhere.get(host, host), int(port), timeout=2)
    try:
        if path:
            connection.sock = _connect(path)
        connection.request("GET", "/health")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"{path or f'{host} port {port}'} does not answer: {error!r}\n")
        return 1


def _connect(path: str) -> socket.socket:
    unix = socket.socket(socket.AF_UNIX)
    unix.settimeout(2)
    unix.connect(path)
    return unix


if __name__ == "__main__":
    sys.exit(main())
