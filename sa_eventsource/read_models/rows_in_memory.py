"""Rows that are rebuilt, kept in memory as long as there is room: each is written once, and not with every batch of events.

Whoever makes them has deleted the stored ones, and keeps all others from writing any until the transaction ends. So none has to be
read before some have been written, for want of room.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from sa_eventsource.read_models.row_store import fold_events, load_rows, not_inserted, with_keys, write_rows
from sa_eventsource.store import Meaning, is_refusal, meaning_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.read_models.fold import Row
    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition
    from sa_eventsource.read_models.row_store import Key

ROOM = 50_000
"""Rows kept in memory; with more, all are written and let go, and read again when an event asks for them."""

WRITTEN_AT_ONCE = 1_000
"""Rows in one statement, which the database reads as one document."""


class RowsInMemory:
    """The rows of a model that are being rebuilt."""

    def __init__(self, connection: Connection, definition: ReadModelDefinition) -> None:
        """Begin without rows.

        Args:
            connection: In a transaction in which the stored rows have been deleted, and nobody else can write any.
            definition: The model, whose rows Python works out.
        """
        self._connection = connection
        self._definition = definition
        self._rows: dict[Key, Row] = {}
        self._loaded: set[Key] = set()
        self._are_some_stored = False

    def take(self, events: Iterable[RecordedEvent[Any]]) -> None:
        """Let events, given in the order of their positions, change the rows.

        Raises:
            ReadModelError: A value of an event does not fit the row, an ``@evolves`` method raised, or the database refused a row
                for which there was no more room.
        """
        keyed = with_keys(self._definition, events)
        if self._are_some_stored:
            self._load(dict.fromkeys(key for key, _ in keyed if key not in self._rows and key not in self._loaded))
        fold_events(self._definition, self._rows, keyed)
        if max(len(self._rows), len(self._loaded)) > ROOM:
            self.store()

    def store(self) -> None:
        """Write all rows, and let go of them.

        Raises:
            ReadModelError: The database refused a row, which the error names.
        """
        removed = [key for key in self._loaded if key not in self._rows]
        keys = iter([*removed, *self._rows])
        while some := list(islice(keys, WRITTEN_AT_ONCE)):
            self._write(some)
        self._rows.clear()
        self._loaded.clear()
        self._are_some_stored = True

    def _load(self, keys: Iterable[Key]) -> None:
        rows = load_rows(self._connection, self._definition, list(keys))
        self._loaded.update(rows)
        self._rows.update(rows)

    def _write(self, keys: Sequence[Key]) -> None:
        """Write some rows; where the database refuses one of them, halve them until it is found."""
        before = [key for key in keys if key in self._loaded]
        rows = {key: self._rows[key] for key in keys if key in self._rows}
        try:
            with self._connection.begin_nested():
                left_out = write_rows(self._connection, self._definition, before, rows)
        except DBAPIError as error:
            if not is_refusal(error):
                raise
            if len(keys) == 1 or meaning_of(error) is not Meaning.BAD_VALUES:
                raise self._definition.refused([], error, keys[:1] if len(keys) == 1 else ()) from error
            middle = len(keys) // 2
            self._write(keys[:middle])
            self._write(keys[middle:])
        else:
            if left_out:
                raise not_inserted(self._definition, [], sorted(left_out, key=repr))
