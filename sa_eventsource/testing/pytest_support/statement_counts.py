"""``assert_statements``: how many statements a block sends to the database."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

from sa_eventsource.counting import counted
from sa_eventsource.testing.pytest_support.template_database import sync_engine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

_ENGINES = ("eventsource_engine", "eventsource_async_engine")
_SESSIONS = ("eventsource_session", "eventsource_async_session")
_OF_SAVEPOINTS = ("SAVEPOINT ", "RELEASE SAVEPOINT ", "ROLLBACK TO SAVEPOINT ")


class StatementCounts:
    """Counts the statements on the engines of a test's fixtures, or on others."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        """Know which fixtures the test has."""
        self._request = request

    @contextmanager
    def __call__(self, number: int | None = None, *engines: Any, at_most: int | None = None) -> Iterator[list[str]]:
        """Check how many statements a block sends.

        Savepoints are not counted, as those of a rolled-back session stand for commits; nor are BEGIN, COMMIT and ROLLBACK. One
        statement for many rows is one.

        Args:
            number: How many there must be.
            *engines: The engines, where it is not those of the fixtures.
            at_most: How many there may be, in place of *number*.

        Yields:
            The statements so far.

        Raises:
            AssertionError: There were others, which it lists.
            TypeError: Neither *number* nor *at_most* is given, or both are, or there is no engine.
        """
        __tracebackhide__ = True
        if (number is None) == (at_most is None):
            raise TypeError("assert_statements() takes a number, assert_statements(2), or at_most=2")
        sent: list[str] = []
        listening = self._engines(engines)

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if not statement.startswith(_OF_SAVEPOINTS):
                sent.append(statement)

        for each in listening:
            event.listen(each, "before_cursor_execute", note)
        try:
            yield sent
        finally:
            for each in listening:
                event.remove(each, "before_cursor_execute", note)
        if len(sent) != number if number is not None else len(sent) > (at_most or 0):
            wanted = f"{number}" if number is not None else f"{at_most} at most"
            lines = [f"  {place}. {' '.join(each.split())}" for place, each in enumerate(sent, 1)]
            raise AssertionError(
                "\n".join([f"expected {wanted}, but {counted(len(sent), 'statement')} went to the database", *lines])
            )

    def _engines(self, given: tuple[Any, ...]) -> list[Engine]:
        """Find the engines: those that are given, or those of the fixtures that the test has."""
        there = self._request.fixturenames
        found = [sync_engine_of(each) for each in given]
        if not given:
            names = [*_ENGINES, *_SESSIONS]
            asked = [self._request.getfixturevalue(each) for each in names if each in there]
            found = [_engine_of(each) for each in asked]
        if not found:
            raise TypeError(
                "assert_statements() knows no engine: the test has no fixture with one, so name it: assert_statements(2, engine)"
            )
        return list(dict.fromkeys(found))


def _engine_of(fixture: Any) -> Engine:
    session = getattr(fixture, "sync_session", fixture)
    bound: Any = getattr(session, "bind", fixture)
    return sync_engine_of(bound)
