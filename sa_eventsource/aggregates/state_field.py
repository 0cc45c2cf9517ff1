"""What stands on an aggregate's class for one state field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.operators import ColumnOperators

from sa_eventsource.exceptions import StateFieldAttributeError, StateFieldQueryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo
    from sqlalchemy.sql.operators import OperatorType

# What a mapped attribute has alongside operators: methods that make SQL (label, any, has, ...) and what describes a column.
_OF_COLUMNS = frozenset(
    name for name in dir(InstrumentedAttribute) if not name.startswith("_") and not hasattr(ColumnOperators, name)
) | {"cast", "type"}


class StateField(ColumnOperators):
    """One state field, as the class has it; on an instance it is reached only while the instance has no value.

    The database does not know state, so every use in a statement raises an error that says what to query instead. Reading the
    attribute, hashing it and comparing it with ``is`` do no harm: tools that look into classes do that.
    """

    def __init__(self, owner: str, name: str, default: FieldInfo | None, load: Callable[[Any], None]) -> None:
        """Keep the declaration, and the function that loads an instance's state."""
        self.owner = owner
        self.name = name
        self.default = default
        self._load = load

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        """Load the aggregate and return the value; on the class, return this declaration."""
        if instance is None:
            return self
        values = vars(instance)
        self._load(instance)
        try:
            return values[self.name]
        except KeyError:
            raise AttributeError(
                f"{owner.__name__}.{self.name} has no default and no event has set it yet", name=self.name, obj=instance
            ) from None

    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 - SQLAlchemy's signature
        """Refuse an operator.

        Raises:
            StateFieldQueryError: Always.
        """
        raise StateFieldQueryError(self.owner, self.name)

    def reverse_operate(self, op: OperatorType, other: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 - SQLAlchemy's signature
        """Refuse an operator whose left side is something else.

        Raises:
            StateFieldQueryError: Always.
        """
        raise StateFieldQueryError(self.owner, self.name)

    def __clause_element__(self) -> NoReturn:
        """Refuse to be a part of a statement; SQLAlchemy calls this where it is given something that is none of its own."""
        raise StateFieldQueryError(self.owner, self.name)

    def __bool__(self) -> NoReturn:
        """Refuse to be a condition: it would be true whatever the state, in ``not Order.paid`` within a hybrid for one."""
        raise StateFieldQueryError(self.owner, self.name)

    def __getattr__(self, name: str) -> Any:
        """Refuse what only mapped attributes have; to ``hasattr`` and tools it is just not there."""
        if name in _OF_COLUMNS:
            raise StateFieldAttributeError(self.owner, self.name, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        """Name the class and the field."""
        return f"<state field {self.owner}.{self.name}>"
