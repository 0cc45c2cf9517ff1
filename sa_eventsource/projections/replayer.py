"""Replaying the log: rebuilding read models whole or in part, sending subscriptions back, retiring what is no longer declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, delete, select, text

from sa_eventsource.checkpoints import any_bind, remove_checkpoints
from sa_eventsource.consumers import consumers_on
from sa_eventsource.exceptions import DeclarationError, UnknownNameError
from sa_eventsource.mapping import session_maker, tables_of_base
from sa_eventsource.projections.catching_up import catch_up
from sa_eventsource.projections.forgotten_events import warn_of_forgotten_types
from sa_eventsource.projections.rebuild import rebuild
from sa_eventsource.projections.rebuild_rows import keys_between, rebuild_rows, refuse_handlers
from sa_eventsource.projections.rewind import rewind
from sa_eventsource.projections.stretches import check_stretch, keys_of_rows
from sa_eventsource.projections.time_outs import release_time_outs
from sa_eventsource.projections.transaction import reading
from sa_eventsource.read_models import definition_of, versioned_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from sqlalchemy.orm import Session, sessionmaker

    from sa_eventsource.consumers import Place


class EventReplayer:
    """Rebuilds read models from the log, and sends subscriptions back in it, while the application runs.

    Example: ``EventReplayer(engine, Base).rebuild(OrderReadModel)``

    Its transactions are its own, on connections of its own.
    """

    def __init__(self, sessions: Engine | sessionmaker[Session], base: Any) -> None:
        """Choose the database and the models.

        Args:
            sessions: An engine, or what makes sessions where these need more than that.
            base: The declarative base of the models.
        """
        self._sessions = session_maker("EventReplayer()", sessions)
        self._tables = tables_of_base("EventReplayer()", base)

    def catch_up(self, model: type[Any]) -> int:
        """Let a model take the events that it has not taken yet; return how many. As ``ReadModelManager.catch_up``."""
        definition = definition_of(model)
        with self._sessions() as session:
            return 0 if definition.is_strong else catch_up(session, definition)

    def rebuild(self, model: type[Any], *, progress: Callable[[int], None] | None = None) -> int:
        """Rebuild a model's rows from the whole log, in one transaction: readers see the old rows until it commits.

        Writers go on; what they commit in the meantime is caught up with afterwards, by whoever follows. For a strong model they
        wait until it is done. Interrupted, all is as it was. What the model has parked stays parked. Events whose type no class
        declares are left out, and the logger ``sa_eventsource.rebuild`` warns of them. Rows that Python works out, those of
        ``@evolves`` methods and all on SQLite, are kept in memory, up to 50,000; with more, they are written and let go meanwhile.

        Args:
            model: The read model.
            progress: Called with the number of events taken so far.

        Returns:
            The number of events taken.

        Raises:
            DeclarationError: *model* is no mapped read model.
            ReadModelError: A method raised, or the database refused a row. The old rows are still there.
        """
        definition = definition_of(model)
        with self._sessions() as session:
            number = rebuild(session, definition, progress=progress)
            with reading(session, definition) as connection:
                warn_of_forgotten_types(connection, definition.tables, definition.name)
        return number

    def rebuild_rows(self, model: type[Any], keys: Iterable[Any]) -> int:
        """Rebuild some rows, from all events that the model has taken, in one transaction.

        Where a part of the key is the aggregate's id as text, the rows' streams are read; else the whole log is.

        Args:
            model: The read model, without ``@handles`` methods.
            keys: The rows' primary keys, as for ``session.get``: a value each, or a tuple where the key has several parts.

        Returns:
            The number of rows that there are of these keys now.

        Raises:
            DeclarationError: *model* is no mapped read model, or has ``@handles`` methods.
            ReadModelChangedError: The rows were made under another declaration.
            TypeError: *keys* are no keys of the model.
            ValueError: A key is a text that cannot be read as its type, such as a UUID.
        """
        definition = definition_of(model)
        refuse_handlers(definition)
        identities = keys_of_rows(definition, keys)
        with self._sessions() as session:
            return rebuild_rows(session, definition, identities)

    def rebuild_between(
        self,
        model: type[Any],
        *,
        positions: tuple[int, int] | None = None,
        times: tuple[datetime, datetime] | None = None,
    ) -> int:
        """Rebuild the rows that the events of a stretch of the log belong to, in one transaction.

        Each row is made from all its events, not only from those of the stretch.

        Args:
            model: The read model, without ``@handles`` methods.
            positions: The first and the last position of the stretch.
            times: The time at which it begins, and the one before which it ends; both aware.

        Returns:
            The number of rows that were rebuilt.

        Raises:
            DeclarationError: *model* is no mapped read model, or has ``@handles`` methods.
            TypeError: *positions* are not two whole numbers, or *times* not two times.
            ValueError: Neither positions nor times are given, a position is negative, a time is naive, or the end comes before the
                beginning.
            ReadModelChangedError: The rows were made under another declaration.
        """
        positions, times = check_stretch(positions, times)
        definition = definition_of(model)
        refuse_handlers(definition)
        with self._sessions() as session:
            keys = keys_between(session, definition, positions=positions, times=times)
            return rebuild_rows(session, definition, keys)

    def rewind(self, name: str, to: Place) -> int:
        """Send a subscription or a reader back, while workers run: it takes the events after a place in the log again.

        What it does elsewhere happens again. It waits for the batch under way. What the subscription had yet to take it still has,
        and no place lets it leave anything out. Streams that it has parked stay parked; if it had stopped at an event, it comes
        to it again. In the middle of a backlog it may go back further than was asked for.

        Args:
            name: The name of the subscription, or that given to :meth:`EventStore.follow() <sa_eventsource.EventStore.follow>`.
            to: ``"beginning"``; a time, with a time zone: before the first event that was recorded then or later; or a position:
                after it. If there is nothing after the place, nothing is taken again.

        Returns:
            The number of events that it has to take now, again or for the first time.

        Raises:
            UnknownNameError: There is no subscription and no reader of that name; a read model is rebuilt instead.
            MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
            TypeError: *to* is neither.
            ValueError: *to* is a negative number, or a time without a time zone.
        """
        with self._sessions() as session:
            return rewind(session, self._tables, name, to).to_take

    def retire(self, name: str, version: int = 1) -> int:
        """Drop what a former version of a read model, or a subscription or a reader that is no longer there, has left behind.

        That is its checkpoint, what it has parked, and its rows in the shared table, in one transaction. A table or an index of
        its own goes with the next ``alembic revision --autogenerate``. Time-outs that a former process manager has scheduled wait
        for it no longer, and are run when they are due, as other commands.

        Args:
            name: Its ``__projection_name__``, or the name of the subscription or the reader.
            version: Its ``__version__``.

        Returns:
            The number of rows that were deleted from the shared table.

        Raises:
            DeclarationError: The code declares that version: deploy code that does not, everywhere, before retiring it.
            UnknownNameError: Nothing is kept under the name.
            TypeError: *name* is no text.
        """
        if not isinstance(name, str):
            raise TypeError(f"retire() takes the name that something is kept under, such as 'order_list', not {name!r}")
        stored = versioned_name("EventReplayer.retire()", name, version)
        declared = {*self._tables.read_models, *(consumer.name for consumer in consumers_on(self._tables))}
        if stored in declared:
            raise DeclarationError(
                f"{name!r} version {version} is what the code declares; only what it no longer declares can be retired"
            )
        tables = self._tables
        projections, parked = tables.projections, tables.parked_events
        with self._sessions() as session:
            connection = session.connection(bind_arguments=any_bind(tables))
            left = remove_checkpoints(connection, tables, stored)
            left += connection.execute(delete(parked).where(parked.c.projection_name == stored)).rowcount
            left += release_time_outs(connection, tables, stored)
            number = connection.execute(delete(projections).where(projections.c.projection_name == stored)).rowcount
            if not left + number:
                kept = connection.scalars(select(tables.projection_positions.c.projection_name).order_by(text("1"))).all()
                raise UnknownNameError(
                    f"nothing is kept under the name {name!r}, version {version}. There are: {', '.join(kept) or 'none'}",
                    name,
                    kept,
                )
            session.commit()
        return number
