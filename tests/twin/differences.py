"""Where an aggregate is not what an entity is: one table, with the reasons. The documentation shows the same table.

What is not in here is the same for both, or the twin test fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm.exc import FlushError, StaleDataError

from sa_eventsource import (
    ConcurrencyError,
    EmptyAggregateError,
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
        "For a stream all of these are one thing: somebody was faster. It is found in the same flush, and undoes as much.",
        (ConcurrencyError, (StaleDataError, IntegrityError, FlushError, OperationalError)),
    ),
    Difference(
        "Reading a row that the application's types cannot read",
        "what the column's type raises",
        "`EventDecodeError` or `UnknownEventTypeError`",
        "The error says which event it is, and what to do.",
        (EventDecodeError, (UnreadableError,)),
    ),
    Difference(
        "`session.delete(order)` and a flush",
        "DELETE",
        "`ImmutableEventError`; `session.expunge(order)` undoes the `delete`",
        "Events are history. An aggregate ends by an event that says so.",
        (ImmutableEventError, (RefusedError,)),
    ),
    Difference(
        "INSERT, UPDATE and DELETE statements, `with_for_update()`",
        "done",
        "`UnitOfWorkBypassError`",
        "No event would be written and no version checked; and there is no row to lock.",
        (UnitOfWorkBypassError, (RefusedError,)),
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
        "All fields follow from one stream: a field of one version beside another's would be a state that never was.",
        (PartialStateError, (RefusedError,)),
    ),
    Difference(
        "A rollback makes a new instance transient that was expired after its flush",
        "the attributes are empty",
        "its state and its events are there, and it can be added again",
        "The events are kept by the session until the transaction ends.",
    ),
    Difference(
        "A change after a failed flush, or between the last flush of a commit and its end",
        "in memory only: the rollback, or the expiry after the commit, drops it",
        "`InactiveTransactionError`",
        "No event is dropped without a word.",
        (InactiveTransactionError, (RefusedError,)),
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
        "those of its rows may be, as `loaded_as_persistent` has told; those that cannot be read are expired",
        "The events are read when the rows are there.",
    ),
    Difference(
        "A change made in `after_flush` or `pending_to_persistent`",
        "reset with a warning: it is in memory and not in the database",
        "kept, and written by the next flush; a commit makes that flush itself",
        "No commit returns while the session holds events that are not in the log.",
    ),
)


def same_error(aggregates: type[BaseException] | None, twins: type[BaseException] | None) -> bool:
    """Tell whether the two errors stand for the same."""
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
