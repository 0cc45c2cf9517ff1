"""A run of the self-test that the tests of this folder share, and copies of what it left."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Engine, make_url, text

from sa_eventsource.mapping import SWITCH
from sa_eventsource.selftest import Report, run_selftest
from sa_eventsource.selftest.evidence import Evidence
from sa_eventsource.selftest.journal import Journals
from sa_eventsource.selftest.own_schema import OwnSchema
from sa_eventsource.selftest.selftest import judge
from tests.databases import DatabasePool


@dataclass(frozen=True)
class Copy:
    """A database that a run has left."""

    engine: Engine
    journals: Journals

    def execute(self, statement: str, **parameters: object) -> int:
        """Change what is stored, with nobody to refuse it; at least one row. Names of tables need no schema."""
        with self.engine.begin() as connection:
            connection.execute(text(f"SET LOCAL {SWITCH} = 'on'"))
            return self._in_its_schema(connection).execute(text(statement), parameters).rowcount

    def rows(self, statement: str, **parameters: object) -> list[tuple[object, ...]]:
        """Read."""
        with self.engine.begin() as connection:
            return [tuple(row) for row in self._in_its_schema(connection).execute(text(statement), parameters)]

    def _in_its_schema(self, connection: Connection) -> Connection:
        schema = connection.get_execution_options()["schema_translate_map"][None]
        connection.execute(text(f"SET LOCAL search_path = {schema}"))
        return connection

    def rulings(self) -> dict[str, str]:
        """What the judges say, by the names of the guarantees."""
        return {each.name: each.ruling for each in judge(self.engine, Evidence.read(self.engine, self.journals))}

    def problems(self, name: str) -> tuple[str, ...]:
        """What they say is wrong with a guarantee."""
        evidence = Evidence.read(self.engine, self.journals)
        return next(each.problems for each in judge(self.engine, evidence) if each.name == name)


@dataclass(frozen=True)
class Run:
    """A run of which everything was kept."""

    report: Report
    folder: Path
    url: str

    @contextmanager
    def copy(self) -> Iterator[Copy]:
        """Copy the database for the block: snapshots and transaction ids hold within a cluster."""
        original = make_url(self.url)
        name = f"copy_{uuid.uuid4().hex}"
        with _maintenance(self.url) as server:
            server.execute(f"CREATE DATABASE {name} TEMPLATE {original.database}".encode())
            url = original.set(database=name).render_as_string(hide_password=False)
            engine = OwnSchema(url, {}, self.report.schema).engine()
            try:
                yield Copy(engine, Journals.read(self.folder))
            finally:
                engine.dispose()
                server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def _maintenance(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    database = make_url(url).set(drivername="postgresql", database="postgres")
    with psycopg.connect(database.render_as_string(hide_password=False), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def selftest_run(postgres_databases: DatabasePool) -> Iterator[Run]:
    """A short run of which everything was kept."""
    with ExitStack() as runs:
        for seconds in (4, 15, 60):  # a busy machine may not come to everything in the shortest time
            url = runs.enter_context(postgres_databases.database())
            report = run_selftest(url, seed=7, seconds=seconds, keep=True)
            assert report.kept is not None
            run = Run(report, report.kept, url)
            runs.callback(shutil.rmtree, run.folder)
            if report.is_complete:
                break
        yield run


@pytest.fixture
def copied(selftest_run: Run) -> Iterator[Copy]:
    """What the run has left, to be damaged."""
    with selftest_run.copy() as copy:
        yield copy
