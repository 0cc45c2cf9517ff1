"""Anonymising without encryption: chosen fields of events that are stored in clear are rewritten, through the triggers' switch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.arguments import check_written, whole_number
from sa_eventsource.exceptions import AnonymisationError, DeclarationError
from sa_eventsource.mapping import MAX_NAME_LENGTH, find_tables
from sa_eventsource.privacy.anonymisation_run import AnonymisationRun, Anonymised
from sa_eventsource.store import (
    EventQuery,
    database_of,
    flush_first,
    one_at_a_time,
    require_transaction,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.privacy.field_rewriting import Rewriting
    from sa_eventsource.store import AsyncEventQuery


def anonymise(  # noqa: PLR0913 - by keyword
    events: EventQuery[Any],
    fields: Sequence[str],
    rewrite: Rewriting,
    *,
    name: str,
    reason: str,
    at_most: int = 500,
    dry_run: bool = False,
) -> Anonymised:
    """Give chosen fields of stored events other values, a batch in the transaction of the query's session.

    Call it and commit until ``is_finished``: the first call notes where the log ends and rewrites nothing (``has_only_begun``),
    each further one rewrites the next batch of the events that were there then. Whoever is stopped goes on by the same name. Only
    the values change: ids, types, versions, positions, times, metadata and the structure of the payload stay as they are, and what
    is sealed is left alone. An event must still be read by its class. In the same transaction the snapshots of these streams are
    deleted, and the rows of read models that the events belong to are rebuilt. The row of the anonymisation says who (from the
    event context), what, when and why. Archived events are not reached: ``archived_events`` says how many there are.

    The application and workers may run; writers of events wait while a batch is rewritten. See to it first that no more events with
    such values are appended. Roll back, and the batch has not happened.

    Args:
        events: Which: ``EventStore(session, Base).events.of_type(CustomerRegistered)``, with further conditions or none.
        fields: Paths of fields in the stored JSON, such as ``"email"``, ``"address.street"``, or ``"lines.*.note"`` for all in a
            list.
        rewrite: Gets a :class:`StoredField` and returns the new value, or the one that is there. It must give the same value for
            the same field whenever it is called.
        name: What the anonymisation is called, 1 to 255 characters. One that is finished is not done again.
        reason: Why, for the record. It is kept for good: write nothing personal.
        at_most: How many events to look at.
        dry_run: Whether to change nothing, and only say what the first events would become, or the next ones of one that has begun.

    Returns:
        How far it has come, and what has changed.

    Raises:
        AnonymisationError: A value cannot be put there; or the transaction sees one state of the database throughout; or events of
            compacted streams have such fields, or may have them where they are in files, and their last states would show them.
        DeclarationError: The base has no table of anonymisations.
        ReadModelChangedError: The rows of a read model were made under another declaration. Rebuild it first.
        TypeError: An argument is of another type.
        ValueError: An argument is empty, the query has a limit, or another anonymisation has this name.
    """
    paths = _checked(events, fields, rewrite, name, reason)
    at_most = whole_number("at_most", at_most, minimum=1, meaning="how many events to look at, 1 or more")
    tables = find_tables(events.table.metadata)
    if tables is None or tables.anonymisations is None:
        raise DeclarationError(
            f"the base of the log {events.table.name!r} has no table that records what was anonymised. On the declarative base, "
            'write __eventsource__ = EventSourceOptions(anonymisations="anonymisations"), and create it'
        )
    session = events.session
    flush_first(session)
    connection = session.connection(bind_arguments=dict(events.bind_arguments) or tables.bind_arguments)
    run = AnonymisationRun(session, connection, tables, tables.anonymisations, events, paths, rewrite, name)
    if dry_run:
        return run.preview(at_most)
    require_transaction(connection)
    database = database_of(connection.dialect)
    if not database.has_one_writer and database.sees_one_state(connection):
        raise AnonymisationError("its transaction sees one state of the database throughout; use one at READ COMMITTED")
    one_at_a_time(connection, tables)
    return run.begin(reason) if run.begun() is None else run.go_on(at_most)


async def async_anonymise(  # noqa: PLR0913 - by keyword
    events: AsyncEventQuery[Any],
    fields: Sequence[str],
    rewrite: Rewriting,
    *,
    name: str,
    reason: str,
    at_most: int = 500,
    dry_run: bool = False,
) -> Anonymised:
    """Give chosen fields of stored events other values. As :func:`anonymise`, for a query of ``AsyncEventStore``."""
    return await events.session.run_sync(
        lambda session: anonymise(events.on(session), fields, rewrite, name=name, reason=reason, at_most=at_most, dry_run=dry_run)
    )


def _checked(events: object, fields: Sequence[str], rewrite: object, name: object, reason: object) -> list[tuple[str, ...]]:
    if not isinstance(events, EventQuery):
        raise TypeError(f"anonymise({events!r}): pass a query, such as EventStore(session, Base).events.of_type(...)")
    if events.maximum is not None or events.descending:
        raise ValueError("anonymise(): the query has limit() or backward(); at_most= says how many events a call looks at")
    if isinstance(fields, str) or not all(isinstance(each, str) for each in fields):
        raise TypeError(f'anonymise(fields={fields!r}): pass a list of paths, such as ["email"]')
    if not fields or not all(all(each.split(".")) for each in fields):
        raise ValueError(f'anonymise(fields={fields!r}): name the fields, such as ["email", "lines.*.note"]')
    if not callable(rewrite):
        raise TypeError(f"anonymise(rewrite={rewrite!r}): pass a function that takes a StoredField and returns its new value")
    for argument, value in (("name", name), ("reason", reason)):
        check_written("anonymise", argument, value)
    if len(str(name)) > MAX_NAME_LENGTH:
        raise ValueError(f"anonymise(name=...): a name has at most {MAX_NAME_LENGTH} characters")
    return [tuple(each.split(".")) for each in fields]
