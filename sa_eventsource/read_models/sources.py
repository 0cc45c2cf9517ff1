"""Where a field's value comes from: a field of the event, what the log knows of it, a constant, or a calculation of these.

A source is data, not code, so that Python can work it out for one event and the database for a million.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, PlainSerializer, WrapSerializer

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.documents import Gaps, default_text, gaps, json_key
from sa_eventsource.read_models.value_types import EXACT, ValueType, value_type

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """A field of the event, or of a model within it; None where a model on the way is None."""

    path: tuple[Step, ...]
    type: ValueType
    gaps: Gaps | None = None

    def evaluate(self, recorded: RecordedEvent[Any]) -> Any:
        """Get the value."""
        if self.type.kind == "json":
            value = recorded.event.model_dump(mode="json", by_alias=True, include={self.path[0].attribute})
            for step in self.path:
                value = None if value is None else value[step.key]
            return value
        found: Any = recorded.event
        for step in self.path:
            found = None if found is None else getattr(found, step.attribute)
        return found


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
    steps: list[Step] = []
    owner: Any = event_class
    annotation: Any = None
    found: ValueType | None = None
    for name in path:
        fields = getattr(owner, "model_fields", None) if isinstance(owner, type) and issubclass(owner, BaseModel) else None
        if fields is None or name not in fields:
            known = "" if fields is None else f" It has {', '.join(fields) or 'no fields'}."
            raise DeclarationError(f"{event_class.__name__} has no {'.'.join(path)!r}: no field {name!r} in {_name(owner)}.{known}")
        field = fields[name]
        default = default_text(field, f"{event_class.__name__}.{'.'.join(path)}")
        steps.append(Step(name, json_key(name, field), None if default == "null" else default))
        if _is_written_otherwise(owner, name, field):
            raise DeclarationError(
                f"{event_class.__name__}.{'.'.join(path)}: a serializer of its own writes {name!r}, which the database cannot "
                "undo. Write an @handles method."
            )
        annotation = field.annotation
        found = value_type(annotation)
        owner = found.python if found is not None else annotation
    if found is None:
        raise DeclarationError(f"{event_class.__name__}.{'.'.join(path)} is {annotation!r}, which read models cannot hold")
    missing = gaps(annotation, f"{event_class.__name__}.{'.'.join(path)}") if found.kind == "json" else None
    return EventField(tuple(steps), found, missing)


def _is_written_otherwise(model: type[BaseModel], name: str, field: Any) -> bool:
    by_method = any(name in each.info.fields for each in model.__pydantic_decorators__.field_serializers.values())
    return by_method or any(isinstance(each, PlainSerializer | WrapSerializer) for each in field.metadata)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(owner: Any) -> str:
    return getattr(owner, "__name__", repr(owner))
