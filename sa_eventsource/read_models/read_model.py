"""The base class of read models."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Table
from sqlalchemy.orm import MappedAsDataclass, MappedColumn, declared_attr
from sqlalchemy.orm.attributes import opt_manager_of_class
from typing_extensions import Format, get_annotations

from sa_eventsource.aggregates import AggregateRoot
from sa_eventsource.aggregates import definition_of as definition_of_aggregate
from sa_eventsource.class_options import Kind, Members, check_options, several
from sa_eventsource.consumers import knows, owners_of
from sa_eventsource.events import EVENT_CLASSES, DomainEvent, members
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import tables_of_base, tables_on, undone_on_failure
from sa_eventsource.read_models.evolve_methods import evolve_methods
from sa_eventsource.read_models.evolved_fields import evolved_fields
from sa_eventsource.read_models.field_annotations import resolved_annotation, type_of
from sa_eventsource.read_models.fields import KEPT, FieldDeclaration, map_from_event, refuse_old, understand, understand_key
from sa_eventsource.read_models.handler_methods import collect, marked
from sa_eventsource.read_models.mapped_rows import POSITIONS, map_to_own_table, map_to_projections
from sa_eventsource.read_models.read_model_definition import (
    Consistency,
    ReadModelDefinition,
    TakenEvents,
    versioned_name,
    versioned_table,
)
from sa_eventsource.read_models.value_types import ValueType

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Mapped, Mapper

    from sa_eventsource.consumers import OnError
    from sa_eventsource.read_models.fields import Field

_RESERVED = ("metadata", "registry", POSITIONS)


class ReadModel:
    """Base of classes whose rows follow from events: ``class OrderReadModel(ReadModel, Base)``.

    Fields are declared with :func:`~sa_eventsource.read_models.map_from_event`. Rows lie in the shared projections table, or in a
    table of the model's own where the class has a ``__tablename__``; they are queried like those of any mapped class, and changed
    by events only.

    Attributes:
        version: How many events have shaped the row.
        created_at: The earliest time at which one of them occurred, in UTC.
        updated_at: The latest.
    """

    __projection_name__: ClassVar[str]
    """Name the rows are kept under; the class's name by default."""

    __consistency__: ClassVar[Consistency] = "eventual"
    """``"strong"``: written in the transaction that writes the events. ``"eventual"``: by catching up."""

    __version__: ClassVar[int] = 1
    """Version of the declaration. Each has rows of its own, so that a new one is built while the old one serves; that of a model
    with a ``__tablename__`` has a table of its own, with the version at the end of its name from the second on."""

    __on_error__: ClassVar[OnError] = "stop"
    """What becomes of an event that an eventual model cannot take after several attempts. ``"stop"``: the model stops there, and
    says so. ``"park"``: it is put aside, with all later ones of its stream, and the model goes on with the other streams."""

    __shards__: ClassVar[int] = 1
    """Into how many parts a busy eventual model is split, so that as many workers can work on it; each takes some streams."""

    __removed_by__: ClassVar[tuple[type[DomainEvent], ...]] = ()
    """Events that remove the row. A later event of the stream begins a new one."""

    __aggregates__: ClassVar[tuple[type[AggregateRoot[Any]], ...] | None] = None
    """The aggregates whose events it takes; None for all that have them. A stream is known by its aggregate's type and its id:
    where several types of aggregates have an event, those of the same id shape one row, unless one is named here."""

    __indexes__: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Indexes on several fields each, by their names."""

    __read_model_definition__: ClassVar[ReadModelDefinition]

    if TYPE_CHECKING:
        version: Mapped[int]
        created_at: Mapped[datetime]
        updated_at: Mapped[datetime]

    else:  # a type checker would see it clash with a model's own

        @declared_attr.directive
        def __tablename__(cls) -> None:  # noqa: N805 - SQLAlchemy calls it with the class
            """Give no name: a model without a table of its own lies in the shared one."""
            if opt_manager_of_class(cls) is None:
                # A tool reads all attributes of the base class, or of an abstract one: nothing is being mapped.
                raise AttributeError(f"{cls.__name__} is not mapped", name="__tablename__", obj=cls)
            refuse_base_first(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Understand the declaration and map the class.

        Raises:
            DeclarationError: It is wrong. Correct what the message names; an earlier declaration of the model stays in place.
        """
        check_options(cls, Kind.READ_MODEL)
        with undone_on_failure(getattr(cls, "metadata", None)):
            if not vars(cls).get("__abstract__", False):
                _define(cls)
            super().__init_subclass__(**kwargs)
            definition = vars(cls).get("__read_model_definition__")
            if definition is not None:
                _follow_declarations(definition)

    def __repr__(self) -> str:
        """Name the class and the key."""
        key = ", ".join(f"{part.name}={vars(self).get(part.name)!r}" for part in self.__read_model_definition__.key)
        return f"<{type(self).__name__} {key}>"


