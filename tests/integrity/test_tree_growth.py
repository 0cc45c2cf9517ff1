"""Events go into the tree by position, each once, whoever puts them there, and however transactions overlap."""

from __future__ import annotations

import asyncio
import threading
from itertools import accumulate

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource import AsyncWorker, DeclarationError, SigningKeyError, Worker
from sa_eventsource.integrity import Head, async_grow_tree, grow_tree, tree_growth
from sa_eventsource.integrity.leaves import hash_of_event, hashes_in, unpacked
from sa_eventsource.integrity.merkle_tree import inclusion_path, leaf_hash, root_from_inclusion
from sa_eventsource.integrity.proofs_of_base import proofs_on
from sa_eventsource.integrity.stored_tree import StoredTree, head_of
from sa_eventsource.integrity.tree_growth import TreeGrowth
from sa_eventsource.store import select_raw_events
from tests.integrity.proven_log import SIGNING_KEY, VARIABLE, Base, fill, grow, pay_in, sizes, tables_of_log, tree_table
from tests.integrity.test_merkle_tree import naive_root
from tests.orders import Base as UnprovenBase
from tests.waiting import wait_until


def leaves_of(engine: Engine) -> list[tuple[int, bytes]]:
    """The position and the leaf's hash of each event in the log, by position."""
    events = tables_of_log().events
    with engine.connect() as connection:
        rows = connection.execute(select_raw_events(events).order_by(events.c.position)).all()
        return [(each.position, hash_of_event(connection, each)) for each in rows]


def tree_of(engine: Engine) -> list[tuple[int, bytes]]:
    """The position and the hash of each leaf that is stored."""
    found: list[tuple[int, bytes]] = []
    with engine.connect() as connection:
        for row in connection.execute(select(tree_table()).order_by(tree_table().c.tree_size)):
            found += zip(unpacked(row.positions), hashes_in(row.leaf_hashes), strict=True)
            assert row.tree_size == len(found)
            assert row.root == naive_root([each for _, each in found])
    return found


def newest_head(engine: Engine) -> Head:
    with engine.connect() as connection:
        head = StoredTree(connection, tree_table()).newest_head()
    assert head is not None
    return head


def test_what_is_appended_goes_into_the_tree(engine: Engine) -> None:
    assert grow(engine) == 0
    fill(engine, 12)
    assert grow(engine) == 12
    assert grow(engine) == 0
    with Session(engine) as session:
        pay_in(session, "account-1", 7)
        session.commit()
    assert grow(engine) == 1
    assert tree_of(engine) == leaves_of(engine)
    assert sizes(engine) == [12, 13]


def test_heads_are_signed(engine: Engine) -> None:
    fill(engine, 3)
    grow(engine)
    head = newest_head(engine)
    assert head.key_id == "first"
    head.check_signature(SIGNING_KEY.public_keys())
    assert Head.from_json(head.to_json()) == head


def test_a_leaf_is_the_line_of_an_export_without_its_position(engine: Engine) -> None:
    fill(engine, 1)
    grow(engine)
    with engine.connect() as connection:
        row = connection.execute(select_raw_events(tables_of_log().events)).one()
    written = (
        f'{{"event_id":"{row.event_id}","aggregate_type":"integrity.Account","aggregate_id":"account-0","version":1,'
        f'"event_type":"bank.Deposited","event_version":1,"event_data":{row.event_data},"metadata":null,'
        f'"occurred_at":"{row.occurred_at.isoformat()}","correlation_id":null,"causation_id":null,'
        f'"recorded_at":"{row.recorded_at.isoformat()}"}}'
    )
    assert tree_of(engine) == [(row.position, leaf_hash(written.encode()))]


def test_large_subtrees_are_stored_and_small_ones_worked_out(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_growth, "BATCH", 150)
    fill(engine, 1100, accounts=3)
    assert grow(engine) == 1100
    positions, leaves = zip(*leaves_of(engine), strict=True)
    root = naive_root(list(leaves))
    with engine.connect() as connection:
        stored = StoredTree(connection, tree_table())
        assert stored.growing(1100).root == root
        for index in (0, 1, 255, 256, 511, 512, 777, 1023, 1024, 1099):
            assert root_from_inclusion(leaves[index], index, 1100, inclusion_path(stored.subtree, index, 1100)) == root
            assert stored.index_of(positions[index]) == index


def test_a_tree_grows_by_any_steps(engine: Engine) -> None:
    steps = [1, 2, 255, 3, 300]
    for number, each in enumerate(steps):
        with Session(engine) as session:
            pay_in(session, f"account-{number}", *range(each))
            session.commit()
        assert grow(engine) == each
    assert sizes(engine) == list(accumulate(steps))
    assert tree_of(engine) == leaves_of(engine)


