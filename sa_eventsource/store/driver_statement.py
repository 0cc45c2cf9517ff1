"""Statements of the hot path: built with SQLAlchemy once, then given to psycopg as text."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sa_eventsource.pipelined import MAY_BE_HELD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, CursorResult
    from sqlalchemy.engine import Dialect


class DriverStatement:
    """A Core statement that skips Core's per-execution work where its parameters need none.

    On psycopg, the text is compiled once per dialect and run by ``exec_driver_sql``: cursor events, echo and instrumentation of the
    engine see it as usual. Its parameters are positional, which psycopg sends with less work than named ones. Elsewhere, under
    ``schema_translate_map``, and where somebody listens to what Core executes, Core executes the statement itself.
    """

    def __init__(self, statement: Any) -> None:
        """Keep the statement. All its bound parameters must be given to :meth:`execute`, as values psycopg takes as they are."""
        self._statement = statement
        self._compiled: dict[type[Dialect], tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]]]] = {}

    def execute(
        self,
        connection: Connection,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        options: Mapping[str, Any] | None = None,
        may_be_held: bool = False,
    ) -> CursorResult[Any]:
        """Execute with one or many sets of parameters, and with the execution options of the statement that it belongs to.

        Args:
            connection: The connection.
            parameters: One or many sets.
            options: The options.
            may_be_held: Whether nobody reads the answer, not even its row count, so that the statement may be sent later.
        """
        dialect = connection.dialect
        if (
            options
            or dialect.driver not in ("psycopg", "psycopg_async")
            or "schema_translate_map" in connection.get_execution_options()
            or is_execution_heard(connection)
        ):
            return connection.execute(
                self._statement, parameters, execution_options=options or (_MAY_BE_HELD if may_be_held else {})
            )
        kind = type(dialect)
        if kind not in self._compiled:
            self._compiled[kind] = self._compile(dialect)
        text, in_order = self._compiled[kind]
        given: Any = list(map(in_order, parameters)) if isinstance(parameters, list) else in_order(parameters)  # type: ignore[arg-type]
        return connection.exec_driver_sql(text, given, execution_options=_MAY_BE_HELD if may_be_held else _KEEP_COUNT)

    def _compile(self, dialect: Dialect) -> tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
        positional: Any = type(dialect)
        compiled = self._statement.compile(dialect=positional(paramstyle="format"))
        names: list[str] = compiled.positiontup
        # itemgetter() makes the tuple without running Python code, but only where there is more than one name.
        return str(compiled), itemgetter(*names) if len(names) > 1 else lambda parameters: tuple(map(parameters.__getitem__, names))


def is_execution_heard(connection: Connection) -> bool:
    """Check whether somebody listens to ``before_execute`` or ``after_execute``, which are called for Core's statements only."""
    if not (connection._has_events or connection.engine._has_events):  # noqa: SLF001 - as SQLAlchemy asks, before it looks who
        return False
    return bool(connection.dispatch.before_execute) or bool(connection.dispatch.after_execute)


_KEEP_COUNT = {"preserve_rowcount": True}
_MAY_BE_HELD = {MAY_BE_HELD: True}
