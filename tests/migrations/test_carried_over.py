"""A log that is moved into partitions, and out of them, keeps what its table has in the catalogue, or is not moved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import DeclarationError, EventSourceOptions, RepartitionError
from sa_eventsource.migrations.repartition import repartition
from tests.migrations.environment import NO_POSITION_KEY
from tests.shop import AnyTill

INSERT = (
    "INSERT INTO {} (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at) "
    "VALUES (gen_random_uuid(), 'P', '{}', 1, 'E', '{{}}', now())"
)


class Base(DeclarativeBase):
    """Base of a log without partitions."""

    __eventsource__ = EventSourceOptions(partitions=None)


class Till(AnyTill, Base):
    """What makes it the base of a log."""

    __aggregate_type__ = "carried_over.Till"


@pytest.fixture
def engine(postgres_engine: Engine) -> Engine:
    """Engine on a database with a log of four events."""
    Base.metadata.create_all(postgres_engine)
    execute(postgres_engine, *(INSERT.format("events", f"p-{number}") for number in range(4)))
    return postgres_engine


@pytest.fixture
def role(postgres_engine: Engine) -> Iterator[str]:
    """A role that can log in, and is no superuser."""
    with postgres_engine.begin() as connection:
        name = f"role_{connection.scalar(text('SELECT current_database()'))}"
    execute(postgres_engine, f"CREATE ROLE {name} LOGIN", f"GRANT ALL ON SCHEMA public TO {name}")
    yield name
    execute(postgres_engine, f"REASSIGN OWNED BY {name} TO CURRENT_USER", f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for each in statements:
            connection.exec_driver_sql(each)


def move(connection: Connection, partitions: int | None, table: str = "events") -> None:
    connection.execute(text(NO_POSITION_KEY.format(table=table)))
    repartition(connection, Table(table, MetaData()), partitions)


def moved(engine: Engine, *partitions: int | None) -> None:
    for each in partitions:
        with engine.begin() as connection:
            move(connection, each)


PROPERTIES = """
    CREATE TABLE owners (id text PRIMARY KEY)
    INSERT INTO owners SELECT aggregate_id FROM events
    GRANT SELECT (event_id, event_type), INSERT (event_id, aggregate_id) ON events TO {role}
    GRANT UPDATE ON events TO {role} WITH GRANT OPTION
    GRANT DELETE ON events TO PUBLIC
    REVOKE TRUNCATE ON events FROM CURRENT_USER
    GRANT SELECT ON SEQUENCE events_position_seq TO {role}
    ALTER TABLE events SET (autovacuum_vacuum_insert_scale_factor=0.01, fillfactor=90, toast.autovacuum_enabled=false)
    ALTER TABLE events ALTER COLUMN event_data SET STATISTICS 500
    ALTER TABLE events ALTER COLUMN aggregate_id SET (n_distinct=-0.5)
    ALTER TABLE events ALTER COLUMN event_data SET STORAGE EXTERNAL
    ALTER TABLE events ALTER COLUMN metadata SET COMPRESSION pglz
    ALTER TABLE events ADD CONSTRAINT owned FOREIGN KEY (aggregate_id) REFERENCES owners (id) ON DELETE RESTRICT
    ALTER TABLE events ADD CONSTRAINT named CHECK (event_type <> '100%%')
    ALTER TABLE events ENABLE ALWAYS TRIGGER sa_eventsource_immutable
    ALTER TABLE events REPLICA IDENTITY FULL
    CREATE INDEX own ON events (event_type) WHERE event_type LIKE '5%%'
    CREATE STATISTICS kinds (dependencies) ON event_type, aggregate_type FROM events
    ALTER STATISTICS kinds SET STATISTICS 50
    COMMENT ON TABLE events IS 'the log, 100%%'
    COMMENT ON COLUMN events.version IS 'the place'
    COMMENT ON INDEX own IS 'mine'
    COMMENT ON CONSTRAINT owned ON events IS 'whose'
    COMMENT ON CONSTRAINT named ON events IS 'not all'
    COMMENT ON STATISTICS kinds IS 'both'
    COMMENT ON TRIGGER sa_eventsource_immutable ON events IS 'never'
    CREATE POLICY mine ON events FOR SELECT TO {role}, PUBLIC USING (aggregate_id = 'p-1' AND event_type NOT LIKE '5%%')
    CREATE POLICY strict ON events AS RESTRICTIVE USING (version > 0) WITH CHECK (version < 1000)
    COMMENT ON POLICY mine ON events IS 'a part'
    ALTER TABLE events ENABLE ROW LEVEL SECURITY
    ALTER TABLE events FORCE ROW LEVEL SECURITY
