"""Deleting rows that remember what was done long ago, where it is declared for how long they are kept."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, select, tuple_

from sa_eventsource.mapping import ALL_TENANTS, kept_rows
from sa_eventsource.store import database_of, message_of
from sa_eventsource.workers.companions import AsyncCompanion, Companion, Companionship
from sa_eventsource.workers.tenant_polling import sessions_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import KeptRows

log = logging.getLogger("sa_eventsource.worker")

NAME = "pruning"

AT_A_TIME = 10_000
"""Rows that one transaction deletes, at most."""

_EVERY = 3600.0
"""Seconds from one time to the next."""

_AGES = timedelta(days=365_000)
"""Longer ago than anything; what lies much further back, no database can compute."""


def is_old(connection: Connection, rows: KeptRows, older_than: timedelta) -> ColumnElement[bool]:
    """Select the rows that are older than so much, by the database's clock."""
    before = database_of(connection.dialect).moment_after(-min(older_than, _AGES))
    return and_(rows.condition, rows.moment <= before)


def delete_some(session: Session, rows: KeptRows, older_than: timedelta, bind_arguments: dict[str, Any]) -> int:
    """Delete some rows that are older, and commit; those that another transaction deletes are left to it.

    Args:
        session: A session without a transaction in progress.
        rows: The rows.
        older_than: How old they are at least, by the database's clock.
        bind_arguments: What tells a session with several binds which to use.

    Returns:
        How many; 0 if there are none left.
    """
    connection = session.connection(bind_arguments=bind_arguments)
    key = list(rows.table.primary_key.columns)
    old = select(*key).where(is_old(connection, rows, older_than)).limit(AT_A_TIME).with_for_update(skip_locked=True)
    number = connection.execute(delete(rows.table).where(tuple_(*key).in_(old))).rowcount
    session.commit()
    return number


class Pruning(Companion):
    """Deletes old rows in a worker's thread, when it begins and every hour."""

    name = NAME

    def __init__(self, worker: Companionship, rows: Sequence[KeptRows]) -> None:
        """Take the worker's sessions."""
        self._worker, self._rows = of_all(worker), rows
        self._woken = threading.Event()

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Delete, and wait."""
        due = time.monotonic()
        while not is_stopping():
            if time.monotonic() >= due:
                self._prune(is_stopping)
                due = time.monotonic() + _EVERY
            self._woken.wait(max(0.0, due - time.monotonic()))
            self._woken.clear()

    def run_once(self) -> None:
        """Delete what is old; what cannot be deleted is logged."""
        self._prune(lambda: False)

    def wake(self) -> None:
        """Look whether it is time to stop; a commit makes nothing old."""
        self._woken.set()

    def _prune(self, is_stopping: Callable[[], bool]) -> None:
        for each in self._rows:
            try:
                with self._worker.sessions() as session:
                    while not is_stopping() and delete_some(session, each, each.keep, _bind(self._worker, each)):
                        pass
            except Exception as error:  # noqa: BLE001 - nothing else depends on it, nor do the rows of another table
                _say(each, error)


class AsyncPruning(AsyncCompanion):
    """Deletes old rows in a task of an asynchronous worker. As :class:`Pruning`."""

    name = NAME

    def __init__(self, worker: Companionship, rows: Sequence[KeptRows]) -> None:
        """Take the worker's sessions."""
        self._worker, self._rows = of_all(worker), rows

    async def run(self, stop: asyncio.Event) -> None:
        """Delete, and wait."""
        while not stop.is_set():
            await self._prune(stop)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _EVERY)

    async def run_once(self) -> None:
        """Delete what is old."""
        await self._prune(asyncio.Event())

    async def _prune(self, stop: asyncio.Event) -> None:
        for each in self._rows:
            try:
                async with self._worker.sessions() as session:
                    while not stop.is_set() and await session.run_sync(delete_some, each, each.keep, _bind(self._worker, each)):
                        pass
            except Exception as error:  # noqa: BLE001 - as for Pruning
                _say(each, error)


def pruning(worker: Companionship) -> Pruning | None:
    """Delete old rows alongside a worker, if it is declared for how long some are kept."""
    rows = kept_rows(worker.tables.events.metadata)
    return Pruning(worker, rows) if rows else None


def async_pruning(worker: Companionship) -> AsyncPruning | None:
    """Delete old rows alongside an asynchronous worker. As :func:`pruning`."""
    rows = kept_rows(worker.tables.events.metadata)
    return AsyncPruning(worker, rows) if rows else None


def of_all(worker: Companionship) -> Companionship:
    """Have a worker's sessions see the rows of all tenants, where they share the tables."""
    return replace(worker, sessions=sessions_for(worker.sessions, ALL_TENANTS)) if worker.is_for_all else worker


def _bind(worker: Companionship, rows: KeptRows) -> dict[str, Any]:
    return worker.tables.bind_arguments if rows.table is worker.tables.commands else {"clause": rows.table}


def _say(rows: KeptRows, error: Exception) -> None:
    log.warning("old rows could not be deleted from %s; next attempt in an hour: %s", rows.table, message_of(error))
