"""A customer with an address, and an event that has another version, so that its class reads what SQL could read alone."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel

from sa_eventsource import AggregateRoot, DomainEvent, Personal, upcast

STREET = "Ringstraße 17"


class Address(BaseModel):
    """Where someone lives, of which only the street is personal."""

    city: str
    street: Annotated[str, Personal(subject="aggregate_id", placeholder="(nowhere)")]


class Registered(DomainEvent):
    """Someone became a customer."""

    __event_type__ = "customers.Registered"
    __event_version__ = 2

    name: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]
    address: Address
    country: str
    email: Annotated[str | None, Personal(subject="aggregate_id")] = None


@upcast("customers.Registered", from_version=1)
def _with_country(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "country": "NL"}


def registered(name: str, city: str = "Linz", **values: Any) -> Registered:
    """Make the event of a customer."""
    return Registered(**{"name": name, "address": Address(city=city, street=STREET), "country": "AT", **values})


class Visited(DomainEvent):
    """They came in."""

    __event_type__ = "customers.Visited"


class AnyCustomer(AggregateRoot):
    """A customer."""

    __ignored_events__ = (Registered, Visited)
