"""The laws of read models: where a model's rows depend on how they come about, it is found, and nowhere else."""

from __future__ import annotations

import importlib
import os
import sys
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, MetaData, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    DeclarationError,
    DomainEvent,
    EventSourceOptions,
    Personal,
    ReadModel,
    RecordedEvent,
    evolves,
    handles,
    load_for_update,
    map_from_event,
)
from sa_eventsource.read_models import append, sum_
from sa_eventsource.read_models import count as number_of
from sa_eventsource.testing import called, histories_of, read_model_laws
from sa_eventsource.testing.property_tests import values_of
from tests.privacy.keys import MASTER_KEYS
from tests.processes import finish_forked
from tests.read_models import shop
from tests.shop import AnyTill, Sold

SETTINGS = settings(
    max_examples=8,
    database=None,
    derandomize=True,  # a mistake that is planted is found in each run, or in none
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


class Base(DeclarativeBase):
    pass


class Till(AnyTill, Base):
    __aggregate_type__ = "laws.Till"

    def count(self, number: int, what: str) -> None:
        self.apply_event(Sold(number=number, what=what))


class Sums(ReadModel, Base):
    __projection_name__ = "laws_sums"
    id: Mapped[str]
    total: Mapped[int] = map_from_event(Sold, reduce=sum_("number"))
    goods: Mapped[list[str]] = map_from_event(Sold, reduce=append("what"))


_calls = count(1)


class Remembers(ReadModel, Base):
    """Its method counts how often it was called, which differs with the way."""

    __projection_name__ = "laws_remembers"
    id: Mapped[str]
    calls: Mapped[int] = mapped_column(default=0)

    @evolves(Sold)
    def _sold(self, event: RecordedEvent[Sold]) -> None:
        self.calls = next(_calls)


class HandledOnce(ReadModel, Base):
    """Its handler counts calls of its own, and not what it has stored."""

    __tablename__ = "laws_handled_once"
    id: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Sold)
    def _sold(cls, event: RecordedEvent[Sold], session: Session) -> None:
        load_for_update(session, cls, event.aggregate_id).calls = next(_calls)


class Handled(ReadModel, Base):
    __tablename__ = "laws_handled"
    id: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Sold)
    def _sold(cls, event: RecordedEvent[Sold], session: Session) -> None:
        load_for_update(session, cls, event.aggregate_id).calls += 1


class Short(ReadModel, Base):
    __tablename__ = "laws_short"
    id: Mapped[str]
    what: Mapped[str] = mapped_column(String(3), default="")

    @evolves(Sold)
    def _sold(self, event: RecordedEvent[Sold]) -> None:
        self.what = event.event.what


class Faulty(ReadModel, Base):
    __projection_name__ = "laws_faulty"
    id: Mapped[str]
    length: Mapped[int] = mapped_column(default=0)

    @evolves(Sold)
    def _sold(self, event: RecordedEvent[Sold]) -> None:
        self.length = len(event.what)  # type: ignore[attr-defined] # it is event.event that has it


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


HISTORIES = histories_of(Till, commands=[Till.count])


def check(model: Any, engine: Engine, histories: Any = None) -> None:
    read_model_laws(model, histories=histories, settings=SETTINGS)(engine)


@pytest.mark.parametrize("histories", [None, HISTORIES], ids=["any", "of commands"])
@pytest.mark.parametrize("model", [Sums, Handled], ids=["fields", "handlers"])
def test_a_sound_model_is_left_alone(model: Any, histories: Any, postgres_engine: Engine) -> None:
    check(model, postgres_engine, histories)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Remembers, r"Remembers: the fold in Python and catching up give different rows\n  calls of row \('1',\): \d+ by the fold"),
        (HandledOnce, "HandledOnce: catching up and a rebuild give different rows\n  calls of row"),
    ],
    ids=["evolves", "handles"],
)
def test_rows_that_depend_on_how_they_come_about(model: Any, told: str, postgres_engine: Engine) -> None:
    with pytest.raises(AssertionError, match=told):
        check(model, postgres_engine, HISTORIES)


def test_a_row_that_the_database_refuses(postgres_engine: Engine) -> None:
    with pytest.raises(AssertionError, match=r"Short does not take what may happen: (?s:.*)value too long"):
        check(Short, postgres_engine, HISTORIES)
    check(Short, postgres_engine)  # of any events, those are left out that are refused


@pytest.mark.parametrize("histories", [None, HISTORIES], ids=["any", "of commands"])
def test_a_method_that_raises_is_no_refusal_of_the_database(histories: Any, postgres_engine: Engine) -> None:
    with pytest.raises(AssertionError, match=r"Faulty does not take what may happen.*AttributeError"):
        check(Faulty, postgres_engine, histories)


class OfPeople(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Met(DomainEvent):
    __event_type__ = "laws.Met"
    whom: str
    name: Annotated[str, Personal(subject="whom", placeholder="")]
    told: Annotated[str, Personal(subject="metadata.user", placeholder="")]


class Diary(AggregateRoot, OfPeople):
    __aggregate_type__ = "laws.Diary"
    __ignored_events__ = (Met,)

    def meet(self, whom: str, name: str, told: str) -> None:
        self.apply_event(Met(whom=whom, name=name, told=told))


class Meetings(ReadModel, OfPeople):
    __projection_name__ = "laws_meetings"
    id: Mapped[str]
    number: Mapped[int] = map_from_event(Met, reduce=number_of())


@pytest.mark.parametrize("histories", [None, histories_of(Diary, commands=[Diary.meet])], ids=["any", "of commands"])
def test_personal_data_has_somebody_whose_it_is(histories: Any, postgres_engine: Engine) -> None:
    OfPeople.metadata.create_all(postgres_engine)
    check(Meetings, postgres_engine, histories)


def test_histories_of_an_application_that_is_not_there(postgres_engine: Engine) -> None:
    class Other(DeclarativeBase):
        pass

    class Lost(ReadModel, Other):
        __projection_name__ = "laws_lost"
        id: Mapped[str]
        total: Mapped[int] = map_from_event(Sold, source="number")

    with pytest.raises(DeclarationError, match="no aggregate has the events of Lost"):
        read_model_laws(Lost)


@pytest.mark.slow
@pytest.mark.parametrize("model", [shop.OrderList, shop.UserOrders, shop.OrderStats, shop.Rating], ids=lambda model: model.__name__)
def test_models_of_our_own_tests_keep_the_laws(model: Any, postgres_engine: Engine) -> None:
    shop.Base.metadata.create_all(postgres_engine)
    check(model, postgres_engine)


def check_examples(url: str) -> None:
    """Run the laws on the shop of the documentation, whose events have the names of others."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples"))
    ordering, views = importlib.import_module("shop.ordering"), importlib.import_module("shop.views")
    place = called(ordering.Order.place, lines=st.lists(values_of(ordering.Line), min_size=1, max_size=2).map(tuple))
    histories = histories_of(ordering.Order, commands=[place, ordering.Order.pay, ordering.Order.cancel_if_unpaid])
    engine = create_engine(url)
    ordering.Base.metadata.create_all(engine)
    check(views.OrderList, engine, histories)
    check(views.Customers, engine, histories)
    engine.dispose()


def test_the_examples_keep_the_laws(postgres_database_url: str, tmp_path: Path) -> None:
    done = finish_forked(check_examples, postgres_database_url, folder=tmp_path, environment=os.environ)
    assert done.returncode == 0, done.stderr