"""

OF_THE_TABLE = """
    SELECT 'class' AS of, to_jsonb(c) - array['oid', 'reltype', 'relfilenode', 'reltoastrelid', 'relpages', 'reltuples',
        'relallvisible', 'relallfrozen', 'relfrozenxid', 'relminmxid'] AS found
    FROM pg_class AS c WHERE oid = 'events'::regclass
    UNION ALL SELECT 'toast', to_jsonb(t.reloptions) FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid
    WHERE c.oid = 'events'::regclass
    UNION ALL SELECT 'column', to_jsonb(a) - array['attrelid', 'attcacheoff', 'attoptions']
        || jsonb_build_object('n_distinct', (SELECT array_agg(o) FROM unnest(attoptions) AS o WHERE starts_with(o, 'n_distinct')))
    FROM pg_attribute AS a WHERE attrelid = 'events'::regclass
    UNION ALL SELECT 'default', jsonb_build_array(adnum, pg_get_expr(adbin, adrelid)) FROM pg_attrdef
    WHERE adrelid = 'events'::regclass
    UNION ALL SELECT 'constraint', jsonb_build_array(conname, pg_get_constraintdef(oid), convalidated, obj_description(oid))
    FROM pg_constraint WHERE conrelid = 'events'::regclass AND contype <> 'n'
    UNION ALL SELECT 'index', jsonb_build_array(pg_get_indexdef(indexrelid), obj_description(indexrelid), c.relowner, c.reloptions)
        || jsonb_build_array(indisprimary, indisunique, indisvalid, indisclustered, indisreplident)
    FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid WHERE indrelid = 'events'::regclass
    UNION ALL SELECT 'trigger', jsonb_build_array(tgname, pg_get_triggerdef(oid), tgenabled, obj_description(oid))
    FROM pg_trigger WHERE tgrelid = 'events'::regclass AND NOT tgisinternal
    UNION ALL SELECT 'policy', to_jsonb(p) - array['oid', 'polrelid', 'polqual', 'polwithcheck', 'polroles']
        || jsonb_build_object('qual', pg_get_expr(polqual, polrelid), 'check', pg_get_expr(polwithcheck, polrelid),
            'roles', (SELECT array_agg(r ORDER BY r) FROM unnest(polroles) AS r), 'comment', obj_description(oid))
    FROM pg_policy AS p WHERE polrelid = 'events'::regclass
    UNION ALL SELECT 'statistics', jsonb_build_array(pg_get_statisticsobjdef(oid), obj_description(oid), stxowner, stxstattarget)
    FROM pg_statistic_ext AS s WHERE stxrelid = 'events'::regclass
    UNION ALL SELECT 'comment', to_jsonb(d) - array['objoid'] FROM pg_description AS d WHERE objoid = 'events'::regclass
    UNION ALL SELECT 'sequence', jsonb_build_array(c.relname, c.relowner, c.relacl) FROM pg_class AS c
    WHERE oid = pg_get_serial_sequence('events', 'position')::regclass
    ORDER BY 1, 2
