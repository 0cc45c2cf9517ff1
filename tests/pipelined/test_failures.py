"""Each failure as it is on SQLAlchemy's own dialect: the same error with the same fields, and the same rows afterwards."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError
from sqlalchemy.orm import Session

from tests.bank import Deposited, Opened
from tests.pipelined.accounts import Account, Audited, Note, Remark, Vault, Wallet
from tests.pipelined.outcomes import described, in_general, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.databases import DatabasePool

Scenario: TypeAlias = "Callable[[Engine, Session], None]"
ID = UUID("01952f00-0000-7000-8000-000000000001")
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _store(engine: Engine, *aggregates: Any) -> None:
    with Session(engine) as session:
        session.add_all(aggregates)
        session.commit()


def _deposit_elsewhere(engine: Engine, kind: Any, key: str, amount: int = 1) -> None:
    with Session(engine) as session:
        session.get_one(kind, key).deposit(amount)
        session.commit()


def _change(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def _with_id(key: str, amount: int = 1) -> Account:
    account = Account(id=key)
    account.apply_event(Opened(owner="ann"))
    account.apply_event(Deposited(amount=amount), event_id=ID)
    return account


def _repeatable() -> Account:
    account = Account(id="a-1")
    account.apply_event(Opened(owner="ann"), event_id=ID, occurred_at=MOMENT)
    return account


def _a_new_one_that_is_there(engine: Engine, session: Session) -> None:
    _store(engine, Account.open("a-1"))
    session.add(Account.open("a-1", owner="bob"))
    session.commit()


def _a_change_of_what_has_moved_on(engine: Engine, session: Session) -> None:
    _store(engine, Account.open("a-1"))
    account = session.get_one(Account, "a-1")
    _deposit_elsewhere(engine, Account, "a-1")
    account.deposit(5)
    session.commit()


def _one_of_several_has_moved_on(engine: Engine, session: Session) -> None:
    _store(engine, Account.open("a-1"), Wallet.open("w-1"), Vault.open("v-1"))
    loaded = [session.get_one(kind, key) for kind, key in ((Account, "a-1"), (Wallet, "w-1"), (Vault, "v-1"))]
    for each in loaded:
        each.deposit()
    session.add(Account.open("a-2"))
    _deposit_elsewhere(engine, Wallet, "w-1")
    session.commit()


def _a_hole(engine: Engine, session: Session) -> None:
    _store(engine, Account.open("a-1"))
    account = session.get_one(Account, "a-1")
    _change(engine, "SET LOCAL session_replication_role = replica; DELETE FROM events")
    account.deposit()
    session.commit()


def _the_same_events_again(engine: Engine, session: Session) -> None:
    _store(engine, _repeatable())
    session.add(_repeatable())
    session.commit()


def _an_id_that_another_event_has(engine: Engine, session: Session) -> None:
    _store(engine, _with_id("a-1"))
    session.add(_with_id("a-2", 7))
    session.commit()


def _two_of_one(_engine: Engine, session: Session) -> None:
    session.add_all([Account.open("a-1"), Account.open("a-1")])
    session.commit()


def _what_the_transaction_has_written_itself(_engine: Engine, session: Session) -> None:
    session.add(Account.open("a-1"))
    session.flush()
    session.expunge_all()
    session.add(Account.open("a-1"))
    session.commit()


def _a_new_one_beside_the_loaded(engine: Engine, session: Session) -> None:
    _store(engine, Account.open("a-1"))
    _loaded = session.get_one(Account, "a-1")
    session.add(Account.open("a-1"))
    session.commit()


def _a_model_that_refuses(_engine: Engine, session: Session) -> None:
    session.add(account := Account.open("a-1"))
    account.deposit(1000)
    session.commit()


def _a_model_that_refuses_a_change(engine: Engine, session: Session) -> None:
    _store(engine, Account.open("a-1"))
    session.get_one(Account, "a-1").deposit(1000)
    session.commit()


def _a_model_that_refuses_before_another(engine: Engine, session: Session) -> None:
    _change(engine, "ALTER TABLE projections ADD CHECK (data->>'owner' <> 'bob')")
    session.add(account := Account.open("a-1", owner="bob"))
    account.deposit(10)
    session.commit()


def _a_handler_that_raises(_engine: Engine, session: Session) -> None:
    session.add_all([Account.open("a-1"), Audited.open("b-1", owner="nobody")])
    session.commit()


def _a_handler_behind_a_refused_append(engine: Engine, session: Session) -> None:
    _store(engine, Audited.open("b-1"))
    session.add(Audited.open("b-1"))
    session.commit()


def _a_snapshot_behind_a_refused_append(engine: Engine, session: Session) -> None:
    _store(engine, Vault.open("v-1"))
    vault = session.get_one(Vault, "v-1")
    _deposit_elsewhere(engine, Vault, "v-1")
    vault.deposit()
    vault.deposit()
    session.commit()


def _a_snapshot_that_is_refused(engine: Engine, session: Session) -> None:
    _change(engine, "ALTER TABLE snapshots ADD CHECK (version > 3)")
    session.add(vault := Vault.open("v-1"))
    vault.deposit()
    vault.deposit()
    session.commit()


def _a_log_that_refuses(engine: Engine, session: Session) -> None:
    _change(engine, "ALTER TABLE events ADD CHECK (event_type <> 'bank.Deposited')")
    session.add(account := Account.open("a-1"))
    account.deposit()
    session.commit()


def _a_trigger_that_skips(engine: Engine, session: Session) -> None:
    _change(engine, "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    _change(
        engine, "CREATE TRIGGER skip BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.aggregate_id = 'a-1') EXECUTE FUNCTION skip()"
    )
    session.add(Account.open("a-1"))
    session.commit()


def _a_row_that_is_refused(engine: Engine, session: Session) -> None:
    _store(engine, Note(id="n-1", text="one"))
    session.add_all([Account.open("a-1"), Note(id="n-1", text="two")])
    session.commit()


def _what_only_the_commit_checks(_engine: Engine, session: Session) -> None:
    session.add(Remark(note_id="nowhere"))
    session.flush()
    session.add(Account.open("a-1"))
    session.commit()


def _a_flush(engine: Engine, session: Session) -> None:
    _store(engine, Account.open("a-1"))
    session.add(Account.open("a-1"))
    session.flush()


def _an_autoflush(engine: Engine, session: Session) -> None:
    _store(engine, Account.open("a-1"))
    session.add(Account.open("a-1"))
    session.get(Note, "n-1")
    session.scalars(text("SELECT id FROM pipelined_notes"))
    session.query(Note).all()


def _in_a_savepoint(engine: Engine, session: Session) -> None:
    _store(engine, Account.open("a-1"))
    session.add(Note(id="n-1", text="before"))
    with suppress(Exception), session.begin_nested():
        session.add(Account.open("a-1"))
    session.add(Account.open("a-2"))
    with session.begin_nested():
        session.add(Account.open("a-3"))
    session.commit()
    session.add(Account.open("a-2"))
    session.commit()


def _at(level: str) -> Scenario:
    def scenario(engine: Engine, session: Session) -> None:
        _store(engine, Account.open("a-1"))
        session.connection(execution_options={"isolation_level": level})
        account = session.get_one(Account, "a-1")
        _deposit_elsewhere(engine, Account, "a-1")
        account.deposit(5)
        session.commit()

    scenario.__name__ = f"at_{level.lower().replace(' ', '_')}"
    return scenario


def _at_serializable_at_the_commit(engine: Engine, session: Session) -> None:
    """Each reads what the other writes: one of them cannot have been first."""
    session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
    session.scalars(text("SELECT id FROM pipelined_notes")).all()
    with Session(engine) as other:
        other.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        other.scalars(text("SELECT count(*) FROM pipelined_remarks")).all()
        other.execute(text("INSERT INTO pipelined_notes VALUES ('n-1', 'one')"))
        session.execute(text("INSERT INTO pipelined_remarks VALUES (1, NULL)"))
        other.commit()
    session.add(Account.open("a-1"))
    session.commit()


def _behind_a_lock(engine: Engine, session: Session) -> None:
    session.execute(text("SET LOCAL lock_timeout = '20ms'"))
    session.add(Account.open("a-1"))
    with engine.begin() as other:
        other.execute(text("LOCK TABLE projections"))
        session.commit()


def _for_too_long(engine: Engine, session: Session) -> None:
    session.execute(text("SET LOCAL statement_timeout = '20ms'"))
    session.add(Account.open("a-1"))
    with engine.begin() as other:
        other.execute(text("LOCK TABLE events"))
        session.commit()


def _in_a_transaction_that_has_failed(_engine: Engine, session: Session) -> None:
    with suppress(Exception):
        session.connection().execute(text("SELECT 1 / 0"))
    session.add(Account.open("a-1"))
    session.commit()


def _read_only(_engine: Engine, session: Session) -> None:
    session.connection(execution_options={"postgresql_readonly": True})
    session.add(Account.open("a-1"))
    session.commit()


def _in_autocommit(_engine: Engine, session: Session) -> None:
    session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    session.add(Account.open("a-1"))
    session.commit()


def _nothing_that_fails(engine: Engine, session: Session) -> None:
    session.add(account := Account.open("a-1"))
    account.deposit(3)
    session.commit()
    account.deposit(4)
    session.commit()
    _deposit_elsewhere(engine, Account, "a-1", 5)
    account.deposit(6)
    session.commit()


SCENARIOS: list[tuple[Scenario, str]] = [
    (_a_new_one_that_is_there, "ConcurrencyError"),
    (_a_change_of_what_has_moved_on, "ConcurrencyError"),
    (_one_of_several_has_moved_on, "ConcurrencyError"),
    (_a_hole, "ConcurrencyError"),
    (_the_same_events_again, "EventAlreadyAppendedError"),
    (_an_id_that_another_event_has, "EventIdConflictError"),
    (_two_of_one, "DuplicateAggregateError"),
    (_what_the_transaction_has_written_itself, "DuplicateAggregateError"),
    (_a_new_one_beside_the_loaded, "ConcurrencyError"),
    (_a_model_that_refuses, "ReadModelError"),
    (_a_model_that_refuses_a_change, "ReadModelError"),
    (_a_model_that_refuses_before_another, "ReadModelError"),
    (_a_handler_that_raises, "ReadModelError"),
    (_a_handler_behind_a_refused_append, "ConcurrencyError"),
    (_a_snapshot_behind_a_refused_append, "ConcurrencyError"),
    (_a_snapshot_that_is_refused, "IntegrityError"),
    (_a_log_that_refuses, "IntegrityError"),
    (_a_trigger_that_skips, "ConcurrencyError"),
    (_a_row_that_is_refused, "IntegrityError"),
    (_what_only_the_commit_checks, "IntegrityError"),
    (_a_flush, "ConcurrencyError"),
    (_an_autoflush, "ConcurrencyError"),
    (_in_a_savepoint, "ConcurrencyError"),
    (_at("REPEATABLE READ"), "ConcurrencyError"),
    (_at("SERIALIZABLE"), "ConcurrencyError"),
    (_at_serializable_at_the_commit, "OperationalError"),
    (_behind_a_lock, "OperationalError"),
    (_for_too_long, "OperationalError"),
    (_in_a_transaction_that_has_failed, "InternalError"),
    (_read_only, "InternalError"),
    (_in_autocommit, "AutocommitError"),
]


_UNMET = 'insert or update on table "pipelined_remarks" violates foreign key constraint "pipelined_remarks_note_id_fkey"'
_SAID_OTHERWISE: dict[Scenario, tuple[str, str]] = {
    # The INSERT is inside a SELECT that counts what it has inserted.
    _read_only: ("cannot execute SELECT in a read-only transaction", "cannot execute INSERT in a read-only transaction"),
    # The flush has failed, where otherwise the transaction is "in prepared state": a rollback is wanted either way.
    _what_only_the_commit_checks: (_UNMET, _UNMET),
}


@pytest.fixture
def engines(postgres_databases: DatabasePool, tables: Any) -> Iterator[tuple[Engine, Engine]]:
    """Engines of the plain and of the pipelined dialect, each with a database of its own."""
    with postgres_databases.database(tables) as one, postgres_databases.database(tables) as other:
        plain = create_engine(one.replace("psycopg_pipelined", "psycopg"))
        pipelined = create_engine(other.replace("psycopg_pipelined", "psycopg").replace("+psycopg", "+psycopg_pipelined"))
        yield plain, pipelined
        plain.dispose()
        pipelined.dispose()


def _outcome(engine: Engine, scenario: Scenario) -> dict[str, Any]:
    with Session(engine) as session:
        error: Exception | None = None
        try:
            scenario(engine, session)
        except Exception as raised:
            error = raised
        found: dict[str, Any] = {"error": None if error is None else described(error), "stored": stored(engine)}
        if error is not None:
            found["goes on"] = _goes_on(session)
            session.rollback()
            session.add(Account.open("afterwards"))
            session.commit()
            found["afterwards"] = stored(engine)["events"]
        return found


def _goes_on(session: Session) -> str | None:
    """Use a session without a rollback: what it is told."""
    try:
        session.execute(text("SELECT 1"))
    except PendingRollbackError as error:
        return in_general(str(error))
    except InvalidRequestError as error:
        return type(error).__name__
    except Exception as error:
        return type(error).__name__
    return None


@pytest.mark.parametrize(("scenario", "error"), SCENARIOS, ids=[scenario.__name__.strip("_") for scenario, _ in SCENARIOS])
def test_a_failure_is_the_same_as_without_the_pipeline(engines: tuple[Engine, Engine], scenario: Scenario, error: str) -> None:
    plain, pipelined = (_outcome(engine, scenario) for engine in engines)
    assert plain["error"]["class"] == error
    if scenario in _SAID_OTHERWISE:
        assert pipelined.pop("goes on") is not None
        assert plain.pop("goes on") is not None
        said = pipelined["error"].pop("said"), plain["error"].pop("said")
        assert said == _SAID_OTHERWISE[scenario]
    assert pipelined == plain


def test_success_is_the_same_too(engines: tuple[Engine, Engine]) -> None:
    plain, pipelined = (_outcome(engine, _nothing_that_fails) for engine in engines)
    assert plain["error"] is None
    assert pipelined == plain


def test_a_statement_that_was_held_is_named_by_its_error(pipelined: Engine) -> None:
    _change(pipelined, "ALTER TABLE events ADD CHECK (event_type <> 'bank.Deposited')")
    with Session(pipelined) as session:
        session.add(account := Account.open("a-1"))
        account.deposit(17)
        with pytest.raises(Exception, match="check constraint") as caught:
            session.commit()
        error: Any = caught.value
        assert "INSERT INTO events" in error.statement
        assert "17" in str(error.params)
        assert error.orig.sqlstate == "23514"
