"""Read models, subscriptions and verification beside personal data: what is not asked for in clear is a placeholder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from sqlalchemy import Engine, MetaData, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    EventReplayer,
    EventSourceOptions,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    evolves,
    map_from_event,
    verify,
)
from tests.privacy.customers import AnyCustomer, Registered, registered
from tests.privacy.keys import MASTER_KEYS
from tests.privacy.searching import what_is_sent


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Customer(AnyCustomer, Base):
    __aggregate_type__ = "masked_models.Customer"


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

    name: Mapped[str] = map_from_event(Registered)


class StrongMasked(ReadModel, Base):
    __projection_name__ = "masked_models.strong_masked"
    __personal_data__ = "masked"
    __consistency__ = "strong"

    name: Mapped[str] = map_from_event(Registered)


class EvolvingMasked(ReadModel, Base):
    __projection_name__ = "masked_models.evolving"
    __personal_data__ = "masked"

    name: Mapped[str] = mapped_column(default="")

    @evolves(Registered)
    def _registered(self, event: RecordedEvent[Registered]) -> None:
        self.name = event.event.name


MODELS = (Countries, StrongCountries, Masked, StrongMasked, EvolvingMasked)


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_models_hold_placeholders_and_ask_for_no_key(
    engine: Engine, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    sent = what_is_sent(engine)
    with Session(engine) as session:
        customer = Customer()
        customer.apply_event(registered("Annabelle", country="DE"))
        session.add(customer)
        session.commit()
        with statements(engine) as log:
            ReadModelManager(engine, Base).catch_up()
        assert [each for each in log if "subject_keys" in each] == []
        assert [session.scalar(select(each.country)) for each in (Countries, StrongCountries)] == ["DE", "DE"]
        assert [session.scalar(select(each.name)) for each in MODELS[2:]] == ["(forgotten)"] * 3
    with statements(engine) as log:
        for model in MODELS:
            EventReplayer(engine, Base).rebuild(model)
    assert [each for each in log if "subject_keys" in each] == []
    assert verify(engine, Base).findings == ()
    assert [each for each in sent if "Annabelle" in each or "Ringstra" in each] == []
