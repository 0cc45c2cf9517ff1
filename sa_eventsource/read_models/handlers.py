"""``@handles``: methods of a read model for what declared fields cannot say."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import inspect, select
from sqlalchemy.dialects import postgresql, sqlite

from sa_eventsource.events import DomainEvent, RecordedEvent, members
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import check_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy.orm import Session, SessionTransaction

M = TypeVar("M")
H = TypeVar("H", bound="Callable[..., None] | classmethod[Any, Any, None]")

_MARK = "__handles_events__"


@dataclass(frozen=True)
class HandlerMethod:
    """One method for one event type.

    Attributes:
        event_class: The event.
        call: The method, to be called with the recorded event and the session.
    """

    event_class: type[DomainEvent]
    call: Callable[[RecordedEvent[Any], Session], None]


def handles(*event_types: type[DomainEvent]) -> Callable[[H], H]:
    """Mark a method of a read model that changes rows for events of the given types, and of those that inherit from them.

    Make it a class method: it is called with the event, together with all that the log knows of it, and the session: in the
    transaction that writes the events for a strong model, in that of the catch-up for an eventual one. It may use any ORM or Core
    code there, and neither commits nor rolls back. Rows that several streams change are loaded by :func:`load_for_update`.

    Args:
        *event_types: One or more event classes.

    Raises:
        DeclarationError: There is none, or one is not a ``DomainEvent`` class.
    """
    if not event_types or not all(isinstance(each, type) and issubclass(each, DomainEvent) for each in event_types):
        raise DeclarationError(
            f"@handles takes one or more DomainEvent classes, such as @handles(OrderPlaced), not {event_types!r}"
        )

    def mark(method: H) -> H:
        setattr(method, _MARK, event_types)
        return method

    return mark


def collect(model: type[Any]) -> dict[str, HandlerMethod]:
    """Find the handlers of a class and its bases, for all events that they take by now.

    Raises:
        DeclarationError: Two methods claim one event.
    """
    return by_stored_name(marked(model))


def marked(model: type[Any]) -> dict[type[DomainEvent], Callable[[RecordedEvent[Any], Session], None]]:
    """Find the methods of a class and its bases by the event class that they are marked with.

    Raises:
        DeclarationError: Two methods claim one event.
    """
    methods: dict[type[DomainEvent], Callable[[RecordedEvent[Any], Session], None]] = {}
    names: dict[str, str] = {}
    for klass in reversed(model.__mro__):
        for name, member in vars(klass).items():
            for event_class in getattr(member, _MARK, getattr(getattr(member, "__func__", None), _MARK, ())):
                event_type = event_class.__event_type__
                if names.get(event_type, name) != name:
                    raise DeclarationError(
                        f"{model.__name__} has two methods for {event_class.__name__}: {names[event_type]} and {name}. Keep one."
                    )
                names[event_type] = name
                method = getattr(model, name)
                methods[event_class] = method if isinstance(member, classmethod) else method.__get__(model)
    return methods


def by_stored_name(declared: Mapping[type[DomainEvent], Callable[[RecordedEvent[Any], Session], None]]) -> dict[str, HandlerMethod]:
    """Find the method for each event that the declared classes stand for: that of the class nearest to it."""
    return {each.__event_type__: HandlerMethod(each, declared[taker]) for each, taker in members(declared).items()}


@contextmanager
def handling(session: Session) -> Iterator[None]:
    """Let handlers change rows of read models through a session, which it refuses to all others."""
    before = session.info.get(_HANDLING, False)
    session.info[_HANDLING] = True
    outer = _at_work.set(True)
    try:
        yield
    finally:
        _at_work.reset(outer)
        session.info[_HANDLING] = before


def is_handling(session: Session) -> bool:
    """Tell whether handlers are at work in a session."""
    return bool(session.info.get(_HANDLING, False))


def is_any_handling() -> bool:
    """Tell whether a handler is at work in this thread or task, for what is not told which session it is in."""
    return _at_work.get()


_HANDLING = "sa_eventsource.handling"
_at_work: ContextVar[bool] = ContextVar("sa_eventsource.handling", default=False)


def load_for_update(session: Session, model: type[M], key: Any) -> M:
    """Load a row that a handler is about to change, made with its columns' defaults if it is not there, and locked till the end.

    Two transactions that change one row so wait for each other instead of losing an update: the row is inserted unless it exists,
    then selected ``FOR UPDATE``. A row that this transaction has locked already is returned as it is, without a statement. At
    REPEATABLE READ and above, a row that another transaction has changed in the meantime raises a serialization failure, which
    ``retry_on_conflict`` retries. On SQLite, where writers are alone, nothing is locked. Load the rows of several keys in one order
    everywhere; two that lock each other's rows end in a deadlock, which is retried too.

    Args:
        session: The session that the handler got.
        model: The mapped class, which has a table of its own.
        key: The primary key's value, or a tuple of several in the order of the columns.

    Raises:
        IntegrityError: A column without a default must not be null. Give it one in ``mapped_column(default=...)``.
        OperationalError: A serialization failure or a deadlock. Roll back and retry.
    """
    check_session("load_for_update()", session)
    mapper = inspect(model)
    identity = tuple(key) if isinstance(key, tuple) else (key,)
    identity_key = mapper.identity_key_from_primary_key(identity)
    present = session.identity_map.get(identity_key)
    transaction = session.get_nested_transaction() or session.get_transaction()
    if present is not None and any(identity_key in _locked.get(each, ()) for each in _with_parents(transaction)):
        return present  # type: ignore[no-any-return]
    connection = session.connection(bind_arguments={"mapper": mapper})
    dialect_insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    values = {column.key: value for column, value in zip(mapper.primary_key, identity, strict=True)}
    criteria = [column == value for column, value in zip(mapper.primary_key, identity, strict=True)]
    statement = select(model).where(*criteria).with_for_update().execution_options(populate_existing=True)
    row = session.scalars(statement).one_or_none()
    if row is None:
        connection.execute(dialect_insert(mapper.local_table).values(values).on_conflict_do_nothing())
        row = session.scalars(statement).one()
    transaction = session.get_nested_transaction() or session.get_transaction()
    if transaction is not None:
        _locked.setdefault(transaction, {})[identity_key] = row
    return row


# A lock ends with the transaction, or the savepoint, that took it. The rows are kept as long: a session lets go of those that it
# has flushed, and would select and update them again for each event.
_locked: WeakKeyDictionary[SessionTransaction, dict[Any, Any]] = WeakKeyDictionary()


def forget_rows(session: Session) -> None:
    """Let go of all rows in the midst of a transaction; those that are asked for again are selected again."""
    session.expunge_all()
    transaction = session.get_transaction()
    if transaction is not None:
        _locked.pop(transaction, None)


def _with_parents(transaction: SessionTransaction | None) -> Iterator[SessionTransaction]:
    while transaction is not None:
        yield transaction
        transaction = transaction.parent
