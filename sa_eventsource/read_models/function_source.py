"""What functions do, as a digest of their source: the same on every version of Python, whatever its byte code, comments and layout.

It covers the functions and, as far as they are the application's own, the functions that they name, the methods of the model that
they ask for, and the constants that they use. It does not cover classes: an event that gains a field is no other code.
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FOUNDATIONS = frozenset({"pydantic", "sa_eventsource", "sqlalchemy"})
_PLAIN = (types.NoneType, bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta, UUID)
_CONSTANTS = (*_PLAIN, enum.Enum, list, tuple, set, frozenset, dict)
_LAYOUT = frozenset({"annotation", "ctx", "kind", "returns", "type_comment", "type_params"})


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
    """Writes each function once."""

    def __init__(self, owner: type[Any]) -> None:
        self._owner = owner
        self._seen: set[types.FunctionType] = set()

    def write(self, value: Any) -> str:
        """Write what code names: a function and constants by what they are, all else by its name."""
        value = _plain_function(value)
        if isinstance(value, types.FunctionType):
            written = self._function(value)
        elif isinstance(value, enum.Enum):
            written = f"{_place(type(value))}.{value.name}"
        elif isinstance(value, list | tuple):
            written = f"[{', '.join(self.write(each) for each in value)}]"
        elif isinstance(value, set | frozenset):
            written = f"{{{', '.join(sorted(self.write(each) for each in value))}}}"
        elif isinstance(value, dict):
            written = f"{{{', '.join(f'{self.write(key)}: {self.write(each)}' for key, each in value.items())}}}"
        elif isinstance(value, _PLAIN):
            written = repr(value)
        else:
            written = _place(value if isinstance(value, type | types.ModuleType) else type(value))
        return written

    def _function(self, function: types.FunctionType) -> str:
        name = _place(function)
        if function in self._seen or not self._is_own(function.__globals__):
            return name
        self._seen.add(function)
        tree = _tree(function)
        if tree is None:
            code, names = self._code(function.__code__), _names_in_code(function.__code__)
        else:
            code, names = _dump(tree), _names_in_tree(tree)
        reached = [f"{each}={self.write(value)}" for each, value in self._reached(function, names)]
        return f"{name}: {code} {reached}"

    def _reached(self, function: types.FunctionType, names: set[str]) -> Iterator[tuple[str, Any]]:
        """Find what a function names outside of itself, by the names in it, in their order."""
        outside = {**function.__globals__, **dict(_closed_over(function))}
        for name in sorted(names & outside.keys()):
            yield name, outside[name]
            if isinstance(outside[name], types.ModuleType) and self._is_own(vars(outside[name])):
                yield from ((f"{name}.{each}", vars(outside[name])[each]) for each in sorted(names & vars(outside[name]).keys()))
        for klass in self._owner.__mro__:
            if self._is_own(vars(sys.modules[klass.__module__])):
                for name in sorted(names & vars(klass).keys()):
                    member = _plain_function(vars(klass)[name])
                    if isinstance(member, (types.FunctionType, *_CONSTANTS)):
                        yield f"{klass.__qualname__}.{name}", member

    def _is_own(self, namespace: dict[str, Any]) -> bool:
        """Check whether a module is the application's: of the model's package, or at least of no installed one."""
        top = namespace.get("__name__", "").partition(".")[0]
        if top == self._owner.__module__.partition(".")[0]:
            return True
        if top in _FOUNDATIONS or top in sys.stdlib_module_names:
            return False
        return not {"site-packages", "dist-packages"} & set(PurePath(namespace.get("__file__") or "").parts)

    def _code(self, code: types.CodeType) -> str:
        """Write byte code, where there is no source."""
        constants = [self._code(each) if isinstance(each, types.CodeType) else self.write(each) for each in code.co_consts]
        return f"{code.co_code.hex()} {code.co_names} {constants}"


def _plain_function(value: Any) -> Any:
    """Get the function within a method, a property or a wrapper; anything else as it is."""
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, classmethod | staticmethod | types.MethodType):
        value = value.__func__
    return inspect.unwrap(value) if hasattr(type(value), "__wrapped__") or isinstance(value, types.FunctionType) else value


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


def _dump(node: Any) -> str:
    """Write a tree without what no call shows: places, annotations, texts that only document."""
    if isinstance(node, list):
        return f"[{', '.join(_dump(each) for each in node if not _is_text(each))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = [f"{name}={_dump(value)}" for name, value in _parts(node) if value is not None and value != []]
    return f"{type(node).__name__}({', '.join(parts)})"


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


def _place(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"
