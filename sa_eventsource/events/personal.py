"""Personal data in events: which fields hold it, whose it is, and what stands for it once that person is forgotten.

What is declared here is encrypted on its way to the log, each value with a key of the person's own
(:mod:`sa_eventsource.privacy`). This module says what there is to encrypt; it knows neither keys nor a database.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from uuid import UUID

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import SchemaSerializer, SchemaValidator

from sa_eventsource.events import event_types
from sa_eventsource.events.comparison import difference, shown
from sa_eventsource.events.personal_marks import NotGiven, Personal, has_set, holds_marks, marks_in, parts_of
from sa_eventsource.events.splitting import retired_types
from sa_eventsource.exceptions import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_Owners: TypeAlias = tuple[type[BaseModel], ...]

AGGREGATE_ID, METADATA = "aggregate_id", "metadata"


@dataclass(frozen=True, slots=True)
class PersonalField:
    """A personal field of a model.

    Attributes:
        name: Its name.
        key: Its key in the JSON.
        subject: The path that leads to whose it is.
        placeholder: JSON text of what stands for it.
    """

    name: str
    key: str
    subject: tuple[str, ...]
    placeholder: str


@dataclass(frozen=True, slots=True)
class PersonalFields:
    """What is personal in a model.

    Attributes:
        own: Its personal fields.
        inner: Name and key of the other fields in which there may be models with personal fields.
        names: The names of all its fields.
    """

    own: tuple[PersonalField, ...] = ()
    inner: tuple[tuple[str, str], ...] = ()
    names: frozenset[str] = frozenset()


_NONE = PersonalFields()
_known: dict[type[BaseModel], PersonalFields] = {}
_names: list[frozenset[str]] = []


def _forget() -> None:
    _known.clear()
    _names.clear()


event_types.on_change(_forget)


def personal_fields(model: type[BaseModel]) -> PersonalFields:
    """Find what is personal in an event, or in a model within one.

    Raises:
        DeclarationError: It is declared wrongly.
    """
    found = _known.get(model)
    if found is None:
        found = _known[model] = _read(model) if holds_marks(model, set()) else _NONE
    return found


def is_personal(event_class: type[BaseModel]) -> bool:
    """Check whether there is anything personal in an event."""
    return personal_fields(event_class) is not _NONE


def holds_personal(event_class: type[BaseModel], path: Sequence[str]) -> bool:
    """Check whether what lies at a path is personal, holds something personal, or lies within something personal.

    Args:
        event_class: The event.
        path: Names of fields, of the event and of models within it.
    """
    models = [event_class]
    for name in path:
        if any(name == each.name for model in models for each in personal_fields(model).own):
            return True
        parts = [part for model in models if name in model.model_fields for part in parts_of(model.model_fields[name].annotation)]
        models = [part for part in parts if isinstance(part, type)]
    return any(map(is_personal, models))


def check_personal(event_class: type[BaseModel]) -> None:
    """Check what an event's class declares.

    Raises:
        DeclarationError: It is declared wrongly.
    """
    if is_personal(event_class):
        _check_subjects(event_class, ())


def _check_subjects(model: type[BaseModel], owners: _Owners) -> None:
    around = (*owners, model)
    fields = personal_fields(model)
    for each in fields.own:
        _check_subject(around, f"{model.__name__}.{each.name}", each.subject)
    for name, _ in fields.inner:
        for inner in parts_of(model.model_fields[name].annotation):
            if isinstance(inner, type) and inner not in around:
                _check_subjects(inner, around)


def sealed_names() -> frozenset[str]:
    """List the names under which events may be stored that have personal fields in any version of their class.

    Of those that no longer have a class, and are read as other events, it is not known: they count as such.
    """
    if _names:
        return _names[0]
    classes = event_types.all_classes()
    for each in classes:
        if not each.__pydantic_complete__:
            each.model_rebuild(raise_errors=False)
    found = retired_types().union(
        name for each in classes if each.__pydantic_complete__ and is_personal(each) for name in event_types.stored_types(each)
    )
    if all(each.__pydantic_complete__ for each in classes):
        _names.append(found)
    return found


def subject_text(value: object) -> str | None:
    """Write a subject as the text that it is known by; None if it is no text, whole number or UUID, or too long for one."""
    value = value.value if isinstance(value, Enum) else value
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        return None
    text = str(value)
    return text if 0 < len(text) <= _LONGEST else None


_LONGEST = 255


def _read(model: type[BaseModel]) -> PersonalFields:
    own, inner = [], []
    for name, info in model.model_fields.items():
        where, marks = f"{model.__name__}.{name}", marks_in(info.metadata)
        parts = list(parts_of(info.annotation))
        if any(isinstance(each, Personal) for each in parts):
            raise DeclarationError(
                f"{where}: Personal(...) stands within the type of the field. Put it around the whole type, "
                f"{name}: Annotated[..., Personal(...)], or declare a Pydantic model that has the field"
            )
        models = [each for each in parts if isinstance(each, type) and holds_marks(each, set())]
        key = info.serialization_alias or info.alias or name
        if marks:
            if models:
                raise DeclarationError(
                    f"{where} is personal as a whole, and so is a field of {models[0].__name__}; mark one of them"
                )
            own.append(_field(model, name, key, marks))
        elif models:
            if has_set(info.annotation):
                raise DeclarationError(
                    f"{where} is a set of models with personal fields, which are written in no order; declare a list"
                )
            inner.append((name, key))
    _refuse_derived(model)
    return PersonalFields(tuple(own), tuple(inner), frozenset(model.model_fields))


def _field(model: type[BaseModel], name: str, key: str, marks: list[Personal]) -> PersonalField:
    where = f"{model.__name__}.{name}"
    if len(marks) > 1:
        raise DeclarationError(f"{where} has {len(marks)} Personal(...) marks; a value belongs to one subject")
    if issubclass(model, RootModel):
        raise DeclarationError(f"{where}: {model.__name__} is a RootModel, which has no fields; mark the field that holds it")
    mark = marks[0]
    if not isinstance(mark.subject, str):
        raise DeclarationError(f'{where}: Personal(subject={mark.subject!r}) must be the name of a field, such as "customer_id"')
    return PersonalField(name, key, tuple(mark.subject.split(".")), _placeholder(model, name, mark))


def _check_subject(owners: _Owners, where: str, path: tuple[str, ...]) -> None:
    first = path[0]
    owner = next((each for each in reversed(owners) if first in each.model_fields), None)
    if owner is None:
        if path == (AGGREGATE_ID,) or (first == METADATA and len(path) > 1 and all(path)):
            return
        known = ", ".join(name for name, info in owners[-1].model_fields.items() if not marks_in(info.metadata))
        raise DeclarationError(
            f"{where}: there is no {'.'.join(path)!r} to say whose data it is. Name another field ({known or 'none yet'}), "
            f'"{AGGREGATE_ID}", or an entry of the metadata, such as "{METADATA}.user"'
        )
    for name in path:
        info = None if owner is None else owner.model_fields.get(name)
        if owner is None or info is None:
            raise DeclarationError(f"{where}: there is no {'.'.join(path)!r} to say whose data it is")
        if marks_in(info.metadata):
            raise DeclarationError(
                f"{where}: its subject, {'.'.join(path)}, is personal itself, and could not be read without the key that it names"
            )
        owner = next((each for each in parts_of(info.annotation) if isinstance(each, type)), None)


def _placeholder(model: type[BaseModel], name: str, mark: Personal) -> str:
    """Write what stands for a field, once it is seen that the field takes it, and reads again what is written of it."""
    is_given = mark.placeholder is not NotGiven.NOT_GIVEN
    value = mark.placeholder if is_given else None
    schema, config = _schema_of(model, name)
    reason = "it does not come back as it is"
    try:
        validator = SchemaValidator(schema, config)
        taken = validator.validate_python(value)
        text = SchemaSerializer(schema, config).to_json(taken, by_alias=True, warnings="error").decode()
        if difference(taken, validator.validate_json(text)) is None:
            return text
    except ValidationError as error:
        reason = "; ".join(each["msg"] for each in error.errors(include_url=False))
    except Exception as error:  # noqa: BLE001 - validators and serializers of the application's own may raise anything
        reason = repr(error)
    where = f"{model.__name__}.{name}"
    if is_given:
        raise DeclarationError(f"{where}: the placeholder {shown(value)} is none that the field takes: {reason}")
    raise DeclarationError(
        f"{where} takes no None, so say what is read once its subject is forgotten: Personal(subject={mark.subject!r}, "
        "placeholder=...)"
    )


def _schema_of(model: type[BaseModel], name: str) -> tuple[Any, Any]:
    """Get the schema that Pydantic made of a field, with what it refers to, and the settings of its model."""
    schema = cast("dict[str, Any]", model.__pydantic_core_schema__)
    definitions: list[Any] = []
    config: Any = None
    while schema["type"] != "model-fields":
        if schema["type"] == "definitions":
            definitions = schema["definitions"]
        config = schema.get("config", config)
        if schema["type"] == "definition-ref":
            schema = next(each for each in definitions if each["ref"] == schema["schema_ref"])
        else:
            schema = schema["schema"]
    found = schema["fields"][name]["schema"]
    return ({"type": "definitions", "schema": found, "definitions": definitions} if definitions else found), config


def _refuse_derived(model: type[BaseModel]) -> None:
    """Refuse what is written alongside the fields: it may be made of what is personal, and would be stored in clear."""
    derived = {**model.__pydantic_decorators__.computed_fields, **model.__pydantic_decorators__.model_serializers}
    for name in derived:
        raise DeclarationError(
            f"{model.__name__}.{name}: what a computed field or a model's serializer makes of personal data would be stored in "
            "clear. Write a plain property"
        )
