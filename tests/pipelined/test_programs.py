"""Whatever a program does with two sessions, both dialects give the same answers and store the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import event as seen
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

from tests.pipelined.accounts import Account, Audited, Balance, Base, Note, Vault, Wallet
from tests.pipelined.outcomes import described, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KINDS: dict[str, Any] = {"account": Account, "wallet": Wallet, "vault": Vault, "audited": Audited}

_keys = st.sampled_from(["1", "2"])
_kinds = st.sampled_from(sorted(_KINDS))
_step = st.one_of(
    st.tuples(st.just("open"), _kinds, _keys, st.sampled_from(["ann", "nobody"])),
    st.tuples(st.just("deposit"), _kinds, _keys, st.sampled_from([1, 2, 1000])),
    st.tuples(st.just("note"), _keys),
    st.tuples(st.just("flush")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("rollback")),
    st.tuples(st.just("begin_nested")),
    st.tuples(st.just("release")),
    st.tuples(st.just("undo")),
    st.tuples(st.just("query")),
    st.tuples(st.just("expunge")),
)
_programs = st.lists(st.tuples(st.sampled_from([0, 1]), _step), min_size=4, max_size=14)


@pytest.fixture
def engines(postgres_engine: Engine) -> Iterator[tuple[Engine, Engine]]:
    """Engines of both dialects; nobody waits for long on what another session has not committed."""
    url = postgres_engine.url
    options: dict[str, Any] = {"connect_args": {"options": "-c lock_timeout=20ms"}}
    pair = (
        create_engine(url.set(drivername="postgresql+psycopg"), **options),
        create_engine(url.set(drivername="postgresql+psycopg_pipelined"), **options),
    )
    yield pair
    for each in pair:
        each.dispose()


def _open(session: Session, kind: str, key: str, owner: str) -> None:
    session.add(_KINDS[kind].open(f"{kind}-{key}", owner=owner))


def _deposit(session: Session, kind: str, key: str, amount: int) -> int:
    found = session.get(_KINDS[kind], f"{kind}-{key}")
    if found is None:
        return -1
    found.deposit(amount)
    balance: int = found.balance
    return balance


def _note(session: Session, key: str) -> None:
    session.add(Note(id=key, text="text"))


def _query(session: Session) -> Any:
    balances = session.execute(select(Balance.id, Balance.total).order_by(Balance.id)).all()
    events = session.scalar(text("SELECT count(*) FROM events"))
    return [tuple(each) for each in balances], events, sorted(each.id for each in session.scalars(select(Wallet)))


def _release(session: Session) -> None:
    nested = session.get_nested_transaction()
    if nested is not None:
        nested.commit()


def _undo(session: Session) -> None:
    nested = session.get_nested_transaction()
    if nested is not None:
        nested.rollback()


_DO: dict[str, Callable[..., Any]] = {
    "open": _open,
    "deposit": _deposit,
    "note": _note,
    "flush": Session.flush,
    "commit": Session.commit,
    "rollback": Session.rollback,
    "begin_nested": lambda session: session.begin_nested() and None,
    "release": _release,
    "undo": _undo,
    "query": _query,
    "expunge": Session.expunge_all,
}


def _run(engine: Engine, program: list[tuple[int, tuple[Any, ...]]], *, is_pipelined: bool) -> list[Any]:
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    found: list[Any] = []
    with Session(engine) as one, Session(engine) as other:
        sessions = one, other
        for which, (name, *arguments) in program:
            try:
                found.append((name, _DO[name](sessions[which], *arguments)))
            except Exception as error:
                found.append((name, _told(error)))
                if is_pipelined:
                    seen(f"{name}: {type(error).__name__}")
                sessions[which].rollback()
            found.append((one.in_transaction(), other.in_transaction(), len(one.identity_map), len(other.identity_map)))
    found.append(stored(engine))
    return found


def _told(error: Exception) -> dict[str, Any]:
    described_ = described(error)
    return {
        name: described_.get(name) for name in ("class", "sqlstate", "aggregate_id", "expected_version", "actual_version", "model")
    }


@given(program=_programs)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_program_runs_as_without_the_pipeline(engines: tuple[Engine, Engine], program: list[Any]) -> None:
    plain, pipelined = (_run(engine, program, is_pipelined=number == 1) for number, engine in enumerate(engines))
    assert pipelined == plain
