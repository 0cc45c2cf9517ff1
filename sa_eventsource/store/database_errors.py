"""What an error of the database means: one table from SQLSTATE to meaning, for all who have to decide what comes next.

The classes of DB-API say too little: a lost connection, a lock that was not free in time, and a text that is too long for an index
are all ``OperationalError``. PostgreSQL's SQLSTATE says more, and so do the names of SQLite's result codes; the class decides only
where there is neither. https://www.postgresql.org/docs/current/errcodes-appendix.html, https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DataError as SqlDataError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import IntegrityError as SqlIntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sa_eventsource.application_errors import is_loggable, storable, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class Meaning(Enum):
    """What an error says about the attempts to come."""

    SERVER_AWAY = "the database cannot be reached, by anybody: wait for it"
    TRY_LATER = "something stands in the way of this statement, for a while: wait, and let others go on"
    BAD_VALUES = "the values that the statement was given cannot be taken"
    WRONG_STATEMENT = "the statement cannot be carried out, whatever the values"
    GIVE_UP = "no attempt of this program can succeed: end it"


SERIALIZATION_FAILURE = "40001"
DEADLOCK = "40P01"
READ_ONLY = "25006"
UNDEFINED_TABLE = "42P01"
NOT_ALLOWED = "42501"
IDLE_FOR_TOO_LONG = "25P03"
LOCK_NOT_AVAILABLE = "55P03"
CANCELED = "57014"
LASTED_TOO_LONG = "25P04"

_TAKEN_BY_ANOTHER_ROW = frozenset({"23505", "23P01", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"})

_CUT_OFF = frozenset({CANCELED, IDLE_FOR_TOO_LONG, LASTED_TOO_LONG, "SQLITE_INTERRUPT"})

_AWAY, _LATER, _VALUES, _STATEMENT, _END = Meaning

_BY_SQLSTATE = {
    # Classes; the entry of a code takes precedence over that of its class.
    "00": _VALUES,
    "01": _VALUES,
    "02": _VALUES,
    "08": _AWAY,
    "09": _VALUES,  # a trigger's error
    "20": _VALUES,
    "21": _VALUES,
    "22": _VALUES,
    "23": _VALUES,
    "25": _STATEMENT,
    READ_ONLY: _LATER,  # a standby, or a primary that is about to hand over
    "25P02": _VALUES,  # a handler went on after an error of the database
    IDLE_FOR_TOO_LONG: _VALUES,  # a handler kept the transaction idle, or the process was frozen
    "26000": _END,  # the driver's prepared statement is another connection's
    LASTED_TOO_LONG: _VALUES,  # transaction_timeout
    "27": _VALUES,
    "28": _END,  # who we are is not accepted
    "3D": _END,  # there is no such database
    "40": _LATER,
    "40002": _VALUES,  # a constraint that was checked at the commit
    "42": _STATEMENT,
    "42P05": _END,  # as 26000
    "44": _VALUES,
    "53": _LATER,  # no memory, no disk
    "53300": _AWAY,  # too many connections
    "54": _VALUES,  # too long, too many, too deep
    "55": _LATER,  # a lock that was not free in time; an object in use
    "57": _LATER,
    CANCELED: _VALUES,  # statement_timeout, or canceled by hand
    "57P01": _AWAY,
    "57P02": _AWAY,
    "57P03": _AWAY,
    "57P04": _END,  # the database was dropped
    "57P05": _AWAY,
    "58": _LATER,  # input and output
    "72": _LATER,
    "F0": _LATER,
    "HV": _LATER,  # a foreign server
    "P0": _VALUES,  # RAISE in a trigger or a function
    "XX001": _LATER,  # damaged data, a damaged index: for people to mend
    "XX002": _LATER,
}

_BY_SQLITE_NAME = {
    "SQLITE_BUSY": _LATER,
    "SQLITE_CANTOPEN": _AWAY,
    "SQLITE_CONSTRAINT": _VALUES,
    "SQLITE_CORRUPT": _END,
    "SQLITE_FULL": _LATER,
    "SQLITE_INTERRUPT": _VALUES,
    "SQLITE_IOERR": _AWAY,
    "SQLITE_LOCKED": _LATER,
    "SQLITE_MISMATCH": _VALUES,
    "SQLITE_NOMEM": _LATER,
    "SQLITE_NOTADB": _END,
    "SQLITE_PROTOCOL": _LATER,
    "SQLITE_READONLY": _LATER,
    "SQLITE_TOOBIG": _VALUES,
}


_WITHOUT_PREPARED_STATEMENTS = (
    "behind a pooler in transaction mode, have psycopg prepare none: create_engine(url, connect_args={'prepare_threshold': None})"
)
_ADVICE = {
    NOT_ALLOWED: "the role that is connected may not do this; sa-eventsource roles says which role may do what",
    IDLE_FOR_TOO_LONG: "the transaction stood idle for too long; a worker's limits are Pace(longest_idle, longest_call)",
}
"""What to do about it, where the database's words do not lead there."""


def meaning_of(error: BaseException) -> Meaning | None:
    """Look up what an error means; None if it is not one of the database.

    What the table does not list is the statement's: neither an event is blamed for it, nor does anybody else wait.
    """
    if isinstance(error, PoolTimeoutError):
        return Meaning.SERVER_AWAY
    if not isinstance(error, DBAPIError):
        return None
    code = code_of(error)
    if code is None:
        return _by_class(error)
    if code in _UNPREPARED and not _loses_prepared_statements(error):
        return Meaning.WRONG_STATEMENT  # EXECUTE, DEALLOCATE or PREPARE of the application's own
    table, name = (_BY_SQLITE_NAME, _sqlite_family(code)) if code.startswith("SQLITE") else (_BY_SQLSTATE, code[:2])
    return table.get(code, table.get(name, Meaning.WRONG_STATEMENT))


