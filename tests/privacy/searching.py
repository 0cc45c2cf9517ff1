"""Searching a whole database, and what is sent to it, for a value in all the ways that it may be written."""

from __future__ import annotations

import json
import re
from base64 import b64encode

from sqlalchemy import Engine, event, inspect, text


def spellings(value: str) -> set[bytes]:
    """Write a value as UTF-8, with the escapes of JSON, plain and as a dump has them, and in base64, all three alignments."""
    plain = value.encode()
    found = {plain}
    for escaped in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        found |= {escaped.encode(), escaped.replace("\\", "\\\\").encode()}
    for offset in range(3):
        encoded = b64encode(b"\0" * offset + plain)
        found.add(encoded[4 if offset else 0 : len(encoded) // 4 * 4 - 4])
    return found | {plain.hex().encode()}


def places(engine: Engine, value: str) -> list[str]:
    """List the tables that hold a value in one of its spellings; a log with partitions counts as one."""
    wanted = spellings(value)
    found = []
    with engine.connect() as connection:
        for table in inspect(connection).get_table_names():
            if re.fullmatch(r"events_p\d+", table):
                continue
            for row in connection.execute(text(f'SELECT * FROM "{table}"')):
                written = " ".join(
                    each.hex() if isinstance(each, bytes) else json.dumps(each, ensure_ascii=False, default=str) for each in row
                )
                if any(each in written.encode() for each in wanted):
                    found.append(table)
    return sorted(set(found))


def what_is_sent(engine: Engine) -> list[str]:
    """List, from now on, the statements that an engine sends, with their parameters."""
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _u, text, parameters, _x, _m: sent.append(f"{text} {parameters!r}"))
    return sent
