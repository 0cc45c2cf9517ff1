"""The benchmark's contenders do the same work."""

from __future__ import annotations

from contextlib import closing

from sqlalchemy import Engine

from benchmarks.contenders import Contender, PlainOrm, RawPsycopg, SaEventsource
from benchmarks.domain import Base


def test_every_contender_writes_changes_and_loads_streams(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    dsn = postgres_engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(RawPsycopg(dsn)) as raw:
        contenders: list[Contender] = [raw, PlainOrm(postgres_engine), SaEventsource(postgres_engine)]
        for contender in contenders:
            stream = contender.new_stream(10)
            contender.change(stream)
            assert contender.load(stream) == 11
