"""What the library does to an aggregate's instance: loading, expiring, keeping events for the next flush.

Functions rather than methods, so that they neither show on an application's classes nor clash with its names.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.orm import class_mapper, object_session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.exc import DetachedInstanceError
from typing_extensions import TypeVar

from sa_eventsource.aggregates.aggregate_definition import definition_of
from sa_eventsource.events import as_read
from sa_eventsource.exceptions import CorruptStreamError, UninitializedAggregateError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.aggregates.aggregate_root import AggregateRoot
    from sa_eventsource.aggregates.snapshot_state import SnapshotState
    from sa_eventsource.events import PendingEvent, StreamClosed
    from sa_eventsource.mapping import EventSourceTables

A = TypeVar("A", bound="AggregateRoot[Any]")

BOOKS = "_sa_eventsource"
"""The one key of an instance's ``__dict__`` that is the library's own."""


@dataclass(slots=True)
class Books:
    """What the library keeps with one instance.

    Attributes:
        pending: The events applied since the last flush, oldest first.
        is_loaded: Whether the state fields have been set from events, or by the constructor.
        is_expired: Whether the state was there, and was dropped to be loaded again.
        is_applying: Whether an ``@applies`` method is at work.
        is_read_only: Whether this is a view of the past, which takes no events.
        closing: The event that closed the stream, of those that made the state; None while it is open.
        pickled_fields: The state fields that the class had when the instance was pickled, for as long as nobody has compared them
            with those that it has now; else None.
    """

    pending: list[PendingEvent] = field(default_factory=list)
    is_loaded: bool = False
    is_expired: bool = False
    is_applying: bool = False
    is_read_only: bool = False
    closing: StreamClosed | None = None
    pickled_fields: frozenset[str] | None = None


class SessionSide(Protocol):
    """What a session does for the instances in it; the layer of sessions provides it."""

    def check_active(self, aggregate: AggregateRoot[Any]) -> None:
        """Refuse an event that the session's transaction could no longer write."""

    def keep(self, aggregate: AggregateRoot[Any]) -> None:
        """Hold an aggregate, strongly, until its first pending event is written or discarded."""

    def reload_state(self, session: Session, aggregate: AggregateRoot[Any]) -> None:
        """Set the state from the stored events that the pending ones follow, and from these."""

    @abstractmethod
    def first_event_written(self, session: Session, connection: Connection, tables: EventSourceTables) -> UUID | None:
        """Get the id of the first event that a transaction has written to a log; None if it wrote none."""

    @abstractmethod
    def has_statement_hooks(self, session: Session) -> bool:
        """Check whether the application listens to the session's statements, and may keep aggregates from them."""

    @abstractmethod
    def savepoints_begin_written(self, session: Session) -> AbstractContextManager[None]:
        """Have the rollback of a savepoint undo what came after it and no more, also within a flush."""


_session_side: list[SessionSide] = []


def set_session_side(side: SessionSide) -> None:
    """Say who acts for the sessions."""
    _session_side[:] = [side]


def session_side() -> SessionSide:
    """Get who acts for the sessions."""
    return _session_side[0]


def books_of(aggregate: AggregateRoot[Any]) -> Books:
    """Get what the library keeps with an instance."""
    values = aggregate.__dict__
    try:
        books: Books = values[BOOKS]
    except KeyError:
        books = values[BOOKS] = Books()
    return books


def note_closing(aggregate: AggregateRoot[Any], event: StreamClosed) -> None:
    """Note that the stream is closed: the aggregate takes no further event."""
    books_of(aggregate).closing = event


def identity_of(aggregate: AggregateRoot[Any]) -> Any:
    """Get the id of a persistent aggregate, which itself may not have it: it may be refreshed in part."""
    key = instance_state(aggregate).key
    if key is not None:
        return key[1][0]
    try:
        return vars(aggregate)["id"]
    except KeyError:
        raise _unknown(aggregate) from None


def _unknown(aggregate: AggregateRoot[Any]) -> Exception:
    """Say why the state of a transient aggregate is not known."""
    if books_of(aggregate).is_expired:
        return DetachedInstanceError(
            f"{aggregate!r} was expired when it was made transient, so its state is not known; load it again with session.get()"
        )
    return UninitializedAggregateError(type(aggregate).__name__)


