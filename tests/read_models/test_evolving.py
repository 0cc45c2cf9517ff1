"""``@evolves``: methods of a read model that get a row and an event."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import pytest
from sqlalchemy import (
    ARRAY,
    CHAR,
    REAL,
    BigInteger,
    DateTime,
    Double,
    Engine,
    Enum,
    Float,
    MetaData,
    Numeric,
    String,
    TypeDecorator,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, object_session, validates

from sa_eventsource import (
    REMOVED,
    AggregateRoot,
    DeclarationError,
    DomainEvent,
    EventReplayer,
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
    upcast,
    verify,
)
from sa_eventsource.testing import projected, recorded
from tests.bank import AnyAccount, Closed, Opened
from tests.committing import commit_events, commit_stored
from tests.databases import number_waiting
from tests.parameters import plainly
from tests.shop import AnyOrder, OrderPlaced
from tests.threads import in_thread, together
from tests.waiting import wait_until


class Base(DeclarativeBase):
    """The application's declarative base."""


class State(enum.Enum):
    """The column has the members' names."""

    OPEN = "o"
    DONE = "d"


class Put(DomainEvent):
    """Something was put on a shelf; once told in dozens."""

    __event_type__ = "evolving.Put"
    __event_version__ = 2
    article: str
    number: int


class Listed(DomainEvent):
    """What lies on a shelf; a list can be changed."""

    __event_type__ = "evolving.Listed"
    articles: list[str]


@upcast(Put, from_version=1)
def _from_dozens(payload: dict[str, Any]) -> dict[str, Any]:
    return {"article": payload["article"], "number": 12 * payload["dozens"]}


class Taken(DomainEvent):
    """Something was taken off it."""

    __event_type__ = "evolving.Taken"
    article: str
    number: int


class Cleared(DomainEvent):
    """It was cleared."""

    __event_type__ = "evolving.Cleared"


class Shelf(AggregateRoot, Base):
    """A shelf."""

    __aggregate_type__ = "evolving.Shelf"
    __ignored_events__ = (Put, Taken, Cleared)


class Trolley(AggregateRoot, Base):
    """It moves, and has what shelves have."""

    __aggregate_type__ = "evolving.Trolley"
    __ignored_events__ = (Put, Taken)


class _Stock(ReadModel):
    __abstract__ = True
    __removed_by__ = (Cleared,)
    __aggregates__ = (Shelf,)
    least: ClassVar[int] = -100

    number: Mapped[int] = mapped_column(default=0)
    is_full: Mapped[bool] = mapped_column(default=False)
    articles: Mapped[list[str]] = mapped_column(default=list)

    @evolves(Put)
    def put(self, recorded: RecordedEvent[Put]) -> None:
        assert object_session(self) is None
        if recorded.event.number < self.least:
            raise ArithmeticError(f"cannot put {recorded.event.number}")
        self.number += recorded.event.number
        self.articles.append(recorded.event.article)
        self.is_full = self.number >= 10

    @evolves(Taken)
    def take(self, recorded: RecordedEvent[Taken]) -> Evolved:
        self.number -= recorded.event.number
        return REMOVED if self.number <= 0 else None


class Stock(_Stock, Base):
    """What is on each shelf, in the shared table."""

    __projection_name__ = "evolving.stock"


class StrongStock(_Stock, Base):
    """The same, with the events."""

    __projection_name__ = "evolving.strong_stock"
    __consistency__ = "strong"


class OwnStock(_Stock, Base):
    """The same in a table of its own, in several parts."""

    __tablename__ = "evolving_own_stock"
    __shards__ = 3
    __on_error__ = "park"
    least: ClassVar[int] = 0


