"""Read models that hold personal data in clear: forgetting someone rebuilds their rows, however many workers run."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    DeclarationError,
    EventReplayer,
    EventSourceOptions,
    MaskedConnectionError,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    evolves,
    handles,
    map_from_event,
    verify,
)
from sa_eventsource.privacy import forget, rotate_subject_key
from sa_eventsource.read_models import count
from tests.committing import commit_events
from tests.databases import number_waiting
from tests.privacy.customers import STREET, AnyCustomer, Registered, Visited, registered
from tests.privacy.forgetting import forget_person
from tests.privacy.keys import MASTER_KEYS
from tests.privacy.searching import places, what_is_sent
from tests.threads import in_thread
from tests.waiting import wait_until


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Customer(AnyCustomer, Base):
    __aggregate_type__ = "models_in_clear.Customer"


class Names(ReadModel, Base):
    __projection_name__ = "models_in_clear.names"
    __personal_data__ = "clear"

    name: Mapped[str] = map_from_event(Registered)
    street: Mapped[str] = map_from_event(Registered, source="address.street")
    city: Mapped[str] = map_from_event(Registered, source="address.city")
    visits: Mapped[int] = map_from_event(Visited, reduce=count())


class StrongNames(ReadModel, Base):
    __tablename__ = "models_in_clear_strong"
    __projection_name__ = "models_in_clear.strong_names"
    __personal_data__ = "clear"
    __consistency__ = "strong"

    name: Mapped[str] = map_from_event(Registered)


class Addresses(ReadModel, Base):
    __projection_name__ = "models_in_clear.addresses"
    __personal_data__ = "clear"

    address: Mapped[dict[str, Any]] = map_from_event(Registered)


class Evolving(ReadModel, Base):
    __projection_name__ = "models_in_clear.evolving"
    __personal_data__ = "clear"

    label: Mapped[str] = mapped_column(default="")
    visits: Mapped[int] = mapped_column(default=0)

    @evolves(Registered)
    def _registered(self, event: RecordedEvent[Registered]) -> None:
        self.label = f"{event.event.name}, {event.event.address.street}"

    @evolves(Visited)
    def _visited(self, event: RecordedEvent[Visited]) -> None:
        self.visits += 1


class Cities(ReadModel, Base):
    __projection_name__ = "models_in_clear.cities"

    city: Mapped[str] = map_from_event(Registered, source="address.city")


NAME = "Zoë Überhöltz"


def register(engine: Engine, subject: str, name: str = NAME) -> None:
    commit_events(engine, Customer, subject, registered(name), Visited())


def catch_up(engine: Engine) -> None:
    ReadModelManager(engine, Base).catch_up()


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_rows_have_it_in_clear_until_its_subject_is_forgotten(engine: Engine) -> None:
    register(engine, "z")
    register(engine, "other", "Ann")
    catch_up(engine)
    with Session(engine) as session:
        names = session.get_one(Names, "z")
        assert (names.name, names.street, names.city, names.visits) == (NAME, STREET, "Linz", 1)
        assert session.get_one(StrongNames, "z").name == NAME
        assert session.get_one(Addresses, "z").address == {"city": "Linz", "street": STREET}
        assert session.get_one(Evolving, "z").label == f"{NAME}, {STREET}"
        assert session.get_one(Cities, "z").city == "Linz"
        forget(session, "z", reason="asked", base=Base)
        assert names.name == "(forgotten)", "a row in the session is read again"
        session.commit()
        assert (names.name, names.street, names.city, names.visits) == ("(forgotten)", "(nowhere)", "Linz", 1)
        assert session.get_one(StrongNames, "z").name == "(forgotten)"
        assert session.get_one(Addresses, "z").address == {"city": "Linz", "street": "(nowhere)"}
        evolved = session.get_one(Evolving, "z")
        assert (evolved.label, evolved.visits) == ("(forgotten), (nowhere)", 1)
        assert (session.get_one(Names, "other").name, session.get_one(StrongNames, "other").name) == ("Ann", "Ann")
    assert places(engine, NAME) == []
    assert verify(engine, Base).findings == ()
    for model in (Names, StrongNames, Addresses, Evolving):
        EventReplayer(engine, Base).rebuild(model)
    assert places(engine, NAME) == []
    register(engine, "third", "Bob")
    catch_up(engine)
    with Session(engine) as session:
        assert session.get_one(Names, "third").name == "Bob"


def test_the_log_is_looked_through_before_anybody_waits_and_what_came_since_is_found(postgres_engine: Engine) -> None:
    register(postgres_engine, "z")
    catch_up(postgres_engine)
    beside = create_engine(postgres_engine.url, connect_args={"options": "-c lock_timeout=5s"})
    looked: list[str] = []

    @event.listens_for(postgres_engine, "after_cursor_execute")
    def _look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "LIKE" in statement and not looked:
            looked.append(statement)
            rotate_key(beside, "z")
            commit_events(beside, Customer, "z", registered("Zenobia", "Graz"))  # by another key, while the log is looked through
            catch_up(beside)
            assert places(beside, "Zenobia") == ["models_in_clear_strong", "projections"]

    forget_person(postgres_engine, "z", Base)
    beside.dispose()
    assert looked
    assert places(postgres_engine, NAME) == places(postgres_engine, "Zenobia") == []
    with Session(postgres_engine) as session:
        assert session.get_one(Names, "z").name == session.get_one(StrongNames, "z").name == "(forgotten)"
        assert session.get_one(Names, "z").city == "Graz"


def rotate_key(engine: Engine, subject: str) -> None:
    with Session(engine) as session:
        rotate_subject_key(session, subject, base=Base)
        session.commit()


def test_who_has_very_many_events_is_forgotten_too(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sa_eventsource.privacy.events_of_subject._MOST", 2)
    for subject in ("z", "other"):
        register(engine, subject)
    commit_events(engine, Customer, "z", *(registered(f"{NAME} {number}", "Graz") for number in range(4)))
    catch_up(engine)
    forget_person(engine, "z", Base)
    with Session(engine) as session:
        assert session.get_one(Names, "z").name == session.get_one(StrongNames, "z").name == "(forgotten)"
        assert session.get_one(Names, "other").name == NAME


def test_only_what_a_model_takes_in_clear_is_sent_in_clear(engine: Engine) -> None:
    """Its statement for old events has them as Python has read them."""
    sent = what_is_sent(engine)
    register(engine, "z", "Alexandra")
    with Session(engine) as session:
        session.execute(text("DELETE FROM models_in_clear_strong"))
        session.commit()
    sent.clear()
    ReadModelManager(engine, Base).catch_up(StrongNames)
    EventReplayer(engine, Base).rebuild(StrongNames)
    assert [each for each in sent if "Alexandra" in each]
    assert [each for each in sent if "Ringstra" in each] == []


def test_what_cannot_be_removed_again_is_refused() -> None:
    with pytest.raises(DeclarationError, match="nobody finds again"):

        class Handled(ReadModel, Base):
            __tablename__ = "models_in_clear_handled"
            __personal_data__ = "clear"
            id: Mapped[str] = mapped_column(primary_key=True)

            @classmethod
            @handles(Registered)
            def registered(cls, event: RecordedEvent[Registered], session: Session) -> None: ...

    with pytest.raises(DeclarationError, match="cannot be a key"):

        class ByName(ReadModel, Base):
            __personal_data__ = "clear"
            name: Mapped[str] = map_from_event(Registered, key=True)
            city: Mapped[str] = map_from_event(Registered, source="address.city")


class Stop:
    """Holds a thread before the commit of its next transaction that has written something to a table."""

    def __init__(self, engine: Engine, table: str) -> None:
        self._engine = engine
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._wrote: set[int] = set()

        def statement(connection: Any, _cursor: Any, text: str, *_: Any) -> None:
            if table in text and text.lstrip().startswith(("INSERT", "UPDATE", "WITH")):
                self._wrote.add(threading.get_ident())

        def commit(_connection: Any) -> None:
            if threading.get_ident() in self._wrote and not self.reached.is_set():
                self.reached.set()
                assert self.go_on.wait(30)

        event.listen(engine, "before_cursor_execute", statement)
        event.listen(engine, "commit", commit)


@pytest.mark.parametrize("model", [Names, Evolving, Addresses])
def test_forgetting_waits_for_a_worker_that_writes_and_takes_its_row_along(postgres_engine: Engine, model: type[Any]) -> None:
    register(postgres_engine, "z")
    stop = Stop(postgres_engine, "projections")
    worker, failed = in_thread(lambda: ReadModelManager(postgres_engine, Base).catch_up(model))
    assert stop.reached.wait(30)
    forgetting, errors = in_thread(lambda: forget_person(postgres_engine, "z", Base))
    wait_until(lambda: number_waiting(postgres_engine))
    stop.go_on.set()
    worker.join(30)
    forgetting.join(30)
    assert (failed, errors) == ([], [])
    assert places(postgres_engine, NAME) == []
    with Session(postgres_engine) as session:
        assert session.scalar(select(model)) is not None


@pytest.mark.parametrize("model", [Names, Evolving, Addresses])
def test_a_worker_waits_for_forgetting_and_writes_the_placeholder(postgres_engine: Engine, model: type[Any]) -> None:
    register(postgres_engine, "z")
    with Session(postgres_engine) as session:
        forget(session, "z", reason="asked", base=Base)
        worker, failed = in_thread(lambda: ReadModelManager(postgres_engine, Base).catch_up(model))
        wait_until(lambda: number_waiting(postgres_engine))
        session.commit()
        worker.join(30)
        assert failed == []
        assert session.scalar(select(model)) is not None
    assert places(postgres_engine, NAME) == []


def test_forgetting_waits_for_an_append_with_a_strong_model_and_takes_its_row_along(postgres_engine: Engine) -> None:
    with Session(postgres_engine) as session:
        customer = Customer(id="z")
        customer.apply_event(registered(NAME))
        session.add(customer)
        session.flush()
        forgetting, errors = in_thread(lambda: forget_person(postgres_engine, "z", Base))
        wait_until(lambda: number_waiting(postgres_engine))
        session.commit()
        forgetting.join(30)
        assert errors == []
        assert session.get_one(StrongNames, "z").name == "(forgotten)"
    assert places(postgres_engine, NAME) == []


def test_an_append_of_something_else_waits_and_finds_the_row_as_it_was_left(postgres_engine: Engine) -> None:
    register(postgres_engine, "z")
    with Session(postgres_engine) as session:
        forget(session, "z", reason="asked", base=Base)
        visiting, errors = in_thread(lambda: commit_events(postgres_engine, Customer, "z", Visited()))
        wait_until(lambda: number_waiting(postgres_engine))
        session.commit()
        visiting.join(30)
        assert errors == []
        assert session.get_one(StrongNames, "z").name == "(forgotten)"
    catch_up(postgres_engine)
    assert verify(postgres_engine, Base).findings == ()


def test_an_engine_that_reads_placeholders_writes_no_model_in_clear(engine: Engine) -> None:
    register(engine, "z")
    masked = engine.execution_options(personal_data="masked")
    for model in (Names, Evolving):
        with pytest.raises(MaskedConnectionError, match="another engine"):
            ReadModelManager(masked, Base).catch_up(model)
    ReadModelManager(masked, Base).catch_up(Cities)
    ReadModelManager(engine, Base).catch_up(Names)
    with Session(masked) as session:
        assert session.get_one(Cities, "z").city == "Linz"
