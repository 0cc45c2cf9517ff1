"""Whose a transaction is: it is said once, with the first statement, and holds until the transaction ends.

As a setting that is local to the transaction, it reaches all that runs in it, SQL of the application included, and never the next
user of a pooled connection, through a pooler neither.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import Session

from sa_eventsource.exceptions import DeclarationError, NoTenantError, TenantBypassError, TenantChangedError, TenantIdError
from sa_eventsource.mapping import ALL_TENANTS, MAX_NAME_LENGTH, TENANT_SETTING, is_shared_by_tenants
from sa_eventsource.store.connections import SAID, Said, is_in_autocommit, is_in_use, require_transaction
from sa_eventsource.store.databases import database_of
from sa_eventsource.store.driver_statement import DriverStatement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Table
    from sqlalchemy.orm import SessionTransaction

_now: ContextVar[str | None] = ContextVar("sa_eventsource_tenant", default=None)
HELD = "_sa_eventsource_tenant"
"""Key in a session's ``__dict__``, where there is one: :class:`Held`."""


class Held(NamedTuple):
    """Whose objects a session may hold.

    Attributes:
        tenant: The tenant of the session's last transaction; None where it was none's.
        transaction: Gives that transaction, for as long as there is one.
        said_on: Give the connections on which it was said, each with the tenant whose their transaction was before.
    """

    tenant: str | None
    transaction: Callable[[], SessionTransaction | None]
    said_on: tuple[tuple[ref[Connection], str | None], ...] = ()


_begun: list[Callable[[Session], None]] = []


def on_begun_for_tenant(listener: Callable[[Session], None]) -> None:
    """Have *listener* called with each session whose transaction has begun as a tenant's."""
    _begun.append(listener)


@contextmanager
def tenant_context(tenant: str) -> Iterator[None]:
    """Have the transactions that begin within a block be a tenant's.

    Example: ``with tenant_context("acme"):``

    What a session says (``Session(engine, info={"sa_eventsource.tenant": "acme"})``) or an engine
    (``engine.execution_options(**{"sa_eventsource.tenant": "acme"})``) takes precedence. As a context variable, it applies to the
    thread or asyncio task, and to the tasks that are made in the block.

    Args:
        tenant: The tenant's id.

    Raises:
        TenantIdError: It is none.
    """
    token = _now.set(check_tenant(tenant))
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
        _set(connection, check_tenant(tenant))


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
    held: Held | None = session.__dict__.get(HELD)
    if tenant is None and held is None:
        return
    if said is not None and said.tenant != tenant and any(map(is_in_use, said.by)):
        raise TenantChangedError(said.tenant, tenant)
    before = None if held is None else held.tenant
    if before is not None and before != tenant and len(session.identity_map):
        raise TenantChangedError(before, tenant)
    earlier = held.said_on if held is not None and held.transaction() is transaction else ()
    session.__dict__[HELD] = Held(tenant, ref(transaction), (*earlier, (ref(connection), tenant_of(connection))))
    if tenant is not None:
        if tenant != ALL_TENANTS:
            check_tenant(tenant)
        _set(connection, tenant)
        _note(connection, tenant, transaction)
        for listener in _begun:
            listener(session)


def end_for_tenant(session: Session, transaction: SessionTransaction) -> None:
    """Have a transaction that the application keeps be whose it was before; called when that of a session within it has ended."""
    held: Held | None = session.__dict__.get(HELD)
    if held is None or held.transaction() is not transaction or not held.said_on:
        return
    session.__dict__[HELD] = held._replace(said_on=())
    for given, before in held.said_on:
        connection = given()
        if connection is None or connection.closed or not connection.in_transaction() or before == held.tenant:
            continue
        said = _said_for(connection)
        if said is not None and any(is_in_use(each) for each in said.by if each() is not transaction):
            continue  # another session is at work there
        connection.execution_options(**{SAID: None})
        with suppress(DBAPIError, InvalidRequestError):  # it has failed, or is lost: it takes nothing until it is rolled back
            _SET.execute(connection, {"tenant": before or ""})
            if before is not None:
                _note(connection, before)


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
        _set(connection, check_tenant(tenant))
        _note(connection, tenant)


def named_tenant(session: Session, bind_arguments: dict[str, Any]) -> str | None:
    """Get the tenant whose the next transaction of a session will be; None if none is named."""
    bind = session.get_bind(**bind_arguments)
    named = session.info.get(TENANT_SETTING) or bind.get_execution_options().get(TENANT_SETTING) or _now.get()
    return named or (tenant_of(bind) if isinstance(bind, Connection) else None)


def require_same_tenant(session: Session) -> None:
    """Refuse a session that has :data:`HELD` to be used on where another tenant is named in the middle of a transaction.

    A context that begins or ends meanwhile names nobody: the transaction stays whose it is.

    Raises:
        TenantChangedError: ``session.info`` names another one than that of the transaction.
    """
    tenant, transaction, _ = session.__dict__[HELD]
    named = session.info.get(TENANT_SETTING)
    if tenant is not None and named not in (None, tenant) and transaction() is session.get_transaction() is not None:
        raise TenantChangedError(tenant, named)


def tenant_in_force(session: Session, bind_arguments: dict[str, Any]) -> str | None:
    """Get whose a session is: the tenant of its transaction that has begun, or of the next one; None if it is nobody's.

    Raises:
        TenantChangedError: As for :func:`require_same_tenant`.
    """
    held: Held | None = session.__dict__.get(HELD)
    if held is not None and held.transaction() is session.get_transaction() is not None:
        require_same_tenant(session)
        return held.tenant
    return named_tenant(session, bind_arguments)


def hold_for(session: Session, tenant: str) -> None:
    """Note whose objects a session holds that is nobody's yet."""
    session.__dict__[HELD] = Held(tenant, _none)


def _none() -> None:
    return None


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
    """Note whose the transaction on a connection is: not as what the application gave it, which applies to the next, too."""
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


def check_tenant(tenant: Any) -> str:
    """Take what names a tenant.

    Raises:
        TenantIdError: It is no text of 1 to 255 characters, or ``"*"``.
    """
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
