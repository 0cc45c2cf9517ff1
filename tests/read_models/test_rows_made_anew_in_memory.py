"""A rebuild of rows that Python works out: they are kept in memory, and where there is no room, written and read again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

from sa_eventsource import (
    REMOVED,
    AggregateRoot,
    DomainEvent,
    EventDecodeError,
    EventReplayer,
    EventStore,
    Evolved,
    ReadModel,
    ReadModelError,
    ReadModelManager,
    RecordedEvent,
    RetryPolicy,
    Worker,
    evolves,
    fold,
    map_from_event,
)
from sa_eventsource.read_models import ReadModelDefinition, count, last
from tests.committing import commit_events
from tests.read_models.memory import cramp
from tests.read_models.test_four_ways import rows_of


class Base(DeclarativeBase):
    """The application's declarative base."""


class Stepped(DomainEvent):
    """A runner has gone some way."""

    __event_type__ = "in_memory.Stepped"
    distance: int
    word: str = ""


class Rested(DomainEvent):
    """One that has gone far gives up."""

    __event_type__ = "in_memory.Rested"


class Left(DomainEvent):
    """One goes home."""

    __event_type__ = "in_memory.Left"


class Weighed(DomainEvent):
    """Of any size."""

    __event_type__ = "in_memory.Weighed"
    grams: Decimal


class Runner(AggregateRoot, Base):
    """A runner."""

    __aggregate_type__ = "in_memory.Runner"
    __ignored_events__ = (Stepped, Rested, Left, Weighed)


class _Run(ReadModel):
    __abstract__ = True
    __removed_by__ = (Left,)

    least: ClassVar[int] = 0

    distance: Mapped[int] = mapped_column(default=0)
    words: Mapped[list[str]] = mapped_column(default=list)

    @evolves(Stepped)
    def step(self, recorded: RecordedEvent[Stepped]) -> None:
        if recorded.event.distance < self.least:
            raise ArithmeticError(f"cannot go {recorded.event.distance}")
        self.distance += recorded.event.distance
        self.words.append(f"{recorded.event.word} at {self.distance} after {self.version - 1}")

    @evolves(Rested)
    def rest(self, _recorded: RecordedEvent[Rested]) -> Evolved:
        return REMOVED if self.distance > 5 else None


class SharedRun(_Run, Base):
    """In the shared table."""

    __projection_name__ = "in_memory.shared"


class OwnRun(_Run, Base):
    """In a table of its own, with the events."""

    __tablename__ = "in_memory_own"
    __consistency__ = "strong"
    least: ClassVar[int] = -100


class SplitRun(_Run, Base):
    """In parts that go on by themselves, and leave behind what they cannot take."""

    __tablename__ = "in_memory_split"
    __shards__ = 3
    __on_error__ = "park"


class Words(ReadModel, Base):
    """How often each word was said; rows of several streams."""

    __tablename__ = "in_memory_words"
    word: Mapped[str] = map_from_event(key=True, source="word")
    number: Mapped[int] = mapped_column(default=0)
    longest: Mapped[str] = mapped_column(String(5), default="")

    @evolves(Stepped)
    def said(self, recorded: RecordedEvent[Stepped]) -> None:
        self.number += 1
        self.longest = max(self.longest, recorded.event.word, key=len)


class Weight(ReadModel, Base):
    """Numbers within documents."""

    __projection_name__ = "in_memory.weight"
    grams: Mapped[Decimal] = mapped_column(default=Decimal(0))
    least: Mapped[Decimal | None]

    @evolves(Weighed)
    def weigh(self, recorded: RecordedEvent[Weighed]) -> None:
        self.grams = recorded.event.grams


class DeclaredRun(ReadModel, Base):
    """Of declared fields, which Python works out on SQLite alone."""

    __projection_name__ = "in_memory.declared"
    __removed_by__ = (Left,)
    steps: Mapped[int] = map_from_event(Stepped, reduce=count())
    word: Mapped[str] = map_from_event(Stepped, reduce=last())


MODELS = (SharedRun, OwnRun, SplitRun, Words, DeclaredRun)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def track(engine: Engine) -> Engine:
    return engine


@pytest.fixture
def postgres_track(postgres_engine: Engine) -> Engine:
    return postgres_engine


def happen(engine: Engine, *events: tuple[str, DomainEvent]) -> None:
    """Let events happen to runners, each in a transaction of its own."""
    for runner, event in events:
        commit_events(engine, Runner, runner, event, occurred_at=datetime(2026, 5, 1, tzinfo=UTC))


