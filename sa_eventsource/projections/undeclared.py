"""Checkpoints under names that the code does not declare: of another process that is still there, or of nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from sa_eventsource.checkpoints import any_bind, read_checkpoints
from sa_eventsource.consumers import READER, consumers_on
from sa_eventsource.mapping import statement_clock

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables

_LONG = 86_400.0
"""Seconds for which a checkpoint must have stood still until it is a problem: a deployment is over by then."""


@dataclass(frozen=True, slots=True)
class UndeclaredCheckpoint:
    """What is kept for something that follows the log, or did, and that the code does not declare.

    Attributes:
        name: The name that it is kept under, without the version.
        version: The version of the read model; 1 for others.
        processed_at: When it last advanced, in UTC; None if never.
        seconds: How long ago that was; None if never.
    """

    name: str
    version: int
    processed_at: datetime | None
    seconds: float | None

    @property
    def is_problem(self) -> bool:
        """Whether it has stood still for more than a day, or never advanced."""
        return self.seconds is None or self.seconds > _LONG

    def __str__(self) -> str:
        """Say what there is, and what to do about it."""
        named = self.name if self.version == 1 else f"{self.name} version {self.version}"
        last = "never advanced" if self.processed_at is None else f"last advanced on {self.processed_at:%Y-%m-%d %H:%M}"
        to_retire = f"{self.name}{'' if self.version == 1 else f' {self.version}'}"
        return (
            f"{named} has a checkpoint, {last}, and nothing here declares it: if no other process does, retire it "
            f"(sa-eventsource retire MODULE:BASE {to_retire})"
        )


def undeclared_checkpoints(session: Session, tables: EventSourceTables) -> list[UndeclaredCheckpoint]:
    """List the checkpoints under names that the code does not declare, by name. Uses a transaction of its own.

    Readers are left out, which nothing declares.

    Args:
        session: A session without a transaction in progress.
        tables: The tables of the log.
    """
    declared = {*tables.read_models, *(consumer.name for consumer in consumers_on(tables))}
    connection = session.connection(bind_arguments=any_bind(tables))
    now: datetime = connection.execute(select(statement_clock())).scalar_one()
    last: dict[str, datetime | None] = {}
    for follower, checkpoint in read_checkpoints(connection, tables):
        name = follower.partition("#")[0]  # without its shard
        if name not in declared and checkpoint.declaration != READER:
            moments = [each for each in (last.get(name), checkpoint.processed_at) if each is not None]
            last[name] = max(moments, default=None)
    session.rollback()
    return [_undeclared(name, processed_at, now) for name, processed_at in sorted(last.items())]


def _undeclared(stored: str, processed_at: datetime | None, now: datetime) -> UndeclaredCheckpoint:
    name, _, version = stored.partition("@")
    seconds = None if processed_at is None else (now - processed_at).total_seconds()
    return UndeclaredCheckpoint(name, int(version or 1), processed_at, seconds)
