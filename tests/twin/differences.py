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
        "For a stream all of these are one thing: somebody else wrote first. It is found in the same flush, and undoes as much.",
        (ConcurrencyError, (StaleDataError, IntegrityError, FlushError, OperationalError)),
    ),
    Difference(
        "The same at REPEATABLE READ, within a savepoint, where several aggregates were to be written",
        "`IntegrityError` or `StaleDataError`, for the row",
        "the database's serialization failure",
        "All are written by one statement, and the transaction's snapshot does not show whose stream has moved on. The transaction "
        "has to be repeated in any case, as `retry_on_conflict` does.",
        (OperationalError, (StaleDataError, IntegrityError, FlushError)),
    ),
    Difference(
        "Two instances of one aggregate, both with changes, in one flush",
        "`IntegrityError`, `StaleDataError` or `FlushError`, for the second row",
        "`DuplicateAggregateError`",
        "It is the application that made two, and no other transaction: trying again would not help.",
        (DuplicateAggregateError, (StaleDataError, IntegrityError, FlushError)),
    ),
    Difference(
        "Writing a change that was written before: by a pickled copy, or by a retry with the same event ids",
        "`StaleDataError`",
        "`EventAlreadyAppendedError`",
        "Events have ids: that the work is done already can be told from a conflict.",
        (EventAlreadyAppendedError, (StaleDataError, IntegrityError, FlushError)),
    ),
    Difference(
        "Reading a row that the application's types cannot read",
        "what the column's type raises",
        "`EventDecodeError` or `UnknownEventTypeError`",
        "The error says which event it is, and what to do.",
        (EventDecodeError, (UnreadableError,)),
    ),
    Difference(
        "`session.delete(order)` and a flush, or a flush that finds it an orphan (`delete-orphan`)",
        "DELETE",
        "`ImmutableEventError`; `session.expunge(order)` undoes the `delete`",
        "Events are history. An aggregate ends by an event that says so.",
        (ImmutableEventError, (RefusedError,)),
    ),
    Difference(
        "INSERT, UPDATE and DELETE statements, bulk operations, `with_for_update()`, and `session.merge()` of what has pending "
        "events or is of another version than the session's",
        "done",
        "`UnitOfWorkBypassError`",
        "No event would be written and no version checked; and there is no row to lock.",
        (UnitOfWorkBypassError, (RefusedError,)),
    ),
    Difference(
        "Changing a relationship that only aggregates could write: one without another side, or between two aggregates",
        "the foreign key, or the row of the link table, is written",
        "`OneSidedRelationshipError`; with an entity on the other side, the change is written from there",
        "An aggregate writes events alone, and no change is lost silently.",
    ),
    Difference(
        "Unpickling an instance that was pickled when its class had other attributes",
        "has the values that were pickled; a new attribute is None",
        "has the values that were pickled, until a new state field is read or an event applied: then the state is loaded, or "
        "`DetachedInstanceError` raised. A changed `@applies` method shows with the next load",
        "A new field follows from the events, and so does its default.",
    ),
    Difference(
        "A flush on a connection in autocommit mode",
        "done, row by row",
        "`AutocommitError`",
        "A flush that fails would leave a part of its events in the log, or events without their rows.",
        (AutocommitError, (RefusedError,)),
    ),
    Difference(
        "Flushing a new instance to which nothing happened",
        "a row of default values",
        "`EmptyAggregateError`",
        "A stream without events does not exist.",
        (EmptyAggregateError, (RefusedError,)),
    ),
    Difference(
        "Expiring or refreshing a single attribute",
        "that attribute is loaded again, the others keep their values, and their changes",
        "`PartialStateError` for a state field; with `version` the whole state is, and events that were not flushed are dropped",
        "All fields follow from one stream: a field of one version next to another's would be a state that never was.",
        (PartialStateError, (RefusedError,)),
    ),
    Difference(
        "A rollback makes a new instance transient that was expired after its flush",
        "the attributes are empty",
        "its state and its events are there, and it can be added again",
        "The events are kept by the session until the transaction ends.",
    ),
    Difference(
        "A change, or `session.add` of what was changed, after a failed flush, or between the last flush of a commit and its end",
        "in memory only: the rollback, or the expiry after the commit, drops it; an addition may be left for the next transaction",
        "`InactiveTransactionError`",
        "No event is dropped silently.",
        (InactiveTransactionError, (RefusedError,)),
    ),
    Difference(
        "A method that raises in the middle of a change",
        "what it had changed stays, and may be flushed",
        "the event is refused, and the state is read again when it is next asked for, which fails as any statement may; for a "
        "detached aggregate, that is a `DetachedInstanceError`. A part that was expired before, such as the id, is loaded by a "
        "statement of its own",
        "What an `@applies` method leaves half done belongs to no version.",
    ),
    Difference(
        "Flushing a new instance whose id one has that is in the session, and expired",
        "that one is loaded first, to see whether it was deleted",
        "no query; the error is the same",
        "Aggregates are not deleted.",
    ),
    Difference(
        "A flush that fails",
        "`after_soft_rollback` is called for the flush's own transaction",
        "also for a transaction within it, where hooks listen; and `after_begin` is called once more",
        "After the rollback, and before the error is raised, the log is asked what went wrong, on a connection that the hooks have "
        "set up as the session's.",
    ),
    Difference(
        "The rollback of a savepoint that has written an instance, of which the session has loaded another one since; or of one "
        "around it, while it is open",
        "the instance shows what was undone",
        "it is expired, and read again",
        "The session knows which streams the savepoint has written.",
    ),
    Difference(
        "A flush that fails, for what the application has let go",
        "is let go by the session too",
        "is in the session until its rollback, if it was to be written",
        "The session keeps the error until then, and the error's traceback has in its frames what was being written.",
    ),
    Difference(
        "Values that the database, or a column's default, gives in a flush (`refresh_flush`)",
        "the event is called, with their names",
        "it is never called",
        "A flush gives an aggregate no values: its id, version and state are there when the event is applied.",
    ),
    Difference(
        "A query whose rows are of instances that are loaded",
        "the values are fetched, and converted, and not used",
        "the events are not read again",
        "With `populate_existing` or after an expiry they are.",
    ),
    Difference(
        "A query that fails because of one row",
        "no instance of it is in the session",
        "those of the rows before it are; its own is expired",
        "The events are read when the rows are there, and applied when a row becomes an instance.",
    ),
    Difference(
        "A change made in `after_flush`, `pending_to_persistent` or `persistent_to_deleted`, or to another instance while rows are "
        "written (`before_insert` and the like)",
        "reset with a warning: it is in memory and not in the database",
        "kept, and written by the next flush; a commit makes that flush itself",
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
