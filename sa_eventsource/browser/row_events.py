"""The events that made a row of a read model, and the row as it was behind any of them.

Which row an event belongs to, the model's key says, as it does when the model takes the event. Where the key is the aggregate's id,
an index finds the events. Otherwise the log is walked, as for a filter on payloads. The database sorts out what it can, and Python
what only the events' classes can read.
"""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, literal_column
from sqlalchemy.exc import DBAPIError

from sa_eventsource.application_errors import text_of
from sa_eventsource.browser.log_search import Conditions, Found, LogSearch
from sa_eventsource.browser.row_columns import column_name, plain_value
from sa_eventsource.checkpoints import of_consumer, read_checkpoint
from sa_eventsource.consumers import followers_of, is_parked
from sa_eventsource.exceptions import EventSourceError
from sa_eventsource.projections import has_parked
from sa_eventsource.read_models import KEPT, Row, step
from sa_eventsource.read_models.sql import of_row, of_streams_of_row
from sa_eventsource.store import CANCELED, Reading, code_of, database_of, read_events, recorded_in_parts, select_events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from sa_eventsource.browser.listed_events import Listed
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.read_models import ReadModelDefinition

MOST_FOLDED = 20_000
"""How many events a row is folded from at most: more take longer than somebody waits for a page."""

_SECONDS = 0.5
_AT_A_TIME = 1_000


@dataclass(frozen=True, slots=True)
class Past:
    """A row as it was behind a position.

    Attributes:
        values: All that it had, by the names of the columns; None where there was no row.
        changed: The fields that its last event until then changed.
        last: The position of that event; None where there was none.
        before: The position of the event before that; None where there was none.
        events: How many events there were.
    """

    values: Mapping[str, Any] | None
    changed: frozenset[str] = frozenset()
    last: int | None = None
    before: int | None = None
    events: int = 0


class NoPastError(Exception):
    """A row cannot be shown as it was; the message says why."""


