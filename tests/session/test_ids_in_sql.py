"""Ids in SQL: they compare, sort, aggregate and join as their Python type says, and a value is found by the log's index."""

from __future__ import annotations

import enum
import operator
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import ForeignKey, MetaData, String, bindparam, case, cast, func, literal, select, text, tuple_
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    foreign,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    with_loader_criteria,
)

from sa_eventsource import (
    AggregateIdError,
    AggregateRoot,
    DeclarationError,
    EventRecord,
    EventSourcedRepository,
    EventStore,
    ReadModel,
    event_record,
    lock_aggregate,
    map_from_event,
)
from sa_eventsource.read_models import count
from tests import PARTITIONS
from tests.parameters import plainly
from tests.shop import AnyTill, Sold
from tests.statement_log import record_statements

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine


class Base(DeclarativeBase):
    """The application's declarative base."""


class Ticket(AnyTill[int], Base):
    """Has a number."""


class Session_(AnyTill[UUID], Base):
    """Has a UUID."""

    __aggregate_type__ = "Session"


class Account(AnyTill, Base):
    """Has a text."""


class TicketList(ReadModel, Base):
    """A read model in the shared table."""

    __aggregates__ = (Ticket,)
    __consistency__ = "strong"
    id: Mapped[int]
    sales: Mapped[int] = map_from_event(Sold, reduce=count())


class SessionList(ReadModel, Base):
    """A read model in the shared table, whose key is kept as a text."""

    __aggregates__ = (Session_,)
    __consistency__ = "strong"
    id: Mapped[UUID]
    sales: Mapped[int] = map_from_event(Sold, reduce=count())


class SessionRow(ReadModel, Base):
    """A read model in a table of its own."""

    __aggregates__ = (Session_,)
    __consistency__ = "strong"
    __tablename__ = "session_rows"
    id: Mapped[UUID] = map_from_event(key=True, source="aggregate_id")
    sales: Mapped[int] = map_from_event(Sold, reduce=count())


class TicketRow(ReadModel, Base):
    """A read model in a table of its own."""

    __aggregates__ = (Ticket,)
    __consistency__ = "strong"
    __tablename__ = "ticket_rows"
    id: Mapped[int] = map_from_event(key=True, source="aggregate_id")
    sales: Mapped[int] = map_from_event(Sold, reduce=count())


class Comment(Base):
    """An ordinary table whose rows point at tickets and sessions."""

    __tablename__ = "comments"

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int | None]
    session_id: Mapped[UUID | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("comments.id"))
    ticket: Mapped[Ticket | None] = relationship(
        Ticket, primaryjoin=lambda: foreign(Comment.ticket_id) == Ticket.__table__.c.id, viewonly=True
    )
    session: Mapped[Session_ | None] = relationship(
        Session_, primaryjoin=lambda: foreign(Comment.session_id) == Session_.__table__.c.id, viewonly=True
    )


NUMBERS = [-10, -9, 0, 1, 2, 9, 10, 100, 2**63 - 1, -(2**63)]
UUIDS = [UUID(int=number) for number in (1, 9, 10, 2**127, 2**128 - 1)]


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def database(engine: Engine) -> Engine:
    """An engine on a database with tickets, sessions and comments."""
    with Session(engine) as session:
        for number in NUMBERS:
            _open(session, Ticket(id=number))
        for identifier in UUIDS:
            _open(session, Session_(id=identifier))
        session.add_all([Comment(id=1, ticket_id=9, session_id=UUIDS[1]), Comment(id=2, ticket_id=100), Comment(id=3)])
        session.commit()
    return engine


def _open(session: Session, aggregate: Any) -> None:
    aggregate.sell("pen")
    session.add(aggregate)