def step(runner: str, distance: int = 1, word: str = "go") -> tuple[str, DomainEvent]:
    return runner, Stepped(distance=distance, word=word)


HISTORY = (
    *(step(runner, number, word) for number, word in enumerate(("go", "on", "up")) for runner in "abcdefgh"),
    *((runner, Left()) for runner in "aceg"),
    step("c"),  # begins again
    step("e"),
    ("e", Left()),
    step("b", 4),
    ("b", Rested()),  # removed by a method
    ("d", Rested()),
    step("b"),
    *(step(runner, 2, "far") for runner in "abdfh"),
)


def meant(engine: Engine, model: Any) -> dict[Any, dict[str, Any]]:
    with Session(engine) as session:
        return fold(model, EventStore(session, Base).events.all())


def stored(engine: Engine, model: Any) -> dict[Any, dict[str, Any]]:
    with Session(engine) as session:
        return rows_of(session, model)


@pytest.mark.slow_on_sqlite
@pytest.mark.parametrize(
    ("room", "batch_size"),
    [(50_000, 4), (2, 3), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((0, 1), (3, 7), (6, 5)))],
)
def test_rows_are_the_same_whatever_the_room(track: Engine, monkeypatch: pytest.MonkeyPatch, room: int, batch_size: int) -> None:
    happen(track, *HISTORY)
    cramp(monkeypatch, room=room, batch_size=batch_size)
    for model in MODELS:
        EventReplayer(track, Base).rebuild(model)
        assert stored(track, model) == meant(track, model)
    happen(track, step("a"), step("i"), ("b", Left()))
    ReadModelManager(track, Base).catch_up()
    for model in MODELS:
        assert stored(track, model) == meant(track, model)


