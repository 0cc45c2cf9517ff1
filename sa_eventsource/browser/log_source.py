"""The log that a browser shows, and the transactions in which it is read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from sa_eventsource.mapping import TENANT_SETTING, maker_of_new_sessions, tables_of_base
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.browser.access import Access


LONGEST_LOCK_WAIT = 5.0
"""Seconds for which an action waits for a lock, where the connections have no ``lock_timeout`` of their own."""


class LogSource:
    """The log of a declarative base, in a database.

    Attributes:
        base: The declarative base.
        tables: The library's tables.
        seconds: How long a statement of a page may take.
        link_form: The form of addresses of source lines; None where these are not linked.
    """

    def __init__(self, base: Any, database: Any, *, seconds: float, link_form: str | None) -> None:
        """Take the base and the database. As :class:`~sa_eventsource.browser.Browser`."""
        self.base = base
        self.tables = tables_of_base("Browser()", base)
        self.seconds = seconds
        self.link_form = link_form
        self._new_session = maker_of_new_sessions("Browser()", database)

    def session(self, tenant: str | None) -> Session:
        """Open a session whose transactions are the tenant's. Close it."""
        session = self._new_session()
        if tenant is not None:
            session.info[TENANT_SETTING] = tenant
        return session

    def session_of_action(self, tenant: str | None) -> Session:
        """Open a session for an action, which waits for no lock longer than a few seconds: it holds a connection. Close it."""
        session = self.session(tenant)

        def wait_a_while(_session: Session, _transaction: object, connection: Connection) -> None:
            database_of(connection.dialect).limit_waits(connection, for_locks=LONGEST_LOCK_WAIT, idle=None)

        event.listen(session, "after_begin", wait_a_while)
        return session

    def session_in_time(self, tenant: str | None) -> Session:
        """Open a session for what begins transactions itself: they cannot write, and have their time limited. Close it."""
        session = self.session(tenant)

        def only_read(_session: Session, _transaction: object, connection: Connection) -> None:
            database = database_of(connection.dialect)
            database.begin_reading(connection)
            database.limit_statements(connection, self.seconds)

        event.listen(session, "after_begin", only_read)
        return session

    @contextmanager
    def reading(self, access: Access, tenant: str | None) -> Iterator[Session]:
        """Open a session in a transaction that cannot write, sees one state of the database, and has its time limited.

        Args:
            access: What the reader may see: personal data comes as placeholders otherwise.
            tenant: Whose events they are.
        """
        with self.session(tenant) as session:
            options = {} if access.personal_data else {"personal_data": "masked"}
            database = database_of(session.get_bind(**self.tables.bind_arguments).dialect)
            connection = session.connection(
                bind_arguments=self.tables.bind_arguments, execution_options={**database.one_state, **options}
            )
            database.begin_reading(connection)
            database.limit_statements(connection, self.seconds)
            yield session
