"""An aggregate's own constructor and comparisons, in whose place a declarative or dataclass base would have its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import registry

from sa_eventsource.exceptions import DeclarationError


def refuse_base_first(cls: type[Any], root: type[Any]) -> None:
    """Refuse a class that names its declarative base before ``AggregateRoot``: what both have would be the base's.

    Args:
        cls: The class of an aggregate.
        root: ``AggregateRoot``.

    Raises:
        DeclarationError: It is one.
    """
    before = cls.__mro__[: cls.__mro__.index(root)]
    if any(isinstance(getattr(each, "registry", None), registry) and not issubclass(each, root) for each in before):
        ordered = sorted(cls.__bases__, key=lambda each: not issubclass(each, root))
        raise DeclarationError(
            f"{cls.__name__} names its declarative base first, whose constructor and other methods would take the place of "
            f"AggregateRoot's. Write class {cls.__name__}({', '.join(each.__name__ for each in ordered)})"
        )


def keep_own_methods(cls: type[Any], root: type[Any]) -> None:
    """Put the methods that a class would inherit, except for those that were generated, on the class itself.

    A dataclass base writes all of these into every class that does not have them.

    Args:
        cls: The class of an aggregate.
        root: ``AggregateRoot``.
    """
    for name in ("__init__", "__repr__", "__eq__", "__hash__"):
        if name not in vars(cls):
            for base in cls.__mro__:
                method = vars(base).get(name)
                generated = "__dataclass_params__" in vars(base)
                if method is not None and (issubclass(base, root) or not generated):
                    setattr(cls, name, method)
                    break
