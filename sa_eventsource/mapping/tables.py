"""The library's tables, placed on an application's own metadata."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import Column, Index, MetaData, Table, inspect

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping.archive_tables import archived_event_ids_table, archived_events_table, archives_table, let_be_archived
from sa_eventsource.mapping.base_metadata import metadata_in_the_making
from sa_eventsource.mapping.commands_table import commands_table, old_commands
from sa_eventsource.mapping.immutability import guard_events, is_guarded
from sa_eventsource.mapping.kept_rows import check_keep, keep_rows
from sa_eventsource.mapping.log_tables import events_table, followers_tables
from sa_eventsource.mapping.merkle_tables import merkle_tree_table, rewritten_events_table
from sa_eventsource.mapping.named_indexes import add_index
from sa_eventsource.mapping.partitions import check_partitions, partition_events
from sa_eventsource.mapping.personal_data_tables import anonymisations_table, forgotten_subjects_table, subject_keys_table
from sa_eventsource.mapping.table_names import refuse_double_names, refuse_taken_names, renaming
from sa_eventsource.mapping.tenant_columns import add_tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from sa_eventsource.mapping.database_roles import Roles
    from sa_eventsource.mapping.merkle_tables import SigningKey
    from sa_eventsource.mapping.personal_data_tables import MasterKeys

_INFO_KEY = "sa_eventsource"


@dataclass(frozen=True, slots=True)
class EventSourceOptions:
    """Where the library's tables lie, and what is on them.

    Set it on the declarative base as ``__eventsource__``, before the first aggregate.

    Attributes:
        schema: Schema of the tables; None for the metadata's own.
        events: Name of the event log.
        projections: Name of the read models' shared table.
        snapshots: Name of the snapshots' table.
        projection_positions: Name of the checkpoints of read models and subscriptions. Two logs in one schema need two: those of a
            log that was moved are translated with it.
        parked_events: Name of the table of events that one of them could not take.
        projections_gin: Whether the shared table has a GIN index on ``data``, for queries that ask with ``@>`` or ``?``. Without it
            rows are written faster. Where the table is there, the next ``alembic revision --autogenerate`` drops or adds it.
        occurred_at_brin: Whether the log's index on ``occurred_at`` is a BRIN index, of hardly any size, which serves ranges
            of time where events are recorded about when they occur. Where the log is there, the next ``alembic revision
            --autogenerate`` replaces the one by the other. On SQLite it makes no difference.
        commands: Name of the table of commands that have an id or are scheduled, such as ``"commands"``; None for no such table.
        partitions: How many hash partitions the event log has on PostgreSQL, such as 8, each with a share of the streams; None for
            a table without. On SQLite, which has no partitions, it is one table, with the same primary key. "Outgrow one machine"
            says when it pays, what it costs, and how a log that is there is moved.
        commands_kept: For how long a worker keeps the rows of commands that are done or discarded: longer than anybody may send
            one again under its id; None for ever, or until they are pruned by hand.
        master_keys: What wraps the keys of personal data; with it, the base has a table for these keys, and one for who was
            forgotten. None where no event has personal fields.
        subject_keys: Name of the table of keys.
        forgotten_subjects: Name of the table of who was forgotten.
        roles: The roles of PostgreSQL whose rights on these tables the library knows: migrations, ``create_roles`` and
            ``sa-eventsource roles`` grant them, and ``verify`` says what is missing or too much. None where you see to it yourself.
        proofs: Whether workers put events into a Merkle tree, whose heads prove that none was altered; it has two tables.
        signing_key: Who signs the heads; None for heads without a signature.
        merkle_tree: Name of the tree's table.
        rewritten_events: Name of the table of events that were rewritten on purpose.
        anonymisations: Name of the table that says what was anonymised, such as ``"anonymisations"``; None for no such table.
        archives: Name of the table of archives, such as ``"archives"``; None where no stream is archived. With it, the base has a
            table for their events too, and one for the ids of those that lie in files.
        archived_events: Name of the table of archived events.
        archived_event_ids: Name of the table of ids.
        tenants: Whether tenants share these tables: each row is a tenant's, by a column ``tenant_id``, and PostgreSQL's row
            security keeps each to its own. It needs *roles*, and is for tables that are new. "Tenants" says what follows.
    """

    schema: str | None = None
    events: str = "events"
    projections: str = "projections"
    snapshots: str = "snapshots"
    projection_positions: str = "projection_positions"
    parked_events: str = "parked_events"
    projections_gin: bool = True
    occurred_at_brin: bool = False
    commands: str | None = None
    partitions: int | None = None
    commands_kept: timedelta | None = None
    master_keys: MasterKeys | None = None
    subject_keys: str = "subject_keys"
    forgotten_subjects: str = "forgotten_subjects"
    roles: Roles | None = None
    proofs: bool = False
    signing_key: SigningKey | None = None
    merkle_tree: str = "merkle_tree"
    rewritten_events: str = "rewritten_events"
    anonymisations: str | None = None
    archives: str | None = None
    archived_events: str = "archived_events"
    archived_event_ids: str = "archived_event_ids"
    tenants: bool = False

    def names(self) -> dict[str, str]:
        """Give the tables' names, by option."""
        left_out = (
            *_OTHERS,
            *(_OF_PERSONAL_DATA if self.master_keys is None else ()),
            *(() if self.proofs else _OF_PROOFS),
            *(_OF_ARCHIVES if self.archives is None else ()),
        )
        found = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in left_out}
        return {option: name for option, name in found.items() if name is not None}

    def __post_init__(self) -> None:
        """Check what PostgreSQL would refuse, or misunderstand.

        Raises:
            DeclarationError: Two tables have one name; the number of partitions cannot be, or the time for which rows are kept; or
                tenants have no roles, or proofs.
        """
        check_partitions(self.partitions, self.events)
        refuse_double_names(self)
        check_keep("EventSourceOptions(commands_kept=...)", self.commands_kept)
        if self.tenants and self.proofs:
            raise DeclarationError(
                "EventSourceOptions(tenants=True, proofs=True): a tree covers the whole log, and no tenant's proof would be "
                "its own. Choose one, or give each tenant a schema or a database"
            )
        if self.tenants and self.roles is None:
            raise DeclarationError(
                "EventSourceOptions(tenants=True) needs roles=Roles(...): row security does not apply to superusers, and one "
                "role, the worker's, sees all tenants"
            )

    def __set_name__(self, owner: type[Any], name: str) -> None:
        """Put the tables on a base's metadata where it has commands: an application of commands alone has no aggregate to do so.

        Whatever is wrong is said by who asks for the tables next: Python 3.11 makes a ``RuntimeError`` of what is raised here.
        """
        if self.commands is not None:
            metadata = metadata_in_the_making(owner)
            if metadata is not None and find_tables(metadata) is None:
                with suppress(DeclarationError):
                    tables_on(metadata, self)


