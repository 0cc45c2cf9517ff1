"""A snapshot is the state that the log makes: of one that was cut, of one aggregate among many, and in each tenant's schema."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import Field
from sqlalchemy import Engine, MetaData, create_engine, event, select, text
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.schema import CreateSchema

from sa_eventsource import AggregateNotFoundError, AggregateRoot, DomainEvent, EventSourcedRepository, SnapshotWarning, applies
from sa_eventsource.mapping import tables_on
from sa_eventsource.mapping.immutability import SWITCH, create_statements, drop_statements
from tests.databases import configure_sqlite
from tests.parameters import slow_after


class LogBase(DeclarativeBase):
    """Base of the classes of these tests."""


class Put(DomainEvent):
    """Something was put on a pile."""

    __event_type__ = "changed_logs.Put"
    what: int


class Pile(AggregateRoot, LogBase):
    """Has a snapshot for every fourth event."""

    __aggregate_type__ = "changed_logs.Pile"
    __snapshot_frequency__ = 4

    things: list[int] = Field(default_factory=list)
    total: int = 0

    def put(self, what: int, occurred_at: datetime | None = None) -> None:
        """Put something on it."""
        self.apply_event(Put(what=what), occurred_at=occurred_at)

    @applies(Put)
    def _put(self, event: Put) -> None:
        if event.what == FORBIDDEN:
            raise RuntimeError("no such thing")
        self.things = [*self.things, event.what]
        self.total += event.what


FORBIDDEN = -1
TABLES = tables_on(LogBase.metadata)
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("a", "b", "c")


@pytest.fixture
def tables() -> MetaData | None:
    return None


@pytest.fixture(params=["postgresql", "postgresql tenant", "sqlite", "sqlite tenant"])
def piles(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
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
    LogBase.metadata.create_all(chosen)
    yield chosen
    engine.dispose()


def cut(engine: Engine, pile_id: str, version: int, up_to: int = 1000) -> None:
    """Take the events after a version away, or those up to another one, behind the library's back."""
    events = TABLES.events
    with engine.begin() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        if not is_sqlite:
            connection.execute(text(f"SET LOCAL {SWITCH} = 'on'"))
        for guard in drop_statements(events, "sqlite") if is_sqlite else ():
            connection.execute(guard)
        cut_off = (events.c.version > version, events.c.version <= up_to)
        connection.execute(events.delete().where(events.c.aggregate_id == pile_id, *cut_off))
        for guard in create_statements(events, "sqlite") if is_sqlite else ():
            connection.execute(guard)


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


def without_snapshots(engine: Engine, pile_id: str) -> list[int]:
    """Load a pile from its events alone."""
    with Session(engine) as session:
        session.execute(TABLES.snapshots.delete())
        things = list(session.get_one(Pile, pile_id).things)
        session.rollback()
    return things


@dataclass
class Story:
    """What is done to some piles, and what they must be."""

    engine: Engine
    random: Random
    things: dict[str, list[tuple[int, datetime]]] = field(default_factory=lambda: {name: [] for name in NAMES})
    due: dict[str, int] = field(default_factory=dict)

    def run(self, steps: int) -> None:
        """Do this and that."""
        for _ in range(steps):
            self.random.choice([self.put, self.put, self.append, self.cut])()
            self.check()

    def put(self) -> None:
        """Put things on one or more piles, in one flush."""
        with Session(self.engine) as session:
            for name in self.random.sample(NAMES, self.random.randint(1, len(NAMES))):
                pile = session.get(Pile, name)
                if pile is None:
                    session.add(pile := Pile(id=name))
                before = len(self.things[name])
                for what, moment in self._new(name):
                    pile.put(what, moment)
                pile.things.sort(reverse=True)  # for display: no event says so
                if len(self.things[name]) // 4 > before // 4:
                    self.due[name] = len(self.things[name])
            session.commit()

    def append(self) -> None:
        """Append to one pile without loading it, which writes no snapshot."""
        name = self.random.choice(NAMES)
        with Session(self.engine) as session:
            before = len(self.things[name])
            for what, moment in self._new(name):
                EventSourcedRepository(session, Pile).append(name, [Put(what=what)], expected_version=before, occurred_at=moment)
                before += 1
            session.commit()

    def _new(self, name: str) -> list[tuple[int, datetime]]:
        moments = [START + timedelta(days=self.random.randrange(100)) for _ in range(self.random.randint(1, 6))]
        new = [(self.random.randrange(1_000), moment) for moment in moments]
        self.things[name] += new
        return new

    def cut(self) -> None:
        """Restore one pile to an earlier version; its snapshot stays."""
        name = self.random.choice(NAMES)
        kept = self.random.randint(0, len(self.things[name]))
        if self.due.get(name, 0) > kept:
            del self.due[name]
        cut(self.engine, name, kept)
        del self.things[name][kept:]

    def check(self) -> None:
        """Compare what is loaded, one by one, all together, and at a moment; and the snapshots that must be there."""
        moment = START + timedelta(days=self.random.randrange(100))
        with Session(self.engine) as session:
            for name, things in self.things.items():
                pile = session.get(Pile, name)
                assert (pile.things if pile else []) == [what for what, _ in things]
                at_moment = [what for what, occurred_at in things if occurred_at <= moment]
                try:
                    assert EventSourcedRepository(session, Pile).load_at_time(name, moment).things == at_moment
                except AggregateNotFoundError:
                    assert at_moment == []
            session.expunge_all()
            loaded = {pile.id: pile.things for pile in session.scalars(select(Pile))}
            assert loaded == {name: [what for what, _ in things] for name, things in self.things.items() if things}
        stored, covered = snapshots(self.engine), last_events(self.engine)
        for name, version in self.due.items():
            whats = [what for what, _ in self.things[name][:version]]
            assert stored[name] == (version, {"things": whats, "total": sum(whats)})
            assert covered[name] == max(occurred_at for _, occurred_at in self.things[name][:version])


