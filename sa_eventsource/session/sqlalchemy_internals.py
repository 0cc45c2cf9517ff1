"""The few names of SQLAlchemy used here that are not its public API, each with the reason. Nothing else in the library uses any.

They are the same in SQLAlchemy 2.0.40 to 2.1; the test suite runs on both. See docs/explanation/decisions/.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import InstanceState, Mapper, QueryContext, Session


@contextmanager
def flush_transaction(session: Session) -> Iterator[None]:
    """Do what a flush does around its statements: on an error, roll back to the enclosing savepoint or the start.

    After that the session refuses to go on until ``rollback()``, and says why. ``before_flush`` runs outside the flush's own such
    block, so a failure there would leave half of a flush to be committed.
    """
    transaction = session._autobegin_t()._begin()  # noqa: SLF001
    try:
        yield
    except BaseException:
        transaction.rollback(_capture_exception=True)
        raise
    transaction.commit()


def register_persistent(session: Session, states: set[InstanceState[Any]]) -> None:
    """Do what a flush does after its statements: new and changed instances become persistent and clean.

    The events of all aggregates are written in ``before_flush`` by one statement; sending the instances through the unit of work
    as well, which has no table to write for them, would take a quarter of a commit's time.
    """
    session._register_persistent(states)  # noqa: SLF001


def after_rows(context: QueryContext, key: Any, act: Callable[[list[Any]], None], instance: Any) -> None:
    """Have *act* called with all instances given under *key*, once the rows of the statement (or of a ``yield_per`` batch) are in.

    This is how ``selectinload`` comes by its moment; no public event has it.
    """
    waiting = context.post_load_paths
    if key not in waiting:
        waiting[key] = _AfterRows(act)  # type: ignore[assignment]
    waiting[key].instances.append(instance)  # type: ignore[attr-defined]


class _AfterRows:
    def __init__(self, act: Callable[[list[Any]], None]) -> None:
        self._act = act
        self.instances: list[Any] = []

    def invoke(self, _context: QueryContext, _path: Any) -> None:
        instances, self.instances = self.instances, []
        if instances:
            self._act(instances)


def asks_for_update(statement: Any) -> bool:
    """Tell whether a SELECT has ``with_for_update()``; a statement has no public property for it."""
    return getattr(statement, "_for_update_arg", None) is not None


def refuse_bulk_writes(mapper: Mapper[Any], error: Exception) -> None:
    """Have ``bulk_save_objects`` and the like raise *error* for a mapper, whose tables they look up and would find none.

    There is no event before a bulk operation. Flushes do not look: aggregates are persistent by then.
    """
    mapper.__dict__["_sorted_tables"] = _Refusing(error)


class _Refusing(dict[Any, Any]):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def items(self) -> Any:
        raise self._error
