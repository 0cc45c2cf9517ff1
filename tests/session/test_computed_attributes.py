"""Attributes that the database computes are read again after a flush of their aggregate, as for any entity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, MetaData, event, func, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column, query_expression, with_expression

from sa_eventsource import AggregateRoot, DomainEvent, applies

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable


class Base(DeclarativeBase):
    """Base of the classes of these tests."""


class ThreadChanged(DomainEvent):
    """A thread was changed."""

    __event_type__ = "computed.ThreadChanged"


class Reply(Base):
    """A row that is counted."""

    __tablename__ = "replies"
    id: Mapped[int] = mapped_column(primary_key=True)
    thread_id: Mapped[str]


class Thread(AggregateRoot, Base):
    """An aggregate whose replies are counted."""

    __aggregate_type__ = "computed.Thread"

    changes: int = 0
    seen: Mapped[int | None] = query_expression()

    def change(self) -> None:
        """Change it."""
        self.apply_event(ThreadChanged())

    @applies(ThreadChanged)
    def _changed(self, event: ThreadChanged) -> None:
        self.changes += 1


class PlainThread(Base):
    """The same as an entity."""

    __tablename__ = "threads"
    id: Mapped[str] = mapped_column(primary_key=True)
    changes: Mapped[int] = mapped_column(default=0)
    revision: Mapped[int] = mapped_column()
    seen: Mapped[int | None] = query_expression()
    __mapper_args__ = {"version_id_col": revision}

    def change(self) -> None:
        """Change it."""
        self.changes = (self.changes or 0) + 1


BOTH: tuple[Any, ...] = (Thread, PlainThread)


def _count(thread: Any) -> Any:
    return select(func.count(Reply.id)).where(Reply.thread_id == thread.id).correlate_except(Reply).scalar_subquery()


for each in BOTH:
    each.replies = column_property(_count(each))
    each.replies_later = column_property(_count(each), deferred=True)
    each.replies_once = column_property(_count(each), expire_on_flush=False)
    each.replies_once_later = column_property(_count(each), expire_on_flush=False, deferred=True)

COMPUTED = ("replies", "replies_later", "replies_once", "replies_once_later")
HEARD_BY: dict[str, Callable[[Session], None]] = {
    "nobody": lambda _: None,
    "a hook of the session": lambda session: event.listen(session, "after_flush", lambda *_: None),
}


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def threads(engine: Engine) -> Engine:
    """A database with the tables."""
    return engine


def course(engine: Engine, kind: Any, names: tuple[str, ...], heard_by: str) -> list[Any]:
    """Read attributes of a thread after each flush and each commit in a course of them."""
    seen: list[Any] = []

    def read() -> None:
        seen.append((sorted(inspect(thread).expired_attributes & set(COMPUTED)), [getattr(thread, name) for name in names]))

    with Session(engine) as session:
        HEARD_BY[heard_by](session)
        thread = kind(id="t")
        thread.change()
        session.add_all([thread, Reply(thread_id="t")])
        session.flush()
        read()
        session.add(Reply(thread_id="t"))
        session.flush()
        read()  # of which the thread is no part
        thread.change()
        session.add(Reply(thread_id="t"))
        session.flush()
        read()
        session.commit()
        read()
        savepoint = session.begin_nested()
        thread.change()
        session.add(Reply(thread_id="t"))
        session.flush()
        read()
        savepoint.rollback()
        read()
        thread.change()
        thread.replies = 99  # in memory only, until the next flush
        session.flush()
        read()
        session.rollback()
    return seen


@pytest.mark.parametrize("heard_by", HEARD_BY)
@pytest.mark.parametrize("names", [(), COMPUTED, *((name,) for name in COMPUTED)], ids=lambda names: "+".join(names) or "none")
def test_what_a_flush_leaves_of_computed_attributes_is_what_it_leaves_of_an_entitys(
    threads: Engine, names: tuple[str, ...], heard_by: str
) -> None:
    aggregates = course(threads, Thread, names, heard_by)
    with Session(threads) as session:
        for reply in session.scalars(select(Reply)):
            session.delete(reply)
        session.commit()
    assert aggregates == course(threads, PlainThread, names, heard_by)


def test_the_state_is_not_read_again_with_a_computed_attribute(threads: Engine) -> None:
    told: list[Any] = []
    with Session(threads) as session:
        thread: Any = Thread(id="t")
        thread.change()
        session.add_all([thread, Reply(thread_id="t")])
        event.listen(Thread, "expire", listener := lambda _target, names: told.append(names))
        try:
            session.flush()
        finally:
            event.remove(Thread, "expire", listener)
        assert [sorted(names) for names in told] == [["replies", "replies_once", "seen"]]
        thread.change()
        with session.no_autoflush:
            assert (thread.replies, thread.version, thread.changes, len(thread.pending_events)) == (1, 2, 2, 1)
        session.commit()


def test_an_expression_of_a_query_is_after_a_flush_what_it_is_for_an_entity(threads: Engine) -> None:
    seen: list[tuple[Any, ...]] = []
    for kind in BOTH:
        with Session(threads) as session:
            thread = kind(id="t")
            thread.change()
            session.add(thread)
            session.commit()
            session.expunge_all()
            thread = session.scalars(select(kind).options(with_expression(kind.seen, _count(kind)))).one()
            before = thread.seen
            thread.change()
            session.flush()
            seen.append((before, thread.seen))
    assert seen[0] == seen[1]
    assert seen[0][0] == 0


@pytest.mark.parametrize("kind", BOTH)
def test_a_mapper_hook_behind_the_row_finds_a_computed_attribute_as_it_is_then(threads: Engine, kind: Any) -> None:
    found: list[int] = []
    with Session(threads) as session:
        thread = kind(id="t")
        thread.change()
        session.add_all([thread, Reply(thread_id="t")])
        session.commit()
        assert thread.replies == 1
        session.add(Reply(thread_id="t"))
        session.flush()
        thread.change()
        event.listen(kind, "after_update", listener := lambda *_: found.append(thread.replies))
        try:
            session.flush()
        finally:
            event.remove(kind, "after_update", listener)
    assert found == [2]
