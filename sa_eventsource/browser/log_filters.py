"""What a reader looks for in the log, as the address of the page says it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from starlette.exceptions import HTTPException

from sa_eventsource.browser.document_conditions import document_conditions
from sa_eventsource.browser.log_search import Conditions

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table
    from sqlalchemy.sql import ColumnElement
    from starlette.datastructures import QueryParams

_MOST_TYPES = 50


@dataclass(frozen=True, slots=True)
class Filter:
    """One thing that a reader may look for.

    Attributes:
        name: The parameter of the query.
        label: What it is called.
        hint: How it is written.
        condition: Makes the conditions on the log.
        is_indexed: Whether an index serves them.
        indexed_with: The filter alongside which an index serves them, if there is one.
        listed: Which names are offered for it: ``event_types``, ``aggregate_types`` or nothing.
    """

    name: str
    label: str
    hint: str
    condition: Callable[[Table, str], list[ColumnElement[bool]]]
    is_indexed: bool = False
    indexed_with: str | None = None
    listed: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A filter that a reader has set.

    Attributes:
        filter: The filter.
        text: What was written.
        error: Why it cannot be read; None where it can.
    """

    filter: Filter
    text: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters that a reader has set.

    Attributes:
        chosen: The filters.
        conditions: What they ask of events; those that cannot be read ask nothing.
    """

    chosen: tuple[Chosen, ...]
    conditions: Conditions

    @property
    def parameters(self) -> dict[str, list[str]]:
        """The parameters of the query, by name."""
        found: dict[str, list[str]] = {}
        for each in self.chosen:
            found.setdefault(each.filter.name, []).append(each.text)
        return found

    def text_of(self, name: str) -> str:
        """Get what was written for a filter; empty if nothing was."""
        return next((each.text for each in self.chosen if each.filter.name == name), "")

    def error_of(self, name: str) -> str | None:
        """Get why what was written for a filter cannot be read."""
        return next((each.error for each in self.chosen if each.filter.name == name and each.error), None)

    def without(self, chosen: Chosen) -> dict[str, list[str]]:
        """Give the parameters for the same without one of them."""
        left = [each for each in self.chosen if each is not chosen]
        return Filters(tuple(left), self.conditions).parameters


def read_filters(query: QueryParams, events: Table) -> Filters:
    """Read the filters of an address.

    Raises:
        HTTPException: It names more event types than a page shows.
    """
    chosen: list[Chosen] = []
    indexed: list[ColumnElement[bool]] = []
    others: list[ColumnElement[bool]] = []
    types = list(dict.fromkeys(each.strip() for each in query.getlist("type") if each.strip()))
    if len(types) > _MOST_TYPES:  # each has a link to the others
        raise HTTPException(400, f"These are {len(types)} event types. Name {_MOST_TYPES} at most.")
    if types:  # of several, any
        indexed.append(events.c.event_type.in_(types))
        chosen += [Chosen(FILTERS[0], each) for each in types]
    for each in FILTERS[1:]:
        text = query.get(each.name, "").strip()
        if not text:
            continue
        is_indexed = each.is_indexed or (each.indexed_with is not None and bool(query.get(each.indexed_with)))
        try:
            (indexed if is_indexed else others).extend(each.condition(events, text))
        except ValueError as error:
            chosen.append(Chosen(each, text, str(error)))
        else:
            chosen.append(Chosen(each, text))
    return Filters(tuple(chosen), Conditions(tuple(indexed), tuple(others)))


def read_moment(text: str) -> datetime:
    """Read a time in ISO 8601, such as 2026-05-04 or 2026-05-04T12:00; without an offset, it is in UTC, as the pages show times.

    Raises:
        ValueError: It is none.
    """
    try:
        moment = datetime.fromisoformat(text)
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"“{text}” is no time. Write it like 2026-05-04 or 2026-05-04T12:00; it is UTC unless it has an offset."
        ) from None


def _equal(column: str) -> Callable[[Table, str], list[ColumnElement[bool]]]:
    return lambda events, text: [events.c[column] == text]


def _same_id(column: str) -> Callable[[Table, str], list[ColumnElement[bool]]]:
    def condition(events: Table, text: str) -> list[ColumnElement[bool]]:
        try:
            return [events.c[column] == UUID(text)]
        except ValueError:
            raise ValueError(f"“{text}” is not a UUID.") from None

    return condition


def _document(column: str) -> Callable[[Table, str], list[ColumnElement[bool]]]:
    return lambda events, text: document_conditions(events.c[column], text)


def _since(events: Table, text: str) -> list[ColumnElement[bool]]:
    return [events.c.occurred_at >= read_moment(text)]


def _until(events: Table, text: str) -> list[ColumnElement[bool]]:
    return [events.c.occurred_at <= read_moment(text)]


def _one_of(_events: Any, _text: str) -> list[ColumnElement[bool]]:
    return []  # of several types, any: read_filters makes one condition of them


FILTERS = (
    Filter("type", "Event type", "OrderPlaced", _one_of, is_indexed=True, listed="event_types"),
    Filter("aggregate", "Aggregate type", "Order", _equal("aggregate_type"), is_indexed=True, listed="aggregate_types"),
    Filter("id", "Aggregate id", "order-1", _equal("aggregate_id"), indexed_with="aggregate"),
    Filter("where", "Payload", "total > 100", _document("event_data")),
    Filter("metadata", "Metadata", "user = ann", _document("metadata")),
    Filter("correlation", "Correlation id", "a UUID", _same_id("correlation_id"), is_indexed=True),
    Filter("since", "Occurred from", "2026-05-04T12:00", _since, is_indexed=True),
    Filter("until", "Occurred until", "2026-05-04T13:00", _until, is_indexed=True),
)
"""All filters, in the order of the form."""
