"""Checks of arguments that come from SQLAlchemy: sessions, what makes sessions, declarative bases.

They refuse, where it is passed, what would fail far away in words about something else: an engine where a session is wanted, a
session where an engine is, a session of the other kind.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, MetaData, Table
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sa_eventsource.mapping.tables import tables_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from sa_eventsource.mapping.tables import EventSourceTables

_SYNCHRONOUS = (Session, scoped_session)
_SYNCHRONOUS_ENGINE = "pass a synchronous engine for the same database, from create_engine()"


def check_session(name: str, value: Any, *, instead: str | None = None) -> None:
    """Refuse what is no ``Session`` and no ``scoped_session``.

    Args:
        name: Who takes it, for the message: ``EventStore()``.
        value: What the caller gave.
        instead: What to use with an ``AsyncSession``.

    Raises:
        TypeError: It is none.
    """
    if isinstance(value, _SYNCHRONOUS):
        return
    if _is_asynchronous(value):
        advice = f"with an AsyncSession, use {instead}" if instead is not None else "call it within AsyncSession.run_sync()"
    else:
        advice = _how_to_open(value, "Session")
    raise TypeError(f"{name} takes a Session, not {_shown(value)}{advice and '; '}{advice}")


def session_of(name: str, value: Any, *, instead: str | None = None) -> Session:
    """Take a session; of a ``scoped_session``, the one that it stands for now. Arguments and errors as for ``check_session``."""
    check_session(name, value, instead=instead)
    session: Session = present_session(value)
    return session


def present_session(session: Session | scoped_session[Session]) -> Session:
    """Get the session that a ``scoped_session`` stands for here and now; any other session as it is."""
    return session() if isinstance(session, scoped_session) else session


def check_async_session(name: str, value: Any, *, instead: str) -> None:
    """Refuse what is no ``AsyncSession``. Arguments and errors as for :func:`check_session`."""
    kinds = _asynchronous("AsyncSession")
    if kinds and isinstance(value, kinds):
        return
    if isinstance(value, _SYNCHRONOUS):
        advice = f"with a Session, use {instead}"
    elif isinstance(value, _asynchronous("async_scoped_session")):
        advice = "call it to get the session: registry()"
    else:
        advice = _how_to_open(value, "AsyncSession")
    raise TypeError(f"{name} takes an AsyncSession, not {_shown(value)}{advice and '; '}{advice}")


def check_any_session(name: str, value: Any) -> None:
    """Refuse what is no session of either kind. Arguments and errors as for :func:`check_session`."""
    if not isinstance(value, (*_SYNCHRONOUS, *_asynchronous("AsyncSession", "async_scoped_session"))):
        raise TypeError(f"{name} takes a Session or an AsyncSession, not {_shown(value)}")


def session_maker(name: str, value: Any) -> Callable[[], Session]:
    """Take an engine, or what makes sessions.

    Args:
        name: Who takes it, for the message.
        value: What the caller gave.

    Returns:
        What makes sessions.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(value, Engine):
        return sessionmaker(value)
    if callable(value) and not _is_asynchronous(value):
        maker: Any = value
        return maker  # type: ignore[no-any-return]
    advice = ""
    if isinstance(value, Session | Connection):
        advice = "; its transactions are its own, on connections of its own, so pass the engine"
    elif _is_asynchronous(value):
        advice = f"; {_SYNCHRONOUS_ENGINE}"
    elif isinstance(value, str | URL):
        advice = "; pass create_engine(url)"
    raise TypeError(f"{name} takes an engine or a sessionmaker, not {_shown(value)}{advice}")


def maker_of_new_sessions(name: str, value: Any) -> Callable[[], Session]:
    """Take an engine, or what makes a new session whenever it is called, to be used and closed in a thread that others use too.

    Arguments as for :func:`session_maker`.

    Raises:
        TypeError: It is neither; it is a ``scoped_session``, which gives the application's session of that thread; or it is of an
            ``AsyncEngine``, which connects only where an event loop waits for it.
    """
    if isinstance(value, scoped_session):
        advice = "pass the engine, or its session_factory"
        raise TypeError(f"{name} takes an engine or a sessionmaker, not a scoped_session, which shares its sessions; {advice}")
    maker = session_maker(name, value)
    if isinstance(maker, sessionmaker):
        binds = [maker.kw.get("bind"), *(maker.kw.get("binds") or {}).values()]
        if any(bind is not None and bind.dialect.is_async for bind in binds):
            wanted = f"{name} takes an engine or a sessionmaker"
            raise TypeError(f"{wanted}, not the sync_engine of an AsyncEngine; {_SYNCHRONOUS_ENGINE}")
    return maker


