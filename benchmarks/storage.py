"""What an event takes on the disk, and what each index costs: ``python -m benchmarks.storage [--events N]``.

The log is compared with a table that a careful person would write by hand for the same events. An index costs what an append takes
longer with it than without: the server appends events by itself, one a transaction, to a copy of the log that lacks the index. What
counts is the time of the server's processor, which other work on the machine hardly changes. The copies take turns; the table shows
medians over the rounds.
"""

from __future__ import annotations

import argparse
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine, inspect, text

from benchmarks.accounts import LINES, Base, append_by_server, autocommitting, fill
from benchmarks.costs import measured
from benchmarks.databases import chosen_server, circumstances, own_database

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BY_HAND = "events_by_hand"

_BY_HAND = f"""
CREATE TABLE {BY_HAND} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    aggregate_type text NOT NULL, aggregate_id text NOT NULL, version integer NOT NULL,
    event_type text NOT NULL, event_data jsonb NOT NULL, occurred_at timestamptz NOT NULL,
    UNIQUE (aggregate_type, aggregate_id, version)
)
"""
_FILL_BY_HAND = f"""
INSERT INTO {BY_HAND} (aggregate_type, aggregate_id, version, event_type, event_data, occurred_at)
SELECT aggregate_type, aggregate_id, version, event_type, event_data, occurred_at FROM events ORDER BY position
"""


@dataclass(frozen=True)
class Sizes:
    """Bytes of a table, of all partitions together where it has some.

    Attributes:
        rows: The rows themselves, with what PostgreSQL keeps of free space and visibility.
        toast: What lies outside of its row, as it is too long.
        indexes: By name.
    """

    rows: int
    toast: int
    indexes: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of it."""
        return self.rows + self.toast + sum(self.indexes.values())


def sizes_of(engine: Engine, table: str) -> Sizes:
    """Ask for the sizes of a table."""
    with engine.connect() as connection:
        rows, toast = connection.execute(
            text("""
                SELECT sum(pg_table_size(oid) - coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0))::bigint,
                    sum(coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0))::bigint
                FROM pg_class WHERE oid = to_regclass(:table) OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass(:table)))
            """),
            {"table": table},
        ).one()
        indexes = connection.execute(
            text(
                "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) + coalesce((SELECT sum(pg_relation_size(relid)) "
                "FROM pg_partition_tree(indexrelid) WHERE relid <> indexrelid), 0)::bigint "
                "FROM pg_index WHERE indrelid = to_regclass(:table)"
            ),
            {"table": table},
        )
        return Sizes(rows, toast, dict(sorted(tuple(each) for each in indexes)))


def definitions_of_indexes(engine: Engine) -> dict[str, str]:
    """List the indexes of the log, with what creates each."""
    query = text("SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'events'::regclass")
    with engine.connect() as connection:
        return dict(sorted(tuple(each) for each in connection.execute(query)))


def copy_without(engine: Engine, index: str | None) -> str:
    """Copy the log into a table with the same indexes but one, or with all of them, and return its name."""
    name = f"without_{index or 'nothing'}"
    columns = ", ".join(each["name"] for each in inspect(engine).get_columns("events") if each["name"] != "position")
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {name} (LIKE events INCLUDING DEFAULTS INCLUDING IDENTITY)"))
        for other, definition in definitions_of_indexes(engine).items():
            if other != index:
                connection.execute(text(re.sub(r"INDEX \S+ ON \S+", f"INDEX ON {name}", definition)))
        connection.execute(text(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM events ORDER BY position"))
    return name


def append_times(engine: Engine, events: int, appends: int, rounds: int) -> dict[str | None, list[float]]:
    """Measure appends to copies of the log, each without one index; None stands for the copy with all.

    Returns:
        Microseconds of the server's processor for an append in each round, after one that warms up.
    """
    copies = {index: copy_without(engine, index) for index in (None, *definitions_of_indexes(engine))}
    with autocommitting(engine) as connection:
        for table in copies.values():
            connection.execute(text(f"VACUUM ANALYZE {table}"))
    times: dict[str | None, list[float]] = {index: [] for index in copies}
    for number in range(rounds + 1):
        first = events + number * appends
        for index, table in copies.items():
            with autocommitting(engine) as connection, measured(connection) as cost:
                append_by_server(connection, table, range(first, first + appends), accounts=events // LINES)
            if number:
                times[index].append(cost.server / appends * 1e6)
    return times


def sizes_table(log: Sizes, by_hand: Sizes, events: int) -> Table:
    """Show bytes an event."""
    table = Table("bytes an event", "the log", "a table by hand")
    table.add_row("rows", f"{log.rows / events:.0f}", f"{by_hand.rows / events:.0f}")
    table.add_row("TOAST", f"{log.toast / events:.0f}", f"{by_hand.toast / events:.0f}")
    for name, size in log.indexes.items():
        table.add_row(name, f"{size / events:.0f}", "")
    for name, size in by_hand.indexes.items():
        table.add_row(name, "", f"{size / events:.0f}")
    table.add_row("total", f"{log.total / events:.0f}", f"{by_hand.total / events:.0f}")
    return table


def times_table(times: Mapping[str | None, Sequence[float]]) -> Table:
    """Show what an append takes longer with each index: the median of the differences in a round."""
    whole = times[None]
    table = Table("index", "costs an append", "which takes without it")
    table.add_row("all of them are there", "", f"{statistics.median(whole):.1f} µs")
    for index, found in times.items():
        if index is not None:
            cost = statistics.median(all_there - without for all_there, without in zip(whole, found, strict=True))
            table.add_row(index, f"{cost:.1f} µs", f"{statistics.median(found):.1f} µs")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="in the log")
    parser.add_argument("--padding", type=int, default=0, help="characters that each payload is longer by")
    parser.add_argument("--appends", type=int, default=20_000, help="to each copy in each round; 0 to measure bytes only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    arguments = parser.parse_args()
    console = Console(width=120)
    with chosen_server() as server, own_database(server, durable=arguments.durable) as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        fill(engine, arguments.events, padding=arguments.padding)
        with engine.begin() as connection:
            connection.execute(text(_BY_HAND))
            connection.execute(text(_FILL_BY_HAND))
        console.print(sizes_table(sizes_of(engine, "events"), sizes_of(engine, BY_HAND), arguments.events))
        if arguments.appends:
            console.print(times_table(append_times(engine, arguments.events, arguments.appends, arguments.rounds)))
        print(circumstances(server))
        engine.dispose()


if __name__ == "__main__":
    main()
