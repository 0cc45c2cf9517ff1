"""The benchmark's contenders do the same work; a log is moved by each format."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rich.table import Table
from sqlalchemy import Engine, func, select

from benchmarks import moving
from benchmarks.contenders import Contender, PlainOrm, RawPsycopg, SaEventsource, SaEventsourceSessionKept
from benchmarks.domain import Base


def test_every_contender_writes_changes_and_loads_streams(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    dsn = postgres_engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(RawPsycopg(dsn)) as raw:
        contenders: list[Contender] = [
            raw,
            PlainOrm(postgres_engine),
            SaEventsource(postgres_engine),
            SaEventsourceSessionKept(postgres_engine),
        ]
        for contender in contenders:
            stream = contender.new_stream(10)
            contender.change(stream)
            assert contender.load(stream) == 11
            assert contender.load_many(contender.new_streams(3, 2)) == 6


def test_a_log_is_moved_by_each_format(postgres_engine: Engine, tmp_path: Path) -> None:
    table = Table(*"12345")
    moving.measure(postgres_engine, events=40, rounds=1, table=table, folder=tmp_path)
    assert table.row_count == 2 * len(moving.FORMATS) + 1, "each way, and an import by hand"
    with postgres_engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(moving.EVENTS)) == 40
