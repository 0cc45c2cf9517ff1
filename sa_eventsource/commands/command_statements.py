"""The statements on each table of commands, built once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Integer,
    Interval,
    String,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    exists,
    false,
    func,
    literal_column,
    null,
    select,
    true,
    union_all,
    update,
)

from sa_eventsource.mapping import (
    DISCARDED,
    DONE,
    SCHEDULED,
    UtcDateTime,
    built_once,
    conflict_key,
    database_clock,
    is_scheduled,
    statement_clock,
)
from sa_eventsource.store import DriverStatement, database_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select, Table
    from sqlalchemy.engine import Dialect

    from sa_eventsource.store import Database

REPLACED = "replaced: another command was scheduled under its key"
"""What the row of a command says that has lost its place to another one."""


class CommandStatements:
    """The statements on one table, in the words of one database.

    Attributes:
        insert_done: Note a command as done, if there is none of its id.
        insert_scheduled: Schedule a command, if there is none of its id and none under its key.
        make_room: Discard what is scheduled under a key.
        lock: Read a row by its id, and keep others from it.
        claim: Take a command that is due, by its id, unless somebody else is at it; and limit, by the same statement, how long the
            transaction may stand idle.
        note_done: Store what handling a command gave.
        next_due: Find the commands that are due next.
        due_types: List those of some types that are among the commands which have been due for longest: no more than some are read.
        due_processes: List the process managers whose time-outs are due.
    """

    def __init__(self, table: Table, database: Database) -> None:
        """Build them."""
        c = table.c
        command_id = bindparam("id", type_=Uuid)
        values: dict[str, Any] = {
            "command_id": command_id,
            "command_type": bindparam("type", type_=String),
            "command_data": database.document(bindparam("data", type_=Text)),
            "correlation_id": bindparam("correlation", type_=Uuid),
            "causation_id": bindparam("causation", type_=Uuid),
            "metadata": database.document(bindparam("context", type_=Text)),
        }
        insert = database.insert(table)
        done = insert.values(**values, status=_word(DONE), handled_at=database_clock())
        self.insert_done = _counted(done.on_conflict_do_nothing(index_elements=conflict_key(table, c.command_id)))
        due_at: Any = bindparam("at", type_=UtcDateTime)
        if database.is_server:  # elsewhere its clock is this machine's
            due_at = func.coalesce(due_at, statement_clock() + bindparam("delay", type_=Interval))
        of_schedule = {
            "due_at": due_at,
            "schedule_key": bindparam("key", type_=String),
            "process_type": bindparam("process_type", type_=String),
            "process_id": bindparam("process_id", type_=String),
        }
        scheduled = insert.values(**values, **of_schedule, status=_word(SCHEDULED))
        self.insert_scheduled = _counted(scheduled.on_conflict_do_nothing())
        replaced = {"status": _word(DISCARDED), "handled_at": database_clock(), "error": _word(REPLACED)}
        is_there = c.schedule_key == bindparam("key", type_=String)
        self.make_room = DriverStatement(update(table).where(is_there, is_scheduled(table)).values(replaced))
        stored = (c.command_type, cast(c.command_data, Text), c.status, cast(c.outcome, Text), c.commit_token)
        self.lock = DriverStatement(select(*stored).where(c.command_id == command_id).with_for_update())
        context = (c.correlation_id, c.causation_id, cast(c.metadata, Text))
        is_due = (is_scheduled(table), c.due_at <= statement_clock())
        self.claim = DriverStatement(
            select(c.command_id, c.command_type, cast(c.command_data, Text), c.attempts, *context, *database.idle_limit())
            .where(c.command_id == command_id, of_one_row(*is_due))
            .with_for_update(skip_locked=True)
        )
        outcome = {
            "status": _word(DONE),
            "outcome": database.document(bindparam("result", type_=Text)),
            "commit_token": bindparam("token", type_=Uuid),
            "handled_at": database_clock(),
            "error": null(),
        }
        self.note_done = DriverStatement(update(table).where(c.command_id == command_id).values(outcome))
        of_types = c.command_type.in_(bindparam("types", type_=String, expanding=True))
        self._limit = bindparam("limit", type_=Integer)
        self._next = select(c.command_id, c.due_at, c.process_type).where(is_scheduled(table), of_types).order_by(c.due_at)
        self.next_due = self._next.add_columns(statement_clock()).limit(self._limit)
        longest_due = select(c.command_type).where(*is_due).order_by(c.due_at).limit(_LONGEST_DUE).subquery()
        among_types = longest_due.c.command_type.in_(bindparam("types", type_=String, expanding=True))
        self.due_types = select(longest_due.c.command_type).where(among_types).distinct()
        self.due_processes = _due_processes(table)

    def next_due_of(self, kinds: Sequence[ColumnElement[bool]]) -> Select[Any]:
        """Find the commands of some kinds that are due next, each kind by itself: none is walked through for another."""
        of_kinds = (self._next.where(kind).limit(self._limit).subquery() for kind in kinds)
        found = union_all(*(select(each) for each in of_kinds)).subquery()
        by_time = select(*found.c, statement_clock()).distinct().order_by(found.c.due_at)
        return by_time.limit(self._limit)


_LONGEST_DUE = 100


def _due_processes(table: Table) -> Select[str]:
    """List the process managers whose time-outs are due, from name to name along an index, however many each has."""
    scheduled, following, due = (table.alias(name) for name in ("scheduled", "following", "due"))
    first = select(func.min(scheduled.c.process_type).label("name")).where(is_scheduled(scheduled))
    names = first.cte("names", recursive=True)
    behind = select(func.min(following.c.process_type)).where(is_scheduled(following), following.c.process_type > names.c.name)
    names = names.union_all(select(behind.scalar_subquery()).where(names.c.name.is_not(None)))
    is_due = exists().where(is_scheduled(due), due.c.process_type == names.c.name, due.c.due_at <= statement_clock())
    return select(names.c.name).where(names.c.name.is_not(None), is_due)


def of_one_row(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Ask for conditions of a row that is found by its id, in words that PostgreSQL does not find again in a partial index.

    Such an index is taken for as short as it was when the table was analyzed, and would be walked for each command.
    """
    return case((and_(*conditions), true()), else_=false())


def _word(text: str) -> ColumnElement[str]:
    """Write one of our own words into a statement, whose parameters are all given by whoever executes it."""
    return literal_column(f"'{text}'", String)


def _counted(insert: Any) -> DriverStatement:
    """Have an INSERT count the rows that it has inserted."""
    return DriverStatement(insert.execution_options(preserve_rowcount=True))


def command_statements(table: Table, dialect: type[Dialect]) -> CommandStatements:
    """Get the statements on a table.

    Args:
        table: The table of commands.
        dialect: The class of the dialect of the connection that they are executed on.
    """
    return built_once(table.metadata, _build, table, dialect)


def _build(table: Table, dialect: type[Dialect]) -> CommandStatements:
    return CommandStatements(table, database_of(dialect))
