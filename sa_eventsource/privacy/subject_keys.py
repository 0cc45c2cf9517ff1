"""The keys of subjects in their table: those of an append are locked and made, those of a batch are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from sa_eventsource.exceptions import DeclarationError, MasterKeyError, SubjectForgottenError
from sa_eventsource.mapping import built_once, find_tables
from sa_eventsource.privacy.known_keys import KnownKey, KnownKeys
from sa_eventsource.privacy.master_keys import ciphers
from sa_eventsource.privacy.of_base import personal_data_on
from sa_eventsource.privacy.unwrapped_keys import UnwrappedKey, UnwrappedKeys
from sa_eventsource.store import NOT_ALLOWED, DriverStatement, code_of, database_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Table

    from sa_eventsource.mapping import EventSourceTables, MasterKeys
    from sa_eventsource.store import Database

    _Which: TypeAlias = Literal["subject", "key_id"]

_unwrapped = UnwrappedKeys()
_known = KnownKeys()


def known_keys_for(
    connection: Connection, tables: EventSourceTables, subjects: Collection[str]
) -> dict[str, tuple[str, UnwrappedKey]] | None:
    """Get the keys that subjects had lately, each with its id as 32 hexadecimal digits; None where the table is to be asked.

    They may be gone, or no longer the newest. With one writer there is nothing to be won; and keys are known by table, which
    ``schema_translate_map`` or a tenant makes another one.

    Raises:
        DeclarationError: The base has no master keys.
    """
    of_base = personal_data_on(tables)
    if (
        tables.options.tenants
        or database_of(connection.dialect).has_one_writer
        or "schema_translate_map" in connection.get_execution_options()
    ):
        return None
    known = _known.get(connection, of_base.subject_keys, subjects)
    if known is None:
        return None
    try:
        return {
            subject: (key.key_id, _unwrapped.get(of_base.master_keys, key.master_key, key.wrapped))
            for subject, key in known.items()
        }
    except MasterKeyError:
        return None  # it may have been wrapped again since


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
    _known.drop(connection, table, subjects)
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
        raise DeclarationError(f"the log {events.name!r} holds sealed values, and its metadata is not a declarative base's")
    found = personal_data_on(tables)
    statement = _statement(found.subject_keys, database_of(connection.dialect), "key_id", locked=locked)
    try:
        rows: Sequence[Any] = statement.execute(connection, {"values": json.dumps(list(key_ids))}).all()
    except DBAPIError as error:
        if code_of(error) == NOT_ALLOWED:
            error.add_detail(_MASK)
        raise
    return {row[0].hex: None if row[3] is None else _unwrapped.get(found.master_keys, row[4], row[3]) for row in rows}


_MASK = (
    "a role without rights on the keys of personal data reads placeholders in their place from "
    'engine.execution_options(personal_data="masked")'
)


def _locked(
    connection: Connection, table: Table, master_keys: MasterKeys, subjects: Collection[str]
) -> dict[str, tuple[str, UnwrappedKey]]:
    """Lock the keys of subjects, and give the newest of each that has one."""
    statement = _statement(table, database_of(connection.dialect), "subject", locked=True)
    rows: Sequence[Any] = statement.execute(connection, {"values": json.dumps(list(subjects))}).all()
    forgotten = sorted({row[1] for row in rows if row[3] is None})
    if forgotten:
        raise SubjectForgottenError(forgotten)
    newest = {row[1]: KnownKey(row[0].hex, row[4], row[3]) for row in sorted(rows, key=lambda row: row[2])}
    _known.keep(connection, table, newest)
    return {subject: (key.key_id, _unwrapped.get(master_keys, key.master_key, key.wrapped)) for subject, key in newest.items()}


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
    _known.keep(
        connection,
        table,
        {
            row["subject"]: KnownKey(row["key_id"].hex, row["master_key"], row["wrapped_key"])
            for row in rows
            if row["subject"] in made
        },
    )
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
