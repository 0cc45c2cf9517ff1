"""A command that has an id is done once, whoever handles it, however often, and its first outcome is kept exactly."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, func, select, update
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from sa_eventsource import (
    AutocommitError,
    Command,
    CommandIdConflictError,
    CommandPayloadError,
    Commands,
    DeclarationError,
    EventStore,
    command_handler,
)
from tests.commands.ordering import Annotate, Base, Note, Order, PlaceOrder, WriteNote

TABLE = Base.metadata.tables["commands"]


@pytest.fixture
def commands(engine: Engine) -> Commands:
    return Commands(sessionmaker(engine), Base)


def test_handled_again_it_gives_the_first_outcome_and_does_nothing(commands: Commands, engine: Engine) -> None:
    command, command_id = PlaceOrder(customer_id="ann"), uuid4()
    first = commands.handle(command, command_id=command_id)
    again = commands.handle(command, command_id=command_id)
    assert (again.command_id, again.result, again.token) == (command_id, first.result, first.token)
    assert isinstance(again.result, UUID)
    assert (first.is_repetition, again.is_repetition) == (False, True)
    with Session(engine) as session:
        assert len(EventStore(session, Base).events.all()) == 1


def test_another_command_under_the_id_is_refused(commands: Commands) -> None:
    command_id = uuid4()
    order_id = commands.handle(PlaceOrder(customer_id="ann"), command_id=command_id).result
    with pytest.raises(CommandIdConflictError, match="one with other values"):
        commands.handle(PlaceOrder(customer_id="bob"), command_id=command_id)
    with pytest.raises(CommandIdConflictError, match=r"another command, a ordering\.PlaceOrder") as caught:
        commands.handle(Annotate(order_id=order_id), command_id=command_id)
    assert (caught.value.command_type, caught.value.given_type) == ("ordering.PlaceOrder", "ordering.Annotate")


def test_a_field_that_the_class_has_got_since_makes_no_other_command(commands: Commands, engine: Engine) -> None:
    command_id = uuid4()
    commands.handle(PlaceOrder(customer_id="ann"), command_id=command_id)
    with engine.begin() as connection:
        connection.execute(update(TABLE).values(command_data={"customer_id": "ann"}))
    assert commands.handle(PlaceOrder(customer_id="ann"), command_id=command_id).is_repetition


def test_a_handler_that_raised_may_be_tried_again(commands: Commands, engine: Engine) -> None:
    command_id = uuid4()

    class Flaky(Command[str]):
        pass

    failures = [ValueError("not yet")]

    @command_handler(Flaky)
    def flaky(command: Flaky, session: Session) -> str:
        session.add(Note(text="flaky"))
        if failures:
            raise failures.pop()
        return "done"

    with pytest.raises(ValueError, match="not yet"):
        commands.handle(Flaky(), command_id=command_id)
    assert commands.handle(Flaky(), command_id=command_id).result == "done"
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Note)) == 1


@pytest.mark.parametrize("of_one_id", [2, 8])
def test_duplicates_at_the_same_time_act_once(of_one_id: int, engine: Engine) -> None:
    commands = Commands(sessionmaker(engine), Base)
    command_ids = [uuid4() for _ in range(5)]
    barrier = threading.Barrier(of_one_id)

    def handle(_: int) -> list[Any]:
        outcomes = []
        for command_id in command_ids:
            barrier.wait(timeout=60)
            outcomes.append(commands.handle(PlaceOrder(customer_id="ann"), command_id=command_id))
        return outcomes

    with ThreadPoolExecutor(of_one_id) as pool:
        outcomes = list(pool.map(handle, range(of_one_id)))
    for of_one in zip(*outcomes, strict=True):
        assert len({each.result for each in of_one}) == 1
        assert sorted(each.is_repetition for each in of_one) == [False] + [True] * (of_one_id - 1)
    with Session(engine) as session:
        assert len(EventStore(session, Base).events.all()) == len(command_ids)
        assert session.scalar(select(func.count()).select_from(TABLE)) == len(command_ids)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_duplicates_act_once_at_higher_isolation(level: str, postgres_database_url: str) -> None:
    engine = create_engine(postgres_database_url, isolation_level=level)
    test_duplicates_at_the_same_time_act_once(4, engine)
    engine.dispose()


class Detail(BaseModel):
    moment: datetime
    day: date


class Give(Command[Any]):
    __command_type__ = "test.Give"


class GiveExactly(Command[tuple[Decimal, Detail, frozenset[int], bytes | None]]):
    __command_type__ = "test.GiveExactly"


given: list[Any] = [None]


@command_handler(Give)
def give(command: Give, session: Session) -> Any:
    session.add(Note(text="given"))
    return given[0]


@command_handler(GiveExactly)
def give_exactly(command: GiveExactly, session: Session) -> Any:
    return given[0]


@pytest.mark.parametrize("result", [None, True, 0, 1.5, 1e15, "text", "", '"}', [1, "2", None], {"a": {"b": [1.25]}}, 2**70])
def test_plain_results_come_back(result: Any, commands: Commands) -> None:
    given[0] = result
    command_id = uuid4()
    first, again = (commands.handle(Give(), command_id=command_id).result for _ in range(2))
    assert first == again == result
    assert type(again) is type(result)


def test_declared_results_come_back_with_their_types(commands: Commands) -> None:
    detail = Detail(moment=datetime(2026, 5, 4, 12, 30, 0, 123456, tzinfo=UTC), day=date(2026, 5, 4))
    given[0] = (Decimal("1.10"), detail, frozenset({1, 2}), b"abc")
    command_id = uuid4()
    commands.handle(GiveExactly(), command_id=command_id)
    assert commands.handle(GiveExactly(), command_id=command_id).result == given[0]


@pytest.mark.parametrize(
    "result",
    [(1, 2), {1, 2}, uuid4(), Decimal(1), 1e300, float("nan"), "\x00", {1: 2}, object(), datetime(2026, 5, 4, tzinfo=UTC), Order()],
    ids=lambda each: type(each).__name__,
)
def test_results_that_would_come_back_otherwise_are_refused_and_nothing_is_done(
    result: Any, commands: Commands, engine: Engine
) -> None:
    given[0] = result
    with pytest.raises(CommandPayloadError, match=r"the result of test\.Give") as caught:
        commands.handle(Give(), command_id=uuid4())
    assert caught.value.part == "result"
    with Session(engine) as session:
        assert session.scalars(select(Note)).all() == []
        assert session.scalar(select(func.count()).select_from(TABLE)) == 0


def test_the_type_is_that_of_the_function_where_the_command_says_none(commands: Commands) -> None:
    class Plain(BaseModel):
        pass

    @command_handler(Plain)
    def plain(command: Plain, session: Session) -> UUID:
        return UUID(int=1)

    command_id = uuid4()
    commands.handle(Plain(), command_id=command_id)
    assert commands.handle(Plain(), command_id=command_id).result == UUID(int=1)


def test_a_command_that_would_come_back_otherwise_is_refused(commands: Commands) -> None:
    class Vague(BaseModel):
        value: Any

    @command_handler(Vague)
    def vague(command: Vague, session: Session) -> None:
        """Do nothing."""

    assert commands.handle(Vague(value=(1, 2))).result is None
    with pytest.raises(CommandPayloadError, match="Vague, value: ") as caught:
        commands.handle(Vague(value=(1, 2)), command_id=uuid4())
    assert (caught.value.part, caught.value.field) == ("command", "value")


def test_it_needs_the_table_and_a_transaction(engine: Engine, postgres_database_url: str) -> None:
    class OtherBase(DeclarativeBase):
        pass

    with pytest.raises(DeclarationError, match=r'__eventsource__ = EventSourceOptions\(commands="commands"\)'):
        Commands(engine, OtherBase).handle(WriteNote(text="milk"), command_id=uuid4())
    autocommit = create_engine(postgres_database_url, isolation_level="AUTOCOMMIT")
    with pytest.raises(AutocommitError):
        Commands(autocommit, Base).handle(WriteNote(text="milk"), command_id=uuid4())
    autocommit.dispose()


def test_a_base_without_the_option_has_no_such_table() -> None:
    class OtherBase(DeclarativeBase):
        pass

    Commands(create_engine("sqlite://"), OtherBase)
    assert "commands" not in OtherBase.metadata.tables
    assert "events" in OtherBase.metadata.tables


class TestPruning:
    def test_old_rows_go_and_their_commands_are_new_again(self, commands: Commands, engine: Engine) -> None:
        old, new = uuid4(), uuid4()
        for command_id in (old, new):
            commands.handle(PlaceOrder(customer_id="ann"), command_id=command_id)
        with engine.begin() as connection:
            long_ago = datetime.now(UTC) - timedelta(days=8)
            connection.execute(update(TABLE).where(TABLE.c.command_id == old).values(handled_at=long_ago))
        assert commands.prune(older_than=timedelta(days=7)) == 1
        assert commands.prune(older_than=timedelta(days=7)) == 0
        assert commands.handle(PlaceOrder(customer_id="ann"), command_id=new).is_repetition
        assert not commands.handle(PlaceOrder(customer_id="ann"), command_id=old).is_repetition

    def test_many_go_too(self, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sa_eventsource.workers.pruning.AT_A_TIME", 2)
        for _ in range(5):
            commands.handle(WriteNote(text="milk"), command_id=uuid4())
        assert commands.prune(older_than=timedelta(0)) == 5

    def test_a_duration_is_wanted(self, commands: Commands) -> None:
        with pytest.raises(TypeError, match="older_than must be a timedelta"):
            commands.prune(older_than=7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="older_than must be 0 or more"):
            commands.prune(older_than=timedelta(seconds=-1))