class StrongArticles(ReadModel, Base):
    """How many there are of each article, on all shelves and trolleys."""

    __tablename__ = "evolving_articles"
    __consistency__ = "strong"

    article: Mapped[str] = map_from_event(key=True)
    number: Mapped[int] = mapped_column(BigInteger, default=0)
    cost: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=0)
    state: Mapped[State] = mapped_column(Enum(State), default=State.OPEN)
    word: Mapped[str | None] = mapped_column(String(5))
    written_by: Mapped[str] = mapped_column(server_default="the database")

    @evolves(Put, Taken)
    def count(self, recorded: RecordedEvent[Put | Taken]) -> None:
        sign = 1 if isinstance(recorded.event, Put) else -1
        self.number += sign * recorded.event.number
        self.cost += Decimal("0.005")
        self.state = State.DONE
        self.word = recorded.event.article


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


def happen(engine: Engine, shelf: str, *events: DomainEvent, kind: Any = Shelf) -> None:
    commit_events(engine, kind, shelf, *events, occurred_at=datetime(2026, 5, 1, tzinfo=UTC))


def rows(engine: Engine, model: Any = Stock) -> dict[str, tuple[int, bool, list[str], int]]:
    with Session(engine) as session:
        return {row.id: (row.number, row.is_full, row.articles, row.version) for row in session.scalars(select(model))}


def articles(engine: Engine) -> dict[str, int]:
    with Session(engine) as session:
        return {row.article: row.number for row in session.scalars(select(StrongArticles))}


def put(number: int = 1, article: str = "tea") -> Put:
    return Put(article=article, number=number)


def take(number: int = 1, article: str = "tea") -> Taken:
    return Taken(article=article, number=number)


def test_rows_begin_with_defaults_and_are_changed_and_removed(engine: Engine) -> None:
    happen(engine, "a", put(3), put(8, "cup"))
    happen(engine, "b", put(2), take(2))
    happen(engine, "c", put(2), Cleared(), put(1), take(1), put(5, "pot"))
    happen(engine, "d", take(1))
    happen(engine, "e", put(1), Cleared())
    expected = {"a": (11, True, ["tea", "cup"], 2), "c": (5, False, ["pot"], 1)}
    assert rows(engine, StrongStock) == expected
    ReadModelManager(engine, Base).catch_up()
    assert rows(engine, Stock) == rows(engine, OwnStock) == expected
    happen(engine, "a", take(10))
    happen(engine, "c", Cleared())
    ReadModelManager(engine, Base).catch_up()
    assert rows(engine, Stock) == rows(engine, OwnStock) == rows(engine, StrongStock) == {"a": (1, True, ["tea", "cup"], 3)}
    assert verify(engine, Base).is_sound


def test_events_of_other_aggregates_and_of_older_versions(engine: Engine) -> None:
    happen(engine, "a", put(3))
    happen(engine, "a", put(50), kind=Trolley)
    commit_stored(engine, Shelf, "a", "evolving.Put", {"article": "egg", "dozens": 2}, version=2)
    ReadModelManager(engine, Base).catch_up()
    for model in (Stock, StrongStock, OwnStock):
        EventReplayer(engine, Base).rebuild(model)
        assert rows(engine, model) == {"a": (27, True, ["tea", "egg"], 2)}


