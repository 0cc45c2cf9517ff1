"""What an application sees of a failure, in a form that two engines can be compared by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from sqlalchemy import Engine


def described(error: BaseException) -> dict[str, Any]:
    """Give an error's class and fields; of one of the database, what it says and for which statement."""
    found: dict[str, Any] = {"class": type(error).__name__}
    if isinstance(error, DBAPIError):
        original: Any = error.orig
        found |= {"sqlstate": original.sqlstate, "said": original.diag.message_primary, "lost": error.connection_invalidated}
        found["table"] = _table(error.statement)
    else:
        found["says"] = in_general(str(error))
        found |= {name: _field(value) for name, value in vars(error).items() if name not in _OWN and not name.startswith("_")}
    if isinstance(error.__cause__, DBAPIError) and not isinstance(error, DBAPIError):
        found["cause"] = described(error.__cause__) if "sa_eventsource" not in str(error.__cause__.orig) else None
    return found


_OWN = {"args", "add_note", "to_repeat"}


def _field(value: Any) -> Any:
    return [type(each).__name__ for each in value] if isinstance(value, list | tuple) else in_general(str(value))


def in_general(said: str) -> str:
    """Leave out what differs each time: numbers, ids, times, and which engine and statement it was."""
    said = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|test_[0-9a-f]{32}", "ID", said.split("[SQL:", maxsplit=1)[0])
    return re.sub(r"\d+", "N", said.replace("psycopg_pipelined", "psycopg")).split("(Background")[0].strip()


def _table(statement: str | None) -> str | None:
    if statement is None:
        return None
    words = statement.replace("(", " ").split()
    return words[words.index("INTO") + 1] if "INTO" in words else words[0]


def stored(engine: Engine) -> dict[str, list[Any]]:
    """List what is committed: events, rows of the strong models and ordinary rows."""
    with engine.connect() as connection:
        return {
            table: [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM {table} ORDER BY {columns}"))]
            for table, columns in _TABLES.items()
        }


_TABLES = {
    "events": "aggregate_type, aggregate_id, version, event_type",
    "pipelined_balances": "id, total",
    "projections": "id, projection_name, version",
    "snapshots": "aggregate_id, version",
    "pipelined_notes": "id, text",
    "pipelined_audits": "id",
}