def refuse_base_first(cls: type[Any], table: object = None) -> None:
    """Refuse a class that its declarative base maps before ``ReadModel`` has read what it declares.

    Args:
        cls: The class.
        table: What it is being mapped to, if that is there already.

    Raises:
        DeclarationError: It is one.
    """
    if "__read_model_definition__" not in vars(cls):
        if isinstance(table, Table) and table.name == getattr(cls, "__tablename__", None):
            table.metadata.remove(table)  # it was made of this declaration, which can be corrected and run again
        others = [each.__name__ for each in cls.__bases__ if each is not ReadModel]
        bases = ", ".join(["ReadModel", *(others or ["Base"])])
        raise DeclarationError(
            f"{cls.__name__} is mapped before ReadModel has read what it declares. Name ReadModel first, and then the declarative "
            f"base: class {cls.__name__}({bases})"
        )


def mapping(mapper: Mapper[Any], model: type[Any]) -> None:
    """Refuse a class that is being mapped and was not read as a model before."""
    refuse_base_first(model, mapper.local_table)


def _define(cls: type[Any]) -> None:
    where = cls.__name__
    if not hasattr(cls, "metadata"):
        raise DeclarationError(
            f"{where} has no declarative base: class {where}(ReadModel, Base). A base for several models says so: "
            "__abstract__ = True."
        )
    if any("__read_model_definition__" in vars(base) for base in cls.__mro__[1:]):
        raise DeclarationError(
            f"{where} inherits from a mapped read model; put what they share into a base with __abstract__ = True"
        )
    if issubclass(cls, MappedAsDataclass):
        raise DeclarationError(
            f"{where} is on a base that makes dataclasses, but rows are never made by a constructor. Declare it on another base "
            "with the same metadata: class ReadBase(DeclarativeBase): metadata = Base.metadata"
        )
    types, declared = _declared(cls)
    has_own_table = "__tablename__" in vars(cls)
    evolving = evolve_methods(cls)
    keys = _keys(cls, types, declared, has_rows_of_keys=bool(declared or evolving))
    if evolving:
        _refuse_beside_evolving(cls, declared)
    elif declared and not marked(cls):
        _refuse_undeclared(cls, {*keys, *declared})
    removed_by = _removed_by(cls)
    for event_class in (*removed_by, *evolving, *(event_class for each in declared.values() for event_class in each.events)):
        refuse_old(where, event_class)
    evolved = evolved_fields(cls, has_own_table=has_own_table, others={*keys, *KEPT}) if evolving else ()
    reading = partial(_read, cls, types, declared, keys, evolved, removed_by)
    definition = ReadModelDefinition(
        model=cls,
        name=versioned_name(where, vars(cls).get("__projection_name__", where), _version(cls)),
        consistency=cls.__consistency__,
        tables=tables_of_base(where, cls),
        has_own_table=has_own_table,
        on_error=cls.__on_error__,
        shards=cls.__shards__,
        aggregate_types=_aggregate_types(cls),
        reading=reading,
        **vars(reading()),
    )
    cls.__read_model_definition__ = definition
    if has_own_table:
        cls.__tablename__ = versioned_table(cls.__tablename__, _version(cls))
        definition.tables.refuse_name(cls.__tablename__, where)
        map_to_own_table(definition)
    else:
        map_to_projections(definition)


