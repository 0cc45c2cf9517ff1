"""An aggregate's own constructor and comparisons, which declarative and dataclass bases would put theirs in front of."""

from __future__ import annotations

from typing import Any

from sa_eventsource.exceptions import DeclarationError


def refuse_generated_constructor(cls: type[Any], root: type[Any]) -> None:
    """Refuse an own constructor whose ``super().__init__()`` comes to the one that a declarative base brings.

    Args:
        cls: The class of an aggregate.
        root: ``AggregateRoot``.

    Raises:
        DeclarationError: It has such a constructor.
    """
    constructor = getattr(getattr(cls, "registry", None), "constructor", None)
    own = None
    for base in cls.__mro__:
        method = vars(base).get("__init__")
        if base is not cls and issubclass(base, root):
            return
        if method is not None and method is constructor and own is not None:
            bases = ", ".join(["AggregateRoot", *(each.__name__ for each in cls.__bases__ if each is not root)])
            raise DeclarationError(
                f"{own.__name__}.__init__ would call the constructor of {base.__name__}, and not that of AggregateRoot. Put "
                f"AggregateRoot first: class {cls.__name__}({bases})"
            )
        own = base if own is None and method is not None and method is not constructor else own


def keep_own_methods(cls: type[Any], root: type[Any]) -> None:
    """Put the methods that a class would inherit, but for those that were generated, on the class itself.

    A declarative base brings a constructor, and a dataclass base writes all of these into every class that does not have them.

    Args:
        cls: The class of an aggregate.
        root: ``AggregateRoot``.
    """
    constructor = getattr(getattr(cls, "registry", None), "constructor", None)
    for name in ("__init__", "__repr__", "__eq__", "__hash__"):
        if name not in vars(cls):
            for base in cls.__mro__:
                method = vars(base).get(name)
                generated = method is constructor or "__dataclass_params__" in vars(base)
                if method is not None and (issubclass(base, root) or not generated):
                    setattr(cls, name, method)
                    break
