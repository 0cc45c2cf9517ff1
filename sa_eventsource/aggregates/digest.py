"""A digest of values and code that is the same in every process, or none.

What a function does follows from more than its byte code: from its defaults, from what its closure holds, from the functions,
constants and classes that it names, and so on. All of that is written out here as one text, by value: never an address, never in
the order of hashes. What cannot be written so is refused with :class:`IndigestibleError`.

Code is followed as far as the application's own goes. The standard library, this library, those it rests on and installed packages
other than the application's are written by name only.
"""

from __future__ import annotations

import copyreg
import dis
import enum
import functools
import hashlib
import logging
import sys
import types
import typing
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from sa_eventsource.aggregates.class_members import (
    CONSTRUCTORS,
    classes_of,
    is_code_of_mapped,
    is_mapped,
    is_special,
    members_of,
    unwrapped,
)
from sa_eventsource.aggregates.core_schema import IndigestibleError
from sa_eventsource.aggregates.names_in_texts import attributes_by_text, attributes_of_getter, codes, unknown_code

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

_FOUNDATIONS = frozenset({"annotated_types", "pydantic", "pydantic_core", "sa_eventsource", "sqlalchemy", "typing_extensions"})
_PLAIN = (types.NoneType, bool, int, str, bytes, complex, types.EllipsisType, types.NotImplementedType)
_LONG = 200


def digest(value: object, *, owner: type[Any] | None = None, packages: Iterable[str] = ()) -> str:
    """Digest a value, with all code that is reached from it.

    Args:
        value: Any value: a constant, a container, a function, a class, a Pydantic core schema.
        owner: The class whose methods are meant where code names an attribute: each definition of that name, in this class and in
            the application's classes that it inherits from. Its special methods belong to the value too: Python calls them by
            itself, for ``len(self)``, ``self[key]`` or a comparison.
        packages: Top-level packages that are the application's though they are installed.

    Raises:
        IndigestibleError: Something in it has no text that is the same in every process.
    """
    try:
        writer = _Writer(owner, frozenset(packages))
        return _hash(writer.write(value) + writer.special_methods())
    except RecursionError as error:
        raise IndigestibleError((), "it is nested too deeply") from error


