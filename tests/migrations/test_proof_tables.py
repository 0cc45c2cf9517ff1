"""The tables of proofs are there where the base wants them, and migrate as any other."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from tests.migrations.environment import Environment

PROOFS = "__eventsource__ = EventSourceOptions(proofs=True)"


def test_proofs_bring_two_tables(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, postgres_engine, module, PROOFS)
    script = environment.revise()
    assert "'merkle_tree'" in script
    assert "'rewritten_events'" in script
    environment.upgrade()
    assert environment.difference() == []
    environment.downgrade()
    assert environment.left_over() == set()


def test_without_them_there_are_none(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    assert "merkle" not in Environment(tmp_path, postgres_engine, module).revise()
