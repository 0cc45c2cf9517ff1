"""What a declaration means: events, one after the other in the order of their positions, change rows."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sa_eventsource.events import RecordedEvent, own_copy
from sa_eventsource.read_models.evolving import evolve
from sa_eventsource.read_models.exact_columns import rounded
from sa_eventsource.read_models.read_model_definition import definition_of
from sa_eventsource.read_models.value_types import EXACT

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping
    from datetime import datetime

    from sa_eventsource.read_models.fields import Contribution, Field
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition


@dataclass(slots=True)
class Row:
    """One row, as the events so far have made it.

    Attributes:
        values: The fields that are no keys.
        version: How many events have shaped it.
        created_at: The earliest time among them.
        updated_at: The latest.
        is_set: Names of the fields that keep what came first and have it.
        instance: What ``@evolves`` methods get as the row; made for the first of them.
    """

    values: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    is_set: set[str]
    instance: Any = None


def fold(model: type[Any], events: Iterable[RecordedEvent[Any]]) -> dict[Any, dict[str, Any]]:
    """Work out a read model's rows in Python, without a database: what its declaration means.

    ``@handles`` methods are left out. Useful to test a declaration, and to check stored rows against the log.

    Args:
        model: The read model.
        events: The events; they are taken in the order of their positions.

    Returns:
        The rows by key, which is a tuple where several fields are the key; each row has all fields, ``version``, ``created_at`` and
        ``updated_at``.

    Raises:
        DeclarationError: *model* is no mapped read model.
        TypeError: One of *events* is no ``RecordedEvent``.
        Exception: Whatever an ``@evolves`` method raised.
    """
    definition = definition_of(model)
    rows: dict[tuple[Any, ...], Row] = {}
    events = list(events)
    for each in events:
        if not isinstance(each, RecordedEvent):
            raise TypeError(f"fold() takes events as read from the log, such as EventStore(session).events, not {each!r}")
    for recorded in sorted(events, key=lambda recorded: (recorded.position, recorded.part)):
        # A method may change what it gets, which is the caller's.
        step(definition, rows, _own(recorded) if definition.evolvers else recorded)
    return {
        next(iter(key)) if len(key) == 1 else key: {
            **{part.name: value for part, value in zip(definition.key, key, strict=True)},
            **row.values,
            "version": row.version,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
        for key, row in rows.items()
    }


def _own(recorded: RecordedEvent[Any]) -> RecordedEvent[Any]:
    return replace(recorded, event=own_copy(recorded.event), metadata=deepcopy(recorded.metadata))


def step(definition: ReadModelDefinition, rows: MutableMapping[tuple[Any, ...], Row], recorded: RecordedEvent[Any]) -> None:
    """Let one event change the row that it belongs to, if it is one of the model's."""
    key = definition.key_of(recorded) if definition.changes_row(recorded) else None
    if key is not None:
        change(definition, rows, key, recorded)


def change(
    definition: ReadModelDefinition, rows: MutableMapping[tuple[Any, ...], Row], key: tuple[Any, ...], recorded: RecordedEvent[Any]
) -> None:
    """Let one event of the model change the row of a key."""
    name = type(recorded.event).__event_type__
    if name in definition.removed_by:
        rows.pop(key, None)
        return
    row = rows.get(key)
    if row is None:
        initial = {each.name: each.initial for each in definition.fields}
        row = rows[key] = Row(initial, 0, recorded.occurred_at, recorded.occurred_at, set())
    row.version += 1
    row.created_at = min(row.created_at, recorded.occurred_at)
    row.updated_at = max(row.updated_at, recorded.occurred_at)
    if name in definition.evolvers:
        if not evolve(definition, key, row, recorded):
            del rows[key]
        return
    for each in definition.fields:
        contribution = each.contributions.get(name)
        if contribution is not None:
            _reduce(definition, row, each, contribution, recorded)


def _reduce(
    definition: ReadModelDefinition, row: Row, each: Field, contribution: Contribution, recorded: RecordedEvent[Any]
) -> None:
    held = each.type.item if each.family == "list" and each.type.item is not None else each.type
    value = rounded(held.normalise(contribution.source.evaluate(recorded)), definition.decimal_places.get(each.name))
    before: Any = row.values[each.name]
    match each.family:
        case "last":
            row.values[each.name] = value
        case "first":
            if each.name not in row.is_set:
                row.is_set.add(each.name)
                row.values[each.name] = value
        case "sum" if value is not None:
            row.values[each.name] = (
                EXACT.add(before, value if contribution.sign > 0 else value.copy_negate())
                if each.type.kind == "decimal"
                else before + contribution.sign * value
            )
        case "min" | "max" if value is not None:
            chosen = min if each.family == "min" else max
            row.values[each.name] = value if before is None else chosen(before, value, key=held.to_json)
        case "list" if value is not None:
            row.values[each.name] = _listed(list(before), value, each, contribution)
        case _:
            pass


def _listed(before: list[Any], value: Any, each: Field, contribution: Contribution) -> list[Any]:
    if contribution.sign < 0:
        return [kept for kept in before if kept != value]
    return before if each.distinct and value in before else [*before, value]
