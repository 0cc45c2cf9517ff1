"""What follows when SQLAlchemy maps a class: only then does a declaration take the place of an earlier one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.exceptions import DeclarationError, OneSidedRelationshipError, PartialStateError
from sa_eventsource.session.sqlalchemy_internals import refuse_lookups

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Mapper


def on_mapped(kind: type[Any], take: Callable[[Any], None]) -> None:
    """Have *take* called with each subclass of *kind* when it is mapped; a declaration that fails does not come so far."""
    _takers[kind] = take


_takers: dict[type[Any], Callable[[Any], None]] = {AggregateRoot: lambda aggregate_class: definition_of(aggregate_class).claim()}


def instrumented(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Refuse an aggregate that is being mapped to a table, imperatively or by a decorator."""
    if issubclass(class_, AggregateRoot) and "__aggregate_definition__" not in vars(class_):
        raise DeclarationError(
            f"{class_.__name__} is mapped to {mapper.local_table}, but an aggregate is mapped to its own events. Declare it as "
            f"class {class_.__name__}(AggregateRoot, Base), without a table."
        )


def mapped(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Let a declaration take its place, now that SQLAlchemy has mapped the class."""
    if issubclass(class_, AggregateRoot):
        refuse_lookups(mapper.class_manager, partial(_refuse_state, class_))
    for kind, take in _takers.items():
        if issubclass(class_, kind):
            take(class_)


def configured(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Refuse changes of relationships that only the aggregate could write: it writes events, and no foreign keys of other rows."""
    if issubclass(class_, AggregateRoot):
        for relationship in mapper.relationships:
            if not (relationship.viewonly or relationship.back_populates or relationship.backref):
                refuse = partial(_refuse_change, class_, relationship.key)
                for change in ("append", "remove") if relationship.uselist else ("set",):
                    event.listen(getattr(class_, relationship.key), change, refuse)
                # What is appended would be in the session before the error is raised.
                relationship.cascade = set(relationship.cascade) - {"save-update"}  # type: ignore[assignment]


def _refuse_change(aggregate_class: type[AggregateRoot[Any]], key: str, *_: object) -> None:
    raise OneSidedRelationshipError(aggregate_class.__name__, key)


def _refuse_state(aggregate_class: type[AggregateRoot[Any]], key: str) -> None:
    if key in aggregate_class.__state_fields__.names:
        raise PartialStateError(aggregate_class.__name__, key)
