"""Anonymising what is stored in clear: values change, and nothing else does; batch by batch, beside those who write and follow."""

from __future__ import annotations

import json
import threading
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine, MetaData, create_engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    AnonymisationError,
    Anonymised,
    AsyncEventStore,
    DeclarationError,
    DomainEvent,
    EventSourceOptions,
    EventStore,
    Personal,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    StoredField,
    anonymise,
    applies,
    async_anonymise,
    event_context,
    handles,
    map_from_event,
    upcast,
    verify,
)
from tests.bank import AnyAccount
from tests.cli.commands import call, fail, succeed
from tests.committing import commit_events
from tests.privacy.keys import MASTER_KEYS
from tests.privacy.searching import places
from tests.proofs.cutting import Child, Cut, Points
from tests.threads import in_thread
from tests.waiting import wait_until

BASE = "tests.privacy.test_anonymising:Base"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS, anonymisations="anonymisations")


class Line(BaseModel):
    sku: str
    note: str | None = None


class Ordered(DomainEvent):
    __event_type__ = "anonymising.Ordered"
    __event_version__ = 2

    customer: str
    country: str = "NL"
    lines: list[Line] = []
    phone: Annotated[str, Personal(subject="aggregate_id", placeholder="")] = "1"


@upcast("anonymising.Ordered", from_version=1)
def _with_customer(payload: dict[str, Any]) -> dict[str, Any]:
    return {"customer": payload["name"], "phone": ""}


class Renamed(DomainEvent):
    __event_type__ = "anonymising.Renamed"

    customer: str


class Order(AggregateRoot, Base):
    __aggregate_type__ = "anonymising.Order"
    __snapshot_frequency__ = 1

    customer: str = ""
    events: int = 0

    @applies(Ordered, Renamed)
    def _named(self, event: Ordered | Renamed) -> None:
        self.customer = event.customer
        self.events += 1


class Customers(ReadModel, Base):
    __projection_name__ = "anonymising.customers"

    customer: Mapped[str] = map_from_event(Ordered, Renamed)


class StrongCustomers(ReadModel, Base):
    __tablename__ = "anonymising_strong"
    __projection_name__ = "anonymising.strong_customers"
    __consistency__ = "strong"

    customer: Mapped[str] = map_from_event(Ordered, Renamed)


class ByHand(ReadModel, Base):
    __tablename__ = "anonymising_by_hand"
    __projection_name__ = "anonymising.by_hand"

    number: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]

    @classmethod
    @handles(Renamed)
    def _renamed(cls, recorded: RecordedEvent[Renamed], session: Session) -> None:
        session.add(cls(number=recorded.position, customer=recorded.event.customer))


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def database(engine: Engine) -> Engine:
    return engine


def order(engine: Engine, *, number: int = 1, customer: str = "Annabelle", **values: Any) -> None:
    commit_events(engine, Order, f"o-{number}", Ordered(customer=customer, **values))


def nobody(found: StoredField) -> Any:
    return None if found.field.endswith("note") else "(anonymous)"


def one_call(engine: Engine, **changes: Any) -> Anonymised:
    arguments: dict[str, Any] = {"fields": ["customer"], "rewrite": nobody, "name": "first", "reason": "retention", **changes}
    conditions = arguments.pop("events", None)
    with Session(engine) as session:
        events: Any = EventStore(session, Base).events
        events = conditions(events) if conditions else events.of_type(Ordered, Renamed)
        done = anonymise(events, **arguments)
        session.commit()
    return done


def finish(engine: Engine, **changes: Any) -> Anonymised:
    done = one_call(engine, **changes)
    while not done.is_finished:
        done = one_call(engine, **changes)
    return done


def rows(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text("SELECT * FROM events ORDER BY position")).mappings()]


def document(row: dict[str, Any]) -> Any:
    return json.loads(row["event_data"]) if isinstance(row["event_data"], str) else row["event_data"]


