"""Sealing events that are about to be appended, and opening those that were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from sa_eventsource.events import personal_values, replaced, sealed_text, sealed_values
from sa_eventsource.exceptions import SealedValueError
from sa_eventsource.privacy.master_keys import ciphers
from sa_eventsource.privacy.subject_keys import keys_by_id, keys_for
from sa_eventsource.store import Opened, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from sqlalchemy import Connection, Table

    from sa_eventsource.events import PendingEvent, SealedValue
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.privacy.unwrapped_keys import UnwrappedKey
    from sa_eventsource.store import StoredPayload, StoredState


class PersonalDataSealing:
    """Seals each value with its subject's key, bound to its place: event, stream and path."""

    def seal(self, connection: Connection, tables: EventSourceTables, events: Sequence[tuple[str, str, PendingEvent]]) -> list[str]:
        """Seal the personal data of events. As :class:`~sa_eventsource.store.Sealing` says.

        Raises:
            DeclarationError: The base has no master keys.
            EventPayloadError: A value has no subject.
            MasterKeyError: A key cannot be wrapped or unwrapped.
            SubjectForgottenError: A subject is forgotten.
        """
        found = [personal_values(event.event, event.payload, stream_id, event.metadata) for _, stream_id, event in events]
        keys = keys_for(connection, tables, {value.subject for values in found for value in values}) if any(found) else {}
        payloads = []
        for (aggregate_type, aggregate_id, event), values in zip(events, found, strict=True):
            texts = []
            for value in values:
                key_id, key = keys[value.subject]
                place = _place(event.event_id.hex, aggregate_type, aggregate_id, *value.path)
                box = key.cipher.seal(event.payload[value.start : value.end], place)
                texts.append(sealed_text(key_id, box, value.placeholder))
            payloads.append(replaced(event.payload, values, texts))
        return payloads

    def seal_state(
        self, connection: Connection, tables: EventSourceTables, state: StoredState, keys: AbstractSet[str]
    ) -> str | None:
        """Seal the state of a snapshot. As :class:`~sa_eventsource.store.Sealing` says.

        Raises:
            MasterKeyError: A key cannot be unwrapped.
        """
        in_order = sorted(keys)
        found = keys_by_id(connection, tables.events, in_order, locked=False)
        cipher = _state_cipher([found.get(key_id) for key_id in in_order])
        return None if cipher is None else sealed_text("+".join(in_order), cipher.seal(state.text, _place_of_state(state)))

    def open(
        self,
        connection: Connection,
        events: Table,
        stored: Sequence[StoredPayload],
        states: Sequence[StoredState],
        reading: Reading,
    ) -> tuple[list[Opened], list[Opened | None]]:
        """Open what is sealed in payloads and states. As :class:`~sa_eventsource.store.Sealing` says.

        Raises:
            DeclarationError: The base has no master keys.
            MasterKeyError: A key cannot be unwrapped.
            SealedValueError: A key is not there, or a value is not the one that was sealed in its place.
        """
        found = [_sealed(each) for each in stored]
        of_states = [_sealed_state(each.text) for each in states]
        key_ids = {value.key for values in found for value in values} | {each for ids, _ in of_states for each in ids}
        keys: Mapping[str, UnwrappedKey | None] = {}
        if reading is Reading.MASKED:
            keys = dict.fromkeys(key_ids)
        elif key_ids:
            keys = keys_by_id(connection, events, key_ids, locked=reading is Reading.LOCKED)
        return (
            [_opened(each, values, keys) if values else Opened(each.text) for each, values in zip(stored, found, strict=True)],
            [_opened_state(each, *sealed, keys) for each, sealed in zip(states, of_states, strict=True)],
        )


def values_of(
    connection: Connection, events: Table, stored: Sequence[StoredPayload], key_ids: Sequence[str]
) -> list[dict[str, str]]:
    """Open only what some keys have sealed: for each payload, JSON texts by path.

    Raises:
        MasterKeyError: A key cannot be unwrapped.
        SealedValueError: A value is not the one that was sealed in its place.
    """
    keys = keys_by_id(connection, events, key_ids, locked=False) if stored else {}
    return [
        {".".join(value.path): _clear(each, value, key) for value in _sealed(each) if (key := keys.get(value.key)) is not None}
        for each in stored
    ]


def _sealed(stored: StoredPayload) -> list[SealedValue]:
    try:
        return sealed_values(stored.text)
    except (ValueError, RecursionError) as error:
        reason = f"what is sealed in it cannot be read: {error}"
        raise SealedValueError(stored.event_type, stored.event_version, reason, event_id=UUID(stored.event_id)) from error


def _opened(stored: StoredPayload, values: Sequence[SealedValue], keys: Mapping[str, UnwrappedKey | None]) -> Opened:
    text, at = stored.text, 0
    pieces: list[str] = []
    used: set[str] = set()
    for value in values:
        try:
            key = keys[value.key]
        except KeyError:
            raise _unopened(stored, value, f"its key {_as_uuid(value.key)} is not in the table of keys") from None
        clear = value.placeholder if key is None else _clear(stored, value, key)
        if key is not None:
            used.add(value.key)
        pieces += (text[at : value.start], clear)
        at = value.end
    pieces.append(text[at:])
    return Opened("".join(pieces), True, used)  # noqa: FBT003 - it is quicker by place


def _clear(stored: StoredPayload, value: SealedValue, key: UnwrappedKey) -> str:
    try:
        text: str = key.cipher.open(value.box, _place(stored.event_id, stored.aggregate_type, stored.aggregate_id, *value.path))
    except ValueError as error:
        raise _unopened(stored, value, str(error)) from error
    return text


def _unopened(stored: StoredPayload, value: SealedValue, reason: str) -> SealedValueError:
    field = ".".join(value.path)
    return SealedValueError(
        stored.event_type,
        stored.event_version,
        f"{field}: {reason}",
        fields=[field],
        event_id=UUID(stored.event_id),
        key_id=_as_uuid(value.key),
    )


def _as_uuid(key_id: str) -> UUID | None:
    try:
        return UUID(key_id)
    except ValueError:
        return None


def _place(*names: str) -> str:
    """Name where a value stands. NUL stands in none of these."""
    return "\0".join(names)


def _sealed_state(text: str) -> tuple[list[str], str]:
    """Find keys and box of a sealed state; no keys where what was sealed is not to be recognised."""
    try:
        (value,) = sealed_values(text)
    except (ValueError, RecursionError):
        return [], ""
    return value.key.split("+"), value.box


def _opened_state(state: StoredState, key_ids: Sequence[str], box: str, keys: Mapping[str, UnwrappedKey | None]) -> Opened | None:
    """Open a state; None where that cannot be: the events tell it as well."""
    cipher = _state_cipher([keys.get(each) for each in key_ids])
    try:
        text = None if cipher is None else cipher.open(box, _place_of_state(state))
    except ValueError:
        return None
    return None if text is None else Opened(text, has_sealed=True, keys=frozenset(key_ids))


def _state_cipher(keys: Sequence[UnwrappedKey | None]) -> Any:
    """Make what seals a state from all keys; None where one of them is gone."""
    there = [each.key for each in keys if each is not None]
    return ciphers().Cipher(ciphers().derived(there, b"snapshot")) if there and len(there) == len(keys) else None


def _place_of_state(state: StoredState) -> str:
    return _place("snapshot", state.aggregate_type, state.aggregate_id, str(state.version))
