"""The mark of a personal field, and where marks stand in a type: around a field, or where none may be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import TypeAliasType, get_type_hints, is_typeddict

from sa_eventsource.exceptions import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class NotGiven(Enum):
    """Stands for an argument that is not given."""

    NOT_GIVEN = "not given"


@dataclass(frozen=True, slots=True)
class Personal:
    """Marks a field of an event as personal data: ``email: Annotated[str, Personal(subject="customer_id")]``.

    It stands in the annotation of a field of the event, or of a Pydantic model within it, around the whole type of the field.

    Attributes:
        subject: Whose data it is: another field of the model that the field stands in, or of a model around it, as a path such as
            ``"customer.id"``; or ``"aggregate_id"``; or an entry of the event's metadata, such as ``"metadata.user"``. It holds a
            text, a whole number or a UUID. Fields that name one person need to name that person alike.
        placeholder: What is read in its place once the subject is forgotten: a value that the field takes. It is stored with each
            event, so another one applies to the events that come. None by default, where the field takes that.
    """

    subject: str
    placeholder: Any = NotGiven.NOT_GIVEN


def holds_marks(model: type[BaseModel], seen: set[type[BaseModel]]) -> bool:
    """Check whether there is a mark anywhere in a model, also where it must not be."""
    if model in seen:
        return False
    seen.add(model)
    for info in model.model_fields.values():
        if marks_in(info.metadata) or any(
            isinstance(each, Personal) or (isinstance(each, type) and holds_marks(each, seen)) for each in parts_of(info.annotation)
        ):
            return True
    return False


def marks_in(metadata: list[Any]) -> list[Personal]:
    """List the marks in the metadata of a field.

    Raises:
        DeclarationError: One has no subject.
    """
    for each in metadata:
        if each is Personal:
            raise DeclarationError('Personal stands without its subject; write Personal(subject="customer_id")')
    return [each for each in metadata if isinstance(each, Personal)]


def parts_of(annotation: Any) -> Iterator[type[BaseModel] | Personal]:
    """List the models, and the marks that stand where none may be, within a type.

    Raises:
        DeclarationError: A mark has no subject, or it cannot be seen what a dataclass or the like holds.
    """
    yield from _within(annotation, set())


def _within(annotation: Any, seen: set[Any]) -> Iterator[type[BaseModel] | Personal]:
    if isinstance(annotation, TypeAliasType) or type(annotation).__name__ == "TypeAliasType":
        if annotation not in seen:
            seen.add(annotation)
            yield from _within(annotation.__value__, seen)
        return
    if get_origin(annotation) is Annotated:
        yield from marks_in([*annotation.__metadata__])
        yield from _within(annotation.__origin__, seen)
        return
    if isinstance(annotation, type) and get_origin(annotation) is None:
        if issubclass(annotation, BaseModel):
            yield annotation
        elif annotation not in seen and (
            is_typeddict(annotation) or hasattr(annotation, "__dataclass_fields__") or _is_tuple(annotation)
        ):
            seen.add(annotation)
            yield from _in_fields(_hints(annotation), seen)
        return
    for each in get_args(annotation):
        yield from _within(each, seen)


def _in_fields(hints: Mapping[str, Any], seen: set[Any]) -> Iterator[type[BaseModel] | Personal]:
    """List what stands in the fields of a dataclass, a ``TypedDict`` or a named tuple, of whose values no field is told apart."""
    for each in hints.values():
        for part in _within(each, seen):
            if isinstance(part, Personal):
                yield part
            elif holds_marks(part, set()):
                yield Personal("")  # as one that stands where none may be


def _hints(annotation: type[Any]) -> Mapping[str, Any]:
    try:
        return get_type_hints(annotation, include_extras=True)
    except (NameError, TypeError) as error:
        raise DeclarationError(
            f"{annotation.__qualname__} stands in an event, and it cannot be seen whether its fields hold personal data: {error}. "
            "Declare what its annotations name in the module that it is declared in"
        ) from error


def _is_tuple(annotation: type[Any]) -> bool:
    return issubclass(annotation, tuple) and hasattr(annotation, "_fields")


def has_set(annotation: Any) -> bool:
    """Check whether a type is a set, or has one within it."""
    origin = get_origin(annotation) or annotation
    return (isinstance(origin, type) and issubclass(origin, set | frozenset)) or any(map(has_set, get_args(annotation)))