ORDERED = sorted(NUMBERS)
BY_NUMBER: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "order": (lambda: select(Ticket.id).order_by(Ticket.id), ORDERED),
    "descending": (lambda: select(Ticket.id).order_by(Ticket.id.desc()), ORDERED[::-1]),
    "more": (lambda: select(Ticket.id).where(Ticket.id > 9).order_by(Ticket.id), [10, 100, 2**63 - 1]),
    "less": (lambda: select(Ticket.id).where(Ticket.id < -9).order_by(Ticket.id), [-(2**63), -10]),
    "reversed": (lambda: select(Ticket.id).where(literal(9) <= Ticket.id).order_by(Ticket.id), [9, 10, 100, 2**63 - 1]),
    "fraction": (lambda: select(Ticket.id).where(Ticket.id > 8.5, Ticket.id < 99.5).order_by(Ticket.id), [9, 10]),
    "between": (lambda: select(Ticket.id).where(Ticket.id.between(2, 50)).order_by(Ticket.id), [2, 9, 10]),
    "equal": (lambda: select(Ticket.id).where(Ticket.id == 9), [9]),
    "unequal": (lambda: select(Ticket.id).where(Ticket.id != 9).order_by(Ticket.id), [each for each in ORDERED if each != 9]),
    "not equal": (lambda: select(Ticket.id).where(~(Ticket.id == 9)).order_by(Ticket.id), [each for each in ORDERED if each != 9]),
    "in": (lambda: select(Ticket.id).where(Ticket.id.in_([100, 9, 7])).order_by(Ticket.id), [9, 100]),
    "in none": (lambda: select(Ticket.id).where(Ticket.id.in_([])), []),
    "not in": (
        lambda: select(Ticket.id).where(Ticket.id.not_in([100, 9])).order_by(Ticket.id),
        [n for n in ORDERED if n not in (9, 100)],
    ),
    "not (in)": (
        lambda: select(Ticket.id).where(~Ticket.id.in_([100, 9])).order_by(Ticket.id),
        [n for n in ORDERED if n not in (9, 100)],
    ),
    "in a query": (
        lambda: select(Ticket.id).where(Ticket.id.in_(select(Comment.ticket_id))).order_by(Ticket.id),
        [9, 100],
    ),
    "equal to a query": (
        lambda: select(Ticket.id).where(Ticket.id == select(func.max(Comment.ticket_id)).scalar_subquery()),
        [100],
    ),
    "is null": (lambda: select(Ticket.id).where(Ticket.id == None), []),  # noqa: E711 - as SQLAlchemy is written
    "maximum": (lambda: select(func.max(Ticket.id)), [2**63 - 1]),
    "minimum": (lambda: select(func.min(Ticket.id)), [-(2**63)]),
    "count": (lambda: select(func.count(Ticket.id)).where(Ticket.id == 9), [1]),
    "arithmetic": (lambda: select(Ticket.id % 100 + 1).where(Ticket.id % 100 + 1 == 10).where(Ticket.id > 0), [10]),
    "modulo": (lambda: select(Ticket.id).where(Ticket.id % 9 == 1, Ticket.id.between(0, 50)).order_by(Ticket.id), [1, 10]),
    "tuples": (lambda: select(Ticket.id).where(tuple_(Ticket.id, Ticket.version).in_([(9, 1), (10, 2)])), [9]),
    "text of it": (lambda: select(cast(Ticket.id, String)).where(Ticket.id == 9), ["9"]),
    "join with a column": (
        lambda: select(Comment.id).join(Ticket, Ticket.id == Comment.ticket_id).order_by(Ticket.id),
        [1, 2],
    ),
    "join from a column": (
        lambda: select(Comment.id).join(Ticket, Comment.ticket_id == Ticket.id).order_by(Ticket.id.desc()),
        [2, 1],
    ),
    "join with a read model": (
        lambda: select(TicketList.id).join(Ticket, Ticket.id == TicketList.id).order_by(Ticket.id),
        ORDERED,
    ),
    "join from a read model": (
        lambda: select(TicketList.id).join(Ticket, TicketList.id == Ticket.id).order_by(TicketList.id),
        ORDERED,
    ),
    "join with a table": (lambda: select(TicketRow.id).join(Ticket, Ticket.id == TicketRow.id).order_by(TicketRow.id), ORDERED),
    "join from a table": (lambda: select(TicketRow.id).join(Ticket, TicketRow.id == Ticket.id).order_by(Ticket.id), ORDERED),
}


@pytest.mark.parametrize(("statement", "expected"), BY_NUMBER.values(), ids=BY_NUMBER.keys())
def test_int_ids_are_numbers(database: Engine, statement: Callable[[], Any], expected: list[Any]) -> None:
    with Session(database) as session:
        found = list(session.scalars(statement()))
    assert found == expected
    assert {type(each) for each in found} <= {type(each) for each in expected}


