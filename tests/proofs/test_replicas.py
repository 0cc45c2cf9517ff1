"""A log that another server has too: by logical replication, and as a physical standby that is promoted."""

from __future__ import annotations

import getpass
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    CommitTokenError,
    MovedLogError,
    ReadModel,
    ReadModelManager,
    Worker,
    commit_token,
    map_from_event,
    verify,
    wait_for,
)
from sa_eventsource.checkpoints import adopt
from sa_eventsource.read_models import append, count
from tests import PARTITIONS
from tests.committing import commit_events
from tests.databases import EmbeddedServer, own_server
from tests.processes import finish
from tests.proofs.test_dump_and_restore import BINARIES
from tests.shop import AnyTill, Sold
from tests.waiting import wait_until

pytestmark = pytest.mark.slow  # two servers each


class Base(DeclarativeBase):
    """Base of the log that is replicated."""


class Till(AnyTill, Base):
    """Where marks are sold."""

    __aggregate_type__ = "replicas.Till"


class Marks(ReadModel, Base):
    """All marks, in their order: what is skipped, or comes twice, shows."""

    __projection_name__ = "marks"
    id: Mapped[str]
    number: Mapped[int] = map_from_event(Sold, reduce=count())
    marks: Mapped[list[str]] = map_from_event(Sold, reduce=append("what"))


def sell(engine: Engine, till_id: str, *marks: str) -> None:
    commit_events(engine, Till, till_id, *(Sold(what=mark) for mark in marks))


def taken(engine: Engine) -> int:
    with Session(engine) as session:
        return sum(row.number for row in session.scalars(select(Marks)))


def execute(engine: Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for each in statements:
            connection.exec_driver_sql(each)


def number_of_events(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM events"))


@contextmanager
def server(copy_of: Engine | None = None, **settings: str) -> Iterator[tuple[EmbeddedServer, Engine]]:
    """Start a server of its own, empty or as the standby of another."""
    with own_server(None if copy_of is None else partial(_copy, copy_of)) as started:
        engine = create_engine(started.url)
        try:
            if copy_of is None:
                started.stop_waiting_for_the_disk()
                if settings:
                    execute(engine, *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in settings.items()))
                    engine.dispose()
                    started.crash()
                    started.restart()
            yield started, engine
        finally:
            engine.dispose()


def _copy(engine: Engine, folder: Path) -> None:
    """Make a standby's data, as the user that its own server runs as: it refuses to be root."""
    uri = make_url(engine.url).set(drivername="postgresql", database=None).render_as_string(hide_password=False)
    options = ("--write-recovery-conf", "--checkpoint=fast", "--pgdata", folder, "--dbname", uri)
    done = finish([BINARIES / "pg_basebackup", *options])
    assert done.returncode == 0, done.stderr
    for left_behind in (*folder.glob(".s.*"), folder / "log"):  # of the other server, which keeps them in its folder
        left_behind.unlink(missing_ok=True)
    if getpass.getuser() == "root":
        with engine.connect() as connection:
            owner = Path(connection.scalar(text("SHOW data_directory")) or "").owner()
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, owner)
    folder.chmod(0o700)


COLUMNS = ", ".join(f'"{each.name}"' for each in Base.metadata.tables["events"].columns if each.name != "transaction_id")


@contextmanager
def subscribed(published: str) -> Iterator[tuple[Engine, Engine]]:
    """A log of twenty events, and another server to which a subscription brings them, one that has given out more ids."""
    with server(wal_level="logical") as (_, source), server() as (_, target):
        for engine in (source, target):
            Base.metadata.create_all(engine)
        execute(
            target,
            "CREATE TABLE noise (number int)",
            "DO $$ BEGIN FOR i IN 1..20000 LOOP "
            "BEGIN INSERT INTO noise VALUES (1); EXCEPTION WHEN others THEN NULL; END; END LOOP; END $$",
        )
        for number in range(20):
            sell(source, f"t{number % 7}", str(number))
        uri = make_url(source.url)
        connection = f"host={uri.query['host']} user={uri.username} dbname={uri.database}"
        as_one = "" if PARTITIONS is None else " WITH (publish_via_partition_root = true)"
        execute(source, f"CREATE PUBLICATION log FOR {published}{as_one}")
        execute(target, f"CREATE SUBSCRIPTION log CONNECTION '{connection}' PUBLICATION log")
        wait_until(lambda: _is_in_step(target))
        assert number_of_events(target) == 20
        yield source, target
        if _has_subscription(target):
            execute(target, "DROP SUBSCRIPTION log")


def _is_in_step(engine: Engine) -> bool:
    """Check whether all tables have been copied: until then each is by itself, and one may be behind another."""
    with engine.connect() as connection:
        return bool(connection.scalar(text("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel")))


