"""Opening what is sealed in payloads: a thousand of the usual form in one go, others one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from sa_eventsource.events import cut_at_sealed, cut_flat, is_flat, member_before
from sa_eventsource.exceptions import SealedValueError
from sa_eventsource.store import Opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sa_eventsource.privacy.unwrapped_keys import UnwrappedKey
    from sa_eventsource.store import StoredPayloads

_STEP = 5
"""So many pieces of a text that was cut by :func:`cut_at_sealed` belong to a sealed value."""


class CutPayloads:
    """Payloads that are cut where something is sealed in them."""

    def __init__(self, stored: StoredPayloads) -> None:
        """Cut them.

        Raises:
            SealedValueError: What is sealed in one cannot be read.
        """
        self._stored = stored
        self._flat: Sequence[int] = range(len(stored.texts))
        pieces = cut_flat(stored.texts)
        if pieces is None:
            self._flat = [number for number in self._flat if is_flat(stored.texts[number])]
            pieces = cut_flat([stored.texts[number] for number in self._flat])
        self._pieces = pieces or [""]
        flat = set(self._flat)
        others = [number for number in range(len(stored.texts)) if number not in flat] if len(flat) < len(stored.texts) else ()
        self._others = {number: self._cut(number) for number in others}

    def key_ids(self) -> set[str]:
        """List the ids of the keys that they need."""
        return set(self._pieces[1::4]).union(*(pieces[2::_STEP] for pieces in self._others.values()))

    def opened(self, keys: Mapping[str, UnwrappedKey | None]) -> Opened:
        """Open them by the keys that are there; those that are destroyed are None.

        Raises:
            SealedValueError: A key is not there, or a value is not the one that was sealed in its place.
        """
        texts = list(self._stored.texts)
        used: list[frozenset[str] | None] = [None] * len(texts)
        others = self._others
        try:
            self._open_flat(keys, texts, used)
        except (KeyError, ValueError):  # one by one, which says what is wrong, or finds that nothing is
            others = {**others, **{number: self._cut(number) for number in self._flat}}
        for number, pieces in others.items():
            texts[number], used[number] = self._open_one(number, pieces, keys)
        return Opened(texts, used)

    def values_of(self, keys: Mapping[str, UnwrappedKey | None]) -> list[dict[str, str]]:
        """Open only what these keys have sealed: for each payload, JSON texts by path.

        Raises:
            SealedValueError: A value is not the one that was sealed in its place.
        """
        return [
            {
                path.replace("\0", "."): self._clear(number, path, key_id, box, key)
                for path, key_id, box, _ in _values(self._cut(number))
                if (key := keys.get(key_id)) is not None
            }
            for number in range(len(self._stored.texts))
        ]

    def _open_flat(self, keys: Mapping[str, UnwrappedKey | None], texts: list[str], used: list[frozenset[str] | None]) -> None:
        """Open those of the usual form. Most events of a log are read by this loop, where a call more is seen.

        That the key before a value is its path, is proven by the value: it opens in no other place.
        """
        sets: dict[str, frozenset[str]] = {key_id: frozenset(() if key is None else (key_id,)) for key_id, key in keys.items()}
        flat, places, pieces = self._flat, self._stored.places, self._pieces
        found: list[str] = []
        count, number = 0, flat[0] if flat else 0
        path, ending = "", "?"
        for before, key_id, box, placeholder in zip(pieces[::4], pieces[1::4], pieces[2::4], pieces[3::4], strict=False):
            ends = before.count("\n")
            if ends:
                count += ends
                number = flat[count]
            key, other = keys[key_id], used[number]
            used[number] = sets[key_id] if other is None else other | sets[key_id]
            if key is None:
                found += (before, placeholder or "null")
                continue
            if not before.endswith(ending):
                path, ending = member_before(before)
            found += (before, key.cipher.open(box, f"{places[number]}{path}".encode()))
        clear = "".join([*found, pieces[-1]]).split("\n")
        for number, text in zip(flat, clear, strict=True):
            texts[number] = text

    def _open_one(
        self, number: int, pieces: list[str], keys: Mapping[str, UnwrappedKey | None]
    ) -> tuple[str, frozenset[str] | None]:
        if len(pieces) == 1:
            return pieces[0], None
        found, used = [pieces[0]], set[str]()
        for (path, key_id, box, placeholder), behind in zip(_values(pieces), pieces[_STEP::_STEP], strict=True):
            if key_id not in keys:
                raise self._unopened(number, path, key_id, f"its key {_as_uuid(key_id)} is not in the table of keys")
            key = keys[key_id]
            if key is not None:
                used.add(key_id)
            found += (placeholder if key is None else self._clear(number, path, key_id, box, key), behind)
        return "".join(found), frozenset(used)

    def _cut(self, number: int) -> list[str]:
        try:
            return cut_at_sealed(self._stored.texts[number])
        except (ValueError, RecursionError) as error:
            event_type, event_version = self._stored.name(number)
            reason = f"what is sealed in it cannot be read: {error}"
            raise SealedValueError(event_type, event_version, reason, event_id=self._event_id(number)) from error

    def _clear(self, number: int, path: str, key_id: str, box: str, key: UnwrappedKey) -> str:
        try:
            text: str = key.cipher.open(box, as_bytes(self._stored.places[number] + path))
        except ValueError as error:
            raise self._unopened(number, path, key_id, str(error)) from error
        return text

    def _unopened(self, number: int, path: str, key_id: str, reason: str) -> SealedValueError:
        event_type, event_version = self._stored.name(number)
        field = path.replace("\0", ".")
        return SealedValueError(
            event_type,
            event_version,
            f"{field}: {reason}",
            fields=[field],
            event_id=self._event_id(number),
            key_id=_as_uuid(key_id),
        )

    def _event_id(self, number: int) -> UUID:
        return UUID(self._stored.places[number].partition("\0")[0])


def as_bytes(place: str) -> bytes:
    """Write a place as what a value is bound to."""
    return place.encode("utf-8", "surrogatepass")


def _values(pieces: list[str]) -> Iterator[tuple[str, str, str, str]]:
    return zip(*(pieces[place::_STEP] for place in range(1, _STEP)), strict=True)


def _as_uuid(key_id: str) -> UUID | None:
    try:
        return UUID(key_id)
    except ValueError:
        return None
