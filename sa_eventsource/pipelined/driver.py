"""Connections of psycopg's that send BEGIN with the first statement, and may hold statements back until the next one.

Whatever psycopg sends, a COPY or a cursor of the server's own, passes ``_start_query``: what is held is sent before.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import adapt
from psycopg._connection_base import BaseConnection
from psycopg._cursor_base import BaseCursor
from psycopg.pq import TransactionStatus

from sa_eventsource.pipelined.exchange import Command, Statement, exchange

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from psycopg.pq.abc import PGresult

_IDLE = TransactionStatus.IDLE
_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
_SINGLE = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|VALUES)\b", re.IGNORECASE)


class _HoldingConnection(BaseConnection[Any]):
    """What both kinds of connections have in common."""

    cursor_factory: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.held: list[Statement] = []
        self.is_holding = False
        self.owner: Any = None
        self.is_joining = False
        """Whether a cursor of this module sends BEGIN itself, with its statement."""

    def can_hold(self) -> bool:
        """Check whether its cursors can hold statements, and it the COMMIT behind them.

        Cursors of another ``cursor_factory`` cannot. In a pipeline of the driver's, or a block of its ``transaction()``, which
        refuses a COMMIT, all goes as the driver has it.
        """
        factory = self.cursor_factory
        is_within = self._pipeline or self._num_transactions or self._tpc
        return not is_within and isinstance(factory, type) and issubclass(factory, _HoldingCursor)

    def owes_begin(self) -> bool:
        """Check whether a transaction begins with the next statement."""
        return not self._autocommit and self.pgconn.transaction_status == _IDLE

    def exchange(self, *last: Command | Statement) -> Generator[Any, Any, list[PGresult]]:
        """Send what is held with what is given, and with BEGIN where that is due."""
        batch = [*self.held, *last]
        self.held.clear()
        if self.owes_begin():
            batch.insert(0, Command(self._get_tx_start_command(), begins=batch[0]))
        return (yield from exchange(self, batch))

    def send_held(self) -> Generator[Any, Any, None]:
        """Send what is held, and wait."""
        if self.held:
            yield from self.exchange()

    def _start_query(self) -> Generator[Any, Any, None]:
        if not self.is_joining:
            yield from self.send_held()
            yield from super()._start_query()

    def _commit_gen(self) -> Generator[Any, Any, None]:
        if not self.held:
            yield from super()._commit_gen()
            return
        try:
            yield from self.exchange(Command(b"COMMIT", is_commit=True))
        except psycopg.Error:
            if self.pgconn.transaction_status in _OPEN:
                # The COMMIT was skipped, or not sent. One that fails ends its transaction: SQLAlchemy sends no ROLLBACK behind it.
                yield from super()._rollback_gen()
            raise

    def _rollback_gen(self) -> Generator[Any, Any, None]:
        # An interrupt may have come before whoever told it to hold could take that back; the pool rolls back in any case.
        self.is_holding = False
        self.owner = None
        self.held.clear()
        yield from super()._rollback_gen()


class _HoldingCursor(BaseCursor[Any, Any]):
    """What both kinds of cursors have in common."""

    _conn: Any

    def hold(self, query: str, parameters: Any) -> None:
        """Have a statement sent with the next one. Its parameters are written as the server takes them at once.

        Raises:
            psycopg.Error: They cannot be.
        """
        self._tx = adapt.Transformer(self)
        self._conn.held.append(self._statement(query, parameters, owner=self._conn.owner))

    def _statement(self, query: Any, parameters: Any, prepare: Any = None, binary: Any = None, owner: Any = None) -> Statement:
        format_ = self.format if binary is None else psycopg.pq.Format(binary)
        self._query = self._convert_query(query, parameters)
        return Statement(self._conn, self._query, text=query, parameters=parameters, prepare=prepare, format_=format_, owner=owner)

    def _execute_gen(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Generator[Any, Any, None]:
        connection = self._conn
        if connection._pipeline or not (connection.held or connection.owes_begin()) or not _may_join(query):  # noqa: SLF001
            yield from super()._execute_gen(query, params, prepare=prepare, binary=binary)
            return
        connection.is_joining = True
        try:
            yield from self._start_query(query)
        finally:
            connection.is_joining = False
        results = yield from connection.exchange(self._statement(query, params, prepare, binary))
        self._check_results(results)
        self._set_results(results)
        self._last_query = query
        yield from connection._prepared.maintain_gen(connection)  # noqa: SLF001


def _may_join(query: Any) -> bool:
    if not isinstance(query, str):
        return False
    return _is_known_single(query) if len(query) <= _LONG else _is_single(query)


_LONG = 4096
"""Characters of a text that is kept, as in psycopg: an INSERT of many rows has hundreds of thousands, and seldom comes again."""


def _is_single(text: str) -> bool:
    """Check whether a text is certainly one statement, and one that can be sent with others.

    A COPY cannot, nor can several statements: psycopg sends these by themselves, where the text has no placeholders, whatever
    parameters it is given. A semicolon within a string is not told from one between statements; it costs a round trip.
    """
    return _SINGLE.match(text) is not None and ";" not in text.rstrip("; \t\r\n")


_is_known_single = lru_cache(500)(_is_single)


class PipelinedCursor(_HoldingCursor, psycopg.Cursor[Any]):
    """Cursor of :class:`PipelinedConnection`."""

    def executemany(self, query: Any, params_seq: Iterable[Any], *, returning: bool = False) -> None:
        """Execute the same statement with many sets of parameters, by psycopg's own pipeline."""
        self._conn.settle()
        super().executemany(query, params_seq, returning=returning)


class AsyncPipelinedCursor(_HoldingCursor, psycopg.AsyncCursor[Any]):
    """Cursor of :class:`AsyncPipelinedConnection`."""

    async def executemany(self, query: Any, params_seq: Iterable[Any], *, returning: bool = False) -> None:
        """Execute the same statement with many sets of parameters, by psycopg's own pipeline."""
        await self._conn.settle()
        await super().executemany(query, params_seq, returning=returning)


class PipelinedConnection(_HoldingConnection, psycopg.Connection[Any]):
    """Connection for threads."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Wrap libpq's connection."""
        super().__init__(*arguments, **options)
        self.cursor_factory = PipelinedCursor

    def settle(self) -> None:
        """Send what is held, and wait."""
        if self.held:
            with self.lock:
                self.wait(self.send_held())


class AsyncPipelinedConnection(_HoldingConnection, psycopg.AsyncConnection[Any]):
    """Connection for asyncio."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Wrap libpq's connection."""
        super().__init__(*arguments, **options)
        self.cursor_factory = AsyncPipelinedCursor

    async def settle(self) -> None:
        """Send what is held, and wait."""
        if self.held:
            async with self.lock:
                await self.wait(self.send_held())
