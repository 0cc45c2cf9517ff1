"""A session without a database, for the handlers of commands: it finds aggregates in a log in memory, and keeps what is added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session, make_transient_to_detached

from sa_eventsource.aggregates import AggregateRoot, definition_of, restore
from sa_eventsource.commands import CATCH
from sa_eventsource.exceptions import HandlerTransactionError, NoDatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sa_eventsource.testing.recording import MemoryLog


class MemorySession(Session):
    """What the handler of a command gets in a scenario: ``get``, ``get_one``, ``add``, ``flush``, and ``schedule()``."""

    def __init__(self, *, log: MemoryLog, catch: Callable[..., None], **_: Any) -> None:
        """Look for aggregates in *log*, and give what is scheduled to *catch*."""
        super().__init__(autoflush=False, expire_on_commit=False)
        self._log = log
        self._loaded: dict[tuple[type[Any], str], Any] = {}
        self.info[CATCH] = catch

    def get(self, entity: Any, ident: Any, **_: Any) -> Any:
        """Find an aggregate by its id; None if it has no events."""
        if not (isinstance(entity, type) and issubclass(entity, AggregateRoot)):
            raise NoDatabaseError(f"session.get({getattr(entity, '__name__', entity)!s}, ...)")
        text = definition_of(entity).text_id(ident)
        for each in self.aggregates():
            if type(each) is entity and definition_of(entity).text_id(vars(each)["id"]) == text:
                return each
        return self._load(entity, text)

    def get_one(self, entity: Any, ident: Any, **options: Any) -> Any:
        """Find an aggregate by its id.

        Raises:
            NoResultFound: It has no events.
        """
        found = self.get(entity, ident, **options)
        if found is None:
            raise NoResultFound(f"No row was found when one was required: {self._not_there(entity, ident)}")
        return found

    def _not_there(self, entity: type[Any], ident: Any) -> str:
        """Say which aggregates there are in place of one."""
        there = dict.fromkeys(f"{each.aggregate_type} {each.aggregate_id!r}" for each in self._log.events)
        return (
            f"{entity.__name__} {ident!r} has no events in this scenario, and there is {', '.join(there) or 'none'}. Choose the id "
            f"by scenario(..., id=...), or give its events by given() or given_elsewhere({entity.__name__}, {ident!r}, ...)"
        )

    def aggregates(self) -> list[Any]:
        """List the aggregates in the session, in the order in which they came."""
        return [*self._loaded.values(), *(each for each in self.new if isinstance(each, AggregateRoot))]

    def flush(self, objects: Any = None) -> None:
        """Leave what was applied where it is: nobody looks for it in a table."""

    def get_bind(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse what needs a database.

        Raises:
            NoDatabaseError: Always.
        """
        raise NoDatabaseError("a statement")

    def begin_nested(self) -> NoReturn:
        """Refuse a savepoint.

        Raises:
            NoDatabaseError: Always.
        """
        raise NoDatabaseError("session.begin_nested()")

    def commit(self) -> NoReturn:
        """Refuse to commit, as a handler must not.

        Raises:
            HandlerTransactionError: Always.
        """
        raise HandlerTransactionError("called session.commit()")

    def rollback(self) -> NoReturn:
        """Refuse to roll back, as a handler must not.

        Raises:
            HandlerTransactionError: Always.
        """
        raise HandlerTransactionError("called session.rollback()")

    def _load(self, entity: type[Any], text: str) -> Any:
        aggregate = self._log.load(entity, text)
        if aggregate is None:
            return None
        make_transient_to_detached(aggregate)
        self.add(aggregate)
        restore(aggregate, text, self._log.rows(entity, text))  # becoming persistent has dropped what was loaded
        self._loaded[entity, text] = aggregate
        return aggregate
