"""What a table has in PostgreSQL's catalogue besides its rows, when another takes its place: what is made again, what is refused.

``LIKE ... INCLUDING`` takes along what belongs to the columns: types, defaults, comments, checks, compression, storage. The queries
here write statements for the rest. They are asked before the old table is dropped, and said when the new one has its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

LIKE = "INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY EXCLUDING STATISTICS"


@dataclass(frozen=True, slots=True)
class Carried:
    """A statement that gives the new table something that the old one had.

    Attributes:
        scope: What it is said of: ``table``; ``leaves``, the tables that hold the rows; ``all`` of these; ``sequence``, which
            positions are drawn from; ``none``, as it names all that it is about.
        before: What stands before the table's name; with ``none``, the whole statement.
        behind: What follows it.
    """

    scope: str
    before: str
    behind: str


_TABLES = """
    WITH events AS (SELECT to_regclass(:events) AS oid),
    partitions AS (
        SELECT oid FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = to_regclass(:events) AND relispartition
    ),
    leaves AS (
        SELECT oid FROM partitions
        UNION ALL SELECT oid FROM events WHERE NOT EXISTS (SELECT FROM partitions)
    ),
    tables AS (SELECT oid FROM events UNION ALL SELECT oid FROM partitions)
"""

_LOST = text(f"""
    {_TABLES}
    SELECT 'trigger ' || tgname FROM pg_trigger
    WHERE tgrelid IN (TABLE tables) AND NOT tgisinternal AND tgparentid = 0 AND NOT starts_with(tgname, 'sa_eventsource_immutable')
    UNION
    SELECT 'rule ' || rulename FROM pg_rewrite WHERE ev_class IN (TABLE tables)
    UNION
    SELECT 'publication ' || pubname FROM pg_publication AS p
    WHERE puballtables
        OR EXISTS (SELECT FROM pg_publication_rel WHERE prpubid = p.oid AND prrelid IN (TABLE tables))
        OR EXISTS (
            SELECT FROM pg_publication_namespace JOIN pg_class ON relnamespace = pnnspid
            WHERE pnpubid = p.oid AND pg_class.oid IN (TABLE tables)
        )
    UNION
    SELECT 'subscription ' || subname FROM pg_subscription_rel JOIN pg_subscription AS s ON s.oid = srsubid
    WHERE srrelid IN (TABLE tables)
    UNION
    SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
    WHERE deptype = 'n'
        AND (
            refclassid = 'pg_class'::regclass AND refobjid IN (TABLE tables)
            OR refclassid = 'pg_type'::regclass
                AND refobjid IN (SELECT reltype FROM pg_class WHERE oid IN (TABLE tables))
        )
        AND NOT (classid = 'pg_rewrite'::regclass AND objid IN (SELECT oid FROM pg_rewrite WHERE ev_class IN (TABLE tables)))
        AND NOT (classid = 'pg_constraint'::regclass AND objid IN (SELECT oid FROM pg_constraint WHERE conrelid IN (TABLE tables)))
        AND NOT (classid = 'pg_policy'::regclass AND objid IN (SELECT oid FROM pg_policy WHERE polrelid IN (TABLE tables)))
        AND NOT (classid = 'pg_attrdef'::regclass AND objid IN (SELECT oid FROM pg_attrdef WHERE adrelid IN (TABLE tables)))
        AND NOT (classid = 'pg_class'::regclass AND objid IN (TABLE tables))
    UNION
    SELECT 'exclusion constraint ' || conname FROM pg_constraint WHERE conrelid = to_regclass(:events) AND contype = 'x'
    UNION
    SELECT 'inheritance from ' || inhparent::regclass FROM pg_inherits WHERE inhrelid = to_regclass(:events)
    UNION
    SELECT 'the mark of CLUSTER on ' || indexrelid::regclass FROM pg_index WHERE indrelid IN (TABLE tables) AND indisclustered
    UNION
    SELECT 'the replica identity by ' || indexrelid::regclass FROM pg_index WHERE indrelid IN (TABLE tables) AND indisreplident
    UNION
    SELECT 'statistics targets of index ' || attrelid::regclass FROM pg_attribute JOIN pg_index ON indexrelid = attrelid
    WHERE indrelid IN (TABLE tables) AND attstattarget >= 0
    UNION
    SELECT 'the identity of column ' || attname FROM pg_attribute
    WHERE attrelid = to_regclass(:events) AND attidentity <> '' AND attname <> 'position'
    UNION
    SELECT 'sequence ' || objid::regclass FROM pg_depend JOIN pg_class ON pg_class.oid = objid AND relkind = 'S'
    WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = to_regclass(:events) AND deptype = 'a'
        AND objid <> pg_get_serial_sequence(:events, 'position')::regclass
    UNION
    SELECT 'security label of ' || provider FROM pg_seclabel WHERE classoid = 'pg_class'::regclass AND objoid IN (TABLE tables)
    UNION
    SELECT 'type ' || reloftype::regtype FROM pg_class WHERE oid = to_regclass(:events) AND reloftype <> 0
    UNION
    SELECT 'tablespace ' || spcname FROM pg_class AS c JOIN pg_tablespace AS s ON s.oid = reltablespace
    WHERE c.oid IN (TABLE tables) OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (TABLE tables))
    UNION
    SELECT 'access method ' || amname FROM pg_class AS c JOIN pg_am AS a ON a.oid = relam
    WHERE c.oid IN (TABLE leaves) AND amname <> 'heap'
    UNION
    SELECT 'what makes it unlogged' FROM pg_class WHERE oid IN (TABLE leaves) AND relpersistence <> 'p'
    UNION
    SELECT 'partitions with different storage options or replica identities' FROM pg_class WHERE oid IN (TABLE leaves)
    HAVING count(DISTINCT (reloptions, relreplident)) > 1
    UNION
    SELECT 'privileges of its own on partition ' || c.oid::regclass FROM pg_class AS c, aclexplode(relacl)
    WHERE c.oid IN (TABLE partitions) AND grantee <> relowner
    UNION
    SELECT 'policy ' || polname || ' of partition ' || polrelid::regclass FROM pg_policy WHERE polrelid IN (TABLE partitions)
    UNION
    SELECT 'index ' || indexrelid::regclass || ' of a partition alone' FROM pg_index
    WHERE indrelid IN (TABLE partitions) AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)
    UNION
    SELECT 'constraint ' || conname || ' of a partition alone' FROM pg_constraint
    WHERE conrelid IN (TABLE partitions) AND conislocal AND conparentid = 0 AND coninhcount = 0
    UNION
    SELECT 'comment on partition ' || objoid::regclass FROM pg_description
    WHERE classoid = 'pg_class'::regclass AND objoid IN (TABLE partitions) AND objsubid = 0
    UNION
    SELECT 'statistics ' || stxname || ' of a partition alone' FROM pg_statistic_ext WHERE stxrelid IN (TABLE partitions)
    ORDER BY 1