def base_version(aggregate: AggregateRoot[Any]) -> int | None:
    """Get the version that the pending events follow; without any, that of the state. None where it is expired."""
    pending = books_of(aggregate).pending
    return pending[0].version - 1 if pending else vars(aggregate).get("version")


def drop_state(aggregate: AggregateRoot[Any]) -> None:
    """Forget state and pending events, so that the next read of a state field loads the aggregate."""
    values = vars(aggregate)
    aggregate.__state_fields__.drop(values)
    values[BOOKS] = Books(is_expired=True)


def blank(aggregate_class: type[A], aggregate_id: str) -> A:
    """Make an instance with an id and nothing else, without running its constructor.

    It may be the first instance in the process: as a constructor would, this configures the mappers.
    """
    aggregate = aggregate_class.__new__(aggregate_class)
    class_mapper(aggregate_class).class_manager.setup_instance(aggregate)
    vars(aggregate)["id"] = definition_of(aggregate_class).typed_id(aggregate_id)
    return aggregate


def restore(
    aggregate: AggregateRoot[Any],
    aggregate_id: str,
    rows: Iterable[Any],
    *,
    snapshot: SnapshotState | None = None,
    contiguous: bool = True,
) -> None:
    """Set an aggregate's state and version from stored events, discarding what it had.

    On an error the aggregate has no state: the next read of a field loads it again.

    Args:
        aggregate: The instance.
        aggregate_id: Its id as stored.
        rows: Tuples of version, event type, event version, payload text and event id as text, by version.
        snapshot: What to start from; None to start from nothing.
        contiguous: Whether each row must be one version after the last.

    Raises:
        CorruptStreamError: A version is missing.
        EventDecodeError: A payload does not fit its class.
        UnknownEventTypeError: No class declares an event's type.
        UnhandledEventError: The aggregate has no method for an event.
    """
    vars(aggregate).pop(BOOKS, None)
    _start(aggregate, aggregate_id, snapshot)
    advance(aggregate, aggregate_id, rows, contiguous=contiguous)


def _start(aggregate: AggregateRoot[Any], aggregate_id: str, snapshot: SnapshotState | None) -> None:
    definition = definition_of(type(aggregate))
    values = vars(aggregate)
    if snapshot is None:
        definition.state.reset(values)
    else:
        definition.state.set(values, snapshot.fields)
        books_of(aggregate).closing = snapshot.closing
    values["id"] = definition.typed_id(aggregate_id)
    values["version"] = 0 if snapshot is None else snapshot.version


def advance(aggregate: AggregateRoot[Any], aggregate_id: str, rows: Iterable[Any], *, contiguous: bool = True) -> None:
    """Apply further stored events to an aggregate, behind its present version. Arguments and errors as for :func:`restore`."""
    values, books = vars(aggregate), books_of(aggregate)
    books.is_loaded = books.is_applying = True
    try:
        version = definition_of(type(aggregate)).replay(aggregate, aggregate_id, rows, values["version"], contiguous=contiguous)
    except BaseException:
        drop_half_changed_state(aggregate)
        raise
    finally:
        books.is_applying = False
    values["version"] = version


def drop_half_changed_state(aggregate: AggregateRoot[Any]) -> None:
    """Forget the state alone, and keep pending events: an ``@applies`` method left it half changed."""
    aggregate.__state_fields__.drop(vars(aggregate))
    books = books_of(aggregate)
    books.is_loaded, books.pickled_fields, books.closing = False, None, None


def rewind(aggregate: AggregateRoot[Any], aggregate_id: str, pending: list[PendingEvent]) -> None:
    """Make an aggregate transient again, with *pending* for the next flush.

    Its state is made by :func:`make_state_again`, or when it is asked for. A rollback is at work here, and what an ``@applies``
    method or a default's factory raises would leave it half done.
    """
    drop_half_changed_state(aggregate)
    books_of(aggregate).pending = pending
    vars(aggregate).update(id=definition_of(type(aggregate)).typed_id(aggregate_id), version=pending[-1].version)


def make_state_again(aggregate: AggregateRoot[Any]) -> None:
    """Make the state that follows from pending events alone; where its methods raise, that is for whoever asks for it next."""
    with suppress(Exception):
        load_missing_state(aggregate)


