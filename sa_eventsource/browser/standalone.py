"""The browser by itself, on a port of this machine: ``sa-eventsource browse``."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sa_eventsource.browser.access import Access
from sa_eventsource.browser.application import Browser

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sqlalchemy import Engine
    from starlette.types import ASGIApp

    from sa_eventsource.replays import OtherCode

USUAL_PORT = 8477
_OWN_NAMES = ("127.0.0.1", "localhost")


def serve(  # noqa: PLR0913 - by keyword
    base: Any,
    engine: Engine,
    *,
    host: str,
    port: int | None,
    title: str,
    tenant: str | None,
    personal_data: bool,
    actions: bool,
    announce: Callable[[str], None],
    source_link: str | None = None,
    other_code: OtherCode | None = None,
) -> None:
    """Serve the browser until SIGINT or SIGTERM.

    Args:
        base: The declarative base.
        engine: An engine for its database.
        host: The address to listen at. Whoever reaches it may do all that the other arguments allow.
        port: The port; None for the usual one, or any that is free.
        title: What the pages are called.
        tenant: Whose events are shown, where tenants share the tables.
        personal_data: Whether personal data is shown as it is.
        actions: Whether there are actions.
        announce: Called with the address when it listens.
        source_link: The form of the address of a line of source; None for no links.
        other_code: Code by which streams may be replayed; None for none.

    Raises:
        OSError: The address or the port cannot be had.
    """
    access = Access(tenants=() if tenant is None else (tenant,), personal_data=personal_data, actions=actions, other_code=True)
    app: ASGIApp = Browser(
        base,
        engine,
        authorize=lambda _request: access,
        actions=actions,
        title=title,
        source_link=source_link,
        other_code=other_code,
    )
    if host in _OWN_NAMES:  # else a page of another site could read it, by a name that it has point here
        app = TrustedHostMiddleware(app, allowed_hosts=list(_OWN_NAMES))
    with _listen(host, port) as listener:
        announce(f"http://{host}:{listener.getsockname()[1]}/")
        with suppress(KeyboardInterrupt):  # with which uvicorn ends, once it has ended all else
            uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run(sockets=[listener])


def _listen(host: str, port: int | None) -> socket.socket:
    if port is not None:
        return socket.create_server((host, port))
    try:
        return socket.create_server((host, USUAL_PORT))
    except OSError:
        return socket.create_server((host, 0))