""")

_KEYS = (
    text("""
        SELECT 'table', '', 'ADD CONSTRAINT ' || quote_ident(conname) || ' '
            || CASE contype WHEN 'p' THEN 'PRIMARY KEY (' || :key || ')' ELSE pg_get_constraintdef(oid) END
        FROM pg_constraint WHERE conrelid = to_regclass(:events) AND contype IN ('p', 'u', 'f')
        ORDER BY contype <> 'p', conname
    """),
    text("""
        SELECT 'none', replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON '), '' FROM pg_index
        WHERE indrelid = to_regclass(:events)
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid AND contype IN ('p', 'u'))
        ORDER BY indexrelid::regclass::text
    """),
)

_PROPERTIES = (
    text("""
        SELECT 'none', pg_get_statisticsobjdef(oid), '' FROM pg_statistic_ext WHERE stxrelid = to_regclass(:events)
    """),
    text("""
        SELECT 'none', format('ALTER STATISTICS %I.%I SET STATISTICS %s', nspname, stxname, stxstattarget), ''
        FROM pg_statistic_ext JOIN pg_namespace AS n ON n.oid = stxnamespace
        WHERE stxrelid = to_regclass(:events) AND stxstattarget >= 0
    """),
    text("""
        SELECT 'all', 'ALTER TABLE', format('ALTER COLUMN %I SET STATISTICS %s', attname, attstattarget) FROM pg_attribute
        WHERE attrelid = to_regclass(:events) AND attnum > 0 AND attstattarget >= 0
    """),
    text("""
        SELECT 'all', 'ALTER TABLE', format('ALTER COLUMN %I SET (%s)', attname, option)
        FROM pg_attribute, unnest(attoptions) AS option
        WHERE attrelid = to_regclass(:events) AND attnum > 0 AND starts_with(option, 'n_distinct')
    """),
    text(f"""
        {_TABLES}
        SELECT DISTINCT 'leaves', 'ALTER TABLE', format('SET (%s)', string_agg(option, ', ' ORDER BY option))
        FROM (
            SELECT c.oid, unnest(c.reloptions) AS option FROM pg_class AS c WHERE c.oid IN (TABLE leaves)
            UNION ALL
            SELECT c.oid, 'toast.' || unnest(t.reloptions) FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid
            WHERE c.oid IN (TABLE leaves)
        ) AS options
        GROUP BY oid
    """),
    text(f"""
        {_TABLES}
        SELECT DISTINCT 'all', 'ALTER TABLE', 'REPLICA IDENTITY ' || CASE relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END
        FROM pg_class WHERE oid IN (TABLE leaves) AND relreplident IN ('f', 'n')
    """),
    text("""
        SELECT 'all', 'ALTER TABLE', 'ENABLE ALWAYS TRIGGER ' || quote_ident(tgname) FROM pg_trigger
        WHERE tgrelid = to_regclass(:events) AND NOT tgisinternal AND tgenabled = 'A'
    """),
    text("""
        SELECT 'table', 'COMMENT ON TABLE', 'IS ' || quote_literal(obj_description(to_regclass(:events), 'pg_class'))
        WHERE obj_description(to_regclass(:events), 'pg_class') IS NOT NULL
        UNION ALL
        SELECT 'table', 'COMMENT ON CONSTRAINT ' || quote_ident(conname) || ' ON',
            'IS ' || quote_literal(obj_description(oid, 'pg_constraint'))
        FROM pg_constraint
        WHERE conrelid = to_regclass(:events) AND contype IN ('p', 'u', 'f') AND obj_description(oid, 'pg_constraint') IS NOT NULL
        UNION ALL
        SELECT 'none', format('COMMENT ON INDEX %s IS %L', indexrelid::regclass, obj_description(indexrelid, 'pg_class')), ''
        FROM pg_index WHERE indrelid = to_regclass(:events) AND obj_description(indexrelid, 'pg_class') IS NOT NULL
        UNION ALL
        SELECT 'none', format('COMMENT ON STATISTICS %I.%I IS %L', nspname, stxname, obj_description(s.oid, 'pg_statistic_ext')), ''
        FROM pg_statistic_ext AS s JOIN pg_namespace AS n ON n.oid = stxnamespace
        WHERE stxrelid = to_regclass(:events) AND obj_description(s.oid, 'pg_statistic_ext') IS NOT NULL
        UNION ALL
        SELECT 'table', 'COMMENT ON TRIGGER ' || quote_ident(tgname) || ' ON',
            'IS ' || quote_literal(obj_description(oid, 'pg_trigger'))
        FROM pg_trigger
        WHERE tgrelid = to_regclass(:events) AND NOT tgisinternal AND obj_description(oid, 'pg_trigger') IS NOT NULL
    """),
    text("""
        SELECT 'table', 'CREATE POLICY ' || quote_ident(polname) || ' ON',
            CASE WHEN polpermissive THEN 'AS PERMISSIVE' ELSE 'AS RESTRICTIVE' END
            || ' FOR ' || CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
                ELSE 'ALL' END
            || ' TO ' || (
                SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END, ', ') FROM unnest(polroles) AS role
            )
            || coalesce(' USING (' || pg_get_expr(polqual, polrelid) || ')', '')
            || coalesce(' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')', '')
        FROM pg_policy WHERE polrelid = to_regclass(:events)
        UNION ALL
        SELECT 'table', 'COMMENT ON POLICY ' || quote_ident(polname) || ' ON',
            'IS ' || quote_literal(obj_description(oid, 'pg_policy'))
        FROM pg_policy WHERE polrelid = to_regclass(:events) AND obj_description(oid, 'pg_policy') IS NOT NULL
        ORDER BY 2 DESC
    """),
    text("""
        SELECT 'all', 'ALTER TABLE', 'ENABLE ROW LEVEL SECURITY' FROM pg_class
        WHERE oid = to_regclass(:events) AND relrowsecurity
        UNION ALL
        SELECT 'all', 'ALTER TABLE', 'FORCE ROW LEVEL SECURITY' FROM pg_class
        WHERE oid = to_regclass(:events) AND relforcerowsecurity
    """),
)

_RIGHTS = (
    text("""
        SELECT 'table', 'REVOKE ALL ON', 'FROM CURRENT_USER' FROM pg_class
        WHERE oid = to_regclass(:events) AND relacl IS NOT NULL
    """),
    text("""
        SELECT scope, format('GRANT %s%s ON', privilege_type, of_columns), 'TO '
            || CASE grantee WHEN 0 THEN 'PUBLIC' WHEN owner THEN 'CURRENT_USER' ELSE grantee::regrole::text END
            || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM (
            SELECT 'table' AS scope, relowner AS owner, '' AS of_columns, granted.*
            FROM pg_class, aclexplode(relacl) AS granted WHERE oid = to_regclass(:events)
            UNION ALL
            SELECT 'table', relowner, format(' (%I)', attname), granted.*
            FROM pg_class AS c JOIN pg_attribute ON attrelid = c.oid, aclexplode(attacl) AS granted
            WHERE c.oid = to_regclass(:events)
            UNION ALL
            SELECT 'sequence', relowner, '', granted.*
            FROM pg_class, aclexplode(relacl) AS granted WHERE oid = pg_get_serial_sequence(:events, 'position')::regclass
        ) AS granted
        ORDER BY scope, 2, 3
    """),
    text("""
        SELECT DISTINCT 'sequence', 'GRANT USAGE ON', 'TO ' || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
        FROM (
            SELECT relowner, granted.* FROM pg_class, aclexplode(relacl) AS granted WHERE oid = to_regclass(:events)
            UNION ALL
            SELECT relowner, granted.* FROM pg_class AS c JOIN pg_attribute ON attrelid = c.oid, aclexplode(attacl) AS granted
            WHERE c.oid = to_regclass(:events)
        ) AS granted
        WHERE privilege_type = 'INSERT' AND grantee <> relowner
    """),
    text("""
        SELECT 'all', 'ALTER TABLE', 'OWNER TO ' || relowner::regrole FROM pg_class
        WHERE oid = to_regclass(:events) AND relowner <> quote_ident(current_user)::regrole
    """),
)

_GRANTED = text("""
    SELECT DISTINCT 'none', 'REVOKE ALL ON ' || oid::regclass || ' FROM '
        || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, ''
    FROM pg_class, aclexplode(relacl)
    WHERE grantee <> relowner AND oid IN (
        SELECT to_regclass(:events)
        UNION ALL SELECT pg_get_serial_sequence(:events, 'position')::regclass
        UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(:events)
    )
