"""What reads a closed stream: aggregates with snapshots, read models, subscriptions, ``verify``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    ReadModel,
    StreamClosed,
    Worker,
    applies,
    map_from_event,
    subscribe,
)
from sa_eventsource.verification import verify
from tests.bank import AnyAccount
from tests.shop import AnyTill, Sold


class Base(DeclarativeBase):
    """Base of what follows closed streams."""


class Till(AnyTill, Base):
    """It takes the end for a state."""

    __aggregate_type__ = "closing.Till"
    __snapshot_frequency__ = 1

    ended: str | None = None

    @applies(StreamClosed)
    def _ended(self, event: StreamClosed) -> None:
        self.ended = event.reason


class Account(AnyAccount, Base):
    """It has no method for the end."""

    __aggregate_type__ = "closing.Account"


class Tills(ReadModel, Base):
    """Written with the events."""

    __projection_name__ = "closing_tills"
    __consistency__ = "strong"
    __aggregates__ = (Till,)

    id: Mapped[str] = map_from_event(Sold, key=True, source="aggregate_id")
    what: Mapped[str] = map_from_event(Sold)
    state: Mapped[str] = map_from_event({Sold: "open", StreamClosed: "over"})


class TillsLater(ReadModel, Base):
    """The same, written by a worker."""

    __projection_name__ = "closing_tills_later"
    __aggregates__ = (Till,)

    id: Mapped[str] = map_from_event(Sold, key=True, source="aggregate_id")
    state: Mapped[str] = map_from_event({Sold: "open", StreamClosed: "over"})


ended_tills: list[tuple[str, str]] = []


@subscribe("closing_ended_tills", StreamClosed, base=Base)
def _note_end(recorded: Any, _session: Session) -> None:
    ended_tills.append((recorded.aggregate_id, recorded.event.reason))


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_the_aggregate_may_take_the_end_for_a_state(engine: Engine) -> None:
    with Session(engine) as session:
        till = Till(id="b")
        till.sell("pen")
        till.close_stream("sold out")
        session.add(till)
        session.commit()
        assert (till.ended, till.is_stream_closed) == ("sold out", True)
    with Session(engine) as session:
        assert session.get_one(Till, "b").ended == "sold out"


def test_a_method_that_raises_leaves_the_stream_open(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(engine) as session:
        till = Till(id="b")
        till.sell("pen")
        session.add(till)
        session.commit()
        monkeypatch.setattr(StreamClosed, "reason", property(lambda _: 1 / 0), raising=False)
        with pytest.raises(ZeroDivisionError):
            till.close_stream("sold out")
        monkeypatch.undo()
        assert not till.is_stream_closed
        till.sell("ink")
        session.commit()


def test_a_snapshot_does_not_hide_the_end(engine: Engine) -> None:
    with Session(engine) as session:
        till = Till(id="b")
        till.sell("pen")
        session.add(till)
        session.commit()
        till.close_stream("sold out")
        session.commit()
    with Session(engine) as session:
        version = session.execute(text("SELECT version FROM snapshots")).scalar_one()
        assert version == 1
        till = session.get_one(Till, "b")
        assert (till.version, till.ended, till.is_stream_closed) == (2, "sold out", True)
        session.rollback()
        # One that says it covers the last event, as from a hand that copied rows.
        last = session.execute(text("SELECT CAST(event_id AS TEXT) FROM events WHERE version = 2")).scalar_one()
        change = text("UPDATE snapshots SET version = 2, event_id = CAST(:last AS UUID)")
        if engine.dialect.name == "sqlite":
            change = text("UPDATE snapshots SET version = 2, event_id = :last")
        session.execute(change, {"last": last})
        session.commit()
        assert session.get_one(Till, "b").is_stream_closed


def test_read_models_and_subscriptions_take_it(engine: Engine) -> None:
    with Session(engine) as session:
        till = Till(id="b")
        till.sell("pen")
        session.add(till)
        session.commit()
        till.close_stream("sold out")
        account = Account(id="b")
        account.close_stream("empty")
        session.add(account)
        session.commit()
        assert session.get_one(Tills, "b").state == "over"
    ended_tills.clear()
    Worker(engine, Base).run_once()
    assert sorted(ended_tills) == [("b", "empty"), ("b", "sold out")]
    with Session(engine) as session:
        assert session.get_one(TillsLater, "b").state == "over"
    assert verify(engine, Base).findings == ()


def test_verify_finds_an_event_behind_the_end(engine: Engine) -> None:
    with Session(engine) as session:
        till = Till(id="b")
        till.sell("pen")
        till.close_stream()
        session.add(till)
        session.commit()
    with engine.begin() as connection:
        connection.execute(
            Base.metadata.tables["events"]
            .insert()
            .values(
                event_id=UUID(int=5),
                aggregate_type="closing.Till",
                aggregate_id="b",
                version=3,
                event_type="shop.Sold",
                event_data={"what": "weed"},
                occurred_at=datetime.now(UTC),
                position=99,
            )
        )
    findings = [str(each) for each in verify(engine, Base).findings if each.check == "streams"]
    assert len(findings) == 1
    assert "closing.Till 'b': version 3 comes after the event that closed the stream" in findings[0]