_following: WeakKeyDictionary[type[DomainEvent], WeakSet[ReadModelDefinition]] = WeakKeyDictionary()
"""The models that say what becomes of an event class, and so of each that will inherit from it."""


def _follow_declarations(definition: ReadModelDefinition) -> None:
    for event_class in definition.named_classes:
        _following.setdefault(event_class, WeakSet()).add(definition)


def check_removals(aggregate_class: type[AggregateRoot[Any]]) -> None:
    """Check the models that are there when an aggregate is declared: rows that events remove are of one stream each.

    Raises:
        DeclarationError: With this aggregate, two streams may feed such a row.
    """
    tables = tables_on(aggregate_class.metadata)  # type: ignore[attr-defined]
    for definition in tables.read_models.values():
        if definition.removed_by and knows(aggregate_class, definition.named_classes):
            definition.check_owners([*owners_of(tables, definition.named_classes), aggregate_class])


def take_further(event_class: type[DomainEvent]) -> None:
    """Let the models that take the events of a base class take a class that now inherits from it."""
    for definition in {each for base in event_class.__mro__[1:] for each in _following.get(base, ())}:
        definition.take(event_class)


def _read(  # noqa: PLR0913, PLR0917 - what was found in the class
    cls: type[Any],
    types: dict[str, ValueType],
    declared: dict[str, FieldDeclaration],
    keys: dict[str, FieldDeclaration],
    evolved: tuple[Field, ...],
    removing: tuple[type[DomainEvent], ...],
) -> TakenEvents:
    """Work out what each event does, with those that have been declared by now."""
    where = cls.__name__
    removed_by = members(removing)
    handlers, evolving = collect(cls), evolve_methods(cls)
    evolved_by = members(evolving)
    setting = {name: members(each.events) for name, each in declared.items()}
    for taken in (*setting.values(), evolved_by):
        for event_class in removed_by.keys() & taken.keys():
            # What is said of the class itself, or of a nearer base, goes.
            lineage = event_class.__mro__
            if lineage.index(removed_by[event_class]) < lineage.index(taken[event_class]):
                del taken[event_class]
            elif removed_by[event_class] is not taken[event_class]:
                del removed_by[event_class]
    events = {each.__event_type__: each for taken in (*setting.values(), evolved_by) for each in taken if each not in removed_by}
    removed = {each.__event_type__: each for each in removed_by}
    clash = [each.__name__ for name, each in {**events, **removed}.items() if name in handlers]
    if clash and declared:
        raise DeclarationError(f"{where} takes {clash[0]} both by declared fields and by an @handles method; choose one")
    return TakenEvents(
        named_classes=frozenset(
            {*removing, *evolving, *marked(cls), *(event for each in declared.values() for event in each.events)}
        ),
        key=tuple(
            understand_key(where, name, each, types[name], (*events.values(), *removed.values())) for name, each in keys.items()
        ),
        fields=evolved
        or tuple(understand(where, name, each, types[name], setting[name]) for name, each in declared.items() if not each.key),
        events=events,
        removed_by=removed,
        evolvers={each.__event_type__: evolving[taker] for each, taker in evolved_by.items()},
        handlers=handlers,
    )


_AGGREGATE_CLASSES = Members(
    "aggregates", "(Order,)", lambda each: isinstance(each, type) and issubclass(each, AggregateRoot) and each is not AggregateRoot
)


def _aggregate_types(cls: type[Any]) -> tuple[str, ...] | None:
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


def _version(cls: type[Any]) -> int:
    version: Any = cls.__version__
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DeclarationError(f"{cls.__name__}.__version__ is {version!r}; it must be a number from 1 on")
    return version


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
            f"{cls.__name__} has @evolves and @handles methods. What handlers change lies in the session, where a method that gets "
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
        if klass is ReadModel:
            continue
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
