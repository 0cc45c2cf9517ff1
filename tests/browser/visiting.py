"""Asking a browser for pages, without a server."""

from __future__ import annotations

import asyncio
import html
import re
from typing import Any

from httpx import ASGITransport, AsyncClient, Response

from sa_eventsource.browser import Browser, everyone


def visit(app: Any, path: str, *, method: str = "GET", root_path: str = "", **options: Any) -> Response:
    """Send one request; what a page raises is answered as a server would."""

    async def ask() -> Response:
        transport = ASGITransport(app, raise_app_exceptions=False, root_path=root_path)
        async with AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **options)

    return asyncio.run(ask())


def browser_of(base: Any, database: Any, **options: Any) -> Browser:
    """Make a browser that lets everyone look."""
    return Browser(base, database, **{"authorize": everyone, **options})


def send(app: Any, path: str, *, page: str = "/log", **fields: str) -> Response:
    """Send a form with the token that a page gives, which has forms."""
    token = re.findall(r"sa_eventsource_token=([^;]+)", visit(app, page).headers["set-cookie"])[0]
    headers = {"Cookie": f"sa_eventsource_token={token}"}
    return visit(app, path, method="POST", data={"token": token, **fields}, headers=headers)


def words_of(page: Response) -> str:
    """The text of a page's content, without its tags, with single spaces."""
    content = re.sub(r"<[^>]+>", " ", page.text.partition('id="content"')[2].partition("</main>")[0])
    return re.sub(r"\s+", " ", html.unescape(content))
