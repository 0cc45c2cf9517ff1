"""What the class of a read model declares, as read from the class: its keys and fields, and the events that it names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import MappedColumn
from typing_extensions import Format, get_annotations

from sa_eventsource.aggregates import AggregateRoot
from sa_eventsource.aggregates import definition_of as definition_of_aggregate
from sa_eventsource.class_options import Members, several
from sa_eventsource.events import EVENT_CLASSES, members
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.evolve_methods import evolve_methods
from sa_eventsource.read_models.evolved_fields import evolved_fields
from sa_eventsource.read_models.field_annotations import resolved_annotation, type_of
from sa_eventsource.read_models.fields import KEPT, FieldDeclaration, map_from_event, refuse_old, understand, understand_key
from sa_eventsource.read_models.handler_methods import collect, marked
from sa_eventsource.read_models.mapped_rows import POSITIONS
from sa_eventsource.read_models.value_types import ValueType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sa_eventsource.consumers import HandlerMethod
    from sa_eventsource.events import DomainEvent
    from sa_eventsource.read_models.evolve_methods import EvolveFunction
    from sa_eventsource.read_models.fields import Field, KeyPart

_RESERVED = ("metadata", "registry", POSITIONS)


@dataclass(kw_only=True)
class TakenEvents:
    """What events do to a model's rows, with the event classes that have been declared by now.

    Attributes:
        named_classes: The event classes that the declaration names; those that inherit from them are taken too.
        key: The fields that identify the row, in the order declared.
        fields: The other declared fields.
        events: The event classes that declared fields or ``@evolves`` methods take, by stored name.
        removed_by: Those that remove the row, by stored name.
        evolvers: The ``@evolves`` methods, by stored name of the event type.
        handlers: The ``@handles`` methods, likewise.
    """

    named_classes: frozenset[type[DomainEvent]]
    key: tuple[KeyPart, ...]
    fields: tuple[Field, ...]
    events: Mapping[str, type[DomainEvent]]
    removed_by: Mapping[str, type[DomainEvent]]
    evolvers: Mapping[str, EvolveFunction]
    handlers: Mapping[str, HandlerMethod]


@dataclass(frozen=True)
class DeclaredModel:
    """What a class declares, whichever event classes inherit from those that it names.

    Attributes:
        model: The class.
        types: The types of the fields declared with ``map_from_event()``, by name.
        fields: Their declarations.
        keys: Those that identify the row.
        evolved: The fields that ``@evolves`` methods set.
        removed_by: The events that remove the row.
        has_own_table: Whether the rows are in a table of the model's own.
    """

    model: type[Any]
    types: Mapping[str, ValueType]
    fields: Mapping[str, FieldDeclaration]
    keys: Mapping[str, FieldDeclaration]
    evolved: tuple[Field, ...]
    removed_by: tuple[type[DomainEvent], ...]
    has_own_table: bool

    def taken_events(self) -> TakenEvents:
        """Work out what each event does, with those that have been declared by now."""
        where = self.model.__name__
        removed_by = members(self.removed_by)
        handlers, evolving = collect(self.model), evolve_methods(self.model)
        evolved_by = members(evolving)
        setting = {name: members(each.events) for name, each in self.fields.items()}
        for taken in (*setting.values(), evolved_by):
            for event_class in removed_by.keys() & taken.keys():
                # What is said of the class itself, or of a nearer base, goes.
                lineage = event_class.__mro__
                if lineage.index(removed_by[event_class]) < lineage.index(taken[event_class]):
                    del taken[event_class]
                elif removed_by[event_class] is not taken[event_class]:
                    del removed_by[event_class]
        events = {
            each.__event_type__: each for taken in (*setting.values(), evolved_by) for each in taken if each not in removed_by
        }
        removed = {each.__event_type__: each for each in removed_by}
        clash = [each.__name__ for name, each in {**events, **removed}.items() if name in handlers]
        if clash and self.fields:
            raise DeclarationError(f"{where} takes {clash[0]} both by declared fields and by an @handles method; choose one")
        named_by_fields = (event_class for declared in self.fields.values() for event_class in declared.events)
        of_keys = (*events.values(), *removed.values())
        return TakenEvents(
            named_classes=frozenset({*self.removed_by, *evolving, *marked(self.model), *named_by_fields}),
            key=tuple(understand_key(where, name, declared, self.types[name], of_keys) for name, declared in self.keys.items()),
            fields=self.evolved
            or tuple(
                understand(where, name, each, self.types[name], setting[name]) for name, each in self.fields.items() if not each.key
            ),
            events=events,
            removed_by=removed,
            evolvers={each.__event_type__: evolving[taker] for each, taker in evolved_by.items()},
            handlers=handlers,
        )


def read_declaration(cls: type[Any]) -> DeclaredModel:
    """Read what a class declares.

    Raises:
        DeclarationError: It is wrong.
    """
    types, fields = _declared(cls)
    has_own_table = "__tablename__" in vars(cls)
    evolving = evolve_methods(cls)
    keys = _keys(cls, types, fields, has_rows_of_keys=bool(fields or evolving))
    if evolving:
        _refuse_beside_evolving(cls, fields)
    elif fields and not marked(cls):
        _refuse_undeclared(cls, {*keys, *fields})
    removed_by = _removed_by(cls)
    for event_class in (*removed_by, *evolving, *(event_class for each in fields.values() for event_class in each.events)):
        refuse_old(cls.__name__, event_class)
    evolved = evolved_fields(cls, has_own_table=has_own_table, others={*keys, *KEPT}) if evolving else ()
    return DeclaredModel(cls, types, fields, keys, evolved, removed_by, has_own_table)


_AGGREGATE_CLASSES = Members(
    "aggregates", "(Order,)", lambda each: isinstance(each, type) and issubclass(each, AggregateRoot) and each is not AggregateRoot
)


def aggregate_types(cls: type[Any]) -> tuple[str, ...] | None:
    """Read the types of the aggregates that a model's class names; None for all.

    Raises:
        DeclarationError: It names something else, or aggregates of another log.
    """
    given: Any = cls.__aggregates__
    if given is None:
        return None
    given = several(cls, "__aggregates__", given, _AGGREGATE_CLASSES)
    if not given:
        raise DeclarationError(f"{cls.__name__}.__aggregates__ is empty; name aggregates, or leave it out for all")
    for each in given:
        if getattr(each, "metadata", None) is not cls.metadata:
            raise DeclarationError(
                f"{cls.__name__}.__aggregates__ names {each.__name__}, whose events are not in the log of {cls.__name__}'s base"
            )
    return tuple(definition_of_aggregate(each).aggregate_type for each in given)


def _keys(
    cls: type[Any], types: dict[str, ValueType], declared: dict[str, FieldDeclaration], *, has_rows_of_keys: bool
) -> dict[str, FieldDeclaration]:
    """Take the key fields out of those declared; the aggregate's id if there are none."""
    keys = {name: each for name, each in declared.items() if each.key}
    if len(keys) == 1 and any(each.unique for each in keys.values()):
        raise DeclarationError(
            f"{cls.__name__}.{next(iter(keys))} is the key, of which each row has its own; leave unique=True out"
        )
    if keys or not has_rows_of_keys:
        return keys
    if isinstance(vars(cls).get("id"), MappedColumn):
        raise DeclarationError(
            f"{cls.__name__}.id is a column that no event sets; write id: Mapped[str] = "
            'map_from_event(key=True, source="aggregate_id", column=mapped_column(...))'
        )
    types.setdefault("id", ValueType("text", str))
    return {"id": map_from_event(key=True, source="log.aggregate_id")}


