"""What a history is made by: methods of an aggregate, or commands, with arguments that are drawn from their annotations."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel

from sa_eventsource.exceptions import AggregateIdError, DeclarationError, DomainRuleError
from sa_eventsource.testing.property_tests.drawn_values import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hypothesis import strategies as st

REFUSALS: tuple[type[Exception], ...] = (DomainRuleError, ValueError, AggregateIdError)
"""What a command raises where a rule of the domain refuses it."""


@dataclass(frozen=True, slots=True)
class Called:
    """One command of an aggregate. :func:`called` makes one.

    Attributes:
        name: Its name.
        function: The method.
        arguments: Draws its arguments, by name.
        makes_aggregate: Whether it is a classmethod that makes an aggregate.
    """

    name: str
    function: Callable[..., Any]
    arguments: dict[str, st.SearchStrategy[Any]]
    makes_aggregate: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """A command that goes to its declared handler. :func:`called` makes one.

    Attributes:
        command_class: Its class.
        arguments: Draws its fields, by name.
        of_aggregate: What is asked of the aggregate at hand for further fields.
    """

    command_class: type[BaseModel]
    arguments: dict[str, st.SearchStrategy[Any]]
    of_aggregate: dict[str, Callable[[Any], Any]]

    @property
    def name(self) -> str:
        """What it is called."""
        return self.command_class.__name__

    @property
    def makes_aggregate(self) -> bool:
        """Whether its handler makes the aggregate: one that asks nothing of it does."""
        return not self.of_aggregate

    def command(self, aggregate: Any, drawn: Mapping[str, Any]) -> BaseModel:
        """Make the command, for an aggregate.

        Raises:
            ValidationError: Its class does not take these values together.
        """
        asked = {name: ask(aggregate) for name, ask in self.of_aggregate.items()}
        fields = self.command_class.model_fields
        return self.command_class(**{fields[name].alias or name: value for name, value in {**drawn, **asked}.items()})


def called(
    command: Callable[..., Any] | type[BaseModel], /, **arguments: st.SearchStrategy[Any] | Callable[[Any], Any]
) -> Called | Sent:
    """Say how a command's arguments are drawn, where its annotations do not: ``called(Order.pay, payment_id=st.text(min_size=1))``.

    Args:
        command: A method of the aggregate's class, ``Order.pay``, or a classmethod that makes an aggregate, ``Order.place``; or the
            class of a command that has a declared handler, ``PayOrder``.
        **arguments: Strategies of Hypothesis, by parameter or field. Others are drawn by their annotations, as far as Pydantic
            knows them; those with a default are left out. A field of a command may be a function of the aggregate instead:
            ``called(PayOrder, order_id=lambda order: order.id)``.

    Raises:
        TypeError: *command* is no function and no command, has no parameter of a name, or one that is needed has no annotation.
    """
    if isinstance(command, type) and issubclass(command, BaseModel):
        return _sent(command, arguments)
    if not callable(command) or isinstance(command, type):
        raise TypeError(
            f"a command is a method of the aggregate's class, such as Order.pay, or the class of a command, not {command!r}"
        )
    name = getattr(command, "__name__", repr(command))
    makes_aggregate = inspect.ismethod(command) and isinstance(command.__self__, type)
    parameters = list(inspect.signature(command).parameters.values())[0 if makes_aggregate else 1 :]
    unknown = arguments.keys() - {each.name for each in parameters}
    if unknown:
        raise TypeError(
            f"{name} has no parameter {min(unknown)!r}; it has: {', '.join(each.name for each in parameters) or 'none'}"
        )
    drawn: dict[str, st.SearchStrategy[Any]] = {}
    annotated = inspect.unwrap(getattr(command, "__func__", command)).__annotations__
    for each in parameters:
        if each.name in arguments:
            drawn[each.name] = _strategy(name, each.name, arguments[each.name])
        elif each.default is each.empty and each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}:
            if each.name not in annotated:
                raise TypeError(f"{name}: nothing says what {each.name} is; annotate it, or write called(..., {each.name}=st....)")
            drawn[each.name] = values_of(_annotation(command, each.name))
    return Called(name, command, drawn, makes_aggregate)


def commands_of(aggregate_class: type[Any], given: Iterable[Any]) -> list[Called | Sent]:
    """Take the commands that a test names.

    Raises:
        DeclarationError: There is none.
        TypeError: One is neither a method nor a command.
    """
    made = [each if isinstance(each, Called | Sent) else called(each) for each in given]
    if not made:
        name = aggregate_class.__name__
        raise DeclarationError(f"name the commands that histories of {name} are made by: commands=[{name}.place, {name}.pay]")
    return made


def methods_of(aggregate_class: type[Any], given: Iterable[Any]) -> list[Called]:
    """Take the methods that a test names. As :func:`commands_of`.

    Raises:
        TypeError: One is no method.
    """
    made = []
    for each in commands_of(aggregate_class, given):
        if isinstance(each, Sent):
            raise TypeError(f"histories are made by methods of {aggregate_class.__name__}; {each.name} is a command with a handler")
        made.append(each)
    return made


def _sent(command_class: type[BaseModel], arguments: Mapping[str, Any]) -> Sent:
    fields, name = command_class.model_fields, command_class.__name__
    unknown = arguments.keys() - fields.keys()
    if unknown:
        raise TypeError(f"{name} has no field {min(unknown)!r}; it has: {', '.join(fields) or 'none'}")
    of_aggregate = {each: given for each, given in arguments.items() if callable(given) and not isinstance(given, SearchStrategy)}
    drawn = {}
    for each, field in fields.items():
        if each in arguments and each not in of_aggregate:
            drawn[each] = _strategy(name, each, arguments[each])
        elif each not in arguments and field.is_required():
            rules = tuple(field.metadata)
            drawn[each] = values_of(Annotated[(field.annotation, *rules)] if rules else field.annotation)
    return Sent(command_class, drawn, of_aggregate)


def _strategy(command: str, name: str, given: Any) -> st.SearchStrategy[Any]:
    if not isinstance(given, SearchStrategy):
        raise TypeError(f"{command}: {name} is drawn by a strategy of Hypothesis, such as st.integers(), not {given!r}")
    return given


def _annotation(command: Any, name: str) -> Any:
    """Resolve one annotation by itself: others may name what is imported for type checkers only."""
    function = inspect.unwrap(getattr(command, "__func__", command))
    given = function.__annotations__[name]
    try:
        hints = typing.get_type_hints(
            SimpleNamespace(__annotations__={name: given}), getattr(function, "__globals__", {}), include_extras=True
        )
    except NameError as error:
        raise TypeError(
            f"{function.__qualname__}: the annotation of {name}, {given!r}, cannot be resolved ({error}), perhaps as it is "
            f"imported for type checkers only. Import it, or say how it is drawn: called(..., {name}=st....)"
        ) from error
    return hints[name]