def test_rebuilding_some_rows(engine: Engine) -> None:
    for shelf in "abc":
        happen(engine, shelf, put(3), put(4))
    ReadModelManager(engine, Base).catch_up()
    before = rows(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE projections SET version = 99"))
        connection.execute(text("UPDATE evolving_own_stock SET version = 99"))
    for model in (Stock, StrongStock, OwnStock):
        assert EventReplayer(engine, Base).rebuild_rows(model, ["a", "c", "z"]) == 2
        found = rows(engine, model)
        assert (found["a"], found["b"][-1], found["c"]) == (before["a"], 99, before["c"])
        assert EventReplayer(engine, Base).rebuild_between(model, times=(datetime(2026, 1, 1, tzinfo=UTC), datetime.now(UTC))) == 3
        assert rows(engine, model) == before


def test_a_batch_of_events_takes_one_statement_to_read_and_one_to_write(
    postgres_engine: Engine, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    for number in range(40):
        happen(postgres_engine, f"s-{number % 20}", put(number), put(1))
    with statements(postgres_engine) as log:
        ReadModelManager(postgres_engine, Base).catch_up(Stock, batch_size=50)
    at_work = [each for each in log if "jsonb_populate_recordset" in each]
    assert [each.split()[0] for each in at_work] == ["SELECT", "WITH"] * 2
    assert len(rows(postgres_engine)) == 20
    with statements(postgres_engine) as log:
        happen(postgres_engine, "s-1", put(1))
    assert [each.split()[0] for each in log if "evolving_articles" in each] == ["SELECT", "WITH"]


def test_values_are_what_the_columns_keep_before_they_are_stored(engine: Engine) -> None:
    happen(engine, "a", put(1), put(2), put(3))
    happen(engine, "b", put(1))
    with Session(engine) as session:
        row = session.get_one(StrongArticles, "tea")
        assert (row.cost, row.state, row.written_by, row.version) == (Decimal("0.04"), State.DONE, "the database", 4)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT state FROM evolving_articles")) == "DONE"
    EventReplayer(engine, Base).rebuild(StrongArticles)
    with Session(engine) as session:
        assert session.get_one(StrongArticles, "tea").cost == Decimal("0.04")


def test_what_the_database_refuses_names_the_model(postgres_engine: Engine) -> None:
    with pytest.raises(ReadModelError, match=r"StrongArticles.*too long"):
        happen(postgres_engine, "a", put(1, "longer than five"))
    assert articles(postgres_engine) == {}


@pytest.mark.parametrize("is_there", [False, True], ids=["new row", "row that is there"])
@pytest.mark.parametrize("is_kept", [False, True], ids=["rolled back", "committed"])
def test_two_transactions_that_change_one_row_lose_nothing(postgres_engine: Engine, is_there: bool, is_kept: bool) -> None:
    if is_there:
        happen(postgres_engine, "z", put(100))
    with Session(postgres_engine) as session:
        session.add(shelf := Shelf(id="a"))
        shelf.apply_event(put(1))
        session.flush()
        thread, errors = in_thread(lambda: happen(postgres_engine, "b", put(10), put(7, "cup"), take(1)))
        wait_until(lambda: number_waiting(postgres_engine), "the second does not wait for the first")
        if is_kept:
            session.commit()
        else:
            session.rollback()
    thread.join(60)
    assert errors == []
    assert articles(postgres_engine) == {"cup": 7, "tea": 9 + (100 if is_there else 0) + (1 if is_kept else 0)}
    assert verify(postgres_engine, Base).is_sound


def test_many_transactions_lose_nothing(postgres_engine: Engine) -> None:
    def write(writer: int) -> None:
        for number in range(15):
            happen(postgres_engine, f"{writer}-{number}", put(1, f"a{number % 4}"), put(1, "tea"))

    together(*(partial(write, writer) for writer in range(4)))
    assert articles(postgres_engine) == {"a0": 16, "a1": 16, "a2": 16, "a3": 12, "tea": 60}


def test_a_row_that_the_database_keeps_out_is_told(postgres_engine: Engine) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"))
        connection.execute(
            text("CREATE TRIGGER left_out BEFORE INSERT ON evolving_articles FOR EACH ROW EXECUTE FUNCTION leave_out()")
        )
    with pytest.raises(ReadModelError, match="look at the triggers and rules of evolving_articles"):
        happen(postgres_engine, "b", put(1))


def test_a_bad_event_is_parked_alone_with_its_stream(engine: Engine) -> None:
    for shelf in "abcdef":
        happen(engine, shelf, put(1))
    happen(engine, "c", put(-1), put(1))
    for shelf in "abdef":
        happen(engine, shelf, put(2))
    Worker(engine, Base, only=["OwnStock"], retries=RetryPolicy(attempts=2, first_pause=0)).run_once()
    found = rows(engine, OwnStock)
    assert {shelf: row[0] for shelf, row in found.items()} == {"a": 3, "b": 3, "c": 1, "d": 3, "e": 3, "f": 3}
    assert sum(each.parked_events for each in ReadModelManager(engine, Base).status(OwnStock)) == 2


def test_a_bad_event_is_named(engine: Engine) -> None:
    with pytest.raises(ReadModelError, match="cannot put -200") as caught:
        happen(engine, "c", put(1), put(-200), put(2))
    assert len(caught.value.event_ids) == 1
    assert caught.value.rows == ("'c'",)
    assert isinstance(caught.value.__cause__, ArithmeticError)


def _model(*, method: Any = None, **namespace: Any) -> Any:
    class Local(DeclarativeBase):
        pass

    annotations = dict(namespace.pop("annotations", {"number": Mapped[int]}))
    fields: dict[str, Any] = {"number": mapped_column(default=0)} if "number" in annotations else {}
    marked: dict[str, Any] = {} if method is None else {"method": evolves(Put)(method)}
    members = {"__module__": __name__, "__annotations__": annotations, **fields, **marked, **namespace}
    return type("Model", (ReadModel, Local), members)


def _recorded(*events: DomainEvent) -> list[RecordedEvent[Any]]:
    return recorded(*events, of=Shelf, id="s")


def test_a_model_is_tested_without_a_database() -> None:
    row: Any = projected(Stock, _recorded(put(4), put(9), take(1)))["s"]
    assert (row.id, row.number, row.is_full, row.articles, row.version) == ("s", 12, True, ["tea", "tea"], 3)


def test_validators_are_called_for_what_methods_set() -> None:
    class Local(DeclarativeBase):
        pass

    class Limited(ReadModel, Local):
        number: Mapped[int] = mapped_column(default=0)

        @evolves(Put)
        def put(self, recorded: RecordedEvent[Put]) -> None:
            self.number += recorded.event.number

        @validates("number")
        def _limit(self, _name: str, number: int) -> int:
            if number < 0:
                raise ArithmeticError("too few")
            return min(number, 10)

    assert fold(Limited, _recorded(put(4), put(9), put(-1)))["s"]["number"] == 9
    with pytest.raises(ArithmeticError, match="too few"):
        fold(Limited, _recorded(put(-1)))


NAIVE = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def _sets(name: str, value: object) -> Any:
    return lambda self, _recorded: setattr(self, name, value)


async def _coroutine(_self: Any, _recorded: Any) -> None: ...


def test_a_method_that_changes_its_event_changes_none_of_the_callers() -> None:
    """A worker gives each model events of its own."""

    def spend(_self: Any, recorded: RecordedEvent[Listed]) -> None:
        recorded.event.articles.append("more")
        recorded.metadata.clear()  # type: ignore[attr-defined]

    class Local(DeclarativeBase):
        pass

    class Shelf(AggregateRoot[str], Local):
        __aggregate_type__ = "evolving.Shelf"
        __ignored_events__ = (Listed,)

    class Spending(ReadModel, Local):
        __projection_name__ = "evolving_spending"
        id: Mapped[str]
        number: Mapped[int] = mapped_column(default=0)
        take = evolves(Listed)(spend)

    (given,) = _recorded(Listed(articles=["pen"]))
    given = replace(given, metadata={"user": "ann"})
    for _ in range(2):
        assert fold(Spending, [given])["s"]["version"] == 1
    assert (given.event.articles, given.metadata) == (["pen"], {"user": "ann"})


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        (_sets("number", "12"), TypeError, r"Model.number is of type int and cannot hold '12'"),
        (_sets("number", True), TypeError, "cannot hold True"),
        (_sets("number", None), ValueError, r"Model.number is None after Put; annotate it Mapped\[... \| None\]"),
        (_sets("nubmer", 1), AttributeError, "no field 'nubmer' that an @evolves method can set; it has number"),
        (_sets("id", "other"), ValueError, "Model.id to 'other': it is 's', and kept by the library"),
        (_sets("version", 9), ValueError, "Model.version to 9: it is 1"),
        (lambda self, _recorded: self, TypeError, "returned <Model id='s'>. Write a plain one"),
        (lambda *both: _coroutine(*both), TypeError, "returned coroutine"),  # noqa: PLW0108 - it hides what kind it is
    ],
    ids=["text", "bool", "none", "typo", "key", "kept", "result", "coroutine"],
)
def test_what_a_method_must_not_do_is_refused(method: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fold(_model(method=method), _recorded(put()))


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (Mapped[datetime], NAIVE, "which has no time zone"),
        (Mapped[date], datetime(2026, 1, 1, tzinfo=UTC), "is of type date and cannot hold"),
        (Mapped[State], "o", "is of type State and cannot hold 'o'"),
        (Mapped[list[int]], ["1"], "cannot hold"),
    ],
    ids=["moment", "date", "enum", "list"],
)
def test_values_of_another_type_are_refused(annotation: Any, value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fold(_model(method=_sets("field", value), annotations={"field": annotation}), _recorded(put()))


def _plain(self: Any, recorded: RecordedEvent[Put]) -> None: ...


def _plain_too(self: Any, recorded: RecordedEvent[Taken]) -> None: ...


@pytest.mark.parametrize(
    ("namespace", "message"),
    [
        ({"method": classmethod(_plain)}, "is called with the row and the event, and no session"),
        ({"method": lambda self: None}, "is called with the row and the event, and no session"),
        ({"method": _coroutine}, "is a coroutine function"),
        (
            {"method": _plain, "total": map_from_event(Put, source="number"), "annotations": {"total": Mapped[int]}},
            "which set all but",
        ),
        (
            {"method": _plain, "other": evolves(Taken)(_plain_too), "__removed_by__": (Put,)},
            "evolving.Put removes the row and cannot set a field",
        ),
        (
            {"method": _plain, "a": mapped_column(primary_key=True), "annotations": {"a": Mapped[str]}},
            r"Model.a is a primary key.*map_from_event\(key=True\)",
        ),
        (
            {"method": _plain, "a": mapped_column(String(5)), "annotations": {"a": Mapped[str]}},
            "has a type, which a row of the shared table cannot have",
        ),
        (
            {"method": _plain, "a": mapped_column(server_default="x"), "annotations": {"a": Mapped[str]}},
            "has a server default, which",
        ),
        (
            {"method": _plain, "a": mapped_column(default=text("1")), "annotations": {"a": Mapped[int]}},
            "default that the database works out",
        ),
        ({"method": _plain, "annotations": {"a": Mapped[threading.Thread]}}, "fields cannot hold"),
    ],
    ids=["class method", "arguments", "coroutine", "declared", "removes", "key", "type", "server default", "sql", "thread"],
)
def test_declarations_that_cannot_be_meant_are_refused(namespace: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        _model(**namespace)


class Lowered(TypeDecorator[str]):
    """A type of the application's that changes what it stores."""

    impl = String
    cache_ok = True


@pytest.mark.parametrize(
    ("annotation", "column_type", "advice"),
    [
        (Decimal, Numeric(10, 2, asdecimal=False), "write Double"),
        (float, Numeric(10, 2, asdecimal=False), "write Double"),
        (float, Float(24), "write Double"),
        (float, REAL(), "write Double"),
        (datetime, DateTime(), r"write DateTime\(timezone=True\)"),
        (datetime, postgresql.TIMESTAMP(timezone=True, precision=0), "leave the precision out"),
        (str, CHAR(6), "write String"),
        (str, Lowered(), "leave the type out"),
        (list[Decimal], ARRAY(Numeric(10, 1)), "round values before"),
        (list[str], ARRAY(Lowered()), "leave the type out"),
    ],
    ids=plainly,
)
def test_columns_that_change_values_when_they_are_stored_are_refused(annotation: Any, column_type: Any, advice: str) -> None:
    namespace = {"a": mapped_column(column_type), "annotations": {"a": Mapped[annotation | None]}, "__tablename__": "changing"}
    with pytest.raises(DeclarationError, match=rf"Model\.a has a column of type .* changes values when a row is stored.*{advice}"):
        _model(method=_plain, **namespace)


class Order(AnyOrder, Base):
    """An order, for its total."""

    __aggregate_type__ = "evolving.Order"


class Rounded(ReadModel, Base):
    """Sums that its columns round, to whole numbers where a precision alone is given."""

    __tablename__ = "rounded_sums"
    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    whole: Mapped[Decimal] = mapped_column(Numeric(5), default=Decimal(0))
    double: Mapped[float] = mapped_column(Double, default=0.0)

    @evolves(OrderPlaced)
    def _placed(self, recorded: RecordedEvent[OrderPlaced]) -> None:
        self.whole += recorded.event.total
        self.double += float(recorded.event.total)


def test_rows_of_rounding_columns_do_not_depend_on_how_many_events_come_together(engine: Engine) -> None:
    commit_events(engine, Order, "p", *[OrderPlaced(customer_id="c-1", total=Decimal("0.444"))] * 4)
    manager = ReadModelManager(engine, Base)
    found: list[tuple[Decimal, float]] = []
    for batch_size in (1, 2, 4):
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM rounded_sums"))
            connection.execute(text("DELETE FROM projection_positions WHERE projection_name = 'Rounded'"))
        manager.catch_up(Rounded, batch_size=batch_size)
        with Session(engine) as session:
            row = session.get_one(Rounded, "p")
            found.append((row.whole, row.double))
    EventReplayer(engine, Base).rebuild(Rounded)
    with Session(engine) as session:
        row = session.get_one(Rounded, "p")
        found.append((row.whole, row.double))
    assert len(set(found)) == 1
    assert found[0][0] == 0
    assert verify(engine, Base, only=["Rounded"]).is_sound


class Account(AnyAccount, Base):
    """An account, of which its owner has no other."""

    __aggregate_type__ = "evolving.Account"


class _Owners:
    """An owner is free again when the account gets another one, or is closed."""

    __removed_by__: ClassVar[tuple[type[DomainEvent], ...]] = (Closed,)
    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    owner: Mapped[str | None] = mapped_column(unique=True)

    @evolves(Opened)
    def _opened(self, recorded: RecordedEvent[Opened]) -> None:
        self.owner = recorded.event.owner


class OwnersOfTheirOwn(_Owners, ReadModel, Base):
    """In a table of its own."""

    __tablename__ = "owners_of_accounts"


class SharedOwners(_Owners, ReadModel, Base):
    """In the shared table."""

    __projection_name__ = "shared_owners"


@pytest.mark.parametrize("model", [OwnersOfTheirOwn, SharedOwners])
def test_a_unique_value_that_one_row_gives_up_is_taken_by_another_of_the_batch(engine: Engine, model: Any) -> None:
    manager = ReadModelManager(engine, Base)

    def happen(*events: tuple[str, DomainEvent]) -> None:
        with Session(engine) as session:
            for account_id, event in events:
                account = session.get(Account, account_id)
                if account is None:
                    session.add(account := Account(id=account_id))
                account.apply_event(event)
                session.flush()
            session.commit()
        manager.catch_up(model)

    happen(("a", Opened(owner="x")), ("b", Opened(owner="y")), ("c", Opened(owner="z")))
    happen(("a", Closed()), ("d", Opened(owner="x")))
    happen(("b", Opened(owner="w")), ("e", Opened(owner="y")))
    happen(("c", Closed()), ("d", Opened(owner="z")))
    with Session(engine) as session:
        assert {each.id: each.owner for each in session.scalars(select(model))} == {"b": "w", "d": "z", "e": "y"}
    assert verify(engine, Base, only=[model.__read_model_definition__.name]).is_sound
