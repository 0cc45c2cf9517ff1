"""What the library knows of one aggregate class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.ext.automap import AutomapBase
from sqlalchemy.ext.declarative import ConcreteBase, DeferredReflection

from sa_eventsource.aggregates.snapshot_fingerprint import fingerprint
from sa_eventsource.events import Parts, decode, decoder, place, revision
from sa_eventsource.exceptions import CorruptStreamError, DeclarationError, EventSourceError
from sa_eventsource.mapping import ID_TYPES, MAX_NAME_LENGTH, id_as_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import MetaData

    from sa_eventsource.aggregates.handlers import Handlers
    from sa_eventsource.aggregates.state import StateFields
    from sa_eventsource.mapping import EventSourceTables


@dataclass(eq=False)
class AggregateDefinition:
    """One mapped aggregate class: where its events lie and how its state is made from them.

    Attributes:
        aggregate_class: The class.
        aggregate_type: The name its events are stored under.
        id_type: The Python type of its id.
        tables: The tables of its declarative base.
        snapshot_frequency: A snapshot is written each time this many events have been added; None for never.
        handlers: Its ``@applies`` methods.
        state: Its state fields.
    """

    aggregate_class: type[Any]
    aggregate_type: str
    id_type: type[Any]
    tables: EventSourceTables
    snapshot_frequency: int | None
    handlers: Handlers
    state: StateFields
    _fingerprint: tuple[int, str | None] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check that no other class keeps its events under the name.

        Raises:
            DeclarationError: The name is taken.
        """
        other = self.tables.aggregate_classes.get(self.aggregate_type, self.aggregate_class)
        if place(other) != place(self.aggregate_class):
            raise DeclarationError(
                f"aggregate type {self.aggregate_type!r} is declared twice: by {place(other)} and by "
                f"{place(self.aggregate_class)}. Set __aggregate_type__ to another name on one of them."
            )

    def claim(self) -> None:
        """Take the name, in place of an earlier declaration of the class: this one is mapped."""
        self.tables.aggregate_classes[self.aggregate_type] = self.aggregate_class

    def text_id(self, value: object) -> str:
        """Turn an id into the text that is stored.

        Raises:
            AggregateIdError: *value* cannot be an id of this class.
        """
        return id_as_text(value, self.id_type, self.aggregate_type)

    def plain_id(self, value: Any) -> Any:
        """Give an id the declared type itself, where it is of a subclass such as an enumeration that is a ``str`` too.

        Raises:
            AggregateIdError: *value* cannot be an id of this class.
        """
        if type(value) is UUID is self.id_type:
            return value
        text = self.text_id(value)
        return value if type(value) is self.id_type else self.typed_id(text)

    def typed_id(self, text: str) -> Any:
        """Turn a stored id into the application's."""
        return self.id_type(text)

    def replay(self, instance: Any, aggregate_id: str, rows: Iterable[Any], version: int, *, contiguous: bool = True) -> int:
        """Apply stored events to an instance, in the order given; of one that is read as several, all of them, or none.

        Args:
            instance: The aggregate; its state is that of *version*.
            aggregate_id: Its id as stored.
            rows: Tuples of version, event type, event version, payload text and event id as text.
            version: The version before the first row.
            contiguous: Whether each row must be one version after the last.

        Returns:
            The version after the last row.

        Raises:
            CorruptStreamError: A version is missing.
            EventDecodeError: A payload does not fit its class.
            UnknownEventTypeError: No class declares an event's type.
            UnhandledEventError: The aggregate has no method for an event.
        """
        find = self.handlers.find
        read_type, read_version, read = "", 0, None  # nearly all events of a stream are of one type, or a few
        event_class, apply = None, None
        for row_version, event_type, event_version, payload, event_id in rows:
            if contiguous and row_version != version + 1:
                raise CorruptStreamError(self.aggregate_type, aggregate_id, expected_version=version + 1, found_version=row_version)
            try:
                if read is None or event_type != read_type or event_version != read_version:
                    read_type, read_version, read = event_type, event_version, decoder(event_type, event_version)
                event = read(payload)
            except (EventSourceError, ValueError):
                event = decode(event_type, event_version, payload, event_id=UUID(event_id))  # names the event in its error
            if apply is None or type(event) is not event_class:
                if isinstance(event, Parts):
                    for each in event:
                        find(type(each))(instance, each)
                    version = row_version
                    continue
                event_class, apply = type(event), find(type(event))
            apply(instance, event)
            version = row_version
        return version

    @property
    def fingerprint(self) -> str | None:
        """Digest of what the state rests on; a snapshot of another one is not read. None where there is no such digest.

        It is kept until an event class or upcaster is declared: that may be one of an event that this class takes.
        """
        present, known = revision(), self._fingerprint
        if known is None or known[0] != present:
            known = self._fingerprint = present, fingerprint(self.aggregate_class, self.state, self.handlers)
        return known[1]  # what this thread asked for, whatever others have kept since

    @property
    def takes_snapshots(self) -> bool:
        """Whether its snapshots are written and read: it asks for them, and its code can be distinguished from other code."""
        return self.snapshot_frequency is not None and self.fingerprint is not None


