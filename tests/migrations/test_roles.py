"""Rights of roles come with the migration that creates the tables, and with one that adds a table later."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from sa_eventsource import role_faults
from sa_eventsource.mapping import APPENDED
from tests.database_roles import drop_roles, own_roles
from tests.migrations.environment import MODELS, Environment

ROLES = own_roles("m")
BODY = f'__eventsource__ = EventSourceOptions(roles=__import__("sa_eventsource").{ROLES})'
MORE = """

class ParcelsByLabel(ReadModel, Base):
    __tablename__ = "parcels_by_label"
    __consistency__ = "strong"
    label: Mapped[str] = map_from_event(ParcelWeighed, key=True)
    number: Mapped[int] = map_from_event(ParcelWeighed, reduce=count())
"""


def test_roles_get_rights_on_new_tables(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, postgres_engine, module, BODY)
    try:
        script = environment.revise()
        assert f"op.grant_rights('{ROLES.app}', 'events', ['SELECT', 'INSERT ({', '.join(APPENDED)})'])" in script
        environment.upgrade()
        assert environment.difference() == []
        _assert_no_faults(postgres_engine, module)
        environment.write(MODELS + MORE)
        more = environment.revise("one more model")
        assert f"op.grant_rights('{ROLES.app}', 'parcels_by_label', ['SELECT', 'INSERT', 'UPDATE', 'DELETE'])" in more
        assert "'events'" not in more, "of what is there, nothing is granted again"
        environment.upgrade()
        assert environment.difference() == []
        _assert_no_faults(postgres_engine, module)
        environment.downgrade()
        assert environment.left_over() == set()
    finally:
        drop_roles(postgres_engine, *ROLES.names())


def _assert_no_faults(engine: Engine, module: str) -> None:
    with engine.connect() as connection:
        assert role_faults(connection, sys.modules[module].Base) == []


@pytest.mark.filterwarnings("ignore:autogenerate skipping")
def test_on_sqlite_nothing_is_granted(tmp_path: Path, sqlite_engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, sqlite_engine, module, BODY)
    assert "grant_rights" not in environment.revise()
