"""Are a read model's rows what its declaration makes of the log?"""

from __future__ import annotations

from contextlib import ExitStack
from heapq import merge
from itertools import count, takewhile
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.exc import DataError

from sa_eventsource.checkpoints import at_end, of_consumer, of_taken, read_checkpoint
from sa_eventsource.consumers import followers_of
from sa_eventsource.counting import counted
from sa_eventsource.exceptions import EventSourceError
from sa_eventsource.privacy import SearchHash, hashing_by
from sa_eventsource.projections import has_parked
from sa_eventsource.read_models import EnvelopeField, Row, step
from sa_eventsource.store import Reading, is_masked, message_of, reader_without_right, recorded_in_parts, select_events
from sa_eventsource.verification.findings import Finding, shown
from sa_eventsource.verification.one_state import BY_THE_WAY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from sqlalchemy import Connection, Result
    from sqlalchemy import Row as StoredEvent

    from sa_eventsource.checkpoints import Checkpoint
    from sa_eventsource.consumers import Follower
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.read_models import ReadModelDefinition
    from sa_eventsource.verification.findings import Progress
    from sa_eventsource.verification.sample import Sample

_Key = tuple[Any, ...]


def reason_not_to_compare(connection: Connection, definition: ReadModelDefinition) -> str | None:
    """Say why a model's rows cannot be compared with a fold; None if they can."""
    if definition.handlers:
        return "it has @handles methods, which a fold leaves out"
    if is_masked(connection):
        if definition.takes_personal_data == "clear":
            return "its rows have personal data in clear, and this connection sees placeholders"
        unreadable = reader_without_right(connection, definition.table)
        if unreadable is not None:
            return f"{unreadable} may not read {definition.table.name}"
    checkpoints = [read_checkpoint(connection, each) for each in followers_of(definition, connection.dialect)]
    if any(each.declaration not in (None, definition.fingerprint) for each in checkpoints):
        return "its rows were made under another declaration"
    if not all(each.is_readable for each in checkpoints):
        return "its checkpoint cannot be read"
    return None


