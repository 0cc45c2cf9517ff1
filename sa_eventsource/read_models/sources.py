"""Where a field's value comes from: a field of the event, what the log knows of it, a constant, or a calculation of these.

A source is data, not code, so that Python can work it out for one event and the database for a million.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from sa_eventsource.events import holds_personal, is_stored_plainly
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.documents import OutOfReachError, Shape, default_text, json_key, shape_of
from sa_eventsource.read_models.value_types import EXACT, ValueType, value_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sa_eventsource.events import DomainEvent, RecordedEvent

Operator: TypeAlias = Literal["+", "-", "*"]
TimeUnit: TypeAlias = Literal["day", "week", "month", "year"]

ENVELOPE: dict[str, ValueType] = {
    "aggregate_id": ValueType("text", str),
    "aggregate_type": ValueType("text", str),
    "event_type": ValueType("text", str),
    "event_id": ValueType("uuid", UUID),
    "correlation_id": ValueType("uuid", UUID),
    "causation_id": ValueType("uuid", UUID),
    "version": ValueType("integer", int),
    "position": ValueType("integer", int),
    "occurred_at": ValueType("moment", datetime),
}
"""What the log knows of every event."""


@dataclass(frozen=True)
class Step:
    """One step of a path into a payload.

    Attributes:
        attribute: Name of the attribute.
        key: Its key in the JSON.
        default: JSON text of what stands for it where a stored payload is older than the field; None if it has no default.
    """

    attribute: str
    key: str
    default: str | None


@dataclass(frozen=True)
class EventField:
    """A field of the event, or of a model within it; None where a model on the way is None.

    Attributes:
        path: The steps that lead to it.
        type: What it holds.
        shape: What the models in it are read as, where it is a document.
        is_personal: Whether it is personal data, or holds some.
        is_plain: Whether what is stored there is what the event's class reads; else only the class can tell.
    """

    path: tuple[Step, ...]
    type: ValueType
    shape: Shape | None = None
    is_plain: bool = field(default=True, repr=False)
    is_personal: bool = field(default=False, repr=False)

    @property
    def name(self) -> str:
        """The names of the fields on the way."""
        return ".".join(step.attribute for step in self.path)

    def evaluate(self, recorded: RecordedEvent[Any]) -> Any:
        """Get the value; that of a document as it is in JSON."""
        value: Any = recorded.event
        for step in self.path:
            value = None if value is None else getattr(value, step.attribute)
        return to_jsonable_python(value, by_alias=True) if self.type.kind == "json" and self.type.item is None else value


@dataclass(frozen=True)
class ReadValue:
    """A value that Python has read, in the database: an entry of what stands there in place of a payload."""

    key: str
    type: ValueType


@dataclass(frozen=True)
class EnvelopeField:
    """Something that the log knows of every event: ``aggregate_id``, ``occurred_at``, ..."""

    name: str
    type: ValueType

    def evaluate(self, recorded: RecordedEvent[Any]) -> Any:
        """Get the value."""
        if self.name == "event_type":
            return type(recorded.event).__event_type__
        value = getattr(recorded, self.name)
        return self.type.python(value) if self.name == "aggregate_id" and self.type.kind != "text" else value


@dataclass(frozen=True)
class MetadataValue:
    """An entry of the event's metadata; None where it is missing, or of another JSON type than the field.

    Attributes:
        path: The keys that lead to it; a single key that is written as they are together, with dots, takes precedence.
        type: What it is read as.
    """

    path: tuple[str, ...]
    type: ValueType

    @property
    def key(self) -> str:
        """All keys as one."""
        return ".".join(self.path)

    def evaluate(self, recorded: RecordedEvent[Any]) -> Any:
        """Get the value."""
        value: Any = recorded.metadata
        for key in (self.key,) if self.key in value else self.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        match self.type.kind:
            case "text":
                return value if isinstance(value, str) else None
            case "boolean":
                return value if isinstance(value, bool) else None
            case "integer":
                return int(value) if _is_number(value) and value == int(value) else None
            case "decimal":
                return Decimal(repr(value)) if _is_number(value) else None
            case "float":
                return float(value) if _is_number(value) else None
            case _:
                return value


@dataclass(frozen=True)
class Constant:
    """The same value for every event."""

    value: Any
    type: ValueType

    def evaluate(self, _recorded: RecordedEvent[Any]) -> Any:
        """Get the value."""
        return self.value


@dataclass(frozen=True)
class Calculation:
    """Two sources added, subtracted or multiplied; None where one of them is."""

    operator: Operator
    left: Source
    right: Source
    type: ValueType

    def evaluate(self, recorded: RecordedEvent[Any]) -> Any:
        """Work the value out, with all digits."""
        left: Any = self.left.evaluate(recorded)
        right: Any = self.right.evaluate(recorded)
        if left is None or right is None:
            return None
        if self.type.kind == "decimal":
            left, right = Decimal(left), Decimal(right)
            operations = {"+": EXACT.add, "-": EXACT.subtract, "*": EXACT.multiply}
            return operations[self.operator](left, right)
        return left + right if self.operator == "+" else left - right if self.operator == "-" else left * right


@dataclass(frozen=True)
class TimePart:
    """The day a moment falls on in one time zone, or the first day of its week, month or year."""

    unit: TimeUnit
    source: Source
    zone: str

    @property
    def type(self) -> ValueType:
        """A date."""
        return ValueType("date", date)

    def evaluate(self, recorded: RecordedEvent[Any]) -> date | None:
        """Get the day."""
        moment: Any = self.source.evaluate(recorded)
        if moment is None:
            return None
        day: date = moment.astimezone(ZoneInfo(self.zone)).date()
        match self.unit:
            case "week":
                return day - timedelta(days=day.weekday())
            case "month":
                return day.replace(day=1)
            case "year":
                return day.replace(month=1, day=1)
            case _:
                return day


Source: TypeAlias = EventField | EnvelopeField | MetadataValue | Constant | Calculation | TimePart


def constant(value: Any) -> Constant | None:
    """Make a source of a plain value; None if fields cannot hold it."""
    found = value_type(type(value))
    if found is None or found.kind == "json":
        return None
    return Constant(value, found)


def calculate(operator: Operator, left: Source, right: Source) -> Calculation | None:
    """Combine two sources; None if their types do not allow it."""
    kinds = {left.type.kind, right.type.kind}
    if left.type.enum is not None or right.type.enum is not None:
        return None
    if kinds <= {"integer", "decimal"}:
        found = ValueType("decimal", Decimal) if "decimal" in kinds else ValueType("integer", int)
    elif kinds == {"text"} and operator == "+":
        found = ValueType("text", str)
    else:
        return None
    return Calculation(operator, left, right, found)


def event_field(event_class: type[DomainEvent], path: Sequence[str]) -> EventField:
    """Find a field of an event class by its path.

    Raises:
        DeclarationError: There is none, or its type is none that fields can have.
    """
    where = f"{event_class.__name__}.{'.'.join(path)}"
    steps: list[Step] = []
    owner: Any = event_class
    annotation: Any = None
    found: ValueType | None = None
    for name in path:
        fields = getattr(owner, "model_fields", None) if isinstance(owner, type) and issubclass(owner, BaseModel) else None
        if fields is None or name not in fields:
            known = "" if fields is None else f" It has {', '.join(fields) or 'no fields'}."
            raise DeclarationError(f"{event_class.__name__} has no {'.'.join(path)!r}: no field {name!r} in {_name(owner)}.{known}")
        info = fields[name]
        default = default_text(info, where)
        steps.append(Step(name, json_key(name, info), None if default == "null" else default))
        annotation = info.annotation
        found = value_type(annotation)
        owner = found.python if found is not None else annotation
    if found is None:
        raise DeclarationError(f"{where} is {annotation!r}, which read models cannot hold")
    is_personal = holds_personal(event_class, path)
    is_plain, shape = not is_personal and is_stored_plainly(event_class, path), None
    if is_plain and found.kind == "json" and found.item is None:
        try:
            shape = shape_of(annotation, where)
        except OutOfReachError:
            is_plain = False
    return EventField(tuple(steps), found, shape, is_plain, is_personal)


def event_fields(source: Source) -> Iterator[EventField]:
    """Find the fields of the event that a source is made of."""
    match source:
        case EventField():
            yield source
        case Calculation(left=left, right=right):
            yield from event_fields(left)
            yield from event_fields(right)
        case TimePart(source=inner):
            yield from event_fields(inner)


def once_read(source: Source) -> Any:
    """Turn a source into one, for the database, that takes the fields of the event as Python has read them."""
    match source:
        case EventField():
            return ReadValue(source.name, source.type)
        case Calculation():
            return replace(source, left=once_read(source.left), right=once_read(source.right))
        case TimePart():
            return replace(source, source=once_read(source.source))
    return source


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(owner: Any) -> str:
    return getattr(owner, "__name__", repr(owner))