def _refuse_beside_evolving(cls: type[Any], declared: dict[str, FieldDeclaration]) -> None:
    """Refuse what cannot be in one row with ``@evolves`` methods."""
    fields = [name for name, each in declared.items() if not each.key]
    if fields:
        raise DeclarationError(
            f"{cls.__name__}.{fields[0]} is declared with map_from_event(), in a model with @evolves methods, which set all but "
            f"the key. Write {fields[0]}: Mapped[...] and set it in the methods, or declare all fields."
        )
    if marked(cls):
        raise DeclarationError(
            f"{cls.__name__} has @evolves and @handles methods. What handlers change is in the session, where a method that gets "
            "one row does not see it. Make two models, or handle all events."
        )


def _refuse_undeclared(cls: type[Any], known: set[str]) -> None:
    """Refuse what looks like a field but says nothing of where it comes from."""
    has_own_table = "__tablename__" in vars(cls)
    for klass in (cls,) if has_own_table else cls.__mro__:
        annotations = get_annotations(klass, format=Format.FORWARDREF)
        names = [name for name, each in annotations.items() if name not in vars(klass) and "Mapped[" in str(each)]
        if not has_own_table:
            names += [name for name, value in vars(klass).items() if isinstance(value, MappedColumn)]
        for name in names:
            if name not in known and name not in KEPT:
                raise DeclarationError(
                    f"{cls.__name__}.{name} is set by no event; write {name}: Mapped[...] = map_from_event(...), or, in a model "
                    "with a __tablename__, mapped_column(...) with a default in the database"
                )


def _removed_by(cls: type[Any]) -> tuple[type[DomainEvent], ...]:
    found = several(cls, "__removed_by__", cls.__removed_by__, EVENT_CLASSES)
    for event_class in found:
        refuse_old(cls.__name__, event_class)
    return found


def _declared(cls: type[Any]) -> tuple[dict[str, ValueType], dict[str, FieldDeclaration]]:
    """Collect the types and declarations of all fields, those of mixins and abstract bases first."""
    types: dict[str, ValueType] = {}
    declared: dict[str, FieldDeclaration] = {}
    for klass in reversed(cls.__mro__):
        annotations = get_annotations(klass, format=Format.FORWARDREF)
        for name, member in vars(klass).items():
            if isinstance(member, FieldDeclaration):
                declared.pop(name, None)
                declared[name] = member
                types[name] = _type_of(cls, klass, name, annotations.get(name))
                if name in _RESERVED or name.startswith("__"):
                    raise DeclarationError(f"{cls.__name__}.{name} is a reserved name; declare the field under another one")
                if name in KEPT:
                    raise DeclarationError(f"{cls.__name__}.{name} is kept by the library; declare the field under another name")
        if "id" in annotations and "id" not in vars(klass):
            types["id"] = _type_of(cls, klass, "id", annotations["id"])
    return types, declared


def _type_of(cls: type[Any], owner: type[Any], name: str, annotation: Any) -> ValueType:
    return type_of(f"{cls.__name__}.{name}", resolved_annotation(cls, owner, name, annotation))
