"""Actions are taken from the browser's own pages only: another site's page could send the same form with the reader's cookies.

Two things are asked of a request. It must bring the token of its cookie in the form too: another site can send the cookie, but
neither read nor set it. And where the web browser says where a request came from (``Sec-Fetch-Site``), it must be from here.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

COOKIE = "sa_eventsource_token"
FIELD = "token"
_BYTES = 32
_LONGEST_FORM = 65_536


def token_of(request: Request) -> str:
    """Get the token for the forms of a page: that of the reader's cookie, or a new one."""
    kept: str | None = request.scope.get(COOKIE)
    if kept is None:
        kept = request.cookies.get(COOKIE) or secrets.token_urlsafe(_BYTES)
        request.scope[COOKIE] = kept
    return kept


def keep_token(request: Request, response: Response, path: str) -> None:
    """Have the reader keep the token that a page's forms have."""
    token = request.scope.get(COOKIE)
    if token is not None and token != request.cookies.get(COOKIE):
        is_secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, path=path, secure=is_secure, httponly=True, samesite="strict")


async def read_form(request: Request) -> dict[str, str]:
    """Read the form of an action, and make sure that it is one of ours.

    Raises:
        HTTPException: It is not, or too long, or no form.
    """
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403, "This came from another site, and was not done.")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "An action is sent as a form.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            raise HTTPException(413, "The form is too long.")
    try:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body)))
    except ValueError:
        raise HTTPException(400, "The form cannot be read.") from None
    cookie = request.cookies.get(COOKIE, "")
    if not cookie or not secrets.compare_digest(form.pop(FIELD, "").encode(), cookie.encode()):
        raise HTTPException(403, "The form is no longer valid, and nothing was done. Go back, reload the page, and send it again.")
    return form