class _Writer:
    def __init__(self, owner: type[Any] | None, packages: frozenset[str]) -> None:
        self._owner = owner
        self._hierarchy = frozenset(owner.__mro__ if owner is not None else ())
        self._packages = packages
        self._written: dict[int, str] = {}
        self._kept: list[Any] = []  # an id stays an object's own only as long as the object lives
        self._open: set[int] = set()
        self._path: list[str] = []

    def write(self, value: Any) -> str:
        kind = type(value)
        if kind in _PLAIN:
            return f"{kind.__name__}({value!r})"
        if kind is float:
            return f"float({value.hex()})"
        key = id(value)
        if key in self._open:
            return f"again({_place(value) if isinstance(value, type | types.FunctionType) else kind.__qualname__})"
        if key not in self._written:
            self._open.add(key)
            try:
                text = self._write_new(value)
            finally:
                self._open.discard(key)
            # The text of something large is mentioned by its digest, so that what is reached in many ways stays short.
            self._written[key] = text if len(text) < _LONG else f"#{_hash(text)}"
            self._kept.append(value)
        return self._written[key]

    def special_methods(self) -> str:
        """Write the owner's methods that no code has to name."""
        return self._members(
            (name, each) for name, each in self._definitions_of_owner(self._names_of(self._owner)) if is_special(name, each)
        )

    def _named(self, name: str, value: Any) -> str:
        self._path.append(name)
        text = self.write(value)
        self._path.pop()
        return f"{name}={text}"

    def _members(self, members: Iterable[tuple[str, Any]]) -> str:
        return f"({', '.join(self._named(name, value) for name, value in members)})"

    def _write_new(self, value: Any) -> str:  # noqa: C901, PLR0911, PLR0912 - one case for each kind of value
        match value:
            case enum.Enum():
                return f"{self.write(type(value))}({self.write(value._value_)})"
            case type():
                return self._class(value)
            case types.FunctionType():
                return self._function(value)
            case types.MethodType():
                return f"method{self._members((('of', value.__self__), ('function', value.__func__)))}"
            case types.MethodWrapperType():
                return f"method{self._members((('of', value.__self__), ('name', value.__name__)))}"
            case types.BuiltinFunctionType() if not isinstance(value.__self__, types.ModuleType | types.NoneType):
                return f"method{self._members((('of', value.__self__), ('name', value.__name__)))}"
            case types.BuiltinFunctionType() | types.WrapperDescriptorType() | types.MethodDescriptorType():
                return f"builtin({_place(value)})"
            case types.ClassMethodDescriptorType() | types.MemberDescriptorType() | types.GetSetDescriptorType():
                return f"builtin({_place(value)})"
            case types.CodeType():
                return self._code(value)
            case types.CellType():
                return self._cell(value)
            case types.ModuleType():
                return f"module({value.__name__})"
            case logging.Logger():
                return f"logger({value.name})"
            case functools.partial():
                return f"partial{self._members((('function', value.func), ('args', value.args), ('keywords', value.keywords)))}"
            case staticmethod() | classmethod():
                return f"{type(value).__name__}{self._members((('function', value.__func__),))}"
            case property():
                return f"property{self._members((('get', value.fget), ('set', value.fset), ('delete', value.fdel)))}"
            case functools.cached_property():
                return f"cached_property{self._members((('get', value.func),))}"
            case functools.singledispatchmethod():
                return f"singledispatchmethod{self._members((('of', value.dispatcher),))}"
            case PurePath():
                return f"{_place(type(value))}({str(value)!r})"
            case typing.TypeVar():
                return f"TypeVar({value.__name__})"
        return self._container(value)

    def _container(self, value: Any) -> str:  # noqa: PLR0911 - as above
        kind = self.write(type(value))
        if type(value).__module__ == "functools" and hasattr(value, "__wrapped__"):  # a cache in front of a function
            return f"{kind}{self._members((('wrapped', value.__wrapped__),))}"
        if type(value).__module__ == "pydantic._internal._decorators" and hasattr(value, "wrapped"):
            return f"{kind}{self._members((('wrapped', value.wrapped), ('info', value.decorator_info)))}"
        if type(value) in (list, tuple):
            return f"{kind}[{', '.join(self.write(item) for item in value)}]"
        if type(value) in (dict, types.MappingProxyType):
            return f"{kind}{{{', '.join(self._entries(value))}}}"
        if isinstance(value, set | frozenset):
            attributes = self.write(getattr(value, "__dict__", None))
            return f"{kind}{{{', '.join(sorted(map(self._alone, value)))}}}{attributes}"
        if typing.get_origin(value) is not None:
            return f"{kind}{self._members((('of', typing.get_origin(value)), ('args', typing.get_args(value))))}"
        return self._instance(kind, value)

    def _entries(self, value: Mapping[Any, Any]) -> Iterator[str]:
        for key, entry in value.items():  # in their order: the first rule that fits may be the one that counts
            written = self.write(key)
            self._path.append(written.removeprefix("str('").removesuffix("')"))
            yield f"{written}: {self.write(entry)}"
            self._path.pop()

    def _alone(self, value: Any) -> str:
        """Write a value as if nothing had been written before: the order within a set must not show."""
        apart = _Writer(self._owner, self._packages)
        apart._open, apart._path = self._open, self._path
        return apart.write(value)

    def _instance(self, kind: str, value: Any) -> str:
        if _top_level(type(value).__module__) == "sqlalchemy":
            raise IndigestibleError(self._path, f"{_place(type(value))} belongs to a process or a database")
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:
            raise IndigestibleError(self._path, f"a {_place(type(value))} has no value that outlives its process") from error
        if isinstance(reduced, str):
            return f"{kind}({reduced})"
        function, args, state, items, entries = [*reduced, None, None, None, None][:5]
        if args and args[0] is type(value):
            args = args[1:]
        parts = (("args", args), ("state", state), ("items", items and list(items)), ("entries", entries and list(entries)))
        read = self._definitions_of_owner(attributes_of_getter(value))
        return f"{kind}{self._members((('made by', function), *parts, *read))}"

    # Code

    def _function(self, function: types.FunctionType) -> str:
        registry = getattr(function, "registry", None)
        if registry is not None and hasattr(function, "dispatch"):
            return f"singledispatch{self._members((('registry', dict(registry)),))}"
        self._path.append(function.__qualname__)
        held = [
            ("defaults", function.__defaults__),
            ("keyword defaults", function.__kwdefaults__),
            ("closure", function.__closure__),
            ("attributes", {name: each for name, each in vars(function).items() if name != "__type_params__"}),
        ]
        if self._is_own(function.__globals__.get("__name__")):  # functools.wraps() gives a wrapper another function's __module__
            unknown = unknown_code(function)
            if unknown is not None:
                raise IndigestibleError(self._path, f"it runs code that only a text names, with {unknown}()")
            code = self.write(function.__code__)
            outer = list(self._globals(function))
            reached = [*outer, *self._attributes(function, outer)]
            text = f"function({code}, {self._members(held)}, {self._members(reached)})"
        else:
            text = f"function({_place(function)}, {self._members(held)})"
        self._path.pop()
        return text

    def _code(self, code: types.CodeType) -> str:
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, code.co_exceptiontable)
        return f"code({code.co_code!r}, {names!r}, {shape!r}, {self.write(code.co_consts)})"

    def _cell(self, cell: types.CellType) -> str:
        try:
            return f"cell({self.write(cell.cell_contents)})"
        except ValueError:
            return "cell()"

    def _globals(self, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
        """Find what code names outside of itself: globals, what it takes from modules, and what it imports when it runs."""
        instructions = [each for code in codes(function.__code__) for each in dis.get_instructions(code)]
        names = {each.argval for each in instructions if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        taken = {name for code in codes(function.__code__) for name in code.co_names}
        named = {name: function.__globals__[name] for name in sorted(names & function.__globals__.keys())}
        yield from named.items()
        modules = list(named.values())
        for name in sorted({each.argval for each in instructions if each.opname == "IMPORT_NAME"}):
            modules.extend(self._imported(name, function))
            yield "import", name
        for module in modules:
            if isinstance(module, types.ModuleType) and self._is_own(module.__name__):
                by_text = attributes_by_text(function, named.values(), vars(module))
                for name in sorted((taken | by_text) & vars(module).keys()):
                    yield f"{module.__name__}.{name}", vars(module)[name]
                    if not any(vars(module)[name] is each for each in modules):
                        modules.append(vars(module)[name])

    def _imported(self, name: str, function: types.FunctionType) -> list[Any]:
        """Find the modules that an ``import`` within a function may mean, absolute or relative."""
        package = (function.__globals__.get("__package__") or "").split(".")
        relative = [".".join([*package[:length], name]).strip(".") for length in range(len(package), 0, -1)]
        found = [sys.modules[each] for each in dict.fromkeys([name, *relative]) if each in sys.modules]
        if not found and self._is_own(name):
            raise IndigestibleError(self._path, f"it imports {name} as it runs, which is not there yet; import it with the module")
        return found

    def _attributes(self, function: types.FunctionType, outer: Collection[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Find the owner's methods and constants that a function may mean: by an attribute's name, or by a text.

        Args:
            function: The function.
            outer: What it names outside of itself.
        """
        named = {name for code in codes(function.__code__) for name in code.co_names}
        if self._may_construct(function, outer):
            named |= CONSTRUCTORS
        own = list(self._definitions_of_owner(named))
        yield from own
        reached = [value for _, value in (*outer, *own)]
        by_text = attributes_by_text(function, reached, self._names_of(self._owner))
        yield from self._definitions_of_owner(by_text - named)

    def _may_construct(self, function: types.FunctionType, reached: Iterable[tuple[str, Any]]) -> bool:
        """Tell whether a function has the owner, or a class that it inherits from, at hand."""
        names = {name for code in codes(function.__code__) for name in (*code.co_names, *code.co_varnames, *code.co_freevars)}
        return not names.isdisjoint(("type", "__class__", "cls")) or any(
            value in self._hierarchy for _, value in reached if isinstance(value, type)
        )

    def _definitions_of_owner(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        if self._owner is not None:
            for name in sorted(names):
                yield from self._definitions(self._owner, name)

    def _names_of(self, owner: type[Any] | None) -> set[str]:
        return {name for klass in classes_of(owner) if self._is_own(klass.__module__) for name in vars(klass)}

    def _definitions(self, owner: type[Any], name: str) -> Iterator[tuple[str, Any]]:
        for klass in classes_of(owner):
            if name in vars(klass) and self._is_own(klass.__module__) and is_code_of_mapped(klass, name):
                yield f"{klass.__qualname__}.{name}", unwrapped(vars(klass)[name])

    # Classes

    def _class(self, klass: type[Any]) -> str:
        if not self._is_own(klass.__module__) or klass in self._hierarchy:
            return f"class({_place(klass)})"
        self._path.append(klass.__qualname__)
        if is_mapped(klass):
            found = [each for name in sorted(self._names_of(klass)) for each in self._definitions(klass, name)]
            text = f"class({_place(klass)}, {self._members(found)})"
        else:
            kind, bases = self.write(type(klass)), self.write(klass.__bases__)
            text = f"class({_place(klass)}, {kind}, {bases}, {self._members(members_of(klass))})"
        self._path.pop()
        return text

    def _is_own(self, module: str | None) -> bool:
        top = _top_level(module)
        if top in _FOUNDATIONS or (top in sys.stdlib_module_names and top != "__main__"):
            return False
        if top in self._packages:
            return True
        file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
        return not {"site-packages", "dist-packages"} & set(PurePath(file).parts)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _place(value: Any) -> str:
    owner = getattr(value, "__objclass__", None)
    module = getattr(value, "__module__", None) or (owner.__module__ if owner is not None else "")
    return f"{module}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"


def _top_level(module: str | None) -> str:
    return (module or "").partition(".")[0]
