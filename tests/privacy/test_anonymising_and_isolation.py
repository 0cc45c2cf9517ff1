"""A transaction that began before an anonymisation, and does not see it, brings nothing of it back."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, EventStore, anonymise, applies, verify
from sa_eventsource.mapping import tables_of_base


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(anonymisations="anonymisations")


class Signed(DomainEvent):
    __event_type__ = "anonymising_and_isolation.Signed"
    name: str


class Read(DomainEvent):
    __event_type__ = "anonymising_and_isolation.Read"


class Petition(AggregateRoot, Base):
    __aggregate_type__ = "anonymising_and_isolation.Petition"
    __snapshot_frequency__ = 2

    name: str = ""

    @applies(Signed)
    def _signed(self, event: Signed) -> None:
        self.name = event.name

    @applies(Read)
    def _read(self, _event: Read) -> None:
        pass


def snapshots(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(tables_of_base("test", Base).snapshots)) or 0


@pytest.mark.parametrize(
    ("level", "writes"), [("READ COMMITTED", 1), ("READ UNCOMMITTED", 1), ("REPEATABLE READ", 0), ("SERIALIZABLE", 0)]
)
def test_its_snapshot_does_not_hold_what_was_anonymised(postgres_engine: Engine, level: str, writes: int) -> None:
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        petition = Petition(id="p")
        petition.apply_event(Signed(name="Ann"))
        session.add(petition)
        session.commit()
    with Session(postgres_engine.execution_options(isolation_level=level)) as writer:
        found = writer.get_one(Petition, "p")
        with Session(postgres_engine) as session:
            query = EventStore(session, Base).events.of_type(Signed)
            while not anonymise(query, ["name"], lambda _: "nobody", name="names", reason="asked").is_finished:
                session.commit()
            session.commit()
        found.apply_event(Read())
        writer.commit()
    assert snapshots(postgres_engine) == writes
    with Session(postgres_engine) as session:
        assert (session.get_one(Petition, "p").name, session.get_one(Petition, "p").version) == ("nobody", 2)
    assert verify(postgres_engine, Base).findings == ()