@pytest.mark.parametrize("seed", slow_after(2, range(4)))
def test_several_aggregates_whose_logs_are_cut_and_go_on(piles: Engine, seed: int) -> None:
    Story(piles, Random(seed)).run(25)


def test_a_snapshot_of_a_log_that_was_cut_is_replaced_whatever_others_have_one(piles: Engine) -> None:
    for pile_id, numbers in (("other", range(4)), ("x", range(12))):
        with Session(piles) as session:
            session.add(pile := Pile(id=pile_id))
            for number in numbers:
                pile.put(number)
            session.commit()
    cut(piles, "x", 2)
    for number in range(100, 103):
        with Session(piles) as session:
            session.get_one(Pile, "x").put(number)
            session.commit()
    assert {pile_id: version for pile_id, (version, _) in snapshots(piles).items()} == {"other": 4, "x": 4}
    with Session(piles) as session:
        assert session.get_one(Pile, "x").things == [0, 1, 100, 101, 102]


def test_a_snapshot_is_not_used_where_another_event_has_its_version(piles: Engine) -> None:
    with Session(piles) as session:
        session.add(pile := Pile(id="x"))
        for number in range(4):
            pile.put(number)
        session.commit()
    cut(piles, "x", 2)
    with Session(piles) as session:
        EventSourcedRepository(session, Pile).append("x", [Put(what=100 + number) for number in range(3)], expected_version=2)
        session.commit()
        assert session.get_one(Pile, "x").things == [0, 1, 100, 101, 102]
        assert EventSourcedRepository(session, Pile).load_at_version("x", 4).things == [0, 1, 100, 101]
    assert {pile_id: version for pile_id, (version, _) in snapshots(piles).items()} == {"x": 4}


def test_a_snapshot_of_a_release_that_kept_no_event_id_is_not_used(piles: Engine) -> None:
    with Session(piles) as session:
        session.add(pile := Pile(id="x"))
        for number in range(4):
            pile.put(number)
        session.commit()
    with piles.begin() as connection:
        connection.execute(TABLES.snapshots.update().values(event_id=None, state={"things": [], "total": 99}))
    with Session(piles) as session:
        pile = session.get_one(Pile, "x")
        assert pile.total == 6
        for number in range(4):
            pile.put(number)
        session.commit()
    assert snapshots(piles) == {"x": (8, {"things": [0, 1, 2, 3] * 2, "total": 12})}


def test_what_other_code_does_to_an_instance_is_of_no_snapshot(piles: Engine) -> None:
    with Session(piles) as session:
        session.add(pile := Pile(id="x"))
        for number in (3, 1, 2):
            pile.put(number)
        session.commit()
        pile.things.sort()  # read again after the commit, and sorted for display
        pile.put(0)
        session.commit()
    assert snapshots(piles) == {"x": (4, {"things": [3, 1, 2, 0], "total": 6})}
    assert without_snapshots(piles, "x") == [3, 1, 2, 0]


def test_events_that_cannot_be_replayed_are_stored_without_a_snapshot(piles: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(piles) as session:
        session.add(pile := Pile(id="x"))
        for number in range(4):
            pile.put(number)
        monkeypatch.setattr(f"{__name__}.FORBIDDEN", 2)  # a method that does not do twice what it has done once
        with pytest.warns(SnapshotWarning, match="its events cannot be replayed: no such thing"):
            session.commit()
        monkeypatch.undo()
        assert pile.things == [0, 1, 2, 3]
    assert snapshots(piles) == {}


def test_a_log_with_a_hole_gets_no_snapshot_that_hides_it(piles: Engine) -> None:
    with Session(piles, expire_on_commit=False) as session:
        session.add(pile := Pile(id="x"))
        for number in range(3):
            pile.put(number)
        session.commit()
        cut(piles, "x", 1, up_to=2)
        pile.put(3)
        with pytest.warns(SnapshotWarning, match="its events cannot be replayed"):
            session.commit()
    assert snapshots(piles) == {}
