"""The read models of an application: which there are, how far they have come, catching up and rebuilding."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource.mapping import tables_on
from sa_eventsource.projections import backlog, checkpoints
from sa_eventsource.projections.catch_up import begin, catch_up, rebuild
from sa_eventsource.read_models import definition_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sa_eventsource.read_models import Consistency, ReadModelDefinition


@dataclass(frozen=True, slots=True)
class ReadModelStatus:
    """How far one read model has come.

    Attributes:
        model: The class.
        name: The projection's name.
        consistency: ``"strong"`` or ``"eventual"``.
        event_types: Stored names of the event types that it takes.
        lag_events: How many events it has yet to take; 0 for a strong model.
        lag_seconds: How long ago the oldest of them occurred; 0.0 if there is none.
        processed_at: When it was last brought further or rebuilt, in UTC; None if never.
        is_outdated: Whether its rows were made under another declaration, so that it must be rebuilt.
    """

    model: type[Any]
    name: str
    consistency: Consistency
    event_types: tuple[str, ...]
    lag_events: int
    lag_seconds: float
    processed_at: datetime | None
    is_outdated: bool


class ReadModelManager:
    """Lists an application's read models, catches them up and rebuilds them.

    Example: ``ReadModelManager(engine, Base).catch_up()``

    Its transactions are its own, on connections of its own; several may run at the same time, on any machines: each model is
    worked on by one at a time.
    """

    def __init__(self, sessions: Engine | sessionmaker[Session], base: Any) -> None:
        """Choose the database and the models.

        Args:
            sessions: An engine, or what makes sessions where these need more than that.
            base: The declarative base of the models.
        """
        self._sessions = sessionmaker(sessions) if isinstance(sessions, Engine) else sessions
        self._tables = tables_on(base.metadata, getattr(base, "__eventsource__", None))

    @property
    def models(self) -> tuple[type[Any], ...]:
        """All read models of the declarative base, by name."""
        return tuple(definition.model for _, definition in sorted(self._tables.read_models.items()))

    def catch_up(self, model: type[Any] | None = None, *, batch_size: int | None = None) -> int:
        """Let a model, or all eventual ones, take the events that they have not taken yet.

        Args:
            model: The read model; None for all, by name.
            batch_size: Events in a transaction; None for what suits each model.

        Returns:
            The number of events taken, by all models together.

        Raises:
            DeclarationError: *model* is no mapped read model.
            ReadModelError: A handler raised, or the database refused a row. What was committed before stays; correct the cause and
                call it again.
            ReadModelChangedError: A model's rows were made under another declaration. Rebuild it.
        """
        with self._sessions() as session:
            return sum(catch_up(session, each, batch_size=batch_size) for each in self._chosen(model))

    def rebuild(self, model: type[Any], *, progress: Callable[[int], None] | None = None) -> int:
        """Make a model's rows anew from the whole log, in one transaction: readers see the old rows until it commits.

        While a strong model is rebuilt, writers of events wait.

        Args:
            model: The read model.
            progress: Called with the number of events taken so far.

        Returns:
            The number of events taken.

        Raises:
            DeclarationError: *model* is no mapped read model.
            ReadModelError: A handler raised, or the database refused a row. The old rows are still there.
        """
        definition = definition_of(model)
        with self._sessions() as session:
            return rebuild(session, definition, progress=progress)

    def status(self, model: type[Any] | None = None) -> list[ReadModelStatus]:
        """Tell how far a model, or each of them, has come.

        Args:
            model: The read model; None for all, by name.

        Raises:
            DeclarationError: *model* is no mapped read model.
        """
        with self._sessions() as session:
            return [_status(session, each) for each in self._chosen(model)]

    def _chosen(self, model: type[Any] | None) -> list[ReadModelDefinition]:
        return [definition_of(each) for each in (self.models if model is None else (model,))]


def _status(session: Session, definition: ReadModelDefinition) -> ReadModelStatus:
    connection = begin(session, definition)
    checkpoint = checkpoints.read(connection, definition)
    behind = backlog.Lag(0, None) if definition.is_strong else backlog.lag(connection, definition, checkpoint)
    session.rollback()
    return ReadModelStatus(
        model=definition.model,
        name=definition.name,
        consistency=definition.consistency,
        event_types=tuple(definition.event_classes),
        lag_events=behind.events,
        lag_seconds=0.0 if behind.oldest is None else max(0.0, (datetime.now(UTC) - behind.oldest).total_seconds()),
        processed_at=checkpoint.processed_at,
        is_outdated=checkpoint.declaration not in (None, definition.fingerprint),
    )