def test_an_id_that_a_query_has_passed_on_is_a_number_too(database: Engine) -> None:
    inner = select(Ticket.id).subquery()
    other = aliased(Ticket)
    with Session(database) as session:
        assert session.scalars(select(inner.c.id).where(inner.c.id == 9)).all() == [9]
        assert session.scalars(select(inner.c.id).where(inner.c.id.in_([9, 10])).order_by(inner.c.id)).all() == [9, 10]
        assert session.scalars(select(other).where(other.id == 9)).one().id == 9
        pairs = select(Ticket.id, other.id).join(other, other.id > Ticket.id).where(Ticket.id == 9, other.id.in_([10, 2]))
        assert session.execute(pairs).all() == [(9, 10)]
        filtered = select(Ticket).options(with_loader_criteria(Ticket, lambda cls: cls.id == 9))
        assert [each.id for each in session.scalars(filtered)] == [9]
        assert session.scalars(select(Ticket).filter_by(id=9)).one().id == 9
        assert session.scalars(select(Ticket.id).where(Ticket.id == bindparam("wanted")), {"wanted": 10}).all() == [10]
        for wanted in ([9], [9, 10], [2]):  # one cached statement, several lists
            assert session.scalars(select(Ticket.id).where(Ticket.id.in_(wanted)).order_by(Ticket.id)).all() == sorted(wanted)
        for wanted_id in (9, 10, 2):
            assert session.scalars(select(Ticket.id).where(Ticket.id == wanted_id)).all() == [wanted_id]
        assert "'9'" in str(select(Ticket.id).where(Ticket.id == 9).compile(database, compile_kwargs={"literal_binds": True}))


def test_uuid_ids_are_uuids(database: Engine) -> None:
    comments = select(Comment.id).join(Session_, Comment.session_id == Session_.id)
    with Session(database) as session:
        assert session.scalars(select(Session_.id).order_by(Session_.id)).all() == UUIDS
        assert session.scalars(select(Session_.id).where(Session_.id > UUIDS[1]).order_by(Session_.id)).all() == UUIDS[2:]
        assert session.scalars(select(Session_.id).where(Session_.id == UUIDS[2])).all() == [UUIDS[2]]
        assert (
            session.scalars(select(Session_.id).where(Session_.id != UUIDS[2]).order_by(Session_.id)).all() == UUIDS[:2] + UUIDS[3:]
        )
        assert session.scalars(select(Session_.id).where(Session_.id.in_(UUIDS[:2])).order_by(Session_.id)).all() == UUIDS[:2]
        assert session.scalars(comments).all() == [1]
        assert session.scalars(comments.where(Session_.id == UUIDS[1])).all() == [1]
        assert session.scalars(select(Comment.id).join(Session_, Session_.id == Comment.session_id)).all() == [1]
        loaded = session.get_one(Comment, 1).session
        assert loaded is not None
        assert loaded.id == UUIDS[1]


@pytest.mark.parametrize("model", [SessionList, SessionRow])
def test_uuid_ids_join_with_read_models(database: Engine, model: Any) -> None:
    with Session(database) as session:
        for condition in (Session_.id == model.id, model.id == Session_.id):
            statement = select(model.id).join(Session_, condition).order_by(Session_.id)
            assert session.scalars(statement).all() == UUIDS
            assert session.scalars(statement.where(Session_.id == UUIDS[1])).all() == [UUIDS[1]]
            assert session.scalars(statement.where(model.id == UUIDS[1])).all() == [UUIDS[1]]
        for differs in (Session_.id != model.id, model.id != Session_.id):
            pairs = select(func.count()).select_from(Session_).join(model, differs)
            assert session.scalar(pairs) == len(UUIDS) * (len(UUIDS) - 1)


def test_text_ids_stay_text(engine: Engine) -> None:
    with Session(engine) as session:
        for name in ("1", "10", "9"):
            _open(session, Account(id=name))
        session.commit()
        assert session.scalars(select(Account.id).order_by(Account.id)).all() == ["1", "10", "9"]
        assert session.scalars(select(Account.id).where(Account.id.startswith("1")).order_by(Account.id)).all() == ["1", "10"]
        assert session.scalars(select(func.max(Account.id))).one() == "9"


