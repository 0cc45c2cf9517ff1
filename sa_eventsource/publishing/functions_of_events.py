"""What an application gives as a function of an event: of the event alone, or, where tenants share the log, of its tenant too."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

OfEvent: TypeAlias = "Callable[..., T]"
"""Called with the event, and by name with the ``tenant`` where it has such a parameter."""

_TENANT = "tenant"


def with_tenant(function: OfEvent[T]) -> Callable[[Any, str | None], T]:
    """Give a function of event and tenant, whether or not the application's own has a parameter of that name."""
    if not _takes_tenant(function):
        return lambda recorded, _tenant: function(recorded)
    return lambda recorded, tenant: function(recorded, tenant=tenant)


def _takes_tenant(function: Callable[..., Any]) -> bool:
    try:
        parameter = inspect.signature(function).parameters.get(_TENANT)
    except (TypeError, ValueError):  # of a builtin, nobody knows the parameters
        return False
    return parameter is not None and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
