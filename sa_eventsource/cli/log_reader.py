"""Reading the log in batches: once, or on and on as events are committed."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from sa_eventsource.interrupts import uninterrupted
from sa_eventsource.store import current_snapshot, database_of, in_window, select_raw_events

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from sqlalchemy import Engine, Row, Table
    from sqlalchemy.sql import ColumnElement

_BATCH = 500


@dataclass(slots=True)
class LogReader:
    """Reads events that fulfil some conditions, by position, each once.

    On PostgreSQL, each reading takes what has become visible since the one before, whatever its position: an event of a long
    transaction is not passed over. On SQLite, which has one writer at a time, the position alone is enough.

    Attributes:
        engine: Where to read.
        events: The log.
        conditions: Conditions on its columns.
        remaining: How many events to read yet; None for all.
    """

    engine: Engine
    events: Table
    conditions: Sequence[ColumnElement[bool]] = ()
    remaining: int | None = None
    _since: str | None = None
    _after: int | None = None

    def read(self) -> Generator[Sequence[Row[Any]], None, None]:
        """Read what is there and was not read before, in batches, in bounded memory."""
        return self._pages() if self._since is None else self._window(self._since)

    def follow(self, interval: float) -> Generator[Sequence[Row[Any]], None, None]:
        """Go on reading, every so many seconds, until as many as wanted were read."""
        while True:
            yield from self.read()
            if self.remaining == 0:
                return
            time.sleep(interval)

    def _pages(self) -> Generator[Sequence[Row[Any]], None, None]:
        """Read from the beginning, or on SQLite from where the last reading ended, with a transaction for each batch.

        No transaction is open while a batch is printed, perhaps into a pager that somebody looks at for an hour.
        """
        with self.engine.connect() as connection:
            until = database_of(connection.dialect).snapshot(connection)
        visible = [] if until is None else in_window(self.events, has_start=False)
        parameters = {} if until is None else {"until": until}
        position = self.events.c.position
        while self.remaining != 0:
            size = _BATCH if self.remaining is None else min(_BATCH, self.remaining)
            statement = select_raw_events(self.events).where(*self.conditions, *visible).order_by(position).limit(size)
            if self._after is not None:
                statement = statement.where(position > self._after)
            with self.engine.connect() as connection:
                batch = connection.execute(statement, parameters).all()
            if batch:
                self._after = batch[-1].position
                yield self._counted(batch)
            if len(batch) < size:
                break
        self._since = until

    def _window(self, since: str) -> Generator[Sequence[Row[Any]], None, None]:
        """Read what has become visible since a snapshot of PostgreSQL.

        The whole window is asked for, without LIMIT and without the preference for first rows that cursors have: for either, the
        planner would walk through all of the log by position instead of going to the window's few transactions.
        """
        if self.remaining == 0:
            return
        statement = select_raw_events(self.events).where(*self.conditions, *in_window(self.events, has_start=True))
        with self.engine.connect() as connection:
            until = connection.scalar(select(current_snapshot()))
            connection.execute(text("SET LOCAL cursor_tuple_fraction = 1"))
            with ExitStack() as stack:
                with uninterrupted():  # an interrupt within would leave a cursor of the server's that nobody closes
                    result = connection.execute(
                        statement.order_by(self.events.c.position),
                        {"since": since, "until": until},
                        execution_options={"yield_per": _BATCH},
                    )
                    stack.enter_context(closing(result))
                for batch in result.partitions():
                    yield self._counted(batch[: self.remaining])
                    if self.remaining == 0:
                        return
        self._since = until

    def _counted(self, batch: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
        if self.remaining is not None:
            self.remaining -= len(batch)
        return batch
