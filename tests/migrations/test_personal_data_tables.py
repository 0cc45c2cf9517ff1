"""The tables of personal data are there where the base has master keys, and migrate as any other."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from tests.migrations.environment import Environment

KEYS = '__eventsource__ = EventSourceOptions(master_keys=__import__("sa_eventsource").EnvironmentKeys("KEYS"))'


def test_master_keys_bring_two_tables(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, postgres_engine, module, KEYS)
    script = environment.revise()
    assert "'subject_keys'" in script
    assert "'forgotten_subjects'" in script
    environment.upgrade()
    assert environment.difference() == []
    environment.downgrade()
    assert environment.left_over() == set()


def test_anonymisations_have_a_table(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    environment = Environment(
        tmp_path, postgres_engine, module, '__eventsource__ = EventSourceOptions(anonymisations="anonymisations")'
    )
    assert "'anonymisations'" in environment.revise()
    environment.upgrade()
    assert environment.difference() == []


def test_without_them_there_are_none(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    script = Environment(tmp_path, postgres_engine, module).revise()
    assert "subject" not in script
    assert "anonymisations" not in script
