"""Checks of strong models while all is at work: each looks at one state of the database, as any reader may find it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sa_eventsource.counting import counted
from sa_eventsource.event_log import EventStore
from sa_eventsource.mapping import tables_of_base
from sa_eventsource.read_models import definition_of, fold
from sa_eventsource.selftest.subjects import SUBJECTS, Balances, Base, Turnover
from sa_eventsource.store import Meaning, meaning_of

if TYPE_CHECKING:
    import random
    from types import TracebackType
    from typing import Self

    from sqlalchemy import Engine

_STREAMS = 8
_LATEST = 200
"""Of how many of the latest events the streams are taken: where writers are at work."""
_PAUSE = 0.2


def rows_of(session: Session, model: type[Any], *conditions: Any) -> dict[Any, dict[str, Any]]:
    """Read rows of a declared model, as :func:`~sa_eventsource.fold` gives them."""
    definition = definition_of(model)
    (key,) = (part.name for part in definition.key)
    stored = session.execute(select(*(getattr(model, name) for name in definition.row_names)).where(*conditions))
    return {getattr(row, key): row._asdict() for row in stored}


@dataclass(slots=True)
class Inspection:
    """A thread that checks strong models until its block ends.

    Attributes:
        engine: Whose connections nobody cuts.
        chance: What the streams are drawn with.
        rows: How many rows were compared.
        problems: What was found.
        events: How many events are in the log, about.
    """

    engine: Engine
    chance: random.Random
    rows: int = 0
    problems: list[str] = field(default_factory=list)
    events: int = 0
    error: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None) -> None:
        """Finish the check under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(_PAUSE):
                try:
                    self.check()
                except DBAPIError as error:
                    if meaning_of(error) is not Meaning.SERVER_AWAY:
                        raise
        except BaseException as error:  # noqa: BLE001 - raised by whoever ends the block
            self.error = error

    def check(self) -> None:
        """Compare some rows of each stream and of all streams with the log, in one state of the database."""
        events = tables_of_base("Inspection", Base).events
        with Session(self.engine.execution_options(isolation_level="REPEATABLE READ")) as session:
            last = session.scalar(select(func.max(events.c.position))) or 0
            latest = select(events.c.aggregate_type, events.c.aggregate_id).where(events.c.position > last - _LATEST).distinct()
            streams = sorted((row.aggregate_type, row.aggregate_id) for row in session.execute(latest))
            self._compare_streams(session, self.chance.sample(streams, min(_STREAMS, len(streams))))
            self.events = self._compare_totals(session)

    def _compare_streams(self, session: Session, streams: list[tuple[str, str]]) -> None:
        classes = {each.__aggregate_type__: each for each in SUBJECTS}
        for aggregate_type, aggregate_id in streams:
            folded = fold(Balances, EventStore(session, Base).events.of(classes[aggregate_type], aggregate_id).all())
            stored = rows_of(session, Balances, Balances.subject == aggregate_id)
            self.rows += 1
            if stored != folded:
                self.problems.append(f"balances has {stored} while the log made {folded}")

    def _compare_totals(self, session: Session) -> int:
        """The rows of all streams add up to the log; give its length."""
        events = tables_of_base("Inspection", Base).events
        length = session.scalar(select(func.count()).select_from(events)) or 0
        entries = session.scalar(select(func.coalesce(func.sum(Turnover.entries), 0)))
        self.rows += 1
        if entries != length:
            self.problems.append(f"turnover has {entries} entries while the log had {counted(length, 'event')}")
        return length
