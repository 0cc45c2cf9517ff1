"""What code finds by a text as it runs: an attribute by ``getattr``, a method by its name in a table.

Its byte code does not say which. But the texts are there: in the code itself, as a whole or as the beginning or end of a name that
is put together, or in the tables that it reads. Where there is none, the name comes from an event, and may be any.
"""

from __future__ import annotations

import dis
import enum
import functools
import operator
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_BY_TEXT = frozenset(
    {"__dict__", "__getattribute__", "attrgetter", "dir", "getattr", "getattr_static", "getmembers", "methodcaller", "vars"}
)
_UNKNOWN = frozenset({"__import__", "eval", "exec", "globals"})


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """List a code object and those within it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from codes(each)


def attributes_by_text(function: types.FunctionType, reached: Collection[Any], defined: Iterable[str]) -> set[str]:
    """Find the attributes that a function may mean by a text.

    Args:
        function: The function.
        reached: The values that it reads: globals, constants of classes.
        defined: The attributes that there are. Names with two leading underscores are not asked for so.
    """
    defined = [name for name in defined if not name.startswith("__")]
    names = {name for code in codes(function.__code__) for name in code.co_names}
    if names.isdisjoint(_BY_TEXT) and not any(_is_by_text(value) for value in reached):
        return set()
    cells = [each.cell_contents for each in function.__closure__ or () if each != types.CellType()]
    held = set(_texts([*reached, *cells, function.__defaults__, function.__kwdefaults__]))
    constants = [each for code in codes(function.__code__) for each in code.co_consts if each != function.__doc__]
    own = set(_texts(constants))
    if not own | held:
        return set(defined)
    return {name for name in defined if name in held or any(name.startswith(text) or name.endswith(text) for text in own)}


def attributes_of_getter(value: object) -> set[str]:
    """Find the attributes that an ``operator.attrgetter`` or ``methodcaller`` reads, by their names; none of any other value."""
    if not isinstance(value, operator.attrgetter | operator.methodcaller):
        return set()
    reduced: Any = value.__reduce__()
    made_by, arguments = reduced[:2]
    given = made_by.args if isinstance(made_by, functools.partial) else ()
    return {part for each in (*given, *arguments) if isinstance(each, str) for part in each.split(".")}


def unknown_code(function: types.FunctionType) -> str | None:
    """Name what a function calls to run code that only a text names; None if it does not."""
    for code in codes(function.__code__):
        loaded: set[str] = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        for name in sorted((loaded & _UNKNOWN) - function.__globals__.keys()):
            return name
        if "import_module" in code.co_names:
            return "import_module"
    return None


def _is_by_text(value: object) -> bool:
    is_of_python = isinstance(value, types.BuiltinFunctionType | type) or value is operator.attrgetter
    return is_of_python and getattr(value, "__module__", "") in ("builtins", "inspect", "operator") and _name(value) in _BY_TEXT


def _name(value: object) -> str:
    return getattr(value, "__name__", "")


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            if value.isidentifier():
                yield value
        case Mapping():
            yield from _texts([*value.keys(), *value.values()])
        case list() | tuple() | set() | frozenset():
            for each in value:
                yield from _texts(each)
        case enum.EnumMeta():
            members: Any = value.__members__.values()
            yield from _texts([member.value for member in members])
