"""Addresses of pages, as paths from the root: they hold wherever the browser is mounted, and behind a proxy that names its path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute


class Addresses:
    """The addresses of pages, for one request.

    Attributes:
        here: The name of the address that is asked for; empty for none that is there.
    """

    def __init__(self, request: Request, routes: Sequence[BaseRoute], here: str = "") -> None:
        """Take the request, which says where the browser is mounted."""
        self._prefix = quote(request.scope.get("root_path", "").rstrip("/"))
        self._routes: Mapping[str, Route] = {each.name: each for each in routes if isinstance(each, Route)}
        self.here = here

    @property
    def root(self) -> str:
        """The path that the browser is mounted at, with a slash at its end."""
        return f"{self._prefix}/"

    def to(self, name: str, /, **values: Any) -> str:
        """Give the address of a page.

        Args:
            name: The name of its :class:`~sa_eventsource.browser.page.Address`.
            **values: Parameters of its path; others go into the query, except for those that are None. A list gives several.
        """
        route = self._routes[name]
        of_path = {key: values[key] for key in route.param_convertors}
        path = str(route.url_path_for(name, **of_path))
        pairs = [(key, str(each)) for key, value in values.items() if key not in of_path for each in _each(value)]
        query = urlencode(pairs)
        return f"{self._prefix}{path}{query and '?'}{query}"

    def static(self, name: str, version: str) -> str:
        """Give the address of a file that the wheel brings; a new version of the library has another one."""
        return f"{self._prefix}/static/{quote(name)}?{urlencode({'v': version})}"


def _each(value: Any) -> list[Any]:
    """List the values of a parameter: none for None and an empty text, and each of a list."""
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None or value == "" else [value]
