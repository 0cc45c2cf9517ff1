"""Which fields of an event are personal, whose they are, and what stands for them: declared, or refused in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import BaseModel, Field, RootModel, computed_field, field_validator, model_serializer
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import TypedDict

from sa_eventsource import (
    AggregateRoot,
    DeclarationError,
    DomainEvent,
    EventSourceOptions,
    ReadModel,
    RecordedEvent,
    evolves,
    handles,
    map_from_event,
)
from sa_eventsource.events import Personal, encode, holds_personal, is_personal
from tests.privacy.keys import MASTER_KEYS

Email = Annotated[str, Personal(subject="customer_id", placeholder="(forgotten)")]


class Contact(BaseModel):
    kind: str = "home"
    email: Email


class OwnContact(BaseModel):
    person: int
    email: Annotated[str | None, Personal(subject="person")] = None


def declare(annotations: dict[str, Any], **values: Any) -> type[DomainEvent]:
    body = {"__annotations__": annotations, "__module__": __name__, "__qualname__": "Declared", **values}
    return type("Declared", (DomainEvent,), {**body, "__event_type__": "declaring_personal_data.Declared"})


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"email": Email}, "there is no 'customer_id' to say whose data it is"),
        ({"email": Annotated[str, Personal(subject="metadata", placeholder="")]}, "there is no 'metadata'"),
        ({"customer_id": str, "email": Annotated[str, Personal(subject="customer_id")]}, "takes no None"),
        ({"email": Annotated[int, Personal(subject="aggregate_id", placeholder="x")]}, "the placeholder 'x' is none that"),
        (
            {"email": Annotated[str, Field(max_length=3), Personal(subject="aggregate_id", placeholder="long")]},
            "the placeholder 'long' is none that",
        ),
        (
            {"email": Annotated[str | None, Personal(subject="aggregate_id"), Personal(subject="metadata.user")]},
            "a value belongs to one subject",
        ),
        (
            {
                "email": Annotated[str | None, Personal(subject="customer_id")],
                "customer_id": Annotated[str | None, Personal(subject="aggregate_id")],
            },
            "its subject, customer_id, is personal itself",
        ),
        ({"email": Annotated[str | None, Personal]}, "Personal stands without its subject"),
        ({"customer_id": str, "emails": list[Email]}, "stands within the type of the field"),
        ({"customer_id": str, "contacts": set[Contact]}, "is a set of models with personal fields"),
        ({"contact": Contact}, "Contact.email: there is no 'customer_id'"),
        (
            {"customer_id": str, "contact": Annotated[Contact | None, Personal(subject="customer_id")]},
            "is personal as a whole, and so is a field of Contact",
        ),
        (
            {"customer_id": str, "contact": Annotated[str | None, Personal(subject="customer_id.name")]},
            "there is no 'customer_id.name'",
        ),
    ],
)
def test_what_cannot_be_sealed_is_refused(annotations: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare(annotations)
    assert said in str(caught.value)


def test_a_mark_that_no_model_has_is_refused() -> None:
    @dataclass
    class Address:
        street: Annotated[str | None, Personal(subject="customer_id")]

    class Place(TypedDict):
        contact: OwnContact

    class Both(NamedTuple):
        one: Annotated[str | None, Personal(subject="customer_id")]

    for kind in (Address, Place, Both):
        with pytest.raises(DeclarationError, match="stands within the type"):
            declare({"customer_id": str, "held": kind})


def test_what_cannot_be_searched_for_marks_is_refused() -> None:
    @dataclass
    class Street:
        name: Annotated[str | None, Personal(subject="customer_id")]

    @dataclass
    class Address:
        street: Street  # a name of this function, which Pydantic finds

    with pytest.raises(DeclarationError, match=r"Address stands in an event.*cannot be seen.*'Street' is not defined"):

        class Moved(DomainEvent):
            __event_type__ = "declaring_personal_data.Moved"

            customer_id: str
            address: Address


def test_what_is_written_beside_the_fields_is_refused() -> None:
    class Derived(BaseModel):
        person: int
        email: Annotated[str | None, Personal(subject="person")] = None

        @computed_field
        def upper(self) -> str:
            return str(self.email).upper()

    class Rewritten(BaseModel):
        person: int
        email: Annotated[str | None, Personal(subject="person")] = None

        @model_serializer
        def write(self) -> dict[str, Any]:
            return {"person": self.person, "email": self.email, "copy": self.email}

    class Around(BaseModel):
        contact: OwnContact

        @computed_field
        def upper(self) -> str:
            return str(self.contact.email).upper()

    for kind in (Derived, Rewritten, Around):
        with pytest.raises(DeclarationError, match="would be stored in clear"):
            declare({"held": kind})


def test_a_root_model_has_no_field_to_mark() -> None:
    class Address(RootModel[Annotated[str | None, Personal(subject="aggregate_id")]]):
        pass

    with pytest.raises(DeclarationError, match="is a RootModel"):
        declare({"address": Address})


def test_a_placeholder_is_what_the_validators_of_the_field_take() -> None:
    def at(email: str) -> str:
        if "@" not in email:
            raise ValueError("no address")
        return email

    annotations = {"email": Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]}
    with pytest.raises(DeclarationError, match="no address"):
        declare(annotations, check=field_validator("email")(at))


def test_a_subject_is_a_field_of_the_model_or_of_one_around_it() -> None:
    class Customer(BaseModel):
        id: int

    declared = declare(
        {
            "customer": Customer,
            "customer_id": str,
            "contacts": list[Contact],
            "own": dict[str, OwnContact],
            "note": Annotated[str | None, Personal(subject="customer.id")],
            "by": Annotated[str | None, Personal(subject="metadata.user")],
            "about": Annotated[str | None, Personal(subject="aggregate_id")],
        }
    )
    assert is_personal(declared)
    assert holds_personal(declared, ["contacts"])
    assert holds_personal(declared, ["note"])
    assert not holds_personal(declared, ["customer", "id"])
    assert not holds_personal(declared, ["customer_id"])


def test_a_class_that_is_completed_later_is_checked_before_its_first_event_is_written() -> None:
    class Waiting(DomainEvent):
        __event_type__ = "declaring_personal_data.Waiting"

        later: Later

    class Later(Contact):
        pass

    Waiting.model_rebuild()
    with pytest.raises(DeclarationError, match="there is no 'customer_id'"):
        encode(Waiting(later=Later(email="a")))


class Registered(DomainEvent):
    __event_type__ = "declaring_personal_data.Registered"

    customer_id: str
    email: Email
    contacts: list[Contact] = []


def test_a_read_model_that_takes_personal_data_says_so() -> None:
    class Base(DeclarativeBase):
        __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)

    class Customer(AggregateRoot, Base):
        __aggregate_type__ = "declaring_personal_data.Customer"
        __ignored_events__ = (Registered,)

    with pytest.raises(DeclarationError, match=r"takes Registered.email, which is personal data"):

        class Emails(ReadModel, Base):
            email: Mapped[str] = map_from_event(Registered)

    with pytest.raises(DeclarationError, match=r"takes Registered.contacts, which is personal data"):

        class Contacts(ReadModel, Base):
            contacts: Mapped[list[dict[str, Any]]] = map_from_event(Registered)

    with pytest.raises(DeclarationError, match=r"takes Registered by a method"):

        class Handled(ReadModel, Base):
            __tablename__ = "handled"
            id: Mapped[str] = mapped_column(primary_key=True)

            @classmethod
            @handles(Registered)
            def registered(cls, event: RecordedEvent[Registered], session: Session) -> None: ...

    with pytest.raises(DeclarationError, match=r"takes Registered by a method"):

        class Evolving(ReadModel, Base):
            count: Mapped[int] = mapped_column(default=0)

            @evolves(Registered)
            def registered(self, event: RecordedEvent[Registered]) -> None: ...

    with pytest.raises(DeclarationError, match="__personal_data__ is 'open'"):

        class Misspelt(ReadModel, Base):
            __personal_data__ = "open"  # type: ignore[assignment]
            email: Mapped[str] = map_from_event(Registered)

    class Ids(ReadModel, Base):
        customer_id: Mapped[str] = map_from_event(Registered)
