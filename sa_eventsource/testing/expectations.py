"""What is expected and what there is, compared and told apart: a line for each field that differs, and a diff of the whole."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from sa_eventsource.events import difference, shown
from sa_eventsource.processes import After

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH = 60
"""Values whose text is longer are written over several lines."""


class like:  # noqa: N801 - reads as a word in a test
    """An expected event or command of which only some fields matter: ``then(like(OrderPlaced, total=Decimal(10)))``.

    Fields are compared by ``==``, so that ``pytest.approx``, ``unittest.mock.ANY`` and the like may stand for a value.
    """

    def __init__(self, model: type[BaseModel], /, **fields: Any) -> None:
        """Choose the class and the fields.

        Args:
            model: The class of the event or command.
            **fields: Those that matter, by name.

        Raises:
            TypeError: *model* is no Pydantic model, or has no field of a name.
        """
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"like() takes the class of an event or a command, such as like(OrderPlaced, total=10), not {model!r}")
        unknown = fields.keys() - model.model_fields.keys()
        if unknown:
            raise TypeError(f"{model.__name__} has no field {min(unknown)!r}; it has: {', '.join(model.model_fields) or 'none'}")
        self.model = model
        self.fields = fields

    def __repr__(self) -> str:
        """Write it as a call with an open end."""
        return "\n".join(rendered(self))


def told_apart(expected: Sequence[Any], actual: Sequence[Any], *, what: str, verb: str) -> str | None:
    """Say how what there is differs from what was expected.

    Args:
        expected: Events or commands, classes of them, or :class:`like`.
        actual: The events or commands that there are.
        what: What they are, in the plural.
        verb: What was done with them, such as ``recorded``.

    Returns:
        The message, over several lines; None if nothing differs.
    """
    found = [_differences(wanted, there) for wanted, there in zip(expected, actual, strict=False)]
    if len(expected) == len(actual) and not any(found):
        return None
    lines = []
    for number, (told, there) in enumerate(zip(found, actual, strict=False), 1):
        lines += [f"{number}. {type(_inner(there)).__name__}{each}" for each in told]
    if len(expected) != len(actual):
        lines.append(f"expected {len(expected)}, {verb} {len(actual)}")
    wanted = [line for number, each in enumerate(expected) for line in _as_expected(each, actual, number, found)]
    there = [line for each in actual for line in rendered(each)]
    diff = [line.rstrip() for line in difflib.ndiff(wanted, there) if not line.startswith("?")]
    return "\n".join([f"other {what} than expected", *(f"  {line}" for line in lines), "", f"(- expected, + {verb})", *diff])


def same_value(expected: Any, actual: Any) -> bool:
    """Check whether a value is the expected one: by ``==``, which may be the expected one's own."""
    return bool(expected == actual)


_NOTHING: Any = object()


def rendered(value: Any, there: Any = _NOTHING) -> list[str]:  # noqa: PLR0911 - one for each kind
    """Write an event, a command or any other value over as many lines as it takes.

    Args:
        value: What to write.
        there: What there is instead: where both are the same, that is written as it is there, so that no diff shows it.
    """
    if type(there) is type(value) and difference(value, there) is None:
        value = there
    if isinstance(value, type):
        return [f"{value.__name__}(...)"]
    if isinstance(value, like):
        return _block(f"{value.model.__name__}(", [*_named(value.fields.items(), {}), ["..."]], ")")
    if isinstance(value, After):
        return _block("After(", [[f"{value.delay!r},"], _closed(rendered(value.command, getattr(there, "command", _NOTHING)))], ")")
    if isinstance(value, BaseModel):
        return _block(f"{type(value).__name__}(", _named(_fields(value), dict(_fields(there))), ")")
    text = shown(value)
    if len(text) <= _WIDTH:
        return [text]
    if isinstance(value, Mapping):
        return _block("{", [_after(f"{key!r}: ", _closed(rendered(each, _at(there, key)))) for key, each in value.items()], "}")
    if isinstance(value, list | tuple):
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
        return _block(opening, [_closed(rendered(each, _at(there, number))) for number, each in enumerate(value)], closing)
    if isinstance(value, AbstractSet):
        return _block("{", [[f"{each},"] for each in sorted(map(repr, value))], "}")
    return [text]


