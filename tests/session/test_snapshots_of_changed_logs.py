"""A snapshot is the state that the log makes: of one that was cut, of one aggregate among many, and in each tenant's schema."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.schema import CreateSchema

from sa_eventsource import AggregateNotFoundError, EventSourcedRepository, SnapshotWarning
from sa_eventsource.mapping import tables_on
from tests.committing import changing_events, commit_events
from tests.databases import configure_sqlite
from tests.parameters import slow_after
from tests.shop import AnyOrder, NoteAdded


class Base(DeclarativeBase):
    """Base of the class of these tests."""


class Order(AnyOrder, Base):
    """Has a snapshot for every fourth event; here it has notes, and nothing else."""

    __snapshot_frequency__ = 4

    def _noted(self, event: NoteAdded) -> None:
        if event.text == FORBIDDEN:
            raise RuntimeError("no such note")
        super()._noted(event)


FORBIDDEN = ""
NOTHING_ELSE: dict[str, Any] = {
    "status": "draft",
    "customer_id": None,
    "lines": [],
    "total": "0",
    "payment_id": None,
    "tracking_number": None,
}
"""What a snapshot has of it beside the notes."""

TABLES = tables_on(Base.metadata)
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("a", "b", "c")


@pytest.fixture
def tables() -> MetaData | None:
    return None


@pytest.fixture(params=["postgresql", "postgresql tenant", "sqlite", "sqlite tenant"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Engine on a database of each kind, with the tables in the default schema, or in a tenant's and nowhere else."""
    kind, _, tenant = request.param.partition(" ")
    if kind == "postgresql":
        engine: Engine = request.getfixturevalue("postgres_engine")
        if tenant:
            with engine.begin() as connection:
                connection.execute(CreateSchema(tenant))
    else:
        engine = create_engine(f"sqlite:///{tmp_path / 'main.db'}")
        configure_sqlite(engine)
        if tenant:
            event.listen(engine, "connect", lambda each, _: each.execute(f"ATTACH '{tmp_path / 'tenant.db'}' AS tenant"))
    chosen = engine.execution_options(schema_translate_map={None: tenant}) if tenant else engine
    Base.metadata.create_all(chosen)
    yield chosen
    engine.dispose()


def cut(engine: Engine, order_id: str, version: int, up_to: int = 1000) -> None:
    """Take the events after a version away, or those up to another one, behind the library's back."""
    columns = TABLES.events.c
    with changing_events(engine, Base) as connection:
        cut_off = (columns.version > version, columns.version <= up_to)
        connection.execute(TABLES.events.delete().where(columns.aggregate_id == order_id, *cut_off))


def snapshots(engine: Engine) -> dict[str, tuple[int, Any]]:
    """Tell version and state of all snapshots."""
    table = TABLES.snapshots
    with engine.connect() as connection:
        return {
            row[0]: (row[1], row[2]) for row in connection.execute(select(table.c.aggregate_id, table.c.version, table.c.state))
        }


def last_events(engine: Engine) -> dict[str, datetime]:
    """Tell the latest time that the snapshots know of, for those whose last event is in the log."""
    events, table = TABLES.events, TABLES.snapshots
    with engine.connect() as connection:
        rows = connection.execute(
            select(table.c.aggregate_id, table.c.occurred_at).join(events, events.c.event_id == table.c.event_id)
        )
        return dict(map(tuple, rows))


def without_snapshots(engine: Engine, order_id: str) -> list[str]:
    """Load an order's notes from its events alone."""
    with Session(engine) as session:
        session.execute(TABLES.snapshots.delete())
        notes = list(session.get_one(Order, order_id).notes)
        session.rollback()
    return notes


def write(engine: Engine, order_id: str, *notes: str) -> None:
    """Commit notes on an order."""
    commit_events(engine, Order, order_id, *(NoteAdded(text=note) for note in notes))


