"""A transaction that sees the past appends nothing of somebody who was forgotten; run again, it says why."""

from __future__ import annotations

from typing import Annotated

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    EventStore,
    Personal,
    SubjectForgottenError,
    applies,
    forget,
)
from sa_eventsource.session.retry import retry_on_conflict
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Wrote(DomainEvent):
    __event_type__ = "forgetting_at_repeatable_read.Wrote"

    note: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]


class Diary(AggregateRoot, Base):
    __aggregate_type__ = "forgetting_at_repeatable_read.Diary"
    note: str = ""

    @applies(Wrote)
    def _wrote(self, event: Wrote) -> None:
        self.note = event.note


@pytest.mark.parametrize("in_savepoint", [False, True])
def test_whoever_is_forgotten_meanwhile_is_said_to_be_when_it_is_run_again(postgres_engine: Engine, in_savepoint: bool) -> None:
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        diary = Diary(id="d-1")
        diary.apply_event(Wrote(note="one"))
        session.add(diary)
        session.commit()
    seen: list[str] = []

    @retry_on_conflict(initial_wait=0)
    def write() -> None:
        with Session(postgres_engine.execution_options(isolation_level="REPEATABLE READ")) as session:
            diary = session.get_one(Diary, "d-1")
            seen.append(diary.note)
            if len(seen) == 1:
                with Session(postgres_engine) as officer:
                    forget(officer, "d-1", reason="asked", base=Base)
                    officer.commit()
            if in_savepoint:
                with session.begin_nested():
                    diary.apply_event(Wrote(note="two"))
            else:
                diary.apply_event(Wrote(note="two"))
            session.commit()

    with pytest.raises(SubjectForgottenError):
        write()
    assert seen == ["one", "(forgotten)"]
    with Session(postgres_engine) as session:
        assert EventStore(session, Base).events.count() == 1
