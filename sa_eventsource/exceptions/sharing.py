"""Tenants that share tables: whose transaction it is, and who may not have one."""

from __future__ import annotations

from sa_eventsource.exceptions.base import EventSourceError

HOW_TO_NAME = (
    'Session(engine, info={"sa_eventsource.tenant": "acme"}), engine.execution_options(**{"sa_eventsource.tenant": "acme"}) or '
    'with tenant_context("acme")'
)


class TenantError(EventSourceError):
    """What tenants share is not used for one of them, as it must be."""


class NoTenantError(TenantError):
    """Tables that tenants share are used in a transaction that is no tenant's. Name the tenant before it begins.

    Attributes:
        table: The table.
    """

    def __init__(self, table: str) -> None:
        """Build the message from the table."""
        self.table = table
        super().__init__(f"tenants share {table!r}, and this transaction is no tenant's. Name one before it begins: {HOW_TO_NAME}")


class TenantChangedError(TenantError):
    """Objects of one tenant come into a transaction of another. Use a session for each tenant, and load in it what it changes.

    A session that holds objects of one tenant begins a transaction of another, or is told of another one in the middle of a
    transaction; it joins a transaction in which another session is at work for another tenant; or an aggregate, or a row of a read
    model or of the log, that was loaded or written for one tenant is given to another one's session.

    Attributes:
        before: The tenant whose objects it holds, or whose the transaction or the instance is.
        tenant: The tenant that was named now; None where none is.
        aggregate_type: The type of the aggregate that was given to the session, or the name of the row's class; None where it was
            no instance.
        aggregate_id: Its id as stored, or the row's primary key; None likewise.
    """

    def __init__(
        self, before: str, tenant: str | None, *, aggregate_type: str | None = None, aggregate_id: str | None = None
    ) -> None:
        """Build the message from the tenants, and from the instance if it was one."""
        self.before = before
        self.tenant = tenant
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        named = "none" if tenant is None else repr(tenant)
        if aggregate_type is None:
            super().__init__(
                f"this session holds objects of tenant {before!r}, or has joined its transaction, and the tenant is {named} now. "
                "Use another session, on a connection of its own, or call session.close() first"
            )
        else:
            super().__init__(
                f"{aggregate_type} {aggregate_id!r} is of tenant {before!r}, and this session is of tenant {named}. Load it in the "
                "session that changes it, with session.get(); to bring it to another tenant, export and import its events"
            )


class TenantBypassError(TenantError):
    """The role that is connected sees all tenants, whatever the policies say: a superuser, or one with ``BYPASSRLS``.

    Attributes:
        role: The role.
        tenant: The tenant that was named.
    """

    def __init__(self, role: str, tenant: str) -> None:
        """Build the message from the role and the tenant."""
        self.role = role
        self.tenant = tenant
        super().__init__(
            f"role {role!r} is a superuser or has BYPASSRLS, and no policy would keep tenant {tenant!r} to itself. Connect as the "
            "role of the application"
        )


class TenantIdError(TenantError, ValueError):
    """What names a tenant is no text of 1 to 255 characters, or is ``"*"``.

    Attributes:
        value: What was given.
    """

    def __init__(self, value: object) -> None:
        """Build the message from what was given."""
        self.value = value
        super().__init__(f'a tenant is named by a text of 1 to 255 characters without NUL, and not by "*"; this is {value!r}')


class WorkerRoleError(TenantError):
    """A worker for the tenants of a log is connected as a role that may not see all of them, and so would find none.

    Attributes:
        role: The role that is connected.
        worker: The role that may.
    """

    def __init__(self, role: str, worker: str) -> None:
        """Build the message from the roles."""
        self.role = role
        self.worker = worker
        super().__init__(
            f"role {role!r} may not see the tenants of this log, for whom the worker is to work. Connect as {worker!r}, or as a "
            "member of it; or give the worker the sessions of one tenant"
        )
