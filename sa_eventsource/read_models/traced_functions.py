"""Functions of the event as sources: run with a stand-in, which notes what is done to it, so that the database can do the same.

What the stand-in cannot note is refused, for its result would be a constant: the stand-in raises when it is compared, chosen by,
hashed or turned into text; what no object notices, such as ``is None`` and ``type(...)``, is found in the function's code before it
runs (:mod:`~sa_eventsource.read_models.function_code`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.read_models.function_code import untraceable
from sa_eventsource.read_models.sources import ENVELOPE, Constant, Source, calculate, constant
from sa_eventsource.read_models.value_types import value_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from sa_eventsource.events import DomainEvent
    from sa_eventsource.read_models.sources import Operator

_INSTEAD = "A source may read fields, and add, subtract and multiply them; write an @handles method for what needs more."


def traced(function: Callable[[Any], Any], event_class: type[DomainEvent], find: Callable[[str], Source]) -> Source:
    """Run a function with a stand-in for the event, and return what it does as a source.

    Args:
        function: The function.
        event_class: The event.
        find: Finds the source of a path such as ``address.city``.

    Raises:
        DeclarationError: It does what the database cannot do, or what the stand-in cannot note.
    """
    name = event_class.__name__
    found = untraceable(function)
    if found is not None:
        raise DeclarationError(f"the function of {name} contains {found}, which the database cannot repeat. {_INSTEAD}")
    source = _run(function, event_class, find)
    if source != _run(function, event_class, find):
        raise DeclarationError(f"the function of {name} gives something else each time it is called. {_INSTEAD}")
    return source


def _run(function: Callable[[Any], Any], event_class: type[DomainEvent], find: Callable[[str], Source]) -> Source:
    try:
        result = function(_StandIn(event_class, find, (), event_class))
        source = _as_source(result) if isinstance(result, _Value) else None
    except DeclarationError:
        raise
    except Exception as error:
        raise DeclarationError(
            f"the function gets a stand-in for {event_class.__name__} that knows its fields and +, - and *; it raised {error!r}. "
            f"{_INSTEAD}"
        ) from error
    if source is not None:
        return source
    name = event_class.__name__
    if result is None or constant(result) is not None:
        raise DeclarationError(
            f"the function of {name} gave {result!r} whatever the event; write a constant as such: {{{name}: {result!r}}}, or, of "
            "numbers that are added up, increment(2)"
        )
    raise DeclarationError(f"the function of {name} gave a {type(result).__name__}, which is no calculation. {_INSTEAD}")


class _Value:
    """Stands for a value that is known once there is an event, and refuses what only Python could do with it."""

    __slots__ = ("_source", "_text")

    def __init__(self, source: Source | None, text: str) -> None:
        self._source = source
        self._text = text

    def _refuse(self, deed: str) -> NoReturn:
        raise DeclarationError(f"{self._text} is not known yet; a source cannot {deed}. {_INSTEAD}")

    def __add__(self, other: Any) -> _Value:
        return _combine("+", self, other)

    def __radd__(self, other: Any) -> _Value:
        return _combine("+", other, self)

    def __sub__(self, other: Any) -> _Value:
        return _combine("-", self, other)

    def __rsub__(self, other: Any) -> _Value:
        return _combine("-", other, self)

    def __mul__(self, other: Any) -> _Value:
        return _combine("*", self, other)

    def __rmul__(self, other: Any) -> _Value:
        return _combine("*", other, self)

    def __neg__(self) -> _Value:
        return _combine("*", -1, self)

    def __bool__(self) -> bool:  # noqa: PLE0304 - it raises
        self._refuse("choose by it")

    def __eq__(self, other: object) -> bool:
        self._refuse("compare it")

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__

    def __hash__(self) -> int:  # noqa: PLE0309 - it raises
        self._refuse("look it up, in a dict or a set")

    def __str__(self) -> str:  # noqa: PLE0307 - it raises
        self._refuse("turn it into text; text + text can be worked out")

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return self.__str__()

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:  # pyright: ignore - asked by isinstance() and match
        self._refuse("ask for its type")

    def __getattr__(self, name: str) -> Any:
        self._refuse(f"ask it for {name}")


class _StandIn(_Value):
    """Stands for the event, or for a field of it, whose own fields can be asked for."""

    __slots__ = ("_event_class", "_find", "_owner", "_path")

    def __init__(
        self, event_class: type[DomainEvent], find: Callable[[str], Source], path: tuple[str, ...], owner: type[BaseModel] | None
    ) -> None:
        super().__init__(None, ".".join((event_class.__name__, *path)))
        self._event_class = event_class
        self._find = find
        self._path = path
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        path = (*self._path, name)
        fields = {} if self._owner is None else self._owner.model_fields
        if name in fields:
            found = value_type(fields[name].annotation)
            held = None if found is None else found.python
            owner = held if isinstance(held, type) and issubclass(held, BaseModel) else None
        elif (not self._path and name in (*ENVELOPE, "metadata")) or self._path[:1] == ("metadata",):
            owner = None
        elif name.startswith("__"):
            self._refuse(f"ask it for {name}")
        else:
            self._find(".".join(path))  # says what is there
            self._refuse(f"ask it for {name}")
        return _StandIn(self._event_class, self._find, path, owner)


def _combine(operator: Operator, left: Any, right: Any) -> _Value:
    one, other = _as_source(left), _as_source(right)
    combined = None if one is None or other is None else calculate(operator, one, other)
    text = f"{_shown(left)} {operator} {_shown(right)}"
    if combined is None:
        raise DeclarationError(f"{text} cannot be worked out exactly; int, Decimal and str + str can. {_INSTEAD}")
    return _Value(combined, f"({text})")


def _as_source(value: Any) -> Source | Constant | None:
    if type(value) is _StandIn:
        if not value._path:  # noqa: SLF001 - its own
            raise DeclarationError(f"the function gave the whole {value._text}; name a field of it")  # noqa: SLF001 - its own
        return value._find(".".join(value._path))  # noqa: SLF001 - its own
    return value._source if type(value) is _Value else constant(value)  # noqa: SLF001 - its own


def _shown(value: Any) -> str:
    return value._text if type(value) in (_Value, _StandIn) else repr(value)  # noqa: SLF001 - its own