def tenants_worker(options: object) -> str | None:
    """Get the name of the role that sees all tenants; None where tenants do not share tables."""
    if not isinstance(options, EventSourceOptions) or not options.tenants or options.roles is None:
        return None
    return options.roles.worker


_OTHERS = (
    "schema",
    "projections_gin",
    "occurred_at_brin",
    "partitions",
    "commands_kept",
    "master_keys",
    "roles",
    "proofs",
    "signing_key",
    "tenants",
)
"""The options that name no table."""
_OF_PERSONAL_DATA = ("subject_keys", "forgotten_subjects")
_OF_ARCHIVES = ("archived_events", "archived_event_ids")
_OF_PROOFS = ("merkle_tree", "rewritten_events")


@dataclass(frozen=True, eq=False)
class EventSourceTables:
    """The library's tables on one metadata.

    Attributes:
        options: The names they were made with.
        events: The log: one row an event, never changed.
        projections: Rows of read models that have no table of their own.
        snapshots: At most one stored state an aggregate.
        projection_positions: How far each read model and each subscription has come.
        parked_events: References to the events that one of them could not take and has parked.
        commands: Commands that were handled under an id, or are scheduled; None where the base has no such table.
        subject_keys: The keys of those whose personal data events hold; None where the base has no master keys.
        forgotten_subjects: Who of them was forgotten; likewise.
        merkle_tree: The Merkle tree over the events; None where the base has no proofs.
        rewritten_events: Which of them were rewritten on purpose since; likewise.
        anonymisations: Which fields of events were anonymised; None where the base has no such table.
        archives: What is known of each archive; None where no stream is archived.
        archived_events: The events of archived streams; likewise.
        archived_event_ids: The ids of those that lie in files; likewise.
        aggregate_classes: The aggregate classes that keep their events here, by type name.
        read_models: What the library knows of each read model fed from here, by projection name.
        columns: The columns that the library has given each of these tables.
    """

    options: EventSourceOptions
    events: Table
    projections: Table
    snapshots: Table
    projection_positions: Table
    parked_events: Table
    commands: Table | None = None
    subject_keys: Table | None = None
    forgotten_subjects: Table | None = None
    merkle_tree: Table | None = None
    rewritten_events: Table | None = None
    anonymisations: Table | None = None
    archives: Table | None = None
    archived_events: Table | None = None
    archived_event_ids: Table | None = None
    aggregate_classes: dict[str, type[Any]] = field(default_factory=dict)
    read_models: dict[str, Any] = field(default_factory=dict)
    columns: dict[Table, frozenset[Column[Any]]] = field(default_factory=dict)

    @property
    def bind_arguments(self) -> dict[str, Any]:
        """What tells a session with several binds which to use: an aggregate, as binds are often by class."""
        aggregate_class = next(iter(self.aggregate_classes.values()), None)
        return {"clause": self.events} if aggregate_class is None else {"mapper": inspect(aggregate_class)}

    def refuse_name(self, name: str, wanted_by: str) -> None:
        """Refuse a table of the application that has the name of one of these.

        Args:
            name: The name that it would have.
            wanted_by: Who declares it, for the message.

        Raises:
            DeclarationError: One of these has the name.
        """
        for option, own in self.options.names().items():
            if self.options.schema is None and own == name:
                raise DeclarationError(f"{wanted_by} has the table name {name!r}, which is the library's own. {renaming(option)}")


