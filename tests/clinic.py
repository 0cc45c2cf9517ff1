"""A clinic: patients with personal data, who are admitted to a ward and a bed, moved, visited, and discharged.

Events and aggregates lie on no base. Each folder puts them on one of its own, which says what its tables have: roles, tenants,
archives, proofs.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from sa_eventsource import AggregateRoot, DomainEvent, Personal, applies


class Admitted(DomainEvent):
    """Somebody got a bed."""

    __event_type__ = "clinic.Admitted"

    name: Annotated[str, Personal(subject="person_id", placeholder="(forgotten)")]
    person_id: str
    ward: str = "A"
    bed: int = 1


class Moved(DomainEvent):
    """Somebody got another bed."""

    __event_type__ = "clinic.Moved"

    ward: str
    bed: int = 1


class Visited(DomainEvent):
    """Somebody came to see a patient: a person too, of whom nothing is left once forgotten."""

    __event_type__ = "clinic.Visited"

    visitor: Annotated[str | None, Personal(subject="visitor_id")]
    visitor_id: str


class Discharged(DomainEvent):
    """Somebody went home."""

    __event_type__ = "clinic.Discharged"


class AnyPatient(AggregateRoot):
    """A patient, with a snapshot at each event."""

    __snapshot_frequency__: ClassVar[int | None] = 1

    name: str | None = None
    ward: str | None = None
    visitor: str | None = None

    @classmethod
    def admit(cls, patient_id: str, name: str, *, person_id: str | None = None, **where: Any) -> Self:
        """Begin with a new patient, who is a person of the same id unless another is given."""
        patient = cls(id=patient_id)
        patient.apply_event(Admitted(name=name, person_id=person_id or patient_id, **where))
        return patient

    @applies(Admitted)
    def _admitted(self, event: Admitted) -> None:
        self.name, self.ward = event.name, event.ward

    @applies(Moved)
    def _moved(self, event: Moved) -> None:
        self.ward = event.ward

    @applies(Visited)
    def _visited(self, event: Visited) -> None:
        self.visitor = event.visitor

    @applies(Discharged)
    def _discharged(self, _event: Discharged) -> None:
        self.name = self.ward = None
