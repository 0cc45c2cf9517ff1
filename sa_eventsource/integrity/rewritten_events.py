"""Events that were rewritten on purpose, such as anonymised ones: the tree keeps their leaves, a record says what they became."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import insert, select

from sa_eventsource.exceptions import ProofError
from sa_eventsource.integrity.leaves import hash_of_event
from sa_eventsource.integrity.proofs_of_base import proofs_on
from sa_eventsource.integrity.stored_tree import StoredTree
from sa_eventsource.integrity.tree_growth import lock_tree
from sa_eventsource.integrity.tree_heads import check_signature, signed
from sa_eventsource.store import select_raw_events

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Self
    from uuid import UUID

    from sqlalchemy import Connection

    from sa_eventsource.integrity.proofs_of_base import ProofsOfBase
    from sa_eventsource.mapping import EventSourceTables

FORMAT = "sa_eventsource.rewritten_event 1"

_AT_A_TIME = 500


@contextmanager
def recorded_rewriting(
    connection: Connection, tables: EventSourceTables, event_ids: Collection[UUID], *, reason: str
) -> Iterator[None]:
    """Write down what becomes of events that the block rewrites on purpose, in the same transaction.

    Others are kept from adding to the tree until the transaction ends. Events that are not in the tree yet need no record: they go
    into it as they are then. Where the base has no proofs, nothing is done.

    Args:
        connection: The connection that rewrites them, in a transaction whose statements see what others have committed.
        tables: The library's tables.
        event_ids: The events.
        reason: Why, for the record.

    Raises:
        SigningKeyError: There is no key to sign with.
    """
    if tables.merkle_tree is None:
        yield
        return
    proofs = proofs_on(tables)
    lock_tree(connection, proofs)
    end = StoredTree(connection, proofs.merkle_tree).last_position()
    before = _hashes(connection, proofs, event_ids, end)
    yield
    _record(connection, proofs, before, _hashes(connection, proofs, before), reason)


def _record(
    connection: Connection, proofs: ProofsOfBase, before: Mapping[UUID, bytes], after: Mapping[UUID, bytes], reason: str
) -> None:
    now, rows = datetime.now(UTC), []
    for event_id, former in before.items():
        present = after.get(event_id, former)
        if present != former:
            key_id, signature = signed(_text(event_id, former, present, reason, now), proofs.signing_key)
            rows.append(
                {
                    "rewriting_id": uuid4(),
                    "event_id": event_id,
                    "former_hash": former,
                    "present_hash": present,
                    "reason": reason,
                    "rewritten_at": now,
                    "key_id": key_id,
                    "signature": signature,
                }
            )
    if rows:
        connection.execute(insert(proofs.rewritten_events), rows)


def _hashes(
    connection: Connection, proofs: ProofsOfBase, event_ids: Collection[UUID], last_position: int | None = None
) -> dict[UUID, bytes]:
    events, wanted = proofs.tables.events, list(event_ids)
    found: dict[UUID, bytes] = {}
    for begin in range(0, len(wanted), _AT_A_TIME):
        statement = select_raw_events(events).where(events.c.event_id.in_(wanted[begin : begin + _AT_A_TIME]))
        if last_position is not None:
            statement = statement.where(events.c.position <= last_position)
        found.update((row.event_id, hash_of_event(connection, row)) for row in connection.execute(statement))
    return found


def _text(event_id: UUID, former: bytes, present: bytes, reason: str, at: datetime) -> bytes:
    """What is signed: six lines, the last of which may have more."""
    return "\n".join((FORMAT, str(event_id), former.hex(), present.hex(), at.isoformat(), reason)).encode("utf-8", "surrogatepass")


@dataclass(slots=True)
class RewrittenEvents:
    """What is on record of events that were rewritten.

    Attributes:
        are_signed: Whether signatures were looked at.
        accepted: The events of which a record says what became of them.
    """

    are_signed: bool
    accepted: list[UUID] = field(default_factory=list)
    _steps: dict[UUID, dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))
    _doubtful: dict[UUID, str] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: Connection, proofs: ProofsOfBase, public_keys: Mapping[str, bytes] | None) -> Self:
        """Read the records. Where there are public keys, one that none of them signed counts for nothing."""
        found = cls(public_keys is not None)
        for row in connection.execute(select(proofs.rewritten_events)):
            text = _text(row.event_id, row.former_hash, row.present_hash, row.reason, row.rewritten_at)
            try:
                if public_keys is not None:
                    check_signature("the record", text, row.key_id, row.signature, public_keys)
            except ProofError as error:
                found._doubtful[row.event_id] = error.reason
            else:
                found._steps[row.event_id][row.former_hash] = row.present_hash
        return found

    def accepts(self, event_id: UUID, recorded: bytes, present: bytes) -> bool:
        """Check whether records lead from the leaf in the tree to the event as it is now."""
        steps = dict(self._steps.get(event_id, {}))
        reached: bytes | None = recorded
        while reached is not None and reached != present:
            reached = steps.pop(reached, None)
        if reached is None:
            return False
        self.accepted.append(event_id)
        return True

    def doubt(self, event_id: UUID) -> str:
        """Say what is wrong with the record of an event; nothing where it has none."""
        reason = self._doubtful.get(event_id)
        return "" if reason is None else f"; the record that it was rewritten on purpose counts for nothing: {reason}"
