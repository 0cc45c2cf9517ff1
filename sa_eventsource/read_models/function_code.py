"""What a function does that no stand-in for an event can notice: found in its code, and in that of the functions which it calls."""

from __future__ import annotations

import dis
import functools
import types
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNNOTICED = {
    "IS_OP": "`is`",
    "MATCH_SEQUENCE": "`match`",
    "MATCH_MAPPING": "`match`",
    "POP_EXCEPT": "`try` or `with`",
    "IMPORT_NAME": "`import`",
}
"""Instructions after which the result says nothing of what was asked or raised."""

_UNNOTICED_CALLS: tuple[Any, ...] = (type, id, callable, vars, dir)
"""Functions that say something of the stand-in which is not so of the event."""

_CHANGING_MODULES = frozenset({"time", "random", "secrets", "uuid", "os", "posix", "nt"})
_CLOCKS = frozenset({"today", "now", "utcnow"})


def untraceable(function: Any) -> str | None:
    """Name what a function, or one that it calls, does unnoticed; None if there is nothing.

    Followed are functions that the code names: its globals, what it takes from modules and classes, and what it closes over. What
    it reaches in another way, as by an attribute of an object, is not seen.
    """
    return _found(function, set())


def _found(function: Any, seen: set[int]) -> str | None:
    function = _plain(function)
    if not isinstance(function, types.FunctionType) or id(function) in seen:
        return None
    seen.add(id(function))
    for code in _codes(function.__code__):
        for instruction in dis.get_instructions(code):
            name = "IS_OP" if instruction.opname.endswith(("IF_NONE", "IF_NOT_NONE")) else instruction.opname
            if name in _UNNOTICED:
                return _UNNOTICED[name]
        for text, value in _named(function, code):
            if any(value is each for each in _UNNOTICED_CALLS) or _changes(value):
                return f"{text}()"
            found = _found(value, seen)
            if found is not None:
                return found if " in " in found else f"{found} in {text}()"
    return None


def _plain(function: Any) -> Any:
    """The function within a method, a partial or an object that can be called."""
    if isinstance(function, functools.partial):
        return _plain(function.func)
    if isinstance(function, types.MethodType | staticmethod | classmethod):
        return _plain(function.__func__)
    if isinstance(function, types.FunctionType | type):
        return function
    call = getattr(type(function), "__call__", None)  # noqa: B004 - which function it is, not whether there is one
    return call if isinstance(call, types.FunctionType) else getattr(function, "__wrapped__", function)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _codes(each)


def _named(function: types.FunctionType, code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """What code names outside of itself, with what it takes from modules and classes by a dot."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closed_over = {name: cell.cell_contents for name, cell in cells if not _is_empty(cell)}
    builtins = function.__globals__.get("__builtins__", {})
    outside = {**(builtins if isinstance(builtins, dict) else vars(builtins)), **function.__globals__}
    text, value = "", None
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            text, value = name, outside.get(name)
        elif instruction.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            text, value = name, closed_over.get(name)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(value, types.ModuleType | type):
            text, value = f"{text}.{name}", getattr(value, name, None)
        else:
            text, value = "", None
        if value is not None:
            yield text, value


def _is_empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:
        return True


def _changes(value: Any) -> bool:
    """Check whether a function looks at a clock, draws a number, or asks the machine."""
    owner = getattr(value, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, date):
        return value.__name__ in _CLOCKS
    if not callable(value) or isinstance(value, type):
        return False
    return getattr(value, "__module__", None) in _CHANGING_MODULES or type(owner).__module__ in _CHANGING_MODULES
