"""Giving tables that are there already the column that says whose a row is: all rows that they hold become one tenant's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.mapping.column_types import MAX_NAME_LENGTH
from sa_eventsource.mapping.statements import TableNames, TableStatement, literal_name
from sa_eventsource.mapping.tenant_columns import ALL_TENANTS, TENANT_ID, TENANT_SETTING

if TYPE_CHECKING:
    from sqlalchemy import Table


def addition_statement(table: Table, tenant: str) -> TableStatement:
    """Give the statement that adds the column to a table, and puts it into the primary key and all that is unique.

    No row is written: PostgreSQL works out the default once, for all rows that are there, and remembers it. So the triggers of a
    log have nothing to refuse. The table is locked while its unique indexes are built.

    Args:
        table: The table, without the column.
        tenant: Whose its rows are.
    """
    whose = f"convert_from(decode('{tenant.encode().hex()}', 'hex'), 'UTF8')"

    def render(names: TableNames) -> str:
        return f"""
            DO $do$ DECLARE home regclass := {literal_name(names.table)}::regclass; each record; BEGIN
                PERFORM set_config('{TENANT_SETTING}', {whose}, true);
                ALTER TABLE {names.table} ADD COLUMN {TENANT_ID} varchar({MAX_NAME_LENGTH}) NOT NULL
                    DEFAULT nullif(nullif(current_setting('{TENANT_SETTING}', true), ''), '{ALL_TENANTS}');
                PERFORM set_config('{TENANT_SETTING}', '', true);
                FOR each IN
                    SELECT quote_ident(conname) AS name, contype AS kind, (
                        SELECT string_agg(quote_ident(attname), ', ' ORDER BY place)
                        FROM unnest(conkey) WITH ORDINALITY AS k (number, place)
                            JOIN pg_attribute ON attrelid = conrelid AND attnum = number
                    ) AS columns
                    FROM pg_constraint WHERE conrelid = home AND contype IN ('p', 'u')
                LOOP
                    CONTINUE WHEN each.kind = 'u' AND each.columns = quote_ident('position');
                    EXECUTE 'ALTER TABLE ' || home || ' DROP CONSTRAINT ' || each.name || ', ADD CONSTRAINT ' || each.name
                        || CASE each.kind WHEN 'p' THEN ' PRIMARY KEY (' || each.columns || ', {TENANT_ID})'
                            ELSE ' UNIQUE ({TENANT_ID}, ' || each.columns || ')' END;
                END LOOP;
                FOR each IN
                    SELECT indexrelid::regclass AS name, pg_get_indexdef(indexrelid) AS definition
                    FROM pg_index WHERE indrelid = home AND indisunique
                        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
                LOOP
                    EXECUTE 'DROP INDEX ' || each.name;
                    EXECUTE regexp_replace(each.definition, ' USING ([a-z]+) [(]', ' USING \\1 ({TENANT_ID}, ');
                END LOOP;
            END $do$
        """

    return TableStatement(table, render)
