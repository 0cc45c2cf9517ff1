"""Mapping a read model's class: to its part of the projections table, or to a table of its own; and its indexes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, DefaultClause, Index, Integer, and_, select, text
from sqlalchemy.orm import MappedColumn, mapped_column
from sqlalchemy.types import NullType
from typing_extensions import Format, get_annotations

from sa_eventsource.class_options import Members, several
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import DOCUMENT, TENANT_ID, UtcDateTime, add_tenant, quoted, tenants_worker
from sa_eventsource.read_models.exact_columns import check_column_type
from sa_eventsource.read_models.fields import Field, FieldDeclaration
from sa_eventsource.read_models.read_model_definition import definition_of
from sa_eventsource.read_models.row_types import StoredList, column_type, document_value, typed_text
from sa_eventsource.session import copied, note_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Column, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.read_models.fields import KeyPart
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

POSITIONS = "_positions"
"""Column of an own table that keeps which events set the fields; the shared table's is ``positions``."""

_LONGEST_NAME = 63

_GROUPS = Members(
    "tuples of names, one for each index",
    '(("city", "status"),)',
    lambda each: isinstance(each, tuple | list) and all(isinstance(name, str) for name in each),
)


def map_to_projections(definition: ReadModelDefinition) -> None:
    """Map the class to its rows of the shared table."""
    cls, table = definition.model, definition.tables.projections
    _checked_indexes(definition)
    for part in definition.key if definition.evolvers else definition.parts:
        if part.declaration.column is not None:
            raise DeclarationError(f"{cls.__name__}.{part.name} has a column=, but the model no __tablename__")
    columns = dict(document_columns(definition, table))
    rows = (
        select(*(column.label(name) for name, column in columns.items()), table.c.version, table.c.created_at, table.c.updated_at)
        .where(table.c.projection_name == quoted(definition.name))
        .subquery()
        .alias()  # which may stand in update(Model), so that the session can say what to do instead
    )
    _take_declarations_off(cls, set(columns))
    cls.__table__ = rows
    cls.__mapper_args__ = {"primary_key": [rows.c[part.name] for part in definition.key]}


def claim(model: type[Any]) -> None:
    """Let a model that is mapped take its name, and its indexes on the shared table, in place of an earlier declaration.

    Raises:
        DeclarationError: The class is no read model.
    """
    definition = definition_of(model)
    earlier: ReadModelDefinition | None = definition.tables.read_models.get(definition.name)
    table = definition.tables.projections
    replaced = {
        name for each in (earlier, definition) if each is not None and not each.has_own_table for name in _index_names(each)
    }
    for former in [each for each in table.indexes if each.name in replaced]:
        table.indexes.discard(former)
    definition.tables.read_models[definition.name] = definition
    tenants = tenants_worker(definition.tables.options)
    if tenants is not None:
        note_rows(model)
    if definition.has_own_table and tenants is not None:
        add_tenant(definition.table, tenants)
    if not definition.has_own_table:
        columns = dict(document_columns(definition, table))
        only_here = table.c.projection_name == quoted(definition.name)
        here: Any = {"postgresql_where": only_here, "sqlite_where": only_here}
        for names, unique in _indexes(definition):
            of_tenant = (table.c[TENANT_ID],) if unique and tenants is not None else ()
            Index(_index_name(definition.name, names), *of_tenant, *(columns[each] for each in names), unique=unique, **here)


def map_to_own_table(definition: ReadModelDefinition) -> None:
    """Turn the declarations into columns, for SQLAlchemy to map."""
    cls = definition.model
    own_annotations = dict(get_annotations(cls, format=Format.FORWARDREF))
    for part in definition.key:
        _put_column(cls, part, nullable=False, primary_key=True)
        own_annotations.pop(part.name, None)
    for each in definition.fields:
        nullable = each.is_optional if each.family == "evolved" else each.family not in ("sum", "list")
        _put_column(cls, each, nullable=nullable, primary_key=False)
        own_annotations.pop(each.name, None)
    cls.__annotations__ = own_annotations
    if definition.events:
        cls.version = mapped_column(Integer, nullable=False)
        cls.created_at = mapped_column(UtcDateTime, nullable=False)
        cls.updated_at = mapped_column(UtcDateTime, nullable=False)
        setattr(cls, POSITIONS, mapped_column(POSITIONS, DOCUMENT, nullable=True, deferred=True))
    several = [
        Index(_index_name(cls.__tablename__, names), *(vars(cls)[name].column.key or name for name in names))
        for names in _checked_indexes(definition)
    ]
    if several:
        given = getattr(cls, "__table_args__", None) or ()
        options = (given,) if isinstance(given, dict) else given
        cls.__table_args__ = (*several, *options)


