"""Letting an ``@evolves`` method change a row: an instance of the model in no session, and what it holds checked after each event.

What is checked is what a stored row would not give back: so the next event finds the same whether the row was stored in between or
not, and how many events come together makes no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy.orm import class_mapper

from sa_eventsource.plain_functions import check_ran
from sa_eventsource.read_models.evolve_methods import HOW_TO_EVOLVE, REMOVED
from sa_eventsource.read_models.exact_columns import places_of, rounded
from sa_eventsource.read_models.fields import KEPT
from sa_eventsource.read_models.value_types import as_kept_by_jsonb

if TYPE_CHECKING:
    from collections.abc import Callable

    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.read_models.fields import Field
    from sa_eventsource.read_models.fold import Row
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition


def evolve(definition: ReadModelDefinition, key: tuple[Any, ...], row: Row, recorded: RecordedEvent[Any]) -> bool:
    """Let the method for an event change a row.

    Args:
        definition: The model.
        key: The row's key.
        row: The row; it counts the event already.
        recorded: The event.

    Returns:
        Whether the row stays.

    Raises:
        TypeError: A field holds what it cannot, or the method returned something else than None and ``REMOVED``.
        ValueError: A field that is not optional holds None, or the method changed the key, or what the library keeps.
        AttributeError: The method set an attribute that is no field.
        Exception: Whatever the method raised.
    """
    instance = row.instance
    if instance is None:
        instance = row.instance = _instance(definition, key, row)
    held, values = vars(instance), row.values
    held["version"], held["created_at"], held["updated_at"] = row.version, row.created_at, row.updated_at
    attributes = len(held)
    result: object = definition.evolvers[type(recorded.event).__event_type__](instance, recorded)
    if result is REMOVED:
        return False
    if result is not None:
        _refuse_result(definition, recorded, result)
    if len(held) > attributes:
        _refuse_attributes(definition, held)
    _check_kept(definition, key, row, held)
    for each in definition.fields:
        value = held.get(each.name)
        if value is not values[each.name] or each.type.kind == "json":
            values[each.name] = held[each.name] = as_stored(definition, each, value)
        if value is None and not each.is_optional:
            raise ValueError(
                f"{definition.model.__name__}.{each.name} is None after {type(recorded.event).__name__}; annotate it "
                "Mapped[... | None], give its mapped_column() a default, or return REMOVED"
            )
    return True


def _shown(definition: ReadModelDefinition, value: Any) -> str:
    """Show a value in a message, which is kept with the checkpoint, unless it may be personal."""
    return f"a value of type {type(value).__name__}" if definition.takes_personal_data == "clear" else repr(value)


def as_stored(definition: ReadModelDefinition, field: Field, value: Any) -> Any:
    """Turn a value into what the field holds once it is stored.

    Raises:
        TypeError: The field cannot hold it.
    """
    if value is None or field.type.is_as_stored(value):
        return value
    if not field.type.accepts(value):
        held = getattr(field.type.python, "__name__", repr(field.type.python))
        raise TypeError(f"{definition.model.__name__}.{field.name} is of type {held} and cannot hold {_shown(definition, value)}")
    if field.type.kind == "moment" and value.tzinfo is None:
        raise TypeError(f"{definition.model.__name__}.{field.name} cannot hold {_shown(definition, value)}, which has no time zone")
    stored = field.type.normalise(value)
    if field.type.kind == "json" and field.type.item is None:
        return as_kept_by_jsonb(stored)
    return rounded(stored, definition.decimal_places.get(field.name))


def evolved_names(definition: ReadModelDefinition) -> set[str]:
    """Name the fields that methods set."""
    return {each.name for each in definition.fields if each.family == "evolved"}


def validators(definition: ReadModelDefinition) -> list[Callable[..., Any]]:
    """List the methods with ``@validates`` that are called where methods set fields, in the order of the fields' names."""
    found: Any = class_mapper(definition.model, configure=False).validators  # annotated as if they were texts
    return [found[name][0] for name in sorted(evolved_names(definition) & found.keys())]


def decimal_places(definition: ReadModelDefinition) -> dict[str, int]:
    """Find how many decimal places the columns of a model's own table have, by the name of the field, where they are limited."""
    if not definition.has_own_table:
        return {}
    columns = class_mapper(definition.model).columns
    places = {each.name: places_of(columns[each.name].type) for each in definition.fields}
    return {name: number for name, number in places.items() if number is not None}


def _instance(definition: ReadModelDefinition, key: tuple[Any, ...], row: Row) -> Any:
    """Make an instance that has the row's values; no constructor runs, as where the ORM loads one."""
    for each in definition.fields:
        row.values[each.name] = as_stored(definition, each, row.values[each.name])
    instance = class_mapper(definition.model).class_manager.new_instance()
    vars(instance).update(row.values, **dict(zip((part.name for part in definition.key), key, strict=True)))
    return instance


def _refuse_result(definition: ReadModelDefinition, recorded: RecordedEvent[Any], result: object) -> NoReturn:
    where = f"the @evolves method of {definition.model.__name__} for {type(recorded.event).__name__}"
    check_ran(where, result, HOW_TO_EVOLVE)
    raise TypeError(f"{where} returned {result!r}. {HOW_TO_EVOLVE}")


def _refuse_attributes(definition: ReadModelDefinition, held: dict[str, Any]) -> NoReturn:
    known = {"_sa_instance_state", *definition.row_names}
    name = next(each for each in held if each not in known)
    raise AttributeError(
        f"{definition.model.__name__} has no field {name!r} that an @evolves method can set; "
        f"it has {', '.join(each.name for each in definition.fields)}"
    )


def _check_kept(definition: ReadModelDefinition, key: tuple[Any, ...], row: Row, held: dict[str, Any]) -> None:
    for part, value in zip(definition.key, key, strict=True):
        if held.get(part.name) is not value:
            _check_same(definition, part.name, value, held.get(part.name))
    for name, value in zip(KEPT, (row.version, row.created_at, row.updated_at), strict=True):
        if held.get(name) is not value:
            _check_same(definition, name, value, held.get(name))


def _check_same(definition: ReadModelDefinition, name: str, value: Any, now: Any) -> None:
    if now != value:
        where = f"{definition.model.__name__}.{name}"
        raise ValueError(f"an @evolves method has set {where} to {now!r}: it is {value!r}, and kept by the library")