def async_session_maker(name: str, value: Any, *, instead: str = "Worker") -> Any:
    """Take what makes asynchronous sessions. Arguments and errors as for :func:`session_maker`.

    Args:
        name: Who takes it, for the message.
        value: What the caller gave.
        instead: What to use with synchronous sessions.
    """
    wrong = (Engine, Session, scoped_session, sessionmaker, *_asynchronous("AsyncEngine", "AsyncSession", "AsyncConnection"))
    if callable(value) and not isinstance(value, wrong):
        return value
    advice = "; pass async_sessionmaker(engine)" if isinstance(value, _asynchronous("AsyncEngine")) else ""
    advice = f"; with synchronous sessions, use {instead}" if isinstance(value, wrong[:4]) else advice
    raise TypeError(f"{name} takes an async_sessionmaker, not {_shown(value)}{advice}")


def check_connection(name: str, connection: Any, table: Any) -> None:
    """Refuse what is no ``Connection``, or no ``Table``.

    Args:
        name: Who takes it, for the message.
        connection: What the caller gave for a connection.
        table: What the caller gave for the log's table.

    Raises:
        TypeError: One is of another type.
    """
    if not isinstance(connection, Connection):
        advice = "pass session.connection()" if isinstance(connection, _SYNCHRONOUS) else "such as that of engine.begin()"
        raise TypeError(f"{name} takes a Connection, not {_shown(connection)}; {advice}")
    if not isinstance(table, Table):
        raise TypeError(f"{name} takes the log's table, event_record(Base).__table__, not {_shown(table)}")


def tables_of_base(name: str, base: Any) -> EventSourceTables:
    """Get the library's tables of a declarative base, or of a class that is mapped on one, adding them the first time.

    Args:
        name: Who takes it, for the message.
        base: What the caller gave.

    Raises:
        TypeError: It has no ``MetaData``.
        DeclarationError: The tables are there already under other options.
    """
    metadata = getattr(base, "metadata", None)
    if not isinstance(metadata, MetaData):
        advice = ", not its metadata" if isinstance(base, MetaData) else f", not {_shown(base)}"
        raise TypeError(f"{name} takes the declarative base, such as Base{advice}")
    return tables_on(metadata, getattr(base, "__eventsource__", None))


def check_class(name: str, value: Any, kind: str) -> None:
    """Refuse what is no class.

    Args:
        name: Who takes it, for the message.
        value: What the caller gave.
        kind: Which class is wanted: "an aggregate's class, such as Order".

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, type):
        raise TypeError(f"{name} takes {kind}, not {_shown(value)}")


def _how_to_open(value: Any, kind: str) -> str:
    maker = sessionmaker if kind == "Session" else _asynchronous("async_sessionmaker")
    if isinstance(value, (Engine, Connection, *_asynchronous("AsyncEngine", "AsyncConnection"))):
        return f"open one on it: {'async ' if kind == 'AsyncSession' else ''}with {kind}(engine) as session"
    if isinstance(value, maker):
        return "call it to make one"
    return ""


def _is_asynchronous(value: Any) -> bool:
    kinds = _asynchronous("AsyncSession", "async_scoped_session", "async_sessionmaker", "AsyncEngine", "AsyncConnection")
    return isinstance(value, kinds)


def _asynchronous(*names: str) -> tuple[type[Any], ...]:
    """Get SQLAlchemy's asynchronous classes; none where nobody has imported them, as they cannot be without greenlet."""
    module = sys.modules.get("sqlalchemy.ext.asyncio")
    return () if module is None else tuple(getattr(module, name) for name in names)


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str | int | float | None):
        return repr(value)
    kind = type(value).__name__
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"
