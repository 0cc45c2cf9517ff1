"""What a command is: a Pydantic model, with a stored name, and perhaps the type of what handling it gives."""

from __future__ import annotations

from typing import Any, ClassVar, Generic

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

R = TypeVar("R", default=Any)


class Command(BaseModel, Generic[R]):
    """Something that is to be done, named in the imperative: ``class PlaceOrder(Command[str])``, where handling it gives a ``str``.

    A frozen Pydantic model. Any other Pydantic model is a command too; this base adds the type of the result, which type checkers
    infer from it and which a stored result is read as, and refuses unknown fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_bytes="base64", val_json_bytes="base64")

    __command_type__: ClassVar[str]
    """Name that a command is stored under; the class's name by default. Not inherited."""


def command_type_of(command_class: type[BaseModel]) -> str:
    """Get the name that commands of a class are stored under."""
    name: str = vars(command_class).get("__command_type__", command_class.__name__)
    return name


def declared_result(command_class: type[BaseModel]) -> Any:
    """Get the type that a class says handling it gives, the argument of ``Command[...]``; ``Any`` where it says none."""
    for each in command_class.__mro__:
        generic: Any = getattr(each, "__pydantic_generic_metadata__", {})
        if generic.get("origin") is Command:
            (result,) = generic["args"]
            return Any if isinstance(result, TypeVar) else result
    return Any
