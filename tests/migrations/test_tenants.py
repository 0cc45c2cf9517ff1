"""Tables that tenants share come with their policies, and policies that are broken are put right."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from sa_eventsource import verify
from tests.database_roles import drop_roles, engine_as, for_tenant, let_log_in, own_roles
from tests.migrations.environment import Environment

ROLES = own_roles("mt")
BODY = f'__eventsource__ = EventSourceOptions(tenants=True, roles=__import__("sa_eventsource").{ROLES})'


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_engine: Engine) -> Iterator[Environment]:
    """Models whose tables tenants share."""
    name = f"models_{uuid.uuid4().hex}"
    monkeypatch.syspath_prepend(tmp_path)
    yield Environment(tmp_path, postgres_engine, name, BODY)
    sys.modules.pop(name, None)
    drop_roles(postgres_engine, *ROLES.names())


def test_policies_come_with_the_tables_and_are_put_right(environment: Environment, postgres_engine: Engine) -> None:
    script = environment.revise()
    assert f"op.create_tenant_policies('events', '{ROLES.worker}')" in script
    assert f"op.create_tenant_policies('customer_parcels', '{ROLES.worker}')" in script
    assert "sa.PrimaryKeyConstraint('event_id', 'tenant_id')" in script
    environment.upgrade()
    assert environment.difference() == []
    with postgres_engine.begin() as connection:
        let_log_in(connection, ROLES.worker)
    assert _findings(environment) == []
    damages = {
        "ALTER TABLE events NO FORCE ROW LEVEL SECURITY": "row security is not enabled, or not forced",
        "DROP POLICY sa_eventsource_tenant ON snapshots": "policy sa_eventsource_tenant is missing or is another one",
        "ALTER POLICY sa_eventsource_all_tenants ON projections TO PUBLIC": (
            "policy sa_eventsource_all_tenants is missing or is another one"
        ),
    }
    with postgres_engine.begin() as connection:
        for each in damages:
            connection.exec_driver_sql(each)
    assert {each.partition("; ")[0] for each in _findings(environment)} == set(damages.values())
    assert "op.create_tenant_policies('snapshots'" in environment.revise("repair")
    environment.upgrade()
    assert _findings(environment) == []
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql("CREATE POLICY everything ON events USING (true)")
    assert "policy everything lets rows of other tenants be seen or written" in _findings(environment)[0]
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql("DROP POLICY everything ON events")
        connection.exec_driver_sql("CREATE POLICY less ON events AS RESTRICTIVE USING (version < 3)")
    assert "policy less hides rows from the tenants whose they are" in _findings(environment)[0]
    environment.downgrade()
    assert environment.left_over() == set()


def _findings(environment: Environment) -> list[str]:
    engine = engine_as(environment.engine, ROLES.worker)
    try:
        found = verify(for_tenant(engine, "alpha"), sys.modules[environment.module].Base)
    finally:
        engine.dispose()
    return [each.message for each in found.findings]