def _put_column(cls: type[Any], part: KeyPart | Field, *, nullable: bool, primary_key: bool) -> None:
    declared = part.declaration
    # A copy, as SQLAlchemy makes for mixins: several classes may inherit the declaration.
    column = copied(declared.column) if declared.column is not None else mapped_column(nullable=nullable)
    column.column.index = column.column.index or declared.index or None
    column.column.unique = column.column.unique or declared.unique or None
    if isinstance(column.column.type, NullType):
        column.column.type = column_type(part.type)
    elif not (isinstance(part, Field) and part.family == "evolved"):  # whose columns are checked with the methods
        check_column_type(f"{cls.__name__}.{part.name}", column.column.type, part.type.kind)
    if primary_key:
        column.column.primary_key = True
        column.column.autoincrement = False
    if primary_key or part.declaration.column is None:
        column.column.nullable = nullable
    elif isinstance(part, Field) and part.family == "evolved":
        column.column.nullable = nullable and column.column.nullable
    if isinstance(part, Field) and not column.column.nullable and column.column.server_default is None:
        _give_default(column.column, part)
    setattr(cls, part.name, column)


def _give_default(column: Column[Any], field: Field) -> None:
    """Let a column that joins a table which has rows begin with what the field holds before any event has set it."""
    if field.family == "sum":
        column.server_default = DefaultClause(text("0"))
    elif field.family == "list" and isinstance(column.type, JSON | StoredList):
        column.server_default = DefaultClause(text("'[]'"))


def document_columns(definition: ReadModelDefinition, table: Table) -> Iterator[tuple[str, ColumnElement[Any]]]:
    """List key and fields as typed columns of the shared table, by name."""
    for part in definition.key:
        single = len(definition.key) == 1 and part.type.kind != "boolean"  # which SQLite does not read from its text
        yield part.name, typed_text(table.c.id, part.type) if single else document_value(table.c.data, part.name, part.type)
    for each in definition.fields:
        yield each.name, document_value(table.c.data, each.name, each.type)


def _indexes(definition: ReadModelDefinition) -> Iterator[tuple[tuple[str, ...], bool]]:
    for part in definition.parts:
        if part.declaration.index or part.declaration.unique:
            yield (part.name,), part.declaration.unique
    for names in _checked_indexes(definition):
        yield names, False
    # The shared table's primary key is a text: it serves a key that is one, in SQL too. Not unique, which the primary key is: two
    # transactions that make a row at once would collide here, where ON CONFLICT does not look.
    if len(definition.key) > 1 or any(part.type.kind in ("integer", "boolean") for part in definition.key):
        yield tuple(part.name for part in definition.key), False


def is_row(definition: ReadModelDefinition, key: tuple[Any, ...]) -> ColumnElement[bool]:
    """Build the condition that a stored row is the one of a key."""
    table = definition.table
    if not definition.has_own_table:
        return and_(table.c.projection_name == definition.name, table.c.id == definition.row_id(key))
    columns = definition.model.__mapper__.columns
    return and_(*(columns[part.name] == value for part, value in zip(definition.key, key, strict=True)))


def unique_indexes(definition: ReadModelDefinition) -> set[str]:
    """Name the unique indexes that a model declares: on its rows in the shared table, or on its own table."""
    if definition.has_own_table:
        return {str(index.name) for index in definition.table.indexes if index.unique}
    return {_index_name(definition.name, names) for names, is_unique in _indexes(definition) if is_unique}


def _index_names(definition: ReadModelDefinition) -> set[str]:
    return {_index_name(definition.name, names) for names, _ in _indexes(definition)}


def _checked_indexes(definition: ReadModelDefinition) -> list[tuple[str, ...]]:
    known = {part.name for part in definition.parts}
    indexes = several(definition.model, "__indexes__", definition.model.__indexes__, _GROUPS)
    for names in indexes:
        for name in names:
            if name not in known:
                raise DeclarationError(
                    f"{definition.model.__name__}.__indexes__ names {name!r}; the fields are {', '.join(sorted(known))}"
                )
    return [tuple(names) for names in indexes]


def _index_name(owner: str, names: tuple[str, ...]) -> str:
    name = "_".join(("ix", owner, *names))
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"{name[:40]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _take_declarations_off(cls: type[Any], names: set[str]) -> None:
    """Leave SQLAlchemy nothing to map besides the columns of the subquery."""
    cls.__annotations__ = {name: each for name, each in get_annotations(cls, format=Format.FORWARDREF).items() if name not in names}
    for name in names:
        if isinstance(vars(cls).get(name), FieldDeclaration | MappedColumn):
            delattr(cls, name)
