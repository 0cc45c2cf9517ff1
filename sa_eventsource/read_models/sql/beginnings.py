"""The beginning of a strong model's checkpoint: written with the first events that it takes, if no earlier events were there.

A model that is there from the first event on has all that its rows follow from; one that came to a log with events lacks them until
it is rebuilt. Nobody could know which it is later. So the flush that writes the first rows also writes under which declaration it
did so, in the same transaction, and only where no earlier event is there. From then on it costs a look at a primary key.

Of several transactions that write a model's first events at the same time, one writes the beginning, and no other waits for it.
Where that one is rolled back and another committed, no beginning is written: the model then says that it was never built, and a
rebuild settles it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Integer,
    Text,
    Uuid,
    all_,
    and_,
    any_,
    bindparam,
    case,
    cast,
    exists,
    false,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import OID, REGCLASS

from sa_eventsource.mapping import TENANT_ID, conflict_key, is_shared_by_tenants, quoted

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition

Own: TypeAlias = Literal["id", "ids", "position"]
"""Which events the flush has appended itself: that of parameter ``event_id``; those of ``event_ids``, an array as text; those from
position ``first`` on, on SQLite."""


def beginning(definition: ReadModelDefinition, own: Own, insert: Any) -> Any:
    """Build the INSERT of a strong model's checkpoint; it does nothing where there is one, or where the log has earlier events.

    Args:
        definition: The read model.
        own: Which events the flush has appended itself.
        insert: An INSERT into the table of checkpoints, as the database begins it.
    """
    events, positions = definition.tables.events, definition.tables.projection_positions
    name, types = quoted(definition.name), [quoted(each) for each in definition.stored_types]
    has_begun = exists().where(positions.c.projection_name == name, positions.c.declaration.is_not(None))
    taken = (events.c.event_type.in_(types), *definition.of_aggregates(events))
    has_earlier = exists().where(*taken, _is_of_others(definition, own))
    begins = and_(~has_begun, ~has_earlier)
    if own != "position":
        # In a CASE, so that only who would write it asks for the lock.
        begins = case((begins, _is_first_to_try(definition, own)), else_=false())
    values = select(name, quoted(definition.fingerprint)).where(begins)
    statement: Any = insert.from_select(["projection_name", "declaration"], values, include_defaults=False)
    return statement.on_conflict_do_update(
        index_elements=conflict_key(positions, positions.c.projection_name),
        set_={"declaration": statement.excluded.declaration},
        where=positions.c.declaration.is_(None),
    )


def _is_first_to_try(definition: ReadModelDefinition, own: Own) -> ColumnElement[bool]:
    """Take a lock until the transaction ends; false, without waiting, where another transaction has it.

    The number of the table in the catalogue distinguishes the logs of tenants. Of a partitioned log it is that of the whole table:
    two transactions may write to different partitions.
    """
    events = definition.tables.events
    written_to = literal_column("tableoid", OID)
    whole = func.coalesce(cast(func.pg_partition_root(cast(written_to, REGCLASS)), OID), written_to)
    name = cast(whole, Text) + events.c[TENANT_ID] if is_shared_by_tenants(events) else cast(whole, Text)
    log = select(name).select_from(events).where(_is_own(events, own)).limit(literal_column("1", Integer))
    key = log.correlate(None).scalar_subquery() + quoted(f"/beginning/{definition.name}")
    return func.pg_try_advisory_xact_lock(func.hashtextextended(key, literal_column("0", BigInteger)), type_=Boolean())


def _is_own(events: Table, own: Own) -> ColumnElement[bool]:
    if own == "id":
        return events.c.event_id == cast(bindparam("event_id", type_=Text), Uuid)
    return events.c.event_id == any_(cast(bindparam("event_ids", type_=Text), ARRAY(Uuid)))


def _is_of_others(definition: ReadModelDefinition, own: Own) -> Any:
    events = definition.tables.events
    match own:
        case "id":
            return events.c.event_id != cast(bindparam("event_id", type_=Text), Uuid)
        case "ids":
            return events.c.event_id != all_(cast(bindparam("event_ids", type_=Text), ARRAY(Uuid)))
    return events.c.position < bindparam("first", type_=BigInteger)
