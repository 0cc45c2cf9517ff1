"""Events that an application's own hooks apply, and what those hooks see: as for any entity."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, event, inspect, select
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from sa_eventsource import ConcurrencyError, EventSourcedRepository, EventStore, InactiveTransactionError, lock_aggregate
from tests.orders import Account, Base, Customer, Order
from tests.session.helpers import place_order, stored_types
from tests.shop import NoteAdded, OrderPlaced

pytestmark = pytest.mark.slow_on_sqlite

HOOKS = ("before_flush", "after_flush", "after_flush_postexec", "before_commit")
INSTANCE_HOOKS = ("before_attach", "after_attach", "transient_to_pending", "pending_to_persistent")


class Member(Base):
    """Has badges, and no badge is without a member."""

    __tablename__ = "members"

    id: Mapped[int] = mapped_column(primary_key=True)
    badges: Mapped[list[Badge]] = relationship(cascade="all, delete-orphan")


class Badge(Base):
    """A badge of a member."""

    __tablename__ = "badges"

    id: Mapped[int] = mapped_column(primary_key=True)
    member_id: Mapped[int] = mapped_column(ForeignKey("members.id"))


def once(session: Session, hook: str, act: Any) -> None:
    """Have *act* called the first time that a hook is."""
    called: list[bool] = []

    def listener(*_: Any) -> None:
        if not called:
            called.append(True)
            act()

    event.listen(session, hook, listener)


@pytest.mark.parametrize("with_a_row", [False, True], ids=["alone", "beside a row"])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "loaded"])
@pytest.mark.parametrize("hook", HOOKS)
def test_an_event_applied_in_a_hook_is_written_with_the_commit(
    database: Engine, hook: str, *, is_new: bool, with_a_row: bool
) -> None:
    order_id = place_order(database, None if is_new else "o-1")
    with Session(database) as session:
        order = Order.place(order_id="o-2") if is_new else session.get_one(Order, order_id)
        if is_new:
            session.add(order)
        else:
            order.note("first")
        if with_a_row:
            session.add(Customer(id="c-9", email="ann@example.org"))
        once(session, hook, lambda: order.note("in a hook"))
        session.commit()
        order.note("afterwards")
        session.commit()
    expected = ["OrderPlaced", "OrderPlaced"] if is_new else ["OrderPlaced", "NoteAdded"]
    assert stored_types(database) == [*expected, "NoteAdded", "NoteAdded"]


@pytest.mark.parametrize("hook", HOOKS)
def test_an_event_applied_in_a_hook_to_another_aggregate_is_written(database: Engine, hook: str) -> None:
    place_order(database, "other")
    with Session(database) as session:
        other = session.get_one(Order, "other")
        session.add(Order.place(order_id="o-1"))
        once(session, hook, lambda: other.note("in a hook"))
        session.commit()
    assert sorted(stored_types(database)) == ["NoteAdded", "OrderPlaced", "OrderPlaced"]


@pytest.mark.parametrize("hook", HOOKS)
def test_an_aggregate_added_in_a_hook_is_written(database: Engine, hook: str) -> None:
    with Session(database) as session:
        session.add(Order.place(order_id="o-1"))
        once(session, hook, lambda: session.add(Order.place(order_id="o-2")))
        session.commit()
        session.expunge_all()
        assert session.get_one(Order, "o-2").version == 1
    assert stored_types(database) == ["OrderPlaced", "OrderPlaced"]


@pytest.mark.parametrize("hook", INSTANCE_HOOKS)
def test_an_event_applied_when_an_aggregate_changes_its_state_in_the_session_is_written(database: Engine, hook: str) -> None:
    with Session(database) as session:
        order = Order.place(order_id="o-1")
        once(session, hook, lambda: order.note("in a hook"))
        session.add(order)
        session.commit()
        assert order.version == 2
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


@pytest.mark.parametrize("hook", ["pending_to_persistent", "after_flush", "after_flush_postexec"])
@pytest.mark.parametrize("fails", [False, True], ids=["the application raises", "a flush fails"])
def test_an_event_applied_in_a_hook_stays_with_an_aggregate_that_a_savepoint_makes_transient(
    database: Engine, hook: str, *, fails: bool
) -> None:
    place_order(database, "taken")
    with Session(database) as session:
        order = Order.place(order_id="o-1")
        once(session, hook, lambda: order.note("in a hook"))
        with pytest.raises(ConcurrencyError if fails else RuntimeError), session.begin_nested():
            session.add(order)
            session.flush()
            if fails:
                session.add(Order.place(order_id="taken"))
                session.flush()
            raise RuntimeError
        assert [type(each).__name__ for each in order.pending_events] == ["OrderPlaced", "NoteAdded"]
        session.add(order)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPlaced", "NoteAdded"]


@pytest.mark.parametrize("expire_on_commit", [True, False])
def test_an_event_applied_after_the_commit_is_refused(database: Engine, *, expire_on_commit: bool) -> None:
    with Session(database, expire_on_commit=expire_on_commit) as session:
        order = Order.place(order_id="o-1")
        session.add(order)
        once(session, "after_commit", lambda: order.note("too late"))
        with pytest.raises(InactiveTransactionError, match="no flush would"):
            session.commit()
        session.close()
        assert session.get_one(Order, "o-1").version == 1
    assert stored_types(database) == ["OrderPlaced"]


def test_an_event_applied_between_the_phases_of_a_commit_is_refused(preparing_engine: Engine) -> None:
    Base.metadata.create_all(preparing_engine)
    with Session(preparing_engine, twophase=True) as session:
        order = Order.place(order_id="o-1")
        session.add(order)
        session.prepare()
        with pytest.raises(InactiveTransactionError):
            order.note("too late")
        session.commit()
    assert stored_types(preparing_engine) == ["OrderPlaced"]


def test_what_is_changed_after_a_flush_between_the_phases_is_dirty(preparing_engine: Engine) -> None:
    Base.metadata.create_all(preparing_engine)
    with Session(preparing_engine, twophase=True, expire_on_commit=False) as session:
        order = Order.place(order_id="o-1")
        session.add(order)
        session.prepare()
        session.add(empty := Order(id="o-2"))
        with pytest.raises(InvalidRequestError, match="prepared"):
            session.flush()
        session.commit()
        session.expunge(empty)
        order.note("later")
        assert order in session.dirty
        session.flush()
        assert not session.dirty
        session.commit()
    assert stored_types(preparing_engine) == ["OrderPlaced", "NoteAdded"]


@pytest.mark.parametrize("kind", ["new", "detached"])
def test_an_aggregate_with_events_is_not_added_between_the_phases_of_a_commit(preparing_engine: Engine, kind: str) -> None:
    Base.metadata.create_all(preparing_engine)
    order = Order.place(order_id="o-1")
    if kind == "detached":
        place_order(preparing_engine, "o-1")
        with Session(preparing_engine) as session:
            order = session.get_one(Order, "o-1")
        order.note("detached")
    with Session(preparing_engine, twophase=True) as session:
        session.add(Order.place(order_id="o-2"))
        session.prepare()
        with pytest.raises(InactiveTransactionError):
            session.add(order)
        session.commit()
        assert order not in session
        session.add(order)
        session.commit()
    expected = ["NoteAdded"] if kind == "detached" else []
    assert sorted(stored_types(preparing_engine)) == [*expected, "OrderPlaced", "OrderPlaced"]


@pytest.mark.parametrize("expire_on_commit", [True, False])
def test_an_aggregate_with_events_is_not_added_after_the_commit(database: Engine, *, expire_on_commit: bool) -> None:
    late = Order.place(order_id="o-2")
    with Session(database, expire_on_commit=expire_on_commit) as session:
        session.add(Order.place(order_id="o-1"))
        once(session, "after_commit", lambda: session.add(late))
        with pytest.raises(InactiveTransactionError):
            session.commit()
        session.close()
        session.add(late)
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPlaced"]


def test_an_event_applied_after_a_failed_flush_is_refused_until_the_rollback(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        kept = Order.place(order_id="o-2")
        session.add(kept)
        session.flush()
        savepoint = session.begin_nested()
        session.add(Order.place(order_id="o-1"))
        with pytest.raises(ConcurrencyError):
            session.flush()
        with pytest.raises(InactiveTransactionError):
            kept.note("lost")
        savepoint.rollback()
        kept.note("kept")
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "OrderPlaced", "NoteAdded"]


def test_hooks_of_a_flush_see_aggregates_as_they_see_entities(database: Engine) -> None:
    place_order(database, "old")
    seen: dict[str, Any] = {}

    def note(hook: str) -> Any:
        def listener(session: Session, *_: Any) -> None:
            seen[hook] = ({each.id for each in session.new}, {each.id for each in session.dirty})

        return listener

    with Session(database) as session:
        for hook in ("before_flush", "after_flush", "after_flush_postexec"):
            event.listen(session, hook, note(hook))
        session.get_one(Order, "old").note("changed")
        session.add_all([Order.place(order_id="new"), Customer(id="c-9", email="ann@example.org")])
        session.flush()
        session.rollback()
    assert seen == {
        "before_flush": ({"new", "c-9"}, {"old"}),
        "after_flush": ({"new", "c-9"}, {"old"}),
        "after_flush_postexec": (set(), set()),
    }


def test_hooks_of_a_flush_fire_for_aggregates_alone(database: Engine) -> None:
    fired: list[str] = []
    with Session(database) as session:
        for hook in ("before_flush", "after_flush", "after_flush_postexec", "pending_to_persistent"):
            event.listen(session, hook, lambda *_, hook=hook: fired.append(hook))
        session.add(Order.place())
        session.commit()
    assert fired == ["before_flush", "after_flush", "pending_to_persistent", "after_flush_postexec"]


@pytest.mark.parametrize("hook", ["after_transaction_create", "after_transaction_end"])
def test_a_flush_tells_of_its_own_transaction_for_aggregates_alone(database: Engine, hook: str) -> None:
    with Session(database) as session:
        session.begin()
        session.add(Order.place(order_id="o-1"))
        told: list[bool] = []
        event.listen(session, hook, lambda _, transaction: told.append(transaction.parent is not None))
        session.flush()
        assert told == [True]


LOADING = ("before_attach", "after_attach", "detached_to_persistent")


@pytest.mark.parametrize("hook", LOADING)
def test_an_aggregate_that_is_loaded_was_never_detached(database: Engine, hook: str) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        told: list[Any] = []
        event.listen(session, hook, lambda _, instance: told.append(instance))
        loaded = session.get_one(Order, order_id)
        assert told == []
        assert loaded in session


def test_what_before_flush_refuses_is_not_written_whoever_listens_first(database: Engine) -> None:
    class BudgetError(Exception):
        """The application's own."""

    def refuse(_session: Session, *_: Any) -> None:
        raise BudgetError

    with Session(database) as session:
        event.listen(session, "before_flush", refuse)
        session.add(Order.place())
        with pytest.raises(BudgetError):
            session.commit()
    assert stored_types(database) == []


