"""The keys of subjects in their table: those of an append are locked and made, those of a batch are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import uuid4

from sqlalchemy import select

from sa_eventsource.exceptions import DeclarationError, SubjectForgottenError
from sa_eventsource.mapping import built_once, find_tables
from sa_eventsource.privacy.master_keys import ciphers
from sa_eventsource.privacy.of_base import personal_data_on
from sa_eventsource.privacy.unwrapped_keys import UnwrappedKey, UnwrappedKeys
from sa_eventsource.store import DriverStatement, database_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Table

    from sa_eventsource.mapping import EventSourceTables, MasterKeys
    from sa_eventsource.store import Database

    _Which: TypeAlias = Literal["subject", "key_id"]

_unwrapped = UnwrappedKeys()


def keys_for(connection: Connection, tables: EventSourceTables, subjects: Collection[str]) -> dict[str, tuple[str, UnwrappedKey]]:
    """Get the keys to seal the data of subjects with, each with its id as 32 hexadecimal digits, and make those that are new.

    None of these subjects is forgotten before the transaction ends: who wants to waits, or was first, and is seen.

    Raises:
        DeclarationError: The base has no master keys.
        MasterKeyError: A key cannot be wrapped or unwrapped.
        SubjectForgottenError: A subject is forgotten.
    """
    found_on_base = personal_data_on(tables)
    master_keys, table = found_on_base.master_keys, found_on_base.subject_keys
    database_of(connection.dialect).become_writer(connection, table)
    found = _locked(connection, table, master_keys, subjects)
    new = sorted(set(subjects) - found.keys())
    if new:
        found |= _inserted(connection, table, master_keys, new)
        others = [each for each in new if each not in found]  # somebody else has made them meanwhile
        found |= _locked(connection, table, master_keys, others) if others else {}
    return found


def keys_by_id(connection: Connection, events: Table, key_ids: Iterable[str], *, locked: bool) -> Mapping[str, UnwrappedKey | None]:
    """Read keys; None for one that is destroyed. One that is not in the table is left out.

    Args:
        connection: Where to read.
        events: The log whose values they seal.
        key_ids: Their ids, as 32 hexadecimal digits.
        locked: Whether none of their subjects is to be forgotten before the transaction ends.

    Raises:
        DeclarationError: The base has no master keys.
        MasterKeyError: A key cannot be unwrapped.
    """
    tables = find_tables(events.metadata)
    if tables is None:
        raise DeclarationError(f"the log {events.name!r} holds sealed values, and its metadata is no declarative base's")
    found = personal_data_on(tables)
    statement = _statement(found.subject_keys, database_of(connection.dialect), "key_id", locked=locked)
    rows: Sequence[Any] = statement.execute(connection, {"values": json.dumps(list(key_ids))}).all()
    return {row[0].hex: None if row[3] is None else _unwrapped.get(found.master_keys, row[4], row[3]) for row in rows}


def _locked(
    connection: Connection, table: Table, master_keys: MasterKeys, subjects: Collection[str]
) -> dict[str, tuple[str, UnwrappedKey]]:
    """Lock the keys of subjects, and give the newest of each that has one."""
    statement = _statement(table, database_of(connection.dialect), "subject", locked=True)
    rows: Sequence[Any] = statement.execute(connection, {"values": json.dumps(list(subjects))}).all()
    forgotten = sorted({row[1] for row in rows if row[3] is None})
    if forgotten:
        raise SubjectForgottenError(forgotten)
    newest = {row[1]: row for row in sorted(rows, key=lambda row: row[2])}
    return {subject: (row[0].hex, _unwrapped.get(master_keys, row[4], row[3])) for subject, row in newest.items()}


def _inserted(
    connection: Connection, table: Table, master_keys: MasterKeys, subjects: Collection[str]
) -> dict[str, tuple[str, UnwrappedKey]]:
    """Make keys for subjects that have none, in their order, and give those that nobody else has made meanwhile."""
    rows: list[dict[str, Any]] = []
    keys: dict[str, bytes] = {}
    for subject in subjects:
        keys[subject] = ciphers().new_key()
        master_key, wrapped = master_keys.wrap(keys[subject])
        rows.append({"key_id": uuid4(), "subject": subject, "generation": 1, "wrapped_key": wrapped, "master_key": master_key})
    insert = database_of(connection.dialect).insert(table).on_conflict_do_nothing().returning(table.c.subject)
    made = set(connection.execute(insert, rows).scalars())
    return {
        row["subject"]: (row["key_id"].hex, _unwrapped.keep(row["master_key"], row["wrapped_key"], keys[row["subject"]]))
        for row in rows
        if row["subject"] in made
    }


def _statement(table: Table, database: Database, which: _Which, *, locked: bool) -> DriverStatement:
    """Get the SELECT of keys by parameter ``values``, a JSON array of what a column has."""
    return built_once(table.metadata, _select, table, database, which, locked)


def _select(table: Table, database: Database, which: _Which, locked: bool) -> DriverStatement:  # noqa: FBT001 - by built_once
    columns = (table.c.key_id, table.c.subject, table.c.generation, table.c.wrapped_key, table.c.master_key)
    statement = select(*columns).where(database.is_among(table.c[which], "values"))
    return DriverStatement(statement.with_for_update(read=True, key_share=True) if locked else statement)
