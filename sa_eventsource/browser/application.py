"""The ASGI application: it asks who it is, opens the log, and has a page answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sa_eventsource.browser.access import Access, Authorize, admitted, chosen_tenant
from sa_eventsource.browser.addresses import Addresses
from sa_eventsource.browser.failures_shown import ACCESS, failure_page
from sa_eventsource.browser.forged_requests import keep_token, read_form
from sa_eventsource.browser.log_source import LogSource
from sa_eventsource.browser.page import Address, Page, Visit
from sa_eventsource.browser.pages import PAGES
from sa_eventsource.browser.rebuilds import Rebuilds
from sa_eventsource.browser.responses import WithHeaders
from sa_eventsource.browser.templating import Templates
from sa_eventsource.browser.threads import in_thread
from sa_eventsource.exceptions import EventSourceError
from sa_eventsource.replays import OtherCode, check_link_form

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

_SECONDS = 10.0


class Browser:
    """Shows a log: an ASGI application to mount, or to serve by itself.

    Example: ``app.mount("/events", Browser(Base, engine, authorize=authorize))``, with FastAPI or Starlette.

    It only reads, in transactions that the database lets write nothing, and is best given an engine whose role may read only.
    Pages run in threads of the browsers' own, ten at once: nothing of the application waits for them.

    Attributes:
        source: The log, and how it is read.
        rebuilds: The rebuilds of read models that have begun here.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        base: Any,
        database: Engine | Callable[[], Session],
        *,
        authorize: Authorize,
        actions: bool = False,
        title: str = "Events",
        seconds: float = _SECONDS,
        source_link: str | None = None,
        other_code: OtherCode | None = None,
    ) -> None:
        """Prepare the application; nothing is read yet.

        Args:
            base: The declarative base whose log it is. Import the aggregates and read models before somebody looks.
            database: An engine, or what makes a new session whenever it is called, such as a ``sessionmaker``. Beside an
                ``AsyncEngine``, give it an engine from ``create_engine()`` for the same database.
            authorize: Says for each request what its sender may do. :func:`everyone` lets all look.
            actions: Whether there are actions, such as retrying a parked event, for those whose ``Access`` has ``actions=True``.
            title: What the pages are called, such as the application's name.
            seconds: How long a statement of a page may take, and replaying a stream for one; then the page says that it took too
                long.
            source_link: The form of the address of a line of your source, as
                ``https://git.example/shop/blob/main/{path}#L{line}``; None for no links. The path is from the current directory.
            other_code: Code by which those may replay streams whose ``Access`` has ``other_code=True``; None for none.

        Raises:
            TypeError: *base* has no metadata, *database* is neither an engine nor makes sessions, is a ``scoped_session`` or of an
                ``AsyncEngine``, *authorize* cannot be called, or *other_code* is no ``OtherCode``.
            ValueError: *seconds* is not more than 0, or *source_link* has other places than these two.
        """
        if not callable(authorize):
            raise TypeError(
                f"Browser(authorize=...) takes a function of the request that returns Access(...) or None, not {authorize!r}"
            )
        if not seconds > 0:
            raise ValueError(f"Browser(seconds=...) takes a time in seconds, more than 0, not {seconds!r}")
        if source_link is not None:
            check_link_form(source_link)
        if not isinstance(other_code, OtherCode | None):
            raise TypeError(f'Browser(other_code=...) takes OtherCode("app.models:Base", [...]), not {other_code!r}')
        self.source = LogSource(base, database, seconds=seconds, link_form=source_link)
        self.rebuilds = Rebuilds(self.source)
        self._authorize = authorize
        self._with_actions = actions
        self._other_code = other_code
        self._templates = Templates(title)
        self._routes: list[BaseRoute] = [
            Mount("/static", StaticFiles(packages=[("sa_eventsource.browser", "static")]), name="static"),
            Route("/", self._first_page, name="first"),
            *(self._route(page, address) for page in PAGES for address in page.addresses if actions or not address.action),
        ]
        app = Starlette(
            routes=self._routes,
            exception_handlers=dict.fromkeys(
                (HTTPException, EventSourceError, DBAPIError, PoolTimeoutError, Exception), self._failed
            ),
        )
        self._app = WithHeaders(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        await self._app(scope, receive, send)

    async def _first_page(self, request: Request) -> Response:
        return RedirectResponse(Addresses(request, self._routes).to(PAGES[0].addresses[0].name), status_code=307)

    def _route(self, page: Page, address: Address) -> Route:
        async def answer(request: Request) -> Response:
            access = request.scope[ACCESS] = await admitted(self._authorize, request)
            if not page.is_there(self.source.tables):
                raise HTTPException(404, "This log has nothing to show here.")
            if address.action and not access.actions:
                raise HTTPException(403, "You may look, and change nothing.")
            form = await read_form(request) if address.action else {}
            return await in_thread(self._answer, request, address, access, form)

        return Route(address.path, answer, name=address.name, methods=["POST"] if address.action else ["GET"])

    def _answer(self, request: Request, address: Address, access: Access, form: dict[str, str]) -> Response:
        tenants = self.source.tables.options.tenants
        tenant = chosen_tenant(access, request.query_params.get("tenant")) if tenants else None

        def visit(session: Session | None) -> Response:
            return address.answer(self._visit(request, access, tenant, session, form, address.name))

        if address.action:
            return visit(None)
        with self.source.reading(access, tenant) as session:
            response = visit(session)
        keep_token(request, response, self._addresses(request, address.name).root)
        return response

    def _visit(  # noqa: PLR0913, PLR0917 - all of a visit
        self,
        request: Request,
        access: Access,
        tenant: str | None,
        session: Session | None,
        form: dict[str, str],
        name: str,
    ) -> Visit:
        return Visit(
            request=request,
            access=access,
            tenant=tenant,
            source=self.source,
            session=session,
            addresses=self._addresses(request, name),
            templates=self._templates,
            form=form,
            pages=self._pages(),
            with_actions=self._with_actions and access.actions,
            other_code=self._other_code if access.other_code else None,
            rebuilds=self.rebuilds,
        )

    def _addresses(self, request: Request, name: str) -> Addresses:
        return Addresses(request, self._routes, here=name)

    def _pages(self) -> Sequence[Page]:
        return [page for page in PAGES if page.is_there(self.source.tables)]

    async def _failed(self, request: Request, error: Exception) -> Response:
        access: Access | None = request.scope.get(ACCESS)
        visit = self._visit(request, access or Access(), None, None, {}, "")
        return failure_page(visit, error, seconds=self.source.seconds, is_admitted=access is not None)
