"""Sealing events that are about to be appended, and opening those that were read."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from sa_eventsource.events import personal_values, replaced, sealed_text, sealed_values
from sa_eventsource.exceptions import SealedValueError
from sa_eventsource.privacy.subject_keys import keys_by_id, keys_for
from sa_eventsource.store import OpenedPayload, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Table

    from sa_eventsource.events import PendingEvent, SealedValue
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.privacy.unwrapped_keys import UnwrappedKey
    from sa_eventsource.store import StoredPayload

MASKED_OPTION = "personal_data"
"""Execution option of a connection or engine; with ``"masked"``, no key is asked for, and placeholders are read."""


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

    def open(self, connection: Connection, events: Table, stored: Sequence[StoredPayload], reading: Reading) -> list[OpenedPayload]:
        """Open what is sealed in payloads. As :class:`~sa_eventsource.store.Sealing` says.

        Raises:
            DeclarationError: The base has no master keys.
            MasterKeyError: A key cannot be unwrapped.
            SealedValueError: A key is not there, or a value is not the one that was sealed in its place.
        """
        is_masked = reading is Reading.MASKED or connection.get_execution_options().get(MASKED_OPTION) == "masked"
        found = [_sealed(each) for each in stored]
        key_ids = {key_id for values in found for key_id, _, _ in values}
        keys: Mapping[UUID, UnwrappedKey | None] = {}
        if is_masked:
            keys = dict.fromkeys(key_ids)
        elif key_ids:
            keys = keys_by_id(connection, events, key_ids, locked=reading is Reading.LOCKED)
        return [
            _opened(each, values, keys) if values else OpenedPayload(each.text) for each, values in zip(stored, found, strict=True)
        ]


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
) -> OpenedPayload:
    texts: list[str] = []
    for key_id, box, value in values:
        if key_id not in keys:
            raise _unopened(stored, value, key_id, f"its key {key_id} is not in the table of keys")
        key = keys[key_id]
        if key is None:
            texts.append(value.placeholder)
            continue
        try:
            texts.append(key.cipher.open(box, _place(stored.event_id, stored.aggregate_type, stored.aggregate_id, value.path)))
        except ValueError as error:
            raise _unopened(stored, value, key_id, str(error)) from error
    return OpenedPayload(replaced(stored.text, [value for _, _, value in values], texts), has_sealed=True)


def _unopened(stored: StoredPayload, value: SealedValue, key_id: UUID, reason: str) -> SealedValueError:
    field = ".".join(value.path)
    return SealedValueError(
        stored.event_type, stored.event_version, f"{field}: {reason}", fields=[field], event_id=stored.event_id, key_id=key_id
    )


def _place(event_id: UUID, aggregate_type: str, aggregate_id: str, path: Sequence[str]) -> bytes:
    """Name where a value stands. NUL stands in none of these."""
    return "\0".join((event_id.hex, aggregate_type, aggregate_id, *path)).encode("utf-8", "surrogatepass")
