"""What functions do, as a digest of their source: the same on every version of Python, whatever its byte code, comments and layout.

It covers the functions and, as far as they are the application's own, the functions that they name, the methods of the model that
they ask for, and the constants that they use. It does not cover classes: an event that gains a field is no other code.

What a name means stands in place of the name, so that it makes no difference where something is declared, nor what an event's
class is called: an event is written by its stored name, a function by what it does, a member of an enumeration by its value.
"""

from __future__ import annotations

import ast
import enum
import hashlib
import inspect
import sys
import textwrap
import types
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.ext.hybrid import hybrid_method, hybrid_property

from sa_eventsource.events import DomainEvent, family, first_name, is_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_FOUNDATIONS = frozenset({"pydantic", "sa_eventsource", "sqlalchemy"})
_PLAIN = (types.NoneType, bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta, UUID)
_CONSTANTS = (*_PLAIN, enum.Enum, list, tuple, set, frozenset, dict)
_LAYOUT = frozenset({"annotation", "ctx", "kind", "returns", "type_comment", "type_params"})
_UNKNOWN = object()


def digest_of_functions(functions: Iterable[Any], owner: type[Any]) -> str:
    """Digest some functions and what they reach.

    Args:
        functions: The functions.
        owner: The class whose attributes they may ask for.
    """
    writer = _Writer(owner)
    texts = [writer.write(each) for each in functions]
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


class _Writer:
    """Writes each function once, and from then on its number."""

    def __init__(self, owner: type[Any]) -> None:
        self._owner = owner
        self._seen: dict[types.FunctionType, int] = {}

    def write(self, value: Any) -> str:
        """Write what code names: a function, an event and constants by what they are, all else by its name."""
        value = _plain_function(value)
        if isinstance(value, types.FunctionType):
            written = self._function(value) if self.is_own(value.__globals__.get("__name__")) else _name_of(value)
        elif isinstance(value, enum.Enum):
            written = f"member({value.name}, {self.write(value.value)})"
        elif isinstance(value, list | tuple):
            written = f"[{', '.join(self.write(each) for each in value)}]"
        elif isinstance(value, set | frozenset):
            written = f"{{{', '.join(sorted(self.write(each) for each in value))}}}"
        elif isinstance(value, dict):
            written = f"{{{', '.join(f'{self.write(key)}: {self.write(each)}' for key, each in value.items())}}}"
        elif isinstance(value, _PLAIN):
            written = repr(value)
        elif isinstance(value, type) and issubclass(value, DomainEvent):
            written = f"events({', '.join(_stored_names(value))})"
        elif isinstance(value, types.ModuleType):
            written = "module"
        else:
            named = value if _has_name(value) else type(value)
            written = named.__name__ if self.is_own(named.__module__) else _name_of(named)
        return written

    def is_known(self, value: Any) -> bool:
        """Check that no two values which are not the same are written alike."""
        value = _plain_function(value)
        if isinstance(value, list | tuple | set | frozenset):
            return all(self.is_known(each) for each in value)
        if isinstance(value, dict):
            return all(self.is_known(each) for each in (*value.keys(), *value.values()))
        if isinstance(value, (types.FunctionType, enum.Enum, *_PLAIN)) or (
            isinstance(value, type) and issubclass(value, DomainEvent)
        ):
            return True
        return _has_name(value) and not self.is_own(value.__module__)

    def _function(self, function: types.FunctionType) -> str:
        if function in self._seen:
            return f"function {self._seen[function]}"
        self._seen[function] = len(self._seen)
        outside = {**function.__globals__, **dict(_closed_over(function))}
        tree = _tree(function)
        if tree is None:
            named = _names_in_code(function.__code__)
            code, apart = self._code(function.__code__, outside), named & outside.keys()
        else:
            named = _names_in_tree(tree)
            local = named & _locals(function.__code__)
            code = _Source(self, {name: each for name, each in outside.items() if name not in local}).write_parts(tree, ("name",))
            apart = local & outside.keys()  # both in one place and another
        reached = [f"{each}={self.write(value)}" for each, value in (*self._outside(outside, apart), *self._of_owner(named))]
        return f"{code} {reached}"

    def _outside(self, outside: Mapping[str, Any], names: set[str]) -> Iterator[tuple[str, Any]]:
        """Find what names mean outside of a function, with what code may take from modules by a dot."""
        for name in sorted(names):
            value = outside[name]
            if isinstance(value, type) and issubclass(value, DomainEvent):
                continue  # it stands in place of the name
            yield name, value
            if isinstance(value, types.ModuleType) and self.is_own(value.__name__):
                yield from ((f"{name}.{each}", vars(value)[each]) for each in sorted(names & vars(value).keys()))

    def _of_owner(self, names: set[str]) -> Iterator[tuple[str, Any]]:
        """Find the methods and constants of the model that a function may mean, those of its bases after its own."""
        for klass in self._owner.__mro__:
            if self.is_own(klass.__module__):
                for name in sorted(names & vars(klass).keys()):
                    for text, value in _parts_of_member(name, vars(klass)[name]):
                        member = _plain_function(value)
                        if isinstance(member, (types.FunctionType, *_CONSTANTS)):
                            yield f"self.{text}", member

    def is_own(self, module: str | None) -> bool:
        """Check whether a module is the application's: of the model's package, or at least of no installed one."""
        top = (module or "").partition(".")[0]
        if top == self._owner.__module__.partition(".")[0]:
            return True
        if top in _FOUNDATIONS or top in sys.stdlib_module_names:
            return False
        file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
        return not {"site-packages", "dist-packages"} & set(PurePath(file).parts)

    def _code(self, code: types.CodeType, outside: Mapping[str, Any]) -> str:
        """Write byte code, where there is no source."""
        constants = [self._code(each, outside) if isinstance(each, types.CodeType) else self.write(each) for each in code.co_consts]
        known = [outside.get(name) for name in code.co_names]
        names = [
            self.write(each) if isinstance(each, type) and issubclass(each, DomainEvent) else name
            for name, each in zip(code.co_names, known, strict=True)
        ]
        return f"{code.co_code.hex()} {names} {constants}"


