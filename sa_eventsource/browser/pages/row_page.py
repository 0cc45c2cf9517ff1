"""A row of a read model: its fields, the events that made it, and the row as it was at a moment or behind an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from sa_eventsource.browser.log_filters import read_moment
from sa_eventsource.browser.log_search import position_at
from sa_eventsource.browser.model_rows import read_row
from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.pages.models_page import hides_rows, model_of
from sa_eventsource.browser.row_columns import columns_of, key_of_texts
from sa_eventsource.browser.row_events import NoPastError, RowEvents, reason_for_no_past

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response

    from sa_eventsource.browser.log_search import Found
    from sa_eventsource.browser.page import Visit
    from sa_eventsource.read_models import ReadModelDefinition


def show_row(visit: Visit) -> Response:
    """Show a row, as it is and as it was."""
    definition = model_of(visit, visit.asked("name"))
    texts = visit.request.query_params.getlist("key")
    if hides_rows(visit, definition):
        raise HTTPException(403, f"Rows of {definition.name} hold personal data in clear, which you may not see.")
    row = read_row(visit.connection, definition, texts)
    position, moment, moment_error = _place(visit)
    events = _events(visit, definition, texts) if definition.events or definition.removed_by else None
    past, reason = None, reason_for_no_past(visit.connection, definition)
    if events is not None and position is not None and reason is None:
        try:
            past = events.past(position)
        except NoPastError as error:
            reason = str(error)
    before = visit.whole_number("before")
    found = None if events is None else events.before(before)
    return visit.render(
        "row.html",
        definition=definition,
        of={"name": definition.name, "key": texts},
        columns=list(columns_of(definition).values()),
        now=None if row is None else row.values,
        position=position,
        moment=moment,
        moment_error=moment_error,
        past=past,
        reason=reason,
        found=found,
        following=None if past is None or events is None else events.next_after(position or 0),
        is_newest=before is None,
        older=None if found is None else _older(found),
    )


def _events(visit: Visit, definition: ReadModelDefinition, texts: Sequence[str]) -> RowEvents:
    return RowEvents(visit.connection, definition, key_of_texts(definition, texts))


def _place(visit: Visit) -> tuple[int | None, str | None, str | None]:
    """Get the position behind which the row is asked for, the moment that was written, and why that cannot be read."""
    moment = visit.asked("at")
    if moment is None:
        return visit.whole_number("position"), None, None
    try:
        return position_at(visit.connection, visit.tables.events, read_moment(moment)) or 0, moment, None
    except ValueError as error:
        return None, moment, str(error)


def _older(found: Found) -> int | None:
    if found.searched_to is not None:
        return found.searched_to
    position: int | None = found.events[-1].row.position if found.has_more and found.events else None
    return position


PAGE = Page(addresses=(Address("row", "/models/row", show_row),), is_there=lambda tables: bool(tables.read_models))