def rebase(
    aggregate: AggregateRoot[Any],
    aggregate_id: str,
    rows: Iterable[Any],
    *,
    snapshot: SnapshotState | None,
    base: int,
) -> None:
    """Set the state from the stored events that the pending ones follow, and from these.

    The pending events stay. On an error the aggregate has no state, but its version.

    Args:
        aggregate: The instance.
        aggregate_id: Its id as stored.
        rows: The stored events, as for :func:`restore`.
        snapshot: As for :func:`restore`.
        base: The version that the stored events must come to.

    Raises:
        CorruptStreamError: They do not come to it: they are not those that the pending ones follow.
        EventSourceError: As for :func:`restore`.
    """
    values, pending = vars(aggregate), books_of(aggregate).pending
    books_of(aggregate).closing = None
    try:
        _start(aggregate, aggregate_id, snapshot)
        advance(aggregate, aggregate_id, rows)
        if values["version"] != base:
            raise CorruptStreamError(
                definition_of(type(aggregate)).aggregate_type,
                aggregate_id,
                expected_version=values["version"] + 1,
                found_version=base,
            )
        _replay_pending(aggregate)
    except BaseException:
        drop_half_changed_state(aggregate)
        values["version"] = pending[-1].version if pending else base
        raise


def _replay_pending(aggregate: AggregateRoot[Any]) -> None:
    """Apply the pending events to the state that they follow.

    They are read from their payloads: the objects that were applied may have changed since, in a list that a handler took over.
    """
    books = books_of(aggregate)
    find = definition_of(type(aggregate)).handlers.find
    books.is_loaded = books.is_applying = True
    try:
        for each in books.pending:
            find(type(each.event))(aggregate, as_read(each.event, each.payload))
    except BaseException:
        drop_half_changed_state(aggregate)
        raise
    finally:
        books.is_applying = False
    if books.pending:
        vars(aggregate)["version"] = books.pending[-1].version


def past_view(
    aggregate_class: type[A],
    aggregate_id: str,
    rows: Iterable[Any],
    *,
    snapshot: SnapshotState | None = None,
    contiguous: bool = True,
) -> A:
    """Make an aggregate as it stood once. It belongs to no session and takes no events. Arguments as for :func:`restore`."""
    aggregate = blank(aggregate_class, aggregate_id)
    restore(aggregate, aggregate_id, rows, snapshot=snapshot, contiguous=contiguous)
    books_of(aggregate).is_read_only = True
    return aggregate


def load_missing_state(aggregate: AggregateRoot[Any]) -> None:
    """Make the state of an aggregate that has none: from the log, or from pending events alone where nothing is stored before.

    Raises:
        CorruptStreamError: The log does not have the events that the pending ones follow.
        DetachedInstanceError: It belongs to no session, or was made transient when it was expired.
        UninitializedAggregateError: The constructor has not run.
    """
    values, books = vars(aggregate), books_of(aggregate)
    if books.pickled_fields is not None:
        _compare_fields(aggregate, books.pickled_fields)
    if books.is_loaded:
        return
    is_stored, base = instance_state(aggregate).key is not None, base_version(aggregate)
    if is_stored and "version" not in values:
        _ = aggregate.version
    elif not is_stored and (base is None or "id" not in values):
        raise _unknown(aggregate)
    elif not is_stored and base == 0:
        rebase(aggregate, definition_of(type(aggregate)).text_id(values["id"]), (), snapshot=None, base=0)
    else:  # stored, or made transient after it was stored
        session = object_session(aggregate)
        if session is None:
            raise DetachedInstanceError(f"{aggregate!r} is not bound to a Session; its state cannot be loaded")
        session_side().reload_state(session, aggregate)


def for_pickle(aggregate: AggregateRoot[Any]) -> Books:
    """Get an instance's books as a pickle holds them: they name the fields, since the class may have others when it is read."""
    books = books_of(aggregate)
    if not books.is_loaded or books.pickled_fields is not None:
        return books
    return replace(books, pickled_fields=aggregate.__state_fields__.names)


def _compare_fields(aggregate: AggregateRoot[Any], pickled: frozenset[str]) -> None:
    """Take a state that came in a pickle for loaded, unless the class has got a field since, which only its events can tell."""
    names, books = aggregate.__state_fields__.names, books_of(aggregate)
    for dropped in pickled - names:
        vars(aggregate).pop(dropped, None)
    books.is_loaded, books.pickled_fields = names <= pickled, None
