"""Records of what an engine sends to its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


@contextmanager
def record_statements(engine: Engine) -> Iterator[list[str]]:
    """Record statements, white space folded, and the ends of transactions, until the block ends."""
    log: list[str] = []

    def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        log.append(" ".join(text.split()))

    def named(name: str) -> Any:
        return lambda *_: log.append(name)

    listeners = {
        "before_cursor_execute": statement,
        "begin": named("BEGIN"),
        "commit": named("COMMIT"),
        "rollback": named("ROLLBACK"),
        "savepoint": named("SAVEPOINT"),
        "release_savepoint": named("RELEASE SAVEPOINT"),
        "rollback_savepoint": named("ROLLBACK TO SAVEPOINT"),
    }
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        yield log
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)


@contextmanager
def record_executions(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Record statements as the driver gets them, each with its parameters, until the block ends."""
    executed: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        executed.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", keep)
    try:
        yield executed
    finally:
        event.remove(engine, "before_cursor_execute", keep)
