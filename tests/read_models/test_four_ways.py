"""One declaration, run four ways: the fold in Python, the strong write, the catch-up and the rebuild give the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, insert, select, text
from sqlalchemy.orm import Session

from sa_eventsource import DomainEvent, EventReplayer, EventStore, ReadModelManager, event_context, fold
from sa_eventsource.events import encode
from sa_eventsource.mapping import tables_on
from sa_eventsource.time_ordered_ids import uuid7
from tests.parameters import slow_after
from tests.read_models.generated_models import (
    EXACT_DECIMALS,
    Base,
    Changed,
    Happening,
    Opened,
    Recipe,
    Thing,
    Told,
    histories,
    recipes,
)
from tests.read_models.memory import ROOMS, cramp

TABLES = tables_on(Base.metadata)
# Shrinking an example that needs a database takes minutes; HYPOTHESIS_PROFILE=thorough has time for it.
_PHASES = [each for each in Phase if each not in (Phase.shrink, Phase.explain) or settings().max_examples > 100]
_SETTINGS: dict[str, Any] = {
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    "phases": _PHASES,
}


def _log_tables() -> list[Any]:
    return [TABLES.events, TABLES.projections, TABLES.snapshots, TABLES.projection_positions, TABLES.parked_events]


def forget_everything(engine: Engine, *models: type[Any]) -> None:
    """Empty the log for the next example."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = on"))
            connection.execute(
                text("TRUNCATE events, projections, snapshots, projection_positions, parked_events RESTART IDENTITY")
            )
        else:
            for table in _log_tables():
                if table is not TABLES.events:
                    connection.execute(delete(table))
    if engine.dialect.name != "postgresql":
        Base.metadata.drop_all(engine, tables=[TABLES.events])
        Base.metadata.create_all(engine, tables=[TABLES.events])
    for model in models:
        definition = model.__read_model_definition__
        if definition.has_own_table:
            definition.table.drop(engine, checkfirst=True)
            Base.metadata.remove(definition.table)
        TABLES.read_models.pop(definition.name)


def rows_of(session: Session, model: type[Any]) -> dict[Any, dict[str, Any]]:
    """Read a model's rows as the fold gives them."""
    definition = model.__read_model_definition__
    names = [each.name for each in (*definition.key, *definition.fields)] + ["version", "created_at", "updated_at"]
    found = {}
    for row in session.scalars(select(model)):
        key = tuple(getattr(row, part.name) for part in definition.key)
        found[key if len(key) > 1 else next(iter(key))] = {name: getattr(row, name) for name in names}
    return found


def differences(session: Session, model: type[Any], meant: dict[Any, dict[str, Any]]) -> list[str]:
    """Say what of a model's rows is not as it should be."""
    rows = rows_of(session, model)
    found = [f"row {key!r} is {'missing' if key in meant else 'too many'}" for key in rows.keys() ^ meant.keys()]
    for key in rows.keys() & meant.keys():
        found += [
            f"{key!r}.{name} is {rows[key][name]!r}, not {each!r}" for name, each in meant[key].items() if rows[key][name] != each
        ]
    return found


def store_old(engine: Engine, happenings: list[Happening]) -> None:
    """Store events as an older version of the application did: under another name, in another shape, without later fields."""
    versions: dict[str, int] = {}
    with engine.begin() as connection:
        for number, each in enumerate(happenings, 1):
            name, version, payload = as_stored_once(each.event)
            versions[each.stream] = versions.get(each.stream, 0) + 1
            connection.execute(
                insert(TABLES.events).values(
                    **row_of(each, versions[each.stream], None if engine.dialect.name == "postgresql" else number),
                    event_type=name,
                    event_version=version,
                    event_data=payload,
                )
            )


def as_stored_once(event: DomainEvent) -> tuple[str, int, dict[str, Any]]:
    payload = json.loads(encode(event))
    if isinstance(event, Changed):
        payload["value"] = payload.pop("amount")
        del payload["at"]
        return "generated.Altered", 1, payload
    if isinstance(event, Told):
        payload["name"] = f"  {payload['name'].upper()}\t"
        payload["key"] = payload["key"] and f" {payload['key']} "
        payload["cost"] = payload.pop("price")
        payload["note"] = payload.pop("remark")
        del payload["days"]
    if payload["number"] is not None:
        payload["number"] = float(payload["number"])
    if isinstance(event, Opened):
        payload["uid"] = payload["uid"] and payload["uid"].upper()
        payload["uids"] = [each.upper() for each in payload["uids"]]
        payload["counts"] = payload["counts"] and [float(each) for each in payload["counts"]]
        payload["days"] = [f"{each}T00:00:00" for each in payload["days"]]
        del payload["added_later"], payload["price_later"], payload["written_as"]
        for address in [payload["address"] or {"zone": 0, "district": None}, *payload["addresses"]]:
            del address["zone"], address["district"]
            address["floor"] = 3
    return type(event).__event_type__, type(event).__event_version__, payload


def row_of(each: Happening, version: int, position: int | None) -> dict[str, Any]:
    extra = {} if position is None else {"position": position}
    return {
        "event_id": uuid7(),
        "aggregate_type": "generated.Thing",
        "aggregate_id": each.stream,
        "version": version,
        "metadata": each.metadata or None,
        "occurred_at": each.occurred_at,
        **extra,
    }