""")


def lost_with(connection: Connection, table: Mapping[str, str]) -> tuple[str, ...]:
    """Name what cannot be given to another table, or would not mean the same there.

    Args:
        connection: On PostgreSQL.
        table: The table that is there, as ``to_regclass`` takes it, under ``events``.
    """
    return tuple(connection.scalars(_LOST, table))


def keys_of(connection: Connection, table: Mapping[str, str], key: str) -> Iterator[Carried]:
    """Say which constraints and indexes it has.

    Args:
        connection: On PostgreSQL.
        table: The table that is there.
        key: The columns of the new table's primary key.
    """
    for query in _KEYS:
        for scope, before, behind in connection.execute(query, {**table, "key": key}):
            yield Carried(scope, before or "ALTER TABLE", behind)


def properties_of(connection: Connection, table: Mapping[str, str]) -> Iterator[Carried]:
    """Say what else it has, except for its owner and privileges; row security comes last."""
    for query in _PROPERTIES:
        for row in connection.execute(query, table):
            yield Carried(*row)


def rights_on(connection: Connection, table: Mapping[str, str]) -> Iterator[Carried]:
    """Say who may do what with it, and whose it is.

    Who may append may draw positions: of an identity column, the table's privileges are enough for that.
    """
    for query in _RIGHTS:
        for row in connection.execute(query, table):
            yield Carried(*row)


def rights_by_default(connection: Connection, table: Mapping[str, str]) -> Iterator[Carried]:
    """Say how to take away what ``ALTER DEFAULT PRIVILEGES`` has given to others on a table that was just made."""
    for row in connection.execute(_GRANTED, table):
        yield Carried(*row)