def test_relationships_to_aggregates_with_int_ids(database: Engine) -> None:
    with Session(database) as session:
        comment = session.get_one(Comment, 1)
        with record_statements(database) as log:
            assert comment.ticket is not None
            assert comment.ticket.id == 9
        assert not any("GROUP BY" in each for each in log), "it was not loaded as session.get() does"
        assert session.get_one(Comment, 3).ticket is None
        assert session.get(Ticket, 9) is comment.ticket
    for load in (joinedload, selectinload):
        with Session(database) as session:
            comments = session.scalars(select(Comment).options(load(Comment.ticket)).order_by(Comment.id)).all()
            assert [each.ticket.id if each.ticket else None for each in comments] == [9, 100, None]


_MANY = text("""
    INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at)
    SELECT gen_random_uuid(), kind, CASE kind WHEN 'Ticket' THEN n::text ELSE gen_random_uuid()::text END, 1, 'shop.Sold', '{}',
        now()
    FROM generate_series(1, 3000) AS n, (VALUES ('Ticket'), ('Session')) AS kinds (kind)
""")


@pytest.mark.parametrize(
    "statement",
    [
        lambda: select(Ticket).where(Ticket.id == 9),
        lambda: select(Ticket).where(Ticket.id.in_([9, 10])),
        lambda: select(Ticket.version).where(Ticket.id == 9),
        lambda: select(aliased(Ticket)).where(Ticket.id == 9).with_only_columns(Ticket.id),
        lambda: select(Ticket).filter_by(id=9),
        lambda: select(Session_).where(Session_.id == UUIDS[0]),
        lambda: select(Session_).where(Session_.id.in_(UUIDS)),
    ],
)
def test_a_value_is_found_by_the_index_of_the_log(postgres_engine: Engine, statement: Callable[[], Any]) -> None:
    with Session(postgres_engine) as session:
        session.execute(_MANY)
        session.execute(text("ANALYZE events"))
        compiled = statement().compile(postgres_engine, compile_kwargs={"literal_binds": True})
        plan = "\n".join(session.execute(text("EXPLAIN " + str(compiled).replace(":", "\\:"))).scalars())
    conditions = [line for line in plan.splitlines() if "Index Cond" in line and "aggregate_type" in line]
    assert 1 <= len(conditions) <= (PARTITIONS or 1), plan
    assert all("aggregate_id" in each for each in conditions), plan


@pytest.mark.parametrize(
    "condition", [lambda: Ticket.id == 9, lambda: Ticket.id.in_([9]), lambda: Ticket.id > 9 - 1], ids=["==", "in", ">"]
)
def test_rows_grouped_by_the_id_are_asked_for_it_again(engine: Engine, condition: Any) -> None:
    with Session(engine) as session:
        for number in (8, 9):
            _open(session, Ticket(id=number))
        session.commit()
        having = select(Ticket.id, func.count()).group_by(Ticket.id).having(condition())
        assert session.execute(having).all() == [(9, 1)]
        column = select(case((condition(), "nine"), else_="other")).group_by(Ticket.id)
        assert sorted(session.scalars(column)) == ["nine", "other"]


def test_a_load_by_id_that_others_listen_to_uses_the_index_too(postgres_engine: Engine) -> None:
    with Session(postgres_engine) as session:
        _open(session, Ticket(id=9))
        session.commit()
        session.expunge_all()
        with record_statements(postgres_engine) as log:
            assert session.get_one(Ticket, 9, populate_existing=True).id == 9
    (grouped,) = [each for each in log if "GROUP BY" in each]
    assert "stored_id = " in grouped.split("WHERE")[-1]


class Level(enum.IntEnum):
    """A number with a name."""

    LOW = 9


class Grade(int, enum.Enum):
    """A number with a name, of the older kind."""

    HIGH = 10


class Currency(str, enum.Enum):  # noqa: UP042 - the older kind
    """A text with a name, whose str() is the name."""

    EUR = "eur"


class Colour(enum.StrEnum):
    """A text with a name."""

    RED = "red"


class Shouted(str):
    """A text whose str() says something else."""

    __slots__ = ()

    def __str__(self) -> str:
        """Shout."""
        return self.upper()


class Folded(str):
    """A text that equals others whatever their case."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Compare without case."""
        return isinstance(other, str) and self.casefold() == other.casefold()

    def __hash__(self) -> int:
        """Hash without case."""
        return hash(self.casefold())


class ShortUuid(UUID):
    """A UUID that is written shorter."""

    def __str__(self) -> str:
        """Write the first digits."""
        return self.hex[:8]


