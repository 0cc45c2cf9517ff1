"""The read models: how far each has come, what it is declared to do, its rows, and the events that it has parked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from sa_eventsource.browser.model_rows import RowsAsked, RowsPage, read_rows
from sa_eventsource.browser.model_words import events_in_words, key_in_words
from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.row_columns import SORTED
from sa_eventsource.browser.shown_followers import statuses_of
from sa_eventsource.browser.shown_parked_events import parked_by
from sa_eventsource.projections import WELL, in_short

if TYPE_CHECKING:
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit
    from sa_eventsource.read_models import ReadModelDefinition


def show_models(visit: Visit) -> Response:
    """Show all read models."""
    models = [definition for _, definition in sorted(visit.tables.read_models.items())]
    return visit.render("models.html", statuses=statuses_of(visit, models), well=WELL, in_short=in_short)


def show_model(visit: Visit) -> Response:
    """Show one read model."""
    definition = model_of(visit, visit.asked("name"))
    page = None if hides_rows(visit, definition) else _rows(visit, definition)
    parked = parked_by(visit, definition)
    return visit.render(
        "model.html",
        definition=definition,
        key=key_in_words(definition),
        events=events_in_words(definition),
        page=page,
        of=_parameters(definition, page),
        sorted_kinds=SORTED,
        parked=parked,
        progress=statuses_of(visit, [definition])[0],
        latest=visit.rebuilds.of(definition, visit.tenant),
        well=WELL,
        in_short=in_short,
    )


def hides_rows(visit: Visit, definition: ReadModelDefinition) -> bool:
    """Check whether a model's rows hold personal data that the reader may not see."""
    return definition.takes_personal_data == "clear" and not visit.access.personal_data


def _rows(visit: Visit, definition: ReadModelDefinition) -> RowsPage:
    query = visit.request.query_params
    asked = RowsAsked(
        where=query.get("where", "").strip(),
        sort=visit.asked("sort"),
        descending=visit.asked("order") == "descending",
        after=query.getlist("after"),
        value=query.get("value"),
    )
    return read_rows(visit.connection, definition, asked, seconds=visit.source.seconds)


def _parameters(definition: ReadModelDefinition, page: RowsPage | None) -> dict[str, Any]:
    """Give the parameters of an address with the same rows in the same order."""
    if page is None:
        return {"name": definition.name}
    order = "descending" if page.asked.descending else None
    return {"name": definition.name, "where": page.asked.where, "sort": page.asked.sort, "order": order}


def model_of(visit: Visit, name: str | None) -> ReadModelDefinition:
    """Get the read model of a name.

    Raises:
        HTTPException: There is none.
    """
    definition: ReadModelDefinition | None = visit.tables.read_models.get(name or "")
    if definition is None:
        raise HTTPException(404, f"There is no read model {name}. Is its module imported?")
    return definition


PAGE = Page(
    addresses=(
        Address("models", "/models", show_models),
        Address("model", "/models/one", show_model),
    ),
    navigation="Read models",
    is_there=lambda tables: bool(tables.read_models),
)
