"""The pair: an account kept as events, and its twin, an ordinary entity with a version column.

Both are changed by marks. State is the tuple of all marks, and their number, so that each change can be told from all others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import field_validator
from sqlalchemy import Dialect, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, object_session, relationship
from sqlalchemy.types import TypeDecorator

from sa_eventsource import AggregateRoot, DomainEvent, applies


class ApplicationError(Exception):
    """An error of the application's own."""


class UnreadableError(ValueError):
    """What the twin's column type raises for a value that it cannot read; for an aggregate, an event that cannot be decoded."""


class RefusedError(Exception):
    """The twin's application refuses what an aggregate refuses; see the table of differences."""


REFUSED = "refused"
"""A mark that the handler of the event, or the validator of the twin's attribute, does not accept."""

STATE = ("marks", "total", "version")
"""The attributes that follow from the marks."""

_unreadable: set[str] = set()
_poisoned: set[str] = set()


def smudge(mark: str, *, poison: bool) -> None:
    """Make a mark unreadable from now on, or have the application's code raise where it is read."""
    (_poisoned if poison else _unreadable).add(mark)


def mend() -> None:
    """Make all marks readable again."""
    _unreadable.clear()
    _poisoned.clear()


class AggregateBase(DeclarativeBase):
    """The base of the aggregates."""


class TwinBase(DeclarativeBase):
    """The base of the twins."""


class Marked(DomainEvent):
    """A mark was made."""

    __event_type__ = "twin.Marked"
    mark: str

    @field_validator("mark")
    @classmethod
    def _readable(cls, mark: str) -> str:
        if mark in _unreadable:
            raise ValueError(f"{mark} cannot be read")
        return mark


class AnyAccount(AggregateRoot, AggregateBase):
    """An account kept as events."""

    __abstract__ = True

    marks: tuple[str, ...] = ()
    total: int = 0

    def change(self, mark: str) -> None:
        """Make a mark."""
        self.apply_event(Marked(mark=mark))

    @applies(Marked)
    def _marked(self, event: Marked) -> None:
        self.total += 1
        if event.mark.startswith(REFUSED) or event.mark in _poisoned:
            raise ApplicationError(event.mark)
        self.marks = (*self.marks, event.mark)


class Account(AnyAccount):
    """Without snapshots."""

    __aggregate_type__ = "twin.Account"


class SnapshotAccount(AnyAccount):
    """With a snapshot at every second event."""

    __aggregate_type__ = "twin.SnapshotAccount"
    __snapshot_frequency__ = 2


class Holder(AggregateBase):
    """An ordinary entity, which deletes an account that it does not hold any more."""

    __tablename__ = "twin_account_holders"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str | None]
    snapshot_account_id: Mapped[str | None]
    account: Mapped[Account | None] = relationship(
        primaryjoin=lambda: foreign(Holder.account_id) == Account.id, cascade="all, delete-orphan", single_parent=True
    )
    snapshot_account: Mapped[SnapshotAccount | None] = relationship(
        primaryjoin=lambda: foreign(Holder.snapshot_account_id) == SnapshotAccount.id,
        cascade="all, delete-orphan",
        single_parent=True,
    )


class _Marks(TypeDecorator[tuple[str, ...]]):
    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> tuple[str, ...] | None:
        marks = tuple(json.loads(value))
        for mark in marks:
            if mark in _unreadable:
                raise UnreadableError(f"{mark} cannot be read")
            if mark in _poisoned:
                raise ApplicationError(mark)
        return marks


def refuse_late_change(instance: Any) -> None:
    """Refuse a change that the session's transaction could not write any more."""
    session = object_session(instance)
    if session is not None and not session.is_active:
        raise RefusedError("a change that no flush would write")


def lose_state(instance: Any) -> None:
    """Have the state loaded that a change has left half done, as an aggregate's is; with changes, it stays as it was before."""
    session = object_session(instance)
    if session is None or instance in session.new:
        return
    if session.is_modified(instance):
        session.connection()  # on which the state of an aggregate is read to which its changes are added
    else:
        session.expire(instance, STATE)


class Twin(TwinBase):
    """An account as an ordinary row. Its version counts marks, as an aggregate's counts events."""

    __tablename__ = "twin_accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    marks: Mapped[tuple[str, ...]] = mapped_column(_Marks)
    total: Mapped[int]

    __mapper_args__ = {"version_id_col": version, "version_id_generator": False}

    def __init__(self, *, id: str) -> None:  # noqa: A002 - the attribute's name
        super().__init__(id=id, version=0, marks=(), total=0)

    def change(self, mark: str) -> None:
        """Make a mark."""
        marks = (*self.marks, mark)
        refuse_late_change(self)
        if mark.startswith(REFUSED) or mark in _poisoned:
            lose_state(self)
            raise ApplicationError(mark)
        self.marks = marks
        self.total += 1
        self.version += 1


class TwinHolder(TwinBase):
    """A holder of a twin."""

    __tablename__ = "twin_twin_holders"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str | None]
    account: Mapped[Twin | None] = relationship(
        primaryjoin=lambda: foreign(TwinHolder.account_id) == Twin.id, cascade="all, delete-orphan", single_parent=True
    )


@contextmanager
def readable() -> Iterator[None]:
    """Have all marks readable for the block, and those that were not, not any more after it."""
    unreadable, poisoned = set(_unreadable), set(_poisoned)
    mend()
    try:
        yield
    finally:
        _unreadable.update(unreadable)
        _poisoned.update(poisoned)
