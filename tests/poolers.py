"""PgBouncer, as Debian packages it, in front of a test's PostgreSQL."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, make_url

from tests.processes import end, finish, start

HOW_TO_INSTALL = "PgBouncer is not installed: apt-get install pgbouncer"
_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
_SETTINGS = """
[databases]
{database} = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
{more}
"""


def program() -> str:
    """Find PgBouncer; without it a test is skipped, or fails where CI is set.

    ``PGBOUNCER`` names another one than the system's.
    """
    found = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=os.pathsep.join((os.defpath, *_FOLDERS)))
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    return found


def version() -> tuple[int, ...]:
    """Tell which PgBouncer it is, such as (1, 21)."""
    output = finish([program(), "--version"]).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", output)
    assert found is not None, output
    return tuple(map(int, found.groups()))


def losing_prepared_statements() -> str:
    """Settings with which clients meet each other's prepared statements, as they do by themselves before 1.21."""
    return "max_prepared_statements = 0" if version() >= (1, 21) else ""


@contextmanager
def pooled(server_url: str, *, pool_size: int = 4, more: str = "") -> Iterator[URL]:
    """Run a PgBouncer in transaction mode for the block: the URL of a database through it.

    Args:
        server_url: The database itself.
        pool_size: Connections to the database, at most. Few, so that clients get each other's.
        more: Further settings.
    """
    url = make_url(server_url)
    folder = Path(tempfile.mkdtemp(prefix="sa_eventsource_pgbouncer_"))
    port = _free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        _SETTINGS.format(database=url.database, server=_server(url), port=port, pool_size=pool_size, more=more), encoding="utf-8"
    )
    command = [program(), "--quiet", settings]
    if os.geteuid() == 0:  # as whom it does not run
        folder.chmod(0o755)
        command[1:1] = ["--user", _owner_of_socket(url)]
    with (folder / "log").open("wb") as log:
        process = start(command, stdout=log, stderr=log)
    through = URL.create("postgresql+psycopg", url.username or "postgres", None, "127.0.0.1", port, url.database)
    try:
        _wait(through, folder / "log")
        yield through
    finally:
        end(process)
        shutil.rmtree(folder)


def _server(url: URL) -> str:
    """Write where the server is, as in a connection string; every client becomes one user there."""
    query = {key: value for key, value in url.query.items() if isinstance(value, str)}
    parts = {
        "host": url.host or query.get("host", "127.0.0.1"),
        "port": url.port or query.get("port"),
        "user": url.username or "postgres",
        "password": url.password,
        "dbname": url.database,
    }
    return " ".join(f"{key}={value}" for key, value in parts.items() if value)


def _owner_of_socket(url: URL) -> str:
    """Find a user who may use the server's socket; any will do where it listens on TCP."""
    host = url.query.get("host", "")
    return Path(host).owner() if isinstance(host, str) and host.startswith("/") else "nobody"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait(url: URL, log: Path) -> None:
    end_of_wait = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)).close()
        except psycopg.OperationalError:
            assert time.monotonic() < end_of_wait, log.read_text(encoding="utf-8")
            time.sleep(0.02)
        else:
            return