def _named(fields: Any, there: Mapping[str, Any]) -> list[list[str]]:
    return [_after(f"{name}=", _closed(rendered(value, there.get(name, _NOTHING)))) for name, value in fields]


def _fields(value: Any) -> list[tuple[str, Any]]:
    return [(name, vars(value).get(name)) for name in type(value).model_fields] if isinstance(value, BaseModel) else []


def _at(value: Any, key: Any) -> Any:
    """Give what is at a place of a list or a dict; nothing where there is no such place."""
    try:
        return value[key]
    except (LookupError, TypeError):
        return _NOTHING


def _block(opening: str, parts: list[list[str]], closing: str) -> list[str]:
    return [opening, *(f"    {line}" for part in parts for line in part), closing] if parts else [opening + closing]


def _after(text: str, lines: list[str]) -> list[str]:
    return [text + lines[0], *lines[1:]]


def _closed(lines: list[str]) -> list[str]:
    return [*lines[:-1], f"{lines[-1]},"]


def _as_expected(expected: Any, actual: Sequence[Any], number: int, found: list[list[str]]) -> list[str]:
    """Write what was expected; as what there is where that fits, so that the diff shows nothing there."""
    if number < len(found) and not found[number]:
        return rendered(actual[number])
    if isinstance(expected, like) and number < len(actual) and type(actual[number]) is expected.model:
        there = vars(actual[number])  # fields that do not matter are no difference
        return _block(f"{expected.model.__name__}(", _named({**there, **expected.fields}.items(), there), ")")
    return rendered(expected, actual[number] if number < len(actual) else _NOTHING)


def _inner(value: Any) -> Any:
    return value.command if isinstance(value, After) else value


def _differences(expected: Any, actual: Any) -> list[str]:
    """Say in which fields two differ: each a text behind the name of the class."""
    if isinstance(expected, After) and isinstance(actual, After):
        if expected.delay != actual.delay:
            return [f": expected after {expected.delay}, was after {actual.delay}"]
        return _differences(expected.command, actual.command)
    if isinstance(expected, like):
        wanted_class, pairs = expected.model, [(name, each) for name, each in expected.fields.items()]
    elif isinstance(expected, type):
        wanted_class, pairs = expected, []
    else:
        wanted_class, pairs = type(expected), None
    if type(actual) is not wanted_class:
        return [f": expected {wanted_class.__name__}"]
    if pairs is not None:
        return [_field(name, value, getattr(actual, name)) for name, value in pairs if not same_value(value, getattr(actual, name))]
    return list(_of_fields(expected, actual))


def _of_fields(expected: Any, actual: Any) -> Iterator[str]:
    for name in type(expected).model_fields:
        yield from _within(name, getattr(expected, name), getattr(actual, name))


def _within(path: str, expected: Any, actual: Any) -> Iterator[str]:
    """Say where two values differ, in all places."""
    found = difference(expected, actual)
    if found is None:
        return
    if type(expected) is not type(actual):
        pairs = []
    elif isinstance(expected, BaseModel):
        pairs = [(name, value, vars(actual).get(name)) for name, value in _fields(expected)]
    elif isinstance(expected, dict) and expected.keys() == actual.keys():
        pairs = [(name, value, actual[name]) for name, value in expected.items()]
    elif isinstance(expected, list | tuple) and len(expected) == len(actual):
        pairs = [(str(number), *each) for number, each in enumerate(zip(expected, actual, strict=True))]
    else:
        pairs = []
    told = [line for name, *each in pairs for line in _within(f"{path}.{name}", *each)]
    yield from told or [_field(f"{path}.{found.path}" if found.path else path, found.one, found.other)]


def _field(path: str, expected: Any, actual: Any) -> str:
    kinds = f" ({type(expected).__name__}, not {type(actual).__name__})" if repr(expected) == repr(actual) else ""
    if isinstance(expected, datetime) and isinstance(actual, datetime) and expected == actual:
        kinds = " (the same moment in another time zone)"
    return f".{path}: expected {shown(expected)}, is {shown(actual)}{kinds}"
