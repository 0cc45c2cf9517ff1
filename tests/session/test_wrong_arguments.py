"""Arguments of a wrong type are refused where they are passed, in words that say what is wanted."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sa_eventsource import (
    AsyncEventSourcedRepository,
    AsyncEventStore,
    AsyncWorker,
    EventRecord,
    EventReplayer,
    EventSourcedRepository,
    EventStore,
    ExpectedVersion,
    ReadModelManager,
    Worker,
    async_wait_for,
    commit_token,
    event_context,
    event_record,
    export_events,
    fold,
    import_events,
    load_for_update,
    lock_aggregate,
    verify,
    wait_for,
    waiting_for,
)
from sa_eventsource.session.retry import retry_on_conflict
from tests.orders import Account, Base, Order
from tests.projections.bank import Balance
from tests.session.helpers import place_order
from tests.shop import NoteAdded, OrderPaid

_ENGINE = create_engine("sqlite://")
_ASYNC_ENGINE = create_async_engine("sqlite+aiosqlite://")
_SESSION, _ASYNC_SESSION = Session(_ENGINE), AsyncSession(_ASYNC_ENGINE)
_MAKER, _ASYNC_MAKER = sessionmaker(_ENGINE), async_sessionmaker(_ASYNC_ENGINE)
_SCOPED, _ASYNC_SCOPED = scoped_session(_MAKER), async_scoped_session(_ASYNC_MAKER, scopefunc=lambda: 1)

Case = tuple[Callable[[], Any], tuple[str, ...]]
Store: Any = EventStore
AsyncStore: Any = AsyncEventStore
Repository: Any = EventSourcedRepository
AsyncRepository: Any = AsyncEventSourcedRepository
Manager: Any = ReadModelManager
Replayer: Any = EventReplayer
LogWorker: Any = Worker
LogAsyncWorker: Any = AsyncWorker


def _loaded(act: Callable[[Any], Any]) -> Callable[[], Any]:
    return lambda: act(Order(id="o-1"))


CASES: dict[str, Case] = {
    # sessions
    "EventStore(engine)": (lambda: Store(_ENGINE), ("takes a Session", "with Session(engine) as session")),
    "EventStore(connection)": (lambda: Store(_ENGINE.connect()), ("takes a Session", "with Session(engine)")),
    "EventStore(sessionmaker)": (lambda: Store(_MAKER), ("takes a Session", "a sessionmaker", "call it")),
    "EventStore(AsyncSession)": (lambda: Store(_ASYNC_SESSION), ("takes a Session", "AsyncEventStore")),
    "EventStore(None)": (lambda: Store(None), ("takes a Session", "None")),
    "EventStore(Order)": (lambda: Store(Order), ("takes a Session", "the class Order")),
    "AsyncEventStore(Session)": (lambda: AsyncStore(_SESSION), ("takes an AsyncSession", "use EventStore")),
    "AsyncEventStore(async engine)": (
        lambda: AsyncStore(_ASYNC_ENGINE),
        ("takes an AsyncSession", "async with AsyncSession(engine)"),
    ),
    "AsyncEventStore(maker)": (lambda: AsyncStore(_ASYNC_MAKER), ("takes an AsyncSession", "call it")),
    "AsyncEventStore(registry)": (lambda: AsyncStore(_ASYNC_SCOPED), ("takes an AsyncSession", "registry()")),
    "EventSourcedRepository(engine)": (lambda: Repository(_ENGINE, Order), ("takes a Session",)),
    "EventSourcedRepository(AsyncSession)": (lambda: Repository(_ASYNC_SESSION, Order), ("AsyncEventSourcedRepository",)),
    "arguments of a repository swapped": (lambda: Repository(Order, _SESSION), ("takes a Session", "the class Order")),
    "EventSourcedRepository(session, order)": (lambda: Repository(_SESSION, Order(id="x")), ("aggregate's class", "an Order")),
    "EventSourcedRepository(session, 'Order')": (lambda: Repository(_SESSION, "Order"), ("aggregate's class", "'Order'")),
    "AsyncEventSourcedRepository(Session)": (lambda: AsyncRepository(_SESSION, Order), ("use EventSourcedRepository",)),
    "AsyncEventSourcedRepository(order)": (lambda: AsyncRepository(_ASYNC_SESSION, Order(id="x")), ("aggregate's class",)),
    "lock_aggregate(engine)": (lambda: lock_aggregate(_ENGINE, Order, "x"), ("takes a Session",)),  # type: ignore[arg-type]
    "lock_aggregate(AsyncSession)": (lambda: lock_aggregate(_ASYNC_SESSION, Order, "x"), ("run_sync",)),  # type: ignore[arg-type]
    "lock_aggregate(instance)": (lambda: lock_aggregate(_SESSION, Order(id="x"), "x"), ("aggregate's class",)),  # type: ignore[arg-type]
    "commit_token(engine)": (lambda: commit_token(_ENGINE), ("takes a Session or an AsyncSession",)),
    "waiting_for(engine)": (lambda: waiting_for(_ENGINE).__enter__(), ("takes a Session or an AsyncSession",)),
    "wait_for(AsyncSession)": (
        lambda: wait_for(_ASYNC_SESSION, Balance, after=UUID(int=1)),  # type: ignore[arg-type]
        ("takes a Session", "async_wait_for"),
    ),
    "wait_for(after=None)": (
        lambda: wait_for(_SESSION, Balance, after=None),  # type: ignore[arg-type]
        ("commit_token(session)", "nothing to wait for"),
    ),
    "load_for_update(AsyncSession)": (
        lambda: load_for_update(_ASYNC_SESSION, Balance, "x"),  # type: ignore[arg-type]
        ("takes a Session", "run_sync"),
    ),
    # what makes sessions
    "ReadModelManager(session)": (lambda: Manager(_SESSION, Base), ("engine", "sessionmaker", "a Session", "pass the engine")),
    "ReadModelManager(connection)": (lambda: Manager(_ENGINE.connect(), Base), ("sessionmaker", "pass the engine")),
    "ReadModelManager(async engine)": (lambda: Manager(_ASYNC_ENGINE, Base), ("sessionmaker", "create_engine()")),
    "ReadModelManager(async maker)": (lambda: Manager(_ASYNC_MAKER, Base), ("sessionmaker", "create_engine()")),
    "ReadModelManager(url)": (lambda: Manager("sqlite://", Base), ("sessionmaker", "create_engine(url)")),
    "ReadModelManager(base first)": (lambda: Manager(_ENGINE, _ENGINE), ("declarative base", "an Engine")),
    "ReadModelManager(metadata)": (lambda: Manager(_ENGINE, Base.metadata), ("declarative base", "not its metadata")),
    "EventReplayer(session)": (lambda: Replayer(_SESSION, Base), ("EventReplayer()", "sessionmaker")),
    "EventReplayer.rebuild_rows(text)": (lambda: Replayer(_ENGINE, Base).rebuild_rows(Balance, "abc"), ("['abc']",)),
    "EventReplayer.rebuild_between(texts)": (
        lambda: Replayer(_ENGINE, Base).rebuild_between(Balance, times=("2026-01-01", "2026-02-01")),
        ("datetime", "'2026-01-01'"),
    ),
    "Worker(session)": (lambda: LogWorker(_SESSION, Base), ("Worker()", "sessionmaker")),
    "Worker(only=text)": (lambda: LogWorker(_ENGINE, Base, only="balance"), ("only=['balance']",)),
    "AsyncWorker(engine)": (lambda: LogAsyncWorker(_ENGINE, Base), ("async_sessionmaker", "use Worker")),
    "AsyncWorker(async engine)": (lambda: LogAsyncWorker(_ASYNC_ENGINE, Base), ("async_sessionmaker(engine)",)),
    "AsyncWorker(AsyncSession)": (lambda: LogAsyncWorker(_ASYNC_SESSION, Base), ("async_sessionmaker",)),
    "verify(session)": (lambda: verify(_SESSION, Base), ("verify()", "sessionmaker")),  # type: ignore[arg-type]
    "EventStore(session, engine)": (lambda: Store(_SESSION, _ENGINE), ("declarative base",)),
    "event_record(metadata)": (lambda: event_record(Base.metadata), ("declarative base", "not its metadata")),
    # events
    "apply_event(class)": (_loaded(lambda order: order.apply_event(OrderPaid)), ("OrderPaid(...)", "not the class OrderPaid")),
    "apply_event(text)": (
        _loaded(lambda order: order.apply_event("OrderPaid")),
        ("instance of a DomainEvent class", "'OrderPaid'"),
    ),
    "apply_event(None)": (_loaded(lambda order: order.apply_event(None)), ("instance of a DomainEvent class", "NoneType")),
    "apply_event(dict)": (_loaded(lambda order: order.apply_event({"a": 1})), ("instance of a DomainEvent class", "dict")),
    "append(one event)": (
        lambda: Repository(_SESSION, Order).append("x", NoteAdded(text="a"), expected_version=ExpectedVersion.ANY),
        ("list of events", "NoteAdded"),
    ),
    "append(event_ids=one id)": (
        lambda: Repository(_SESSION, Order).append("x", [NoteAdded(text="a")], expected_version=0, event_ids=UUID(int=1)),
        ("event_ids", "list of UUIDs", "UUID('00000000-0000-0000-0000-000000000001')"),
    ),
    "append(event_ids=set)": (
        lambda: Repository(_SESSION, Order).append("x", [NoteAdded(text="a")], expected_version=0, event_ids={UUID(int=1)}),
        ("event_ids", "list of UUIDs", "order of the events"),
    ),
    "append(event_ids=text)": (
        lambda: Repository(_SESSION, Order).append("x", [NoteAdded(text="a")], expected_version=0, event_ids=str(UUID(int=1))),
        ("event_ids", "list of UUIDs"),
    ),
    "append(classes)": (
        lambda: Repository(_SESSION, Order).append("x", [NoteAdded], expected_version=0),
        ("NoteAdded(...)", "not the class"),
    ),
    "save(another class)": (lambda: Repository(_SESSION, Order).save(Account()), ("instance of Order",)),
    "save(the class)": (lambda: Repository(_SESSION, Order).save(Order), ("instance of Order",)),
    "fold(events alone)": (lambda: fold(Balance, [NoteAdded(text="a")]), ("as read from the log", "EventStore(session).events")),  # type: ignore[list-item]
    # queries
    "load_at_time(text)": (lambda: Repository(_SESSION, Order).load_at_time("x", "2026-01-01"), ("datetime", "'2026-01-01'")),
    "history(text)": (lambda: Repository(_SESSION, Order).history("x", "2026-01-01"), ("datetime",)),
    "load_at_version(text)": (lambda: Repository(_SESSION, Order).load_at_version("x", "3"), ("version", "'3'")),
    "occurred_from(text)": (lambda: Store(_SESSION).events.occurred_from("2026"), ("datetime", "datetime.now(UTC)")),
    "occurred_until(None)": (lambda: Store(_SESSION).events.occurred_until(None), ("datetime",)),
    "recorded_from(text)": (lambda: Store(_SESSION).events.recorded_from("2026"), ("datetime",)),
    "recorded_until(number)": (lambda: Store(_SESSION).events.recorded_until(5), ("datetime",)),
    "limit(text)": (lambda: Store(_SESSION).events.limit("3"), ("how many", "'3'")),
    "of_type(text)": (lambda: Store(_SESSION).events.of_type("OrderPaid"), ("DomainEvent", "'OrderPaid'")),
    "of_type(instance)": (lambda: Store(_SESSION).events.of_type(NoteAdded(text="a")), ("DomainEvent",)),
    "of(text)": (lambda: Store(_SESSION).events.of("Order"), ("aggregate's class", "'Order'")),
    "of(instance)": (lambda: Store(_SESSION).events.of(Order(id="x")), ("aggregate's class", "an Order")),
    "correlated_with(text)": (lambda: Store(_SESSION).events.correlated_with("abc"), ("UUID", "'abc'")),
    "caused_by(text)": (lambda: AsyncStore(_ASYNC_SESSION).events.caused_by("abc"), ("UUID", "'abc'")),
    "get(text)": (lambda: Store(_SESSION).get("abc"), ("UUID", "'abc'")),
    "with_metadata(None)": (lambda: Store(_SESSION).events.with_metadata(user=None), ("user=None", 'EventRecord.metadata["user"]')),
    "with_metadata(list)": (lambda: Store(_SESSION).events.with_metadata(tags=["a"]), ("tags=['a']", "where(")),
    "with_metadata(dict)": (lambda: Store(_SESSION).events.with_metadata(a={"b": 1}), ("where(",)),
    "with_metadata(nan)": (lambda: Store(_SESSION).events.with_metadata(a=float("nan")), ("a=nan",)),
    "with_metadata(UUID)": (lambda: Store(_SESSION).events.with_metadata(a=UUID(int=1)), ("text, a number",)),
    # others
    "export_events(session)": (
        lambda: next(export_events(_SESSION, EventRecord.__table__)),  # type: ignore[arg-type]
        ("takes a Connection", "session.connection()"),
    ),
    "export_events(engine)": (
        lambda: next(export_events(_ENGINE, EventRecord.__table__)),  # type: ignore[arg-type]
        ("takes a Connection", "engine.begin()"),
    ),
    "import_events(record)": (
        lambda: import_events(_ENGINE.connect(), EventRecord, []),  # type: ignore[arg-type]
        ("event_record(Base).__table__", "the class EventRecord"),
    ),
    "import_events(text)": (lambda: import_events(_ENGINE.connect(), EventRecord.__table__, "{}"), ("io.StringIO(text)",)),
    "import_events(lines of bytes)": (
        lambda: import_events(_ENGINE.connect(), EventRecord.__table__, [b"{}"]),  # type: ignore[list-item]
        ("lines as text", "bytes", 'encoding="utf-8"'),
    ),
    "event_context(caused_by=id)": (
        lambda: event_context(caused_by=UUID(int=1)).__enter__(),  # type: ignore[arg-type]
        ("RecordedEvent", "causation_id"),
    ),
    "retry_on_conflict without parentheses": (lambda: retry_on_conflict(print), ("@retry_on_conflict()",)),  # type: ignore[arg-type]
    "retry_on_conflict of no function": (lambda: retry_on_conflict()("x"), ("unit of work", "'x'")),  # type: ignore[type-var]
    "retry_on_conflict of a generator": (lambda: retry_on_conflict()(_generator), ("generator", "_generator")),
}


def _generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(("call", "words"), [pytest.param(*case, id=name) for name, case in CASES.items()])
def test_a_wrong_argument_is_refused_in_words_that_help(call: Callable[[], Any], words: tuple[str, ...]) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    for each in words:
        assert each in str(caught.value)


async def test_async_wait_for_takes_an_async_session() -> None:
    with pytest.raises(TypeError, match="use wait_for"):
        await async_wait_for(_SESSION, Balance, after=UUID(int=1))  # type: ignore[arg-type]


def test_a_token_that_is_no_uuid_is_refused() -> None:
    with pytest.raises(ValueError, match="text of a UUID, not 'abc'"):
        wait_for(_SESSION, Balance, after="abc")


def test_a_refused_event_leaves_the_aggregate_as_it_was() -> None:
    order = Order(id="o-1")
    with pytest.raises(TypeError):
        order.apply_event(OrderPaid)  # type: ignore[arg-type]
    assert (order.version, order.pending_events) == (0, ())


class Role(str, enum.Enum):  # noqa: UP042 - StrEnum prints as its value
    """A value that looks like a text, and does not print as one."""

    ADMIN = "admin"


class Level(enum.IntEnum):
    """The same of a number."""

    HIGH = 3


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("ann", "ann"),
        ("admin", Role.ADMIN),
        (3, Level.HIGH),
        (3, 3),
        (0.5, 0.5),
        (1.5e-3, 1.5e-3),
        (-2.25, -2.25),
        (True, True),
        (False, False),
        ("it's", "it's"),
    ],
)
def test_metadata_is_found_by_what_it_was_given(database: Engine, stored: Any, asked: Any) -> None:
    with event_context(value=stored, other="x"):
        place_order(database)
    place_order(database)
    with Session(database) as session:
        assert EventStore(session).events.with_metadata(value=asked).count() == 1


def test_a_large_number_in_metadata_is_found_as_jsonb_writes_it(postgres: Engine) -> None:
    for value in (1e16, 1e-7):
        with event_context(value=value):
            place_order(postgres)
        with Session(postgres) as session:
            assert EventStore(session).events.with_metadata(value=value).count() == 1


@pytest.mark.parametrize("session", [_SESSION, _SCOPED, Session()])
def test_sessions_of_all_kinds_are_taken(session: Any) -> None:
    EventStore(session)
    EventSourcedRepository(session, Order)


@pytest.mark.parametrize("sessions", [_ENGINE, _MAKER, _SCOPED, lambda: Session(_ENGINE)])
def test_whatever_makes_sessions_is_taken(sessions: Any) -> None:
    for kind in (ReadModelManager, EventReplayer, Worker):
        kind(sessions, Base)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Store(5), "EventStore() takes a Session, not 5"),
        (lambda: AsyncStore(5), "AsyncEventStore() takes an AsyncSession, not 5"),
        (
            lambda: Store(_ASYNC_SESSION),
            "EventStore() takes a Session, not an AsyncSession; with an AsyncSession, use AsyncEventStore",
        ),
        (lambda: AsyncStore(_SESSION), "AsyncEventStore() takes an AsyncSession, not a Session; with a Session, use EventStore"),
    ],
    ids=["no session", "no asynchronous session", "an asynchronous one", "a synchronous one"],
)
def test_what_is_wanted_and_what_to_do_are_said_once(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == message