def _has_subscription(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_subscription")))


def test_events_that_come_with_the_transaction_ids_of_another_cluster_are_not_followed() -> None:
    """They lie in this one's past: of those that come later, each would be taken for one that was seen."""
    with subscribed("TABLE events") as (source, target):
        manager = ReadModelManager(target, Base)
        with pytest.raises(MovedLogError, match="without the column transaction_id") as caught:
            manager.catch_up()
        assert caught.value.by_subscription
        (status,) = manager.status()
        assert (status.state, status.lag_events) == ("moved", 20)
        assert len(manager.problems()) == 1
        for number in range(10):
            sell(source, f"t{number % 7}", f"later {number}")
        wait_until(lambda: number_of_events(target) == 30)
        assert Worker(target, Base).run_once() == 0
        assert manager.status()[0].state == "moved"
        with Session(target) as session, pytest.raises(MovedLogError):
            adopt(session, Base)
        # The other server takes over: from here on, events are written here only.
        execute(target, "DROP SUBSCRIPTION log", "SELECT setval(pg_get_serial_sequence('events', 'position'), 30)")
        assert manager.catch_up() == 30
        sell(target, "t0", "here")
        assert manager.catch_up() == 1
        assert taken(target) == 31
        assert verify(target, Base).findings == ()


def test_events_that_come_without_their_transaction_ids_are_followed_as_any_others() -> None:
    with subscribed(f"TABLE events ({COLUMNS})") as (source, target):
        with Worker(target, Base):
            with Session(source) as late:
                late.add(till := Till(id="late"))
                till.sell("committed last")
                late.flush()
                for number in range(10):
                    sell(source, f"t{number % 7}", f"later {number}", "more")
                wait_until(lambda: taken(target) == 40)
                late.commit()
            wait_until(lambda: taken(target) == 41)
        assert ReadModelManager(target, Base).problems() == []
        ReadModelManager(source, Base).catch_up()
        with Session(source) as one, Session(target) as other:
            marks = [{row.id: row.marks for row in session.scalars(select(Marks))} for session in (one, other)]
        assert marks[0] == marks[1]
        assert verify(target, Base).findings == ()


def test_a_log_that_moves_by_replication_takes_its_checkpoints_along() -> None:
    """All tables are replicated; then the other server takes over. Nothing is skipped, nothing comes twice."""
    with subscribed("ALL TABLES") as (source, target):
        ReadModelManager(source, Base).catch_up()
        with Session(source) as late:
            late.add(till := Till(id="late"))
            till.sell("late")
            late.flush()
            sell(source, "t0", "a", "b")
            ReadModelManager(source, Base).catch_up()
            late.commit()
        sell(source, "t1", "c")
        wait_until(lambda: number_of_events(target) == 24)
        wait_until(lambda: taken(target) == 22)
        manager = ReadModelManager(target, Base)
        assert manager.status()[0].state == "moved"
        execute(
            target,
            "DROP SUBSCRIPTION log",
            "SELECT setval(pg_get_serial_sequence('events', 'position'), max(position)) FROM events",
        )
        assert manager.status()[0].state == "moved"
        with pytest.raises(MovedLogError, match="sa-eventsource adopt"):
            manager.catch_up()
        with Session(target) as session:
            assert adopt(session, Base) == 24
        sell(target, "t2", "here")
        assert manager.catch_up() == 3
        assert taken(target) == 25
        assert verify(target, Base).findings == ()


def test_a_standby_has_no_followers_until_it_is_promoted() -> None:
    with server() as (primary_server, primary):
        Base.metadata.create_all(primary)
        sell(primary, "t0", "1", "2")
        ReadModelManager(primary, Base).catch_up()
        with server(copy_of=primary) as (_, standby):
            sell(primary, "t0", "3")
            with Session(primary) as session:
                session.get_one(Till, "t0").sell("4")
                session.commit()
                token = commit_token(session)
            assert token is not None
            wait_until(lambda: number_of_events(standby) == 4)
            # Whoever looks, may; whoever follows, waits for the primary.
            (status,) = ReadModelManager(standby, Base).status()
            assert (status.state, status.lag_events) == ("running", 2)
            assert verify(standby, Base).is_sound
            with Worker(standby, Base) as worker:
                time.sleep(1)
                assert worker.error is None
                # Reading your own writes on a standby: the rows come with the events.
                ReadModelManager(primary, Base).catch_up()
                with Session(standby) as session:
                    wait_for(session, Marks, after=token, timeout=30)
                    with pytest.raises(CommitTokenError):
                        wait_for(session, Marks, after="01a22500-c87b-735b-8279-cb5458ecd189", timeout=0.05)
                sell(primary, "t1", "5")
                wait_until(lambda: number_of_events(standby) == 5)
                primary_server.crash()
                with standby.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    assert connection.scalar(text("SELECT pg_promote()"))
                wait_until(lambda: taken(standby) == 5)
                sell(standby, "t1", "6")
                wait_until(lambda: taken(standby) == 6)
            assert ReadModelManager(standby, Base).problems() == []
            assert verify(standby, Base).findings == ()
