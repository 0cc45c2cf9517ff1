"""What a driver sends and waits for the answer to, read from libpq's trace: a listener to the engine would change it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine


@contextmanager
def traced(driver: Any) -> Iterator[list[str]]:
    """Collect what a driver's connection waits for the answer to: the text of a statement, or nothing where it has parameters."""
    sent: list[str] = []
    with tempfile.TemporaryFile("w+") as trace:
        driver.pgconn.trace(trace.fileno())
        try:
            yield sent
        finally:
            driver.pgconn.untrace()
        trace.seek(0)
        for line in trace:  # of a statement that has several, the others look otherwise
            _, sender, _, message, *rest = [*line.split("\t"), "", "", "", ""]
            if sender == "F" and message.strip() in {"Query", "Sync"}:
                sent.append(rest[0].strip().strip('"'))


@contextmanager
def round_trips(engine: Engine) -> Iterator[list[str]]:
    """As :func:`traced`, of an engine that has one connection."""
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
    with traced(driver) as sent:
        yield sent