def refuse_extended(table: object, wanted_by: str) -> None:
    """Refuse a class that has put its columns on one of the library's tables, as SQLAlchemy's ``extend_existing`` does.

    Args:
        table: What the class is being mapped to.
        wanted_by: The class, for the message.

    Raises:
        DeclarationError: It has.
    """
    if not isinstance(table, Table) or (tables := find_tables(table.metadata)) is None:
        return
    for option in tables.options.names():
        if getattr(tables, option) is table and tables.columns[table] != set(table.c):
            raise DeclarationError(
                f"{wanted_by} extends the library's own table {table.name!r}, whose rows are no others than the library's. "
                f"{renaming(option)}"
            )


def tables_on(metadata: MetaData, options: EventSourceOptions | None = None) -> EventSourceTables:
    """Get the library's tables on *metadata*, adding them the first time.

    Metadata does not know its base, whose ``__eventsource__`` says which names the tables have: where they may not be there yet,
    ask ``tables_of_base``, or ``find_tables``, which adds none.

    Args:
        metadata: The application's metadata.
        options: Names and schema; None for those they have, or the default ones the first time.

    Raises:
        DeclarationError: They are there already under other options. Set ``__eventsource__`` on the base that all classes share.
            Or what is given are no options.
    """
    if options is not None and not isinstance(options, EventSourceOptions):
        raise DeclarationError(
            f"__eventsource__ is {options!r}; it must be EventSourceOptions(...), such as "
            '__eventsource__ = EventSourceOptions(schema="sales", events="sales_events")'
        )
    tables = find_tables(metadata)
    if tables is None:
        tables = metadata.info[_INFO_KEY] = _create(metadata, options or EventSourceOptions())
    elif options is not None and options != tables.options:
        raise DeclarationError(
            f"the event-sourcing tables are on this metadata already, with {tables.options}, not {options}. "
            "Set __eventsource__ once, on the declarative base that all classes share."
        )
    return tables


