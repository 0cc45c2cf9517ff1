"""What an annotation in a class body says of its attribute: state, a constant of the class, or something that SQLAlchemy maps.

Annotations are resolved, not compared as text: modules are imported under other names, and ``from __future__ import annotations``
makes texts of all. A name that does not exist at run time, because it is imported for type checkers only or local to a function,
is as good as any other inside of brackets; outside of them its spelling decides.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import sys
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Optional, Union

from pydantic.fields import FieldInfo
from sqlalchemy.orm import DynamicMapped, Mapped, WriteOnlyMapped
from sqlalchemy.orm.base import InspectionAttr
from typing_extensions import Format, get_annotations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Kind(enum.Enum):
    """What an attribute is by its annotation."""

    STATE = enum.auto()
    CONSTANT = enum.auto()
    MAPPED = enum.auto()
    MAPPED_WITHIN = enum.auto()
    """``Mapped[...]`` stands within another annotation, where SQLAlchemy does not look."""
    FINAL = enum.auto()
    CONSTRUCTOR_ARGUMENT = enum.auto()
    """``InitVar`` and ``KW_ONLY``, which only dataclasses know."""


_MAPPED = (Mapped, DynamicMapped, WriteOnlyMapped, InspectionAttr)
_NAMES: Mapping[str, Any] = {
    "Annotated": Annotated,
    "ClassVar": ClassVar,
    "DynamicMapped": DynamicMapped,
    "Final": Final,
    "InitVar": dataclasses.InitVar,
    "KW_ONLY": dataclasses.KW_ONLY,
    "Mapped": Mapped,
    "Optional": Optional,
    "Union": Union,
    "WriteOnlyMapped": WriteOnlyMapped,
}
"""What a name outside of brackets stands for where it cannot be resolved."""


def own_annotations(klass: type[Any]) -> Mapping[str, Any]:
    """List the annotations in a class's own body, by name; what cannot be resolved as text or forward reference."""
    return get_annotations(klass, format=Format.FORWARDREF)


def kind_of(annotation: Any, owner: type[Any]) -> Kind:
    """Say what an attribute is.

    Args:
        annotation: The annotation, resolved or as text.
        owner: The class in whose body it stands.
    """
    outermost, *inner = _parts(annotation, scope_of(owner))
    if outermost is ClassVar or (outermost is Annotated and _has(inner, ClassVar)):
        return Kind.CONSTANT
    if _is_mapped(outermost):
        return Kind.MAPPED
    if any(_is_mapped(part) for part in inner):
        return Kind.MAPPED_WITHIN
    if _has((outermost, *inner), Final):
        return Kind.FINAL
    if _has((outermost,), dataclasses.InitVar, dataclasses.KW_ONLY) or isinstance(outermost, dataclasses.InitVar):
        return Kind.CONSTRUCTOR_ARGUMENT
    return Kind.STATE


def default_in(annotation: Any, owner: type[Any]) -> FieldInfo | None:
    """Get the default that stands in an annotation, ``Annotated[..., Field(default=...)]``; None if there is none.

    Args:
        annotation: The annotation, resolved or as text.
        owner: The class in whose body it stands.
    """
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, scope_of(owner))  # noqa: S307 - an annotation of the application's own code
        except Exception:  # noqa: BLE001 - it names what is not there at run time
            return None
    if typing.get_origin(annotation) is not Annotated:
        return None
    found = FieldInfo.from_annotation(annotation)
    return None if found.is_required() else found


def resolved(annotation: Any, owner: type[Any], name: str) -> Any:
    """Resolve one annotation of a class, whatever its others are.

    Raises:
        NameError: A name in it does not exist at run time.
    """
    holder = type(owner.__name__, (), {"__annotations__": {name: annotation}, "__module__": owner.__module__})
    return typing.get_type_hints(holder, globalns=scope_of(owner), include_extras=True)[name]


def shielded(annotation: Any, owner: type[Any]) -> Any:
    """Wrap the annotation of a state field so that SQLAlchemy leaves it alone.

    It resolves those of a class that it maps as far as to see whether they are ``Mapped[...]``, and fails where what stands outside
    of brackets is imported for type checkers only.
    """
    if not isinstance(annotation, str):
        return annotation
    try:
        eval(annotation, scope_of(owner))  # noqa: S307 - an annotation of the application's own code
    except Exception:  # noqa: BLE001
        return Annotated[annotation, "state"]
    return annotation


def scope_of(owner: type[Any]) -> dict[str, Any]:
    """List the names that annotations in a class's body can use: those of the class, and of its module, which take precedence."""
    return {**vars(owner), owner.__name__: owner, **vars(sys.modules.get(owner.__module__, types))}


def _has(parts: Iterable[Any], *wanted: Any) -> bool:
    # By identity: a part may be anything that has the name, a state field too, which must not be compared.
    return any(part is one for part in parts for one in wanted)


def _is_mapped(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, _MAPPED)


def _parts(annotation: Any, scope: dict[str, Any]) -> Iterator[Any]:
    """Give what stands outside of brackets, and of ``Annotated`` and unions what stands within as well."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        yield from _parts_of_text(annotation, scope)
        return
    origin = typing.get_origin(annotation)
    if origin is None:
        yield annotation
        return
    yield origin
    if _has((origin,), Annotated, Union, types.UnionType):
        for argument in typing.get_args(annotation)[: 1 if origin is Annotated else None]:
            yield from _parts(argument, scope)


def _parts_of_text(text: str, scope: dict[str, Any]) -> Iterator[Any]:
    try:
        whole = eval(text, dict(scope))  # noqa: S307 - an annotation of the application's own code
    except Exception:  # noqa: BLE001 - whatever it is, the name is not there at run time
        try:
            yield from _parts_of_node(ast.parse(text.strip(), mode="eval").body, scope)
        except SyntaxError:
            yield text
    else:
        yield from (text,) if isinstance(whole, str) and whole == text else _parts(whole, scope)


def _parts_of_node(node: ast.expr, scope: dict[str, Any]) -> Iterator[Any]:
    if isinstance(node, ast.BinOp):
        yield Union
        yield from _parts_of_node(node.left, scope)
        yield from _parts_of_node(node.right, scope)
    elif isinstance(node, ast.Subscript):
        outside = _outside(node.value, scope)
        yield outside
        if _has((outside,), Annotated, Optional, Union):
            within = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            for each in within[: 1 if outside is Annotated else None]:
                yield from _parts_of_node(each, scope)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _parts_of_text(node.value, scope)
    else:
        yield _outside(node, scope)


def _outside(node: ast.expr, scope: dict[str, Any]) -> Any:
    text = ast.unparse(node)
    try:
        return eval(text, dict(scope))  # noqa: S307 - as above
    except Exception:  # noqa: BLE001
        return _NAMES.get(text.rpartition(".")[2], text)