def test_some_rows_are_the_same_whatever_the_room(track: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    happen(track, *HISTORY)
    ReadModelManager(track, Base).catch_up()
    cramp(monkeypatch, room=1, batch_size=2)
    monkeypatch.setattr("sa_eventsource.projections.rebuild_rows._READ_AT_A_TIME", 3)
    for model in (SharedRun, OwnRun, SplitRun):
        before = stored(track, model)
        assert EventReplayer(track, Base).rebuild_rows(model, ["a", "b", "d", "e", "f"]) == 4
        assert EventReplayer(track, Base).rebuild_between(model, positions=(1, 10_000)) == len(before) == 6
        assert stored(track, model) == before == meant(track, model)


def test_each_row_is_written_once_and_none_is_read(
    postgres_track: Engine,
    statements: Callable[[Engine], AbstractContextManager[list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happen(postgres_track, *HISTORY)
    monkeypatch.setattr(ReadModelDefinition, "batch_size", 4)
    with statements(postgres_track) as log:
        EventReplayer(postgres_track, Base).rebuild(SharedRun)
    assert [each.split()[0] for each in log if "jsonb_populate_recordset" in each] == ["WITH"]


@pytest.mark.parametrize("grams", ["1E+400", "-1.50", "0.00000000000000000000001", "12345678901234567890.1"])
def test_numbers_of_any_size_are_numbers_in_the_row(postgres_track: Engine, grams: str) -> None:
    happen(postgres_track, ("a", Weighed(grams=Decimal(grams))))
    ReadModelManager(postgres_track, Base).catch_up(Weight)
    with postgres_track.connect() as connection:
        assert connection.scalar(text("SELECT jsonb_typeof(data->'grams') FROM projections WHERE id = 'a'")) == "number"
    assert stored(postgres_track, Weight) == meant(postgres_track, Weight)


ROOMS = pytest.mark.parametrize("room", [50_000, 1])


@ROOMS
def test_an_event_that_fails_is_named_and_all_is_as_it_was(track: Engine, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    happen(track, step("a"), step("b"), step("c"))
    ReadModelManager(track, Base).catch_up(SharedRun)
    before = stored(track, SharedRun)
    happen(track, step("d"), step("b", -1), step("a"))
    cramp(monkeypatch, room=room, batch_size=2)
    with pytest.raises(ReadModelError, match="cannot go -1") as caught:
        EventReplayer(track, Base).rebuild(SharedRun)
    assert len(caught.value.event_ids) == 1
    assert caught.value.rows == ("'b'",)
    assert stored(track, SharedRun) == before
    assert ReadModelManager(track, Base).status(SharedRun)[0].lag_events == 3


@ROOMS
def test_an_event_that_cannot_be_read_leaves_all_as_it_was(track: Engine, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    happen(track, step("a"), step("b"), step("c"))
    before = stored(track, OwnRun)
    with track.begin() as connection:
        identity = "gen_random_uuid(), DEFAULT" if track.dialect.name == "postgresql" else f"'{'0' * 32}', 99"
        connection.execute(
            text(
                "INSERT INTO events (event_type, event_version, event_data, aggregate_type, aggregate_id, version, occurred_at, "
                "event_id, position) VALUES ('in_memory.Stepped', 1, '{}', 'in_memory.Runner', 'd', 1, CURRENT_TIMESTAMP, "
                f"{identity})"
            )
        )
    cramp(monkeypatch, room=room, batch_size=2)
    with pytest.raises(EventDecodeError, match="distance: Field required"):
        EventReplayer(track, Base).rebuild(OwnRun)
    assert stored(track, OwnRun) == before


@ROOMS
def test_what_is_parked_is_left_out(track: Engine, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    happen(track, step("a"), step("b"), step("c"), step("b", -1), step("b"), step("a"), step("c"))
    Worker(track, Base, only=["SplitRun"], retries=RetryPolicy(attempts=1, first_pause=0)).run_once()
    cramp(monkeypatch, room=room, batch_size=2)
    assert EventReplayer(track, Base).rebuild(SplitRun) == 7
    assert {key: (row["distance"], row["version"]) for key, row in stored(track, SplitRun).items()} == {
        "a": (2, 2),
        "b": (1, 1),
        "c": (2, 2),
    }
    assert EventReplayer(track, Base).rebuild_rows(SplitRun, ["a", "b"]) == 2
    assert stored(track, SplitRun)["b"]["version"] == 1
    assert sum(each.parked_events for each in ReadModelManager(track, Base).status(SplitRun)) == 2


@ROOMS
def test_a_row_that_the_database_refuses_is_named(postgres_track: Engine, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    words = ("go", "on", "up", "longer than five", "to", "at", "by", "go")
    happen(postgres_track, *(step("a", 1, word) for word in words[:3]))
    ReadModelManager(postgres_track, Base).catch_up(Words)
    before = stored(postgres_track, Words)
    happen(postgres_track, *(step("a", 1, word) for word in words[3:]))
    cramp(monkeypatch, room=room, batch_size=3, written_at_once=5)
    with pytest.raises(ReadModelError, match=r"in row 'longer than five'.*too long") as caught:
        EventReplayer(postgres_track, Base).rebuild(Words)
    assert caught.value.rows == ("'longer than five'",)
    assert stored(postgres_track, Words) == before


def test_no_row_is_blamed_for_what_is_wrong_with_the_table(postgres_track: Engine) -> None:
    happen(postgres_track, step("a"), step("b", 1, "on"))
    with postgres_track.begin() as connection:
        connection.execute(text("ALTER TABLE in_memory_words DROP COLUMN longest"))
    with pytest.raises(ReadModelError, match="longest") as caught:
        EventReplayer(postgres_track, Base).rebuild(Words)
    assert caught.value.rows == ()


def test_rows_that_the_database_keeps_out_are_told(postgres_track: Engine) -> None:
    happen(postgres_track, step("a"), step("b", 1, "on"))
    with postgres_track.begin() as connection:
        connection.execute(text("CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"))
        connection.execute(
            text(
                "CREATE TRIGGER left_out BEFORE INSERT ON in_memory_words FOR EACH ROW WHEN (NEW.word = 'on') "
                "EXECUTE FUNCTION leave_out()"
            )
        )
    with pytest.raises(ReadModelError, match=r"in row 'on'.*look at the triggers and rules of in_memory_words"):
        EventReplayer(postgres_track, Base).rebuild(Words)


def test_a_tenants_rows_are_made_anew_in_its_schema(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(CreateSchema("Tenant one"))
    tenants = [postgres_engine.execution_options(schema_translate_map={None: name}) for name in ("Tenant one", None)]
    for number, tenant in enumerate(tenants):
        Base.metadata.create_all(tenant)
        happen(tenant, *HISTORY[4 * number :])
        ReadModelManager(tenant, Base).catch_up()
    cramp(monkeypatch, room=2, batch_size=3)
    before = stored(tenants[1], SharedRun)
    for model in MODELS:
        EventReplayer(tenants[0], Base).rebuild(model)
        assert stored(tenants[0], model) == meant(tenants[0], model)
    assert EventReplayer(tenants[0], Base).rebuild_rows(SharedRun, ["a", "d"]) == 2
    assert stored(tenants[0], SharedRun) == meant(tenants[0], SharedRun) != before
    assert stored(tenants[1], SharedRun) == before
