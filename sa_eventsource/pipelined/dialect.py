"""``postgresql+psycopg_pipelined://``: SQLAlchemy's dialect for psycopg with connections of ours.

All else is as in that dialect, ``engine.dialect.driver`` included: the driver is psycopg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import NotSupportedError, Pipeline
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg
from sqlalchemy.util import await_only

from sa_eventsource.pipelined.driver import AsyncPipelinedConnection, PipelinedConnection
from sa_eventsource.pipelined.holding import MAY_BE_HELD, held_by

if TYPE_CHECKING:
    from sqlalchemy import URL


class _Holding(PGDialect_psycopg):
    """What the dialects for threads and for asyncio have in common."""

    supports_statement_cache = True

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Execute a statement, or hold it where it may be and its connection is told to."""
        if context is not None and MAY_BE_HELD in context.execution_options:
            own = getattr(cursor, "_cursor", cursor)
            connection = held_by(own.connection)
            if connection is not None and connection.is_holding and hasattr(own, "hold"):
                own.hold(statement, parameters)
                return
        super().do_execute(cursor, statement, parameters, context)  # type: ignore[no-untyped-call]

    @classmethod
    def get_async_dialect_cls(cls, url: URL) -> type[PGDialectAsync_psycopg]:  # noqa: ARG003 - SQLAlchemy's
        """Get the dialect for ``create_async_engine``."""
        return AsyncPipelinedDialect


class PipelinedDialect(_Holding):
    """Dialect for threads."""

    supports_statement_cache = True

    def connect(self, *arguments: Any, **options: Any) -> Any:
        """Open a connection.

        Raises:
            NotSupportedError: libpq is older than 14.
        """
        _require_pipelines()
        return PipelinedConnection.connect(*arguments, **options)

    def do_settle(self, dbapi_connection: Any) -> None:
        """Send what a connection holds, and wait."""
        dbapi_connection.settle()


class AsyncPipelinedDialect(_Holding, PGDialectAsync_psycopg):
    """Dialect for asyncio."""

    supports_statement_cache = True

    def connect(self, *arguments: Any, **options: Any) -> Any:
        """Open a connection. As :meth:`PipelinedDialect.connect`."""
        _require_pipelines()
        options.setdefault("async_creator_fn", AsyncPipelinedConnection.connect)
        return super().connect(*arguments, **options)

    def do_settle(self, dbapi_connection: Any) -> None:
        """Send what a connection holds, and wait."""
        await_only(self.get_driver_connection(dbapi_connection).settle())  # type: ignore[no-untyped-call]


def _require_pipelines() -> None:
    if not Pipeline.is_supported():
        raise NotSupportedError(
            "postgresql+psycopg_pipelined:// needs libpq 14 or newer: install psycopg[binary], which brings one, or use "
            "postgresql+psycopg://"
        )
