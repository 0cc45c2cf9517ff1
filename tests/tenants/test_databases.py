"""A database for each tenant: a session chooses by what it is told, and all that asks beside it asks the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect, select
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource import (
    CommitTokenError,
    ConcurrencyError,
    EventReplayer,
    EventStore,
    Worker,
    commit_token,
    event_record,
    export_events,
    import_events,
    verify,
    wait_for,
)
from tests.databases import DatabasePool
from tests.shop import Sold
from tests.verification.damage import Articles, Base, Till, Tills

Sessions = Callable[[str], sessionmaker[Session]]


@pytest.fixture
def sessions(postgres_databases: DatabasePool) -> Iterator[Sessions]:
    """Make the sessions of a tenant; there are two."""
    with postgres_databases.database() as first, postgres_databases.database() as second:
        engines = {"alpha": create_engine(first), "beta": create_engine(second)}
        for engine in engines.values():
            Base.metadata.create_all(engine)

        class TenantSession(Session):
            def get_bind(self, *_: Any, **__: Any) -> Engine:
                return engines[self.info["tenant"]]

        yield lambda tenant: sessionmaker(class_=TenantSession, info={"tenant": tenant})
        for engine in engines.values():
            engine.dispose()


def sell(make: sessionmaker[Session], number: int) -> Any:
    with make() as session:
        till = Till(id="t-1")
        for _ in range(number):
            till.apply_event(Sold(what="pen", number=1))
        session.add(till)
        session.commit()
        return commit_token(session)


def test_each_tenant_has_a_log_of_its_own(sessions: Sessions) -> None:
    alpha, beta = sessions("alpha"), sessions("beta")
    token = sell(alpha, 2)
    sell(beta, 3)
    Worker(alpha, Base).run_once()
    for make, number, articles in ((alpha, 2, [2]), (beta, 3, [])):
        with make() as session:
            assert session.get_one(Till, "t-1").version == number
            assert EventStore(session, Base).events.count() == number
            assert session.execute(select(inspect(Tills).primary_key[0])).scalars().all() == ["t-1"]
            assert [each.number for each in session.scalars(select(Articles))] == articles
        assert verify(make, Base).is_sound
    with alpha() as session:
        wait_for(session, Articles, after=token)
    with beta() as session, pytest.raises(CommitTokenError):
        wait_for(session, Articles, after=token, timeout=0.1)


def test_why_an_append_was_refused_is_asked_of_the_tenants_database(sessions: Sessions) -> None:
    alpha, beta = sessions("alpha"), sessions("beta")
    sell(alpha, 1)
    sell(beta, 1)
    with alpha() as first, alpha() as second, beta() as other:
        for session in (first, second, other):
            session.get_one(Till, "t-1").apply_event(Sold(what="ink", number=2))
        first.commit()
        other.commit()
        with pytest.raises(ConcurrencyError) as refused:
            second.commit()
        assert refused.value.actual_version == 2


def test_a_tenant_is_exported_rebuilt_and_moved_alone(sessions: Sessions) -> None:
    alpha, beta = sessions("alpha"), sessions("beta")
    sell(alpha, 2)
    events = event_record(Base).__table__
    with alpha() as session:
        lines = list(export_events(session.connection(), events))
    with beta() as session:
        assert import_events(session.connection(), events, lines).added == 2
        session.commit()
    assert EventReplayer(beta, Base).rebuild(Articles) == 2
    with alpha() as session:
        assert session.scalars(select(Articles)).all() == []
