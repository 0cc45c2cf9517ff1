"""Where the personal values of an event stand in the text of its payload, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, RootModel

from sa_eventsource.events.codec import as_read
from sa_eventsource.events.comparison import shown
from sa_eventsource.events.json_spans import item_spans, member_spans
from sa_eventsource.events.personal import AGGREGATE_ID, METADATA, PersonalField, personal_fields, subject_text
from sa_eventsource.events.sealed_form import SEALED, Path
from sa_eventsource.exceptions import EventPayloadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.events.domain_event import DomainEvent


class PersonalValue(NamedTuple):
    """A personal value in the text of a payload, in clear.

    Attributes:
        start: Where its text begins.
        end: Where it ends.
        path: The keys that lead to it.
        subject: Whose it is.
        placeholder: JSON text of what stands for it once the subject is forgotten.
    """

    start: int
    end: int
    path: Path
    subject: str
    placeholder: str


def personal_values(event: DomainEvent, payload: str, aggregate_id: str, metadata: Mapping[str, Any]) -> list[PersonalValue]:
    """Find the personal values of an event in the text of its payload, in the order in which they stand there.

    Args:
        event: The event.
        payload: Its text.
        aggregate_id: The id of its stream, which may be a subject.
        metadata: Its metadata, which may name one.

    Raises:
        EventPayloadError: One has no subject, or is not written where it should be; or the payload holds what looks like a sealed
            value.
    """
    name = event.__event_type__
    if f'"{SEALED}"' in payload:
        raise EventPayloadError(name, "", f'it holds "{SEALED}", which marks sealed values in events with personal data')
    finder = _Finder(name, payload, aggregate_id, metadata)
    found = as_read(event, payload)
    finder.in_model(found, 0, (), (found,))
    return sorted(finder.found)


class _Finder:
    """Goes through an event and the text of it side by side: the one says what is personal, the other where it stands."""

    def __init__(self, name: str, text: str, aggregate_id: str, metadata: Mapping[str, Any]) -> None:
        self._name = name
        self._text = text
        self._aggregate_id = aggregate_id
        self._metadata = metadata
        self.found: list[PersonalValue] = []

    def in_value(self, value: object, at: int, path: Path, owners: tuple[BaseModel, ...]) -> None:
        """Look into a value whose text begins somewhere."""
        match value:
            case RootModel():
                self.in_value(value.root, at, path, owners)
            case BaseModel():
                self.in_model(value, at, path, (*owners, value))
            case Mapping():
                members = [(key, start, end) for key, (start, end) in self._members(at, path).items()]
                self._in_each(value.values(), members, path, owners)
            case str() | bytes():
                return
            case _ if hasattr(value, "__iter__"):
                elements = [(str(index), start, end) for index, (start, end) in enumerate(self._items(at, path))]
                self._in_each(value, elements, path, owners)

    def _in_each(self, values: Any, places: Sequence[tuple[str, int, int]], path: Path, owners: tuple[BaseModel, ...]) -> None:
        values = list(values)
        if len(values) != len(places):
            raise self._misplaced(path)
        for each, (key, start, _) in zip(values, places, strict=True):
            self.in_value(each, start, (*path, key), owners)

    def in_model(self, model: BaseModel, at: int, path: Path, owners: tuple[BaseModel, ...]) -> None:
        """Look into a model, the last of its owners, whose text begins somewhere."""
        fields = personal_fields(type(model))
        if not fields.own and not fields.inner:
            return
        places = self._members(at, path)
        for each in fields.own:
            inner = (*path, each.key)
            if each.key not in places:
                raise self._misplaced(inner)
            start, end = places[each.key]
            subject, value = self._subject(each, owners)
            if subject is not None:
                self.found.append(PersonalValue(start, end, inner, subject, each.placeholder))
            elif self._text[start:end] != "null":  # of nobody there is nothing to hide
                raise self._without_subject(each, value, inner)
        for name, key in fields.inner:
            inner = (*path, key)
            if key not in places:
                raise self._misplaced(inner)
            self.in_value(getattr(model, name), places[key][0], inner, owners)

    def _subject(self, field: PersonalField, owners: tuple[BaseModel, ...]) -> tuple[str | None, object]:
        """Find whose a value is, as a text, and as what names it."""
        first, *rest = field.subject
        value: Any
        for owner in reversed(owners):
            if first in personal_fields(type(owner)).names:
                value = getattr(owner, first)
                break
        else:
            if first == METADATA:
                value, rest = self._metadata, [".".join(rest)] if ".".join(rest) in self._metadata else rest
            else:
                value = self._aggregate_id if first == AGGREGATE_ID else None
        for name in rest:
            value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        return subject_text(value), value

    def _without_subject(self, field: PersonalField, value: object, path: Path) -> EventPayloadError:
        return EventPayloadError(
            self._name,
            ".".join(path),
            f"{'.'.join(field.subject)} is to say whose data it is, and is {shown(value)}; it must be a text of 1 to 255 "
            "characters, a whole number or a UUID",
        )

    def _members(self, at: int, path: Path) -> dict[str, tuple[int, int]]:
        try:
            spans = list(member_spans(self._text, at))
        except ValueError as error:
            raise self._misplaced(path) from error
        places = {key: (start, end) for key, start, end in spans}
        if len(places) < len(spans):  # of two values under one key, one would stay in clear
            raise self._misplaced(path)
        return places

    def _items(self, at: int, path: Path) -> list[tuple[int, int]]:
        try:
            return list(item_spans(self._text, at))
        except ValueError as error:
            raise self._misplaced(path) from error

    def _misplaced(self, path: Path) -> EventPayloadError:
        return EventPayloadError(
            self._name, ".".join(path), "it has personal data, and is written in another shape than its class has; write it plainly"
        )
