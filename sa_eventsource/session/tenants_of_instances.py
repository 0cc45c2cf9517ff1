"""Whose an instance is: what one tenant's session has loaded or written goes into no other tenant's.

It is noted in ``InstanceState.info``, which outlives expiring, detaching, ``make_transient()``, copies and pickles. Sessions of
applications without tenants do not come by here: who calls looks for the note, or for what a session holds, without a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import UnboundExecutionError

from sa_eventsource.aggregates import AggregateRoot, definition_of, identity_of
from sa_eventsource.exceptions import TenantChangedError
from sa_eventsource.mapping import TENANT_SETTING
from sa_eventsource.session.sqlalchemy_internals import check_answers
from sa_eventsource.store import HELD, hold_for, require_same_tenant, tenant_in_force

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import InstanceState, QueryContext, Session

_NOTE = TENANT_SETTING
"""Key of ``InstanceState.info``: the tenant."""


def note_tenant(session: Session, state: InstanceState[Any]) -> None:
    """Note whose an instance is that a session with :data:`HELD` has loaded or written.

    Raises:
        TenantChangedError: It is another tenant's.
    """
    tenant = session.__dict__[HELD].tenant
    if tenant is not None:
        before = state.info.setdefault(_NOTE, tenant)
        if before != tenant:
            raise _refusal(state, before, tenant)


def note_written(session: Session, states: Iterable[InstanceState[Any]]) -> None:
    """Do so with aggregates that are about to be written, where tenants share their log.

    Raises:
        TenantChangedError: One is another tenant's.
    """
    for state in states:
        if definition_of(state.class_).tables.options.tenants:
            note_tenant(session, state)


def forget_tenant(state: InstanceState[Any]) -> None:
    """Let an instance be nobody's again: nothing of it is stored."""
    state.info.pop(_NOTE, None)


def note_rows(kind: type[Any]) -> None:
    """Have it noted whose the rows of a class are, which is mapped to a table that tenants share."""
    event.listen(kind, "load", _note_row, raw=True)


def _note_row(state: InstanceState[Any], context: QueryContext | None) -> None:
    if context is not None and HELD in context.session.__dict__:  # None: session.merge() has made it
        note_tenant(context.session, state)


def take_in(session: Session, state: InstanceState[Any]) -> None:
    """Refuse an instance with a note that comes into another tenant's session; one that is nobody's yet becomes its tenant's.

    Raises:
        TenantChangedError: The session is another tenant's.
    """
    before = state.info.get(_NOTE)
    if before is None:
        return
    try:
        tenant = tenant_in_force(session, {"mapper": state.mapper})
    except UnboundExecutionError:
        tenant = None
    if tenant is None and HELD in session.__dict__ and len(session.identity_map):
        tenant = session.__dict__[HELD].tenant
    if tenant is None:
        hold_for(session, before)
    elif tenant != before:
        raise _refusal(state, before, tenant)


def watch(session: Session) -> None:
    """Have the identity map of a tenant's session answer for no other tenant."""
    check_answers(session, _check_answer)


def check_session(session: Session) -> None:
    """Refuse a session with :data:`HELD` where another tenant was named in the middle of its transaction."""
    require_same_tenant(session)
    watch(session)  # session.expunge_all() begins another map


def _check_answer(session: Session, mapped_class: type[Any]) -> None:
    held, tenant = session.__dict__[HELD].tenant, tenant_in_force(session, {"mapper": mapped_class})
    if held not in (None, tenant):
        raise TenantChangedError(held, tenant)


def _refusal(state: InstanceState[Any], before: str, tenant: str | None) -> TenantChangedError:
    instance = state.obj()
    if isinstance(instance, AggregateRoot):
        definition = definition_of(type(instance))
        name, key = definition.aggregate_type, definition.text_id(identity_of(instance))
    else:
        identity = () if state.key is None else state.key[1]
        name, key = state.class_.__name__, ", ".join(map(str, identity))
    return TenantChangedError(before, tenant, aggregate_type=name, aggregate_id=key)
