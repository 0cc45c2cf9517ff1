"""Sealing events that are about to be appended, and opening those that were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.events import cut_at_sealed, personal_values, replaced, sealed_text
from sa_eventsource.privacy.master_keys import ciphers
from sa_eventsource.privacy.opening import CutPayloads, as_bytes
from sa_eventsource.privacy.subject_keys import keys_by_id, keys_for, known_keys_for
from sa_eventsource.store import Opened, OpenedState, Reading, Sealed, place_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from sqlalchemy import Connection, Table

    from sa_eventsource.events import PendingEvent
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.privacy.unwrapped_keys import UnwrappedKey
    from sa_eventsource.store import StoredPayloads, StoredState


class PersonalDataSealing:
    """Seals each value with its subject's key, bound to its place: event, stream and path."""

    def seal(
        self,
        connection: Connection,
        tables: EventSourceTables,
        events: Sequence[tuple[str, str, PendingEvent]],
        *,
        may_guess: bool,
    ) -> Sealed:
        """Seal the personal data of events. As :class:`~sa_eventsource.store.Sealing` says.

        Raises:
            DeclarationError: The base has no master keys.
            EventPayloadError: A value has no subject.
            MasterKeyError: A key cannot be wrapped or unwrapped.
            SubjectForgottenError: A subject is forgotten.
        """
        found = [personal_values(event.event, event.payload, stream_id, event.metadata) for _, stream_id, event in events]
        subjects = {value.subject for values in found for value in values}
        known = known_keys_for(connection, tables, subjects) if subjects and may_guess else None
        keys = keys_for(connection, tables, subjects) if subjects and known is None else known or {}
        payloads = []
        for (aggregate_type, aggregate_id, event), values in zip(events, found, strict=True):
            texts = []
            for value in values:
                key_id, key = keys[value.subject]
                place = place_of(event.event_id.hex, aggregate_type, aggregate_id) + "\0".join(value.path)
                box = key.cipher.seal(event.payload[value.start : value.end], as_bytes(place))
                texts.append(sealed_text(key_id, box, value.placeholder))
            payloads.append(replaced(event.payload, [(value.start, value.end) for value in values], texts))
        return Sealed(payloads, frozenset(key_id for key_id, _ in keys.values()) if known else frozenset())

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
        stored: StoredPayloads,
        states: Sequence[StoredState],
        reading: Reading,
    ) -> tuple[Opened, list[OpenedState | None]]:
        """Open what is sealed in payloads and states. As :class:`~sa_eventsource.store.Sealing` says.

        Raises:
            DeclarationError: The base has no master keys.
            MasterKeyError: A key cannot be unwrapped.
            SealedValueError: A key is not there, or a value is not the one that was sealed in its place.
        """
        payloads = CutPayloads(stored)
        of_states = [_cut_state(each.text) for each in states]
        key_ids = payloads.key_ids().union(*(ids for ids, _ in of_states))
        keys: Mapping[str, UnwrappedKey | None] = {}
        if reading is Reading.MASKED:
            keys = dict.fromkeys(key_ids)
        elif key_ids:
            keys = keys_by_id(connection, events, key_ids, locked=reading is Reading.LOCKED)
        return (
            payloads.opened(keys),
            [_opened_state(each, *sealed, keys) for each, sealed in zip(states, of_states, strict=True)],
        )


def _cut_state(text: str) -> tuple[list[str], str]:
    """Find keys and box of a sealed state; no keys where what was sealed is not to be recognised."""
    try:
        _, _, key_ids, box, _, _ = cut_at_sealed(text)
    except (ValueError, RecursionError):
        return [], ""
    return key_ids.split("+"), box


def _opened_state(
    state: StoredState, key_ids: Sequence[str], box: str, keys: Mapping[str, UnwrappedKey | None]
) -> OpenedState | None:
    """Open a state; None where that cannot be: the events tell it as well."""
    cipher = _state_cipher([keys.get(each) for each in key_ids])
    try:
        text = None if cipher is None else cipher.open(box, _place_of_state(state))
    except ValueError:
        return None
    return None if text is None else OpenedState(text, frozenset(key_ids))


def _state_cipher(keys: Sequence[UnwrappedKey | None]) -> Any:
    """Make what seals a state from all keys; None where one of them is gone."""
    there = [each.key for each in keys if each is not None]
    return ciphers().Cipher(ciphers().derived(there, b"snapshot")) if there and len(there) == len(keys) else None


def _place_of_state(state: StoredState) -> bytes:
    return as_bytes(place_of("snapshot", state.aggregate_type, state.aggregate_id) + str(state.version))
