"""Judges what follows from the log when all is over: rows, states, and that nobody can change the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sa_eventsource.event_log import EventStore
from sa_eventsource.exceptions import EventSourceError
from sa_eventsource.mapping import TableStatement, tables_of_base
from sa_eventsource.read_models import fold
from sa_eventsource.selftest.inspection import rows_of
from sa_eventsource.selftest.subjects import Account, Balances, Base, Corrected, Handled, Places, Trails, Turnover
from sa_eventsource.selftest.verdicts import Verdict
from sa_eventsource.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.sql import Executable

    from sa_eventsource.selftest.evidence import Evidence

_STATES = ("entries", "total", "last_mark", "version")
_AT_ONCE = 500


def judge_states(engine: Engine, evidence: Evidence) -> list[Verdict]:
    """Rule on what is guaranteed of read models, states, and the log's immutability.

    Args:
        engine: Of the schema, where nobody is at work any more.
        evidence: What is known of the run.
    """
    with Session(engine) as session:
        strong = _found(lambda: _rows(session, Balances, Turnover))
        eventual = _found(lambda: _rows(session, Trails, Places))
        handled = _handled_rows(session, evidence)
        states = _found(lambda: _states(session))
    return [
        Verdict.of(
            "strong",
            "Strong models equal the log at every commit",
            evidence.inspected + strong[0],
            "rows",
            [*evidence.inconsistencies, *strong[1]],
        ),
        Verdict.of(
            "eventual",
            "Eventual models equal the fold of the log in the end",
            eventual[0] + handled[0],
            "rows",
            [*eventual[1], *handled[1]],
        ),
        Verdict.of(
            "snapshots", "A state from a snapshot equals the state from all events", states[0], "streams with a snapshot", states[1]
        ),
        _verified(engine),
        _immutable(engine),
    ]


def _found(check: Callable[[], tuple[int, list[str]]]) -> tuple[int, list[str]]:
    """Check; what cannot be read for it is what was found."""
    try:
        return check()
    except EventSourceError as error:
        return 1, [f"{type(error).__name__}: {error}"]


def _rows(session: Session, *models: type[Any]) -> tuple[int, list[str]]:
    """Compare the rows of declared models with what their declarations mean."""
    events = EventStore(session, Base).events.all()
    compared, problems = 0, list[str]()
    for model in models:
        stored, folded = rows_of(session, model), fold(model, events)
        keys = stored.keys() | folded.keys()
        compared += len(keys)
        problems += [
            f"{model.__name__.lower()} has {stored.get(key)}, and the log makes {folded.get(key)}"
            for key in sorted(keys)
            if stored.get(key) != folded.get(key)
        ]
    return compared, problems


def _handled_rows(session: Session, evidence: Evidence) -> tuple[int, list[str]]:
    """Compare the rows that a handler wrote with sums over the log."""
    sums: dict[str, tuple[int, int, str]] = {}
    for each in evidence.events:
        entries, total, _ = sums.get(each.aggregate_id, (0, 0, ""))
        amount = -each.amount if each.event_type == Corrected.__event_type__ else each.amount
        sums[each.aggregate_id] = (entries + 1, total + amount, each.mark)
    columns = select(Handled.subject, Handled.entries, Handled.total, Handled.last_mark)
    stored = {subject: (entries, total, last) for subject, entries, total, last in session.execute(columns)}
    keys = sorted(stored.keys() | sums.keys())
    return len(keys), [
        f"handled has {stored.get(key)} of {key}, and the log makes {sums.get(key)}"
        for key in keys
        if stored.get(key) != sums.get(key)
    ]


def _states(session: Session) -> tuple[int, list[str]]:
    """Load what has snapshots with them; load it again where they are gone; keep them."""
    snapshots = tables_of_base("Selftest", Base).snapshots
    ids = list(session.scalars(select(snapshots.c.aggregate_id).order_by(snapshots.c.aggregate_id)))
    problems: list[str] = []
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        with_snapshots = _load(session, some)
        session.execute(delete(snapshots).where(snapshots.c.aggregate_id.in_(some)))
        from_events = _load(session, some)
        session.rollback()
        problems += [
            f"{each} is {with_snapshots.get(each)} with its snapshot, and {from_events.get(each)} by its events"
            for each in some
            if with_snapshots.get(each) != from_events.get(each)
        ]
    return len(ids), problems


def _load(session: Session, ids: list[str]) -> dict[str, tuple[Any, ...]]:
    session.expunge_all()
    return {
        each.id: tuple(getattr(each, name) for name in _STATES)
        for each in session.scalars(select(Account).where(Account.id.in_(ids)))
    }


def _verified(engine: Engine) -> Verdict:
    found = verify(engine, Base)
    compared = found.snapshots + sum(found.rows.values())
    return Verdict.of(
        "verify",
        "verify() finds nothing",
        compared,
        "rows and snapshots",
        (str(each) for each in found.findings if not each.is_warning),
    )


def _immutable(engine: Engine) -> Verdict:
    events = tables_of_base("Selftest", Base).events
    changes: dict[str, Executable] = {
        "UPDATE": update(events).values(event_type="changed"),
        "DELETE": delete(events),
        "TRUNCATE": TableStatement(events, lambda names: f"TRUNCATE {names.table}"),
    }

    def wrong() -> Iterator[str]:
        for name, change in changes.items():
            with engine.connect() as connection:
                refusal = _refusal(connection, change)
                connection.rollback()
            if refusal is None:
                yield f"{name} of the events was not refused (it was rolled back)"
            elif "immutable" not in refusal:
                yield f"{name} of the events failed, but not because they are immutable: {refusal}"

    with engine.connect() as connection:
        is_empty = connection.execute(select(events.c.position).limit(1)).first() is None
    return Verdict.of(
        "immutable", "The database refuses to change or delete events", 0 if is_empty else len(changes), "attempts", wrong()
    )


def _refusal(connection: Connection, change: Executable) -> str | None:
    try:
        connection.execute(change)
    except DBAPIError as error:
        return str(error.orig)
    return None