class RowCheck:
    """Compares the rows of a read model with the fold of the events that it has taken.

    Attributes:
        compared: How many rows were compared: those in the table, and those that should be.
    """

    def __init__(self, connection: Connection, definition: ReadModelDefinition) -> None:
        """Choose the model, and the transaction, which must see one state of the database."""
        self._connection = connection
        self._definition = definition
        kinds = {name: getattr(definition.model, name).type for name in definition.row_names}
        self._hashed: dict[str, SearchHash] = {name: kind for name, kind in kinds.items() if isinstance(kind, SearchHash)}
        self._other_hashes: dict[_Key, dict[str, tuple[Any, Any]]] = {}
        self.compared = 0

    def findings(self, sample: Sample, progress: Progress) -> Generator[Finding, None, None]:
        """Find rows that differ, are missing, or are not in the log."""
        definition = self._definition
        stored = [getattr(definition.model, name) for name in definition.row_names]
        total = self._connection.scalar(select(func.count()).select_from(select(*stored).subquery())) or 0
        is_chosen = sample.of(total)
        try:
            folded = self._fold(is_chosen, progress)
            yield from self._differences(is_chosen, folded)
        except (EventSourceError, DataError) as error:  # an event, or a row, that cannot be read
            reason = message_of(error) if isinstance(error, DataError) else error
            yield Finding("read models", definition.name, f"its rows cannot be compared: {reason}")
            return
        if self._other_hashes:
            yield from self._compare_hashes(progress)

    def _differences(self, is_chosen: Callable[[str], bool], folded: dict[_Key, Row]) -> Generator[Finding, None, None]:
        definition = self._definition
        stored = [getattr(definition.model, name) for name in definition.row_names]
        with self._connection.execute(select(*stored), execution_options={"yield_per": BY_THE_WAY}) as rows:
            for values in rows:
                key = tuple(part.type.normalise(value) for part, value in zip(definition.key, values, strict=False))
                if is_chosen(definition.row_id(key)):
                    self.compared += 1
                    yield from self._compare(key, values, folded.pop(key, None))
        self.compared += len(folded)
        for key in folded:
            yield self._finding(key, "is missing from the table, and the log makes it")

    def _compare_hashes(self, progress: Progress) -> Generator[Finding, None, None]:
        """Compare hashes that the newest keys do not make with those that the others make."""
        definition, remaining = self._definition, self._other_hashes
        of_earlier: set[_Key] = set()
        numbers = range(1, max(len(kind.keys.keys()) for kind in self._hashed.values()))
        for number in takewhile(lambda _: any(remaining.values()), numbers):
            chosen = {definition.row_id(key) for key, names in remaining.items() if names}
            with hashing_by(number):
                folded = self._fold(chosen.__contains__, progress)
            for key, names in remaining.items():
                same = [name for name, (is_now, _) in names.items() if key in folded and folded[key].values[name] == is_now]
                for name in same:
                    del names[name]
                    of_earlier.add(key)
        for key, names in remaining.items():
            for name, (is_now, is_made) in names.items():
                yield self._difference(key, name, is_now, is_made)
        if of_earlier:
            number_of_rows = counted(len(of_earlier), "row that was compared has", "rows that were compared have")
            message = f"{number_of_rows} hashes of an earlier search key. Rebuild it before that key is removed"
            yield Finding("read models", definition.name, message, is_warning=True)

    def _compare(self, key: _Key, values: Sequence[Any], row: Row | None) -> Generator[Finding, None, None]:
        if row is None:
            yield self._finding(key, "is in the table, and the log makes no such row")
            return
        made = (*key, *(row.values[each.name] for each in self._definition.fields), row.version, row.created_at, row.updated_at)
        for name, is_now, is_made in zip(self._definition.row_names, values, made, strict=True):
            if is_now == is_made and type(is_now) is type(is_made):
                continue
            if name in self._hashed:
                self._other_hashes.setdefault(key, {})[name] = is_now, is_made
            else:
                yield self._difference(key, name, is_now, is_made)

    def _difference(self, key: _Key, name: str, is_now: Any, is_made: Any) -> Finding:
        return self._finding(key, f"{name} is {shown(is_now)}, and the log makes it {shown(is_made)}")

    def _finding(self, key: _Key, message: str) -> Finding:
        name = self._definition.name
        return Finding("read models", f"{name} {shown(self._definition.row_id(key))}", f"{message}. Rebuild it: {name}.")

    def _fold(self, is_chosen: Callable[[str], bool], progress: Progress) -> dict[_Key, Row]:
        """Fold the events of the chosen rows that the model has taken, in the order of their positions."""
        definition = self._definition
        events = definition.tables.events
        total = self._connection.scalar(select(func.count()).select_from(events).where(of_consumer(definition)))
        rows: dict[_Key, Row] = {}
        with ExitStack() as results:
            taken = [results.enter_context(self._taken(*each)) for each in self._checkpoints()]
            numbers = count(1)

            def chosen() -> Iterator[StoredEvent[Any]]:
                for each in merge(*taken, key=attrgetter("position")):
                    number = next(numbers)
                    if self._may_be_chosen(each, is_chosen):
                        yield each
                    if number % BY_THE_WAY == 0:
                        progress(definition.name, number, total)

            reading = Reading.MASKED if definition.personal_data is Reading.MASKED else Reading.CLEAR
            for event in recorded_in_parts(self._connection, events, chosen(), BY_THE_WAY, reading):
                self._add(event, rows, is_chosen)
        progress(definition.name, total or 0, total)
        return rows

    def _add(self, event: RecordedEvent[Any], rows: dict[_Key, Row], is_chosen: Callable[[str], bool]) -> None:
        definition = self._definition
        if not definition.changes_row(event):
            return  # of a stored event that is read as several, some may be others
        try:
            key = definition.key_of(event)
            if key is not None and is_chosen(definition.row_id(key)):
                step(definition, rows, event)
        except EventSourceError:
            raise
        except Exception as error:  # an @evolves method of the application may raise anything
            raise definition.refused([event], error) from error

    def _may_be_chosen(self, event: StoredEvent[Any], is_chosen: Callable[[str], bool]) -> bool:
        """Leave out, without reading its payload, an event of another stream where each stream has a row."""
        first, *others = self._definition.key
        if others or any(source != EnvelopeField("aggregate_id", first.type) for source in first.sources.values()):
            return True
        key = first.type.normalise(first.type.python(event.aggregate_id))
        return is_chosen(self._definition.row_id((key,)))

    def _checkpoints(self) -> list[tuple[Follower, Checkpoint]]:
        """Find how far each follower has come; a strong model has come to the end."""
        definition = self._definition
        followers = followers_of(definition, self._connection.dialect)
        if not definition.is_strong:
            return [(each, read_checkpoint(self._connection, each)) for each in followers]
        end = at_end(self._connection, definition.tables)
        return [(each, end) for each in followers]

    def _taken(self, follower: Follower, checkpoint: Checkpoint) -> Result[Any]:
        streams = follower.streams(without_parked=has_parked(self._connection, self._definition))
        conditions, parameters = of_taken(follower, checkpoint, streams)
        statement = select_events(follower.tables.events).where(*conditions).order_by(follower.tables.events.c.position)
        return self._connection.execute(statement, parameters, execution_options={"yield_per": BY_THE_WAY})
