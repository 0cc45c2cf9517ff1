"""The reading half of the statement: from events to one row a key, with what each field of it comes to."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    Integer,
    Numeric,
    SmallInteger,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    column,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSON, aggregate_order_by

from sa_eventsource.events import stored_types
from sa_eventsource.mapping import KINDS, READ, quoted
from sa_eventsource.read_models.sources import once_read
from sa_eventsource.read_models.sql.lists import EMPTY, pruned
from sa_eventsource.read_models.sql.source_expressions import as_json, extract, sql_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import FromClause, Subquery, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.read_models.fields import Field
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition
    from sa_eventsource.read_models.sources import Source


def is_current(definition: ReadModelDefinition, events: Table) -> ColumnElement[bool]:
    """Check whether a stored event can be read as it lies there: by name and version, of a class that declared fields take."""
    declared = definition.declared_classes().items()
    classes = sorted(
        (each for name, each in declared if name not in definition.read_in_python), key=lambda each: each.__event_version__
    )
    return or_(
        false(),
        *(
            and_(
                events.c.event_type.in_([quoted(each.__event_type__) for each in same]),
                events.c.event_version == literal_column(str(version), SmallInteger),
            )
            for version, same in groupby(classes, key=lambda each: each.__event_version__)
        ),
    )


def is_outdated(definition: ReadModelDefinition, events: Table) -> ColumnElement[bool]:
    """Check whether a stored event is one that declared fields take and only Python can read.

    It has a former name, another version, or a class with a reading of its own; or it may be read as several events.
    """
    classes = definition.declared_classes().values()
    if not classes:
        return false()
    versions = {each.__event_version__ for each in classes}
    if (
        len(versions) == 1
        and len(definition.stored_types) == len(classes)
        and not definition.read_in_python
        and not definition.split_sources
    ):  # nothing else to tell it from: asked of every event
        return events.c.event_version != literal_column(str(versions.pop()), SmallInteger)
    names = [quoted(name) for event_class in classes for name in stored_types(event_class)]
    split = [
        and_(events.c.event_type == quoted(name), events.c.event_version <= literal_column(str(version), SmallInteger))
        for name, version in definition.split_sources
    ]
    return or_(*split, and_(events.c.event_type.in_(names), not_(is_current(definition, events))))


def appended_event(definition: ReadModelDefinition) -> Subquery:
    """Select the one event that was just appended, whose id is parameter ``event_id``, if it is of the model.

    It is looked up by its id before anything else is asked. A planner that knows nothing of a new table, or of a new type of event,
    would look through the whole table, or through all events of a type, and keep the plan while they grow.
    """
    events = definition.tables.events
    wanted = cast(bindparam("event_id", type_=Text), Uuid)
    return _of_model(definition, _by_id(events, wanted).subquery("appended"))


def appended_events(definition: ReadModelDefinition) -> Subquery:
    """Select the model's events among several that were just appended; their ids are parameter ``event_ids``, an array as text.

    As for :func:`appended_event`, each is looked up by its id.
    """
    # Behind a SELECT, the number of ids is not known when the statement is planned: one plan then serves all flushes, where
    # planning again takes as long as the rest.
    ids = select(cast(bindparam("event_ids", type_=Text), ARRAY(Uuid))).scalar_subquery()
    wanted = func.unnest(ids).table_valued(column("id", Uuid())).render_derived(name="wanted")
    one = _by_id(definition.tables.events, wanted.c.id).lateral("found")
    return _of_model(definition, select(one).select_from(wanted.join(one, true())).subquery("appended"))


def _by_id(events: Table, wanted: Any) -> Any:
    return select(*(events.c[name] for name in READ)).where(events.c.event_id == wanted).limit(literal_column("1", Integer))


def _of_model(definition: ReadModelDefinition, found: Subquery) -> Subquery:
    names = (*definition.events, *definition.removed_by)
    wanted = found.c.event_type.in_([quoted(name) for name in names])
    place = [found.c.position.label(_PLACE)] if definition.split_sources else []
    return select(found, *place).where(wanted, *definition.of_aggregates(found)).subquery("event")


def stored_events(
    definition: ReadModelDefinition, where: Sequence[ColumnElement[bool]], *, with_upcasted: bool, is_selective: bool
) -> Subquery:
    """Select the model's events that are stored in their present shape, and, as parameter ``upcasted``, others turned into it.

    Args:
        definition: The read model.
        where: Which events.
        with_upcasted: Whether there are others.
        is_selective: Whether some events are left out because they cannot be taken. PostgreSQL then has to evaluate *where* before
            the model's expressions, which it would otherwise try on any row that it meets.
    """
    events = definition.tables.events
    has_parts = bool(definition.split_sources)
    place = [cast(events.c.position, Numeric).label(_PLACE)] if has_parts else []
    stored = select(*(events.c[name] for name in READ), *place).where(
        is_current(definition, events), *definition.of_aggregates(events), *where
    )
    if is_selective:
        stored = select(stored.offset(literal_column("0")).subquery("selected"))
    if not with_upcasted:
        return stored.subquery("event")
    rows = (
        func.json_to_recordset(cast(bindparam("upcasted", type_=Text), JSON))
        .table_valued(*(column(name, KINDS[name].recordset) for name in READ), *([column(_PLACE, Numeric())] if has_parts else []))
        .render_derived(name="upcasted", with_types=True)
    )
    return union_all(stored, select(*(rows.c[name] for name in READ), *([rows.c[_PLACE]] if has_parts else []))).subquery("event")


_PLACE = "place"
"""Column of a place among all events: the position, and behind the point which part of a stored event it is."""


def _place(rows: Subquery) -> Any:
    """The column by which events come one after the other."""
    return rows.c.get(_PLACE, rows.c.position)


def with_keys(definition: ReadModelDefinition, events: Subquery) -> Subquery:
    """Add the key that each event has; events without one are left out."""
    keys = [value_by_type(definition, events, part.sources).label(_key_name(index)) for index, part in enumerate(definition.key)]
    keyed = select(events, *keys).subquery("keyed")
    return select(keyed).where(*(keyed.c[_key_name(index)].is_not(None) for index in range(len(keys)))).subquery("keyed_event")


def removing(definition: ReadModelDefinition, keyed: Subquery) -> ColumnElement[bool]:
    """Check whether an event removes its row."""
    return keyed.c.event_type.in_([quoted(name) for name in definition.removed_by])


def key_columns(definition: ReadModelDefinition, rows: Subquery) -> list[ColumnElement[Any]]:
    """The columns of *rows* that are the key."""
    return [rows.c[_key_name(index)] for index in range(len(definition.key))]


def grouped(definition: ReadModelDefinition, keyed: Subquery) -> Subquery:
    """Reduce the events of each key to one row: a column a field, one for each position that says which event has set it."""
    if definition.removed_by:
        removed_at = func.max(_place(keyed)).filter(removing(definition, keyed)).over(partition_by=key_columns(definition, keyed))
        marked = select(keyed, removed_at.label("removed_at")).subquery("marked")
        keyed = select(marked).where(_place(marked) > func.coalesce(marked.c.removed_at, literal_column("0"))).subquery("kept")
    columns: list[Any] = [
        *key_columns(definition, keyed),
        cast(func.count(), Integer).label("version"),
        func.min(keyed.c.occurred_at).label("created_at"),
        func.max(keyed.c.occurred_at).label("updated_at"),
    ]
    columns += [_reduced(definition, each, keyed).label(field_name(each.name)) for each in definition.fields]
    for name in dict.fromkeys(definition.position_group(each) for each in definition.positioned):
        each = next(one for one in definition.fields if one.name == name)
        extreme = func.max if each.family == "last" else func.min
        columns.append(_only(definition, each, keyed, extreme(keyed.c.position)).label(position_name(name)))
    return select(*columns).group_by(*key_columns(definition, keyed)).subquery("batch")


def field_name(name: str) -> str:
    """Column of a field in the grouped rows, which also have columns of their own names."""
    return f"field_{name}"


def position_name(name: str) -> str:
    """Column of the position that has set a group of fields."""
    return f"position_{name}"


def _key_name(index: int) -> str:
    return f"key_{index}"


def _reduced(definition: ReadModelDefinition, each: Field, keyed: Subquery) -> Any:
    value = value_by_type(definition, keyed, {name: one.source for name, one in each.contributions.items()})
    places = definition.decimal_places.get(each.name)
    if places is not None:
        value = func.round(value, literal_column(str(places), Integer), type_=Numeric())
    position = _place(keyed)
    match each.family:
        case "last" | "first":
            order = position.desc() if each.family == "last" else position
            values = func.array_agg(
                aggregate_order_by(value, order), type_=ARRAY(sql_type(each.type), dimensions=1, zero_indexes=False)
            )
            return _only(definition, each, keyed, values)[literal_column("1", Integer)]
        case "sum":
            taken = [name for name, one in each.contributions.items() if one.sign < 0]
            if taken:
                value = case((keyed.c.event_type.in_([quoted(name) for name in taken]), -value), else_=value)
            return func.coalesce(_only(definition, each, keyed, func.sum(value)), literal_column("0"))
        case "min" | "max":
            comparable = value.collate("C") if each.type.kind in ("text", "uuid") else value
            return _only(definition, each, keyed, func.min(comparable) if each.family == "min" else func.max(comparable))
        case "list":
            item = each.type.item
            assert item is not None  # noqa: S101 - checked when the field was understood
            taken = [name for name, one in each.contributions.items() if one.sign < 0]
            minus, plus = literal_column("-1", Integer), literal_column("1", Integer)
            sign = case((keyed.c.event_type.in_([quoted(name) for name in taken]), minus), else_=plus) if taken else plus
            entry = func.jsonb_build_array(position, as_json(value, item), sign)
            entries = func.jsonb_agg(aggregate_order_by(entry, position)).filter(
                _is_one_of(keyed, each.contributions), value.is_not(None)
            )
            return func.coalesce(entries, EMPTY)


def value_by_type(definition: ReadModelDefinition, events: FromClause, sources: Mapping[str, Source]) -> ColumnElement[Any]:
    """The value by the event's type; plain where all types have the same source."""
    sources = {name: once_read(source) if name in definition.read_in_python else source for name, source in sources.items()}
    if len(set(sources.values())) == 1:
        return extract(next(iter(sources.values())), events)
    return case(*((events.c.event_type == quoted(name), extract(source, events)) for name, source in sources.items()))


def _only(definition: ReadModelDefinition, each: Field, keyed: Subquery, aggregate: Any) -> Any:
    """Let only the events that set a field into its aggregate."""
    if each.contributions.keys() == definition.events.keys():
        return aggregate
    return aggregate.filter(_is_one_of(keyed, each.contributions))


def _is_one_of(events: Subquery, names: Iterable[str]) -> ColumnElement[bool]:
    return events.c.event_type.in_([quoted(name) for name in names])


__all__ = [
    "appended_event",
    "appended_events",
    "field_name",
    "grouped",
    "is_current",
    "is_outdated",
    "key_columns",
    "position_name",
    "pruned",
    "removing",
    "stored_events",
    "value_by_type",
    "with_keys",
]
