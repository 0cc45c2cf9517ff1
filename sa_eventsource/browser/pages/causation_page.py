"""What led to an event and what followed from it, and all events of a correlation, by aggregate over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from starlette.exceptions import HTTPException

from sa_eventsource.browser.event_family import MOST_READ, MOST_SHOWN, branches_of, causes_of, effects_of, read_event, read_family
from sa_eventsource.browser.family_pictures import lanes_of, tree_of
from sa_eventsource.browser.page import Address, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit


def show_correlation(visit: Visit) -> Response:
    """Show the events of a correlation: the first of them, in the order of the log."""
    correlation_id = _asked_id(visit, "correlation")
    family = read_family(visit.connection, visit.tables.events, correlation_id)
    if not family.rows:
        raise HTTPException(404, f"There is no event of the correlation {correlation_id}.")
    shown = family.rows[:MOST_SHOWN]
    return _render(visit, family=family, event=None, of_tree=shown, shown=shown, count=len(family.rows))


def show_causation(visit: Visit) -> Response:
    """Show what led to an event and what followed from it, and beside these the other events of its correlation."""
    event_id, events = visit.request.path_params["event_id"], visit.tables.events
    event = read_event(visit.connection, events, event_id)
    if event is None:
        raise HTTPException(404, f"There is no event {event_id}.")
    family = read_family(visit.connection, events, event.correlation_id or event.event_id)
    causes, effects = causes_of(visit.connection, events, family, event), effects_of(family, event)
    related = [*causes, event, *effects]
    of_tree = related[:MOST_SHOWN]
    ids = {each.event_id for each in of_tree}
    others = [each for each in family.rows if each.event_id not in ids][: MOST_SHOWN - len(of_tree)]
    return _render(visit, family=family, event=event, of_tree=of_tree, shown=[*of_tree, *others], count=len(related))


def _render(visit: Visit, *, of_tree: Sequence[Row[Any]], shown: Sequence[Row[Any]], **values: Any) -> Response:
    return visit.render(
        "causation.html",
        tree=tree_of(branches_of(of_tree)),
        related={each.event_id for each in of_tree},
        lanes=lanes_of(shown),
        types=list(dict.fromkeys(each.event_type for each in shown)),
        most_read=MOST_READ,
        **values,
    )


def _asked_id(visit: Visit, name: str) -> UUID:
    text = visit.asked(name)
    if text is None:
        raise HTTPException(400, f"Name a correlation, by its id: ?{name}=…")
    try:
        return UUID(text)
    except ValueError as error:
        raise HTTPException(400, f"{name}={text} is not a UUID.") from error


PAGE = Page(
    addresses=(
        Address("correlation", "/correlation", show_correlation),
        Address("causation", "/events/{event_id:uuid}/causation", show_causation),
    )
)
