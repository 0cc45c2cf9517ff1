"""The annotation of a field, ``Mapped[...]``, resolved where it was written."""

from __future__ import annotations

import typing
from types import NoneType, UnionType
from typing import Any

from sqlalchemy.orm import Mapped

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.value_types import ValueType, value_type


def resolved_annotation(model: type[Any], owner: type[Any], name: str, annotation: Any) -> Any:
    """Resolve what stands within ``Mapped[...]``.

    Args:
        model: The read model.
        owner: The class in whose body the annotation stands.
        name: The field's name.
        annotation: What was written; None if there is no annotation.

    Raises:
        DeclarationError: There is none, it cannot be resolved, or it is no ``Mapped[...]``.
    """
    where = f"{model.__name__}.{name}"
    if annotation is None:
        raise DeclarationError(f"{where} has no annotation; write {name}: Mapped[str] = map_from_event(...)")
    holder = type(owner.__name__, (), {"__annotations__": {name: annotation}, "__module__": owner.__module__})
    try:
        resolved = typing.get_type_hints(holder, localns=dict(vars(owner)), include_extras=True)[name]
    except NameError as error:
        raise DeclarationError(
            f"{where}: {str(error).rstrip('.')}. Import what its annotation names at the module's level."
        ) from error
    if typing.get_origin(resolved) is not Mapped:
        raise DeclarationError(f"{where} must be annotated Mapped[...], not {resolved!r}")
    return typing.get_args(resolved)[0]


def type_of(where: str, annotation: Any) -> ValueType:
    """Find the type that a resolved annotation stands for.

    Raises:
        DeclarationError: Fields cannot have it.
    """
    found = value_type(annotation)
    if found is None:
        raise DeclarationError(
            f"{where}: fields cannot hold {annotation!r}. Use str, int, Decimal, float, bool, date, datetime, "
            "UUID, an Enum of texts or numbers, a list of these, or dict[str, Any] for a JSON document."
        )
    return found


def is_optional(annotation: Any) -> bool:
    """Check whether a resolved annotation allows None."""
    if typing.get_origin(annotation) is typing.Annotated:
        return is_optional(typing.get_args(annotation)[0])
    return typing.get_origin(annotation) in (typing.Union, UnionType) and NoneType in typing.get_args(annotation)
