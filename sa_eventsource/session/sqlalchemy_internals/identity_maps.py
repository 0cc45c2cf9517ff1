"""Who may be asked before a session's identity map answers, which no event of SQLAlchemy comes before."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session


def check_answers(session: Session, check: Callable[[Session, type[Any]], None]) -> None:
    """Have *check* called, which may raise, before the identity map gives an instance to ``session.get`` or a relationship.

    Args:
        session: The session. Its map lasts until ``expunge_all()`` or ``close()``.
        check: Takes the session and the mapped class. It is called for a row whose instance the map has, too.
    """
    identity_map: Any = session.identity_map
    if not hasattr(identity_map, "_sa_eventsource_session"):
        kind: Any = type(identity_map)
        identity_map.__class__ = _checked(kind, check)
        identity_map._sa_eventsource_session = ref(session)  # noqa: SLF001 - our own


@cache
def _checked(kind: Any, check: Callable[[Session, type[Any]], None]) -> type[Any]:
    find = kind.get  # looked up once: it is called for each row

    def get(self: Any, key: Any, default: Any = None) -> Any:
        """Get an instance, unless it is not to be given."""
        found = find(self, key, default)
        if found is not None:
            session = self._sa_eventsource_session()
            if session is not None:
                check(session, key[0])
        return found

    return type("_CheckedIdentityMap", (kind,), {"get": get})
