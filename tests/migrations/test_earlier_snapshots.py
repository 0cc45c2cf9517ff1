"""The migration of a log whose snapshots do not name their last event yet."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from tests.migrations.environment import Environment

pytestmark = [
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
]


def test_the_column_is_added_and_a_snapshot_that_is_there_is_not_used(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"models_{uuid.uuid4().hex}"
    monkeypatch.syspath_prepend(tmp_path)
    environment = Environment(tmp_path, engine, module)
    environment.revise()
    (script,) = environment.versions.glob("*.py")
    before, table, after = script.read_text().partition("op.create_table('snapshots',")
    own, end, others = after.partition("op.create_table(")
    column = next(line for line in own.splitlines(keepends=True) if "'event_id'" in line)
    script.write_text("".join((before, table, own.replace(column, ""), end, others)))
    environment.upgrade()
    parcel, sent = sys.modules[module].Parcel, sys.modules[module].ParcelSent
    parcel.__aggregate_definition__.snapshot_frequency = 1
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO snapshots (aggregate_type, aggregate_id, version, state, state_fingerprint, occurred_at) "
                "VALUES ('Parcel', 'p', 1, '{\"sent\": false}', :fingerprint, '2026-01-01 00:00:00.000000')"
            ),
            {"fingerprint": parcel.__aggregate_definition__.fingerprint},
        )

    added = environment.revise("snapshots")
    assert "op.add_column('snapshots', sa.Column('event_id', sa.Uuid(), nullable=True))" in added
    environment.upgrade()
    assert environment.difference(compare_type=True) == []
    with Session(engine) as session:
        new = parcel(id="q")
        new.apply_event(sent())
        session.add(new)
        session.execute(
            text(
                "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at, "
                "position) VALUES (:event_id, 'Parcel', 'p', 1, :event_type, '{}', '2026-01-01 00:00:00.000000', 99)"
            ),
            {"event_id": uuid.uuid4().hex, "event_type": sent.__event_type__},
        )
        session.commit()
    with Session(engine) as session:
        assert session.get_one(parcel, "p").sent
        assert session.get_one(parcel, "q").sent
        query = text("SELECT aggregate_id FROM snapshots WHERE event_id IS NOT NULL")
        assert session.scalars(query).all() == ["q"]
    environment.downgrade()
    assert environment.left_over() == set()
