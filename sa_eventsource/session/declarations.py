"""What follows when SQLAlchemy maps a class: only then does a declaration take the place of an earlier one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, event
from sqlalchemy.orm import Mapper, RelationshipProperty

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.exceptions import AggregateStateError, DeclarationError, OneSidedRelationshipError, PartialStateError
from sa_eventsource.mapping import refuse_extended
from sa_eventsource.session.guards import class_of_table
from sa_eventsource.session.sqlalchemy_internals import has_condition, refuse_lookups

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import InstanceState, QueryableAttribute


def on_mapped(kind: type[Any], take: Callable[[Any], None]) -> None:
    """Have *take* called with each subclass of *kind* when it is mapped; a declaration that fails does not come so far.

    What *take* raises refuses the declaration, before a later one of these takes it in.
    """
    _takers.insert(0, (kind, take))


_takers: list[tuple[type[Any], Callable[[Any], None]]] = [
    (AggregateRoot, lambda aggregate_class: definition_of(aggregate_class).claim())
]


def on_mapping(kind: type[Any], check: Callable[[Mapper[Any], Any], None]) -> None:
    """Have *check* called with each mapper of a subclass of *kind*, and the class, before anything else is made of it."""
    _checks[kind] = check


def instrumented(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Let those who know the kind of class refuse the mapping."""
    refuse_extended(mapper.local_table, class_.__name__)
    for kind, check in _checks.items():
        if issubclass(class_, kind):
            check(mapper, class_)


