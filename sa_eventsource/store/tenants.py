"""Whose a transaction is: it is said once, with the first statement, and holds until the transaction ends.

As a setting that is local to the transaction, it reaches all that runs in it, SQL of the application included, and never the next
user of a pooled connection, through a pooler neither.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import ref

from sqlalchemy import text
from sqlalchemy.orm import Session

from sa_eventsource.exceptions import DeclarationError, NoTenantError, TenantBypassError, TenantChangedError, TenantIdError
from sa_eventsource.mapping import ALL_TENANTS, MAX_NAME_LENGTH, TENANT_SETTING, is_shared_by_tenants
from sa_eventsource.store.connections import SAID, Said, is_in_autocommit, is_in_use, require_transaction
from sa_eventsource.store.databases import database_of
from sa_eventsource.store.driver_statement import DriverStatement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Table
    from sqlalchemy.orm import SessionTransaction

_now: ContextVar[str | None] = ContextVar("sa_eventsource_tenant", default=None)
_HELD = "sa_eventsource.tenant_held"
"""Key of ``Session.info``: the tenant of the session's last transaction, whose objects it may hold."""


@contextmanager
def tenant_context(tenant: str) -> Iterator[None]:
    """Have the transactions that begin within a block be a tenant's.

    Example: ``with tenant_context("acme"):``

    What a session says (``Session(engine, info={"sa_eventsource.tenant": "acme"})``) or an engine
    (``engine.execution_options(**{"sa_eventsource.tenant": "acme"})``) takes precedence. As a context variable, it holds for the
    thread or asyncio task, and for the tasks that are made in the block.

    Args:
        tenant: The tenant's id.

    Raises:
        TenantIdError: It is none.
    """
    token = _now.set(_checked(tenant))
    try:
        yield
    finally:
        _now.reset(token)


def current_tenant() -> str | None:
    """Get the tenant of the context in force here; None if there is none."""
    return _now.get()


def say_tenant(connection: Connection) -> None:
    """Say whose a transaction is whose connection has a tenant among its options; called where no session begins it."""
    tenant = tenant_of(connection)
    if tenant is not None and not is_in_autocommit(connection):
        _set(connection, _checked(tenant))


def begin_for_tenant(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    """Say in the database whose a session's transaction is; called when it has begun on a connection.

    Raises:
        AutocommitError: A tenant is named, and the connection is in autocommit mode.
        DeclarationError: A tenant is named, and the database is not PostgreSQL.
        TenantBypassError: A tenant is named, and the role sees all tenants.
        TenantChangedError: The session holds objects of another tenant, or joins a transaction in which another session is at work
            for another tenant.
        TenantIdError: What names a tenant is none.
    """
    if transaction.nested:
        return
    options = connection.get_execution_options()
    said = _said_for(connection)
    if said is None and options.get(SAID) is not None:  # for a transaction before, on a connection that the application keeps
        connection.execution_options(**{SAID: None})
    tenant = session.info.get(TENANT_SETTING) or options.get(TENANT_SETTING) or _now.get() or (said and said.tenant)
    held = session.info.get(_HELD)
    if tenant is None and held is None:
        return
    if said is not None and said.tenant != tenant and any(map(is_in_use, said.by)):
        raise TenantChangedError(said.tenant, tenant)
    if held is not None and held != tenant and len(session.identity_map):
        raise TenantChangedError(held, tenant)
    session.info[_HELD] = tenant
    if tenant is not None:
        if tenant != ALL_TENANTS:
            _checked(tenant)
        _set(connection, tenant)
        _note(connection, tenant, transaction)


def join_tenant(connection: Connection, table: Table) -> None:
    """Say whose a transaction is that no session may have begun, where tenants share a table.

    Raises:
        NoTenantError: No tenant is named.
        Others: As for :func:`begin_for_tenant`.
    """
    if is_shared_by_tenants(table):
        tenant = tenant_of(connection) or _now.get()
        if tenant is None:
            raise NoTenantError(table.name)
        _set(connection, _checked(tenant))
        _note(connection, tenant)


def named_tenant(session: Session, bind_arguments: dict[str, Any]) -> str | None:
    """Get the tenant whose the next transaction of a session will be; None if none is named."""
    bind = session.get_bind(**bind_arguments)
    return session.info.get(TENANT_SETTING) or bind.get_execution_options().get(TENANT_SETTING) or _now.get()


def name_in_log(name: str, whose: Session | Connection) -> str:
    """Give what to call something in a message of a worker: with the tenant in front whose its session or connection is."""
    tenant = (whose.info if isinstance(whose, Session) else whose.get_execution_options()).get(TENANT_SETTING)
    return name if tenant is None else f"{tenant}: {name}"


def tenant_of(connection: Connection) -> str | None:
    """Get the tenant whose the transaction on a session's connection is: said for it, or given to the connection."""
    said = _said_for(connection)
    given: str | None = connection.get_execution_options().get(TENANT_SETTING)
    return given if said is None else said.tenant


def _said_for(connection: Connection) -> Said | None:
    """Get what was said for the transaction that a connection is in."""
    said: Said | None = connection.get_execution_options().get(SAID)
    is_present = said is not None and connection.in_transaction() and said.transaction() is connection.get_transaction()
    return said if is_present else None


def _note(connection: Connection, tenant: str, *by: SessionTransaction) -> None:
    """Note whose the transaction on a connection is: not as what the application has given to it, which holds for the next, too."""
    before = _said_for(connection)
    others = () if before is None else tuple(each for each in before.by if is_in_use(each))
    connection.execution_options(**{SAID: Said(tenant, ref(connection.get_transaction()), (*others, *map(ref, by)))})


def require_tenant(connection: Connection, table: Table) -> None:
    """Refuse a transaction that is no tenant's where tenants share a table.

    Raises:
        NoTenantError: It is none.
    """
    if is_shared_by_tenants(table) and tenant_of(connection) in (None, ALL_TENANTS):
        raise NoTenantError(table.name)


def _checked(tenant: Any) -> str:
    if not isinstance(tenant, str) or not 0 < len(tenant) <= MAX_NAME_LENGTH or "\0" in tenant or tenant == ALL_TENANTS:
        raise TenantIdError(tenant)
    return tenant


def _set(connection: Connection, tenant: str) -> None:
    if not database_of(connection.dialect).is_server:
        raise DeclarationError(
            f"tenant {tenant!r} is named, and tenants share tables on PostgreSQL only, not on {connection.dialect.name}"
        )
    require_transaction(connection)
    _, role, sees_all = tuple(_SET.execute(connection, {"tenant": tenant}).one())
    if sees_all:
        raise TenantBypassError(role, tenant)


_SET = DriverStatement(
    text(f"""
        SELECT set_config('{TENANT_SETTING}', :tenant, true), rolname::text, rolsuper OR rolbypassrls
        FROM pg_roles WHERE rolname = current_user
    """)
)