def check_names(aggregate_class: type[Any], aggregate_type: object, id_type: type[Any]) -> None:
    """Check what a declaration says of itself.

    Raises:
        DeclarationError: The name, the id's type or the snapshot frequency is impossible.
    """
    name, frequency = aggregate_class.__name__, aggregate_class.__snapshot_frequency__
    if not isinstance(aggregate_type, str) or not 0 < len(aggregate_type) <= MAX_NAME_LENGTH or "\x00" in aggregate_type:
        raise DeclarationError(
            f"{name}.__aggregate_type__ is {aggregate_type!r}; it must be a text of 1 to {MAX_NAME_LENGTH} characters, without NUL"
        )
    if id_type not in ID_TYPES:
        raise DeclarationError(f"{name} declares ids of {id_type!r}; AggregateRoot takes [str], [UUID] or [int]")
    if frequency is not None and (type(frequency) is not int or frequency < 1):
        raise DeclarationError(f"{name}.__snapshot_frequency__ is {frequency!r}; it must be a whole number, 1 or more, or None")


def check_inheritance(aggregate_class: type[Any]) -> None:
    """Check that a class does not ask for a query over the tables of its subclasses: aggregates have none.

    Raises:
        DeclarationError: It does.
    """
    if issubclass(aggregate_class, ConcreteBase):  # AbstractConcreteBase is one, too
        name = aggregate_class.__name__
        raise DeclarationError(
            f"{name} inherits from ConcreteBase or AbstractConcreteBase, which select from the tables of all subclasses, and an "
            f"aggregate has no table. Leave it out, class {name}(AggregateRoot, Base): a subclass of an aggregate is an aggregate "
            "type of its own that inherits fields and methods; __abstract__ = True keeps a base from being one."
        )


def check_base(aggregate_class: type[Any], metadata: MetaData) -> None:
    """Check that whoever looks for a class's table can do without one: an aggregate is mapped to a query.

    Raises:
        DeclarationError: Something takes the table of each class of this base.
    """
    name = aggregate_class.__name__
    reflecting = next((each for each in (AutomapBase, DeferredReflection) if issubclass(aggregate_class, each)), None)
    if reflecting is not None:
        raise DeclarationError(
            f"{name} is declared on a base with {reflecting.__name__}, whose prepare() reflects the table of every class, and an "
            "aggregate has none. Declare the aggregates on a base of their own with the same metadata: "
            "class Base(DeclarativeBase): metadata = ReflectedBase.metadata."
        )
    if metadata.info.get("bind_key") is not None:
        raise DeclarationError(
            f"{name} has the __bind_key__ {metadata.info['bind_key']!r}, but Flask-SQLAlchemy finds the database of a key by a "
            "model's table, and an aggregate is mapped to a query: its events would go to the default database. Declare it without "
            "a key, or give it a base and a session of its own."
        )


def definition_of(aggregate_class: Any) -> AggregateDefinition:
    """Get the definition of a mapped aggregate class.

    Raises:
        DeclarationError: The class is not a mapped aggregate: it is abstract, or has no declarative base.
    """
    try:
        definition: AggregateDefinition = aggregate_class.__dict__["__aggregate_definition__"]
    except (AttributeError, KeyError):
        name = getattr(aggregate_class, "__name__", repr(aggregate_class))
        raise DeclarationError(f"{name} is not a mapped aggregate; declare it as class {name}(AggregateRoot, Base)") from None
    return definition
