"""What SQLAlchemy keeps to itself of mapped classes and what is declared in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import inspection
from sqlalchemy.orm import ClassManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import MappedColumn, RelationshipProperty


def has_condition(relationship: RelationshipProperty[Any]) -> bool:
    """Check whether a relationship was given its ``primaryjoin``. The public attribute is set when the mapper is configured."""
    return relationship._init_args.primaryjoin.argument is not None  # noqa: SLF001


def refuse_lookups(manager: ClassManager[Any], refuse: Callable[[str], None]) -> None:
    """Have *refuse* called with each name that SQLAlchemy does not find among the attributes of a class; it may raise.

    ``Session.expire`` and ``refresh`` with names, ``flag_modified`` and the like look there first, and no event comes before.
    """
    manager.__class__ = _RefusingManager
    vars(manager)["_refuse"] = refuse


class _RefusingManager(ClassManager[Any]):
    _refuse: Callable[[str], None]

    def __missing__(self, key: str) -> Any:
        self._refuse(key)
        raise KeyError(key)


def refuse_inspection(kind: type[Any], refuse: Callable[[Any], Any]) -> None:
    """Have *refuse* called, which raises, where SQLAlchemy asks what an instance of *kind* is: as a loader option, a bound value.

    It is how SQLAlchemy's own classes are told to ``inspect()``, and an error of ours can be raised nowhere else.
    """
    inspection._inspects(kind)(refuse)  # noqa: SLF001


def copied(column: MappedColumn[Any]) -> MappedColumn[Any]:
    """Copy a ``mapped_column()``, as SQLAlchemy does with those of mixins, so that several classes can have it."""
    return column._copy()  # noqa: SLF001
