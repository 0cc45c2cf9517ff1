"""``Commands.handle``: a session, a transaction, a context, retries, and a result with a token."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine, Table, select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, sessionmaker

from sa_eventsource import (
    AsyncCommands,
    Command,
    Commands,
    ConcurrencyError,
    DeclarationError,
    DomainEvent,
    EventContext,
    EventStore,
    HandlerTransactionError,
    ReadModel,
    ReadModelLagError,
    RecordedEvent,
    UnknownCommandError,
    Worker,
    command_handler,
    event_context,
    map_from_event,
    wait_for,
)
from tests.commands.ordering import (
    Annotate,
    Base,
    CancelOrder,
    CountNotes,
    Note,
    Order,
    OrderIsCancelled,
    OrderList,
    PlaceOrder,
    WriteNote,
    annotate,
    place_order,
)
from tests.shop import NoteAdded, OrderPlaced

pytestmark = pytest.mark.slow_on_sqlite


class OtherBase(DeclarativeBase):
    pass


class PieList(ReadModel, OtherBase):
    __projection_name__ = "commands_other_order_list"

    id: Mapped[UUID]
    customer_id: Mapped[str] = map_from_event(OrderPlaced)


@pytest.fixture
def commands(engine: Engine) -> Commands:
    return Commands(sessionmaker(engine), Base)


def test_the_result_comes_with_the_token_of_the_commit(commands: Commands, engine: Engine) -> None:
    handled = commands.handle(PlaceOrder(customer_id="ann"))
    assert not handled.is_repetition
    with Session(engine) as session:
        assert session.get_one(Order, handled.result).version == 1
        assert handled.token is not None
        recorded = EventStore(session, Base).get(handled.token)
        assert recorded is not None
        assert recorded.event == OrderPlaced(customer_id="ann", total=Decimal(20))


def test_a_plain_model_is_a_command(commands: Commands) -> None:
    order_id = commands.handle(PlaceOrder(customer_id="ann")).result
    assert commands.handle(CancelOrder(order_id=order_id)).result == "cancelled"


def test_a_handler_can_be_called_by_itself(commands: Commands, engine: Engine) -> None:
    with Session(engine) as session:
        order_id = place_order(PlaceOrder(customer_id="ann"), session)
        assert annotate(Annotate(order_id=order_id), session) == 1
        session.rollback()


def test_without_events_there_is_no_token(commands: Commands, engine: Engine) -> None:
    handled = commands.handle(WriteNote(text="milk"), wait_for=OrderList)
    assert (handled.result, handled.token) == (None, None)
    with Session(engine) as session:
        assert session.scalars(select(Note.text)).all() == ["milk"]


def test_a_handler_that_raises_undoes_all(commands: Commands, engine: Engine) -> None:
    with pytest.raises(ValueError, match="the ink is dry"):
        commands.handle(WriteNote(text="milk", fails=True))
    with Session(engine) as session:
        assert session.scalars(select(Note.text)).all() == []


def test_an_unknown_command_names_the_known_ones(commands: Commands) -> None:
    class Unheard(BaseModel):
        pass

    with pytest.raises(UnknownCommandError) as caught:
        commands.handle(Unheard())
    assert caught.value.command_type == "Unheard"
    assert {"ordering.Annotate", "ordering.PlaceOrder"} <= set(caught.value.known)
    assert "ordering.Annotate" in str(caught.value)
    assert "@command_handler(Unheard)" in str(caught.value)


def test_what_is_no_command_is_refused(commands: Commands) -> None:
    with pytest.raises(TypeError, match="instance of a Pydantic model"):
        commands.handle(PlaceOrder)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="command_id must be a UUID"):
        commands.handle(PlaceOrder(customer_id="ann"), command_id="1")  # type: ignore[call-overload]
    with pytest.raises(DeclarationError):
        commands.handle(PlaceOrder(customer_id="ann"), wait_for=Note)


def test_a_coroutine_function_needs_async_commands(commands: Commands) -> None:
    with pytest.raises(TypeError, match="use AsyncCommands"):
        commands.handle(CountNotes())


class TestContext:
    def test_events_know_the_command_that_led_to_them(self, commands: Commands, engine: Engine) -> None:
        handled = commands.handle(PlaceOrder(customer_id="ann"))
        recorded = _only(engine)
        assert (recorded.causation_id, recorded.correlation_id) == (handled.command_id, handled.command_id)

    def test_the_context_around_the_call_says_who_and_which_transaction(self, commands: Commands, engine: Engine) -> None:
        correlation_id, command_id = uuid4(), uuid4()
        with event_context(correlation_id=correlation_id, user="ann"):
            commands.handle(PlaceOrder(customer_id="ann"), command_id=command_id)
        recorded = _only(engine)
        assert (recorded.correlation_id, recorded.causation_id) == (correlation_id, command_id)
        assert recorded.metadata == {"user": "ann"}

    def test_the_context_of_the_session_holds_too(self, engine: Engine) -> None:
        correlation_id = uuid4()
        maker = sessionmaker(engine, info={"event_context": EventContext(correlation_id, metadata={"user": "bob"})})
        Commands(maker, Base).handle(PlaceOrder(customer_id="ann"))
        recorded = _only(engine)
        assert (recorded.correlation_id, recorded.metadata) == (correlation_id, {"user": "bob"})

    def test_a_command_that_is_not_kept_does_not_hide_the_event_that_led_to_it(self, commands: Commands, engine: Engine) -> None:
        cause = uuid4()
        with event_context(causation_id=cause):
            commands.handle(PlaceOrder(customer_id="ann"))
        assert _only(engine).causation_id == cause

    def test_a_command_that_is_kept_keeps_the_event_that_led_to_it(self, commands: Commands, engine: Engine) -> None:
        cause, command_id = uuid4(), uuid4()
        with event_context(causation_id=cause):
            commands.handle(PlaceOrder(customer_id="ann"), command_id=command_id)
        assert _only(engine).causation_id == command_id
        with engine.connect() as connection:
            assert connection.scalar(select(_table().c.causation_id)) == cause


class TestConflicts:
    def test_the_handler_runs_again_in_another_session(self, postgres_engine: Engine) -> None:
        commands = Commands(sessionmaker(postgres_engine), Base)
        seen: list[int] = []

        class Brush(Command[int]):
            order_id: UUID

        @command_handler(Brush)
        def brush(command: Brush, session: Session) -> int:
            order = session.get_one(Order, command.order_id)
            if not seen:
                commands.handle(Annotate(order_id=command.order_id))
            seen.append(len(order.notes))
            order.apply_event(NoteAdded(text="urgent"))
            return len(order.notes)

        order_id = commands.handle(PlaceOrder(customer_id="ann")).result
        assert commands.handle(Brush(order_id=order_id)).result == 2
        assert seen == [0, 1]

    def test_the_last_conflict_is_raised(self, engine: Engine) -> None:
        attempts = []

        class Lose(Command[None]):
            pass

        @command_handler(Lose)
        def lose(command: Lose, session: Session) -> None:
            attempts.append(1)
            raise ConcurrencyError("Order", "1", expected_version=1)

        with pytest.raises(ConcurrencyError):
            Commands(engine, Base, attempts=3).handle(Lose())
        assert len(attempts) == 3


class TestTransaction:
    @pytest.mark.parametrize("deed", ["commit", "rollback"])
    def test_a_handler_that_ends_the_transaction_is_refused(self, deed: str, commands: Commands, engine: Engine) -> None:
        class Meddle(Command[None]):
            __command_type__ = f"Meddle.{deed}"

        @command_handler(Meddle)
        def meddle(command: Meddle, session: Session) -> None:
            session.add(Note(text="meddled"))
            getattr(session, deed)()

        with pytest.raises(HandlerTransactionError):
            commands.handle(Meddle(), command_id=uuid4())
        with Session(engine) as session:
            assert session.scalars(select(Note)).all() == []
            assert session.execute(select(_table())).all() == []

    def test_savepoints_are_free(self, commands: Commands, engine: Engine) -> None:
        class Try(Command[str]):
            pass

        @command_handler(Try)
        def attempt(command: Try, session: Session) -> str:
            with session.begin_nested() as savepoint:
                session.add(Note(text="undone"))
                savepoint.rollback()
            with session.begin_nested():
                session.add(Note(text="kept"))
            return "done"

        assert commands.handle(Try(), command_id=uuid4()).result == "done"
        with Session(engine) as session:
            assert session.scalars(select(Note.text)).all() == ["kept"]


class TestReadModels:
    def test_it_returns_when_a_read_model_has_the_events(self, engine: Engine) -> None:
        commands = Commands(sessionmaker(engine), Base)
        with Worker(engine, Base):
            order_id = commands.handle(PlaceOrder(customer_id="ann"), wait_for=OrderList, timeout=30).result
            with Session(engine) as session:
                assert session.get_one(OrderList, order_id).customer_id == "ann"
            with Session(engine) as session:
                token = commands.handle(CancelOrder(order_id=order_id), wait_for=[OrderList], timeout=30).token
                assert token is not None
                wait_for(session, OrderList, after=token, timeout=30)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"timeout": None}, TypeError, "timeout must be a number of seconds, not None"),
            ({"timeout": -1}, ValueError, "timeout must be 0 or more seconds"),
            ({"timeout": float("nan")}, ValueError, "timeout must be 0 or more seconds"),
            ({"wait_for": "commands_order_list"}, TypeError, "not 'commands_order_list'"),
            ({"wait_for": Order}, DeclarationError, "not a mapped read model but an aggregate"),
            ({"wait_for": [PieList]}, DeclarationError, "PieList is a read model of another declarative base"),
        ],
    )
    def test_what_could_not_be_waited_for_is_refused_before_anything_is_done(
        self, options: dict[str, Any], error: type[Exception], message: str, commands: Commands, engine: Engine
    ) -> None:
        with pytest.raises(error, match=message):
            commands.handle(PlaceOrder(customer_id="ann"), **options)
        with Session(engine) as session:
            assert EventStore(session, Base).events.all() == []

    def test_a_late_model_is_told_and_the_outcome_is_there(self, commands: Commands) -> None:
        command, command_id = PlaceOrder(customer_id="ann"), uuid4()
        with pytest.raises(ReadModelLagError):
            commands.handle(command, command_id=command_id, wait_for=OrderList, timeout=0.05)
        assert commands.handle(command, command_id=command_id).is_repetition


class TestAsync:
    async def test_both_kinds_of_handlers_run(self, async_engine: AsyncEngine) -> None:
        commands = AsyncCommands(async_sessionmaker(async_engine), Base)
        assert (await commands.handle(CountNotes())).result == 1
        handled = await commands.handle(PlaceOrder(customer_id="ann"))
        assert (await commands.handle(Annotate(order_id=handled.result))).result == 1
        with pytest.raises(NoResultFound):
            await commands.handle(Annotate(order_id=uuid4()))

    async def test_a_command_is_done_once_by_its_id(self, async_engine: AsyncEngine) -> None:
        commands = AsyncCommands(async_sessionmaker(async_engine), Base)
        command_id = uuid4()
        first, second = [await commands.handle(CountNotes(), command_id=command_id) for _ in range(2)]
        assert (first.result, second.result, second.is_repetition) == (1, 1, True)

    async def test_a_coroutine_handler_that_commits_is_refused(self, async_engine: AsyncEngine) -> None:

        class CommitAsync(Command[None]):
            pass

        @command_handler(CommitAsync)
        async def commit(command: CommitAsync, session: object) -> None:
            await session.commit()  # type: ignore[attr-defined]

        with pytest.raises(HandlerTransactionError):
            await AsyncCommands(async_sessionmaker(async_engine), Base).handle(CommitAsync())

    def test_sessions_of_the_other_kind_are_refused(self, engine: Engine) -> None:
        with pytest.raises(TypeError, match="with synchronous sessions, use Commands"):
            AsyncCommands(sessionmaker(engine), Base)  # type: ignore[arg-type]


class TestDeclarations:
    def test_a_second_handler_is_refused(self) -> None:
        with pytest.raises(DeclarationError, match=r"ordering\.Annotate has two handlers: .*annotate and .*another"):

            @command_handler(Annotate)
            def another(command: Annotate, session: Session) -> int:
                return 0

    def test_a_second_command_of_the_name_is_refused(self) -> None:
        class Other(Command[int]):
            __command_type__ = "ordering.Annotate"

        with pytest.raises(DeclarationError, match=r"are both stored as 'ordering\.Annotate'\. Set __command_type__"):

            @command_handler(Other)
            def other(command: Other, session: Session) -> int:
                return 0

    def test_the_same_function_may_be_declared_again(self) -> None:
        assert command_handler(Annotate)(annotate) is annotate

    def test_a_base_may_have_a_handler_of_its_own(self, engine: Engine) -> None:
        class OtherBase(DeclarativeBase):
            pass

        class Greet(Command[str]):
            pass

        @command_handler(Greet)
        def greet(command: Greet, session: Session) -> str:
            return "hello"

        @command_handler(Greet, base=OtherBase)
        def greet_otherwise(command: Greet, session: Session) -> str:
            return "good day"

        commands, other_commands = Commands(engine, Base), Commands(engine, OtherBase)
        assert commands.handle(Greet()).result == "hello"
        assert other_commands.handle(Greet()).result == "good day"

    def test_a_generator_function_is_refused(self) -> None:
        with pytest.raises(DeclarationError, match="generator function"):

            @command_handler(CancelOrder)
            def cancel(command: CancelOrder, session: Session) -> object:
                yield 1

    def test_a_function_of_other_arguments_is_refused(self) -> None:
        with pytest.raises(DeclarationError, match="is called with the command and the session"):
            command_handler(CancelOrder)(lambda command: None)  # type: ignore[arg-type, misc]

    def test_a_class_is_wanted(self) -> None:
        with pytest.raises(TypeError, match="takes the command's class"):
            command_handler(Note)  # type: ignore[type-var]

    def test_a_misspelt_option_is_refused(self) -> None:
        class Misspelt(Command[None]):
            __comand_type__ = "x"

        with pytest.raises(DeclarationError, match="__command_type__"):
            command_handler(Misspelt)


def test_rules_reach_the_caller_as_they_are(commands: Commands) -> None:
    order_id = commands.handle(PlaceOrder(customer_id="ann")).result
    commands.handle(CancelOrder(order_id=order_id))
    with pytest.raises(OrderIsCancelled) as caught:
        commands.handle(Annotate(order_id=order_id))
    assert caught.value.order_id == order_id


def _only(engine: Engine) -> RecordedEvent[DomainEvent]:
    with Session(engine) as session:
        (recorded,) = EventStore(session, Base).events.all()
        return recorded


def _table() -> Table:
    return Base.metadata.tables["commands"]