def test_values_change_and_nothing_else_does(database: Engine) -> None:
    with event_context(user="clerk"):
        order(database, lines=[Line(sku="a", note="for Annabelle"), Line(sku="b")])
        order(database, number=2, customer="Bob")
    with Session(database) as session:
        session.get_one(Order, "o-1").apply_event(Renamed(customer="Annabelle B."))
        session.commit()
    ReadModelManager(database, Base).catch_up()
    before = rows(database)
    with event_context(user="officer-7"):
        done = finish(database, fields=["customer", "lines.*.note"], at_most=2)
    assert (done.is_finished, done.events, done.position) == (True, 3, before[-1]["position"])
    after = rows(database)
    kept = [name for name in before[0] if name != "event_data"]
    assert [[row[name] for name in kept] for row in after] == [[row[name] for name in kept] for row in before]
    for old, new in zip(map(document, before), map(document, after), strict=True):
        expected = {**old, "customer": "(anonymous)"}
        if "lines" in old:
            expected["lines"] = [{**line, "note": None} for line in old["lines"]]
        assert new == expected
    with Session(database) as session:
        found = session.get_one(Order, "o-1")
        assert (found.customer, found.events) == ("(anonymous)", 2)
        assert set(session.scalars(select(Customers.customer))) == {"(anonymous)"}
        assert set(session.scalars(select(StrongCustomers.customer))) == {"(anonymous)"}
        record: Any = session.execute(text("SELECT * FROM anonymisations")).one()
    assert (record.name, record.reason, record.events) == ("first", "retention", 3)
    assert record.function == f"{__name__}:nobody"
    assert "officer-7" in str(record.metadata)
    assert record.finished_at is not None
    assert done.models_to_rebuild == ("anonymising.by_hand",)
    assert places(database, "Annabelle") == ["anonymising_by_hand"], "which is to be rebuilt"
    assert verify(database, Base, only=["immutability", "snapshots"]).findings == ()


def test_the_triggers_are_at_work_again_in_the_same_transaction(database: Engine) -> None:
    order(database)
    one_call(database)
    with Session(database) as session:
        anonymise(EventStore(session, Base).events, ["customer"], nobody, name="first", reason="retention")
        with pytest.raises(IntegrityError, match="events are immutable"):
            session.execute(text("UPDATE events SET version = 7"))


def test_snapshots_are_made_of_what_is_there(database: Engine) -> None:
    order(database)
    with Session(database) as session:
        assert session.execute(text("SELECT count(*) FROM snapshots")).scalar_one() == 1
    finish(database)
    with Session(database) as session:
        assert session.execute(text("SELECT count(*) FROM snapshots")).scalar_one() == 0
        loaded = session.get_one(Order, "o-1")
        assert loaded.customer == "(anonymous)"
        loaded.apply_event(Renamed(customer="Nobody"))
        session.commit()
    assert places(database, "Annabelle") == []


def test_a_session_reads_again_what_it_had_loaded(database: Engine) -> None:
    order(database)
    one_call(database)
    with Session(database) as session:
        loaded = session.get_one(Order, "o-1")
        assert loaded.customer == "Annabelle"
        anonymise(EventStore(session, Base).events.of_type(Ordered), ["customer"], nobody, name="first", reason="retention")
        assert loaded.customer == "(anonymous)"


def test_a_dry_run_says_what_would_change_and_changes_nothing(database: Engine) -> None:
    order(database, lines=[Line(sku="a", note="ring")])
    before = rows(database)
    done = one_call(database, fields=["customer", "lines.0.note"], dry_run=True)
    assert sorted((each.field, each.before, each.after, each.version) for each in done.changes) == [
        ("customer", "Annabelle", "(anonymous)", 1),
        ("lines.0.note", "ring", None, 1),
    ]
    assert done.is_finished
    assert rows(database) == before
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM anonymisations")).scalar_one() == 0


def test_what_is_appended_after_the_beginning_is_left_alone(database: Engine) -> None:
    order(database)
    assert not one_call(database).is_finished
    order(database, number=2, customer="Bob")
    finish(database)
    assert [document(row)["customer"] for row in rows(database)] == ["(anonymous)", "Bob"]
    assert finish(database).events == 1, "what is finished is not done again"
    assert finish(database, name="second").events == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["a"], "has not the structure"),
        ({"a": 1}, "has not the structure"),
        (7, "is not read by its class"),
        (object(), "cannot be stored as JSON"),
        ("\0", "cannot be stored as JSON"),
        (float("nan"), "cannot be stored as JSON"),
    ],
)
def test_what_would_break_an_event_is_refused(database: Engine, value: Any, said: str) -> None:
    order(database)
    before = rows(database)
    one_call(database, rewrite=lambda _found: value)
    with pytest.raises(AnonymisationError, match=said) as caught:
        one_call(database, rewrite=lambda _found: value)
    assert caught.value.event_type == "anonymising.Ordered"
    assert caught.value.fields == ("customer",)
    assert rows(database) == before


