"""Row security that the declaration does not put on the library's tables hides rows from some roles, and is found."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData

from sa_eventsource import role_faults, verify
from tests.roles.hospital import Base

ENABLE = "ALTER TABLE {} ENABLE ROW LEVEL SECURITY"
FORCE = "ALTER TABLE {} FORCE ROW LEVEL SECURITY"
POLICY = "CREATE POLICY p ON {} USING (version <> 3)"


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


def findings(engine: Engine) -> list[str]:
    return [str(each) for each in verify(engine, Base).findings if each.check == "row security" and not each.is_warning]


@pytest.mark.parametrize("table", ["events", "snapshots"])
@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ([ENABLE], "row security is enabled, and hides all rows from every role but the owner"),
        ([ENABLE, FORCE, POLICY], "row security is enabled, with policy p, and hides rows from some roles"),
        ([POLICY], "there is policy p, which hides rows from some roles as soon as row security is enabled"),
        ([FORCE], "row security is forced on the owner too, and hides rows as soon as it is enabled"),
    ],
    ids=["enabled", "policy", "policy not at work", "forced"],
)
def test_row_security_without_tenants_is_found(postgres_engine: Engine, table: str, statements: list[str], said: str) -> None:
    assert findings(postgres_engine) == []
    with postgres_engine.begin() as connection:
        assert role_faults(connection, Base) == []
        for each in statements:
            connection.exec_driver_sql(each.format(table))
        (fault,) = role_faults(connection, Base)
    assert (fault.table, fault.is_lack) == (table, False)
    assert fault.message.startswith(f"{table}: {said}")
    (found,) = findings(postgres_engine)
    assert found.startswith(f"row security: {table}: {said}")
