"""Rows that only remember what was done, and for how long they are kept: a worker deletes the older ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sa_eventsource.exceptions import DeclarationError

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, MetaData, Table

_INFO_KEY = "sa_eventsource.kept_rows"


@dataclass(frozen=True, eq=False)
class KeptRows:
    """Rows of a table that are not kept for ever.

    Attributes:
        table: The table.
        moment: When what a row remembers was done.
        condition: Which rows are meant.
        keep: For how long they are kept.
    """

    table: Table
    moment: Column[Any]
    condition: ColumnElement[bool]
    keep: timedelta


def keep_rows(name: str, rows: KeptRows) -> None:
    """Declare for how long rows are kept; under a name that stands for the same rows in each declaration."""
    rows.table.metadata.info.setdefault(_INFO_KEY, {})[name] = rows


def kept_rows(metadata: MetaData) -> list[KeptRows]:
    """List what is declared of the tables on a metadata."""
    return list(metadata.info.get(_INFO_KEY, {}).values())


def check_keep(where: str, keep: Any) -> None:
    """Refuse what is no time to keep rows for.

    Args:
        where: The option, for the message.
        keep: What was given; None for ever.

    Raises:
        DeclarationError: It is neither None nor a ``timedelta`` above 0.
    """
    if keep is not None and not (isinstance(keep, timedelta) and keep > timedelta(0)):
        raise DeclarationError(f"{where} is {keep!r}; it must be a timedelta above 0, such as timedelta(days=30), or None for ever")
