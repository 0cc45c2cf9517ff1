"""What SQLAlchemy maps beside state works on an aggregate as on any entity, or the declaration is refused."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from sqlalchemy import Column as SchemaColumn
from sqlalchemy import Engine, ForeignKey, Integer, MetaData, Table, func, inspect, select
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.declarative import AbstractConcreteBase, ConcreteBase
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    composite,
    declared_attr,
    foreign,
    mapped_column,
    registry,
    relationship,
    synonym,
    validates,
)

from sa_eventsource import (
    AggregateRoot,
    AggregateStateError,
    DeclarationError,
    DomainEvent,
    OneSidedRelationshipError,
    UninitializedAggregateError,
    applies,
)

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable


class ShelfMoved(DomainEvent):
    """A shelf was moved."""

    __event_type__ = "declarations.ShelfMoved"


@dataclasses.dataclass
class Stand:
    """An aggregate's id and version, together."""

    id: str
    version: int


class Base(DeclarativeBase):
    """The base of this module."""


class Book(Base):
    """A row that refers to an aggregate."""

    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[str]
    title: Mapped[str]
    shelf: Mapped[Shelf] = relationship(primaryjoin=lambda: foreign(Book.shelf_id) == Shelf.id, back_populates="books")


class Labelled:
    """A mixin with what is declared for each class anew."""

    @declared_attr
    def labels(cls) -> Mapped[list[Book]]:
        """Books again, for reading."""
        return relationship(Book, primaryjoin=lambda: foreign(Book.shelf_id) == cls.id, viewonly=True)  # type: ignore[attr-defined]


class Shelf(Labelled, AggregateRoot, Base):
    """An aggregate with one of everything."""

    __mapper_args__ = {"eager_defaults": True, "confirm_deleted_rows": False}

    moves: int = 0
    key = synonym("id")
    stand: Mapped[Stand] = composite(Stand, "id", "version")
    books: Mapped[list[Book]] = relationship(primaryjoin=lambda: foreign(Book.shelf_id) == Shelf.id, back_populates="shelf")
    alone: Mapped[list[Book]] = relationship(primaryjoin=lambda: foreign(Book.shelf_id) == Shelf.id, overlaps="books,shelf")
    one_alone: Mapped[Book | None] = relationship(
        primaryjoin=lambda: (foreign(Book.shelf_id) == Shelf.id) & (Book.id == 1), uselist=False, overlaps="books,shelf,alone"
    )
    eager: Mapped[list[Book]] = relationship(
        primaryjoin=lambda: foreign(Book.shelf_id) == Shelf.id, viewonly=True, lazy="selectin", order_by=Book.id
    )
    titles: AssociationProxy[list[str]] = association_proxy("books", "title")

    @hybrid_property
    def is_used(self) -> bool:
        """Whether anything has happened since the first event."""
        return self.version > 1

    @applies(ShelfMoved)
    def _moved(self, event: ShelfMoved) -> None:
        self.moves += 1


Shelf.book_count = column_property(
    select(func.count()).select_from(Book).where(Book.shelf_id == Shelf.id).correlate_except(Book).scalar_subquery()
)


