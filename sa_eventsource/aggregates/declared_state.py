"""Which attributes of an aggregate's class are state, and which declarations of state are refused.

State is what a class body annotates, in the aggregate, its bases and its mixins; a value without annotation is a constant of the
class, and would be shared by all aggregates if it could change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import MutableMapping, MutableSequence, MutableSet
from functools import cached_property
from types import FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sqlalchemy import Column, MetaData
from sqlalchemy.orm import Mapped, MappedColumn, declared_attr, registry
from sqlalchemy.orm.base import InspectionAttr

from sa_eventsource.aggregates.annotations import Kind, default_in, kind_of, own_annotations
from sa_eventsource.aggregates.state_field import StateField
from sa_eventsource.exceptions import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_IDENTITY = ("id", "version")
_OF_SQLALCHEMY = ("metadata", "registry")
_OF_TABLES = ("__table__", "__tablename__", "__table_args__")
_METHODS = (FunctionType, classmethod, staticmethod)
_PROPERTIES = (property, cached_property, MemberDescriptorType, InspectionAttr)
_MUTABLE = (MutableSequence, MutableMapping, MutableSet, FieldInfo, dataclasses.Field)


class DeclaredState:
    """What the bodies of a class and its mixins declare."""

    def __init__(self, aggregate_class: type[Any], reserved: frozenset[str]) -> None:
        """Read and check the declarations.

        Args:
            aggregate_class: The class.
            reserved: The library's own public names on it.

        Raises:
            DeclarationError: One of them cannot be.
        """
        self._class = aggregate_class
        self._where = aggregate_class.__name__
        self._reserved = reserved
        self._refuse_what_is_no_aggregate()

    def collect(self, load: Callable[[Any], None]) -> dict[str, StateField]:
        """Find all state fields, those of bases and mixins too.

        Args:
            load: Loads the state of an instance that has none.

        Raises:
            DeclarationError: A declaration of state cannot be.
        """
        found: dict[str, StateField] = {}
        for klass in reversed(self._class.__mro__):
            if klass is not self._class and "__state_fields__" in vars(klass):
                found.update((name, member) for name, member in vars(klass).items() if isinstance(member, StateField))
            elif klass is self._class or _may_declare(klass):
                for name, default in self._declared_in(klass, found):
                    found[name] = StateField(self._where, name, default, load)
            else:
                self._refuse_columns(klass)
        return found

    def _declared_in(self, klass: type[Any], known: Mapping[str, object]) -> Iterator[tuple[str, FieldInfo | None]]:
        annotations, body = own_annotations(klass), vars(klass)
        for name, annotation in annotations.items():
            if not name.startswith("__"):
                present = self._value(klass, name)
                if name in _OF_SQLALCHEMY and klass is not self._class and present is PydanticUndefined:
                    continue  # a mixin tells type checkers what it finds on the class
                if self._is_state(klass, name, kind_of(annotation, klass), present):
                    self._refuse_name(klass, name, annotation)
                    if present is PydanticUndefined or (isinstance(present, FieldInfo) and present.is_required()):
                        present = default_in(annotation, klass) or present
                    yield name, self._default(klass, name, present)
        for name, present in list(body.items()):
            if name not in annotations and not name.startswith(("__", "_sa_")) and not isinstance(present, StateField):
                if name in known:
                    yield name, self._default(klass, name, present)
                else:
                    self._refuse_unannotated(klass, name, present)

    def _value(self, klass: type[Any], name: str) -> Any:
        # A dataclass takes the declarations with a factory off its class.
        declared = vars(klass).get("__dataclass_fields__", {}).get(name)
        return vars(klass).get(name, PydanticUndefined if declared is None else declared)

    def _is_state(self, klass: type[Any], name: str, kind: Kind, present: Any) -> bool:
        where = self._name(klass, name)
        if isinstance(present, Column | MappedColumn):
            raise DeclarationError(f"{where} is a column, but {_NO_COLUMNS.format(name=name)}")
        if kind is Kind.MAPPED and not _is_mapped(present):
            if name in _IDENTITY:
                raise DeclarationError(f"{where} is there already; leave the line out. {_IDS.format(name=self._where)}")
            raise DeclarationError(f"{where} is annotated Mapped[...], but {_NO_COLUMNS.format(name=name)}")
        if kind is Kind.MAPPED_WITHIN:
            raise DeclarationError(
                f"{where} has Mapped[...] within another annotation, where SQLAlchemy does not find it. Write Mapped[...] outside, "
                f"such as {name}: Mapped[Line | None] = relationship()."
            )
        if kind is Kind.CONSTRUCTOR_ARGUMENT:
            raise DeclarationError(
                f"{where} is declared for a dataclass, but an aggregate has no generated constructor. Write a method that applies "
                "an event, or an __init__ that calls super().__init__(id=...)."
            )
        if kind is Kind.FINAL and present is PydanticUndefined:
            raise DeclarationError(f"{where} is Final, but events set state again and again. Leave out Final.")
        return kind is Kind.STATE and not _is_mapped(present)

    def _refuse_name(self, klass: type[Any], name: str, annotation: Any) -> None:
        where = self._name(klass, name)
        if name in _IDENTITY:
            raise DeclarationError(
                f"{where}: {annotation!r} cannot be state: each aggregate has an id and a version. {_IDS.format(name=self._where)}"
            )
        if name in self._reserved or name in _OF_SQLALCHEMY or name.startswith("_sa_"):
            names = ", ".join(sorted({*self._reserved, *_OF_SQLALCHEMY, *_IDENTITY}))
            raise DeclarationError(
                f"{where} cannot be a state field: the name is reserved. Choose another one. Reserved are {names}, and all that "
                "begins with _sa_ or two underscores."
            )
        for base in self._class.__mro__[1:]:
            hidden = vars(base).get(name)
            if isinstance(hidden, _METHODS) and not getattr(hidden, "__isabstractmethod__", False) and base is not klass:
                raise DeclarationError(f"{where} is a state field and hides the method {base.__name__}.{name}. Rename one of them.")

    def _default(self, klass: type[Any], name: str, present: Any) -> FieldInfo | None:
        kind = "method" if isinstance(present, _METHODS) else "property"
        if isinstance(present, _PROPERTIES) or (isinstance(present, _METHODS) and _is_written_in(present, klass, name)):
            raise DeclarationError(
                f"{self._name(klass, name)} is both a state field and a {kind}, and only one can be reached. Rename one of them."
            )
        if isinstance(present, FieldInfo):
            if present.default_factory_takes_validated_data:
                raise DeclarationError(f"{self._name(klass, name)}: the default_factory of a state field takes no arguments.")
            return None if present.is_required() else present
        if isinstance(present, dataclasses.Field):
            if present.default_factory is not dataclasses.MISSING:
                return FieldInfo(default_factory=present.default_factory)
            return None if present.default is dataclasses.MISSING else FieldInfo(default=present.default)
        return None if present is PydanticUndefined else FieldInfo(default=present)

    def _refuse_unannotated(self, klass: type[Any], name: str, present: Any) -> None:
        where = self._name(klass, name)
        if isinstance(present, Column | MappedColumn):
            raise DeclarationError(f"{where} is a column, but {_NO_COLUMNS.format(name=name)}")
        if name in _IDENTITY and not _is_mapped(present):
            raise DeclarationError(f"{where} hides the aggregate's own; leave it out. {_IDS.format(name=self._where)}")
        if name in self._reserved and not isinstance(present, (*_METHODS, property)):
            raise DeclarationError(f"{where} hides a method that every aggregate has. Choose another name.")
        if isinstance(present, _MUTABLE):
            kind = type(present).__name__
            shape = kind if isinstance(present, list | dict | set) else "list"
            raise DeclarationError(
                f"{where} is a {kind} without annotation, which all aggregates would share. If it is state, annotate it: "
                f"{name}: {shape}[...] = Field(default_factory={shape}). If it never changes, say so: "
                f"{name}: ClassVar[{shape}[...]]."
            )

    def _refuse_what_is_no_aggregate(self) -> None:
        if issubclass(self._class, BaseModel):
            raise DeclarationError(
                f"{self._where} is a Pydantic or SQLModel class, which would make columns of its state. Declare it on a "
                "declarative base that shares the metadata: class Base(DeclarativeBase): metadata = SQLModel.metadata; "
                f"class {self._where}(AggregateRoot, Base)."
            )
        for name in _OF_TABLES:
            if name in vars(self._class):
                raise DeclarationError(
                    f"{self._where}.{name}: an aggregate has no table of its own, its events are in the log. Leave it out. The "
                    "name that they are stored under is __aggregate_type__; the log's name and schema are set by __eventsource__ "
                    "on "
                    "the base."
                )

    def _refuse_columns(self, base: type[Any]) -> None:
        """Refuse a declarative base that gives columns to each class."""
        if not _is_from_a_library(base):
            for name, value in vars(base).items():
                if isinstance(value, Column | MappedColumn):
                    raise DeclarationError(
                        f"{self._where} inherits the column {base.__name__}.{name}, but an aggregate has no columns of its own. "
                        "Declare it on another base with the same metadata: class Events(DeclarativeBase): "
                        f"metadata = {base.__name__}.metadata; class {self._where}(AggregateRoot, Events)."
                    )

    def _name(self, klass: type[Any], name: str) -> str:
        return f"{self._where}.{name}" if klass is self._class else f"{self._where}.{name} (from {klass.__name__})"


_NO_COLUMNS = (
    "an aggregate has no columns of its own: its state is made from events. Annotate it as a plain attribute, such as "
    "{name}: int = 0, set it in an @applies method, and keep what you search for in a read model."
)
_IDS = "An aggregate's ids are text, or what its base says: class {name}(AggregateRoot[UUID], Base)."


def _may_declare(klass: type[Any]) -> bool:
    """Check whether a class in the order of resolution is a mixin: a declarative base speaks of tables."""
    is_base = isinstance(getattr(klass, "metadata", None), MetaData) or isinstance(getattr(klass, "registry", None), registry)
    return not (is_base or _is_from_a_library(klass))


def _is_from_a_library(klass: type[Any]) -> bool:
    return klass.__module__.partition(".")[0] in ("builtins", "typing", "typing_extensions", "abc", "sqlalchemy", "sa_eventsource")


def _is_mapped(value: Any) -> bool:
    return isinstance(value, InspectionAttr | Mapped | declared_attr)


def _is_written_in(method: Any, klass: type[Any], name: str) -> bool:
    function = getattr(method, "__func__", method)
    return getattr(function, "__qualname__", "") == f"{klass.__qualname__}.{name}"
