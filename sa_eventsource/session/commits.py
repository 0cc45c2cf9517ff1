"""What a session has committed last, as a token that others can wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.mapping import check_any_session
from sa_eventsource.session import written_events

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy.orm import Session, SessionTransaction

_COMMITTED = "sa_eventsource.committed"
_TOLD = "sa_eventsource.to_be_told"

_listeners: list[Callable[[Session, UUID], None]] = []


def commit_token(session: Any) -> UUID | None:
    """Get the token of the last commit of a session that wrote events; None if there was none.

    It is the id of the commit's last event, and may travel, as text, in an HTTP header: ``wait_for`` takes it anywhere.

    Args:
        session: The ``Session`` or ``AsyncSession``.
    """
    check_any_session("commit_token()", session)
    token: UUID | None = session.info.get(_COMMITTED)
    return token


def on_committed(listener: Callable[[Session, UUID], None]) -> Callable[[Session, UUID], None]:
    """Have *listener* called after each commit that wrote events, with the session and the commit's token."""
    _listeners.append(listener)
    return listener


def after_commit(session: Session) -> None:
    """Settle what the transaction wrote, and keep the token of its last event."""
    token = written_events.settle(session)
    if token is not None:
        session.info[_COMMITTED] = session.info[_TOLD] = token


def after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    """Notify the listeners. What one of them raises within ``after_commit`` would leave the session unusable; here it is done."""
    token = session.info.pop(_TOLD, None) if transaction.parent is None else None
    if token is not None:
        for listener in _listeners:
            listener(session, token)
