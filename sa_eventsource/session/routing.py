"""Which connection the events of one instance are read from and written to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState, Session


def connection_for(session: Session, state: InstanceState[Any]) -> Connection:
    """Get a session's connection for one instance, in its transaction.

    A sharded session chooses by the instance: the shard that it came from, or is to go to.
    """
    if session.connection_callable is None:
        return session.connection(bind_arguments={"mapper": state.mapper})
    if not session.in_transaction():
        session.begin()
    return session.connection_callable(state.mapper, state.obj())
