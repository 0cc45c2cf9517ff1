"""The tables of archives are there where the base wants them, with triggers, and migrate as any other."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, text

from tests.migrations.environment import Environment


def test_archives_bring_three_tables_and_triggers(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, postgres_engine, module, '__eventsource__ = EventSourceOptions(archives="archives")')
    script = environment.revise()
    assert all(f"'{name}'" in script for name in ("archives", "archived_events", "archived_event_ids"))
    assert "op.create_event_immutability('archived_events')" in script
    environment.upgrade()
    assert environment.difference() == []
    with postgres_engine.connect() as connection:
        triggers = connection.scalars(text("SELECT tgname FROM pg_trigger WHERE tgrelid = 'archived_events'::regclass")).all()
    assert sorted(triggers) == ["sa_eventsource_immutable", "sa_eventsource_immutable_truncate"]
    environment.downgrade()
    assert environment.left_over() == set()


def test_without_archives_there_are_no_tables(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    assert "archive" not in Environment(tmp_path, postgres_engine, module).revise()
