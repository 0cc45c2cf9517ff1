"""Where personal data is sealed on its way into the log, and opened on the way out: by whoever has the keys, a room above.

Events are appended and read many at a time, and so are the keys. Events without personal fields pay nothing: it is known by their
class, and by the name that they are stored under, that there is nothing to do.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sa_eventsource.events import (
    SEALED_BEGINNING,
    Parts,
    RecordedEvent,
    decode,
    decode_metadata,
    is_personal,
    part_id,
    sealed_names,
)
from sa_eventsource.exceptions import MaskedConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from sqlalchemy import Connection, Row, Table

    from sa_eventsource.events import DomainEvent, PendingEvent
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store.append import StreamAppend


class Reading(enum.Enum):
    """How personal data is read."""

    CLEAR = "clear"
    """As it is, or as its placeholder where the subject is forgotten."""
    LOCKED = "locked"
    """Likewise, and nobody is forgotten before the transaction ends: for those who write it down in clear."""
    MASKED = "masked"
    """As its placeholder, for which no key is asked."""


class StoredPayloads(NamedTuple):
    """Payloads as they are stored, with the places that their sealed values are bound to. They are read a thousand at a time.

    Attributes:
        texts: The JSON texts.
        places: For each, :func:`place_of` its event.
        name: Gives the stored name and version of one, by its number: for errors.
    """

    texts: Sequence[str]
    places: Sequence[str]
    name: Callable[[int], tuple[str, int]]


def place_of(event_id: str, aggregate_type: str, aggregate_id: str) -> str:
    """Name an event, given its id as 32 hexadecimal digits. With the path of a value behind it, it names the value's place."""
    return f"{event_id}\0{aggregate_type}\0{aggregate_id}\0"


class StoredState(NamedTuple):
    """The state of a snapshot, with the place that it is bound to where it is sealed.

    Attributes:
        aggregate_type: The stream's type name.
        aggregate_id: Its id as stored.
        version: The snapshot's version.
        text: The JSON text.
    """

    aggregate_type: str
    aggregate_id: str
    version: int
    text: str


class Opened(NamedTuple):
    """Payloads in clear.

    Attributes:
        texts: Their JSON texts.
        keys: For each, the ids of the keys that opened something in it, as 32 hexadecimal digits; None where nothing was sealed.
    """

    texts: Sequence[str]
    keys: Sequence[frozenset[str] | None]


class OpenedState(NamedTuple):
    """A state in clear.

    Attributes:
        text: Its JSON text.
        keys: The ids of the keys that it was sealed with.
    """

    text: str
    keys: frozenset[str]


class Sealed(NamedTuple):
    """Payloads to store.

    Attributes:
        payloads: Their JSON texts.
        unlocked_keys: The ids of the keys that they were sealed with, where these are not locked yet. The INSERT is to lock
            them, and to insert nothing if one of them is gone, or no longer the newest of its subject.
    """

    payloads: Sequence[str]
    unlocked_keys: AbstractSet[str]


NO_PAYLOADS = StoredPayloads((), (), lambda _number: ("", 0))
"""None at all."""


class Sealing(Protocol):
    """Seals and opens personal data."""

    @abstractmethod
    def seal(
        self,
        connection: Connection,
        tables: EventSourceTables,
        events: Sequence[tuple[str, str, PendingEvent]],
        *,
        may_guess: bool,
    ) -> Sealed:
        """Seal the personal data of events that are about to be appended, each given with the type and id of its stream.

        Args:
            connection: Where the keys are.
            tables: The tables.
            events: The events.
            may_guess: Whether keys may be taken that were the subjects' lately, which the INSERT then is to make sure of.
        """

    @abstractmethod
    def seal_state(
        self, connection: Connection, tables: EventSourceTables, state: StoredState, keys: AbstractSet[str]
    ) -> str | None:
        """Seal a state with all keys whose values may be in it: who destroys one of them destroys it.

        Returns:
            The state to store; None where one of the keys is destroyed meanwhile.
        """

    @abstractmethod
    def open(
        self,
        connection: Connection,
        events: Table,
        stored: StoredPayloads,
        states: Sequence[StoredState],
        reading: Reading,
    ) -> tuple[Opened, list[OpenedState | None]]:
        """Open what is sealed in payloads, and states that are sealed.

        Returns:
            The payloads, and the states; None for one that cannot be opened any more.
        """


_sealing: list[Sealing] = []


def set_sealing(sealing: Sealing) -> None:
    """Say who has the keys."""
    _sealing[:] = [sealing]


def sealed_rows(
    connection: Connection,
    tables: EventSourceTables,
    streams: Sequence[StreamAppend],
    rows: Sequence[dict[str, Any]],
    *,
    may_guess: bool,
) -> AbstractSet[str]:
    """Put sealed payloads into rows that are about to be inserted, one for each event, in place of those in clear.

    Returns:
        The keys that the INSERT is to lock. As :class:`Sealed` says.
    """
    names = sealed_names()
    if not names:
        return _NO_KEYS
    events = [(each.aggregate_type, each.aggregate_id, event) for each in streams for event in each.events]
    which = [number for number, row in enumerate(rows) if row["event_type"] in names and is_personal(type(events[number][2].event))]
    if not which:
        return _NO_KEYS
    sealed = _sealing[0].seal(connection, tables, [events[number] for number in which], may_guess=may_guess)
    for number, payload in zip(which, sealed.payloads, strict=True):
        rows[number]["event_data"] = payload
    return sealed.unlocked_keys


