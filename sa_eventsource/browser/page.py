"""What a page is: its addresses, its place in the navigation, and what its functions get and give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session
    from starlette.requests import Request
    from starlette.responses import Response

    from sa_eventsource.browser.access import Access
    from sa_eventsource.browser.addresses import Addresses
    from sa_eventsource.browser.log_source import LogSource
    from sa_eventsource.browser.rebuilds import Rebuilds
    from sa_eventsource.browser.templating import Templates
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.replays import OtherCode


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page, and all that answers it. Pages run in threads, so that they may wait for the database.

    Attributes:
        request: The request.
        access: What its sender may do.
        tenant: Whose events it is about; None where tenants do not share the tables.
        source: The log.
        session: A session in a transaction that reads only, and sees one state of the database. An action has none: it takes
            sessions of its own from :attr:`source`.
        addresses: The addresses of pages.
        templates: The templates.
        form: The fields that an action was sent, by name.
        pages: The pages that the log has.
        with_actions: Whether the reader may carry out actions: forms for them are shown only then.
        other_code: Code by which the reader may replay streams; None for none.
        rebuilds: The rebuilds that have begun here.
    """

    request: Request
    access: Access
    tenant: str | None
    source: LogSource
    session: Session | None
    addresses: Addresses
    templates: Templates
    form: dict[str, str]
    pages: Sequence[Page]
    with_actions: bool
    other_code: OtherCode | None
    rebuilds: Rebuilds

    @property
    def tables(self) -> EventSourceTables:
        """The library's tables."""
        return self.source.tables

    @property
    def reader(self) -> Session:
        """The session of a page.

        Raises:
            RuntimeError: It is no page that is asked for, but an action.
        """
        if self.session is None:
            raise RuntimeError("an action has no session that reads; open one: with visit.source.reading(...)")
        return self.session

    @property
    def connection(self) -> Connection:
        """The connection of a page, in the session's transaction.

        Raises:
            RuntimeError: The page's transaction is over. Another one could write, and would show personal data to everybody.
        """
        if not self.reader.in_transaction():
            raise RuntimeError("the page's transaction is over, as after statuses_of(); read with visit.connection before that")
        return self.reader.connection(bind_arguments=self.tables.bind_arguments)

    def asked(self, name: str) -> str | None:
        """Get a parameter of the query; None if it is not there or empty."""
        return self.request.query_params.get(name) or None

    def whole_number(self, name: str, *, minimum: int = 0) -> int | None:
        """Get a parameter of the query that is a number; None if it is not there.

        Raises:
            HTTPException: It is none, or too small.
        """
        text = self.asked(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) < _DIGITS and int(text) >= minimum):
            raise HTTPException(400, f"{name}={text} is no whole number from {minimum} on.")
        return int(text)

    def url(self, name: str, /, **values: Any) -> str:
        """Give the address of a page, with the tenant in it. As :meth:`Addresses.to`."""
        return self.addresses.to(name, **values, tenant=self.tenant)

    def render(self, template: str, /, *, status: int = 200, **values: Any) -> Response:
        """Make the page of a template, which also gets all that the layout shows."""
        return self.templates.page(self, template, status, values)

    def go_to(self, name: str, /, **values: Any) -> Response:
        """Have the reader go to a page: what an action gives when it is done."""
        return RedirectResponse(self.url(name, **values), status_code=303)


_DIGITS = 19
"""Numbers with fewer fit a bigint."""

Answer: TypeAlias = Callable[[Visit], "Response"]
"""Answers a request for a page, or carries out an action."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a page, or of a part of it.

    Attributes:
        name: What :meth:`Visit.url` calls it.
        path: Its path below the browser's own, in Starlette's form, such as ``/events/{event_id:uuid}``. Parameters of the path are
            numbers or UUIDs; what is a text, such as an aggregate's id, goes into the query: it may hold a slash.
        answer: What answers.
        action: Whether it is a POST that changes something. It is there only where the browser was made with ``actions=True``.
    """

    name: str
    path: str
    answer: Answer
    action: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page, which is a module with a template.

    Attributes:
        addresses: Its addresses; the first is the page's own.
        navigation: What it is called in the navigation; None for a page that others lead to.
        is_there: Whether a log has the page, by its tables; such as a page of commands, where there may be no table of them.
    """

    addresses: tuple[Address, ...]
    navigation: str | None = None
    is_there: Callable[[EventSourceTables], bool] = lambda _tables: True
