"""The check of fields that were personal, whose stored values only a personal field opens; and code to paste that runs."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, Personal
from sa_eventsource.evolution import Document, Mode, check, document_of
from sa_eventsource.mapping import tables_on
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Person(BaseModel):
    name: str


class Greeted(DomainEvent):
    __event_type__ = "sealed.Greeted"
    who: str
    name: str
    guests: list[Person] = []


class Welcomed(DomainEvent):
    __event_type__ = "sealed.Welcomed"
    who: str
    name: str
    address: Annotated[str, Personal(subject="who", placeholder="(gone)")]


class Quoted(DomainEvent):
    __event_type__ = "sealed.Quoted"
    a: int = Field(alias='we"ird\\name')


class Host(AggregateRoot, Base):
    __aggregate_type__ = "sealed.Host"
    __ignored_events__ = (Greeted, Welcomed, Quoted)


MARK = {"subject": "who", "placeholder": "(gone)"}


@pytest.fixture
def now() -> Document:
    return document_of(tables_on(Base.metadata))


def _fields(document: Document, event_type: str) -> dict[str, Any]:
    fields: dict[str, Any] = document["events"][event_type]["1"]["shapes"][0]["shape"]["fields"]
    return fields


@pytest.fixture
def kept() -> Document:
    return document_of(tables_on(Base.metadata))


def test_a_mark_that_is_gone_leaves_sealed_values_that_nothing_opens(kept: Document, now: Document) -> None:
    fields = _fields(kept, "sealed.Greeted")
    fields["name"]["personal"] = MARK
    fields["guests"]["shape"]["items"]["fields"]["name"]["personal"] = MARK
    found = check(kept, now)
    assert [(each.subject, each.path, each.direction, each.verdict, each.code) for each in found] == [
        ("sealed.Greeted", "name", "backward", "incompatible", None),
        ("sealed.Greeted", "guests[].name", "backward", "incompatible", None),
    ]
    assert "stored sealed" in found[0].reason
    assert "Mark it as Personal(...) again" in found[0].remedy
    assert check(kept, now, Mode.FORWARD) == []


def test_where_another_field_is_personal_they_are_opened(kept: Document, now: Document) -> None:
    _fields(kept, "sealed.Welcomed")["name"]["personal"] = MARK
    assert check(kept, now) == []


def test_a_key_with_quotation_marks_makes_code_that_runs(kept: Document, now: Document) -> None:
    shape = _fields(kept, "sealed.Quoted").pop("a")
    _fields(kept, "sealed.Quoted")["old"] = {**shape, "reads": 'the "old" one', "writes": 'the "old" one'}
    _fields(kept, "sealed.Quoted")["other"] = {**shape, "reads": "it's\nnew", "writes": "it's\nnew"}
    code = next(each.code for each in check(kept, now) if each.code is not None)
    names: dict[str, Any] = {"Any": Any, "Quoted": Quoted, "upcast": lambda *_, **__: lambda function: function}
    exec(code, names)
    payload = names["quoted_from_1"]({'the "old" one': 1, "it's\nnew": 2})
    assert payload == {'we"ird\\name': ...}