@dataclass
class Story:
    """What is done to some orders, and what they must be."""

    engine: Engine
    random: Random
    notes: dict[str, list[tuple[str, datetime]]] = field(default_factory=lambda: {name: [] for name in NAMES})
    due: dict[str, int] = field(default_factory=dict)

    def run(self, steps: int) -> None:
        """Do this and that."""
        for _ in range(steps):
            self.random.choice([self.write, self.write, self.append, self.cut])()
            self.check()

    def write(self) -> None:
        """Write notes on one or more orders, in one flush."""
        with Session(self.engine) as session:
            for name in self.random.sample(NAMES, self.random.randint(1, len(NAMES))):
                order = session.get(Order, name)
                if order is None:
                    session.add(order := Order(id=name))
                before = len(self.notes[name])
                for text, moment in self._new(name):
                    order.apply_event(NoteAdded(text=text), occurred_at=moment)
                order.notes.sort(reverse=True)  # for display: no event says so
                if len(self.notes[name]) // 4 > before // 4:
                    self.due[name] = len(self.notes[name])
            session.commit()

    def append(self) -> None:
        """Append to one order without loading it, which writes no snapshot."""
        name = self.random.choice(NAMES)
        with Session(self.engine) as session:
            before = len(self.notes[name])
            for text, moment in self._new(name):
                EventSourcedRepository(session, Order).append(
                    name, [NoteAdded(text=text)], expected_version=before, occurred_at=moment
                )
                before += 1
            session.commit()

    def _new(self, name: str) -> list[tuple[str, datetime]]:
        moments = [START + timedelta(days=self.random.randrange(100)) for _ in range(self.random.randint(1, 6))]
        new = [(str(self.random.randrange(1_000)), moment) for moment in moments]
        self.notes[name] += new
        return new

    def cut(self) -> None:
        """Restore one order to an earlier version; its snapshot stays."""
        name = self.random.choice(NAMES)
        kept = self.random.randint(0, len(self.notes[name]))
        if self.due.get(name, 0) > kept:
            del self.due[name]
        cut(self.engine, name, kept)
        del self.notes[name][kept:]

    def check(self) -> None:
        """Compare what is loaded, one by one, all together, and at a moment; and the snapshots that must be there."""
        moment = START + timedelta(days=self.random.randrange(100))
        with Session(self.engine) as session:
            for name, notes in self.notes.items():
                order = session.get(Order, name)
                assert (order.notes if order else []) == [text for text, _ in notes]
                at_moment = [text for text, occurred_at in notes if occurred_at <= moment]
                try:
                    assert EventSourcedRepository(session, Order).load_at_time(name, moment).notes == at_moment
                except AggregateNotFoundError:
                    assert at_moment == []
            session.expunge_all()
            loaded = {order.id: order.notes for order in session.scalars(select(Order))}
            assert loaded == {name: [text for text, _ in notes] for name, notes in self.notes.items() if notes}
        stored, covered = snapshots(self.engine), last_events(self.engine)
        for name, version in self.due.items():
            texts = [text for text, _ in self.notes[name][:version]]
            assert stored[name] == (version, NOTHING_ELSE | {"notes": texts})
            assert covered[name] == max(occurred_at for _, occurred_at in self.notes[name][:version])


@pytest.mark.parametrize("seed", slow_after(2, range(4)))
def test_several_aggregates_whose_logs_are_cut_and_go_on(database: Engine, seed: int) -> None:
    Story(database, Random(seed)).run(25)


def test_a_snapshot_of_a_log_that_was_cut_is_replaced_whatever_others_have_one(database: Engine) -> None:
    write(database, "other", *"0123")
    write(database, "x", *"0123456789AB")
    cut(database, "x", 2)
    for note in "abc":
        write(database, "x", note)
    assert {order_id: version for order_id, (version, _) in snapshots(database).items()} == {"other": 4, "x": 4}
    with Session(database) as session:
        assert session.get_one(Order, "x").notes == [*"01abc"]


def test_a_snapshot_is_not_used_where_another_event_has_its_version(database: Engine) -> None:
    write(database, "x", *"0123")
    cut(database, "x", 2)
    with Session(database) as session:
        EventSourcedRepository(session, Order).append("x", [NoteAdded(text=note) for note in "abc"], expected_version=2)
        session.commit()
        assert session.get_one(Order, "x").notes == [*"01abc"]
        assert EventSourcedRepository(session, Order).load_at_version("x", 4).notes == [*"01ab"]
    assert {order_id: version for order_id, (version, _) in snapshots(database).items()} == {"x": 4}


def test_a_snapshot_of_a_release_that_kept_no_event_id_is_not_used(database: Engine) -> None:
    write(database, "x", *"0123")
    with database.begin() as connection:
        connection.execute(TABLES.snapshots.update().values(event_id=None, state=NOTHING_ELSE | {"notes": ["of old"]}))
    with Session(database) as session:
        assert session.get_one(Order, "x").notes == [*"0123"]
    write(database, "x", *"4567")
    assert snapshots(database) == {"x": (8, NOTHING_ELSE | {"notes": [*"01234567"]})}


def test_what_other_code_does_to_an_instance_is_of_no_snapshot(database: Engine) -> None:
    with Session(database) as session:
        session.add(order := Order(id="x"))
        for note in "312":
            order.note(note)
        session.commit()
        order.notes.sort()  # read again after the commit, and sorted for display
        order.note("0")
        session.commit()
    assert snapshots(database) == {"x": (4, NOTHING_ELSE | {"notes": [*"3120"]})}
    assert without_snapshots(database, "x") == [*"3120"]


def test_events_that_cannot_be_replayed_are_stored_without_a_snapshot(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(database) as session:
        session.add(order := Order(id="x"))
        for note in "0123":
            order.note(note)
        monkeypatch.setattr(f"{__name__}.FORBIDDEN", "2")  # a method that does not do twice what it has done once
        with pytest.warns(SnapshotWarning, match="its events cannot be replayed: no such note"):
            session.commit()
        monkeypatch.undo()
        assert order.notes == [*"0123"]
    assert snapshots(database) == {}


def test_a_log_with_a_hole_gets_no_snapshot_that_hides_it(database: Engine) -> None:
    with Session(database, expire_on_commit=False) as session:
        session.add(order := Order(id="x"))
        for note in "012":
            order.note(note)
        session.commit()
        cut(database, "x", 1, up_to=2)
        order.note("3")
        with pytest.warns(SnapshotWarning, match="its events cannot be replayed"):
            session.commit()
    assert snapshots(database) == {}
