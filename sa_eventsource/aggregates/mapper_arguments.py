"""An application's own ``__mapper_args__``: taken alongside those that make a class an aggregate, or refused."""

from __future__ import annotations

from typing import Any

from sa_eventsource.exceptions import DeclarationError

_GIVEN = "__given_mapper_args__"
_OURS = frozenset(
    {
        "batch",
        "column_prefix",
        "concrete",
        "exclude_properties",
        "include_properties",
        "inherit_condition",
        "inherit_foreign_keys",
        "inherits",
        "local_table",
        "polymorphic_abstract",
        "polymorphic_identity",
        "polymorphic_load",
        "polymorphic_on",
        "primary_key",
        "version_id_col",
        "version_id_generator",
        "with_polymorphic",
    }
)


def set_aside(aggregate_class: type[Any], ours: object) -> None:
    """Put the library's ``__mapper_args__`` where SQLAlchemy looks, and keep those of the application for :func:`given_to`.

    Args:
        aggregate_class: The class, not mapped yet.
        ours: What stands under that name on ``AggregateRoot``.
    """
    own = vars(aggregate_class).get("__mapper_args__")
    if own is not None and own is not ours:
        setattr(aggregate_class, _GIVEN, own)
    if _first(aggregate_class, "__mapper_args__") is not ours:
        aggregate_class.__mapper_args__ = ours


def given_to(aggregate_class: type[Any], ours: object) -> dict[str, Any]:
    """Get the application's arguments: the class's own, or the nearest of its mixins, abstract bases and declarative base.

    Raises:
        DeclarationError: They contradict what makes the class an aggregate.
    """
    for klass in aggregate_class.__mro__:
        found = vars(klass).get(_GIVEN, vars(klass).get("__mapper_args__"))
        if found is not None and found is not ours and (klass is aggregate_class or "__mapper__" not in vars(klass)):
            given = dict(found.__get__(None, aggregate_class) if hasattr(found, "__get__") else found)
            refused = sorted(_OURS.intersection(given))
            if refused:
                raise DeclarationError(
                    f"{aggregate_class.__name__}.__mapper_args__ sets {', '.join(refused)}, which the library sets itself: an "
                    "aggregate "
                    "is mapped to its events, and its version is checked at each flush. Leave it out; where a base gives it, write "
                    f"__mapper_args__ = {{}} in {aggregate_class.__name__}."
                )
            return given
    return {}


def _first(klass: type[Any], name: str) -> object:
    return next((vars(base)[name] for base in klass.__mro__ if name in vars(base)), None)
