"""``@command_handler``: plain functions, and which of them takes which command."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from sa_eventsource.class_options import Kind, check_options
from sa_eventsource.commands.command import command_type_of, declared_result
from sa_eventsource.commands.exact_json import ExactJson
from sa_eventsource.events import place
from sa_eventsource.exceptions import DeclarationError, UnknownCommandError
from sa_eventsource.mapping import MAX_NAME_LENGTH, tables_of_base
from sa_eventsource.plain_functions import check_plain, check_ran, takes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sa_eventsource.mapping import EventSourceTables

C = TypeVar("C", bound=BaseModel)
S = TypeVar("S")
T = TypeVar("T")

HOW_TO_WRITE = "Write def handle(command, session), or async def for AsyncCommands."


@dataclass(frozen=True, eq=False)
class CommandHandler:
    """A function that takes the commands of one class.

    Attributes:
        command_class: The class.
        command_type: The name that its commands are stored under.
        function: The function.
        tables: Those of the base that it is for; None for every base.
    """

    command_class: type[BaseModel]
    command_type: str
    function: Callable[[Any, Any], Any]
    tables: EventSourceTables | None

    @cached_property
    def is_coroutine_function(self) -> bool:
        """Whether it must be awaited, and gets an ``AsyncSession``."""
        functions = (self.function, getattr(type(self.function), "__call__", None))  # noqa: B004 - its code, not whether there is one
        return any(map(inspect.iscoroutinefunction, functions))

    def call(self, command: BaseModel, session: Any) -> Any:
        """Call a function that is none of a coroutine.

        Raises:
            TypeError: Nothing of it has run: a wrapper hides a coroutine or generator function.
        """
        result = self.function(command, session)
        check_ran(f"the handler of {self.command_type}", result, HOW_TO_WRITE)
        return result

    @cached_property
    def commands_as_json(self) -> ExactJson:
        """The way of the commands to JSON and back."""
        return ExactJson(self.command_type, "command", self.command_class)

    @cached_property
    def results_as_json(self) -> ExactJson:
        """The way of the results to JSON and back: by the type that the command declares, else by that of the function."""
        declared = declared_result(self.command_class)
        return ExactJson(self.command_type, "result", _returned(self.function) if declared is Any else declared)

    def stands_in_for(self, other: CommandHandler) -> bool:
        """Check whether this is the declaration that *other* was, made once more, as by ``importlib.reload()``.

        Functions and classes of one place are the same there. Within a function only if that has run again, and the class is a new
        one too: two functions made for one class may close over different things.
        """
        if place(self.command_class) != place(other.command_class):
            return False
        mine, its = place_of(self.function), place_of(other.function)
        is_made_again = "<" not in mine or self.command_class is not other.command_class
        return self.function is other.function or (mine == its and is_made_again)


_Key = tuple[str, "EventSourceTables | None"]
_handlers: dict[_Key, CommandHandler] = {}


def command_handler(command_class: type[C], *, base: Any = None) -> Callable[[Callable[[C, S], T]], Callable[[C, S], T]]:
    """Declare the function that handles the commands of a class: ``(command, session) -> result``.

    Example::

        @command_handler(PlaceOrder)
        def place_order(command: PlaceOrder, session: Session) -> str:
            order = Order.place(command.customer_id, command.total)
            session.add(order)
            return order.id

    :class:`~sa_eventsource.Commands` calls it, in a transaction of its own, again if another transaction wrote first: it neither
    commits nor rolls back, and does nothing outside of the session that cannot be done twice. A coroutine function gets an
    ``AsyncSession`` and needs :class:`~sa_eventsource.AsyncCommands`. The function stays as it is, to be called with any session.

    Args:
        command_class: A Pydantic model, such as a :class:`~sa_eventsource.Command`.
        base: The declarative base whose commands it takes; None for those of all bases that have no handler of their own.

    Raises:
        DeclarationError: The class has a handler, or another class has its stored name; or the function is a generator function, or
            does not take a command and a session.
        TypeError: *command_class* is no Pydantic model, or *base* no declarative base.
    """
    if not (isinstance(command_class, type) and issubclass(command_class, BaseModel)):
        raise TypeError(f"@command_handler takes the command's class, a Pydantic model such as PlaceOrder, not {command_class!r}")
    tables = None if base is None else tables_of_base("@command_handler", base)
    check_options(command_class, Kind.COMMAND)
    command_type = _checked_name(command_class)

    def declare(function: Callable[[C, S], T]) -> Callable[[C, S], T]:
        handler = CommandHandler(command_class, command_type, function, tables)
        where = f"the handler of {command_type}, {getattr(function, '__qualname__', repr(function))},"
        if not handler.is_coroutine_function:
            check_plain(where, function, HOW_TO_WRITE)
        if not takes(function, 2):
            raise DeclarationError(f"{where} is called with the command and the session. {HOW_TO_WRITE}")
        other = _handlers.get((command_type, tables), handler)
        if not handler.stands_in_for(other):
            raise DeclarationError(_declared_twice(handler, other))
        _handlers[command_type, tables] = handler
        return function

    return declare


def handler_of(command: BaseModel, tables: EventSourceTables) -> CommandHandler:
    """Find the handler of a command.

    Raises:
        TypeError: It is no Pydantic model.
        UnknownCommandError: There is none.
    """
    if not isinstance(command, BaseModel):
        raise TypeError(f"a command is an instance of a Pydantic model, such as PlaceOrder(...), not {command!r}")
    command_type = command_type_of(type(command))
    handler = handlers_on(tables).get(command_type)
    if handler is None or place(handler.command_class) != place(type(command)):
        raise UnknownCommandError(command_type, handlers_on(tables))
    return handler


def handlers_on(tables: EventSourceTables) -> dict[str, CommandHandler]:
    """List the handlers for the commands of a base, by stored name; one of its own takes precedence."""
    return {name: each for owner in (None, tables) for name, each in _of(owner)}


def _of(owner: EventSourceTables | None) -> Iterator[tuple[str, CommandHandler]]:
    return ((name, each) for (name, tables), each in _handlers.items() if tables is owner)


def place_of(function: Any) -> str:
    """Name a function so that a person finds it."""
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"


def _checked_name(command_class: type[BaseModel]) -> str:
    name: Any = command_type_of(command_class)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH or "\x00" in name:
        raise DeclarationError(
            f"{command_class.__name__} is stored as {name!r}; __command_type__ must be a text of 1 to {MAX_NAME_LENGTH} characters"
        )
    return name


def _declared_twice(handler: CommandHandler, other: CommandHandler) -> str:
    if handler.command_class is not other.command_class and place(handler.command_class) != place(other.command_class):
        return (
            f"the commands {place(other.command_class)} and {place(handler.command_class)} are both stored as "
            f"{handler.command_type!r}. Set __command_type__ to another name on one of them."
        )
    return (
        f"{handler.command_type} has two handlers: {place_of(other.function)} and {place_of(handler.function)}. A command is "
        "handled by one function; call the other from it, or declare a command of its own."
    )


def _returned(function: Any) -> Any:
    """Get the type that a function is annotated to return; ``Any`` where it is not, or where the name cannot be found."""
    function = inspect.unwrap(function)
    annotation = getattr(function, "__annotations__", {}).get("return", Any)
    try:
        hints = typing.get_type_hints(SimpleNamespace(__annotations__={"return": annotation}), getattr(function, "__globals__", {}))
    except Exception:  # noqa: BLE001 - an annotation may be any expression; a result that then is not exact is refused
        return Any
    return hints["return"]