SUBCLASSES = [
    (Ticket, Level.LOW, 9),
    (Ticket, Grade.HIGH, 10),
    (Account, Currency.EUR, "eur"),
    (Account, Colour.RED, "red"),
    (Account, Shouted("loud"), "loud"),
    (Session_, ShortUuid(int=77), UUID(int=77)),
]


@pytest.mark.parametrize(("kind", "value", "plain"), SUBCLASSES, ids=plainly)
def test_a_value_of_a_subclass_is_stored_as_the_plain_value_that_it_equals(
    engine: Engine, kind: Any, value: Any, plain: Any
) -> None:
    with Session(engine) as session:
        aggregate = kind(id=value)
        assert type(aggregate.id) is type(plain)
        _open(session, aggregate)
        session.commit()
        assert session.scalar(text("SELECT aggregate_id FROM events")) == str(plain)
        assert session.get(kind, plain) is aggregate
        assert session.get(kind, value) is aggregate
        session.expunge_all()
        found = session.get_one(kind, value)
        assert found.id == plain
        assert type(found.id) is type(plain)
        assert session.get(kind, plain) is found
        assert session.scalars(select(kind).where(kind.id == value)).one() is found
        assert session.scalars(select(kind).where(kind.id.in_([value]))).one() is found
        assert session.scalars(select(kind.id).where(kind.id >= value)).all() == [plain]
        repository = EventSourcedRepository(session, kind)
        assert repository.get(value) is found
        assert repository.append(value, [Sold()], expected_version=1) == 2
        assert repository.load_at_version(value, 1).id == plain
        assert repository.history(value).count() == 2
        assert EventStore(session).events.of(kind, value).count() == 2
        lock_aggregate(session, kind, value)
        assert found.version == 2


def test_a_value_that_does_not_equal_what_would_come_back_is_refused(engine: Engine) -> None:
    value = Folded("Mixed")
    with pytest.raises(AggregateIdError, match="would come back as 'Mixed'"):
        Account(id=value)
    with Session(engine) as session:
        with pytest.raises(AggregateIdError, match="would come back"):
            session.get(Account, value)
        with pytest.raises(AggregateIdError, match="would come back"):
            EventStore(session).events.of(Account, value)


@pytest.mark.parametrize("kind", [Currency, Colour, Level, Grade, bool, float, bytes, ShortUuid, Shouted, "UUID", None, int | str])
def test_an_id_of_another_type_cannot_be_declared(kind: Any) -> None:
    class OtherBase(DeclarativeBase):
        """A base of its own."""

    with pytest.raises(DeclarationError, match=r"AggregateRoot takes \[str\], \[UUID\] or \[int\]"):

        class Wrong(AggregateRoot[kind], OtherBase):
            """Has ids of a kind that would not come back."""


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_no_id_in_a_condition_either(value: bool) -> None:
    for compare in (operator.eq, operator.ne, operator.gt):
        with pytest.raises(AggregateIdError, match="must be int, not bool"):
            compare(Ticket.id, value)


T = TypeVar("T", bound=str | UUID | int)
K = TypeVar("K")


def test_an_id_declared_through_a_generic_class_in_between() -> None:
    class OtherBase(DeclarativeBase):
        """A base of its own."""

    class Numbered(AggregateRoot[int]):
        """Says the type."""

    class Named(AggregateRoot[T], Generic[K, T]):
        """Leaves the type open, beside another."""

    class ByNumber(Numbered, OtherBase):
        """Inherits it."""

    class ByUuid(Named[str, UUID], OtherBase):
        """Fills it in."""

    class ByText(Named[int, str], OtherBase):
        """Fills it in."""

    class ByDefault(Named, OtherBase):  # type: ignore[type-arg]
        """Leaves it out."""

    types = [each.__aggregate_definition__.id_type for each in (ByNumber, ByUuid, ByText, ByDefault)]
    assert types == [int, UUID, str, str]


def test_events_join_with_the_aggregates_they_belong_to(database: Engine) -> None:
    record = event_record(Base)
    with Session(database) as session:
        for kind, value in ((Ticket, 9), (Session_, UUIDS[1])):
            statement = select(record.version).join(kind, kind.id == record.aggregate_id).where(kind.id == value)
            assert session.scalars(
                statement.where(record.aggregate_type == kind.__aggregate_definition__.aggregate_type)
            ).all() == [1]
    assert record is not EventRecord
