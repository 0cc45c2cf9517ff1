"""Hooks, options and bind arguments of an application's statements hold for the state of aggregates as well."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, true
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, ORMExecuteState, Session, with_loader_criteria

from sa_eventsource import (
    AggregateNotFoundError,
    AggregateRoot,
    EventSourcedRepository,
    ExpectedVersion,
    UnknownShardError,
    lock_aggregate,
)
from tests.orders import Base, Order
from tests.session.helpers import place_order, stored_events
from tests.shop import NoteAdded


def only(ids: set[str]) -> Any:
    """A hook that hides all orders but some, as a filter of tenants does."""

    def listener(state: ORMExecuteState) -> None:
        if state.is_select:
            state.statement = state.statement.options(
                with_loader_criteria(Order, lambda cls: cls.id.in_(ids), include_aliases=True, track_closure_variables=True)
            )

    return listener


def test_get_refresh_and_select_pass_an_application_s_hook(database: Engine) -> None:
    for order_id in ("mine", "theirs"):
        place_order(database, order_id)
    with Session(database) as session:
        theirs = session.get_one(Order, "theirs")
        event.listen(session, "do_orm_execute", only({"mine"}))
        session.expunge(theirs)
        assert session.get(Order, "theirs") is None
        assert session.get_one(Order, "mine").customer_id == "c-1"
        assert [each.id for each in session.scalars(select(Order))] == ["mine"]


class CriteriaBase(DeclarativeBase):
    """Base of aggregates that a criterion is for, all of them."""


class Rented(AggregateRoot[str]):
    """What all of them inherit from, as they do from AggregateRoot; other tests leave aggregates behind that were refused."""

    __abstract__ = True
    __ignored_events__ = (NoteAdded,)


class Boat(Rented, CriteriaBase):
    """One kind."""

    __aggregate_type__ = "criteria.Boat"


class Car(Rented, CriteriaBase):
    """Another kind."""

    __aggregate_type__ = "criteria.Car"


def test_a_criterion_of_all_aggregates_takes_their_ids_and_versions(engine: Engine) -> None:
    CriteriaBase.metadata.create_all(engine)
    with Session(engine) as session:
        for rented in (Boat(id="mine"), Boat(id="theirs"), Car(id="new")):
            rented.apply_event(NoteAdded(text="rented"))
            session.add(rented)
        session.commit()
        session.expunge_all()
        for hidden, found in (("mine", ["theirs"]), ("theirs", ["mine"])):
            not_hidden = with_loader_criteria(Rented, lambda cls: cls.id != hidden, include_aliases=True)
            assert [each.id for each in session.scalars(select(Boat).options(not_hidden))] == found
            assert session.get(Boat, hidden, options=[not_hidden], populate_existing=True) is None
        for version, number in ((1, 1), (2, 0)):
            of_version = with_loader_criteria(Rented, lambda cls: cls.version == version, include_aliases=True)
            assert len(session.scalars(select(Car).options(of_version)).all()) == number


@pytest.mark.parametrize("axis", ["version", "occurred", "recorded"])
def test_a_view_of_the_past_passes_an_application_s_hook(database: Engine, axis: Any) -> None:
    for order_id in ("mine", "theirs"):
        place_order(database, order_id)
    with Session(database) as session:
        event.listen(session, "do_orm_execute", only({"mine"}))
        repository = EventSourcedRepository(session, Order)

        def view(order_id: str) -> Order:
            if axis == "version":
                return repository.load_at_version(order_id, 1)
            return repository.load_at_time(order_id, datetime.now(UTC), axis=axis)

        assert view("mine").customer_id == "c-1"
        with pytest.raises(AggregateNotFoundError) as caught:
            view("theirs")
        assert caught.value.version == (1 if axis == "version" else None)
        assert (caught.value.moment is None, caught.value.axis) == (axis == "version", axis if axis == "recorded" else "occurred")


def test_a_hook_sees_each_load_of_an_aggregate(database: Engine) -> None:
    place_order(database, "o-1")
    seen: list[bool] = []
    with Session(database) as session:
        event.listen(session, "do_orm_execute", lambda state: seen.append(state.is_select))
        order = session.get_one(Order, "o-1")
        session.refresh(order)
        session.expire(order)
        assert order.version == 1
    assert seen == [True, True, True]


def test_a_hook_that_answers_by_itself_is_believed(database: Engine) -> None:
    place_order(database, "o-1")
    questions = iter([True, False])

    def answer(state: ORMExecuteState) -> Any:
        return session.execute(select(Order).where(~true())) if next(questions) else None

    with Session(database) as session:
        event.listen(session, "do_orm_execute", answer)
        assert session.get(Order, "o-1") is None


def test_a_load_listener_of_the_application_gets_a_context(database: Engine) -> None:
    place_order(database, "o-1")
    contexts: list[Any] = []

    def listener(_order: Order, context: Any) -> None:
        contexts.append(context)

    event.listen(Order, "load", listener)
    try:
        with Session(database) as session:
            assert session.get_one(Order, "o-1").customer_id == "c-1"
    finally:
        event.remove(Order, "load", listener)
    assert len(contexts) == 1
    assert contexts[0].session is not None


def test_bind_arguments_reach_the_state(database: Engine, second: Engine) -> None:
    place_order(database, "o-1")
    place_order(second, "o-1", notes=2)
    with Session(database) as session:
        there = {"bind": second}
        assert session.scalars(select(Order), bind_arguments=there).one().notes == ["note 0", "note 1"]
        session.expunge_all()
        assert session.get_one(Order, "o-1", bind_arguments=there).notes == ["note 0", "note 1"]
        session.expunge_all()
        assert session.get_one(Order, "o-1").notes == []


def test_execution_options_reach_the_state(postgres: Engine) -> None:
    tenant = postgres.execution_options(schema_translate_map={None: "tenant"})
    with postgres.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA tenant")
    Base.metadata.create_all(tenant)
    place_order(postgres, "o-1")
    place_order(tenant, "o-1", notes=1)
    place_order(tenant, "o-2", notes=2)
    options: dict[str, Any] = {"schema_translate_map": {None: "tenant"}}
    with Session(postgres) as session:
        assert session.get_one(Order, "o-1", execution_options=options).notes == ["note 0"]
        assert session.get_one(Order, "o-2", execution_options=options).version == 3
        session.expunge_all()
        found = session.scalars(select(Order).order_by(Order.id).execution_options(**options)).all()
        assert [each.notes for each in found] == [["note 0"], ["note 0", "note 1"]]
        session.expunge_all()
        assert [each.notes for each in session.scalars(select(Order))] == [[]]
        assert session.get(Order, "o-2") is None


def test_statements_show_the_options_that_they_were_given(postgres: Engine) -> None:
    for number in (1, 2):
        place_order(postgres, f"o-{number}")
    seen: list[Any] = []

    def listener(*arguments: Any) -> None:
        seen.append(arguments[4].execution_options.get("who"))

    event.listen(postgres, "before_cursor_execute", listener)
    with Session(postgres) as session:
        session.scalars(select(Order).execution_options(who="ann")).all()
    event.remove(postgres, "before_cursor_execute", listener)
    assert seen == ["ann", "ann"]


class Sharded(ShardedSession):
    """Orders by the first letter of their id."""


def shard_of(order_id: str) -> str:
    """Choose a database by the first letter."""
    return "a" if order_id.startswith("a") else "b"


def shard(engines: dict[str, Engine]) -> Sharded:
    """Make a session over several databases."""
    by_instance: Any = lambda _mapper, instance, _clause=None: shard_of(vars(instance)["id"])  # noqa: E731 - as below
    by_identity: Any = lambda _mapper, key, **_: [shard_of(key[0])]  # noqa: E731 - its whole signature would be longer
    return Sharded(
        shards=engines,
        shard_chooser=by_instance,
        identity_chooser=by_identity,
        execute_chooser=lambda _context: ["a", "b"],
    )


def test_each_shard_has_its_own_streams(database: Engine, second: Engine) -> None:
    engines = {"a": database, "b": second}
    with shard(engines) as session:
        session.add_all([Order.place(order_id="a-1"), Order.place(order_id="b-1"), Order.place(order_id="b-2")])
        session.commit()
    for engine, ids in ((database, ["a-1"]), (second, ["b-1", "b-2"])):
        with Session(engine) as plain:
            assert sorted(each.id for each in plain.scalars(select(Order))) == ids
    with shard(engines) as session:
        order = session.get_one(Order, "b-1")
        order.note("there")
        session.commit()
        assert order.notes == ["there"]
        session.expunge_all()
        assert {each.id: each.notes for each in session.scalars(select(Order))} == {"a-1": [], "b-1": ["there"], "b-2": []}


def test_what_needs_no_instance_finds_the_shard_as_get_does(database: Engine, second: Engine) -> None:
    engines = {"a": database, "b": second}
    with shard(engines) as session:
        session.add_all([Order.place(order_id="a-1"), Order.place(order_id="b-1")])
        session.commit()
        order = session.get_one(Order, "b-1")
        repository = EventSourcedRepository(session, Order)
        assert repository.append("b-1", [NoteAdded(text="appended")], expected_version=1) == 2
        assert order.notes == ["appended"]
        assert repository.load_at_version("b-1", 1).notes == []
        assert repository.load_at_time("b-1", datetime.now(UTC)).notes == ["appended"]
        assert repository.load_at_time("b-1", datetime.now(UTC) + timedelta(days=1), axis="recorded").notes == ["appended"]
        order.note("pending")
        lock_aggregate(session, Order, "b-1")
        session.commit()
        assert repository.append("a-2", [NoteAdded(text="new")], expected_version=ExpectedVersion.NO_STREAM) == 1
        session.commit()
    assert [row[1:3] for row in stored_events(database)] == [("a-1", 1), ("a-2", 1)]
    assert [row[1:3] for row in stored_events(second)] == [("b-1", 1), ("b-1", 2), ("b-1", 3)]


def test_of_several_shards_the_one_that_has_the_stream_is_written_to(database: Engine, second: Engine) -> None:
    with Session(second) as plain:
        plain.add(Order.place(order_id="b-1"))
        plain.commit()
    with shard({"a": database, "b": second}) as session:
        session.identity_chooser = lambda *_, **__: ["a", "b"]
        repository = EventSourcedRepository(session, Order)
        repository.append("b-1", [NoteAdded(text="appended")], expected_version=ExpectedVersion.ANY)
        with pytest.raises(UnknownShardError) as refused:
            repository.append("b-2", [NoteAdded(text="new")], expected_version=ExpectedVersion.ANY)
        assert (refused.value.aggregate_id, refused.value.shards) == ("b-2", ("a", "b"))
        with pytest.raises(AggregateNotFoundError):
            repository.load_at_version("b-2", 1)
        session.commit()
    assert [row[1:3] for row in stored_events(second)] == [("b-1", 1), ("b-1", 2)]
