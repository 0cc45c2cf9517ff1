"""What happened to one aggregate, and what each event changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from sqlalchemy import func, select

from sa_eventsource.aggregates import AggregateDefinition, advance, past_view
from sa_eventsource.exceptions import AggregateNotFoundError
from sa_eventsource.store import clear_payloads, known_at, refuse_archived, select_raw_events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from sa_eventsource.arguments import TimeAxis


@dataclass(frozen=True, slots=True)
class Change:
    """What an event did to one state field. The values are JSON texts; None for a field that has no value."""

    before: str | None
    after: str | None


@dataclass(slots=True)
class History:
    """An aggregate's events, and what each of them changes.

    Attributes:
        definition: The aggregate's class.
        aggregate_id: Its id as stored.
        rows: Its events by version.
        payloads: Their payloads in clear.
        whole: Whether each version must be there; what had happened by some time may have holes.
        state: The state fields after the events that :meth:`steps` has come to, as JSON texts by name.
    """

    definition: AggregateDefinition
    aggregate_id: str
    rows: Sequence[Row[Any]]
    payloads: Sequence[str]
    whole: bool
    state: Mapping[str, str] = field(default_factory=dict)

    def steps(self) -> Iterator[tuple[Row[Any], Mapping[str, Change]]]:
        """Replay the events one after the other.

        Raises:
            EventSourceError: An event cannot be replayed; the error names it.
        """
        view: Any = past_view(self.definition.aggregate_class, self.aggregate_id, ())
        self.state = state_texts(self.definition, view)
        for row, payload in zip(self.rows, self.payloads, strict=True):
            stored = (row.version, row.event_type, row.event_version, payload, str(row.event_id))
            advance(view, self.aggregate_id, [stored], contiguous=self.whole)
            before, self.state = self.state, state_texts(self.definition, view)
            yield row, changes_between(before, self.state)

    @property
    def fields(self) -> list[str]:
        """The state fields in the order of their declaration, those of base classes first."""
        return state_fields(self.definition)


def state_fields(definition: AggregateDefinition) -> list[str]:
    """List the state fields of a class in the order of their declaration, those of base classes first."""
    declared = dict.fromkeys(name for base in reversed(definition.aggregate_class.__mro__) for name in vars(base))
    return [name for name in declared if name in definition.state.names]


def state_texts(definition: AggregateDefinition, view: Any) -> dict[str, str]:
    """Write the state fields of an aggregate that have a value as JSON texts, by name."""
    values = vars(view)
    return {name: _as_text(values[name]) for name in state_fields(definition) if name in values}


def changes_between(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Change]:
    """List what differs between two states, by the name of the field."""
    names = dict.fromkeys([*after, *before])
    return {name: Change(before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def read_history(  # noqa: PLR0913 - by keyword
    connection: Connection,
    definition: AggregateDefinition,
    aggregate_id: str,
    *,
    moment: datetime | None = None,
    axis: TimeAxis = "occurred",
    version: int | None = None,
) -> History:
    """Read an aggregate's events, up to a moment or a version, which is included. *axis* says which of their times *moment* is.

    Raises:
        AggregateNotFoundError: There are none, or not so many.
        StreamArchivedError: They are archived.
    """
    events = definition.tables.events
    refuse_archived(connection, events, definition.aggregate_type, aggregate_id)
    stream = (events.c.aggregate_type == definition.aggregate_type, events.c.aggregate_id == aggregate_id)
    statement = select_raw_events(events).where(*stream)
    if moment is not None:
        statement = statement.where(known_at(events, definition.aggregate_type, aggregate_id, moment, axis))
    if version is not None:
        statement = statement.where(events.c.version <= version)
    rows = connection.execute(statement.order_by(events.c.version)).all()
    if not rows or (version is not None and rows[-1].version != version):
        first = None if moment is None else connection.scalar(select(func.min(events.c[f"{axis}_at"])).where(*stream))
        raise AggregateNotFoundError(
            definition.aggregate_type,
            aggregate_id,
            moment=moment,
            axis=axis,
            version=version,
            last_version=rows[-1].version if rows else None,
            first_moment=first,
        )
    payloads = clear_payloads(connection, events, rows)
    return History(definition, aggregate_id, rows, payloads, whole=moment is None or axis == "recorded")


def _as_text(value: Any) -> str:
    if isinstance(value, set | frozenset):
        return f"[{','.join(sorted(map(_as_text, value)))}]"  # equal sets may come in different orders
    return to_json(value, fallback=repr, inf_nan_mode="strings", bytes_mode="hex").decode()
