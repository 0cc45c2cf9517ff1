"""A stream is known by its aggregate's type and its id: models that name their aggregates, and rows that events remove."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    DeclarationError,
    DomainEvent,
    EventReplayer,
    EventStore,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    fold,
    handles,
    load_for_update,
    map_from_event,
    upcast,
    verify,
)
from sa_eventsource.read_models import count
from tests.bank import AnyAccount, Closed, Opened
from tests.committing import commit_events, commit_stored
from tests.shop import AnyTill, Sold


class HandedOver(DomainEvent):
    """It has another owner; had another shape once."""

    __event_type__ = "sharing.HandedOver"
    __event_version__ = 2
    owner: str


@upcast(HandedOver, from_version=1)
def _handed_over(payload: dict[str, Any]) -> dict[str, Any]:
    return {"owner": payload["to"]}


class Base(DeclarativeBase):
    """Base of a bank that numbers its accounts and its safes each by themselves."""


class Account(AnyAccount, Base):
    """Has number 1, as a safe has."""

    __aggregate_type__ = "sharing.Account"
    __ignored_events__ = (HandedOver,)


class Safe(AnyAccount, Base):
    """Has number 1, as an account has."""

    __aggregate_type__ = "sharing.Safe"
    __ignored_events__ = (HandedOver,)


class _Owners:
    __aggregates__: ClassVar[tuple[type[Any], ...] | None] = (Account,)
    __removed_by__: ClassVar[tuple[type[DomainEvent], ...]] = (Closed,)

    id: Mapped[str]
    owner: Mapped[str] = map_from_event(Opened, HandedOver)
    owners: Mapped[int] = map_from_event(Opened, HandedOver, reduce=count())


class Owners(_Owners, ReadModel, Base):
    """Behind the log."""


class OwnersAtOnce(_Owners, ReadModel, Base):
    """With the events."""

    __tablename__ = "sharing_owners"
    __consistency__ = "strong"


class ByType(ReadModel, Base):
    """A row for each stream."""

    __removed_by__ = (Closed,)

    kind: Mapped[str] = map_from_event(key=True, source="aggregate_type")
    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    owner: Mapped[str] = map_from_event(Opened, HandedOver)


class _Handled:
    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(default="")

    @classmethod
    @handles(Opened)
    def _opened(cls, recorded: RecordedEvent[Opened], session: Session) -> None:
        load_for_update(session, cls, recorded.aggregate_id).owner = recorded.event.owner


class Handled(_Handled, ReadModel, Base):
    """By a handler."""

    __tablename__ = "sharing_handled"
    __aggregates__ = (Account,)


class HandledAtOnce(_Handled, ReadModel, Base):
    """By a handler, with the events."""

    __tablename__ = "sharing_handled_at_once"
    __consistency__ = "strong"
    __aggregates__ = (Account,)


def owners(engine: Engine, model: type[Any]) -> dict[str, str]:
    with Session(engine) as session:
        return {row.id: row.owner for row in session.scalars(select(model))}


def _happenings(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    commit_events(engine, Account, "1", Opened(owner="Ann"))
    commit_events(engine, Safe, "1", Opened(owner="Cyd"), HandedOver(owner="Dan"))
    commit_events(engine, Safe, "2", Opened(owner="Fay"))
    commit_events(engine, Account, "3", Opened(owner="Eve"))
    commit_events(engine, Safe, "3", Closed())
    commit_events(engine, Account, "4", Opened(owner="Bob"), Closed())


RIGHT = {"1": "Ann", "3": "Eve"}


@pytest.mark.slow_on_sqlite
@pytest.mark.parametrize("model", [Owners, OwnersAtOnce, Handled, HandledAtOnce])
def test_only_events_of_the_named_aggregates_are_taken(engine: Engine, model: type[Any]) -> None:
    _happenings(engine)
    ReadModelManager(engine, Base).catch_up()
    right = RIGHT | ({"4": "Bob"} if issubclass(model, _Handled) else {})
    assert owners(engine, model) == right
    EventReplayer(engine, Base).rebuild(model)
    assert owners(engine, model) == right
    if not issubclass(model, _Handled):
        EventReplayer(engine, Base).rebuild_rows(model, ["1", "2", "3"])
        with Session(engine) as session:
            folded = fold(model, EventStore(session, Base).events.all())
        assert owners(engine, model) == right == {key: row["owner"] for key, row in folded.items()}
        assert folded["1"]["owners"] == 1
    assert ReadModelManager(engine, Base).status(model)[0].lag_events == 0
    assert verify(engine, Base).is_sound


def test_older_events_of_others_are_left_out_too(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    commit_stored(engine, Account, "1", "sharing.HandedOver", {"to": "Ann"})
    commit_stored(engine, Safe, "1", "sharing.HandedOver", {"to": "Bob"})
    ReadModelManager(engine, Base).catch_up(Owners)
    assert owners(engine, Owners) == {"1": "Ann"}


def test_the_type_may_be_in_the_key(engine: Engine) -> None:
    _happenings(engine)
    ReadModelManager(engine, Base).catch_up(ByType)
    with Session(engine) as session:
        rows = {(row.kind.removeprefix("sharing."), row.id): row.owner for row in session.scalars(select(ByType))}
    assert rows == {("Account", "1"): "Ann", ("Safe", "1"): "Dan", ("Safe", "2"): "Fay", ("Account", "3"): "Eve"}


class _Field:
    id: Mapped[str]
    owner: Mapped[str] = map_from_event(Opened)


def test_rows_that_events_remove_are_of_one_stream_each() -> None:
    with pytest.raises(DeclarationError, match=r"events of Account and Safe, which may share an id.*__aggregates__ = \(Account,\)"):

        class Both(_Field, ReadModel, Base):
            __removed_by__ = (Closed,)

    with pytest.raises(DeclarationError, match="may share an id"):

        class Named(_Field, ReadModel, Base):
            __aggregates__ = (Account, Safe)
            __removed_by__ = (Closed,)


def test_an_aggregate_that_would_share_such_rows_is_refused_when_it_is_declared() -> None:
    class Own(DeclarativeBase): ...

    class First(AnyAccount, Own): ...

    class Rows(_Field, ReadModel, Own):
        __removed_by__ = (Closed,)

    with pytest.raises(DeclarationError, match=r"Rows has events of First and Second.*__aggregates__ = \(First,\)"):

        class Second(AnyAccount, Own): ...

    tables = Rows.__read_model_definition__.tables
    assert list(tables.aggregate_classes) == ["First"]

    class Third(AnyTill, Own): ...


class OtherBase(DeclarativeBase):
    """Another log."""


class Elsewhere(AnyAccount, OtherBase):
    """On it."""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Account, r"__aggregates__ = \(Account,\)"),
        ((), "is empty"),
        (("Account",), r"__aggregates__ = \(Order,\)"),
        ((Opened,), r"__aggregates__ = \(Order,\)"),
        ((Elsewhere,), "not in the log"),
    ],
)
def test_what_names_no_aggregate_is_refused(given: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        type("Wrong", (_Field, ReadModel, Base), {"__module__": __name__, "__aggregates__": given})


def test_an_event_that_the_named_aggregates_do_not_have_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"takes Sold, which no aggregate .* has: Account"):

        class Sales(_Field, ReadModel, Base):
            __aggregates__ = (Account,)
            what: Mapped[str] = map_from_event(Sold)


def test_other_aggregates_are_another_declaration() -> None:
    digests = set()
    for named in (None, "One", "Two"):

        class Own(DeclarativeBase): ...

        class One(AnyAccount, Own): ...

        class Two(AnyAccount, Own): ...

        class Rows(_Field, ReadModel, Own):
            __aggregates__ = None if named is None else (One if named == "One" else Two,)

        digests.add(Rows.__read_model_definition__.fingerprint)
    assert len(digests) == 3
