"""What the library knows of one read model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sa_eventsource.events import stored_types
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import MAX_NAME_LENGTH
from sa_eventsource.read_models.sources import EnvelopeField

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Table

    from sa_eventsource.events import DomainEvent, RecordedEvent
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.read_models.fields import Field, KeyPart
    from sa_eventsource.read_models.handlers import HandlerMethod

Consistency: TypeAlias = Literal["strong", "eventual"]


@dataclass(eq=False)
class ReadModelDefinition:
    """One read model: its rows, and what the events do to them.

    Attributes:
        model: The class.
        name: The projection's name.
        consistency: ``"strong"`` for rows written with the events, ``"eventual"`` for rows that follow.
        tables: The tables of its declarative base.
        has_own_table: Whether its rows lie in a table of its own, and not in the shared projections table.
        key: The fields that tell the row, in the order declared.
        fields: The other declared fields.
        events: The event classes that declared fields take, by stored name.
        removed_by: Those that remove the row, by stored name.
        handlers: ``@handles`` methods by stored name of the event type.
        statements: What has been built for it, kept by those who build it.
    """

    model: type[Any]
    name: str
    consistency: Consistency
    tables: EventSourceTables
    has_own_table: bool
    key: tuple[KeyPart, ...]
    fields: tuple[Field, ...]
    events: Mapping[str, type[DomainEvent]]
    removed_by: Mapping[str, type[DomainEvent]]
    handlers: Mapping[str, HandlerMethod] = field(default_factory=dict)
    statements: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what concerns the model as a whole, and claim its name on the metadata.

        Raises:
            DeclarationError: The name is impossible or taken, the consistency unknown, no event feeds it, or what removes rows does
                not fit the rest.
        """
        where = self.model.__name__
        if not 0 < len(self.name) <= MAX_NAME_LENGTH or "\x00" in self.name:
            raise DeclarationError(f"{where}.__projection_name__ must have 1 to {MAX_NAME_LENGTH} characters and no NUL")
        if self.consistency not in ("strong", "eventual"):
            raise DeclarationError(f'{where}.__consistency__ is {self.consistency!r}; it must be "strong" or "eventual"')
        if not self.events and not self.handlers:
            raise DeclarationError(f"{where} takes no event; declare a field with map_from_event(), or a method with @handles()")
        if self.handlers and not self.has_own_table:
            raise DeclarationError(f"{where} has @handles methods, which write rows by themselves; give it a __tablename__")
        both = sorted(set(self.removed_by) & {name for each in self.fields for name in each.contributions})
        if both:
            raise DeclarationError(f"{where}: {both[0]} removes the row and cannot set a field of it")
        if self.removed_by and not self._one_stream_a_row():
            raise DeclarationError(
                f"{where}.__removed_by__ needs the aggregate's id in the key: only within one stream is it sure what came before "
                'the removal. Declare a key with source="aggregate_id", or a field that tells whether the row still counts.'
            )
        claimed = self.tables.read_models
        other = claimed.get(self.name)
        if other is not None and _place(other.model) != _place(self.model):
            raise DeclarationError(
                f"read model {self.name!r} is declared twice: by {_place(other.model)} and by {_place(self.model)}. Set "
                "__projection_name__ to another name on one of them."
            )
        claimed[self.name] = self

    def _one_stream_a_row(self) -> bool:
        def is_id(source: object) -> bool:
            return isinstance(source, EnvelopeField) and source.name == "aggregate_id"

        return any(all(is_id(source) for source in part.sources.values()) for part in self.key)

    @property
    def table(self) -> Table:
        """The table that its rows lie in."""
        table: Table = self.model.__table__ if self.has_own_table else self.tables.projections
        return table

    @property
    def parts(self) -> tuple[KeyPart | Field, ...]:
        """All declared fields, the key first."""
        return (*self.key, *self.fields)

    @property
    def is_strong(self) -> bool:
        """Whether its rows are written in the transaction that writes the events."""
        return self.consistency == "strong"

    @cached_property
    def event_classes(self) -> dict[str, type[DomainEvent]]:
        """All event classes that it takes, by stored name."""
        handled = {name: method.event_class for name, method in self.handlers.items()}
        return {**self.events, **self.removed_by, **handled}

    @cached_property
    def stored_types(self) -> tuple[str, ...]:
        """All names that its events may be stored under, former ones included."""
        return tuple(name for event_class in self.event_classes.values() for name in stored_types(event_class))

    def key_of(self, recorded: RecordedEvent[Any]) -> tuple[Any, ...] | None:
        """Get the key of the row that an event belongs to; None if a part of it is None."""
        name = type(recorded.event).__event_type__
        values = tuple(part.type.normalise(part.sources[name].evaluate(recorded)) for part in self.key)
        return None if None in values else values

    def row_id(self, key: tuple[Any, ...]) -> str:
        """Write a key as the text that tells the row in the shared table: the value, or a JSON array of several."""
        values = [part.type.to_json(value) for part, value in zip(self.key, key, strict=True)]
        if len(values) == 1:
            return values[0] if isinstance(values[0], str) else json.dumps(values[0])
        return json.dumps(values, ensure_ascii=False)

    def position_group(self, positioned: Field) -> str:
        """Name the entry that keeps the position which set a field.

        Fields that the same events set alike share it: it is named after the first of them.
        """
        for each in self.fields:
            if each.family == positioned.family and each.contributions.keys() == positioned.contributions.keys():
                return each.name
        raise AssertionError(positioned)

    @property
    def positioned(self) -> tuple[Field, ...]:
        """The fields whose meaning depends on the order of events."""
        return tuple(each for each in self.fields if each.family in ("first", "last"))

    @property
    def lists(self) -> tuple[Field, ...]:
        """The fields that are lists put together from events."""
        return tuple(each for each in self.fields if each.family == "list")

    @property
    def fingerprint(self) -> str:
        """Digest of the declaration: rows made under another one must be rebuilt."""
        parts: list[Any] = [self.name, not self.has_own_table, sorted(self.removed_by), sorted(self.handlers)]
        parts += [(part.name, part.type, sorted(part.sources.items())) for part in self.key]
        parts += [
            (
                each.name,
                each.type,
                each.family,
                each.distinct,
                sorted((name, one.sign, one.source) for name, one in each.contributions.items()),
            )
            for each in self.fields
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def definition_of(model: Any) -> ReadModelDefinition:
    """Get the definition of a read model.

    Raises:
        DeclarationError: The class is no mapped read model.
    """
    found: ReadModelDefinition | None = getattr(model, "__dict__", {}).get("__read_model_definition__")
    if found is None:
        name = getattr(model, "__name__", repr(model))
        raise DeclarationError(f"{name} is not a mapped read model; declare it as class {name}(ReadModel, Base)")
    return found


def _place(klass: type[Any]) -> str:
    return f"{klass.__module__}.{klass.__qualname__}"
