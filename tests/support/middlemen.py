"""PgBouncer before the database, HAProxy and nginx before the services, each as a process of its own."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ai_agent.local.postgres import free_port
from ai_agent.local.programs import find_launcher
from tests.support.waiting import wait_until_ready

# Debian installs all three in a folder that is only on root's PATH.
PATH = os.environ["PATH"] + ":/usr/sbin"

# Root's tests start them as `nobody`, and they read their settings in a folder that only root may enter.
READ_ALL = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override")


@contextmanager
def run_pgbouncer(folder: Path, server_url: str, *settings: str) -> Iterator[str]:
    """Pool the server's connections in transaction mode, 4 for each database, and yield the pooler's URL.

    The log is `pgbouncer.log` in the folder.
    """
    server, port = urlsplit(server_url), free_port()
    (folder / "users.txt").write_text(f'"{server.username}" "{server.password}"\n')
    lines = (
        "[databases]",
        f"* = host={server.hostname} port={server.port}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {folder}/users.txt",
        "pool_mode = transaction",
        "default_pool_size = 4",
        *settings,
    )
    (folder / "pgbouncer.ini").write_text("\n".join(lines))
    with _run("pgbouncer", folder / "pgbouncer.ini", port=port, log=folder / "pgbouncer.log"):
        yield server._replace(netloc=f"{server.username}:{server.password}@127.0.0.1:{port}").geturl()


@contextmanager
def run_haproxy(folder: Path, *service_urls: str) -> Iterator[str]:
    """Balance requests over the services that are ready, in turn, and yield the balancer's URL."""
    port = free_port()
    lines = (
        "defaults",
        "  mode http",
        "  timeout connect 1s",
        "  timeout client 30s",
        "  timeout server 30s",
        "listen service",
        f"  bind 127.0.0.1:{port}",
        "  balance roundrobin",
        "  option httpchk GET /health/ready",
        "  default-server check inter 200ms fall 2 rise 1",
        "  option redispatch 1",
        *(f"  server replica-{number} {urlsplit(url).netloc}" for number, url in enumerate(service_urls)),
    )
    (folder / "haproxy.cfg").write_text("\n".join(lines) + "\n")
    with _run("haproxy", "-db", "-f", folder / "haproxy.cfg", port=port, log=folder / "haproxy.log"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def run_nginx(folder: Path, service_url: str) -> Iterator[str]:
    """Forward to the service below the prefix `/chat`, with a cache that keeps whatever may be kept."""
    port, temporary = free_port(), ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    lines = (
        "daemon off;",
        *("user root;" if os.getuid() == 0 else "",),  # Its workers must reach the test's folder.
        "error_log stderr;",
        f"pid {folder}/nginx.pid;",
        "events {}",
        "http {",
        f"  proxy_cache_path {folder}/cache keys_zone=all:1m;",
        "  access_log off;",
        *(f"  {name}_temp_path {folder}/{name};" for name in temporary),
        f"  upstream service {{ server {urlsplit(service_url).netloc}; keepalive 4; }}",
        "  server {",
        f"    listen 127.0.0.1:{port};",
        "    location /chat/ {",
        "      proxy_pass http://service/;",
        "      proxy_http_version 1.1;",
        '      proxy_set_header Connection "";',
        "      proxy_set_header Host $http_host;",
        "      proxy_set_header X-Forwarded-Proto https;",
        "      proxy_set_header X-Forwarded-For $remote_addr;",
        "      proxy_cache all;",
        "      proxy_cache_valid any 1m;",
        "      add_header X-Cache $upstream_cache_status always;",
        "    }",
        "  }",
        "}",
    )
    (folder / "nginx.conf").write_text("\n".join(lines) + "\n")
    arguments = ("-p", folder, "-e", "stderr", "-c", folder / "nginx.conf")
    with _run("nginx", *arguments, port=port, log=folder / "nginx.log"):
        yield f"http://127.0.0.1:{port}/chat"


@contextmanager
def run_database_balancer(folder: Path, servers: dict[int, int]) -> Iterator[int]:
    """Lead to the PostgreSQL server that takes writes, and yield the balancer's port.

    `servers` maps the port of each server to the port where HTTP says whether the server takes writes.
    """
    port = free_port()
    lines = (
        "defaults",
        "  mode tcp",
        "  timeout connect 1s",
        "  timeout client 30m",
        "  timeout server 30m",
        "listen primary",
        f"  bind 127.0.0.1:{port}",
        "  option httpchk GET /primary",
        "  default-server check inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions",
        *(f"  server db-{server} 127.0.0.1:{server} check port {told}" for server, told in servers.items()),
    )
    (folder / "balancer.cfg").write_text("\n".join(lines) + "\n")
    with _run("haproxy", "-db", "-f", folder / "balancer.cfg", port=port, log=folder / "balancer.log"):
        yield port


@contextmanager
def _run(program: str, *arguments: str | Path, port: int, log: Path) -> Iterator[None]:
    executable = shutil.which(program, path=PATH)
    if executable is None:
        pytest.skip(f"{program} is not installed")
    with log.open("w") as output:
        process = subprocess.Popen([*find_launcher(*READ_ALL), executable, *arguments], stdout=output, stderr=output)
    try:
        wait_until_ready(process, lambda: _accepts_connections(port), log)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _accepts_connections(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False
