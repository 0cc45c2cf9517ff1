"""What each role may do with each table of a base: as little as its work needs.

Who locks rows needs the right UPDATE on one column at least, whichever: where a role is to lock and not to change, it has that on a
column from which nothing follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import APPENDED, MASKED_COLUMNS, MOVED
from sa_eventsource.publishing import inbox_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Table

    from sa_eventsource.mapping import EventSourceTables, Roles
    from sa_eventsource.read_models import ReadModelDefinition

READ = ("SELECT",)
APPEND = ("SELECT", "INSERT")
PUT = ("SELECT", "INSERT", "UPDATE")
WRITE = ("SELECT", "INSERT", "UPDATE", "DELETE")
MAINTAIN = "MAINTAIN"
"""PostgreSQL 17 and newer have it. Here it stands for locking the log while a strong model is rebuilt, which changes nothing."""

_USE_KEYS = ("SELECT", "INSERT", "UPDATE (created_at)")
_BEGIN_STRONG_MODELS = ("SELECT", "INSERT (projection_name, declaration)", "UPDATE (declaration)")


class Rights(NamedTuple):
    """What one role may do with one table.

    Attributes:
        role: The role's name.
        table: The table.
        privileges: As ``GRANT`` names them, with columns where they are not for the whole table; none where it may do nothing.
    """

    role: str
    table: Table
    privileges: tuple[str, ...]


def roles_of(tables: EventSourceTables) -> Roles:
    """Get the roles that a base declares.

    Raises:
        DeclarationError: It declares none.
    """
    if tables.options.roles is None:
        raise DeclarationError(
            f"the base of the log {tables.events.name!r} has no roles. On the declarative base, write "
            '__eventsource__ = EventSourceOptions(roles=Roles(app="shop_app", worker="shop_worker", ...))'
        )
    return tables.options.roles


def rights_on(tables: EventSourceTables) -> list[Rights]:
    """List what each role may do with each table, by table.

    Raises:
        DeclarationError: The base declares no roles.
    """
    roles = roles_of(tables)
    return [
        Rights(role, table, privileges)
        for table, of_roles in _by_table(tables)
        for role, privileges in zip((roles.app, roles.worker, roles.reader, roles.privacy_officer), of_roles, strict=True)
    ]


def _by_table(tables: EventSourceTables) -> Iterator[tuple[Table, tuple[tuple[str, ...], ...]]]:
    """Give the rights of app, worker, reader and privacy officer on each table."""
    models = list(tables.read_models.values())
    has_strong = any(each.is_strong for each in models)
    has_clear = any(each.takes_personal_data == "clear" for each in models)
    anonymises = tables.anonymisations is not None
    of_officer = PUT if has_clear or anonymises else READ
    # The officer locks the log while rows of a strong model are rebuilt, and anonymises; the triggers keep events as they are.
    # What the log gives an event, its position above all, nobody chooses. But a tenant's log is imported by the application.
    append = "SELECT", f"INSERT ({', '.join(MOVED if tables.options.tenants else APPENDED)})"
    yield tables.events, (append, (*append, MAINTAIN), READ, ("SELECT", "UPDATE"))
    yield tables.snapshots, (PUT, PUT, READ, ("SELECT", "DELETE"))
    yield tables.projection_positions, (_BEGIN_STRONG_MODELS if has_strong else READ, WRITE, READ, of_officer)
    yield tables.parked_events, (READ, WRITE, READ, READ)
    holds_personal_data = tables.options.master_keys is not None
    if tables.commands is not None:
        yield tables.commands, (PUT, WRITE, (_of_commands(tables.commands),) if holds_personal_data else READ, ())
    if tables.subject_keys is not None:
        yield tables.subject_keys, (_USE_KEYS, _USE_KEYS, (), PUT)
    if tables.forgotten_subjects is not None:
        yield tables.forgotten_subjects, ((), (), (), APPEND)
    if tables.anonymisations is not None:
        yield tables.anonymisations, ((), (), (), PUT)
    if tables.archives is not None and tables.archived_events is not None and tables.archived_event_ids is not None:
        # Who archives deletes from the log: the owner alone.
        yield tables.archives, (READ, READ, READ, READ)
        yield tables.archived_events, (READ, READ, READ, READ)
        yield tables.archived_event_ids, (READ, READ, READ, READ)
    if tables.merkle_tree is not None:
        yield tables.merkle_tree, (READ, APPEND, READ, READ)
    if tables.rewritten_events is not None:
        yield tables.rewritten_events, (READ, READ, READ, APPEND)
    for table in dict.fromkeys([tables.projections, *(each.table for each in models)]):
        yield table, _of_rows((each for each in models if each.table is table), anonymises=anonymises)
    for table in inbox_tables(tables.events.metadata):
        yield table, (APPEND, WRITE, READ, ())


def _of_commands(commands: Table) -> str:
    """Let a role see which commands there are, and not what they hold, which may be personal data."""
    columns = (each.name for each in commands.columns if each.name not in MASKED_COLUMNS)
    return f"SELECT ({', '.join(columns)})"


def _of_rows(models: Iterable[ReadModelDefinition], *, anonymises: bool) -> tuple[tuple[str, ...], ...]:
    """Give the rights on the rows of some models, which are in one table."""
    is_strong = is_in_clear = False
    for each in models:
        is_strong |= each.is_strong
        is_in_clear |= each.takes_personal_data == "clear"
    return WRITE if is_strong else READ, WRITE, () if is_in_clear else READ, WRITE if is_in_clear or anonymises else READ