@pytest.fixture
def shelves(engine: Engine) -> Engine:
    """A database with a shelf of two books."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        shelf = Shelf(id="s-1")
        shelf.apply_event(ShelfMoved())
        shelf.books.extend([Book(id=1, title="Ulysses"), Book(id=2, title="Emma")])
        session.add(shelf)
        session.commit()
    return engine


def _all(session: Session) -> list[Any]:
    return [session.scalars(select(Shelf)).one(), session.get_one(Shelf, "s-1")]


def test_everything_is_loaded_by_get_and_by_select(shelves: Engine) -> None:
    for number in range(2):
        with Session(shelves) as session:
            shelf = _all(session)[number]
            assert (shelf.key, shelf.version, shelf.moves, shelf.book_count) == ("s-1", 1, 1, 2)
            assert shelf.stand == Stand("s-1", 1)
            assert sorted(shelf.titles) == ["Emma", "Ulysses"]
            assert [book.id for book in shelf.labels] == [book.id for book in shelf.eager] == [1, 2]
            assert not shelf.is_used


def test_get_loads_eager_relationships_at_once(shelves: Engine) -> None:
    with Session(shelves) as session:
        shelf = session.get_one(Shelf, "s-1")
    assert [book.title for book in shelf.eager] == ["Ulysses", "Emma"]  # it is detached: nothing can be loaded now


def test_everything_follows_a_commit_a_refresh_and_an_expire(shelves: Engine) -> None:
    with Session(shelves) as session:
        shelf: Any = session.get_one(Shelf, "s-1")
        shelf.apply_event(ShelfMoved())
        session.add(Book(id=3, shelf_id="s-1", title="Persuasion"))
        session.commit()
        assert (shelf.book_count, shelf.moves, shelf.stand, shelf.is_used) == (3, 2, Stand("s-1", 2), True)
        session.add(Book(id=4, shelf_id="s-1", title="Mansfield Park"))
        session.flush()
        session.refresh(shelf, ["book_count", "eager"])
        assert (shelf.book_count, len(shelf.eager), shelf.moves) == (4, 4, 2)
        session.expire(shelf, ["book_count"])
        shelf.apply_event(ShelfMoved())
        assert (shelf.book_count, shelf.moves) == (4, 3)
        session.commit()
    with Session(shelves) as session:
        assert session.get_one(Shelf, "s-1").moves == 3


def test_a_relationship_with_another_side_is_written(shelves: Engine) -> None:
    with Session(shelves) as session:
        shelf = session.get_one(Shelf, "s-1")
        shelf.books.append(Book(id=3, title="Persuasion"))
        shelf.apply_event(ShelfMoved())
        session.commit()
        other = Shelf(id="s-2")
        other.apply_event(ShelfMoved())
        session.add(other)
        session.get_one(Book, 1).shelf = other
        session.commit()
    with Session(shelves) as session:
        assert [(book.id, book.shelf_id) for book in session.scalars(select(Book).order_by(Book.id))] == [
            (1, "s-2"),
            (2, "s-1"),
            (3, "s-1"),
        ]


def test_a_change_of_a_relationship_that_nobody_would_write_is_refused(shelves: Engine) -> None:
    with Session(shelves) as session:
        shelf = session.get_one(Shelf, "s-1")
        assert ([book.id for book in shelf.alone], shelf.one_alone) == ([1, 2], shelf.alone[0])
        changes: list[Callable[[], object]] = [
            lambda: shelf.alone.append(Book(id=9, title="x")),
            lambda: shelf.alone.remove(shelf.alone[0]),
            lambda: setattr(shelf, "alone", [Book(id=9, title="x")]),
            lambda: setattr(shelf, "one_alone", Book(id=9, title="x")),
        ]
        for change in changes:
            with pytest.raises(OneSidedRelationshipError, match=r"Shelf\.(one_)?alone .*back_populates") as caught:
                change()
            assert caught.value.aggregate_class == "Shelf"
        session.commit()
        assert [book.id for book in shelf.alone] == [1, 2]


def test_everything_can_be_queried(shelves: Engine) -> None:
    conditions: list[Any] = [
        Shelf.key == "s-1",
        Shelf.book_count == 2,  # type: ignore[attr-defined]
        Shelf.titles == "Emma",
        Shelf.books.any(Book.title == "Emma"),
        Shelf.stand == Stand("s-1", 1),
        ~Shelf.is_used,
    ]
    with Session(shelves) as session:
        for condition in conditions:
            assert session.scalars(select(Shelf).where(condition)).one().moves == 1


def test_inspection_lists_what_is_mapped_and_no_state(shelves: Engine) -> None:
    with Session(shelves) as session:
        shelf = session.get_one(Shelf, "s-1")
        attributes = inspect(shelf).attrs
        mapped = {"id", "version", "key", "stand", "books", "alone", "one_alone", "eager", "labels", "book_count"}
        assert {each.key for each in attributes} == mapped
        assert not attributes.version.history.has_changes()
        assert not hasattr(attributes, "moves")


def test_arguments_of_the_mapper_are_taken() -> None:
    mapper = inspect(Shelf)
    assert (mapper.eager_defaults, mapper.confirm_deleted_rows, mapper.batch) == (True, False, False)


def test_arguments_of_the_mapper_come_from_bases_and_mixins() -> None:
    class Own(DeclarativeBase):
        __mapper_args__ = {"confirm_deleted_rows": False}

    class Eager:
        @declared_attr.directive
        def __mapper_args__(cls) -> dict[str, Any]:
            return {"eager_defaults": cls.__name__ == "Box"}  # type: ignore[attr-defined]

    class Plain(AggregateRoot, Own):
        pass

    class Box(Eager, AggregateRoot, Own):
        pass

    class BigBox(Box):
        __mapper_args__ = {"confirm_deleted_rows": False}  # pyright: ignore[reportAssignmentType]

    assert not inspect(Plain).confirm_deleted_rows
    assert inspect(Box).eager_defaults
    assert not inspect(BigBox).confirm_deleted_rows
    assert inspect(BigBox).concrete


@pytest.mark.parametrize("name", ["primary_key", "version_id_col", "polymorphic_on", "polymorphic_identity", "include_properties"])
def test_arguments_of_the_mapper_that_the_library_sets_are_refused(name: str) -> None:
    class Own(DeclarativeBase):
        pass

    with pytest.raises(DeclarationError, match=rf"Box\.__mapper_args__ sets {name}"):
        type("Box", (AggregateRoot, Own), {"__module__": __name__, "__mapper_args__": {name: "x"}})


class TestWhatHasATable:
    """Declarations that would give an aggregate a table or columns of its own."""

    @pytest.mark.parametrize(
        ("name", "value"), [("__tablename__", "boxes"), ("__table_args__", {"schema": "x"}), ("__table__", Table("t", MetaData()))]
    )
    def test_names_of_tables_are_refused(self, name: str, value: object) -> None:
        class Own(DeclarativeBase):
            pass

        with pytest.raises(DeclarationError, match=rf"Box\.{name}: an aggregate has no table of its own"):
            type("Box", (AggregateRoot, Own), {"__module__": __name__, name: value})

    def test_a_base_that_names_tables_is_taken(self) -> None:
        class Own(DeclarativeBase):
            __table_args__ = {"schema": "x"}

            @declared_attr.directive
            def __tablename__(cls) -> str:
                return cls.__name__.lower()

        class Box(AggregateRoot, Own):
            pass

        assert Box(id="a").version == 0
        assert set(Own.metadata.tables) >= {"events"}

    def test_columns_of_a_base_are_refused_with_another_base(self) -> None:
        class Own(DeclarativeBase):
            created: Mapped[int] = mapped_column()

        with pytest.raises(DeclarationError, match=r"Own\.created.*another base with the same metadata.*Own\.metadata"):
            type("Box", (AggregateRoot, Own), {"__module__": __name__})

    @pytest.mark.parametrize("column", [mapped_column(ForeignKey("x.id")), SchemaColumn(Integer)])
    def test_columns_of_a_mixin_are_refused(self, column: object) -> None:
        class Own(DeclarativeBase):
            pass

        mixin = type("Mixin", (), {"__module__": __name__, "created": column})
        with pytest.raises(DeclarationError, match=r"Box\.created \(from Mixin\) is a column"):
            type("Box", (mixin, AggregateRoot, Own), {"__module__": __name__})

    def test_an_imperative_mapping_to_a_table_is_refused(self) -> None:
        mapper_registry = registry()
        table = Table("boxes", mapper_registry.metadata, SchemaColumn("id", Integer, primary_key=True))
        kind: Any = type("Box", (AggregateRoot,), {"__module__": __name__})
        with pytest.raises(DeclarationError, match=r"Box is mapped to boxes, but an aggregate is mapped to its own events"):
            mapper_registry.map_imperatively(kind, table)

    def test_a_pydantic_model_is_refused(self) -> None:
        with pytest.raises(
            DeclarationError, match=r"Box is a Pydantic or SQLModel class.*declarative base that shares the metadata"
        ):

            class Box(AggregateRoot, BaseModel):  # type: ignore[misc, unused-ignore]
                pass


def test_sqlmodel_tables_are_refused() -> None:
    sqlmodel = pytest.importorskip("sqlmodel")
    with pytest.raises(DeclarationError, match=r"metadata = SQLModel\.metadata"):

        class Mission(AggregateRoot, sqlmodel.SQLModel, table=True):  # type: ignore[misc, name-defined, call-arg, unused-ignore]
            goal: str = ""


@pytest.mark.parametrize("name", ["id", "version", "goal"])
def test_validators_that_would_never_be_called_are_refused(name: str) -> None:
    valid = validates(name)(lambda _aggregate, _key, value: value)
    with pytest.raises(DeclarationError, match=rf"Valid: @validates\('{name}'\) would never be called"):
        type("Valid", (AggregateRoot, registry().generate_base()), {"__annotations__": {"goal": str}, "valid": valid})


@pytest.mark.parametrize("kind", [ConcreteBase, AbstractConcreteBase])
def test_queries_over_the_tables_of_subclasses_are_refused(kind: Any) -> None:
    with pytest.raises(DeclarationError, match=r"Rocket inherits from .*class Rocket\(AggregateRoot, Base\)"):

        class Rocket(AggregateRoot, kind, Base):  # type: ignore[misc]
            pass


def test_a_registry_needs_the_metadata() -> None:
    with pytest.raises(DeclarationError, match=r"metadata = mapper_registry\.metadata in Box"):

        @registry().mapped
        class Box(AggregateRoot):
            pass


@pytest.mark.parametrize("style", ["decorator", "base", "plain"])
def test_dataclasses_leave_state_to_events(style: str) -> None:
    mapper_registry = registry()
    body: dict[str, Any] = {
        "__module__": __name__,
        "__annotations__": {"n": "int", "tags": "list[str]"},
        "n": 0,
        "tags": dataclasses.field(default_factory=list),
    }
    kind: Any
    if style == "decorator":
        kind = mapper_registry.mapped_as_dataclass(type("Box", (AggregateRoot,), {**body, "metadata": mapper_registry.metadata}))
    elif style == "base":

        class DataBase(MappedAsDataclass, DeclarativeBase):
            pass

        kind = type("Box", (AggregateRoot, DataBase), body)
    else:

        class Own(DeclarativeBase):
            pass

        kind = type("Box", (AggregateRoot, Own), body)
    one, other = kind(id="a"), kind(id="b")
    assert (one.n, one.tags, one.version) == (0, [], 0)
    assert one.tags is not other.tags
    with pytest.raises(TypeError):
        kind(n=1)


def test_an_abstract_base_class_with_a_common_metaclass() -> None:
    class Meta(abc.ABCMeta, type(DeclarativeBase)):  # type: ignore[misc]
        pass

    class HasStatus(abc.ABC):
        @property
        @abc.abstractmethod
        def status(self) -> str: ...

    class Own(DeclarativeBase):
        pass

    box: Any = Meta(
        "Box", (AggregateRoot, HasStatus, Own), {"__module__": __name__, "__annotations__": {"status": "str"}, "status": "new"}
    )
    assert box(id="a").status == "new"


@pytest.mark.parametrize("tool", [inspect, dir])
def test_tools_may_read_everything_of_classes_that_are_not_mapped(tool: Callable[[Any], object]) -> None:
    class Unmapped(AggregateRoot):
        __abstract__ = True

    class Half(AggregateRoot, Base):
        __abstract__ = True

    tables = set(Base.metadata.tables)
    for klass in (AggregateRoot, Unmapped, Half):
        assert tool is inspect or tool(klass)
        assert not hasattr(klass, "__table__")
        assert not hasattr(klass, "__mapper_args__")
    assert set(Base.metadata.tables) == tables


def test_state_and_events_before_the_constructor_say_what_to_call() -> None:
    class Own(DeclarativeBase):
        pass

    class Early(AggregateRoot, Own):
        moves: int = 0

        def __init__(self, act: Callable[[Any], object]) -> None:
            act(self)
            super().__init__(id="a")

        @applies(ShelfMoved)
        def _moved(self, event: ShelfMoved) -> None:
            self.moves += 1

    for act in (lambda early: early.moves, lambda early: early.apply_event(ShelfMoved())):
        with pytest.raises(UninitializedAggregateError, match=r"Early\.__init__ must call super\(\)\.__init__\(\)") as caught:
            Early(act)
        assert caught.value.aggregate_class == "Early"
    with pytest.raises(AggregateStateError):
        Early(lambda early: setattr(early, "moves", 1))
    assert Early(lambda early: hasattr(early, "moves")).moves == 0
