"""Models with ``@evolves``: the fold, the strong write, the catch-up and the rebuild agree; so do other ways to say the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Engine, select
from sqlalchemy.orm import Mapped, Session, mapped_column, validates

from sa_eventsource import (
    REMOVED,
    EventReplayer,
    EventStore,
    Evolved,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    evolves,
    fold,
    handles,
    load_for_update,
    map_from_event,
)
from sa_eventsource.read_models import append, count, sum_
from tests.parameters import slow_after
from tests.read_models.generated_models import (
    EXACT_DECIMALS,
    Base,
    Changed,
    Closed,
    Happening,
    Kind,
    Level,
    Opened,
    Told,
    histories,
)
from tests.read_models.memory import ROOMS, cramp
from tests.read_models.test_four_ways import (
    _SETTINGS,
    _log_tables,
    check_all_ways,
    differences,
    forget_everything,
    happen,
    rows_of,
    store_old,
)

_numbers = itertools.count()
_COMMITS = st.lists(st.integers(1, 4), min_size=1)


class EveryType(ReadModel):
    """A field of every type, of which each event finds what those before it have made."""

    __abstract__ = True

    text: Mapped[str | None]
    number: Mapped[int] = mapped_column(default=0)
    amount: Mapped[Decimal] = mapped_column(default=Decimal("0.00"))
    ratio: Mapped[float | None]
    flag: Mapped[bool] = mapped_column(default=False)
    on: Mapped[date | None]
    at: Mapped[datetime | None]
    uid: Mapped[UUID | None]
    kind: Mapped[Kind] = mapped_column(default=Kind.SMALL)
    level: Mapped[Level | None]
    texts: Mapped[list[str]] = mapped_column(default=list)
    days: Mapped[list[date]] = mapped_column(default=list)
    amounts: Mapped[list[Decimal]] = mapped_column(default=list)
    document: Mapped[dict[str, Any]] = mapped_column(default=dict)
    seen: Mapped[str] = mapped_column(default="")

    @evolves(Opened)
    def _opened(self, recorded: RecordedEvent[Opened]) -> None:
        event = recorded.event
        for name in ("text", "ratio", "on", "at", "uid", "level"):
            value = getattr(event, name)
            if value is not None or self.version % 2:
                setattr(self, name, value)
        self.kind = event.kind or self.kind
        self.number = (event.number or 0) - self.number  # which asks for the order
        self.amount += event.amount or 0
        self.flag = not self.flag
        self.texts.append(f"{self.seen[-6:]}{self.at}")
        self.days += event.days
        self.amounts = [*self.amounts[-2:], event.price_later]
        self.document["wide"] = {**self.document.get("wide", {}), f"{event.key}": [event.number, event.ratio]}
        self.document[""] = next(iter(self.document))
        self._look(recorded)

    @evolves(Changed, Told)
    def _changed(self, recorded: RecordedEvent[Changed | Told]) -> Evolved:
        self.number += recorded.event.number or 1
        self.document["last"] = recorded.event_type
        self._look(recorded)
        return REMOVED if self.number % 5 == 4 else None

    @validates("seen")
    def _mark(self, _name: str, seen: str) -> str:
        return f"{seen}."  # which tells how often it was called

    def _look(self, recorded: RecordedEvent[Any]) -> None:
        self.seen = f"{self.seen[-30:]} {type(self.amount).__name__} {self.amount:.2f} {self.kind.name} {recorded.version}"


@dataclass(frozen=True)
class EveryTypeRecipe:
    """Makes models that differ in where and when their rows are written."""

    is_removed: bool

    def make(self, consistency: str, *, own_table: bool) -> Any:
        """Declare one."""
        name = f"Evolving{next(_numbers)}"
        namespace: dict[str, Any] = {"__module__": __name__, "__projection_name__": name, "__consistency__": consistency}
        if self.is_removed:
            namespace["__removed_by__"] = (Closed,)
        if own_table:
            namespace["__tablename__"] = name.lower()
        return type(name, (EveryType, Base), namespace)


@pytest.mark.slow_on_sqlite
@pytest.mark.parametrize("own_table", slow_after(1, [False, True]), ids=["shared table", "own table"])
def test_four_ways_agree(engine: Engine, own_table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    Base.metadata.create_all(engine, tables=_log_tables())
    is_postgresql = engine.dialect.name == "postgresql"
    history = histories() if is_postgresql else histories(decimals=EXACT_DECIMALS)

    @settings(**_SETTINGS, max_examples=settings().max_examples // (1 if is_postgresql else 2))
    @given(st.booleans(), st.just([]) | history, history, _COMMITS, st.integers(1, 6), ROOMS)
    def check(is_removed: bool, old: list[Happening], new: list[Happening], commits: list[int], batch_size: int, room: int) -> None:
        cramp(monkeypatch, room=room, batch_size=batch_size)
        check_all_ways(engine, EveryTypeRecipe(is_removed), old, new, commits, batch_size, own_table)

    check()


class _Declared(ReadModel):
    __abstract__ = True
    key: Mapped[str] = map_from_event(Opened, Changed, key=True)
    number: Mapped[int] = map_from_event(Opened, Changed, reduce=sum_())
    events: Mapped[int] = map_from_event(Opened, Changed, reduce=count())


class _Evolved(ReadModel):
    __abstract__ = True
    key: Mapped[str] = map_from_event(key=True)
    number: Mapped[int] = mapped_column(default=0)
    events: Mapped[int] = mapped_column(default=0)

    @evolves(Opened, Changed)
    def _add(self, recorded: RecordedEvent[Opened | Changed]) -> None:
        self.number += recorded.event.number or 0
        self.events += 1


class _Handled(ReadModel):
    __abstract__ = True
    key: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, default=0)
    events: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Opened, Changed)
    def _add(cls, recorded: RecordedEvent[Opened | Changed], session: Session) -> None:
        if recorded.event.key is not None:
            row: Any = load_for_update(session, cls, recorded.event.key)
            row.number += recorded.event.number or 0
            row.events += 1


def _declare(base: type[Any], consistency: str = "eventual", *, own_table: bool = True) -> Any:
    name = f"Same{next(_numbers)}"
    namespace = {"__module__": __name__, "__consistency__": consistency}
    if own_table:
        namespace["__tablename__"] = name.lower()
    return type(name, (base, Base), namespace)


@pytest.mark.slow_on_sqlite
def test_declared_fields_and_handlers_make_the_same_rows(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that several streams share."""
    Base.metadata.create_all(engine, tables=_log_tables())

    @settings(**_SETTINGS, max_examples=settings().max_examples // 2)
    @given(histories(decimals=EXACT_DECIMALS), histories(decimals=EXACT_DECIMALS), _COMMITS, st.integers(1, 6), ROOMS)
    def check(old: list[Happening], new: list[Happening], commits: list[int], batch_size: int, room: int) -> None:
        cramp(monkeypatch, room=room, batch_size=batch_size)
        models = [_declare(base, each) for base in (_Declared, _Evolved, _Handled) for each in ("strong", "eventual")]
        try:
            for model in models:
                model.__table__.create(engine)
            manager = ReadModelManager(engine, Base)
            store_old(engine, old)
            for model in models[::2]:
                EventReplayer(engine, Base).rebuild(model)
            for _ in happen(engine, new, commits):
                for model in models[1::2]:
                    manager.catch_up(model, batch_size=batch_size)
            for model in models[1::2]:
                manager.catch_up(model)
            with Session(engine) as session:
                found = [{row.key: (row.number, row.events) for row in session.scalars(select(model))} for model in models]
                meant = fold(models[0], EventStore(session, Base).events.all())
                assert rows_of(session, models[2]) == meant == fold(models[2], EventStore(session, Base).events.all())
                assert not differences(session, models[3], meant)
            assert all(each == found[0] for each in found)
            for model in models[2:4]:
                EventReplayer(engine, Base).rebuild(model)
                with Session(engine) as session:
                    assert not differences(session, model, meant)
        finally:
            forget_everything(engine, *models)

    check()


class _DeclaredTexts(ReadModel):
    __abstract__ = True
    texts: Mapped[list[str]] = map_from_event(Opened, reduce=append("text"))


class _EvolvedTexts(ReadModel):
    __abstract__ = True
    texts: Mapped[list[str]] = mapped_column(default=list)

    @evolves(Opened)
    def _opened(self, recorded: RecordedEvent[Opened]) -> None:
        if recorded.event.text is not None:
            self.texts.append(recorded.event.text)


@pytest.mark.slow_on_sqlite
def test_lists_of_declared_fields_are_those_of_methods(engine: Engine) -> None:
    Base.metadata.create_all(engine, tables=_log_tables())
    declared, evolved = (_declare(each, own_table=False) for each in (_DeclaredTexts, _EvolvedTexts))

    @settings(**_SETTINGS, max_examples=10)
    @given(histories(decimals=EXACT_DECIMALS), _COMMITS)
    def check(history: list[Happening], commits: list[int]) -> None:
        try:
            for _ in happen(engine, history, commits):
                ReadModelManager(engine, Base).catch_up()
            with Session(engine) as session:
                assert rows_of(session, evolved) == rows_of(session, declared)
        finally:
            forget_everything(engine)

    try:
        check()
    finally:
        forget_everything(engine, declared, evolved)
