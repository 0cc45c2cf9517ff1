"""What follows when SQLAlchemy maps a class: only then does a declaration take the place of an earlier one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, event
from sqlalchemy.orm import Mapper

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.exceptions import DeclarationError, OneSidedRelationshipError, PartialStateError
from sa_eventsource.mapping import refuse_extended
from sa_eventsource.session.sqlalchemy_internals import has_condition, refuse_lookups

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import RelationshipProperty


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
        refuse_lookups(mapper.class_manager, partial(_refuse_state, class_))
    for kind, take in _takers:
        if issubclass(class_, kind):
            take(class_)


def configured(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Refuse changes of relationships that only an aggregate could write: it writes events, and no rows of others."""
    if issubclass(class_, AggregateRoot):
        for relationship in mapper.relationships:
            _guard(relationship)
            other = _reverse(relationship)
            # What a backref makes on a class that was configured before, nobody tells of.
            if relationship.backref and other is not None and other.parent.configured and other.parent is not mapper:
                _guard(other)


def _guard(relationship: RelationshipProperty[Any]) -> None:
    other, class_ = _reverse(relationship), relationship.parent.class_
    if relationship.viewonly or not issubclass(class_, AggregateRoot) or _takes_over(relationship, other):
        return
    aggregate_beyond = relationship.mapper.class_ if issubclass(relationship.mapper.class_, AggregateRoot) else None
    refuse = partial(_refuse_change, class_, relationship.key, aggregate_beyond)
    for change in ("append", "remove") if relationship.uselist else ("set",):
        event.listen(getattr(class_, relationship.key), change, refuse)
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
    begun_at: str = change[-1].key  # the other side learns of a change before listeners of this one
    if other is not None and begun_at != key:
        aggregate_class, key, other = other, begun_at, aggregate_class
    raise OneSidedRelationshipError(aggregate_class.__name__, key, None if other is None else other.__name__)


def _refuse_state(aggregate_class: type[AggregateRoot[Any]], key: str) -> None:
    if key in aggregate_class.__state_fields__.names:
        raise PartialStateError(aggregate_class.__name__, key)