def test_a_conflict_is_told_the_same_way_where_hooks_listen(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        event.listen(session, "after_flush", lambda *_: None)
        session.add(Order.place(order_id="o-1"))
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
        assert (caught.value.expected_version, caught.value.actual_version) == (0, 1)
        session.rollback()
        session.get_one(Order, "o-1").note("again")
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


def test_row_hooks_of_the_mapper_fire_for_aggregates(database: Engine) -> None:
    fired: list[tuple[str, str]] = []
    listeners: list[tuple[str, Any]] = []
    for hook in ("before_insert", "after_insert", "before_update", "after_update"):

        def listener(_mapper: Any, _connection: Any, order: Order, hook: str = hook) -> None:
            fired.append((hook, order.id))

        event.listen(Order, hook, listener)
        listeners.append((hook, listener))
    try:
        with Session(database) as session:
            order = Order.place(order_id="o-1")
            session.add(order)
            session.flush()
            order.note("changed")
            session.commit()
    finally:
        for hook, listener in listeners:
            event.remove(Order, hook, listener)
    assert fired == [("before_insert", "o-1"), ("after_insert", "o-1"), ("before_update", "o-1"), ("after_update", "o-1")]


@pytest.mark.parametrize("heard", [Order, Account])
def test_row_hooks_fire_for_one_class_of_several_in_a_flush(database: Engine, heard: type[Order | Account]) -> None:
    fired: list[object] = []

    def listener(_mapper: Any, _connection: Any, aggregate: Order | Account) -> None:
        fired.append(aggregate)

    event.listen(heard, "before_insert", listener)
    try:
        with Session(database) as session:
            aggregates = [Order.place(order_id="o-1"), Account.open()]
            session.add_all(aggregates)
            session.commit()
    finally:
        event.remove(heard, "before_insert", listener)
    assert fired == [each for each in aggregates if isinstance(each, heard)]


def test_a_hook_that_adds_an_event_at_every_flush_ends_in_an_error_and_nothing_is_committed(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place(order_id="o-1")
        session.add(order)
        event.listen(session, "after_flush", lambda *_: order.note("again"))
        with pytest.raises(Exception, match="Over 100 subsequent flushes"):
            session.commit()
    assert stored_types(database) == []


@pytest.mark.filterwarnings("ignore:The `objects` parameter:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The `objects` parameter")
def test_a_flush_of_chosen_objects_leaves_the_others_for_the_next(database: Engine) -> None:
    with Session(database) as session:
        chosen, other = Order.place(order_id="chosen"), Order.place(order_id="other")
        session.add_all([chosen, other])
        session.flush([chosen])
        assert list(session.new) == [other]
        chosen.note("more")
        session.commit()
    assert sorted(stored_types(database)) == ["NoteAdded", "OrderPlaced", "OrderPlaced"]


@pytest.mark.parametrize(
    "hook", ["before_flush", "pending_to_persistent", "after_flush", "after_flush_postexec", "before_commit", "after_attach"]
)
def test_a_hook_that_raises_leaves_a_new_aggregate_with_its_events(database: Engine, hook: str) -> None:
    class OwnError(Exception):
        """The application's own."""

    def fail(*_: Any) -> None:
        raise OwnError

    place_order(database, "old")
    with Session(database) as session:
        order = Order.place(order_id="o-1")
        event.listen(session, hook, fail)
        with pytest.raises(OwnError):
            session.add(order)
            session.get_one(Order, "old").note("undone")
            session.commit()
        session.rollback()
        event.remove(session, hook, fail)
        assert (order.version, order.customer_id, len(order.pending_events)) == (1, "c-1", 1)
        order.note("more")
        session.expunge_all()
        session.add(order)
        session.commit()
        assert order.notes == ["more"]
    assert stored_types(database) == ["OrderPlaced", "OrderPlaced", "NoteAdded"]


def test_a_flush_that_finds_nothing_else_to_do_has_ended_for_what_is_applied_then(database: Engine) -> None:
    with Session(database) as session:
        customer, order = Member(id=1), Order.place(order_id="o-1")
        orphan = Badge(id=1)
        session.add_all([order, orphan])
        customer.badges.append(orphan)  # the member is in no session
        customer.badges.remove(orphan)
        session.flush()
        assert orphan not in session  # which the flush has dropped, without any other work
        order.note("before the savepoint")
        assert list(session.dirty) == [order]
        savepoint = session.begin_nested()
        session.add(Customer(id="c-9", email="ann@example.org"))
        session.flush()
        savepoint.rollback()
        session.commit()
        assert order.notes == ["before the savepoint"]
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


def test_what_is_applied_while_a_row_is_written_behind_the_events_is_kept(database: Engine) -> None:
    order = Order.place(order_id="o-1")

    def note(*_: Any) -> None:
        order.note("while a customer is written")

    event.listen(Customer, "after_insert", note)
    try:
        with Session(database) as session:
            session.add_all([order, Customer(id="c-9", email="ann@example.org")])
            session.flush()
            assert list(session.dirty) == [order]
            session.commit()
    finally:
        event.remove(Customer, "after_insert", note)
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


def test_a_new_aggregate_with_an_event_is_modified_as_a_new_entity_is(database: Engine) -> None:
    new: list[Any] = [Order.place(order_id="o-1"), Customer(id="c-9", email="ann@example.org")]
    assert inspect(Order(id="o-3")).modified
    with Session(database) as session:
        for instance in new:
            assert inspect(instance).modified
            assert inspect(instance).attrs.id.history.added == [instance.id]
            session.add(instance)
            assert inspect(instance).modified
            assert session.is_modified(instance)
            assert instance in session.new
            assert instance not in session.dirty
        session.flush()
        for instance in new:
            assert not inspect(instance).modified
            assert not session.is_modified(instance)
            assert not inspect(instance).attrs.id.history.has_changes()
        later = Order(id="o-2")
        session.add(later)
        later.note("first")
        assert session.is_modified(later)


READS: dict[str, Any] = {
    "get": lambda session, order_id: EventSourcedRepository(session, Order).get(order_id),
    "history": lambda session, order_id: EventSourcedRepository(session, Order).history(order_id).all(),
    "stream": lambda session, order_id: list(EventStore(session).events.of_type(OrderPlaced).stream()),
    "count": lambda session, _order_id: EventStore(session).events.count(),
    "last_position": lambda session, _order_id: EventStore(session).last_position(),
    "load_at_version": lambda session, order_id: EventSourcedRepository(session, Order).load_at_version(order_id, 1),
    "load_at_time": lambda session, order_id: EventSourcedRepository(session, Order).load_at_time(order_id, datetime.now(UTC)),
    "known then": lambda session, order_id: EventSourcedRepository(session, Order).load_at_time(
        order_id, datetime.now(UTC), axis="recorded"
    ),
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_hook_of_a_flush_may_read_the_log(database: Engine, hook: str, read: Any) -> None:
    order_id = place_order(database)
    found: list[Any] = []
    with Session(database) as session:
        once(session, hook, lambda: found.append(read(session, order_id)))
        session.add(Order.place())
        session.commit()
    assert found and found[0]
    assert stored_types(database) == ["OrderPlaced", "OrderPlaced"]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_of_a_flush_may_append_and_lock(database: Engine, hook: str) -> None:
    order_id = place_order(database)
    with Session(database) as session:

        def append() -> None:
            lock_aggregate(session, Order, order_id)
            EventSourcedRepository(session, Order).append(order_id, [NoteAdded(text="in a hook")], expected_version=1)

        once(session, hook, append)
        order = session.get_one(Order, order_id)
        session.add(Order.place())
        session.commit()
        assert order.notes == ["in a hook"]
    assert sorted(stored_types(database)) == ["NoteAdded", "OrderPlaced", "OrderPlaced"]


@pytest.mark.parametrize("hook", [*HOOKS, "pending_to_persistent", "before_insert"])
def test_an_append_that_a_hook_of_a_flush_loses_undoes_nothing_else(database: Engine, hook: str) -> None:
    order_id, other_id = place_order(database), place_order(database)
    with Session(database) as session:
        session.add_all([Customer(id="changed", email="old"), Customer(id="deleted", email="gone")])
        session.commit()
        lost: list[bool] = []

        def append(*_: object) -> None:
            if not lost:
                with pytest.raises(ConcurrencyError):
                    EventSourcedRepository(session, Order).append(other_id, [NoteAdded(text="late")], expected_version=7)
                lost.append(True)

        order, changed, deleted = (
            session.get_one(Order, order_id),
            session.get_one(Customer, "changed"),
            session.get_one(Customer, "deleted"),
        )
        order.note("of the application")
        changed.email = "changed"
        session.delete(deleted)
        session.add_all([Customer(id="added", email="added"), Order.place()])
        target: Any = Customer if hook == "before_insert" else session
        event.listen(target, hook, append)
        try:
            session.commit()
        finally:
            event.remove(target, hook, append)
        assert lost
        assert order.notes == ["of the application"]
        assert {each.id: each.email for each in session.scalars(select(Customer))} == {"changed": "changed", "added": "added"}
    assert sorted(stored_types(database)) == ["NoteAdded", "OrderPlaced", "OrderPlaced", "OrderPlaced"]


def test_a_lock_in_a_hook_of_a_flush_keeps_what_the_flush_is_about_to_write(database: Engine) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        once(session, "before_flush", lambda: lock_aggregate(session, Order, order_id))
        session.get_one(Order, order_id).note("mine")
        session.commit()
    assert stored_types(database) == ["OrderPlaced", "NoteAdded"]


def test_a_hook_of_a_flush_may_save_an_aggregate(database: Engine) -> None:
    with Session(database) as session:
        once(session, "before_flush", lambda: EventSourcedRepository(session, Order).save(Order.place()))
        session.add(Customer(id="c-1", email="ann"))
        session.commit()
    assert stored_types(database) == ["OrderPlaced"]


MAPPER_HOOKS = ("before_insert", "after_insert", "before_update", "after_update", "before_delete", "after_delete")


@pytest.mark.parametrize("is_new_session", [False, True], ids=["a session with events", "a session without"])
@pytest.mark.parametrize("hook", [*MAPPER_HOOKS, "persistent_to_deleted"])
def test_an_event_applied_while_rows_of_others_are_written_is_kept_for_the_next_flush(
    database: Engine, hook: str, *, is_new_session: bool
) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        session.add_all([Customer(id="to change", email="1@example.org"), Customer(id="to delete", email="2@example.org")])
        session.commit()
        if not is_new_session:
            session.get_one(Order, "o-1").note("before")
            session.commit()
    with Session(database) as session:
        order = session.get_one(Order, "o-1")
        changed, deleted = (session.get_one(Customer, each) for each in ("to change", "to delete"))
        target: Any = session if hook == "persistent_to_deleted" else Customer

        def note(*_: Any) -> None:
            if not order.pending_events:
                order.note("in a hook")

        event.listen(target, hook, note)
        try:
            session.add(Customer(id="new", email="3@example.org"))
            changed.email = "4@example.org"
            session.delete(deleted)
            session.flush()
        finally:
            event.remove(target, hook, note)
        assert (list(session.dirty), len(order.pending_events)) == ([order], 1)
        session.commit()
        assert (order.notes[-1], order.pending_events) == ("in a hook", ())
    assert stored_types(database)[-1] == "NoteAdded"


def test_an_event_applied_while_a_row_is_written_is_gone_when_the_flush_fails(database: Engine) -> None:
    place_order(database, "o-1")
    with Session(database) as session:
        order = session.get_one(Order, "o-1")

        def note(*_: Any) -> None:
            order.note("in a hook")

        event.listen(Customer, "before_insert", note)
        try:
            session.add_all([Customer(id=each, email="same@example.org") for each in ("a", "b")])
            with pytest.raises(IntegrityError):
                session.flush()
        finally:
            event.remove(Customer, "before_insert", note)
        session.rollback()
        order.note("later")
        assert list(session.dirty) == [order]
        session.commit()
        assert order.notes == ["later"]