"""


def properties(engine: Engine) -> list[Any]:
    """All that the catalogue says of the table, except for numbers of objects and counts of rows."""
    with engine.connect() as connection:
        found = connection.execute(text(OF_THE_TABLE)).all()
    return [(of, sorted_sets(value)) for of, value in found]


def sorted_sets(value: Any) -> Any:
    """Privileges and options are sets, and PostgreSQL keeps them in the order in which they were given."""
    if isinstance(value, dict):
        return {name: sorted(each) if name in ("relacl", "attacl", "reloptions") and each else each for name, each in value.items()}
    return [sorted(each) if isinstance(each, list) else each for each in value] if isinstance(value, list) else value


def test_a_table_that_was_in_partitions_is_as_it_was(engine: Engine, role: str) -> None:
    execute(engine, *(each.strip() for each in PROPERTIES.format(role=role).strip().splitlines()))
    moved(engine, None)  # the constraint on positions is gone, and the sequence has privileges of its own
    before = properties(engine)
    assert {of for of, _ in before} >= {"class", "column", "constraint", "index", "policy", "statistics", "trigger", "sequence"}
    moved(engine, 4)
    with engine.connect() as connection:
        leaves = connection.execute(
            text(
                "SELECT reloptions, relreplident, relrowsecurity, relforcerowsecurity, relacl FROM pg_class "
                "WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'events'::regclass)"
            )
        ).all()
    assert len(leaves) == 4
    for options, identity, *secured, privileges in leaves:
        assert (set(options), identity, secured) == (
            {"autovacuum_vacuum_insert_scale_factor=0.01", "fillfactor=90"},
            "f",
            [True, True],
        )
        assert privileges is None
    moved(engine, 2, None)
    assert properties(engine) == before


def seen(engine: Engine, role: str, table: str = "events") -> int:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def test_row_security_holds_in_partitions(engine: Engine, role: str) -> None:
    execute(
        engine,
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role}",  # on the partitions too, which would be a way past the policy
        f"GRANT SELECT ON events TO {role}",
        "CREATE POLICY mine ON events USING (aggregate_id = 'p-1')",
        "ALTER TABLE events ENABLE ROW LEVEL SECURITY",
    )
    for partitions in (2, None, 3):
        moved(engine, partitions)
        assert seen(engine, role) == 1
    for number in range(3):
        with pytest.raises(DBAPIError, match="permission denied"):
            seen(engine, role, f"events_p{number}")
    execute(engine, f"GRANT SELECT ON events_p0, events_p1, events_p2 TO {role}")
    assert [seen(engine, role, f"events_p{number}") for number in range(3)] == [0, 0, 0]


def test_who_may_not_read_the_log_may_not_after_the_move(engine: Engine, role: str) -> None:
    execute(
        engine,
        f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {role}",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC",
    )
    moved(engine, 2)
    for table in ("events", "events_p0", "events_position_seq"):
        with pytest.raises(DBAPIError, match="permission denied"):
            seen(engine, role, table)


def test_an_owner_from_whom_row_security_hides_events_moves_all_of_them(engine: Engine, role: str) -> None:
    execute(
        engine,
        f"ALTER TABLE events OWNER TO {role}",
        f"ALTER FUNCTION events_immutable OWNER TO {role}",
        "CREATE POLICY mine ON events USING (aggregate_id = 'p-1')",
        "ALTER TABLE events ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE events FORCE ROW LEVEL SECURITY",
    )
    own = create_engine(engine.url.set(username=role))
    for partitions, visible in ((2, 1), (None, 1)):
        moved(own, partitions)
        assert seen(engine, role) == visible
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one() == 4
            assert connection.exec_driver_sql("SHOW row_security").scalar_one() == "on"
    own.dispose()


@pytest.mark.parametrize(
    ("statement", "lost"),
    [
        ("CREATE RULE nothing AS ON UPDATE TO events DO ALSO NOTIFY x", "rule nothing"),
        ("CREATE PUBLICATION p FOR ALL TABLES", "publication p"),
        ("CREATE PUBLICATION p FOR TABLES IN SCHEMA public", "publication p"),
        ("CREATE VIEW seen AS SELECT event_id FROM events", "rule _RETURN on view seen"),
        ("CREATE MATERIALIZED VIEW seen AS SELECT event_id FROM events", "rule _RETURN on materialized view seen"),
        ("CREATE TABLE notes (of events)", "column of of table notes"),
        ("CREATE FUNCTION n() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM events; END", "function n()"),
        ("CREATE TABLE child () INHERITS (events)", "table child"),
        ("CREATE TABLE notes (of uuid REFERENCES events (event_id))", "constraint notes_of_fkey on table notes"),
        ("ALTER TABLE events ADD CONSTRAINT x EXCLUDE USING btree (event_id WITH =)", "exclusion constraint x"),
        ("CLUSTER events USING events_pkey", "the mark of CLUSTER on events_pkey"),
        ("ALTER TABLE events REPLICA IDENTITY USING INDEX events_pkey", "the replica identity by events_pkey"),
        ("ALTER TABLE events ADD COLUMN n int GENERATED ALWAYS AS IDENTITY", "the identity of column n"),
        ("ALTER TABLE events ADD COLUMN n serial", "sequence events_n_seq"),
        ("ALTER TABLE events SET UNLOGGED", "what makes it unlogged"),
    ],
)
def test_what_cannot_go_along_is_named_and_nothing_is_done(engine: Engine, statement: str, lost: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
    before = properties(engine)
    with pytest.raises(RepartitionError) as caught, engine.begin() as connection:
        move(connection, 2)
    assert lost in caught.value.lost
    assert properties(engine) == before


@pytest.mark.parametrize(
    ("statement", "lost"),
    [
        ("CREATE INDEX alone ON events_p1 (event_type)", "index alone of a partition alone"),
        ("ALTER TABLE events_p1 ADD CONSTRAINT short CHECK (version < 100)", "constraint short of a partition alone"),
        ("COMMENT ON TABLE events_p1 IS 'the second'", "comment on partition events_p1"),
        ("GRANT SELECT ON events_p1 TO PUBLIC", "privileges of its own on partition events_p1"),
        ("CREATE POLICY mine ON events_p1 USING (true)", "policy mine of partition events_p1"),
        ("CREATE STATISTICS s ON event_type, version FROM events_p1", "statistics s of a partition alone"),
        ("ALTER TABLE events_p1 SET (fillfactor=50)", "partitions with different storage options or replica identities"),
        ("CREATE PUBLICATION p FOR TABLE events_p1", "publication p"),
    ],
)
def test_what_one_partition_has_is_named(engine: Engine, statement: str, lost: str) -> None:
    moved(engine, 2)
    execute(engine, statement)
    with pytest.raises(RepartitionError) as caught:
        moved(engine, 4)
    assert caught.value.lost == (lost,)


def test_a_name_that_something_else_has_is_refused(engine: Engine) -> None:
    execute(engine, "CREATE VIEW events_p1 AS SELECT 1 AS x")
    with pytest.raises(DeclarationError, match="would be named 'events_p1', and there is something else of that name"):
        moved(engine, 2)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one() == 4


class PartitionedBase(DeclarativeBase):
    """Base of a log in partitions."""

    __eventsource__ = EventSourceOptions(partitions=4)


class PartitionedTill(AnyTill, PartitionedBase):
    """What makes it one."""

    __aggregate_type__ = "carried_over.PartitionedTill"


def test_a_name_that_something_else_has_is_refused_by_create_all(postgres_engine: Engine) -> None:
    execute(postgres_engine, "CREATE TABLE events_p1 (x int)")
    with pytest.raises(DeclarationError, match="would be named 'events_p1'"):
        PartitionedBase.metadata.create_all(postgres_engine)


@pytest.mark.parametrize("length", [59, 60])
def test_a_name_as_long_as_partitions_can_have_is_moved(engine: Engine, length: int) -> None:
    name = "e" * length
    execute(engine, f"ALTER TABLE events RENAME TO {name}")
    for partitions in (4, 10, None):
        with engine.begin() as connection:
            move(connection, partitions, name)
            connection.exec_driver_sql(INSERT.format(name, f"q-{partitions}"))
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() == 7
