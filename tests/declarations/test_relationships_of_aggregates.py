"""A change of an aggregate's relationship is written by its other side, or refused: it is never lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Column, Engine, String, Table, event, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, backref, configure_mappers, foreign, mapped_column, relationship

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, OneSidedRelationshipError, event_record

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Begun(DomainEvent):
    """Something began."""

    __event_type__ = "relationships.Begun"


def begun(aggregate_class: Any, aggregate_id: str) -> Any:
    aggregate = aggregate_class(id=aggregate_id)
    aggregate.apply_event(Begun())
    return aggregate


def link(base: Any, name: str) -> Table:
    return Table(name, base.metadata, Column("left", String, primary_key=True), Column("right", String, primary_key=True))


def joined(table: Table, left: Callable[[], Any], right: Callable[[], Any], *, turned: bool = False) -> dict[str, Any]:
    """Say how a link table joins two classes, as seen from the left one, or turned round."""
    joins = [lambda: foreign(table.c.left) == left().id, lambda: foreign(table.c.right) == right().id]
    first, second = reversed(joins) if turned else joins
    return {"secondary": table, "primaryjoin": first, "secondaryjoin": second}


@pytest.fixture
def base() -> Iterator[Any]:
    """A declarative base of the test's own; mappers that cannot be configured must not be there for other tests."""

    class Base(DeclarativeBase):
        pass

    yield Base
    Base.registry.dispose()


