"""Rotating keys: the log is not written again, only rows of the table of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import bindparam, func, select, update

from sa_eventsource.arguments import whole_number
from sa_eventsource.exceptions import SubjectForgottenError
from sa_eventsource.mapping import check_session, present_session
from sa_eventsource.privacy.master_keys import ciphers
from sa_eventsource.privacy.of_base import checked_subject, personal_data_of_base
from sa_eventsource.store import database_of, require_transaction

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, scoped_session

    from sa_eventsource.mapping import EventSourceTables


def rotate_master_key(session: Session | scoped_session[Session], *, base: Any = None, at_most: int = 1000) -> int:
    """Wrap keys of subjects with the present master key that another one has wrapped, in the session's transaction.

    Events stay as they are, and so do the keys themselves. Call it, and commit, until it returns 0; then the old master key is
    needed no more, except for backups. Appending and reading go on meanwhile.

    Args:
        session: The session. The caller commits.
        base: The declarative base of the log; None for the only one that has master keys.
        at_most: How many keys to wrap.

    Returns:
        How many were wrapped.

    Raises:
        DeclarationError: The base has no master keys, or none is given and several have.
        MasterKeyError: A key cannot be unwrapped or wrapped.
    """
    check_session("rotate_master_key()", session)
    at_most = whole_number("at_most", at_most, minimum=1, meaning="how many keys to wrap, 1 or more")
    found = personal_data_of_base("rotate_master_key", base)
    keys, master_keys = found.subject_keys, found.master_keys
    connection = _connection(present_session(session), found.tables)
    present, _ = master_keys.wrap(ciphers().new_key())
    # No reader and no one who appends waits: their locks only keep others from deleting the row.
    others = select(keys.c.key_id, keys.c.wrapped_key, keys.c.master_key).where(
        keys.c.wrapped_key.is_not(None), keys.c.master_key != present
    )
    rows = connection.execute(others.order_by(keys.c.key_id).limit(at_most).with_for_update(key_share=True)).all()
    new = []
    for row in rows:
        name, wrapped = master_keys.wrap(master_keys.unwrap(row.master_key, row.wrapped_key))
        new.append({"which": row.key_id, "wrapped": wrapped, "name": name})
    if new:
        values: dict[str, Any] = {"wrapped_key": bindparam("wrapped"), "master_key": bindparam("name")}
        connection.execute(update(keys).where(keys.c.key_id == bindparam("which")).values(values), new)
    return len(new)


def rotate_subject_key(session: Session | scoped_session[Session], subject: object, *, base: Any = None) -> None:
    """Give a subject a new key for the events to come, in the session's transaction. Those that are there keep theirs.

    Args:
        session: The session. The caller commits.
        subject: Whose key: as for :func:`forget`.
        base: As for :func:`forget`.

    Raises:
        DeclarationError: The base has no master keys, or none is given and several have.
        MasterKeyError: The key cannot be wrapped.
        SubjectForgottenError: The subject is forgotten.
        ValueError: The subject is no text of 1 to 255 characters.
    """
    check_session("rotate_subject_key()", session)
    whom = checked_subject("rotate_subject_key", subject)
    found = personal_data_of_base("rotate_subject_key", base)
    keys = found.subject_keys
    connection = _connection(present_session(session), found.tables)
    forgotten = connection.execute(select(keys.c.forgotten_at).where(keys.c.subject == whom).with_for_update()).scalars().all()
    if any(each is not None for each in forgotten):
        raise SubjectForgottenError([whom])
    name, wrapped = found.master_keys.wrap(ciphers().new_key())
    generation = select(func.coalesce(func.max(keys.c.generation), 0) + 1).where(keys.c.subject == whom).scalar_subquery()
    new = keys.insert().values(key_id=uuid4(), subject=whom, generation=generation, wrapped_key=wrapped, master_key=name)
    connection.execute(new)


def _connection(session: Session, tables: EventSourceTables) -> Connection:
    connection = session.connection(bind_arguments=tables.bind_arguments)
    require_transaction(connection)
    database_of(connection.dialect).become_writer(connection, tables.events)
    return connection
