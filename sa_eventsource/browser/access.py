"""Who may see what: the application decides, for each request."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from starlette.exceptions import HTTPException

from sa_eventsource.browser.threads import in_thread

if TYPE_CHECKING:
    from starlette.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What somebody may do in the browser.

    Attributes:
        user: Who it is, for the header of the pages and the metadata of what an action writes; None if it does not matter.
        tenants: Whose events they may see, where tenants share the tables; the first is shown first. Without one, nothing is.
        personal_data: Whether they see personal data as it is; otherwise they see its placeholders.
        actions: Whether they may do more than look, where the browser was made with ``actions=True``.
        other_code: Whether they may have streams replayed by other code, where the browser was made with some.
    """

    user: str | None = None
    tenants: Sequence[str] = ()
    personal_data: bool = False
    actions: bool = False
    other_code: bool = False

    def __post_init__(self) -> None:
        """Refuse one text in place of a list of tenants, each of whose letters would be one.

        Raises:
            TypeError: *tenants* is a text.
        """
        if isinstance(self.tenants, str):
            raise TypeError(f"Access(tenants=...) takes a list of tenants, such as [{self.tenants!r}], not a text")


if TYPE_CHECKING:
    Authorize: TypeAlias = Callable[[Request], Awaitable[Access | None] | Access | None]
else:
    Authorize: TypeAlias = Callable[..., Awaitable[Access | None] | Access | None]
"""Says what the sender of a request may do; None for nothing, which is answered with 403.

It may be ``async``; else it is called in a thread. To have somebody sign in, raise Starlette's or FastAPI's ``HTTPException``, such
as ``HTTPException(303, headers={"Location": "/login"})``.
"""


def everyone(request: Request) -> Access:
    """Let everyone look, and change nothing: for a machine of one's own, or where whatever is in front has checked already.

    Personal data is masked. Where tenants share the tables, nothing is shown: name them in an ``authorize`` of your own.
    """
    return Access()


async def admitted(authorize: Authorize, request: Request) -> Access:
    """Ask what the sender of a request may do.

    Raises:
        HTTPException: Nothing.
        TypeError: *authorize* gave neither an ``Access`` nor None.
    """
    if inspect.iscoroutinefunction(authorize) or inspect.iscoroutinefunction(getattr(authorize, "__call__", None)):  # noqa: B004
        found = authorize(request)
    else:
        found = await in_thread(authorize, request)
    access = await found if inspect.isawaitable(found) else found
    if access is None:
        raise HTTPException(403, "You may not see this.")
    if not isinstance(access, Access):
        raise TypeError(f"authorize() must return Access(...), or None to refuse, not {access!r}")
    return access


def chosen_tenant(access: Access, wanted: str | None) -> str:
    """Choose whose events a page shows, where tenants share the tables.

    Raises:
        HTTPException: It is a tenant that they may not see, or they may see none.
    """
    if not access.tenants:
        raise HTTPException(403, "You may see no tenant's events.")
    if wanted is None:
        return access.tenants[0]
    if wanted not in access.tenants:
        raise HTTPException(403, f"You may not see the events of tenant {wanted}.")
    return wanted