_NO_KEYS: frozenset[str] = frozenset()


def sealed_state(connection: Connection, tables: EventSourceTables, state: StoredState, keys: AbstractSet[str]) -> str | None:
    """Seal the state of a snapshot. As :meth:`Sealing.seal_state`."""
    return _sealing[0].seal_state(connection, tables, state, keys)


def is_masked(connection: Connection) -> bool:
    """Check whether a connection is not to see personal data.

    Raises:
        TypeError: Its option has another value: a mistake there would show what is to be masked.
    """
    chosen = connection.get_execution_options().get(OPTION_OF_PERSONAL_DATA)
    if chosen not in (None, "clear", "masked"):
        raise TypeError(f'the execution option {OPTION_OF_PERSONAL_DATA}={chosen!r} is neither "masked" nor "clear"')
    return chosen == "masked"


OPTION_OF_PERSONAL_DATA = "personal_data"
"""Execution option of a connection or an engine."""


def clear_texts(connection: Connection, events: Table, stored: StoredPayloads, reading: Reading = Reading.CLEAR) -> Sequence[str]:
    """Open payloads of events that may have something sealed, by one more statement for all of them: give their texts."""
    return opened_with_states(connection, events, stored, (), reading)[0].texts if stored.texts else ()


def opened_with_states(
    connection: Connection,
    events: Table,
    stored: StoredPayloads,
    states: Sequence[StoredState],
    reading: Reading = Reading.CLEAR,
) -> tuple[Opened, list[OpenedState | None]]:
    """Open payloads, and sealed states. As :meth:`Sealing.open`, except for a connection that is not to see personal data.

    Raises:
        MaskedConnectionError: They are to be written down in clear, by a connection that is not to see them.
    """
    if is_masked(connection):
        if reading is Reading.LOCKED:
            raise MaskedConnectionError(connection.engine.url.render_as_string())
        reading = Reading.MASKED
    return _sealing[0].open(connection, events, stored, states, reading)


def is_sealed_state(text: str) -> bool:
    """Check whether the stored state of a snapshot is sealed."""
    return text.startswith(SEALED_BEGINNING)


def recorded_events(
    connection: Connection, events: Table, rows: Sequence[Row[Any]], reading: Reading = Reading.CLEAR
) -> list[RecordedEvent[Any]]:
    """Make events from rows of ``select_events``; of one that an upcaster makes several of, all of them, one after the other.

    Args:
        connection: The connection that they were read from.
        events: The log that they are from.
        rows: The rows.
        reading: How their personal data is read.

    Raises:
        EventDecodeError: A payload does not fit its class.
        SealedValueError: Something sealed cannot be opened.
        UnknownEventTypeError: No class declares an event's type.
    """
    found: list[RecordedEvent[Any]] = []
    for row, payload in zip(rows, clear_payloads(connection, events, rows, reading), strict=True):
        event = decode(row.event_type, row.event_version, payload, event_id=row.event_id)
        if isinstance(event, Parts):
            found += _parts(row, event)
        else:
            found.append(_recorded(row, event))
    return found


def _parts(row: Row[Any], parts: Parts) -> list[RecordedEvent[Any]]:
    whole, stored_id = [_recorded(row, each) for each in parts], row.event_id
    return [
        replace(each, event_id=part_id(stored_id, number), part=number, part_of=stored_id) if number else each
        for number, each in enumerate(whole)
    ]


def clear_payloads(
    connection: Connection, events: Table, rows: Sequence[Row[Any]], reading: Reading = Reading.CLEAR
) -> Sequence[str]:
    """Give the payloads of rows of ``select_events`` or ``select_raw_events`` in clear. Arguments as for :func:`recorded_events`.

    Raises:
        SealedValueError: Something sealed cannot be opened.
    """
    payloads: list[str] = [row.event_data for row in rows]
    names = sealed_names()
    which = [number for number, row in enumerate(rows) if row.event_type in names] if names else []
    sealed = stored_payloads([rows[number] for number in which])
    for number, text in zip(which, clear_texts(connection, events, sealed, reading), strict=True):
        payloads[number] = text
    return payloads


def recorded_in_parts(
    connection: Connection, events: Table, rows: Iterable[Row[Any]], size: int, reading: Reading = Reading.CLEAR
) -> Iterator[RecordedEvent[Any]]:
    """Make events from rows that come one after the other, so many at a time. Errors as for :func:`recorded_events`."""
    remaining = iter(rows)
    while some := list(islice(remaining, size)):
        yield from recorded_events(connection, events, some, reading)


def stored_payloads(rows: Sequence[Any]) -> StoredPayloads:
    """Get the payloads of rows of ``select_events`` or ``select_raw_events``."""
    return StoredPayloads(
        [row.event_data for row in rows],
        [place_of(row.event_id.hex, row.aggregate_type, row.aggregate_id) for row in rows],
        lambda number: (rows[number].event_type, rows[number].event_version),
    )


def _recorded(row: Row[Any], event: DomainEvent) -> RecordedEvent[Any]:
    return RecordedEvent(
        event=event,
        event_id=row.event_id,
        aggregate_type=row.aggregate_type,
        aggregate_id=row.aggregate_id,
        version=row.version,
        event_type=row.event_type,
        event_version=row.event_version,
        occurred_at=row.occurred_at,
        recorded_at=row.recorded_at,
        correlation_id=row.correlation_id,
        causation_id=row.causation_id,
        metadata=decode_metadata(row.event_metadata),
        position=row.position,
    )
