"""Publishers publish placeholders, unless they say that personal data goes out in clear."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from faststream.kafka import KafkaBroker
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import DeclarationError, EventSourceOptions, Publisher, Worker
from tests.clinic import Admitted, AnyPatient
from tests.privacy.forgetting import forget_person
from tests.privacy.keys import MASTER_KEYS
from tests.publishing.scripted_sender import ScriptedSender


class Base(DeclarativeBase):
    """A base of its own: workers of the others have no broker to publish to."""

    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Patient(AnyPatient, Base):
    __aggregate_type__ = "publishing_personal_data.Patient"


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.mark.parametrize(("given", "published"), [("masked", ["(forgotten)"] * 2), ("clear", ["(forgotten)", "Bob"])])
def test_what_is_published(engine: Engine, given: Literal["masked", "clear"], published: list[str]) -> None:
    with Session(engine) as session:
        session.add_all([Patient.admit("a", "Ann"), Patient.admit("b", "Bob")])
        session.commit()
    forget_person(engine, "a", Base)
    publisher = Publisher(f"privacy-{given}", Admitted, broker=KafkaBroker(), base=Base, personal_data=given)
    publisher.sender = sender = ScriptedSender()
    Worker(engine, Base, only=[publisher.name]).run_once()
    assert [json.loads(each)["name"] for each in sender.bodies] == published


def test_another_word_is_refused() -> None:
    with pytest.raises(DeclarationError, match='must be "clear" or "masked"'):
        Publisher("privacy-open", Admitted, broker=KafkaBroker(), base=Base, personal_data="open")  # type: ignore[arg-type]