def test_a_writer_whose_position_is_lower_is_waited_for(postgres_engine: Engine) -> None:
    growth = TreeGrowth(proofs_on(tables_of_log()))
    with Session(postgres_engine) as slow, Session(postgres_engine) as growing:
        pay_in(slow, "slow", 1)
        slow.flush()
        fill(postgres_engine, 4)
        assert growth.grow(growing) == 0
        assert growth.is_waiting
        with Session(postgres_engine) as another:
            pay_in(another, "later", 1)
            another.flush()  # began behind what is visible, and is not waited for
            slow.commit()
            assert growth.grow(growing) == 5
            another.commit()
        assert growth.grow(growing) == 1
        assert not growth.is_waiting
    assert tree_of(postgres_engine) == leaves_of(postgres_engine)
    assert [position for position, _ in tree_of(postgres_engine)] == sorted(position for position, _ in leaves_of(postgres_engine))


def test_a_writer_that_is_rolled_back_leaves_a_gap(postgres_engine: Engine) -> None:
    growth = TreeGrowth(proofs_on(tables_of_log()))
    with Session(postgres_engine) as slow, Session(postgres_engine) as growing:
        pay_in(slow, "slow", 1)
        slow.flush()
        fill(postgres_engine, 4)
        assert growth.grow(growing) == 0
        slow.rollback()
        assert growth.grow(growing) == 4
    assert tree_of(postgres_engine) == leaves_of(postgres_engine)


def test_a_stranger_is_not_waited_for(postgres_engine: Engine) -> None:
    with postgres_engine.begin() as stranger:
        stranger.execute(text("CREATE TABLE elsewhere (id int)"))
        fill(postgres_engine, 4)
        assert grow(postgres_engine) == 4


def test_a_worker_puts_events_into_the_tree(engine: Engine) -> None:
    fill(engine, 10)
    with Worker(engine, Base, only=["proofs"]):
        wait_until(lambda: sizes(engine) == [10])
        with Session(engine) as session:
            pay_in(session, "another", 1)
            session.commit()
        wait_until(lambda: sizes(engine) == [10, 11])
    assert tree_of(engine) == leaves_of(engine)


def test_a_worker_that_runs_once_does_so_too(engine: Engine) -> None:
    fill(engine, 20)
    Worker(engine, Base).run_once()
    assert sizes(engine) == [20]


async def test_an_asynchronous_worker_does_so_too(async_engine: AsyncEngine) -> None:
    async def append(number: int) -> None:
        async with AsyncSession(async_engine) as session:
            await session.run_sync(pay_in, "account", number)
            await session.commit()

    async def size() -> int:
        async with AsyncSession(async_engine) as session:
            return (await session.execute(select(tree_table().c.tree_size).order_by(tree_table().c.tree_size.desc()))).scalar() or 0

    await append(1)
    async with AsyncSession(async_engine) as session:
        assert await async_grow_tree(session, base=Base) == 1
    async with AsyncWorker(async_sessionmaker(async_engine), Base, only=["proofs"]), asyncio.timeout(60):
        await append(2)
        while await size() < 2:  # noqa: ASYNC110 - another process would not tell either
            await asyncio.sleep(0.01)


def test_many_workers_share_the_work(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_growth, "BATCH", 7)
    growths = [TreeGrowth(proofs_on(tables_of_log())) for _ in range(4)]
    stopping = threading.Event()
    errors: list[BaseException] = []

    def work(growth: TreeGrowth) -> None:
        try:
            with Session(postgres_engine) as session:
                while not stopping.is_set():
                    growth.grow(session)
        except BaseException as error:
            errors.append(error)

    def write(number: int) -> None:
        for each in range(25):
            with Session(postgres_engine) as session:
                pay_in(session, f"account-{number}", each, each)
                session.commit()

    threads = [threading.Thread(target=work, args=(each,)) for each in growths]
    writers = [threading.Thread(target=write, args=(each,)) for each in range(4)]
    for each in (*threads, *writers):
        each.start()
    for each in writers:
        each.join()
    wait_until(lambda: sizes(postgres_engine)[-1:] == [200] or bool(errors))
    stopping.set()
    for each in threads:
        each.join()
    assert errors == []
    assert tree_of(postgres_engine) == leaves_of(postgres_engine)


def test_without_a_key_no_head_is_made(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(engine, 2)
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(SigningKeyError, match=f"the environment variable {VARIABLE} has none"):
        grow(engine)
    assert sizes(engine) == []
    with Worker(sessionmaker(engine), Base, only=["proofs"]):
        monkeypatch.undo()
        wait_until(lambda: sizes(engine) == [2])


def test_a_base_without_proofs_says_so(engine: Engine) -> None:
    with Session(engine) as session, pytest.raises(DeclarationError, match=r"EventSourceOptions\(proofs=True\)"):
        grow_tree(session, base=UnprovenBase)


def test_the_head_of_a_row_is_what_was_signed(engine: Engine) -> None:
    fill(engine, 300)
    grow(engine)
    with engine.connect() as connection:
        row = connection.execute(select(tree_table())).one()
    assert head_of(row) == newest_head(engine)