@pytest.mark.parametrize("of", ["back_populates", "backref", "backref of what comes later"])
@pytest.mark.parametrize("side", [0, 1], ids=["left", "right"])
def test_many_to_many_between_two_aggregates_is_refused_from_both_sides(
    base: Any, sqlite_engine: Engine, of: str, side: int
) -> None:
    engine = sqlite_engine
    table = link(base, "enrolments")

    class Course(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = f"relationships.Course {of} {side}"
        __ignored_events__ = (Begun,)

    if of == "backref of what comes later":
        configure_mappers()

    class Student(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = f"relationships.Student {of} {side}"
        __ignored_events__ = (Begun,)

    forth = joined(table, lambda: Course, lambda: Student)
    back = joined(table, lambda: Course, lambda: Student, turned=True)
    classes: list[Any] = [Course, Student]
    if of == "back_populates":
        classes[0].students = relationship(Student, **forth, back_populates="courses")
        classes[1].courses = relationship(Course, **back, back_populates="students")
    elif of == "backref":
        classes[0].students = relationship(Student, **forth, backref="courses")
    else:
        classes[1].courses = relationship(Course, **back, backref=backref("students"))
    base.metadata.create_all(engine)
    with Session(engine) as session:
        pair = [begun(Course, "c"), begun(Student, "s")]
        session.add_all(pair)
        session.commit()
        session.execute(table.insert().values(left="c", right="s"))
        session.expire_all()
        keys = ("students", "courses")
        assert getattr(pair[side], keys[side]) == [pair[1 - side]]
        stranger = begun(classes[1 - side], "stranger")
        collection = getattr(pair[side], keys[side])
        changes: list[Callable[[], object]] = [
            lambda: collection.append(stranger),
            lambda: collection.extend([stranger]),
            lambda: collection.remove(pair[1 - side]),
            lambda: setattr(pair[side], keys[side], [stranger]),
        ]
        for change in changes:
            with pytest.raises(OneSidedRelationshipError, match=r"is an aggregate too.*viewonly=True") as caught:
                change()
            error = caught.value
            assert (error.aggregate_class, error.relationship) == (classes[side].__name__, keys[side])
            assert error.other_aggregate == classes[1 - side].__name__
        assert stranger not in session
        session.commit()
        assert session.execute(select(table)).all() == [("c", "s")]


@pytest.mark.parametrize("of", ["back_populates", "backref", "no other side"])
def test_so_it_is_between_aggregates_of_one_class(base: Any, of: str) -> None:
    table = link(base, "friendships")

    class Person(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = f"relationships.Person {of}"
        __ignored_events__ = (Begun,)

    person: Any = Person
    more: dict[str, Any] = {"back_populates": {"back_populates": "befriended"}, "backref": {"backref": "befriended"}}.get(of, {})
    person.friends = relationship(Person, **joined(table, lambda: Person, lambda: Person), **more)
    if of == "back_populates":
        turned = joined(table, lambda: Person, lambda: Person, turned=True)
        person.befriended = relationship(Person, **turned, back_populates="friends")
    for key in ("friends",) if of == "no other side" else ("friends", "befriended"):
        one, other = Person(), Person()
        with pytest.raises(OneSidedRelationshipError, match=f"Person.{key} .*Person, on the other side"):
            getattr(one, key).append(other)


@pytest.mark.parametrize("other_side", [{"viewonly": True}, {}], ids=["viewonly", "not kept in step"])
def test_a_change_that_its_other_side_does_not_learn_of_is_refused(base: Any, other_side: dict[str, Any]) -> None:
    class Crate(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = f"relationships.Crate {other_side}"
        __ignored_events__ = (Begun,)

    class Bottle(base):  # type: ignore[misc]
        __tablename__ = "bottles"
        id: Mapped[int] = mapped_column(primary_key=True)
        crate_id: Mapped[str]

    crate: Any = Crate
    bottle: Any = Bottle
    here: dict[str, Any] = {} if other_side else {"sync_backref": False}
    condition = lambda: foreign(bottle.crate_id) == crate.id  # noqa: E731
    crate.bottles = relationship(Bottle, primaryjoin=condition, back_populates="crate", **here)
    bottle.crate = relationship(Crate, primaryjoin=condition, back_populates="bottles", **other_side)
    one: Any = Crate()
    with pytest.raises(OneSidedRelationshipError, match=r"Crate\.bottles .*viewonly on neither") as caught:
        one.bottles.append(Bottle())
    assert caught.value.other_aggregate is None


@pytest.mark.parametrize("by", ["back_populates", "backref here", "backref there"])
@pytest.mark.parametrize("heard", [False, True])
def test_many_to_many_with_an_entity_is_written_from_both_sides(base: Any, engine: Engine, by: str, *, heard: bool) -> None:
    table = link(base, "taggings")

    class Post(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = f"relationships.Post {by} {heard} {engine.dialect.name}"
        __ignored_events__ = (Begun,)

    class Tag(base):  # type: ignore[misc]
        __tablename__ = "tags"
        id: Mapped[str] = mapped_column(primary_key=True)

    post: Any = Post
    tag: Any = Tag
    forth = joined(table, lambda: post, lambda: tag)
    back = joined(table, lambda: post, lambda: tag, turned=True)
    if by != "backref there":
        named: dict[str, Any] = {"backref": "posts"} if by == "backref here" else {"back_populates": "posts"}
        post.tags = relationship(Tag, **forth, **named)
    if by != "backref here":
        named = {"backref": "tags"} if by == "backref there" else {"back_populates": "tags"}
        tag.posts = relationship(Post, **back, **named)
    base.metadata.create_all(engine)
    with Session(engine) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        first, second = begun(Post, "p-1"), begun(Post, "p-2")
        red: Any = Tag(id="red")
        first.tags.append(red)
        session.add_all([first, second])
        session.commit()
        red.posts.append(second)
        session.commit()
        assert sorted(session.execute(select(table)).all()) == [("p-1", "red"), ("p-2", "red")]
        first.tags.remove(red)
        session.commit()
        assert session.execute(select(table)).all() == [("p-2", "red")]
        assert ([each.id for each in second.tags], first.version) == (["red"], 1)


LATE: dict[str, Callable[[Any, Any, Any, Any, Table], None]] = {
    "one to many": lambda notes, of_book, _book, _note, _table: notes(relationship(**of_book)),
    "many to many": lambda notes, _of_book, book, note, table: notes(
        relationship(note, **joined(table, lambda: book, lambda: note))
    ),
    "aggregate to aggregate": lambda notes, _of_book, book, _note, table: notes(
        relationship(book, **joined(table, lambda: book, lambda: book))
    ),
}


@pytest.mark.parametrize("by", ["assignment", "add_property"])
@pytest.mark.parametrize("add", LATE.values(), ids=LATE.keys())
def test_a_relationship_that_is_added_when_mappers_are_configured_is_guarded_too(
    base: Any, request: pytest.FixtureRequest, by: str, add: Callable[[Any, Any, Any, Any, Table], None]
) -> None:
    class Book(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = f"relationships.Book {request.node.name}"
        __ignored_events__ = (Begun,)

    class Note(base):  # type: ignore[misc]
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        book_id: Mapped[str | None]

    book: Any = Book
    configure_mappers()
    _ = Book()
    condition = lambda: foreign(Note.book_id) == book.id  # noqa: E731
    put = (
        (lambda added: setattr(book, "notes", added))
        if by == "assignment"
        else lambda added: inspect(book).add_property("notes", added)
    )
    add(put, {"argument": Note, "primaryjoin": condition}, book, Note, link(base, "late"))
    one = begun(book, "b-1")
    other = begun(book, "b-2") if inspect(book).relationships["notes"].mapper.class_ is Book else Note(id=1)
    with pytest.raises(OneSidedRelationshipError, match=r"Book\.notes"):
        one.notes.append(other)


def test_a_relationship_added_late_with_another_side_is_written_from_there(base: Any, sqlite_engine: Engine) -> None:
    class Shelf(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = "relationships.Shelf"
        __ignored_events__ = (Begun,)

    class Volume(base):  # type: ignore[misc]
        __tablename__ = "volumes"
        id: Mapped[int] = mapped_column(primary_key=True)
        shelf_id: Mapped[str | None]

    shelf: Any = Shelf
    volume: Any = Volume
    configure_mappers()
    volume.shelf = relationship(Shelf, primaryjoin=lambda: foreign(volume.shelf_id) == shelf.id, backref="volumes")
    base.metadata.create_all(sqlite_engine)
    with Session(sqlite_engine) as session:
        one: Any = begun(Shelf, "s-1")
        session.add(one)
        one.volumes.append(Volume(id=1))
        session.commit()
        assert session.scalars(select(Volume.shelf_id)).all() == ["s-1"]


def test_a_change_that_the_other_side_writes_is_shown_by_a_side_that_would_not(base: Any, sqlite_engine: Engine) -> None:
    class Field(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = "relationships.Field"
        __ignored_events__ = (Begun,)

    class Tree(base):  # type: ignore[misc]
        __tablename__ = "trees"
        id: Mapped[int] = mapped_column(primary_key=True)
        field_id: Mapped[str | None]

    field: Any = Field
    tree: Any = Tree
    condition = lambda: foreign(tree.field_id) == field.id  # noqa: E731
    field.trees = relationship(Tree, primaryjoin=condition)
    tree.field = relationship(Field, primaryjoin=condition, back_populates="trees")
    base.metadata.create_all(sqlite_engine)
    with Session(sqlite_engine) as session:
        one: Any = begun(Field, "f-1")
        session.add(one)
        session.add(tree(id=1, field=one))
        assert [each.id for each in one.trees] == [1]
        session.commit()
        assert session.scalars(select(tree.field_id)).all() == ["f-1"]
        with pytest.raises(OneSidedRelationshipError, match=r"Field\.trees"):
            one.trees.append(tree(id=2))


@pytest.mark.parametrize("column", ["id", "version"])
@pytest.mark.parametrize("side", ["entity", "aggregate", "both"])
def test_a_relationship_that_would_write_an_aggregate_s_id_or_version_is_refused(
    base: Any, request: pytest.FixtureRequest, column: str, side: str
) -> None:
    class Profile(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = f"relationships.Profile {request.node.name}"
        __ignored_events__ = (Begun,)

    class User(base):  # type: ignore[misc]
        __tablename__ = "users"
        id: Mapped[str] = mapped_column(primary_key=True)

    profile: Any = Profile
    user: Any = User
    condition = lambda: foreign(getattr(profile, column)) == user.id  # noqa: E731
    there: dict[str, Any] = {"back_populates": "user"} if side == "both" else {}
    here: dict[str, Any] = {"back_populates": "profile"} if side == "both" else {}
    if side != "aggregate":
        user.profile = relationship(Profile, primaryjoin=condition, uselist=False, **there)
    if side != "entity":
        profile.user = relationship(User, primaryjoin=condition, **here)
    with pytest.raises(DeclarationError, match=r"would write the id or the version of the aggregate Profile"):
        base.registry.configure()


def test_an_entity_may_have_the_id_of_an_aggregate(base: Any, sqlite_engine: Engine) -> None:
    class Login(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = "relationships.Login"
        __ignored_events__ = (Begun,)

    class Settings(base):  # type: ignore[misc]
        __tablename__ = "settings"
        id: Mapped[str] = mapped_column(primary_key=True)

    settings: Any = Settings
    settings.login = relationship(Login, primaryjoin=lambda: foreign(settings.id) == Login.id)
    base.metadata.create_all(sqlite_engine)
    with Session(sqlite_engine) as session:
        session.add(settings(login=begun(Login, "l-1")))
        session.commit()
        assert session.scalars(select(settings.id)).all() == ["l-1"]


def test_a_link_table_in_which_events_lie_is_refused(base: Any) -> None:
    class Ship(AggregateRoot, base):  # type: ignore[misc]
        __aggregate_type__ = "relationships.Ship"
        __ignored_events__ = (Begun,)

    class Port(base):  # type: ignore[misc]
        __tablename__ = "ports"
        id: Mapped[str] = mapped_column(primary_key=True)

    events: Any = inspect(event_record(base)).local_table
    port: Any = Port
    port.ships = relationship(
        Ship,
        secondary=events,
        primaryjoin=lambda: foreign(events.c.event_type) == port.id,
        secondaryjoin=lambda: foreign(events.c.aggregate_id) == Ship.id,
    )
    with pytest.raises(DeclarationError, match=r"Port\.ships would write rows of EventRecord.*viewonly=True"):
        base.registry.configure()