def may_be_of_one_statement(error: BaseException) -> bool:
    """Check whether an error that looks like everybody's may be that of one statement, as of a trigger: another question tells.

    A pooler that loses the driver's prepared statements loses them of all, though not at each question.
    """
    return meaning_of(error) in (Meaning.SERVER_AWAY, Meaning.GIVE_UP) and not _loses_prepared_statements(error)


def is_cut_off(error: BaseException) -> bool:
    """Check whether a limit of time, or somebody by hand, has ended a statement or its transaction."""
    return code_of(error) in _CUT_OFF


def passes(error: BaseException) -> bool:
    """Check whether what hinders a question of the library's own passes by itself, so that whoever asks it is to wait.

    A statement that is cut off is the fault of nobody then: it stood behind a lock, or the server was busy. That of a handler may
    have been too slow by itself. And an ``OSError`` is that of whoever opens connections: ``creator`` of the engine, a hook that
    fetches a token for each, or a driver that passes on what the network raises.
    """
    return meaning_of(error) in (Meaning.SERVER_AWAY, Meaning.TRY_LATER) or is_cut_off(error) or isinstance(error, OSError)


def code_of(error: BaseException) -> str | None:
    """Get PostgreSQL's SQLSTATE, or the name of SQLite's result code; None if the error has none."""
    original: Any = getattr(error, "orig", None)
    for attribute in ("sqlstate", "pgcode", "sqlite_errorname"):
        code = getattr(original, attribute, None)
        if code:
            return str(code)
    return None


def is_refusal(error: BaseException) -> bool:
    """Check whether the database refused a statement or its values: a problem of what was asked, not of when."""
    return meaning_of(error) in (Meaning.BAD_VALUES, Meaning.WRONG_STATEMENT)


def is_schema_mismatch(error: BaseException) -> bool:
    """Check whether a table, a column, a function or a right that the statement needs is not there."""
    return (code_of(error) or "").startswith(("42", "3F", "SQLITE_ERROR"))


def is_taken_by_another_row(error: BaseException) -> bool:
    """Check whether a value that must be unique has been taken: what was stored once cannot be stored a second time."""
    return code_of(error) in _TAKEN_BY_ANOTHER_ROW


def advice_on(error: BaseException) -> str | None:
    """Say what to do about an error of the database, where its own words do not lead there."""
    if _loses_prepared_statements(error):
        return _WITHOUT_PREPARED_STATEMENTS
    return _ADVICE.get(code_of(error) or "")


def said_by_database(cause: BaseException) -> str:
    """Get in one line what a driver's error says, with the detail, and without where in the SQL text."""
    diagnostics = getattr(cause, "diag", None)
    parts = [getattr(diagnostics, "message_primary", None), getattr(diagnostics, "message_detail", None)]
    said = storable(": ".join(part for part in parts if part)) or _POINTER.sub("", text_of(cause))
    return " ".join(said.split())


def message_of(error: BaseException) -> str:
    """Get in one line what went wrong: of an error of a statement, what was said of it, without the SQL text and the parameters.

    Whatever the error, databases and logs can hold the line.
    """
    cause: BaseException = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    text = said_by_database(cause)
    advice = advice_on(error)
    if advice is not None:
        text = f"{text} ({advice})"
    line = " ".join(f"{type(cause).__name__}: {text}".split()).rstrip(": ")
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ..."


def _loses_prepared_statements(error: BaseException) -> bool:
    """Check whether the prepared statement that is not there, or twice, is one that the driver has named."""
    original = getattr(error, "orig", None)
    return code_of(error) in _UNPREPARED and original is not None and _NAME_OF_DRIVER.search(text_of(original)) is not None


_UNPREPARED = frozenset({"26000", "42P05"})
_NAME_OF_DRIVER = re.compile(r"\b(_pg3_|__asyncpg_)")
_LONGEST_LINE = 4_000
_POINTER = re.compile(r"\n[^\n]*\n\s*\^\s*$", re.MULTILINE)
"""The line of the statement and the line with a caret below it, with which libpq ends some messages."""


def _sqlite_family(name: str) -> str:
    return "_".join(name.split("_")[:2])


def _by_class(error: DBAPIError) -> Meaning:
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
        return Meaning.SERVER_AWAY
    return Meaning.BAD_VALUES if isinstance(error, SqlDataError | SqlIntegrityError) else Meaning.WRONG_STATEMENT


def hide_parameters(error: BaseException) -> None:
    """Have errors of statements, and those that they caused, no longer write the parameters, which may be personal data."""
    for each in _errors_of_statements(error):
        each.hide_parameters = True


def loggable(error: BaseException) -> BaseException | None:
    """Give an error for the traceback in a log, without the parameters of statements from now on; None if a log cannot hold it."""
    hide_parameters(error)
    return error if is_loggable(error) else None


@contextmanager
def parameters_hidden(error: BaseException) -> Iterator[None]:
    """Hide them within the block: who caught the error reads it whole afterwards."""
    shown = [each for each in _errors_of_statements(error) if not each.hide_parameters]
    for each in shown:
        each.hide_parameters = True
    try:
        yield
    finally:
        for each in shown:
            each.hide_parameters = False


def _errors_of_statements(error: BaseException) -> Iterator[StatementError]:
    """Walk through an error and all that it came from."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            waiting += (each.__cause__, each.__context__)
            if isinstance(each, StatementError):
                yield each
