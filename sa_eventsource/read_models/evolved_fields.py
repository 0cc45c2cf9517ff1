"""The fields of a model with ``@evolves`` methods: plain ``Mapped[...]`` annotations, with a ``mapped_column()`` or without."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Mapped, MappedColumn
from sqlalchemy.types import NullType
from typing_extensions import Format, get_annotations

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.exact_columns import check_column_type
from sa_eventsource.read_models.field_annotations import is_optional, resolved_annotation, type_of
from sa_eventsource.read_models.fields import Field, FieldDeclaration

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy import Column

    from sa_eventsource.read_models.value_types import ValueType

_ONLY_IN_A_TABLE = (
    "foreign_keys",
    "constraints",
    "server_default",
    "server_onupdate",
    "onupdate",
    "comment",
    "computed",
    "identity",
)


def evolved_fields(model: type[Any], *, has_own_table: bool, others: Collection[str]) -> tuple[Field, ...]:
    """Find the fields that methods set, those of mixins and abstract bases first.

    A column of a table of the model's own that the database fills is none of them: one that is computed, or has a default there
    alone.

    Args:
        model: The read model.
        has_own_table: Whether its rows are in a table of its own.
        others: Names that are no such fields: the key's, and what the library keeps.

    Raises:
        DeclarationError: A field's annotation is none that fields can have, or its column cannot be what it says.
    """
    fields: dict[str, Field] = {}
    for owner, name, annotation, column in _declared(model):
        if name not in others and not (has_own_table and column is not None and _is_filled_by_database(column.column)):
            fields.pop(name, None)
            fields[name] = _field(model, owner, name, (annotation, column), has_own_table=has_own_table)
    return tuple(fields.values())


def _declared(model: type[Any]) -> Iterator[tuple[type[Any], str, Any, MappedColumn[Any] | None]]:
    for owner in reversed(model.__mro__):
        if owner.__module__.partition(".")[0] in ("sqlalchemy", "sa_eventsource"):
            continue
        annotations = get_annotations(owner, format=Format.FORWARDREF)
        for name in dict.fromkeys((*annotations, *vars(owner))):
            member = vars(owner).get(name)
            if isinstance(member, MappedColumn):
                yield owner, name, annotations.get(name), member
            elif name in annotations and name not in vars(owner) and _is_mapped(annotations[name]):
                yield owner, name, annotations[name], None


def _is_mapped(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.partition("[")[0].rpartition(".")[2] == "Mapped"
    return typing.get_origin(annotation) is Mapped or "Mapped[" in str(annotation)


def _is_filled_by_database(column: Column[Any]) -> bool:
    return column.default is None and (column.server_default is not None or column.identity is not None)


def _field(
    model: type[Any], owner: type[Any], name: str, declared: tuple[Any, MappedColumn[Any] | None], *, has_own_table: bool
) -> Field:
    where, (written, given) = f"{model.__name__}.{name}", declared
    annotation = resolved_annotation(model, owner, name, written)
    if given is None and typing.get_origin(annotation) is typing.Annotated:
        given = next((each for each in typing.get_args(annotation)[1:] if isinstance(each, MappedColumn)), None)
    column = None if given is None else given.column
    held = type_of(where, annotation)
    if column is not None:
        _check(where, name, held, column, has_own_table=has_own_table)
    return Field(
        name=name,
        type=held,
        family="evolved",
        contributions={},
        distinct=False,
        declaration=FieldDeclaration(
            events=(),
            by_event=None,
            source=None,
            reduce=None,
            key=False,
            index=column is not None and bool(column.index),
            unique=column is not None and bool(column.unique),
            column=given,
        ),
        is_optional=is_optional(annotation),
    )


def _check(where: str, name: str, held: ValueType, column: Column[Any], *, has_own_table: bool) -> None:
    if column.primary_key:
        raise DeclarationError(
            f"{where} is a primary key, and nothing says where its value comes from; write {name}: Mapped[...] = "
            "map_from_event(key=True), with source= if the events' field has another name"
        )
    default: Any = column.default
    if default is not None and not (default.is_scalar or default.is_callable):
        raise DeclarationError(
            f"{where} has a default that the database works out, which an @evolves method cannot see; give it a value, such as "
            "default=0, or a function, such as default=list"
        )
    if has_own_table:
        check_column_type(where, column.type, held.kind)
        return
    without_effect = [option for option in _ONLY_IN_A_TABLE if getattr(column, option)]
    if not isinstance(column.type, NullType):
        without_effect.append("type")
    if without_effect:
        raise DeclarationError(
            f"{where} has a {without_effect[0].replace('_', ' ')}, which a row of the shared table cannot have; give the model a "
            "__tablename__, or leave it out"
        )
