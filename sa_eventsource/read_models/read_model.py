"""The base class of read models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Table
from sqlalchemy.orm import MappedAsDataclass, declared_attr
from sqlalchemy.orm.attributes import opt_manager_of_class

from sa_eventsource.aggregates import definition_of
from sa_eventsource.class_options import Kind, check_options
from sa_eventsource.consumers import knows, owners_of
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import tables_of_base, undone_on_failure
from sa_eventsource.read_models.declared_model import aggregate_types, read_declaration
from sa_eventsource.read_models.mapped_rows import map_to_own_table, map_to_projections
from sa_eventsource.read_models.model_versions import version_of, versioned_name, versioned_table
from sa_eventsource.read_models.read_model_definition import Consistency, PersonalData, ReadModelDefinition

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Mapped, Mapper

    from sa_eventsource.aggregates import AggregateRoot
    from sa_eventsource.consumers import OnError
    from sa_eventsource.events import DomainEvent


class ReadModel:
    """Base of classes whose rows follow from events: ``class OrderReadModel(ReadModel, Base)``.

    Fields are declared with :func:`~sa_eventsource.read_models.map_from_event`. Rows are in the shared projections table, or in a
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
    """What happens to an event that an eventual model cannot take after several attempts. ``"stop"``: the model stops there, and
    says so. ``"park"``: it is parked, with all later ones of its stream, and the model goes on with the other streams."""

    __shards__: ClassVar[int] = 1
    """Into how many parts a busy eventual model is split, so that as many workers can work on it; each takes some streams."""

    __removed_by__: ClassVar[tuple[type[DomainEvent], ...]] = ()
    """Events that remove the row. A later event of the stream begins a new one."""

    __aggregates__: ClassVar[tuple[type[AggregateRoot[Any]], ...] | None] = None
    """The aggregates whose events it takes; None for all that have them. A stream is known by its aggregate's type and its id:
    where several types of aggregates have an event, those of the same id shape one row, unless one is named here."""

    __indexes__: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Indexes on several fields each, by their names."""

    __personal_data__: ClassVar[PersonalData | None] = None
    """How personal fields of events are taken. ``"clear"``: as they are, until their subject is forgotten, which rebuilds the rows.
    ``"masked"``: as their placeholders. None: the model names none of them, and methods get placeholders."""

    __read_model_definition__: ClassVar[ReadModelDefinition]

    if TYPE_CHECKING:
        version: Mapped[int]
        created_at: Mapped[datetime]
        updated_at: Mapped[datetime]

    else:  # a type checker would see it clash with a model's own

        @declared_attr.directive
        def __tablename__(cls) -> None:  # noqa: N805 - SQLAlchemy calls it with the class
            """Give no name: a model without a table of its own is in the shared one."""
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
    declaration = read_declaration(cls)
    definition = ReadModelDefinition(
        model=cls,
        name=versioned_name(where, vars(cls).get("__projection_name__", where), version_of(cls)),
        consistency=cls.__consistency__,
        tables=tables_of_base(where, cls),
        has_own_table=declaration.has_own_table,
        on_error=cls.__on_error__,
        shards=cls.__shards__,
        aggregate_types=aggregate_types(cls),
        takes_personal_data=cls.__personal_data__,
        reading=declaration.taken_events,
        **vars(declaration.taken_events()),
    )
    cls.__read_model_definition__ = definition
    if declaration.has_own_table:
        cls.__tablename__ = versioned_table(cls.__tablename__, version_of(cls))
        definition.tables.refuse_name(cls.__tablename__, where)
        map_to_own_table(definition)
    else:
        map_to_projections(definition)


_following: WeakKeyDictionary[type[DomainEvent], WeakSet[ReadModelDefinition]] = WeakKeyDictionary()
"""The models that say what happens to an event class, and so of each that will inherit from it."""


def _follow_declarations(definition: ReadModelDefinition) -> None:
    for event_class in definition.named_classes:
        _following.setdefault(event_class, WeakSet()).add(definition)


def check_removals(aggregate_class: type[AggregateRoot[Any]]) -> None:
    """Check the models that are there when an aggregate is declared: rows that events remove are of one stream each.

    Raises:
        DeclarationError: With this aggregate, two streams may feed such a row.
    """
    tables = definition_of(aggregate_class).tables
    for definition in list(tables.read_models.values()):
        if definition.removed_by and knows(aggregate_class, definition.named_classes):
            definition.check_owners([*owners_of(tables, definition.named_classes), aggregate_class])


def take_further(event_class: type[DomainEvent]) -> None:
    """Let the models that take the events of a base class take a class that now inherits from it."""
    for definition in {each for base in event_class.__mro__[1:] for each in _following.get(base, ())}:
        definition.take(event_class)
