"""Ways for a superuser to tamper with a log and its tree, so that nothing in the log itself shows it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from uuid import uuid4

from sqlalchemy import Connection, text

from sa_eventsource.integrity.leaves import hash_of_event, unpacked
from sa_eventsource.store import select_raw_events
from tests.integrity.proven_log import tables_of_log

Tampering = Callable[[Connection, random.Random], None]

COLUMNS = {
    "event_id": "gen_random_uuid()",
    "aggregate_type": "aggregate_type || '.'",
    "aggregate_id": "aggregate_id || '-x'",
    "version": "version + 1000",
    "event_type": "event_type || 'x'",
    "event_version": "event_version + 1",
    "event_data": "jsonb_set(event_data, '{amount}', to_jsonb((event_data->>'amount')::int + 1))",
    "metadata": """'{"user": "someone else"}'::jsonb""",
    "occurred_at": "occurred_at - interval '1 microsecond'",
    "recorded_at": "recorded_at + interval '1 microsecond'",
    "correlation_id": "gen_random_uuid()",
    "causation_id": "gen_random_uuid()",
    "position": "position + 1000000",
}
"""How each column of an event is altered."""


def _any(connection: Connection, rng: random.Random) -> int:
    """The position of some event."""
    positions: Sequence[int] = connection.execute(text("SELECT position FROM events ORDER BY position")).scalars().all()
    return rng.choice(positions)


def _alter(column: str, expression: str) -> Tampering:
    def alter(connection: Connection, rng: random.Random) -> None:
        position = _any(connection, rng)
        connection.execute(text(f"UPDATE events SET {column} = {expression} WHERE position = :p"), {"p": position})

    return alter


def delete(connection: Connection, rng: random.Random) -> None:
    connection.execute(text("DELETE FROM events WHERE position = :p"), {"p": _any(connection, rng)})


def delete_stream(connection: Connection, rng: random.Random) -> None:
    one = "SELECT aggregate_id FROM events WHERE position = :p"
    connection.execute(text(f"DELETE FROM events WHERE aggregate_id = ({one})"), {"p": _any(connection, rng)})


def truncate_tail(connection: Connection, rng: random.Random) -> None:
    connection.execute(text("DELETE FROM events WHERE position >= :p"), {"p": _any(connection, rng)})


def truncate_tail_with_tree(connection: Connection, rng: random.Random) -> None:
    """Cut the tree off too, where a batch ends: what is left is as it was at that time."""
    ends = connection.execute(text("SELECT last_position FROM merkle_tree ORDER BY tree_size")).scalars().all()
    end = rng.choice([0, *ends[:-1]])
    connection.execute(text("DELETE FROM merkle_tree WHERE last_position > :p"), {"p": end})
    connection.execute(text("DELETE FROM events WHERE position > :p"), {"p": end})


def truncate_all(connection: Connection, rng: random.Random) -> None:
    connection.execute(text("TRUNCATE events"))


def swap_positions(connection: Connection, rng: random.Random) -> None:
    one, other = _two(connection, rng)
    _swap(connection, "position", one, other)


def swap_payloads(connection: Connection, rng: random.Random) -> None:
    one, other = _two(connection, rng)
    _swap(connection, "event_data", one, other)


def swap_ids(connection: Connection, rng: random.Random) -> None:
    one, other = _two(connection, rng)
    _swap(connection, "event_id", one, other)


def _two(connection: Connection, rng: random.Random) -> tuple[int, int]:
    """The positions of two events whose payloads differ."""
    rows = connection.execute(text("SELECT position, event_data::text FROM events")).all()
    one = rng.choice(rows)
    return one[0], rng.choice([each for each in rows if each[1] != one[1]])[0]


def _swap(connection: Connection, column: str, one: int, other: int) -> None:
    """Give each of two events what the other one has, with no unique constraint in the way."""
    both = text(f"SELECT position, {column} FROM events WHERE position IN (:one, :other)")
    values = {row[0]: row[1] for row in connection.execute(both, {"one": one, "other": other})}
    if column == "position":
        move = "UPDATE events SET position = :after WHERE position = :before"
        for before, after in ((one, -1), (other, one), (-1, other)):
            connection.execute(text(move), {"before": before, "after": after})
        return
    if column == "event_data":
        values = {key: json.dumps(value) for key, value in values.items()}
    if column == "event_id":
        connection.execute(text("UPDATE events SET event_id = :new WHERE position = :p"), {"p": one, "new": uuid4()})
    write = f"UPDATE events SET {column} = (:value){'::jsonb' if column == 'event_data' else ''} WHERE position = :p"
    for position, value in ((other, values[one]), (one, values[other])):
        connection.execute(text(write), {"p": position, "value": value})


def slip_in(connection: Connection, rng: random.Random) -> None:
    """Add an event at a position that is free, or make room for it."""
    position = _any(connection, rng)
    connection.execute(text("UPDATE events SET position = -position WHERE position >= :p"), {"p": position})
    connection.execute(text("UPDATE events SET position = 1 - position WHERE position < 0"))
    _insert_at(connection, position)


def slip_in_before_all(connection: Connection, rng: random.Random) -> None:
    _insert_at(connection, -rng.randrange(1, 100))


def _insert_at(connection: Connection, position: int) -> None:
    connection.execute(
        text(
            "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at, position) "
            "VALUES (:id, 'integrity.Account', :stream, 1, 'bank.Deposited', '{}', now(), :p)"
        ),
        {"id": uuid4(), "stream": str(uuid4()), "p": position},
    )


def reset_worker(connection: Connection, rng: random.Random) -> None:
    """Alter an event, and have the tree grow anew over what is there."""
    _alter("event_data", COLUMNS["event_data"])(connection, rng)
    connection.execute(text("TRUNCATE merkle_tree"))


def damage_tree(column: str) -> Tampering:
    def damage(connection: Connection, rng: random.Random) -> None:
        rows = connection.execute(text(f"SELECT tree_size, {column} FROM merkle_tree WHERE length({column}) > 0")).all()
        size, data = rng.choice(rows)
        spot, damaged = rng.randrange(len(data)), bytearray(data)
        damaged[spot] ^= 1 << rng.randrange(8)
        connection.execute(text(f"UPDATE merkle_tree SET {column} = :d WHERE tree_size = :s"), {"d": bytes(damaged), "s": size})

    return damage


def forge_leaf(connection: Connection, rng: random.Random) -> None:
    """Alter an event, and put its new hash into its leaf."""
    events, position = tables_of_log().events, _any(connection, rng)
    connection.execute(text(f"UPDATE events SET event_data = {COLUMNS['event_data']} WHERE position = :p"), {"p": position})
    event = connection.execute(select_raw_events(events).where(events.c.position == position)).one()
    row = connection.execute(
        text("SELECT tree_size, positions, leaf_hashes FROM merkle_tree WHERE last_position >= :p ORDER BY tree_size LIMIT 1"),
        {"p": position},
    ).one()
    spot, hashes = 32 * unpacked(row.positions).index(position), bytearray(row.leaf_hashes)
    hashes[spot : spot + 32] = hash_of_event(connection, event)
    connection.execute(
        text("UPDATE merkle_tree SET leaf_hashes = :h WHERE tree_size = :s"), {"h": bytes(hashes), "s": row.tree_size}
    )


def delete_batch(connection: Connection, rng: random.Random) -> None:
    sizes = connection.execute(text("SELECT tree_size FROM merkle_tree")).scalars().all()
    connection.execute(text("DELETE FROM merkle_tree WHERE tree_size = :s"), {"s": rng.choice(sizes[:-1])})


TAMPERINGS: dict[str, Tampering] = {
    **{f"alter {column}": _alter(column, expression) for column, expression in COLUMNS.items()},
    "delete an event": delete,
    "delete a stream": delete_stream,
    "cut off the tail": truncate_tail,
    "cut off the tail, and the tree": truncate_tail_with_tree,
    "empty the log": truncate_all,
    "swap positions": swap_positions,
    "swap payloads": swap_payloads,
    "swap ids": swap_ids,
    "slip an event in": slip_in,
    "slip an event in before all": slip_in_before_all,
    "alter an event, and empty the tree": reset_worker,
    "alter an event, and its leaf": forge_leaf,
    "delete a batch of the tree": delete_batch,
    **{
        f"damage {column}": damage_tree(column)
        for column in ("positions", "leaf_hashes", "node_hashes", "root", "positions_hash", "signature")
    },
}
"""What is tried. After each, the tree may grow once more, as a worker would have it do."""


def may_tamper(connection: Connection) -> None:
    """Do what a superuser does first: no trigger and no constraint is in the way until the transaction ends."""
    connection.execute(text("SET LOCAL session_replication_role = 'replica'"))
