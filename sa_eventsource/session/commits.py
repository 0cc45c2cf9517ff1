"""What a session has committed last, as a token that others can wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from sa_eventsource.store import on_appended

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy.orm import SessionTransaction

    from sa_eventsource.store import Appended

_APPENDED = "sa_eventsource.appended"
_COMMITTED = "sa_eventsource.committed"
_TOLD = "sa_eventsource.to_be_told"

_listeners: list[Callable[[Session, UUID], None]] = []


def listen() -> None:
    """Put the hooks on every session, present and future."""
    event.listen(Session, "after_commit", _after_commit)
    event.listen(Session, "after_soft_rollback", _after_soft_rollback)
    event.listen(Session, "after_transaction_end", _after_transaction_end)


def commit_token(session: Any) -> UUID | None:
    """Get the token of the last commit of a session that wrote events; None if there was none.

    It is the id of the commit's last event, and may travel, as text, in an HTTP header: ``wait_for`` takes it anywhere.

    Args:
        session: The ``Session`` or ``AsyncSession``.
    """
    token: UUID | None = session.info.get(_COMMITTED)
    return token


def on_committed(listener: Callable[[Session, UUID], None]) -> Callable[[Session, UUID], None]:
    """Have *listener* called after each commit that wrote events, with the session and the commit's token."""
    _listeners.append(listener)
    return listener


@on_appended
def _remember(appended: Appended) -> None:
    session = appended.session
    transaction = session.get_nested_transaction() or session.get_transaction()
    last: dict[SessionTransaction | None, UUID] = session.info.setdefault(_APPENDED, {})
    last.pop(transaction, None)
    last[transaction] = appended.streams[-1].events[-1].event_id


def _after_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return
    last: dict[SessionTransaction | None, UUID] = session.info.pop(_APPENDED, {})
    for token in list(last.values())[-1:]:
        session.info[_COMMITTED] = session.info[_TOLD] = token


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    """Tell the listeners. What one of them raises within ``after_commit`` would leave the session unusable; here it is done."""
    token = session.info.pop(_TOLD, None) if transaction.parent is None else None
    if token is not None:
        for listener in _listeners:
            listener(session, token)


def _after_soft_rollback(session: Session, rolled_back: SessionTransaction) -> None:
    """Forget what was appended in the transaction, or in the savepoint and those within it."""
    last: dict[SessionTransaction | None, UUID] = session.info.get(_APPENDED, {})
    for transaction in list(last):
        each = transaction
        while each is not None and each is not rolled_back:
            each = each.parent
        if each is rolled_back or not rolled_back.nested:
            del last[transaction]
