"""Where an aggregate is not what an entity is: one table, with the reasons. The documentation shows the same table.

What is not in here is the same for both, or the twin test fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm.exc import FlushError, StaleDataError

from sa_eventsource import (
    AutocommitError,
    ConcurrencyError,
    DuplicateAggregateError,
    EmptyAggregateError,
    EventAlreadyAppendedError,
    EventDecodeError,
    ImmutableEventError,
    InactiveTransactionError,
    PartialStateError,
    UnitOfWorkBypassError,
)
from tests.twin.accounts import RefusedError, UnreadableError


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        what: What is done.
        entity: What comes of it for an entity.
        aggregate: What comes of it for an aggregate.
        reason: Why.
        errors: The error of an aggregate, with those of its twin that stand for the same.
    """

    what: str
    entity: str
    aggregate: str
    reason: str
    errors: tuple[type[Exception], tuple[type[Exception], ...]] | None = None


DIFFERENCES = (
    Difference(
        "Writing a version that another transaction has written meanwhile, or an id that is taken",
        "`StaleDataError`, `IntegrityError`, `FlushError`, or at REPEATABLE READ the database's serialization failure",
        "`ConcurrencyError`, which is a `StaleDataError`",
        "For a stream, all of these mean the same: somebody else wrote first. The error comes in the same flush, and undoes "
        "as much.",
        (ConcurrencyError, (StaleDataError, IntegrityError, FlushError, OperationalError)),
    ),
    Difference(
        "The same at REPEATABLE READ, within a savepoint, with several aggregates to be written",
        "`IntegrityError` or `StaleDataError`, for the row",
        "the database's serialization failure",
        "One statement writes them all, and the transaction's snapshot does not show which stream has a newer version. The "
        "transaction has to be repeated in any case, as `retry_on_conflict` does.",
        (OperationalError, (StaleDataError, IntegrityError, FlushError)),
    ),
    Difference(
        "Two instances of one aggregate, both with changes, in one flush",
        "`IntegrityError`, `StaleDataError` or `FlushError`, for the second row; or, at REPEATABLE READ, the database's "
        "serialization failure, if another transaction has written the first meanwhile",
        "`DuplicateAggregateError`",
        "The application itself made two; whatever other transactions do, trying again would not help.",
        (DuplicateAggregateError, (StaleDataError, IntegrityError, FlushError, OperationalError)),
    ),
    Difference(
        "Writing a change that was written before: by a pickled copy, or by a retry with the same event ids",
        "`StaleDataError`",
        "`EventAlreadyAppendedError`",
        "Events have ids, so work that is done already can be told apart from a conflict.",
        (EventAlreadyAppendedError, (StaleDataError, IntegrityError, FlushError)),
    ),
    Difference(
        "Reading a row that the application's types cannot read",
        "what the column's type raises",
        "`EventDecodeError` or `UnknownEventTypeError`",
        "The error names the event, and says what to do.",
        (EventDecodeError, (UnreadableError,)),
    ),
    Difference(
        "`session.delete(order)` and a flush, or a flush that finds it an orphan (`delete-orphan`)",
        "DELETE",
        "`ImmutableEventError`; `session.expunge(order)` undoes the `delete`",
        "Events are history. An aggregate ends with an event that says so.",
        (ImmutableEventError, (RefusedError,)),
    ),
    Difference(
        "INSERT, UPDATE and DELETE statements, bulk operations, `with_for_update()`, and `session.merge()` of an instance "
        "that has pending events or another version than the session's",
        "done",
        "`UnitOfWorkBypassError`",
        "No event would be written and no version checked, and there is no row to lock.",
        (UnitOfWorkBypassError, (RefusedError,)),
    ),
    Difference(
        "Changing a relationship that only aggregates could write: one without another side, or between two aggregates",
        "the foreign key, or the row of the link table, is written",
        "`OneSidedRelationshipError`; with an entity on the other side, the change is written from there",
        "An aggregate writes only events, and no change is lost silently.",
    ),
    Difference(
        "Unpickling an instance that was pickled when its class had other attributes",
        "has the values that were pickled; a new attribute is None",
        "has the values that were pickled, until a new state field is read or an event is applied. Then the state is loaded, "
        "or `DetachedInstanceError` is raised. A changed `@applies` method takes effect at the next load",
        "A new field follows from the events, and so does its default.",
    ),
    Difference(
        "A flush on a connection in autocommit mode",
        "done, row by row",
        "`AutocommitError`",
        "A flush that fails would leave some of its events in the log, or events without their rows.",
        (AutocommitError, (RefusedError,)),
    ),
    Difference(
        "Flushing a new instance to which nothing happened",
        "a row of default values",
        "`EmptyAggregateError`",
        "There is no stream without events.",
        (EmptyAggregateError, (RefusedError,)),
    ),
    Difference(
        "Expiring or refreshing a single attribute",
        "that attribute is loaded again; the others keep their values and changes",
        "`PartialStateError` for a state field; with `version`, the whole state is expired or refreshed, and events that were"
        " not flushed are dropped",
        "All fields follow from one stream: fields of two different versions together would be a state that never existed.",
        (PartialStateError, (RefusedError,)),
    ),
    Difference(
        "A rollback makes a new instance transient again that was expired after its flush",
        "the attributes are empty",
        "it has its state and its events, and can be added again",
        "The session keeps the events until the transaction ends.",
    ),
    Difference(
        "A change, or `session.add` of a changed instance, after a failed flush, or between the last flush of a commit and its end",
        "it is in memory only; the rollback, or the expiry after the commit, drops it. An added instance may be left for the "
        "next transaction",
        "`InactiveTransactionError`",
        "No event is dropped silently.",
        (InactiveTransactionError, (RefusedError,)),
    ),
    Difference(
        "A method that raises in the middle of a change",
        "what it has changed stays, and may be flushed",
        "the event is refused, and the state is read again at the next access, which may fail as any statement may (for a "
        "detached aggregate, with `DetachedInstanceError`). A part that was expired before, such as the id, is loaded by a "
        "separate statement",
        "A state that an `@applies` method left half changed belongs to no version.",
    ),
    Difference(
        "Flushing a new instance that has the id of an expired one in the session",
        "the expired one is loaded first, to see whether it was deleted",
        "no query; the error is the same",
        "Aggregates are not deleted.",
    ),
    Difference(
        "A flush that fails",
        "`after_soft_rollback` is called for the flush's own transaction",
        "if hooks listen, it is also called for a transaction within that one, and `after_begin` is called once more",
        "After the rollback and before raising the error, the library asks the log what went wrong, on a connection that the "
        "hooks have set up like the session's.",
    ),
    Difference(
        "The rollback of a savepoint in which an instance was written, after the session has loaded another instance for the "
        "same row; or of an enclosing savepoint while that one is open",
        "the instance shows what was rolled back",
        "the instance is expired, and read again",
        "The session knows which streams were written in the savepoint.",
    ),
    Difference(
        "A flush that fails, for instances to which the application holds no reference any more",
        "the session lets them go too",
        "those that were to be written stay in the session until its rollback",
        "The session keeps the error until then, and the frames of the error's traceback refer to what was being written.",
    ),
    Difference(
        "Values that the database or a column's default sets in a flush (the event `refresh_flush`)",
        "the listener is called, with the names of the attributes",
        "the listener is never called",
        "A flush sets no values of an aggregate: it has its id, version and state as soon as the event is applied.",
    ),
    Difference(
        "A query whose instances are loaded already",
        "the values are fetched and converted, but not used",
        "the events are not read again",
        "They are read again with `populate_existing`, or after an expiry.",
    ),
    Difference(
        "A query that fails because of one row",
        "no instance of the query is in the session",
        "the instances of the rows before it are in the session; its own is expired",
        "The events are read once the rows are there, and applied when a row becomes an instance.",
    ),
    Difference(
        "A change made in `after_flush`, `pending_to_persistent` or `persistent_to_deleted`, or to another instance while rows are "
        "written (`before_insert` and the like)",
        "it is reset with a warning: it is in memory and not in the database",
        "it is kept, and written by the next flush; a commit makes that flush by itself",
        "No commit returns while the session holds events that are not in the log.",
    ),
)


def same_error(aggregates: type[BaseException] | None, twins: type[BaseException] | None) -> bool:
    """Check whether the two errors stand for the same."""
    if aggregates is twins:
        return True
    for difference in DIFFERENCES:
        if difference.errors is not None and aggregates is difference.errors[0]:
            return twins in difference.errors[1]
    return False


def table() -> str:
    """Write the table as Markdown."""
    lines = ["| What is done | An entity | An aggregate | Why |", "| --- | --- | --- | --- |"]
    lines += [f"| {each.what} | {each.entity} | {each.aggregate} | {each.reason} |" for each in DIFFERENCES]
    return "\n".join(lines) + "\n"
