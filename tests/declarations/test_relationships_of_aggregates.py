"""A change of an aggregate's relationship is written by its other side, or refused: it is never lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Column, Engine, String, Table, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, backref, configure_mappers, foreign, mapped_column, relationship

from sa_eventsource import AggregateRoot, DomainEvent, OneSidedRelationshipError

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable


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
def base() -> Any:
    """A declarative base of the test's own."""

    class Base(DeclarativeBase):
        pass

    return Base


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
