"""Events that a process cannot take, that come once more, or while others change the process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, MetaData, select, text, update
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    After,
    AggregateRoot,
    Commands,
    DeclarationError,
    DomainEvent,
    EventReplayer,
    EventSourceOptions,
    EventStore,
    ProcessManager,
    ReadModelManager,
    RetryPolicy,
    Worker,
    reacts,
)
from sa_eventsource.consumers import consumers_on
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections import drop_stream, parked_streams, resume, retry_stream
from tests.bank import Deposited
from tests.cli.commands import call, succeed
from tests.committing import commit_events
from tests.process_managers.rental import (
    Account,
    Base,
    Bike,
    BikeReturned,
    BikeTaken,
    Extend,
    Remind,
    Rental,
    broken,
    charged,
    meanwhile,
)

COMMANDS = Base.metadata.tables["commands"]
NAME = "rental.Rental"
ONE, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    charged.clear()
    broken.clear()
    meanwhile.clear()


def take(engine: Engine, rental_id: UUID, **values: Any) -> None:
    commit_events(engine, Bike, f"bike of {rental_id}", BikeTaken(rental_id=str(rental_id), **values))


def pay(engine: Engine, rental_id: UUID) -> None:
    commit_events(engine, Account, f"account of {rental_id}", Deposited(amount=1, note=str(rental_id)))


def bring_back(engine: Engine, rental_id: UUID) -> None:
    commit_events(engine, Bike, f"bike of {rental_id}", BikeReturned(rental_id=str(rental_id)))


def work(engine: Engine) -> None:
    for _ in range(3):
        Worker(engine, Base, retries=RetryPolicy(attempts=1)).run_once()


def rental(engine: Engine, rental_id: UUID) -> tuple[bool, int] | None:
    with Session(engine) as session:
        found = session.get(Rental, rental_id)
        return None if found is None else (found.has_begun, found.paid_for)


def problems(engine: Engine) -> list[str]:
    return ReadModelManager(engine, Base).problems()


def consumer() -> Any:
    return next(each for each in consumers_on(tables_on(Base.metadata)) if each.name == NAME)


def parked(engine: Engine) -> list[tuple[str, str, int]]:
    with Session(engine) as session:
        return [(each.aggregate_type, each.aggregate_id, each.events) for each in parked_streams(session, consumer())]


class TestParking:
    def test_a_bad_event_parks_its_process_and_what_comes_behind_from_any_stream(self, engine: Engine) -> None:
        broken.add("taken")
        take(engine, ONE)
        pay(engine, ONE)  # of another stream; taken now, it would find nothing to do, and be lost
        work(engine)
        broken.clear()
        take(engine, OTHER)
        pay(engine, OTHER)
        bring_back(engine, ONE)
        work(engine)
        assert parked(engine) == [(NAME, str(ONE), 3)]
        assert problems(engine) == [f"{NAME} has parked 3 events"]
        assert (rental(engine, ONE), rental(engine, OTHER), charged) == (None, (True, 1), [])
        with Session(engine) as session:
            (stream,) = parked_streams(session, consumer())
            assert stream.error is not None
            assert "no taken today" in stream.error
            assert retry_stream(session, consumer(), stream) == 3
        work(engine)
        assert (rental(engine, ONE), charged, problems(engine)) == ((True, 1), [ONE], [])

    def test_the_command_line_names_the_process(self, engine: Engine) -> None:
        broken.add("taken")
        take(engine, ONE)
        bring_back(engine, ONE)
        work(engine)
        broken.clear()
        base = "tests.process_managers.rental:Base"
        assert str(ONE) in succeed("parked", "list", base, "--json", engine=engine).stdout
        assert f"{NAME} has parked 2 events" in call("status", base, engine=engine).stdout
        said = succeed("parked", "retry", base, NAME, "--id", str(ONE), engine=engine).stderr
        assert said == f"{NAME} {ONE}: took 2 events\n"
        work(engine)
        assert charged == [ONE]

    def test_what_cannot_be_taken_yet_stays_parked(self, engine: Engine) -> None:
        broken.add("taken")
        take(engine, ONE)
        work(engine)
        with Session(engine) as session:
            (stream,) = parked_streams(session, consumer())
            with pytest.raises(Exception, match="no taken today"):
                retry_stream(session, consumer(), stream)
        assert parked(engine) == [(NAME, str(ONE), 1)]

    def test_dropped_events_are_left_out_and_later_ones_are_taken(self, engine: Engine) -> None:
        broken.add("taken")
        take(engine, ONE)
        work(engine)
        with Session(engine) as session:
            (stream,) = parked_streams(session, consumer())
            assert drop_stream(session, consumer(), stream) == 1
        bring_back(engine, ONE)
        work(engine)
        assert (charged, problems(engine)) == ([ONE], [])

    def test_sent_back_it_does_not_overtake_what_is_parked(self, engine: Engine) -> None:
        take(engine, ONE)
        work(engine)
        broken.add("paid")
        pay(engine, ONE)
        bring_back(engine, ONE)
        work(engine)
        broken.clear()
        EventReplayer(engine, Base).rewind(NAME, to="beginning")
        work(engine)
        assert (parked(engine), rental(engine, ONE), charged) == ([(NAME, str(ONE), 2)], (True, 0), [])

    def test_a_command_without_handler_is_a_bad_event(self, engine: Engine) -> None:
        take(engine, ONE, weight=-1)
        work(engine)
        with Session(engine) as session:
            (stream,) = parked_streams(session, consumer())
        assert stream.error is not None
        assert "no handler is declared for the command 'rental.Unhandled'" in stream.error

    def test_an_id_that_is_none_is_named(self, engine: Engine) -> None:
        commit_events(engine, Bike, "b-1", BikeTaken(rental_id="first floor"))
        work(engine)
        with Session(engine) as session:
            (stream,) = parked_streams(session, consumer())
        assert (stream.aggregate_type, stream.aggregate_id) == ("rental.Bike", "b-1")  # for which process it is, nobody knows
        assert stream.error is not None
        assert "BikeTaken.rental_id is 'first floor', which is no id of Rental, a UUID" in stream.error

    def test_an_event_that_cannot_be_read_parks_its_own_stream(self, postgres_engine: Engine) -> None:
        take(postgres_engine, ONE)
        with postgres_engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text('UPDATE events SET event_data = \'{"weight": "heavy"}\''))
        work(postgres_engine)
        assert parked(postgres_engine) == [("rental.Bike", f"bike of {ONE}", 1)]


class Lent(DomainEvent):
    """Something was lent, by somebody who writes its number somehow."""

    __event_type__ = "numbers.Lent"
    number: str | None = None
    text: str | None = None


class Numbers(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class Library(AggregateRoot[str], Numbers):
    __aggregate_type__ = "numbers.Library"
    __ignored_events__ = (Lent,)


class Remembered(DomainEvent):
    """The process has heard of it."""

    __event_type__ = "numbers.Remembered"


class OfNumber(ProcessManager[int], Numbers):
    __aggregate_type__ = "numbers.OfNumber"
    __on_error__ = "park"
    __ignored_events__ = (Remembered,)

    @reacts(Lent, by="number")
    def on_lent(self, event: Lent) -> Remembered:
        return Remembered()


class OfText(ProcessManager[str], Numbers):
    __aggregate_type__ = "numbers.OfText"
    __on_error__ = "park"
    __ignored_events__ = (Remembered,)

    @reacts(Lent, by="text")
    def on_lent(self, event: Lent) -> Remembered:
        return Remembered()


def lend(engine: Engine, *events: Lent) -> None:
    Numbers.metadata.create_all(engine)
    for number, event in enumerate(events):
        commit_events(engine, Library, f"library {number}", event)
    for _ in range(2):
        Worker(engine, Numbers, retries=RetryPolicy(attempts=1)).run_once()


def processes(engine: Engine) -> tuple[set[str], int]:
    """The ids of the processes that have heard of something, and how many events are parked."""
    tables = tables_on(Numbers.metadata)
    with engine.connect() as connection:
        types = {"numbers.OfNumber", "numbers.OfText"}
        ids = connection.scalars(select(tables.events.c.aggregate_id).where(tables.events.c.aggregate_type.in_(types)))
        under = connection.scalars(select(tables.parked_events.c.aggregate_type)).all()
        assert set(under) <= {"numbers.Library"}  # for which process it is, nobody knows
        return set(ids), len(under)


class TestIdsThatAreNone:
    @pytest.mark.parametrize("number", ["1_000", " 7 ", "\N{ARABIC-INDIC DIGIT THREE}", "+7", "07", "-0", "", "seven", "9" * 30])
    def test_a_number_is_written_as_numbers_are(self, number: str, engine: Engine) -> None:
        lend(engine, Lent(number=number), Lent(number="7"), Lent(number="-7"))
        assert processes(engine) == ({"7", "-7"}, 1)

    def test_a_text_that_is_none_is_parked_and_ends_nothing(self, engine: Engine) -> None:
        lend(engine, Lent(text=""), Lent(text="x" * 256), Lent(text="x"))
        assert processes(engine) == ({"x"}, 2)


class TestImpureMethods:
    def test_an_event_that_is_applied_and_not_returned_is_refused(self, engine: Engine) -> None:
        broken.add("impure")
        take(engine, ONE)
        work(engine)
        with Session(engine) as session:
            (stream,) = parked_streams(session, consumer())
        assert stream.error is not None
        assert "Rental.on_taken() has applied RentalBegun by itself. Return it instead" in stream.error
        assert rental(engine, ONE) is None


class TestStopping:
    def test_it_stops_goes_on_and_skips(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Rental, "__on_error__", "stop")
        broken.add("taken")
        take(engine, ONE)
        take(engine, OTHER)
        work(engine)
        (problem,) = problems(engine)
        assert problem.startswith(f"{NAME} is stopped: ")
        assert "no taken today" in problem
        broken.clear()
        with Session(engine) as session:
            assert resume(session, consumer(), skip=True)
        work(engine)
        assert (rental(engine, ONE), rental(engine, OTHER), problems(engine)) == (None, (True, 0), [])


class TestRaces:
    def test_a_handler_that_was_faster_is_no_failure(self, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
        take(engine, ONE)
        work(engine)
        pay(engine, ONE)
        extensions = [1, 2]

        def extend() -> None:
            if extensions:
                extensions.pop()
                Commands(engine, Base).handle(Extend(rental_id=ONE))

        if engine.dialect.name == "postgresql":  # on SQLite nobody else writes meanwhile
            meanwhile.append(extend)
        else:
            extend()
            extend()
        work(engine)
        assert rental(engine, ONE) == (True, 3)
        assert problems(engine) == []
        assert "ConcurrencyError" not in caplog.text


class TestOnceMore:
    def test_old_commands_may_be_forgotten(self, engine: Engine) -> None:
        take(engine, ONE)
        pay(engine, ONE)
        work(engine)
        with engine.begin() as connection:
            connection.execute(update(COMMANDS).values(status="done", handled_at=datetime.now(UTC) - timedelta(days=9)))
        assert Commands(engine, Base).prune(older_than=timedelta(days=1)) == 1
        before = _events(engine)
        EventReplayer(engine, Base).rewind(NAME, to="beginning")
        work(engine)
        assert _events(engine) == before
        with engine.connect() as connection:
            assert connection.execute(select(COMMANDS)).all() == []

    def test_a_deadline_that_was_moved_stays_moved(self, engine: Engine) -> None:
        take(engine, ONE)
        take(engine, ONE)  # moves the reminder
        work(engine)
        assert _reminders(engine) == ["discarded", "scheduled"]
        with engine.begin() as connection:
            connection.execute(update(COMMANDS).where(COMMANDS.c.status == "scheduled").values(due_at=datetime.now(UTC)))
        work(engine)
        EventReplayer(engine, Base).rewind(NAME, to="beginning")
        work(engine)
        assert _reminders(engine) == ["discarded", "done"]

    def test_keys_belong_to_one_process_and_may_be_long(self, engine: Engine) -> None:
        for rental_id in (ONE, OTHER):
            take(engine, rental_id)
        work(engine)
        assert _reminders(engine) == ["scheduled", "scheduled"]


def _events(engine: Engine) -> list[UUID]:
    with Session(engine) as session:
        return [each.event_id for each in EventStore(session, Base).events.all()]


def _reminders(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.scalars(select(COMMANDS.c.status).where(COMMANDS.c.command_type == "rental.Remind")))


class TestDeclarations:
    def test_options_are_checked(self) -> None:
        for option, value, message in (
            ("__on_error__", "ignore", 'must be "stop" or "park"'),
            ("__start__", "yesterday", "start"),
            ("__onerror__", "park", "Write __on_error__"),
            ("__version__", 2, "which is an option of read models"),
        ):
            with pytest.raises(DeclarationError, match=message):
                type(f"Odd{option}", (ProcessManager, Base), {"__module__": __name__, option: value, "on": reacts(BikeTaken)(_on)})

    def test_it_does_not_inherit_what_another_one_does(self) -> None:
        with pytest.raises(DeclarationError, match=r"Again inherits what Rental does at BikeTaken.*__abstract__ = True"):
            type("Again", (Rental,), {"__module__": __name__, "__on_error__": "stop"})
        assert NAME in {each.name for each in consumers_on(tables_on(Base.metadata))}
        assert "Again" not in {each.name for each in consumers_on(tables_on(Base.metadata))}

    def test_it_may_do_all_of_it_in_its_own_way(self) -> None:
        class Elsewhere(DeclarativeBase):
            __eventsource__ = EventSourceOptions(commands="commands")

        class Shared(ProcessManager, Elsewhere):
            __abstract__ = True

            @reacts(BikeTaken)
            def on_taken(self, event: BikeTaken) -> None:
                """Nothing follows."""

        class First(Shared):
            __aggregate_type__ = "rental.First"

        class Second(Shared):
            __aggregate_type__ = "rental.Second"

        class Third(First):
            __aggregate_type__ = "rental.Third"

            @reacts(BikeTaken)
            def on_taken(self, event: BikeTaken) -> None:
                """Nothing follows, in its own way."""

        names = {each.name for each in consumers_on(tables_on(Elsewhere.metadata))}
        assert names == {each.__aggregate_type__ for each in (First, Second, Third)}

    def test_it_hears_of_aggregates_that_nobody_has_imported(self) -> None:
        class Elsewhere(DeclarativeBase):
            __eventsource__ = EventSourceOptions(commands="commands")

        class Hearing(ProcessManager, Elsewhere):
            __aggregate_type__ = "rental.Hearing"

            @reacts(BikeTaken)
            def on_taken(self, event: BikeTaken) -> None:
                """Nothing follows."""

        assert [each.name for each in consumers_on(tables_on(Elsewhere.metadata))] == ["rental.Hearing"]

    def test_it_may_begin_now(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Rental, "__start__", "now")
        take(engine, ONE)
        work(engine)
        take(engine, OTHER)
        work(engine)
        assert (rental(engine, ONE), rental(engine, OTHER)) == (None, (True, 0))

    def test_time_goes_forward(self) -> None:
        with pytest.raises(ValueError, match="0 or more"):
            After(timedelta(-1), Remind(rental_id=uuid4()))


def _on(self: object, event: BikeTaken) -> None:
    """Nothing follows."""