def happen(engine: Engine, happenings: list[Happening], commits: list[int]) -> Iterator[None]:
    """Apply events in a session, in transactions of some size each."""
    rest, number = list(happenings), 0
    while rest:
        size = commits[number % len(commits)]
        now, rest, number = rest[:size], rest[size:], number + 1
        with Session(engine) as session:
            for each in now:
                thing = session.get(Thing, each.stream)
                if thing is None:
                    session.add(thing := Thing(id=each.stream))
                with event_context(**each.metadata):
                    thing.apply_event(each.event, occurred_at=each.occurred_at)
            session.commit()
        yield


class Declares(Protocol):
    """Makes models that differ in where and when their rows are written."""

    def make(self, consistency: str, *, own_table: bool) -> Any:
        """Declare one."""


def check_all_ways(
    log: Engine, recipe: Declares, old: list[Happening], new: list[Happening], commits: list[int], batch_size: int, own_table: bool
) -> None:
    strong, eventual, rebuilt = (recipe.make(each, own_table=own_table) for each in ("strong", "eventual", "eventual"))
    models = (strong, eventual, rebuilt)
    try:
        for model in models:
            if own_table:
                model.__table__.create(log)
        manager = ReadModelManager(log, Base)
        store_old(log, old)
        EventReplayer(log, Base).rebuild(strong)  # what was stored before it was declared
        for number, _ in enumerate(happen(log, new, commits)):
            if number % 2:
                manager.catch_up(eventual, batch_size=batch_size)
        manager.catch_up(eventual, batch_size=batch_size)
        EventReplayer(log, Base).rebuild(rebuilt)
        with Session(log) as session:
            meant = fold(strong, EventStore(session, Base).events.all())
            for model in models:
                assert not differences(session, model, meant)
        assert manager.status(eventual)[0].lag_events == 0
        EventReplayer(log, Base).rebuild(strong)
        with Session(log) as session:
            assert not differences(session, strong, meant)
        for model in (strong, eventual):
            assert EventReplayer(log, Base).rebuild_rows(model, list(meant)[::2]) == len(list(meant)[::2])
            with Session(log) as session:
                assert not differences(session, model, meant)
    finally:
        forget_everything(log, *models)


@pytest.mark.parametrize("own_table", slow_after(1, [False, True]), ids=["shared table", "own table"])
def test_four_ways_agree_on_postgresql(postgres_engine: Engine, own_table: bool) -> None:
    Base.metadata.create_all(postgres_engine, tables=_log_tables())

    @settings(**_SETTINGS)
    @given(recipes(), histories(max_size=5) | st.just([]), histories(), st.lists(st.integers(1, 4), min_size=1), st.integers(1, 6))
    def check(recipe: Recipe, old: list[Happening], new: list[Happening], commits: list[int], batch_size: int) -> None:
        check_all_ways(postgres_engine, recipe, old, new, commits, batch_size, own_table)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("own_table", slow_after(1, [False, True]), ids=["shared table", "own table"])
def test_four_ways_agree_on_sqlite(sqlite_engine: Engine, own_table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    Base.metadata.create_all(sqlite_engine, tables=_log_tables())
    history = histories(decimals=EXACT_DECIMALS)

    @settings(**_SETTINGS, max_examples=max(5, settings().max_examples // 4))
    @given(recipes(), st.just([]) | history, history, st.lists(st.integers(1, 4), min_size=1), st.integers(1, 6), ROOMS)
    def check(recipe: Recipe, old: list[Happening], new: list[Happening], commits: list[int], batch_size: int, room: int) -> None:
        cramp(monkeypatch, room=room, batch_size=batch_size)
        check_all_ways(sqlite_engine, recipe, old, new, commits, batch_size, own_table)

    check()


@pytest.mark.parametrize("own_table", slow_after(1, [False, True]), ids=["shared table", "own table"])
def test_events_that_become_visible_out_of_their_order_come_to_the_same(postgres_engine: Engine, own_table: bool) -> None:
    """Transactions that took lower positions commit later; each stream keeps its order."""
    Base.metadata.create_all(postgres_engine, tables=_log_tables())

    @settings(**_SETTINGS)
    @given(recipes(), histories(), st.data())
    def check(recipe: Recipe, history: list[Happening], data: st.DataObject) -> None:
        model = recipe.make("eventual", own_table=own_table)
        try:
            if own_table:
                model.__table__.create(postgres_engine)
            manager = ReadModelManager(postgres_engine, Base)
            versions: dict[str, int] = {}
            streams: dict[str, list[dict[str, Any]]] = {}
            for position, each in enumerate(history, 1):
                versions[each.stream] = versions.get(each.stream, 0) + 1
                name, version = type(each.event).__event_type__, type(each.event).__event_version__
                row = row_of(each, versions[each.stream], position)
                row |= {"event_type": name, "event_version": version, "event_data": json.loads(encode(each.event))}
                streams.setdefault(each.stream, []).append(row)
            while streams:
                stream = data.draw(st.sampled_from(sorted(streams)), label="stream")
                size = data.draw(st.integers(1, len(streams[stream])), label="events")
                with postgres_engine.begin() as connection:
                    connection.execute(insert(TABLES.events), streams[stream][:size])
                del streams[stream][:size]
                if not streams[stream]:
                    del streams[stream]
                if data.draw(st.booleans(), label="catch up"):
                    manager.catch_up(model, batch_size=data.draw(st.integers(1, 4), label="batch"))
            manager.catch_up(model)
            with Session(postgres_engine) as session:
                assert not differences(session, model, fold(model, EventStore(session, Base).events.all()))
        finally:
            forget_everything(postgres_engine, model)

    check()
