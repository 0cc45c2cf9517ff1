"""Rebuilding a read model: a page that says what it means, and the action."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.pages.models_page import model_of
from sa_eventsource.projections import EventReplayer

if TYPE_CHECKING:
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit


def ask(visit: Visit) -> Response:
    """Say what a rebuild means for a model, and ask whether it is meant."""
    definition = model_of(visit, visit.asked("name"))
    if not visit.with_actions:
        raise HTTPException(403, "You may look, and change nothing.")
    return visit.render("rebuild.html", definition=definition)


def rebuild(visit: Visit) -> Response:
    """Rebuild a model's rows, and answer when it is done."""
    definition = model_of(visit, visit.form.get("name"))
    EventReplayer(lambda: visit.source.session(visit.tenant), visit.source.base).rebuild(definition.model)  # type: ignore[arg-type]
    return visit.go_to("model", name=definition.name)


PAGE = Page(
    addresses=(
        Address("ask_rebuild", "/models/rebuild", ask),
        Address("rebuild", "/models/rebuild", rebuild, action=True),
    ),
    is_there=lambda tables: bool(tables.read_models),
)