def test_objects_and_lists_keep_their_structure(database: Engine) -> None:
    order(database, lines=[Line(sku="a", note="x")])
    for value in ([], [{"sku": "a"}], [{"sku": "a", "note": "y"}, {"sku": "b", "note": None}], "x", None):
        with pytest.raises(AnonymisationError, match="has not the structure"):
            one_call(database, fields=["lines"], rewrite=lambda _found, value=value: value, dry_run=True)
    with pytest.raises(AnonymisationError, match="is in another field"):
        one_call(database, fields=["lines", "lines.*.note"], rewrite=lambda found: found.value, dry_run=True)
    done = one_call(database, fields=["lines"], rewrite=lambda _found: [{"sku": "b", "note": None}], dry_run=True)
    assert [each.after for each in done.changes] == [[{"sku": "b", "note": None}]]


def test_sealed_values_are_left_alone_and_older_versions_are_rewritten_in_their_own_shape(database: Engine) -> None:
    order(database)
    with database.begin() as connection:
        values = "'anonymising.Ordered', 1, '{\"name\": \"Annabelle\", \"n\": 1.10}', '2024-01-01 00:00:00', 1000"
        connection.execute(
            text(
                "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, "
                f"occurred_at, position) VALUES ('{'a' * 32}', 'anonymising.Order', 'o-old', 1, {values})"
            )
        )
    sealed = document(rows(database)[0])["phone"]
    seen = set()

    def by_version(found: StoredField) -> str:
        seen.add((found.event_version, found.field, found.aggregate_id))
        return "(anonymous)"

    finish(database, fields=["customer", "name", "phone"], rewrite=by_version)
    assert seen == {(2, "customer", "o-1"), (1, "name", "o-old")}
    new, old = rows(database)
    assert document(new)["phone"] == sealed
    assert "1.10" in (old["event_data"] if isinstance(old["event_data"], str) else "1.10"), "digits are as they were"
    with Session(database) as session:
        assert session.get_one(Order, "o-old").customer == "(anonymous)"


def test_only_events_that_fulfil_the_conditions(database: Engine) -> None:
    order(database)
    order(database, number=2, customer="Bob")
    done = finish(database, events=lambda events: events.of(Order, "o-2").where(Base.metadata.tables["events"].c.version == 1))
    assert done.events == 1
    assert [document(row)["customer"] for row in rows(database)] == ["Annabelle", "(anonymous)"]


class NoTable(DeclarativeBase):
    pass


class Account(AnyAccount, NoTable):
    __aggregate_type__ = "anonymising.Account"


def test_what_is_not_meant_is_refused(database: Engine) -> None:
    one_call(database)
    for changes, error, said in [
        ({"fields": ["other"]}, ValueError, "has fields"),
        ({"rewrite": lambda found: found.value}, ValueError, "choose another name"),
        ({"fields": "customer"}, TypeError, "a list of paths"),
        ({"fields": []}, ValueError, "name the fields"),
        ({"fields": ["a..b"]}, ValueError, "name the fields"),
        ({"reason": " "}, ValueError, "for the record"),
        ({"name": 7}, TypeError, "write a text"),
        ({"name": "x" * 256}, ValueError, "at most 255"),
        ({"rewrite": "x"}, TypeError, "pass a function"),
        ({"at_most": 0}, ValueError, "at_most"),
        ({"events": lambda events: events.limit(3)}, ValueError, "limit"),
        ({"events": lambda events: events.backward()}, ValueError, "backward"),
        ({"events": lambda _events: []}, TypeError, "pass a query"),
        ({"events": lambda events: EventStore(events.session, NoTable).events}, DeclarationError, "anonymisations="),
    ]:
        with pytest.raises(error, match=said):
            one_call(database, **changes)  # type: ignore[arg-type]


def test_a_transaction_that_sees_one_state_is_refused(postgres_engine: Engine) -> None:
    with pytest.raises(AnonymisationError, match="READ COMMITTED"):
        one_call(postgres_engine.execution_options(isolation_level="REPEATABLE READ"))


async def test_the_same_by_an_async_session(async_engine: AsyncEngine) -> None:
    async with AsyncSession(async_engine) as session:
        new = Order(id="o-1")
        new.apply_event(Ordered(customer="Annabelle"))
        session.add(new)
        await session.commit()
        done = None
        while done is None or not done.is_finished:
            events = AsyncEventStore(session, Base).events.of_type(Ordered)
            done = await async_anonymise(events, ["customer"], nobody, name="async", reason="retention")
            await session.commit()
        (found,) = await AsyncEventStore(session, Base).events.all()
        assert found.event.model_dump()["customer"] == "(anonymous)"


