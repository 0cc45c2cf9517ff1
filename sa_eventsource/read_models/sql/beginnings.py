"""The beginning of a strong model's checkpoint: written with the first events that it takes, if no others went before them.

A model that is there from the first event on has all that its rows follow from; one that came to a log with events lacks them until
it is rebuilt. Nobody could tell the two apart later. So the flush that writes the first rows also writes under which declaration it
did so, in the same transaction, and only where no earlier event is there. From then on it costs a look at a primary key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import ARRAY, BigInteger, Text, Uuid, all_, bindparam, cast, exists, select
from sqlalchemy.dialects import postgresql, sqlite

from sa_eventsource.mapping import quoted

if TYPE_CHECKING:
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

Own: TypeAlias = Literal["id", "ids", "position"]
"""Which events the flush has appended itself: that of parameter ``event_id``; those of ``event_ids``, an array as text; those from
position ``first`` on, on SQLite."""


def beginning(definition: ReadModelDefinition, own: Own) -> Any:
    """Build the INSERT of a strong model's checkpoint; it does nothing where there is one, or where the log has earlier events."""
    events, positions = definition.tables.events, definition.tables.projection_positions
    name, types = quoted(definition.name), [quoted(each) for each in definition.stored_types]
    has_begun = exists().where(positions.c.projection_name == name, positions.c.declaration.is_not(None))
    taken = (events.c.event_type.in_(types), *definition.of_aggregates(events))
    has_earlier = exists().where(*taken, _is_of_others(definition, own))
    insert = sqlite.insert if own == "position" else postgresql.insert
    values = select(name, quoted(definition.fingerprint)).where(~has_begun, ~has_earlier)
    statement: Any = insert(positions).from_select(["projection_name", "declaration"], values, include_defaults=False)
    return statement.on_conflict_do_update(
        index_elements=[positions.c.projection_name],
        set_={"declaration": statement.excluded.declaration},
        where=positions.c.declaration.is_(None),
    )


def _is_of_others(definition: ReadModelDefinition, own: Own) -> Any:
    events = definition.tables.events
    match own:
        case "id":
            return events.c.event_id != cast(bindparam("event_id", type_=Text), Uuid)
        case "ids":
            return events.c.event_id != all_(cast(bindparam("event_ids", type_=Text), ARRAY(Uuid)))
    return events.c.position < bindparam("first", type_=BigInteger)
