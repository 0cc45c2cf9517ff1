"""Read models, subscriptions and verification beside personal data: what is not asked for in clear is a placeholder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any

from sqlalchemy import Engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventReplayer,
    EventSourceOptions,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    applies,
    evolves,
    map_from_event,
    upcast,
    verify,
)
from sa_eventsource.events import Personal
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Registered(DomainEvent):
    __event_type__ = "masked_models.Registered"
    __event_version__ = 2

    country: str
    email: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]


@upcast("masked_models.Registered", from_version=1)
def _with_country(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "country": "NL"}


class Customer(AggregateRoot, Base):
    __aggregate_type__ = "masked_models.Customer"

    @applies(Registered)
    def _registered(self, event: Registered) -> None: ...


class Countries(ReadModel, Base):
    __projection_name__ = "masked_models.countries"

    country: Mapped[str] = map_from_event(Registered)


class StrongCountries(ReadModel, Base):
    __projection_name__ = "masked_models.strong_countries"
    __consistency__ = "strong"

    country: Mapped[str] = map_from_event(Registered)


class Masked(ReadModel, Base):
    __projection_name__ = "masked_models.masked"
    __personal_data__ = "masked"

    email: Mapped[str] = map_from_event(Registered)


class StrongMasked(ReadModel, Base):
    __projection_name__ = "masked_models.strong_masked"
    __personal_data__ = "masked"
    __consistency__ = "strong"

    email: Mapped[str] = map_from_event(Registered)


class EvolvingMasked(ReadModel, Base):
    __projection_name__ = "masked_models.evolving"
    __personal_data__ = "masked"

    email: Mapped[str] = mapped_column(default="")

    @evolves(Registered)
    def _registered(self, event: RecordedEvent[Registered]) -> None:
        self.email = event.event.email


MODELS = (Countries, StrongCountries, Masked, StrongMasked, EvolvingMasked)


def test_models_hold_placeholders_and_ask_for_no_key(
    engine: Engine, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _u, text, parameters, _x, _m: sent.append(f"{text} {parameters!r}"))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        customer = Customer()
        customer.apply_event(Registered(country="DE", email="ann@example.com"))
        session.add(customer)
        session.commit()
        with statements(engine) as log:
            ReadModelManager(engine, Base).catch_up()
        assert [each for each in log if "subject_keys" in each] == []
        assert [session.scalar(select(each.country)) for each in (Countries, StrongCountries)] == ["DE", "DE"]
        assert [session.scalar(select(each.email)) for each in MODELS[2:]] == ["(forgotten)"] * 3
    with statements(engine) as log:
        for model in MODELS:
            EventReplayer(engine, Base).rebuild(model)
    assert [each for each in log if "subject_keys" in each] == []
    assert verify(engine, Base).findings == ()
    assert [each for each in sent if "ann@example.com" in each] == []