class _Source:
    """Writes the source of one function, without what no call shows: places, annotations, texts that only document."""

    def __init__(self, writer: _Writer, outside: Mapping[str, Any]) -> None:
        """Choose what names outside of the function mean."""
        self._writer = writer
        self._outside = outside

    def _write(self, node: Any) -> str:
        if isinstance(node, list):
            return f"[{', '.join(self._write(each) for each in node if not _is_text(each))}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        value = self._meant(node)
        if value is not _UNKNOWN and self._writer.is_known(value):
            return self._writer.write(value)
        return self.write_parts(node) if value is _UNKNOWN else f"{self.write_parts(node)} = {self._writer.write(value)}"

    def write_parts(self, node: ast.AST, but: tuple[str, ...] = ()) -> str:
        """Write a node of the tree, and all below it.

        Args:
            node: The node.
            but: Parts of it that are left out.
        """
        parts = [
            f"{name}={self._write(value)}" for name, value in _parts(node) if value is not None and value != [] and name not in but
        ]
        return f"{type(node).__name__}({', '.join(parts)})"

    def _meant(self, node: ast.AST) -> Any:
        """Find what a name outside of the function means, also with what is taken from modules and classes by a dot."""
        if isinstance(node, ast.Name):
            return self._outside.get(node.id, _UNKNOWN)
        if not isinstance(node, ast.Attribute):
            return _UNKNOWN
        base = self._meant(node.value)
        if isinstance(base, types.ModuleType):
            return vars(base).get(node.attr, _UNKNOWN)
        if isinstance(base, enum.EnumMeta):
            return base.__members__.get(node.attr, _UNKNOWN)
        if isinstance(base, type) and self._writer.is_own(base.__module__):
            member = next((_plain_function(vars(each)[node.attr]) for each in base.__mro__ if node.attr in vars(each)), None)
            return member if isinstance(member, (types.FunctionType, *_CONSTANTS)) and member is not None else _UNKNOWN
        return _UNKNOWN


def _plain_function(value: Any) -> Any:
    """Get the function within a method, a property or a wrapper, such as a cache; anything else as it is."""
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, classmethod | staticmethod | types.MethodType):
        value = value.__func__
    is_wrapper = isinstance(value, types.FunctionType) or type(value).__module__ == "functools"
    return inspect.unwrap(value) if is_wrapper else value


def _parts_of_member(name: str, member: Any) -> Iterator[tuple[str, Any]]:
    """Give a property as the functions that read and set it, also one that SQL can ask for; any other member as it is."""
    if isinstance(member, property | hybrid_property):
        yield name, member.fget
        if member.fset is not None:
            yield f"{name} =", member.fset
    else:
        yield name, member.func if isinstance(member, hybrid_method) else member


def _closed_over(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # it is empty
            continue


def _tree(function: types.FunctionType) -> ast.AST | None:
    """Parse a function's source; None where it is not there, as in a console, or cannot be separated from what stands around it."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    is_it = isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef) and tree.name == function.__name__
    return tree if is_it else None


def _parts(node: ast.AST) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in ast.iter_fields(node) if name not in _LAYOUT]


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _names_in_tree(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_names_in_tree, node))
    if not isinstance(node, ast.AST):
        return set()
    own = {node.id} if isinstance(node, ast.Name) else {node.attr} if isinstance(node, ast.Attribute) else set()
    return own.union(*(_names_in_tree(value) for _, value in _parts(node)))


def _names_in_code(code: types.CodeType) -> set[str]:
    inner = [_names_in_code(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    return {*code.co_names, *code.co_freevars}.union(*inner)


def _locals(code: types.CodeType) -> set[str]:
    """Find the names that a function gives values itself, or that a function within it does."""
    inner = [_locals(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    return {*code.co_varnames, *code.co_cellvars}.union(*inner)


def _stored_names(event_class: type[DomainEvent]) -> list[str]:
    """Name the events that a class is, as they are stored; those that inherit from it where it is none itself."""
    if is_event(event_class):
        return [first_name(event_class)]
    return sorted(map(first_name, family(event_class)))


def _has_name(value: Any) -> bool:
    if isinstance(value, type):
        return True
    return callable(value) and hasattr(value, "__qualname__") and isinstance(getattr(value, "__module__", None), str)


def _name_of(value: Any) -> str:
    """Name what others have declared, by its package: within it, things are moved from release to release."""
    return f"{value.__module__.partition('.')[0].lstrip('_')}:{value.__qualname__}"