def test_one_that_was_killed_goes_on(postgres_engine: Engine) -> None:
    for number in range(6):
        order(postgres_engine, number=number)
    url = postgres_engine.url
    postgres_engine.dispose()
    with Child(_anonymise_all, url, cuts=(Cut(3, "after UPDATE"),)) as child:
        child.until_it_stops()  # the second batch is rewritten, and not committed
        assert [document(row)["customer"] for row in rows(postgres_engine)] == ["(anonymous)"] * 2 + ["Annabelle"] * 4
        child.kill()
    wait_until(lambda: not _others(postgres_engine), "the server still holds the transaction of who was killed")
    assert finish(postgres_engine, at_most=2).events == 6
    assert {document(row)["customer"] for row in rows(postgres_engine)} == {"(anonymous)"}


def _anonymise_all(points: Points, url: Any) -> None:
    engine = create_engine(url)
    points.watch(engine)
    finish(engine, at_most=2)


def _others(engine: Engine) -> int:
    with engine.connect() as connection:
        statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        found: int = connection.execute(text(statement)).scalar_one()
        return found


def test_a_writer_beside_it_loses_nothing_and_brings_nothing_back(postgres_engine: Engine) -> None:
    for number in range(20):
        order(postgres_engine, number=number)
    stop = threading.Event()

    def write() -> None:
        count = 0
        while not stop.is_set() or count < 20:
            commit_events(postgres_engine, Order, f"o-{count % 20}", Renamed(customer="(anonymous)"))
            count += 1

    writer, errors = in_thread(write)
    finish(postgres_engine, at_most=3)
    stop.set()
    writer.join()
    assert errors == []
    ReadModelManager(postgres_engine, Base).catch_up()
    assert places(postgres_engine, "Annabelle") == []
    with Session(postgres_engine) as session:
        by_stream = session.execute(text("SELECT aggregate_id, count(*) FROM events GROUP BY 1")).all()
        for stream, number in by_stream:
            assert session.get_one(Order, stream).events == number
    assert verify(postgres_engine, Base, only=["immutability", "snapshots", "versions"]).findings == ()


def failing(found: StoredField) -> str:
    raise LookupError(f"no substitute for {found.value}")


def test_a_wrong_call_of_the_command_says_what_was_wrong(database: Engine) -> None:
    order(database)

    def command(function: str, event_type: str = "anonymising.Ordered", field: str = "customer", reason: str = "old") -> list[str]:
        options = ["--type", event_type, "--field", field, "--name", "wrong", "--reason", reason, "--dry-run"]
        return ["anonymise", BASE, f"{__name__}:{function}", *options]

    assert "did you mean 'anonymising.Ordered'?" in fail(*command("nobody", "anonymising.Orderd"), engine=database, status=2)
    assert "write a text" in fail(*command("nobody", reason=""), engine=database, status=2)
    assert "name the fields" in fail(*command("nobody", field="a..b"), engine=database, status=2)
    assert "BASE is not a function; name one that gets a StoredField" in fail(*command("BASE"), engine=database, status=2)
    failed = fail(*command("failing"), engine=database, status=2)
    assert failed.startswith(f"{__name__}:failing failed for customer of event ")
    assert failed.endswith(": LookupError: no substitute for Annabelle")
    none = succeed(*command("nobody", field="elsewhere"), engine=database).stderr
    assert none == "0 fields would change: they are missing, encrypted, or have the new values already\n"


def test_the_command(database: Engine) -> None:
    order(database)
    arguments = ["anonymise", BASE, f"{__name__}:nobody", "--type", "anonymising.Ordered", "--field", "customer", "--reason", "old"]
    dry = succeed(*arguments, "--name", "by command", "--dry-run", engine=database)
    assert dry.stdout.splitlines() == [
        "anonymising.Order o-1 1 anonymising.Ordered",
        '  - customer: "Annabelle"',
        '  + customer: "(anonymous)"',
    ]
    assert "1 field would change" in dry.stderr
    as_json = succeed(*arguments, "--name", "by command", "--dry-run", "--json", engine=database).stdout
    assert json.loads(as_json)["before"] == "Annabelle"
    assert call(*arguments, "--name", "by command", "--json", engine=database).exit_code == 1  # it asks, and nobody says yes
    assert places(database, "Annabelle") != []
    done = succeed(*arguments, "--name", "by command", "--user", "officer-1", "--yes", "--batch", "1", "--json", engine=database)
    assert json.loads(done.stdout) == {"events": 1, "archived_events": 0, "position": 1, "models_to_rebuild": []}
    said = succeed(*arguments, "--name", "again", "--yes", engine=database).stderr
    assert said.startswith("0 events rewritten, up to position ")
    assert places(database, "Annabelle") == []
