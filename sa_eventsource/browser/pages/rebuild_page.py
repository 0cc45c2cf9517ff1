"""Rebuilding a read model: a page that says what it means and how far it has come, and the action that begins it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.pages.models_page import model_of
from sa_eventsource.browser.shown_followers import HIDDEN, hides_errors

if TYPE_CHECKING:
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit


def show(visit: Visit) -> Response:
    """Show how far a rebuild has come, or how it ended; say what one means, and ask whether it is meant."""
    definition = model_of(visit, visit.asked("name"))
    if not visit.with_actions:
        raise HTTPException(403, "You may look, and change nothing.")
    latest = visit.rebuilds.of(definition, visit.tenant)
    error = None if latest is None else latest.error
    if error is not None and hides_errors(visit, definition):
        error = HIDDEN
    return visit.render("rebuild.html", definition=definition, latest=latest, error=error)


def rebuild(visit: Visit) -> Response:
    """Begin to rebuild a model's rows, and lead to the page that shows how far that has come."""
    definition = model_of(visit, visit.form.get("name"))
    visit.rebuilds.begin(definition, visit.tenant)
    return visit.go_to("ask_rebuild", name=definition.name)


PAGE = Page(
    addresses=(
        Address("ask_rebuild", "/models/rebuild", show),
        Address("rebuild", "/models/rebuild", rebuild, action=True),
    ),
    is_there=lambda tables: bool(tables.read_models),
)
