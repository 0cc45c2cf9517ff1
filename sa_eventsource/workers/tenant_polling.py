"""What a worker does where tenants share a log: it asks whose news there is, and lets the followers of each take their own.

Each tenant has checkpoints of its own, so that its log is followed as if it were the only one: what one of them cannot take holds
no other up. One question for all tells for which of them there is something to do.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import func, select, text

from sa_eventsource.checkpoints import Snapshot
from sa_eventsource.exceptions import WorkerRoleError
from sa_eventsource.mapping import ALL_TENANTS, TENANT_ID, TENANT_SETTING, tenants_worker
from sa_eventsource.store import current_snapshot, in_window, message_of, named_tenant, passes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.workers.pace import Pace
    from sa_eventsource.workers.polling import Polling

S = TypeVar("S")

log = logging.getLogger("sa_eventsource.worker")

_AT_WORK = 0.1
"""Seconds for which tenants are worked for until news is asked for again."""

_BETWEEN_LOOKS = 0.01
"""Seconds between two looks at tenants that have no news: where they are many, each is looked at the more seldom."""

_QUIET_SHARE = 10
_FIRST_OUTAGE = 0.1


@dataclass(slots=True)
class TenantPolling:
    """The tenants of a log, and for which of them there is something to do. It is used as a :class:`Polling` is.

    Attributes:
        tables: The log's tables.
        of_tenant: Makes what looks after the followers of one tenant.
        pace: How long to wait.
        stopping: Returns whether to come to an end.
        is_listening: Whether the worker hears of commits, so that it need not ask so often.
    """

    tables: EventSourceTables
    of_tenant: Callable[[], Polling]
    pace: Pace
    stopping: Callable[[], bool]
    is_listening: bool = False
    _all: dict[str, Polling] = field(default_factory=dict, init=False)
    _due: dict[str, float] = field(default_factory=dict, init=False)
    _snapshot: Snapshot | None = field(default=None, init=False)
    _last_news: float = field(default_factory=time.monotonic, init=False)
    _outage: float = field(default=0.0, init=False)

    @property
    def taken(self) -> int:
        """How many events have been taken."""
        return sum(polling.taken for polling in self._all.values())

    @property
    def hindered(self) -> dict[str, str]:
        """Who did not go on at the last turn, and why, with the tenant in front."""
        return {f"{tenant}: {name}": why for tenant, polling in sorted(self._all.items()) for name, why in polling.hindered.items()}

    def wake(self, session: Session) -> float:
        """Ask, and let the followers of tenants work. As :meth:`Polling.wake`."""
        try:
            self._ask(session)
        except Exception as error:
            if not passes(error):
                raise
            self._outage = min(max(2 * self._outage, _FIRST_OUTAGE), self.pace.longest_outage)
            log.warning("the database cannot be worked with; next attempt in %.1f s: %s", self._outage, message_of(error))
            return self._outage
        self._outage = 0.0
        until = time.monotonic() + _AT_WORK
        for tenant in sorted(self._due, key=self._due.__getitem__):
            now = time.monotonic()
            if self.stopping() or now >= until:
                return 0.0
            if self._due[tenant] <= now:
                self._due[tenant] = self._work_for(session, tenant)
        return self._pause()

    def run(self, session: Session) -> None:
        """Let the followers of all tenants work, until none has more to take."""
        self._ask(session)
        for tenant in sorted(self._all):
            with as_tenant(session, tenant):
                self._all[tenant].run(session)

    def _ask(self, session: Session) -> None:
        """Find the tenants that have new events, and at first all of them; they are worked for first."""
        before = self._snapshot
        with as_tenant(session, ALL_TENANTS):
            try:
                connection = session.connection(bind_arguments=self.tables.bind_arguments)
                if before is None:
                    _check_role(connection, self.tables)
                    self._snapshot = Snapshot.parse(connection.scalar(select(current_snapshot())) or "")
                    tenants = all_tenants(connection, self.tables)
                else:
                    news = select(self.tables.events.c[TENANT_ID]).where(
                        *in_window(self.tables.events, has_start=True, until=func.pg_current_snapshot())
                    )
                    asked = select(current_snapshot(), func.array(news.distinct().scalar_subquery()))
                    snapshot, tenants = connection.execute(asked, {"since": str(before)}).one()
                    self._snapshot = Snapshot.parse(snapshot)
            finally:
                session.rollback()
        if tenants:
            self._last_news = time.monotonic()
        for tenant in tenants:
            self._due[tenant] = 0.0
            if tenant not in self._all:
                self._all[tenant] = self.of_tenant()

    def _work_for(self, session: Session, tenant: str) -> float:
        """Let the followers of one tenant work for a while; give the time when to look at them again."""
        polling = self._all[tenant]
        polling.is_listening = self.is_listening
        with as_tenant(session, tenant):
            pause = polling.wake(session)
        if not pause:
            return 0.0
        return max(polling.look_again, time.monotonic() + _BETWEEN_LOOKS * len(self._all))

    def _pause(self) -> float:
        now = time.monotonic()
        longest = self.pace.listening if self.is_listening else self.pace.longest
        soonest = min(self._due.values(), default=now + longest) - now
        return max(0.0, min(longest, max(self.pace.shortest, (now - self._last_news) / _QUIET_SHARE), soonest))


def _check_role(connection: Connection, tables: EventSourceTables) -> None:
    """Refuse a role that would be shown no tenant at all."""
    worker = tenants_worker(tables.options) or ""
    is_worker, role = connection.execute(_MAY_SEE_ALL, {"worker": worker}).one()
    if not is_worker:
        raise WorkerRoleError(role, worker)


_MAY_SEE_ALL = text("SELECT pg_has_role(CAST(:worker AS name), 'USAGE'), current_user::text")


def all_tenants(connection: Connection, tables: EventSourceTables) -> list[str]:
    """List the tenants that have events, on a connection that sees all: one look into an index for each."""
    events = tables.events
    found = select(func.min(events.c[TENANT_ID]).label("tenant")).cte("tenants", recursive=True)
    more = events.alias("more")
    following = select(func.min(more.c[TENANT_ID])).where(more.c[TENANT_ID] > found.c.tenant).scalar_subquery()
    found = found.union_all(select(following).where(found.c.tenant.is_not(None)))
    return list(connection.scalars(select(found.c.tenant).where(found.c.tenant.is_not(None))))


def tenants_of_log(session: Session, tables: EventSourceTables) -> list[str]:
    """List the tenants that have events or commands, in a transaction of its own, as the worker's role.

    Args:
        session: A session without a transaction in progress, which is no tenant's.
        tables: The tables, which tenants share.

    Raises:
        WorkerRoleError: The role that is connected may not see all tenants.
    """
    with as_tenant(session, ALL_TENANTS):
        try:
            connection = session.connection(bind_arguments=tables.bind_arguments)
            _check_role(connection, tables)
            found = set(all_tenants(connection, tables))
            if tables.commands is not None:
                found.update(connection.scalars(select(tables.commands.c[TENANT_ID]).distinct()))
        finally:
            session.rollback()
    return sorted(found)


@contextmanager
def as_tenant(session: Session, tenant: str) -> Iterator[None]:
    """Have a session's transactions be a tenant's for the block; before and behind it, it has none and holds nothing."""
    session.info[TENANT_SETTING] = tenant
    try:
        yield
    finally:
        session.expunge_all()
        del session.info[TENANT_SETTING]


def is_for_all_tenants(sessions: Callable[[], Any], tables: EventSourceTables) -> bool:
    """Check whether tenants share tables, and the sessions are those of none of them."""
    if not tables.options.tenants:
        return False
    session = sessions()
    return named_tenant(getattr(session, "sync_session", session), tables.bind_arguments) is None


def sessions_for(sessions: Callable[[], S], tenant: str) -> Callable[[], S]:
    """Give what makes the sessions of a tenant."""

    def make() -> S:
        session = sessions()
        session.info[TENANT_SETTING] = tenant  # type: ignore[attr-defined]
        return session

    return make
