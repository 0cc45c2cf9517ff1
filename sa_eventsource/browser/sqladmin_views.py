"""Views of read models for an application that has sqladmin: read only, linked to the event browser. Needs sqladmin."""

from __future__ import annotations

from types import new_class
from typing import TYPE_CHECKING, Any

from sqladmin import BaseView, ModelView, expose  # pyright: ignore[reportMissingImports] - whoever uses this has it
from starlette.responses import RedirectResponse

from sa_eventsource.browser.admin_links import AdministeredModel, administered_models

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response


def read_model_views(base: Any, *, browser: str, personal_data: bool = False) -> list[type[BaseView]]:
    """Make a view for each read model, and one that leads to the events.

    Example::

        for view in read_model_views(Base, browser="/events"):
            admin.add_view(view)

    They read with the sessions of the ``Admin``: where tenants share the tables, a tenant's (``session.info``). Who may look is
    decided there too.

    Args:
        base: The declarative base.
        browser: The path that the :class:`~sa_eventsource.browser.Browser` is mounted at, such as ``"/events"``.
        personal_data: Whether there are views of models with ``__personal_data__ = "clear"``.
    """
    views = [_view(each) for each in administered_models(base, browser, personal_data=personal_data)]
    return [*views, _link_view(f"{browser.rstrip('/')}/log")]


def _view(administered: AdministeredModel) -> type[BaseView]:
    def formatter(name: str) -> Callable[[Any, Any], Any]:
        return lambda row, _attribute: administered.link(getattr(row, name))

    links = {name: formatter(name) for name in administered.key}
    attributes = {
        "name": administered.name,
        "name_plural": administered.name,
        "can_create": False,
        "can_edit": False,
        "can_delete": False,
        "can_import": False,
        "column_list": list(administered.columns),
        "column_details_list": list(administered.columns),
        "column_sortable_list": list(administered.columns),
        "column_formatters": links,
        "column_formatters_detail": links,
    }
    made: type[ModelView] = new_class(
        f"{administered.model.__name__}View", (ModelView,), {"model": administered.model}, lambda body: body.update(attributes)
    )
    made.identity = administered.name  # which sqladmin has taken from the name of the class
    return made


def _link_view(address: str) -> type[BaseView]:
    class EventsView(BaseView):  # type: ignore[misc, unused-ignore]
        """Leads to the log in the event browser."""

        name = "Events"
        identity = "events"

        @expose("/event-log", methods=["GET"])  # type: ignore[untyped-decorator, unused-ignore]
        async def events(self, request: Request) -> Response:  # noqa: ARG002 - sqladmin's signature
            """Lead there."""
            return RedirectResponse(address, status_code=303)

    return EventsView
