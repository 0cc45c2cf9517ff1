"""The INSERTs into the log on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Integer, Text, and_, any_, bindparam, case, cast, column, exists, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import JSON, JSONB, insert

from sa_eventsource.mapping import DOCUMENTS, KINDS
from sa_eventsource.store.databases.insert_forms import (
    INCOMPLETE,
    InsertStatements,
    KeysToLock,
    follows,
    idempotent,
    is_found_open,
    is_new,
    parameters_of,
)
from sa_eventsource.store.driver_statement import DriverStatement

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.sql import ColumnElement


def insert_statements(events: Table, columns: tuple[str, ...], keys: KeysToLock | None) -> InsertStatements:
    """Build the INSERTs; that of many rows takes them as one document."""
    values = parameters_of(events, columns)
    for name in DOCUMENTS:
        values[name] = cast(bindparam(name, type_=Text), JSONB)
    # One text parameter for all rows: psycopg takes longer to write arrays or a long list of VALUES than the database to
    # read this.
    new = (
        func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
        .table_valued(*(column(name, KINDS[name].recordset) for name in columns), column("follows", Integer))
        .render_derived(name="new", with_types=True)
    )
    locked = [] if keys is None else [_are_locked(*keys)]
    begins: ColumnElement[bool] = new.c.follows.is_(None)
    is_new_one = is_new(events, values["aggregate_type"], values["aggregate_id"])
    is_new_row = is_new(events, new.c.aggregate_type, new.c.aggregate_id)
    if is_new_row is not None:
        begins = and_(begins, or_(new.c.version != literal_column("1", Integer), is_new_row))
    rows = select(*(new.c[name] for name in columns)).where(
        *locked,
        or_(begins, is_found_open(events, new.c.aggregate_type, new.c.aggregate_id, new.c.follows)),
    )
    many = insert(events).from_select(columns, rows)
    one = select(*values.values()).where(*locked)
    is_first = [] if is_new_one is None else [is_new_one]
    first = insert(events).from_select(columns, one.where(*is_first)) if locked or is_first else insert(events).values(values)
    following = insert(events).from_select(columns, one.where(follows(events)))
    return InsertStatements(
        first=idempotent(first),
        next=idempotent(following),
        many=idempotent(many),
        all_or_none=_all_or_none(many),
        first_or_fail=_all_or_none(first),
        next_or_fail=_all_or_none(following),
    )


def _are_locked(subject_keys: Table, are_many: bool) -> ColumnElement[bool]:  # noqa: FBT001 - of a tuple
    """Lock the keys that a parameter lists, as far as they are there and the newest of their subjects, and count them.

    Of one that is being destroyed, the lock waits, and finds it gone.
    """
    newer, key_id = subject_keys.alias("newer"), subject_keys.c.key_id
    is_newest = ~exists().where(newer.c.subject == subject_keys.c.subject, newer.c.generation > subject_keys.c.generation)
    listed: Any = cast(bindparam("key", type_=Text), key_id.type)
    if are_many:
        listed = any_(cast(bindparam("keys", type_=Text), ARRAY(key_id.type)))
    found = select(key_id).where(key_id == listed, subject_keys.c.wrapped_key.is_not(None), is_newest)
    locked = found.with_for_update(read=True, key_share=True, of=subject_keys).cte("locked")
    count = bindparam("key_count", type_=Integer) if are_many else literal_column("1", Integer)
    return select(func.count()).select_from(locked).scalar_subquery() == count


def _all_or_none(statement: Insert) -> DriverStatement:
    """Have an INSERT fail where a row would be skipped: what is no number, and known only when it runs, is cast to one."""
    written = statement.on_conflict_do_nothing().returning(literal_column("1").label("one")).cte("written")
    counted = select(func.count().label("number")).select_from(written).subquery("counted")
    refuse = cast(literal_column(f"'{INCOMPLETE}'") + cast(counted.c.number, Text), Integer)
    return DriverStatement(select(case((counted.c.number == bindparam("expected", type_=Integer), counted.c.number), else_=refuse)))