_all: WeakSet[EventSourceTables] = WeakSet()


def all_tables() -> list[EventSourceTables]:
    """List the library's tables of each metadata that has them."""
    return list(_all)


def tables_with_keys() -> list[EventSourceTables]:
    """List the library's tables of each metadata that has one for the keys of personal data."""
    return [each for each in all_tables() if each.subject_keys is not None]


def tables_with_proofs() -> list[EventSourceTables]:
    """List the library's tables of each metadata that has a Merkle tree."""
    return [each for each in all_tables() if each.merkle_tree is not None]


def find_tables(metadata: MetaData) -> EventSourceTables | None:
    """Get the library's tables on *metadata* if it has them."""
    tables: EventSourceTables | None = metadata.info.get(_INFO_KEY)
    return tables


@contextmanager
def undone_on_failure(metadata: object) -> Iterator[None]:
    """Take the tables off *metadata* again that a declaration has put there before it failed, so that it can be corrected."""
    if not isinstance(metadata, MetaData):
        yield
        return
    before, known = set(metadata.tables), _INFO_KEY in metadata.info
    try:
        yield
    except BaseException:
        for name in set(metadata.tables) - before:
            metadata.remove(metadata.tables[name])
        if not known:
            metadata.info.pop(_INFO_KEY, None)
        raise


def is_events_table(table: object) -> bool:
    """Check whether *table* is an event log."""
    return isinstance(table, Table) and is_guarded(table)


def _create(metadata: MetaData, options: EventSourceOptions) -> EventSourceTables:
    refuse_taken_names(metadata, options)
    where: dict[str, Any] = {} if options.schema is None else {"schema": options.schema}
    events = events_table(metadata, options, where)
    for name in ("event_type", "transaction_id"):
        add_index(events.c[name])
    if options.occurred_at_brin:  # Alembic sees the change by the name
        Index(f"ix_{events.name}_occurred_at_brin", events.c.occurred_at, postgresql_using="brin")
    else:
        add_index(events.c.occurred_at)
    correlated = events.c.correlation_id.is_not(None)
    add_index(events.c.correlation_id, postgresql_where=correlated, sqlite_where=correlated)
    if options.partitions is not None:
        partition_events(events, options.partitions)
    guard_events(events)
    projections, snapshots, projection_positions, parked_events = followers_tables(metadata, options, where)
    commands = None if options.commands is None else commands_table(options.commands, metadata, **where)
    if commands is not None and options.commands_kept is not None:
        keep_rows("commands", old_commands(commands, options.commands_kept))
    keys = None if options.master_keys is None else subject_keys_table(options.subject_keys, metadata, **where)
    forgotten = None if keys is None else forgotten_subjects_table(options.forgotten_subjects, metadata, **where)
    merkle_tree = merkle_tree_table(options.merkle_tree, metadata, **where) if options.proofs else None
    rewritten = rewritten_events_table(options.rewritten_events, metadata, **where) if options.proofs else None
    anonymisations = None if options.anonymisations is None else anonymisations_table(options.anonymisations, metadata, **where)
    archives = archived = archived_ids = None
    if options.archives is not None:
        archives = archives_table(options.archives, metadata, **where)
        archived = archived_events_table(options.archived_events, metadata, **where)
        archived_ids = archived_event_ids_table(options.archived_event_ids, metadata, **where)
        guard_events(archived)
        let_be_archived(events, archives)
    optional = (commands, keys, forgotten, merkle_tree, rewritten, anonymisations, archives, archived, archived_ids)
    tables = EventSourceTables(options, events, projections, snapshots, projection_positions, parked_events, *optional)
    worker = tenants_worker(options)
    if worker is not None:
        for each in [each for each in vars(tables).values() if isinstance(each, Table)]:
            add_tenant(each, worker)
    tables.columns.update((each, frozenset(each.c)) for each in vars(tables).values() if isinstance(each, Table))
    _all.add(tables)
    return tables
