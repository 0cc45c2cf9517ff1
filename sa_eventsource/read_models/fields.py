"""What a declaration says of one field, as written and as understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sa_eventsource.events import DomainEvent, current_class, is_event
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.expressions import TimePartOf, has_source, has_two_meanings, resolve
from sa_eventsource.read_models.reducers import Reducer
from sa_eventsource.read_models.sources import Constant, Source, constant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import MappedColumn

    from sa_eventsource.read_models.expressions import SourceSpec
    from sa_eventsource.read_models.reducers import Family
    from sa_eventsource.read_models.value_types import ValueType


KEPT = ("version", "created_at", "updated_at")
"""What the library keeps of each row, besides key and fields."""


@dataclass(frozen=True)
class FieldDeclaration:
    """What :func:`map_from_event` was given."""

    events: tuple[type[DomainEvent], ...]
    by_event: Mapping[type[DomainEvent], Any] | None
    source: SourceSpec | None
    reduce: Reducer | None
    key: bool
    index: bool
    unique: bool
    column: MappedColumn[Any] | None


def map_from_event(  # noqa: PLR0913 - what can be said of a field
    *events: type[DomainEvent] | Mapping[type[DomainEvent], Any],
    source: SourceSpec | None = None,
    reduce: Reducer | None = None,
    key: bool = False,
    index: bool = False,
    unique: bool = False,
    column: MappedColumn[Any] | None = None,
) -> Any:
    """Declare a field of a read model: which events set it, from what, and how they come together.

    Examples::

        customer_id: Mapped[str] = map_from_event(OrderPlaced)
        city: Mapped[str] = map_from_event(OrderPlaced, source="address.city")
        status: Mapped[str] = map_from_event({OrderPlaced: "pending", OrderPaid: "paid"}, index=True)
        day: Mapped[date] = map_from_event(key=True, source=day("occurred_at", "Europe/Amsterdam"))
        revenue: Mapped[Decimal] = map_from_event(OrderPlaced, reduce=sum_(lambda event: event.quantity * event.price))
        balance: Mapped[Decimal] = map_from_event({InvoiceSent: increment("amount"), InvoicePaid: decrement("amount")})

    A field that no event has set yet is None; sums start at 0, lists empty.

    Args:
        *events: Event classes that all do the same; or one mapping of event class to a constant, or to a reducer such as
            ``last("amount")`` or ``decrement()``.
        source: Where the value comes from: a field of the event by its name (that of this field by default) or path
            (``"address.city"``); else what the log knows: ``aggregate_id``, ``aggregate_type``, ``version``, ``event_id``,
            ``event_type``, ``occurred_at``, ``correlation_id``, ``causation_id``, ``position``, ``metadata.<key>``, also of several
            keys that lead into it. Where both have a name, ``event.<name>`` and ``log.<name>`` say which is meant. ``day(...)``
            and the like; a number; or a function of the event that adds, subtracts and multiplies its fields. What the function
            does otherwise, such as ``==``, ``is None`` or an f-string, is refused.
        reduce: How several events come together: :func:`last` by default.
        key: Whether the field identifies the row. It applies to every event of the model that has the source; events whose key is
            None belong to no row. The key is the aggregate's id unless a field says otherwise.
        index: Create an index on the field.
        unique: Create a unique index on the field. A strong model then refuses the commit that would break it. Meant for models
            whose rows come from one stream each: where several make a row at the same moment, one may be refused without need.
        column: For a model with a table of its own, the column: ``mapped_column(ForeignKey("customers.id"))``. Type and name are
            filled in.

    Raises:
        DeclarationError: The arguments contradict each other. What the events do not have is found when the class is complete.
    """
    mappings = [each for each in events if isinstance(each, Mapping)]
    if mappings and (len(events) > 1 or source is not None or reduce is not None):
        raise DeclarationError("map_from_event() takes a mapping alone; write the sources and reducers into it")
    if reduce is not None and not isinstance(reduce, Reducer):
        raise DeclarationError(f"map_from_event() was given reduce={reduce!r}; write what makes a reducer: reduce=count()")
    if source is not None and reduce is not None and reduce.source is not None:
        raise DeclarationError(f"map_from_event() was given two sources: {source!r} and {reduce.source!r}")
    classes: tuple[Any, ...] = tuple(mappings[0]) if mappings else events
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, DomainEvent)):
            raise DeclarationError(f"map_from_event() takes DomainEvent classes, not {each!r}")
    return FieldDeclaration(classes, mappings[0] if mappings else None, source, reduce, key, index, unique, column)


@dataclass(frozen=True)
class Contribution:
    """What one event type does to one field.

    Attributes:
        source: Where the value comes from.
        sign: -1 for what takes away.
    """

    source: Source
    sign: int


@dataclass(frozen=True)
class Field:
    """A field, understood.

    Attributes:
        name: Its name.
        type: What it holds.
        family: How events come together in it.
        contributions: What each event type does, by stored name.
        distinct: Whether a list takes each value once.
        declaration: What was written.
        is_optional: Whether its annotation allows None, as far as that is asked: of a field that methods set.
    """

    name: str
    type: ValueType
    family: Family
    contributions: Mapping[str, Contribution]
    distinct: bool
    declaration: FieldDeclaration
    is_optional: bool = True

    @property
    def initial(self) -> Any:
        """What the field holds before any event has set it."""
        if self.family == "sum":
            return self.type.python(0)
        if self.family == "evolved":
            return self._default()
        return [] if self.family == "list" else None

    def _default(self) -> Any:
        default: Any = None if self.declaration.column is None else self.declaration.column.column.default
        if default is None:
            return None
        return default.arg(None) if default.is_callable else default.arg


@dataclass(frozen=True)
class KeyPart:
    """A field that identifies the row, alone or with others.

    Attributes:
        name: Its name.
        type: What it holds.
        sources: Where it comes from, by stored name of the event type.
        declaration: What was written.
    """

    name: str
    type: ValueType
    sources: Mapping[str, Source]
    declaration: FieldDeclaration


_KEY_KINDS = ("text", "integer", "boolean", "date", "moment", "uuid")


def understand(
    where: str, name: str, declared: FieldDeclaration, target: ValueType, taken: Mapping[type[DomainEvent], type[DomainEvent]]
) -> Field:
    """Resolve a field that is no key.

    Args:
        where: The model's name, for messages.
        name: The field's.
        declared: What was written.
        target: What it holds.
        taken: The events that set it, each with the class of the declaration that takes it.

    Raises:
        DeclarationError: An event lacks the source, the field cannot hold it, or its reducers do not go together.
    """
    if not declared.events:
        raise DeclarationError(f"{where}.{name} names no event; write map_from_event(OrderPlaced), or key=True")
    families: dict[Family, str] = {}
    contributions: dict[str, Contribution] = {}
    distinct: set[bool] = set()
    for event_class, taker in taken.items():
        given = declared.by_event[taker] if declared.by_event is not None else declared.reduce or Reducer("last", "last")
        if isinstance(given, Reducer):
            families.setdefault(given.family, given.name)
            distinct.add(given.distinct)
            source = _source_of(where, (name, target), given, declared, event_class)
            contributions[event_class.__event_type__] = Contribution(source, given.sign)
        else:
            families.setdefault("last", repr(given))
            _refuse_name(where, name, given, target, event_class)
            contributions[event_class.__event_type__] = Contribution(_constant(where, name, given, target), 1)
    if len(families) > 1:
        raise DeclarationError(
            f"{where}.{name} mixes {' and '.join(families.values())}; the events of one field must do the same kind of thing"
        )
    (family,) = families
    _check_family(where, name, family, target)
    if len(distinct) > 1:
        raise DeclarationError(
            f"{where}.{name} appends some values once and others always, or removes what is there once; a list is distinct for all "
            "its events or none, and only one without remove()"
        )
    return Field(name, target, family, contributions, True in distinct, declared)


def understand_key(
    where: str, name: str, declared: FieldDeclaration, target: ValueType, events: Iterable[type[DomainEvent]]
) -> KeyPart:
    """Resolve a key field for all events of the model.

    Raises:
        DeclarationError: An event lacks it, or its type cannot be a key.
    """
    if target.kind not in _KEY_KINDS:
        raise DeclarationError(
            f"{where}.{name} is of type {_type_name(target)}, which cannot be a key; use str, int, UUID, date, datetime or an Enum"
        )
    if declared.reduce is not None:
        raise DeclarationError(
            f"{where}.{name} is a key and so the same for all events of a row; give it a source instead of {declared.reduce.name}()"
        )
    sources: dict[str, Source] = {}
    for event_class in events:
        spec: Any = declared.source if declared.source is not None else name
        taker = next((base for base in event_class.__mro__ if declared.by_event is not None and base in declared.by_event), None)
        if declared.by_event is not None and taker is not None:
            given = declared.by_event[taker]
            if not isinstance(given, Reducer):
                _refuse_name(where, name, given, target, event_class)
                sources[event_class.__event_type__] = _constant(where, name, given, target)
                continue
            spec = given.source if given.source is not None else name
        both = has_two_meanings(spec, event_class)
        if both is not None:
            raise DeclarationError(
                f"{where}.{name}: {event_class.__name__} has a field {both} of its own, and the log knows {both} of each event; "
                f'write source="log.{both}" or source="event.{both}".'
            )
        if not has_source(spec, event_class, target):
            raise DeclarationError(
                f"{where}.{name} is a key, and {event_class.__name__} has no {spec!r}. Write key=True with a mapping: "
                f'{{{event_class.__name__}: last("the field that identifies the row"), ...}}'
            )
        source = resolve(spec, event_class, target)
        _check_holds(where, name, target, source, event_class)
        sources[event_class.__event_type__] = source
    return KeyPart(name, target, sources, declared)


def refuse_old(where: str, event_class: type[DomainEvent]) -> None:
    """Refuse a class that only stands for an older version of an event.

    Raises:
        DeclarationError: It is one.
    """
    if not is_event(event_class):
        return  # a base, which stands for the events that inherit from it
    current = current_class(event_class.__event_type__, event_class.__event_version__)
    if current is not event_class:
        raise DeclarationError(f"{where} maps {event_class.__name__}, an old version that is read as {current.__name__}; map that")


def _source_of(
    where: str, field: tuple[str, ValueType], reducer: Reducer, declared: FieldDeclaration, event_class: type[DomainEvent]
) -> Source:
    name, target = field
    spec: Any = reducer.source if reducer.source is not None else declared.source
    item = target.item if reducer.family == "list" else target
    if item is None:
        raise DeclarationError(f"{where}.{name} must be a list of values, such as Mapped[list[str]], for {reducer.name}()")
    if spec is None and reducer.counts:
        return Constant(1, _integer())
    try:
        source = resolve(spec if spec is not None else name, event_class, item)
    except DeclarationError as error:
        reason = str(error).removesuffix(".")
        raise DeclarationError(f"{where}.{name}: {reason}. Write source= with a field of {event_class.__name__}.") from error
    _check_holds(where, name, item, source, event_class)
    return source


def _integer() -> ValueType:
    found = constant(1)
    assert found is not None  # noqa: S101 - int is a type that fields can have
    return found.type


def _constant(where: str, name: str, value: Any, target: ValueType) -> Source:
    if callable(value) or isinstance(value, TimePartOf):
        raise DeclarationError(f"{where}.{name}: {value!r} stands where a constant is meant; write last(...) round a source")
    if value is None:
        return Constant(None, target)
    found = constant(value)
    if found is None or not target.holds(found.type):
        raise DeclarationError(f"{where}.{name} is of type {_type_name(target)} and cannot hold {value!r}")
    return found


def _refuse_name(where: str, name: str, value: object, target: ValueType, event_class: type[DomainEvent]) -> None:
    """Refuse a text as a constant where it names a field of the event that could be meant."""
    if type(value) is not str or target.enum is not None or value not in event_class.model_fields:
        return
    if has_source(value, event_class, target) and target.holds(resolve(value, event_class, target).type):
        raise DeclarationError(
            f"{where}.{name}: {value!r} stands where a constant is meant, and names a field of {event_class.__name__}; write "
            f'last("{value}") for the field, or another text, or a member of an enumeration, for the constant'
        )


def _check_holds(where: str, name: str, target: ValueType, source: Source, event_class: type[DomainEvent]) -> None:
    if not target.holds(source.type):
        raise DeclarationError(
            f"{where}.{name} is of type {_type_name(target)} and cannot hold the {_type_name(source.type)} that "
            f"{event_class.__name__} gives. Write Mapped[{_type_name(source.type)}], or another source."
        )


def _check_family(where: str, name: str, family: Family, target: ValueType) -> None:
    if family == "sum" and (target.kind not in ("integer", "decimal") or target.enum is not None):
        raise DeclarationError(
            f"{where}.{name} is of type {_type_name(target)}; sums and counts are int or Decimal, which add up to the "
            "same in any order"
        )
    if family in ("min", "max") and target.kind in ("boolean", "json"):
        raise DeclarationError(f"{where}.{name} is of type {_type_name(target)}, of which none is the least")


def _type_name(found: ValueType) -> str:
    return getattr(found.python, "__name__", repr(found.python)) if found.item is None else repr(found.python)