def _refuse_other_mappings(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Refuse an aggregate that is being mapped to a table, imperatively or by a decorator, or before its declaration is read."""
    if "__aggregate_definition__" not in vars(class_):
        raise DeclarationError(
            f"{class_.__name__} is mapped to {mapper.local_table}, but an aggregate is mapped to its own events. Declare it as "
            f"class {class_.__name__}(AggregateRoot, Base), without a table."
        )


_checks: dict[type[Any], Callable[[Mapper[Any], Any], None]] = {AggregateRoot: _refuse_other_mappings}


def mapped(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Let a declaration take its place, now that SQLAlchemy has mapped the class."""
    if issubclass(class_, AggregateRoot):
        _refuse_validators(mapper, class_)
        refuse_lookups(mapper.class_manager, partial(_refuse_state, class_))
    for kind, take in _takers:
        if issubclass(class_, kind):
            take(class_)


def _refuse_validators(mapper: Mapper[Any], class_: type[AggregateRoot[Any]]) -> None:
    for key in mapper.validators:
        if key in class_.__state_fields__.names or key in _IDENTITY:
            raise DeclarationError(
                f"{class_.__name__}: @validates({key!r}) would never be called, since {key} follows from events, which are checked "
                "before they are stored. Check the value in the method that applies the event, or in the event's class by Pydantic."
            )


def attribute_instrumented(class_: type[Any], key: str, attribute: QueryableAttribute[Any]) -> None:
    """Guard an attribute when SQLAlchemy has completed it: as mappers are configured, or when it is added to a class later."""
    prop: Any = attribute.prop
    if isinstance(prop, RelationshipProperty):
        if not prop.viewonly:
            _refuse_unheard_writes(prop)
            if issubclass(class_, AggregateRoot):
                _guard(prop, attribute)
    elif issubclass(class_, AggregateRoot) and key in _IDENTITY:
        event.listen(attribute, "set", partial(_refuse_identity, key), raw=True)
        event.listen(attribute, "remove", partial(_refuse_removal, key), raw=True)


_IDENTITY = ("id", "version")


def _refuse_unheard_writes(relationship: RelationshipProperty[Any]) -> None:
    """Refuse a relationship that writes an aggregate's id or version, or rows that no event of a flush comes before."""
    where = f"{relationship.parent.class_.__name__}.{relationship.key}"
    for mapper in {relationship.parent, relationship.mapper}:
        columns = mapper.persist_selectable.c
        if issubclass(mapper.class_, AggregateRoot) and any(
            columns.contains_column(to) for _, to in relationship.synchronize_pairs
        ):
            name = mapper.class_.__name__
            raise DeclarationError(
                f"{where} would write the id or the version of the aggregate {name}, which never change: foreign() stands at the "
                f"wrong side. Write it at the column that holds the aggregate's id, such as "
                f'primaryjoin="foreign(User.id) == {name}.id", or set viewonly=True.'
            )
    if isinstance(relationship.secondary, Table):
        written = class_of_table(relationship.secondary)
        if written is not None:
            raise DeclarationError(
                f"{where} would write rows of {written.__name__}, whose table is its secondary= and is written by events alone. "
                "Set viewonly=True."
            )


def _refuse_identity(key: str, state: InstanceState[Any], value: Any, *_: Any) -> None:
    """Refuse another id or version, which ``set_attribute()`` and ``merge()`` would set past the class's own ``__setattr__``."""
    is_known, present = state.key is not None or key in state.dict, state.dict.get(key)  # neither, in a blank one for merge()
    if key == "id" and state.key is not None:
        present = state.key[1][0]
    if is_known and value != present:
        raise AggregateStateError(state.class_.__name__, key)


def _refuse_removal(key: str, state: InstanceState[Any], *_: Any) -> None:
    raise AggregateStateError(state.class_.__name__, key)


def _guard(relationship: RelationshipProperty[Any], attribute: QueryableAttribute[Any]) -> None:
    """Refuse changes of a relationship that only an aggregate could write: it writes events, and no rows of others."""
    if _takes_over(relationship, _reverse(relationship)):
        return
    class_, other = relationship.parent.class_, relationship.mapper.class_
    refuse = partial(_refuse_change, class_, relationship.key, other if issubclass(other, AggregateRoot) else None)
    for change in ("append", "remove") if relationship.uselist else ("set",):
        event.listen(attribute, change, refuse)
    # What is appended would be in the session before the error is raised.
    relationship.cascade = set(relationship.cascade) - {"save-update"}  # type: ignore[assignment]


def _takes_over(relationship: RelationshipProperty[Any], other: RelationshipProperty[Any] | None) -> bool:
    """Tell whether a change of a relationship becomes one of its other side, and is written from there."""
    return (
        other is not None
        and relationship.sync_backref is not False
        and not other.viewonly
        and not issubclass(other.parent.class_, AggregateRoot)
    )


def _reverse(relationship: RelationshipProperty[Any]) -> RelationshipProperty[Any] | None:
    """Get the other side that a relationship names, or that its ``backref`` makes."""
    named: Any = relationship.back_populates
    return relationship.mapper.relationships.get(getattr(named, "key", named)) if named else None


def refuse_undecided_joins(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Refuse a relationship that SQLAlchemy would look for foreign keys for, where there is no table to have or to meet one."""
    for relationship in mapper.relationships:
        if not has_condition(relationship):
            other = _other_side(mapper, relationship)
            for side in (class_, other):
                if side is not None and _has_no_table(side):
                    raise DeclarationError(_how_to_join(class_, relationship.key, side, other or side))


def _other_side(mapper: Mapper[Any], relationship: RelationshipProperty[Any]) -> Any:
    given: Any = relationship.argument
    if callable(given) and not isinstance(given, type):
        given = given()
    if isinstance(given, Mapper):
        return given.class_
    if isinstance(given, type):
        return given
    name = str(given).rpartition(".")[2]
    return next((each.class_ for each in mapper.registry.mappers if each.class_.__name__ == name), None)


def _has_no_table(class_: type[Any]) -> bool:
    return issubclass(class_, tuple(kind for kind, _ in _takers)) and not isinstance(getattr(class_, "__table__", None), Table)


def _how_to_join(class_: type[Any], key: str, without: type[Any], other: type[Any]) -> str:
    kind = "aggregate" if issubclass(without, AggregateRoot) else "read model"
    column = (
        f"{class_.__name__}.{other.__name__.lower()}_id" if without is other else f"{other.__name__}.{class_.__name__.lower()}_id"
    )
    return (
        f"{class_.__name__}.{key}: the {kind} {without.__name__} has no table of its own, so no foreign key says how to join. Say "
        f'it: relationship(primaryjoin="foreign({column}) == {without.__name__}.id", viewonly=True), with the column that holds '
        "the id."
    )


def _refuse_change(aggregate_class: type[Any], key: str, other: type[Any] | None, *change: Any) -> None:
    begun_at: Any = change[-1].impl  # the other side learns of a change before listeners of this one
    if not issubclass(begun_at.class_, AggregateRoot):
        return  # it has been written there, and is only shown here
    if other is not None and begun_at.key != key:
        aggregate_class, key, other = other, begun_at.key, aggregate_class
    raise OneSidedRelationshipError(aggregate_class.__name__, key, None if other is None else other.__name__)


def _refuse_state(aggregate_class: type[AggregateRoot[Any]], key: str) -> None:
    if key in aggregate_class.__state_fields__.names:
        raise PartialStateError(aggregate_class.__name__, key)
