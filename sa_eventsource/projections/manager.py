"""The read models of an application: which there are, how far they have come, and catching up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.consumers import subscriptions_on
from sa_eventsource.mapping import session_maker, tables_of_base
from sa_eventsource.projections.catching_up import catch_up
from sa_eventsource.projections.command_backlog import CommandBacklog, command_backlog
from sa_eventsource.projections.readers import readers_on
from sa_eventsource.projections.status import ConsumerStatus, problems, status_of
from sa_eventsource.projections.undeclared import UndeclaredCheckpoint, undeclared_checkpoints
from sa_eventsource.read_models import definition_of

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

    from sa_eventsource.consumers import Consumer
    from sa_eventsource.read_models import ReadModelDefinition


class ReadModelManager:
    """Lists an application's read models, reports how far they have come, and catches them up.

    Example: ``ReadModelManager(engine, Base).catch_up()``

    Its transactions are its own, on connections of its own; several may run at the same time, on any machines: each model is
    worked on by one at a time. A :class:`~sa_eventsource.Worker` does the same all the time, by itself.
    """

    def __init__(self, sessions: Engine | sessionmaker[Session], base: Any) -> None:
        """Choose the database and the models.

        Args:
            sessions: An engine, or what makes sessions where these need more than that.
            base: The declarative base of the models.
        """
        self._sessions = session_maker("ReadModelManager()", sessions)
        self._tables = tables_of_base("ReadModelManager()", base)

    @property
    def models(self) -> tuple[type[Any], ...]:
        """All read models of the declarative base, by name."""
        return tuple(definition.model for _, definition in sorted(self._tables.read_models.items()))

    def catch_up(self, model: type[Any] | None = None, *, batch_size: int | None = None) -> int:
        """Let a model, or all eventual ones, take the events that they have not taken yet.

        An event that failed before is tried again at once; with it, a model that has stopped goes on.

        Args:
            model: The read model; None for all, by name.
            batch_size: Events in a transaction; None for what suits each model.

        Returns:
            The number of events taken, by all models together; a strong one has nothing to catch up with.

        Raises:
            DeclarationError: *model* is no mapped read model.
            ReadModelError: A handler raised, or the database refused a row. What was committed before stays; correct the cause and
                call it again.
            ReadModelChangedError: A model's rows were made under another declaration. Rebuild it.
            MovedLogError: The log came from another cluster, and it is not certain which of its events are new.
            JoinedTransactionError: The sessions are bound to a connection that is in a transaction. Pass the engine.
        """
        with self._sessions() as session:
            eventual = [each for each in self._chosen(model) if not each.is_strong]
            return sum(catch_up(session, each, batch_size=batch_size) for each in eventual)

    def status(self, model: type[Any] | None = None) -> list[ConsumerStatus]:
        """Report how far a model has come, or all models, subscriptions and readers.

        Args:
            model: The read model; None for all, by name.

        Raises:
            DeclarationError: *model* is no mapped read model.
        """
        consumers: list[Consumer] = list(self._chosen(model))
        with self._sessions() as session:
            if model is None:
                consumers += [*subscriptions_on(self._tables), *readers_on(session, self._tables)]
            return [status_of(session, each) for each in consumers]

    def commands(self) -> CommandBacklog | None:
        """Count the commands that wait for their time, for a worker, or for somebody to decide; None where no table holds any."""
        with self._sessions() as session:
            return command_backlog(session, self._tables)

    def undeclared(self) -> list[UndeclaredCheckpoint]:
        """List what is kept for those that the code does not declare: of another process that is still there, or of nobody."""
        with self._sessions() as session:
            return undeclared_checkpoints(session, self._tables)

    def problems(self, *, max_lag_seconds: float | None = None) -> list[str]:
        """List what is wrong, for a health check; empty if all is well.

        That is: what does not follow, or has rows that are not right, as its state says; events and commands that are parked;
        commands that have been due for longer than a minute; checkpoints that nothing declares and that have stood still for a day;
        and, if asked for, what is too far behind.

        Args:
            max_lag_seconds: How long ago the oldest event may have been recorded that one has yet to take, and for how long a
                command may have been due; None for any time, and for a minute.
        """
        return problems(self.status(), self.commands(), self.undeclared(), max_lag_seconds=max_lag_seconds)

    def _chosen(self, model: type[Any] | None) -> list[ReadModelDefinition]:
        return [definition_of(each) for each in (self.models if model is None else (model,))]
