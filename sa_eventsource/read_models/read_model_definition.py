"""What the library knows of one read model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sa_eventsource.aggregates import AggregateRoot
from sa_eventsource.aggregates import definition_of as definition_of_aggregate
from sa_eventsource.consumers import Consumer, check_following, knows, owners_of
from sa_eventsource.events import is_personal, members
from sa_eventsource.exceptions import DeclarationError, EventSourceError, ReadModelError
from sa_eventsource.mapping import MAX_NAME_LENGTH
from sa_eventsource.read_models.declaration_fingerprint import fingerprint_of, first_names
from sa_eventsource.read_models.evolving import decimal_places, validators
from sa_eventsource.read_models.fields import KEPT
from sa_eventsource.read_models.function_source import digest_of_functions
from sa_eventsource.read_models.personal_data import check_personal_data
from sa_eventsource.read_models.sources import EnvelopeField, event_fields
from sa_eventsource.store import Reading, code_of, database_of, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Table
    from sqlalchemy.engine import Dialect

    from sa_eventsource.events import DomainEvent, RecordedEvent
    from sa_eventsource.read_models.declared_model import TakenEvents
    from sa_eventsource.read_models.evolve_methods import EvolveFunction
    from sa_eventsource.read_models.fields import Field, KeyPart
    from sa_eventsource.read_models.sources import Source

_TOO_LONG = "22001"
"""SQLSTATE of a text that does not fit its column."""

Consistency: TypeAlias = Literal["strong", "eventual"]
PersonalData: TypeAlias = Literal["clear", "masked"]


@dataclass(eq=False, kw_only=True)
class ReadModelDefinition(Consumer):
    """One read model: its rows, and what the events do to them.

    Attributes:
        model: The class.
        name: The name that its rows and its checkpoint are kept under: the projection's name and, from the second on, the version.
        consistency: ``"strong"`` for rows written with the events, ``"eventual"`` for rows that follow.
        has_own_table: Whether its rows are in a table of its own, and not in the shared projections table.
        named_classes: The event classes that the declaration names; those that inherit from them are taken too.
        key: The fields that identify the row, in the order declared.
        fields: The other declared fields.
        events: The event classes that declared fields or ``@evolves`` methods take, by stored name.
        removed_by: Those that remove the row, by stored name.
        evolvers: The ``@evolves`` methods, by stored name of the event type.
        takes_personal_data: How it takes personal fields of events; None where it names none.
        reading: Works out what events do, again when a further event class has been declared.
        statements: What has been built for it, kept by those who build it, in the dict that was here when they began.
    """

    model: type[Any]
    consistency: Consistency
    has_own_table: bool
    named_classes: frozenset[type[DomainEvent]]
    key: tuple[KeyPart, ...]
    fields: tuple[Field, ...]
    events: Mapping[str, type[DomainEvent]]
    removed_by: Mapping[str, type[DomainEvent]]
    evolvers: Mapping[str, EvolveFunction]
    reading: Callable[[], TakenEvents]
    takes_personal_data: PersonalData | None = None
    statements: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what concerns the model as a whole.

        Raises:
            DeclarationError: The name is taken, the consistency unknown, no event feeds it, or what removes rows does
                not fit the rest.
        """
        where = self.model.__name__
        check_following(where, self)
        self._check_events(where)
        check_personal_data(self)
        if self.is_strong:
            self.shards = 1  # those who write the events write its rows; there is no work to be split
        if self.consistency not in ("strong", "eventual"):
            raise DeclarationError(f'{where}.__consistency__ is {self.consistency!r}; it must be "strong" or "eventual"')
        other = self.tables.read_models.get(self.name)
        if other is not None and _place(other.model) != _place(self.model):
            raise DeclarationError(
                f"read model {self.name!r} is declared twice: by {_place(other.model)} and by {_place(self.model)}. Set "
                "__projection_name__ to another name on one of them."
            )

    @property
    def personal_data(self) -> Reading:
        """How it reads personal data: what it writes down in clear, nobody is to forget meanwhile."""
        return Reading.LOCKED if self.takes_personal_data == "clear" else Reading.MASKED

    def _check_events(self, where: str) -> None:
        if not self.events and not self.handlers:
            raise DeclarationError(
                f"{where} takes no event; declare a field with map_from_event(), or a method with @evolves() or @handles()"
            )
        if self.handlers and not self.has_own_table:
            raise DeclarationError(f"{where} has @handles methods, which write rows by themselves; give it a __tablename__")
        self._check_aggregates(where)
        setting = {*self.evolvers, *(name for each in self.fields for name in each.contributions)}
        both = sorted(setting & set(self.removed_by))
        if both:
            raise DeclarationError(f"{where}: {both[0]} removes the row and cannot set a field of it")
        if self.removed_by:
            self._check_removal(where)

    def _check_aggregates(self, where: str) -> None:
        named = [self.tables.aggregate_classes[each] for each in self.aggregate_types or ()]
        for event_class in sorted(self.named_classes, key=lambda each: each.__name__) if named else ():
            if members((event_class,)) and not any(knows(each, (event_class,)) for each in named):
                raise DeclarationError(
                    f"{where} takes {event_class.__name__}, which no aggregate that it names in __aggregates__ has: "
                    f"{', '.join(each.__name__ for each in named)}"
                )

    def _check_removal(self, where: str) -> None:
        if not self._has_in_key("aggregate_id"):
            raise DeclarationError(
                f"{where}.__removed_by__ needs the aggregate's id in the key: only within one stream is it sure what came before "
                'the removal. Declare a key with source="aggregate_id", or a field that says whether the row still counts.'
            )
        self.check_owners(owners_of(self.tables, self.named_classes))

    def check_owners(self, aggregates: Sequence[type[Any]]) -> None:
        """Check that a row which events remove is fed by one stream, with the aggregates that have its events.

        Raises:
            DeclarationError: Two of them may share an id.
        """
        feeding = self._feeding(aggregates)
        if self.removed_by and len(feeding) > 1 and not self._has_in_key("aggregate_type"):
            raise DeclarationError(
                f"{self.model.__name__} has events of {' and '.join(feeding)}, which may share an id, and __removed_by__ needs "
                "rows of one stream each: only there is it sure what came before the removal. Name one, "
                f'__aggregates__ = ({feeding[0]},), or add a key with source="aggregate_type".'
            )

    def _feeding(self, aggregates: Iterable[type[Any]]) -> list[str]:
        """Name those aggregates whose events the model takes."""
        names = {definition_of_aggregate(each).aggregate_type: each.__name__ for each in aggregates}
        return sorted(name for aggregate_type, name in names.items() if self.takes_from(aggregate_type))

    @property
    def is_alone_at_its_rows(self) -> bool:
        """Whether no two transactions that take events change one row: one follower takes all, or each row is of one stream.

        Those who append to one stream wait for each other at its events.
        """
        if not self.is_strong and self.shards == 1:
            return True
        if not self._has_in_key("aggregate_id"):
            return False
        return self._has_in_key("aggregate_type") or len(self._feeding(owners_of(self.tables, self.named_classes))) <= 1

    def take(self, event_class: type[DomainEvent]) -> None:
        """Take a further event class, declared when the model was there already, if it inherits from one that the model takes.

        Raises:
            DeclarationError: The model's declaration does not fit the class.
        """
        taken = self.reading()
        if event_class.__event_type__ in {**taken.events, **taken.removed_by, **taken.handlers}:
            self.adopt(taken)

    def adopt(self, taken: TakenEvents) -> None:
        """Let events do this from now on, and forget what was built for what they did before.

        Raises:
            DeclarationError: It does not fit the rest of the declaration.
        """
        vars(self).update(vars(taken))
        self._check_events(self.model.__name__)
        for name in ("event_classes", "own_stored_types", "read_in_python", "evolvers_digest"):
            vars(self).pop(name, None)
        self._split_sources = None
        self.statements = {}

    def _has_in_key(self, name: str) -> bool:
        """Check whether a part of the key is what the log knows under a name, for all events."""

        def is_it(source: object) -> bool:
            return isinstance(source, EnvelopeField) and source.name == name

        return any(all(is_it(source) for source in part.sources.values()) for part in self.key)

    @property
    def table(self) -> Table:
        """The table that its rows are in."""
        table: Table = self.model.__table__ if self.has_own_table else self.tables.projections
        return table

    @property
    def parts(self) -> tuple[KeyPart | Field, ...]:
        """All declared fields, the key first."""
        return (*self.key, *self.fields)

    @property
    def row_names(self) -> list[str]:
        """Names of all that a row has: the key, the fields, and what the library keeps."""
        return [*(part.name for part in self.parts), *KEPT]

    @property
    def is_strong(self) -> bool:
        """Whether its rows are written in the transaction that writes the events."""
        return self.consistency == "strong"

    def declared_classes(self) -> Mapping[str, type[DomainEvent]]:
        """Those that set fields or remove rows."""
        return {**self.events, **self.removed_by}

    def changes_row(self, recorded: RecordedEvent[Any]) -> bool:
        """Check whether an event that the model takes sets declared fields of a row, or removes it; handlers are another matter."""
        name = type(recorded.event).__event_type__
        return (name in self.events or name in self.removed_by) and self.takes_from(recorded.aggregate_type)

    def sources_of(self, event_type: str) -> Iterator[Source]:
        """List where key and fields come from, of events of a stored name."""
        yield from (part.sources[event_type] for part in self.key if event_type in part.sources)
        yield from (each.contributions[event_type].source for each in self.fields if event_type in each.contributions)

    @cached_property
    def read_in_python(self) -> frozenset[str]:
        """Stored names of the events that only their classes can read as far as the model takes them, and so Python reads."""
        return frozenset(
            name
            for name, event_class in self.declared_classes().items()
            if (self.takes_personal_data == "clear" and is_personal(event_class))
            or any(not each.is_plain for source in self.sources_of(name) for each in event_fields(source))
        )

    @cached_property
    def evolvers_digest(self) -> str:
        """Digest of what the ``@evolves`` methods do, and validators of what they set; it asks for their source."""
        names = first_names(self)
        in_order = sorted(self.evolvers, key=lambda name: names.get(name, name))
        return digest_of_functions([*(self.evolvers[name] for name in in_order), *validators(self)], self.model)

    @cached_property
    def decimal_places(self) -> Mapping[str, int]:
        """How many decimal places the columns of fields have, where they are limited."""
        return decimal_places(self)

    def is_folded(self, dialect: Dialect) -> bool:
        """Check whether Python works out the rows: for ``@evolves`` methods, and on a database without the SQL for it."""
        return bool(self.evolvers) or not database_of(dialect).works_out_fields

    @property
    def bind_arguments(self) -> dict[str, Any]:
        """The class chooses among several binds of a session."""
        return {"mapper": self.model.__mapper__}

    @property
    def batch_size(self) -> int:
        """Events in a transaction: more where the database takes them by itself."""
        if self.handlers:
            return 1_000
        return 5_000 if self.evolvers else 10_000 if self.read_in_python else 100_000

    def refused(
        self, events: Sequence[RecordedEvent[Any]], error: BaseException, keys: Iterable[tuple[Any, ...]] = ()
    ) -> ReadModelError:
        """Say which of the model's events it could not take, and for which rows: those of the events, and of further keys."""
        taken = [event for event in events if self.takes(event)]
        return ReadModelError(
            self.name,
            events=self.named(taken),
            event_ids=list(dict.fromkeys(event.stored_id for event in taken)),
            rows=[*self._rows(taken), *(repr(self.row_id(key)) for key in keys)],
            reason=self._reason(error),
        )

    def _reason(self, error: BaseException) -> str:
        # All else that the shared table holds of a row is JSON, which has no length.
        if not self.has_own_table and code_of(error) == _TOO_LONG:
            names = " and ".join(part.name for part in self.key)
            return (
                f"the key, {names}, is longer than the {MAX_NAME_LENGTH} characters that the shared table has for one. Give the "
                "model a __tablename__, whose columns take any length, or a shorter key"
            )
        return message_of(error)

    def _rows(self, events: Sequence[RecordedEvent[Any]]) -> Iterator[str]:
        for each in events:
            if type(each.event).__event_type__ not in self.handlers:
                try:
                    key = self.key_of(each)
                except (EventSourceError, ValueError, ArithmeticError):
                    continue
                if key is not None:
                    yield repr(self.row_id(key))

    def key_of(self, recorded: RecordedEvent[Any]) -> tuple[Any, ...] | None:
        """Get the key of the row that an event belongs to; None if a part of it is None."""
        name = type(recorded.event).__event_type__
        values = tuple(part.type.normalise(part.sources[name].evaluate(recorded)) for part in self.key)
        return None if None in values else values

    def row_id(self, key: tuple[Any, ...]) -> str:
        """Write a key as the text that identifies the row in the shared table: the value, or a JSON array of several."""
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
        return fingerprint_of(self)


def definition_of(model: Any) -> ReadModelDefinition:
    """Get the definition of a read model.

    Raises:
        DeclarationError: The class is no mapped read model.
        TypeError: *model* is no class.
    """
    if not isinstance(model, type):
        raise TypeError(f"a read model is given as its class, such as OrderReadModel, not {model!r}")
    found: ReadModelDefinition | None = vars(model).get("__read_model_definition__")
    if found is None:
        name = model.__name__
        raise DeclarationError(
            f"{name} is not a mapped read model but an aggregate; give a read model that takes its events"
            if issubclass(model, AggregateRoot)
            else f"{name} is not a mapped read model; declare it as class {name}(ReadModel, Base)"
        )
    return found


def _place(klass: type[Any]) -> str:
    return f"{klass.__module__}.{klass.__qualname__}"
