"""What a class has of the application's, alongside what Python, Pydantic, enumerations, dataclasses and SQLAlchemy put on it."""

from __future__ import annotations

import enum
import types
from typing import TYPE_CHECKING, Any

from sa_eventsource.aggregates.core_schema import CoreSchema

if TYPE_CHECKING:
    from collections.abc import Iterator

CONSTRUCTORS = frozenset({"__init__", "__new__"})
"""Special methods that only those call who have the class at hand."""

_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_BOOKKEEPING = frozenset(
    {"__annotations__", "__annotations_cache__", "__annotate__", "__annotate_func__", "__abstractmethods__", "__class_vars__"}
    | {"__dict__", "__doc__", "__firstlineno__", "__module__", "__orig_bases__", "__parameters__", "__qualname__"}
    | {"__signature__", "__static_attributes__", "__weakref__", "__weakrefoffset__", "_abc_impl"}
)
_LIBRARIES = ("sqlalchemy", "sa_eventsource")
_OF_MAPPING = ("__mapper", "__table", "__sqlmodel", "__dataclass_", "_sa_", "type_annotation_map")
"""How names begin under which a mapped class says how it is mapped."""


def members_of(klass: type[Any]) -> list[tuple[str, Any]]:
    """List what a class that is not mapped defines itself, by name."""
    members = [(name, each) for name, each in sorted(vars(klass).items()) if name not in _BOOKKEEPING]
    if issubclass(klass, enum.Enum):
        of_enum = (klass, types.DynamicClassAttribute)
        members = [(name, each) for name, each in members if not isinstance(each, of_enum) and not _is_of_enum(name)]
        members += [(f"member {name}", each._value_) for name, each in klass.__members__.items()]
    if "__pydantic_core_schema__" in vars(klass):
        members = [(name, each) for name, each in members if not _is_of_pydantic(name)]
        members.append(("schema", CoreSchema(vars(klass)["__pydantic_core_schema__"])))
    if "__dataclass_fields__" in vars(klass):
        members = [(name, each) for name, each in members if not name.startswith("__dataclass_")]
        fields = vars(klass)["__dataclass_fields__"].values()
        members.append(("fields", [(each.name, each.default, each.default_factory, each.init) for each in fields]))
    return [(name, each) for name, each in members if not isinstance(each, _SLOTS)]


def is_mapped(klass: type[Any]) -> bool:
    """Tell whether SQLAlchemy has put its own attributes on a class, or on one that it inherits from."""
    return any(
        _top_level(type(getattr(klass, mark, None))) in _LIBRARIES for mark in ("__mapper__", "__state_fields__", "registry")
    )


def is_code_of_mapped(klass: type[Any], name: str) -> bool:
    """Tell whether what a mapped class defines is the application's, and does not only say how it is mapped."""
    if (
        name in _BOOKKEEPING
        or name.startswith(_OF_MAPPING)
        or (hasattr(klass, "__pydantic_core_schema__") and _is_of_pydantic(name))
    ):
        return False
    member = vars(klass)[name]
    return _is_hybrid(member) or _top_level(type(member)) not in _LIBRARIES


def unwrapped(member: Any) -> Any:
    """Get what the application has written, where SQLAlchemy has put something around it."""
    if _is_hybrid(member):
        return getattr(member, "fget", None) or getattr(member, "func", None)
    return getattr(member, "_sa_original_init", member) if isinstance(member, types.FunctionType) else member


def is_special(name: str, member: object) -> bool:
    """Tell whether Python calls an attribute by itself: a method with two underscores, and not one that makes the object."""
    name = name.rpartition(".")[2]
    is_dunder = name.startswith("__") and name.endswith("__") and name not in CONSTRUCTORS
    return is_dunder and (callable(member) or hasattr(type(member), "__get__"))


def classes_of(owner: type[Any] | None) -> Iterator[type[Any]]:
    """List the classes that an attribute of a class may come from, its metaclass and those that this one inherits from at last."""
    if owner is not None:
        yield from owner.__mro__
        metaclass: type[Any] = type(owner)
        yield from metaclass.__mro__


def _is_hybrid(member: object) -> bool:
    return type(member).__module__ == "sqlalchemy.ext.hybrid"


def _top_level(kind: type[Any]) -> str:
    return kind.__module__.partition(".")[0]


def _is_of_enum(name: str) -> bool:
    is_sunder = name.startswith("_") and name.endswith("_") and not name.startswith("__")
    return name == "__new__" or (is_sunder and name != "_missing_")


def _is_of_pydantic(name: str) -> bool:
    return name.startswith("__pydantic_") or name in ("__fields__", "model_computed_fields", "model_config", "model_fields")
