"""Moving a log: ``python -m benchmarks.moving [--url URL] [--events N] [--rounds N]``.

A log of orders is made, exported, and imported into an empty log, several times, as lines of JSON and as Parquet. Beside the rate
stands the processor's time for an event, in Python and in the server's process, which work at the same time: the longer one is the
limit where each has a core. By hand means a COPY of bytes that need no look, into the same table with the same indexes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from benchmarks.costs import measured
from benchmarks.databases import empty_database
from benchmarks.following import Base
from sa_eventsource import event_record, export_events, import_events
from sa_eventsource.transfer.parquet import export_parquet, import_parquet

if TYPE_CHECKING:
    from sqlalchemy import Connection

EVENTS = event_record(Base).__table__

_LOG = """
INSERT INTO events
    (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, metadata, occurred_at, correlation_id)
SELECT gen_random_uuid(), 'Order', 'order-' || stream, version, 'OrderPlaced', 1,
    jsonb_build_object(
        'customer_id', 'c-' || stream % 1000, 'total', (stream % 1000)::text || '.50',
        'lines', jsonb_build_array(
            jsonb_build_object('sku', 'A-' || version, 'quantity', 2, 'price', '9.90'),
            jsonb_build_object('sku', 'B-' || version, 'quantity', 1, 'price', '19.90'))),
    jsonb_build_object('user', 'u' || stream % 50),
    timestamptz '2026-01-01' + version * interval '1 hour' + stream * interval '1.001 second', gen_random_uuid()
FROM generate_series(1, :streams) AS stream, generate_series(1, 20) AS version ORDER BY version, stream
"""


def remake(engine: Engine) -> None:
    """Begin with an empty log."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)


def export_lines(connection: Connection, path: Path) -> None:
    """Write the log as lines of JSON."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in export_events(connection, EVENTS))


def import_lines(connection: Connection, path: Path) -> None:
    """Read lines of JSON into the log."""
    with path.open(encoding="utf-8") as file:
        import_events(connection, EVENTS, file)


def export_to_parquet(connection: Connection, path: Path) -> None:
    """Write the log as a Parquet file."""
    with path.open("wb") as file:
        export_parquet(connection, EVENTS, file)


def import_from_parquet(connection: Connection, path: Path) -> None:
    """Read a Parquet file into the log."""
    with path.open("rb") as file:
        import_parquet(connection, EVENTS, file)


FORMATS = {"lines": (export_lines, import_lines), "Parquet": (export_to_parquet, import_from_parquet)}


def copy_out(connection: Connection) -> bytes:
    """Write the log as COPY does."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy("COPY (SELECT * FROM events) TO STDOUT") as copy:
        return b"".join(bytes(part) for part in copy)


def copy_in(connection: Connection, rows: bytes) -> None:
    """Read into the log what :func:`copy_out` wrote: the least that an import can take."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy("COPY events FROM STDIN") as copy:
        for start in range(0, len(rows), _COPIED_AT_ONCE):
            copy.write(rows[start : start + _COPIED_AT_ONCE])


_COPIED_AT_ONCE = 256 * 1024


def measure(engine: Engine, events: int, rounds: int, table: Table, folder: Path) -> None:
    """Export and import the log."""
    remake(engine)
    with engine.begin() as connection:
        connection.execute(text(_LOG), {"streams": events // 20})
    for name, (export, _) in FORMATS.items():
        reading = engine.connect().execution_options(isolation_level="REPEATABLE READ")
        with reading as connection, measured(connection) as cost:
            export(connection, folder / name)
        size = (folder / name).stat().st_size / events
        table.add_row(*cost.row(f"export, {name}, {size:.0f} bytes an event", events))
    with engine.connect() as connection:
        by_hand = copy_out(connection)
    for _ in range(rounds):
        for name, (_, load) in FORMATS.items():
            remake(engine)
            with engine.begin() as connection, measured(connection) as cost:
                load(connection, folder / name)
            table.add_row(*cost.row(f"import, {name}", events))
        remake(engine)
        with engine.begin() as connection, measured(connection) as cost:
            copy_in(connection, by_hand)
        table.add_row(*cost.row("import, by hand", events))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a database to use instead of an embedded PostgreSQL; its log is dropped")
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    arguments = parser.parse_args()
    table = Table("what", "rate", "processor, Python", "processor, server", "load")
    with empty_database(arguments.url, durable=arguments.durable) as engine, tempfile.TemporaryDirectory() as folder:
        measure(engine, arguments.events, arguments.rounds, table, Path(folder))
        Base.metadata.drop_all(engine)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