class RowEvents:
    """The events of a row.

    Attributes:
        has_index: Whether an index finds them.
    """

    def __init__(self, connection: Connection, definition: ReadModelDefinition, key: tuple[Any, ...]) -> None:
        """Take the row.

        Args:
            connection: Where to read.
            definition: The model, which has declared fields or ``@evolves`` methods.
            key: The row's key.
        """
        self._connection, self._definition, self._key = connection, definition, key
        of_streams = of_streams_of_row(connection, definition, key)
        self.has_index = bool(of_streams)
        self._works_out = database_of(connection.dialect).works_out_fields
        indexed = (of_consumer(definition), *of_streams)
        self._conditions = Conditions(indexed, (of_row(definition, key),) if self._works_out else ())

    def before(self, position: int | None) -> Found:
        """Find the newest events before a position, or of all."""
        return self._found(position, newer=False)

    def next_after(self, position: int) -> int | None:
        """Find the position of the first event behind one; None where there is none, or an index does not find it."""
        found = self._found(position, newer=True, size=1) if self.has_index else Found([], has_more=False)
        return found.events[-1].row.position if found.events else None

    def _found(self, position: int | None, *, newer: bool, size: int = 50) -> Found:
        search = LogSearch(self._connection, self._definition.tables.events, self._conditions, size)
        events: list[Listed] = []
        ends = time.monotonic() + _SECONDS
        while True:
            found = search.after(position or 0) if newer else search.before(position)
            own = self._own(found.events)
            events = [*own, *events] if newer else [*events, *own]
            candidates = found.events
            searched_to = found.searched_to
            if searched_to is None and candidates:
                searched_to = candidates[0 if newer else -1].row.position
            if len(events) >= size or not found.has_more or searched_to is None:
                break
            if time.monotonic() > ends:
                return Found(events, has_more=True, searched_to=searched_to)
            position = searched_to
        if len(events) > size:
            return Found(events[-size:] if newer else events[:size], has_more=True)
        return Found(events, found.has_more)

    def _own(self, candidates: Sequence[Listed]) -> list[Listed]:
        """Leave out events of other rows, which only their classes could tell from those of this one."""
        unsure = [each.row.event_id for each in candidates if not self._works_out or not self._is_current(each.row)]
        if not unsure:
            return list(candidates)
        events = self._definition.tables.events
        read = read_events(self._connection, events, [events.c.event_id.in_(unsure)], reading=Reading.MASKED)
        own = {each.stored_id for each in read if self._definition.changes_row(each) and self._definition.key_of(each) == self._key}
        return [each for each in candidates if each.row.event_id not in unsure or each.row.event_id in own]

    def _is_current(self, row: Any) -> bool:
        definition = self._definition
        event_class = definition.declared_classes().get(row.event_type)
        return (
            event_class is not None
            and row.event_version == event_class.__event_version__
            and row.event_type not in definition.read_in_python
            and not definition.split_sources
        )

    def past(self, position: int) -> Past:
        """Fold the events up to a position, which is included.

        Raises:
            NoPastError: It cannot be; the message says why.
        """
        reason = reason_for_no_past(self._connection, self._definition)
        if reason is not None:
            raise NoPastError(reason)
        try:
            with self._connection.begin_nested():
                return self._fold(position)
        except EventSourceError as error:
            raise NoPastError(f"The events cannot be folded: {text_of(error)}") from error
        except DBAPIError as error:
            if code_of(error) != CANCELED:
                raise
            raise NoPastError("No index finds its events, which are spread over the log, and finding all took too long.") from error

    def _fold(self, position: int) -> Past:
        rows: dict[tuple[Any, ...], Row] = {}
        positions: list[int] = []
        last: RecordedEvent[Any] | None = None
        for each in self._events(position):
            if len(positions) == MOST_FOLDED:
                raise NoPastError(f"It is made of more than {MOST_FOLDED:,} events, too many to fold while somebody waits.")
            positions.append(each.position)
            self._step(rows, last)
            last = each
        before = self._values(rows)
        self._step(rows, last)
        after = self._values(rows)
        changed = frozenset(name for name, value in (after or {}).items() if before is None or before[name] != value)
        first, second = [*reversed(positions[-2:]), None, None][:2]
        return Past(after, changed, first, second, len(positions))

    def _events(self, position: int) -> Iterator[RecordedEvent[Any]]:
        """Read the events up to a position, in the order of positions; none that is parked."""
        definition, events = self._definition, self._definition.tables.events
        statement = select_events(events).where(*self._conditions.all, events.c.position <= position)
        if has_parked(self._connection, definition):
            statement = statement.where(~is_parked(definition.tables, definition.name))
        # A cursor is planned for its first rows: it would walk the index on positions through the log, for those of a few streams.
        statement = statement.order_by(events.c.position + literal_column("0", BigInteger))
        reading = Reading.MASKED if definition.personal_data is Reading.MASKED else Reading.CLEAR
        with self._connection.execute(statement, execution_options={"yield_per": _AT_A_TIME}) as result:
            for each in recorded_in_parts(self._connection, events, result, _AT_A_TIME, reading):
                if definition.changes_row(each) and definition.key_of(each) == self._key:
                    yield each

    def _step(self, rows: dict[tuple[Any, ...], Row], event: RecordedEvent[Any] | None) -> None:
        if event is None:
            return
        try:
            step(self._definition, rows, event)
        except EventSourceError:
            raise
        except Exception as error:  # an @evolves method of the application may raise anything
            raise self._definition.refused([event], error) from error

    def _values(self, rows: Mapping[tuple[Any, ...], Row]) -> dict[str, Any] | None:
        """Give what the row has, by the names of its columns; an ``@evolves`` method may change documents in place, so copies."""
        row = rows.get(self._key)
        if row is None:
            return None
        values = deepcopy(row.values) | {name: getattr(row, name) for name in KEPT}
        parts = dict(zip((part.name for part in self._definition.key), self._key, strict=True))
        return {column_name(self._definition, name): plain_value(value) for name, value in (parts | values).items()}


def reason_for_no_past(connection: Connection, definition: ReadModelDefinition) -> str | None:
    """Say why rows of a model cannot be shown as they were; None if they can."""
    if definition.handlers:
        return (
            "Rows of this model are written by @handles methods, which may write anything. What a row was, a fold of events "
            "does not say."
        )
    checkpoints = [read_checkpoint(connection, each) for each in followers_of(definition, connection.dialect)]
    if any(each.declaration not in (None, definition.fingerprint) for each in checkpoints):
        return "Its rows were made under another declaration, and the present one does not say how they were. Rebuild the model."
    return None
