"""Statements of the hot path: built with SQLAlchemy once, then given to psycopg as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, CursorResult
    from sqlalchemy.engine import Dialect


class DriverStatement:
    """A Core statement that skips Core's per-execution work where its parameters need none.

    On psycopg, the text is compiled once per dialect and run by ``exec_driver_sql``: events, echo and instrumentation of the engine
    see it as ever. Elsewhere, and under ``schema_translate_map``, Core executes the statement itself.
    """

    def __init__(self, statement: Any) -> None:
        """Keep the statement. All its bound parameters must be given to :meth:`execute`, as values psycopg takes as they are."""
        self._statement = statement
        self._texts: dict[type[Dialect], str] = {}

    def execute(self, connection: Connection, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> CursorResult[Any]:
        """Execute with one or many sets of parameters."""
        dialect = connection.dialect
        if dialect.driver not in ("psycopg", "psycopg_async") or "schema_translate_map" in connection.get_execution_options():
            return connection.execute(self._statement, parameters)
        kind = type(dialect)
        if kind not in self._texts:
            self._texts[kind] = str(self._statement.compile(dialect=dialect))
        return connection.exec_driver_sql(self._texts[kind], parameters, execution_options=_KEEP_COUNT)


_KEEP_COUNT = {"preserve_rowcount": True}
