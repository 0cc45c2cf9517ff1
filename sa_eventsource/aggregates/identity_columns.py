"""What ``id`` and ``version`` are on an aggregate's class: for type checkers, and while the class is not mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never, overload

from sqlalchemy import ColumnClause, column
from typing_extensions import TypeVar

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import InstrumentedAttribute

    from sa_eventsource.aggregates.aggregate_root import AggregateRoot

    IdT = TypeVar("IdT", bound=str | UUID | int)

    class Id:
        """The id: a column on the class, a value on an instance, where it is never assigned."""

        @overload
        def __get__(self, instance: None, owner: type[AggregateRoot[IdT]]) -> InstrumentedAttribute[IdT]: ...
        @overload
        def __get__(self, instance: AggregateRoot[IdT], owner: type[AggregateRoot[IdT]]) -> IdT: ...
        def __get__(self, instance: Any, owner: Any) -> Any:
            """Get the column, or the value."""

        def __set__(self, instance: Any, value: Never) -> None:
            """Take no value."""

    class Version:
        """The version, likewise."""

        @overload
        def __get__(self, instance: None, owner: Any) -> InstrumentedAttribute[int]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> int: ...
        def __get__(self, instance: Any, owner: Any) -> Any:
            """Get the column, or the value."""

        def __set__(self, instance: Any, value: Never) -> None:
            """Take no value."""

else:

    class _UnmappedColumn:
        """A column of that name, from which SQLAlchemy learns what a criterion of all aggregates is made of.

        In ``with_loader_criteria(AggregateRoot, lambda aggregate: aggregate.version > 1, include_aliases=True)`` it first calls the
        lambda with ``AggregateRoot``, and then with each class that is loaded, which has attributes of its own.
        """

        def __set_name__(self, _owner: type[Any], name: str) -> None:
            self._name = name

        def __get__(self, instance: object, owner: type[Any]) -> ColumnClause[Any]:
            if instance is not None:
                raise AttributeError(f"{owner.__name__} is not mapped, and has no {self._name}", name=self._name, obj=instance)
            return column(self._name)

    Id = Version = _UnmappedColumn
