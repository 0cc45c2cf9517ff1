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
                place = _place(event.event_id, aggregate_type, aggregate_id, value.path)
                box = key.cipher.seal(event.payload[value.start : value.end], place)
                texts.append(sealed_text(f"{key_id.hex}.{box}", value.placeholder))
            payloads.append(replaced(event.payload, values, texts))
        return payloads

    def seal_state(
        self, connection: Connection, tables: EventSourceTables, state: StoredState, keys: AbstractSet[UUID]
    ) -> str | None:
        """Seal the state of a snapshot. As :class:`~sa_eventsource.store.Sealing` says.

        Raises:
            MasterKeyError: A key cannot be unwrapped.
        """
        in_order = sorted(keys)
        found = keys_by_id(connection, tables.events, in_order, locked=False)
        cipher = _state_cipher([found.get(key_id) for key_id in in_order])
        if cipher is None:
            return None
        return sealed_text(f"{'+'.join(each.hex for each in in_order)}.{cipher.seal(state.text, _place_of_state(state))}", "null")

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
        key_ids = {key_id for values in found for key_id, _, _ in values} | {each for ids, _ in of_states for each in ids}
        keys: Mapping[UUID, UnwrappedKey | None] = {}
        if reading is Reading.MASKED:
            keys = dict.fromkeys(key_ids)
        elif key_ids:
            keys = keys_by_id(connection, events, key_ids, locked=reading is Reading.LOCKED)
        return (
            [_opened(each, values, keys) if values else Opened(each.text) for each, values in zip(stored, found, strict=True)],
            [_opened_state(each, *sealed, keys) for each, sealed in zip(states, of_states, strict=True)],
        )


def _sealed(stored: StoredPayload) -> list[tuple[UUID, str, SealedValue]]:
    """Find key, box and place of each sealed value."""
    try:
        found = []
        for value in sealed_values(stored.text):
            key_id, _, box = value.token.partition(".")
            found.append((UUID(key_id), box, value))
    except (ValueError, RecursionError) as error:
        raise SealedValueError(
            stored.event_type, stored.event_version, f"what is sealed in it cannot be read: {error}", event_id=stored.event_id
        ) from error
    return found


def _opened(
    stored: StoredPayload, values: Sequence[tuple[UUID, str, SealedValue]], keys: Mapping[UUID, UnwrappedKey | None]
) -> Opened:
    texts: list[str] = []
    used: set[UUID] = set()
    for key_id, box, value in values:
        if key_id not in keys:
            raise _unopened(stored, value, key_id, f"its key {key_id} is not in the table of keys")
        key = keys[key_id]
        if key is None:
            texts.append(value.placeholder)
            continue
        used.add(key_id)
        try:
            texts.append(key.cipher.open(box, _place(stored.event_id, stored.aggregate_type, stored.aggregate_id, value.path)))
        except ValueError as error:
            raise _unopened(stored, value, key_id, str(error)) from error
    return Opened(replaced(stored.text, [value for _, _, value in values], texts), has_sealed=True, keys=frozenset(used))


def _unopened(stored: StoredPayload, value: SealedValue, key_id: UUID, reason: str) -> SealedValueError:
    field = ".".join(value.path)
    return SealedValueError(
        stored.event_type, stored.event_version, f"{field}: {reason}", fields=[field], event_id=stored.event_id, key_id=key_id
    )


def _place(event_id: UUID, aggregate_type: str, aggregate_id: str, path: Sequence[str]) -> bytes:
    """Name where a value stands. NUL stands in none of these."""
    return "\0".join((event_id.hex, aggregate_type, aggregate_id, *path)).encode("utf-8", "surrogatepass")


def _sealed_state(text: str) -> tuple[list[UUID], str]:
    """Find keys and box of a sealed state; no keys where what was sealed is not to be recognised."""
    try:
        (value,) = sealed_values(text)
        key_ids, _, box = value.token.partition(".")
        return [UUID(each) for each in key_ids.split("+")], box
    except (ValueError, RecursionError):
        return [], ""


def _opened_state(state: StoredState, key_ids: Sequence[UUID], box: str, keys: Mapping[UUID, UnwrappedKey | None]) -> Opened | None:
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


def _place_of_state(state: StoredState) -> bytes:
    return "\0".join(("snapshot", state.aggregate_type, state.aggregate_id, str(state.version))).encode("utf-8", "surrogatepass")
