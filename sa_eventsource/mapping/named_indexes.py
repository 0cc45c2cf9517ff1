"""Indexes of the library's tables, which have names whatever the metadata's naming convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Index

if TYPE_CHECKING:
    from sqlalchemy import Column


def add_index(*columns: Column[Any], **options: Any) -> None:
    """Index columns; SQLAlchemy cannot name it where the metadata has a naming convention without indexes."""
    table = columns[0].table
    named = "ix" in table.metadata.naming_convention
    Index(None if named else "_".join(("ix", table.name, *(each.name for each in columns))), *columns, **options)
