"""Two tenants in one database, and a log in the default schema beside them: none sees, locks or changes what is another's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateSchema

from sa_eventsource import (
    EventReplayer,
    EventSourcedRepository,
    EventStore,
    ReadModelManager,
    Worker,
    commit_token,
    event_record,
    export_events,
    import_events,
    lock_aggregate,
    verify,
    wait_for,
)
from sa_eventsource.checkpoints import adopt
from sa_eventsource.mapping import tables_on
from sa_eventsource.mapping.immutability import SWITCH
from sa_eventsource.read_models import definition_of
from sa_eventsource.store import database_of
from tests.advisory_locks import OWN_ADVISORY_LOCKS
from tests.databases import WAITING, number_waiting
from tests.shop import Sold
from tests.threads import in_thread
from tests.verification.damage import Articles, Base, PerDay, Till, Tills, sell
from tests.waiting import wait_until

EVENTS = tables_on(Base.metadata).events
TENANTS = ("Tenant one", 'tenant"2', None)


@dataclass(frozen=True)
class Seen:
    """What a tenant has."""

    totals: dict[str, int]
    strong: dict[str, int]
    eventual: dict[str, int]
    own_table: int
    snapshots: int
    events: int


def seen(engine: Engine) -> Seen:
    with Session(engine) as session:
        return Seen(
            totals={each.id: each.total for each in session.scalars(select(Till))},
            strong={row[0]: row[1] for row in session.execute(select(inspect(Tills).primary_key[0], Tills.total))},
            eventual={each.article: each.number for each in session.scalars(select(Articles))},
            own_table=len(session.scalars(select(PerDay)).all()),
            snapshots=len(session.execute(select(tables_on(Base.metadata).snapshots)).all()),
            events=EventStore(session, Base).events.count(),
        )


@pytest.fixture
def engines(postgres_engine: Engine) -> list[Engine]:
    """An engine for each tenant, and at the end the one for the default schema; each has a log of another size."""
    found = []
    for number, tenant in enumerate(TENANTS, 1):
        engine = postgres_engine
        if tenant is not None:
            with postgres_engine.begin() as connection:
                connection.execute(CreateSchema(tenant))
            engine = postgres_engine.execution_options(schema_translate_map={None: tenant})
        Base.metadata.create_all(engine)
        sell(engine, "t-1", *range(number))
        found.append(engine)
    return found


def test_appending_loading_and_selecting_stay_with_the_tenant(engines: list[Engine]) -> None:
    first, second, default = engines
    with Session(first) as session:
        till = session.get_one(Till, "t-1")
        assert (till.version, till.total) == (1, 0)
        assert session.get(Till, "t-2") is None
    sell(second, "t-2", 5)
    assert [each.totals for each in map(seen, engines)] == [{"t-1": 0}, {"t-1": 1, "t-2": 5}, {"t-1": 3}]
    with Session(first) as session:
        assert session.scalars(select(event_record(Base)).order_by(event_record(Base).position)).one().version == 1
        repository = EventSourcedRepository(session, Till)
        assert len(list(repository.history("t-1"))) == 1
    with Session(default) as session:
        assert EventSourcedRepository(session, Till).load_at_version("t-1", 2).total == 1


def test_snapshots_and_strong_rows_stay_with_the_tenant(engines: list[Engine]) -> None:
    sell(engines[0], "t-1", 10, 20, 30)
    assert [each.snapshots for each in map(seen, engines)] == [1, 0, 1]
    assert [each.strong for each in map(seen, engines)] == [{"t-1": 60}, {"t-1": 1}, {"t-1": 3}]
    with Session(engines[0]) as session:
        assert session.get_one(Till, "t-1").total == 60


def test_catching_up_stays_with_the_tenant(engines: list[Engine]) -> None:
    first, second, default = engines
    before = seen(default)
    assert ReadModelManager(first, Base).catch_up(Articles) == 1
    assert seen(first).eventual == {"article 0": 1}
    assert seen(second).eventual == {}
    assert Worker(second, Base).run_once() == 2 * 3
    assert seen(second).eventual == {"article 0": 1, "article 1": 1}
    assert (seen(first).own_table, seen(second).own_table) == (0, 1)
    assert seen(default) == before


def test_waiting_asks_the_tenants_checkpoint(engines: list[Engine]) -> None:
    assert Worker(engines[0], Base).run_once() == 3
    with Session(engines[0]) as session:
        session.add(till := Till(id="t-9"))
        till.apply_event(Sold(what="article 0", number=2))
        session.commit()
        token = commit_token(session)
        assert token is not None
        with Worker(engines[0], Base):
            wait_for(session, Articles, after=token)
    assert seen(engines[0]).eventual == {"article 0": 2}
    assert seen(engines[1]).eventual == {}


def test_a_rebuild_counts_each_event_once_and_locks_the_tenants_log(engines: list[Engine]) -> None:
    first, second, default = engines
    for engine in engines:
        Worker(engine, Base).run_once()
    others = [seen(second), seen(default)]
    expected = seen(first)
    locked = _locks_of_rebuilding(first)
    for model in (Articles, PerDay):
        EventReplayer(first, Base).rebuild(model)
    assert EventReplayer(first, Base).rebuild_rows(Tills, ["t-1"]) == 1
    assert locked == {(TENANTS[0], "events")}
    assert seen(first) == expected
    assert [seen(second), seen(default)] == others


def _locks_of_rebuilding(engine: Engine) -> set[tuple[str | None, str]]:
    """Rebuild a strong model, and list what was locked against writers meanwhile."""
    found: set[tuple[str | None, str]] = set()

    def note(connection: Connection) -> None:
        held = connection.execute(
            text(
                "SELECT nspname, relname FROM pg_locks JOIN pg_class c ON c.oid = relation "
                "JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE pid = pg_backend_pid() AND mode = 'ShareLock' AND relkind IN ('r', 'p') AND NOT relispartition"
            )
        )
        found.update((schema, name) for schema, name in held)

    event.listen(engine, "commit", note)
    EventReplayer(engine, Base).rebuild(Tills)
    event.remove(engine, "commit", note)
    return found


def test_a_writer_of_another_tenant_does_not_wait_for_a_rebuild(engines: list[Engine]) -> None:
    with Session(engines[0]) as session:
        connection = session.connection()
        database_of(connection.dialect).lock_log(connection, definition_of(Tills).tables.events)
        for engine in engines[1:]:
            with engine.connect() as connection:
                connection.execute(text("SET lock_timeout = '10s'"))
            sell(engine, "t-1", 100)
        waiting, errors = in_thread(lambda: sell(engines[0], "t-1", 100))
        wait_until(lambda: number_waiting(engines[2]))
        session.rollback()
        waiting.join(60)
    assert errors == []
    assert [each.totals["t-1"] for each in map(seen, engines)] == [100, 101, 103]


def test_the_lock_of_an_aggregate_is_the_tenants(engines: list[Engine], postgres_engine: Engine) -> None:
    with Session(engines[0]) as one:
        lock_aggregate(one, Till, "t-1")
        for engine in engines[1:]:
            with Session(engine) as other:
                other.execute(text("SET LOCAL lock_timeout = '10s'"))
                lock_aggregate(other, Till, "t-1")
                assert not other.scalar(text(WAITING))
        by_path = create_engine(postgres_engine.url)
        with Session(by_path) as other:
            other.execute(text('SET LOCAL search_path = "Tenant one"'))
            assert other.scalar(text(f"SELECT count(*) FROM {OWN_ADVISORY_LOCKS} AND granted")) == 1
            other.execute(text("SET LOCAL lock_timeout = '50ms'"))
            with pytest.raises(Exception, match="lock timeout"):
                lock_aggregate(other, Till, "t-1")
        by_path.dispose()


def test_status_and_verification_are_of_the_tenant(engines: list[Engine]) -> None:
    first, second, default = engines
    Worker(second, Base).run_once()
    lags = [{each.name: each.lag_events for each in ReadModelManager(engine, Base).status()}["articles"] for engine in engines]
    assert lags == [1, 0, 3]
    assert [verify(engine, Base).findings for engine in engines] == [()] * 3
    with first.begin() as connection:
        connection.execute(select(text(f"set_config('{SWITCH}', 'on', true)")))
        connection.execute(EVENTS.update().values(version=3))
        connection.execute(text('ALTER TABLE "Tenant one".events DISABLE TRIGGER sa_eventsource_immutable_truncate'))
    assert [each.check for each in verify(first, Base).findings] == ["streams", "immutability"]
    assert verify(second, Base).findings == verify(default, Base).findings == ()


def test_an_export_of_one_tenant_is_imported_by_another(engines: list[Engine]) -> None:
    first, second, default = engines
    sell(first, "t-7", 1, 2)
    with first.connect() as connection:
        lines = list(export_events(connection, EVENTS, EVENTS.c.aggregate_id == "t-7"))
    before = seen(default)
    with second.begin() as connection:
        assert import_events(connection, EVENTS, lines).added == 2
    assert seen(second).totals == {"t-1": 1, "t-7": 3}
    assert seen(second).strong == {"t-1": 1}
    EventReplayer(second, Base).rebuild(Tills)
    assert seen(second).strong == {"t-1": 1, "t-7": 3}
    assert seen(default) == before


def test_a_moved_log_is_adopted_by_the_tenant_alone(engines: list[Engine]) -> None:
    first, second, default = engines
    for engine in engines:
        Worker(engine, Base).run_once()
    others = [_transaction_ids(second), _transaction_ids(default)]
    with Session(first) as session:
        assert adopt(session, Base) == 1
    assert _transaction_ids(first) == [3]
    assert [_transaction_ids(second), _transaction_ids(default)] == others
    sell(first, "t-1", 9)
    Worker(first, Base).run_once()
    assert seen(first).eventual == {"article 0": 2}


def _transaction_ids(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(select(EVENTS.c.transaction_id).order_by(EVENTS.c.position)))


@pytest.fixture
def attached(tmp_path: object) -> Iterator[list[Engine]]:
    """The same on SQLite: a tenant is an attached database."""
    engine = create_engine(f"sqlite:///{tmp_path}/main.db", poolclass=StaticPool)
    with engine.begin() as connection:
        for name in ("one", "two"):
            connection.exec_driver_sql(f"ATTACH DATABASE ? AS {name}", (f"{tmp_path}/{name}.db",))
    engines = [engine.execution_options(schema_translate_map={None: name}) for name in ("one", "two")] + [engine]
    for number, each in enumerate(engines, 1):
        Base.metadata.create_all(each)
        sell(each, "t-1", *range(number))
    yield engines
    engine.dispose()


def test_tenants_on_sqlite_are_apart(attached: list[Engine]) -> None:
    first, second, default = attached
    others = [seen(second), seen(default)]
    sell(first, "t-1", 10, 20, 30)
    assert Worker(first, Base).run_once() == 12
    EventReplayer(first, Base).rebuild(Tills)
    EventReplayer(first, Base).rebuild(Articles)
    assert seen(first) == Seen({"t-1": 60}, {"t-1": 60}, {"article 0": 2, "article 1": 1, "article 2": 1}, 1, 1, 4)
    assert [seen(second), seen(default)] == others
    assert [verify(engine, Base).findings for engine in attached] == [()] * 3
    with first.connect() as connection:
        lines = list(export_events(connection, EVENTS))
    with second.begin() as connection:
        connection.execute(text("DROP TRIGGER two.sa_eventsource_immutable_events_delete"))
        connection.execute(EVENTS.delete())
        assert import_events(connection, EVENTS, lines).added == 4
    assert seen(second) == replace(others[0], totals={"t-1": 60}, events=4)
    assert [each.check for each in verify(second, Base, only=[]).findings] == ["immutability"]
