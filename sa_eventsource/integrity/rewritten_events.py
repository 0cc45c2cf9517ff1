"""Events that were rewritten on purpose, such as anonymised ones: the tree keeps their leaves, a record says what they became."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from sqlalchemy import Text, case, cast, insert, literal, select

from sa_eventsource.exceptions import ProofError, RewritingError
from sa_eventsource.integrity.leaves import hash_of_event
from sa_eventsource.integrity.proofs_of_base import proofs_on
from sa_eventsource.integrity.stored_tree import StoredTree
from sa_eventsource.integrity.tree_growth import lock_tree
from sa_eventsource.integrity.tree_heads import check_signature, signed
from sa_eventsource.store import database_of, select_raw_events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self
    from uuid import UUID

    from sqlalchemy import Connection

    from sa_eventsource.integrity.proofs_of_base import ProofsOfBase
    from sa_eventsource.mapping import EventSourceTables

FORMAT = "sa_eventsource.rewritten_event 1"

_AT_A_TIME = 250
"""Events of one statement; each of them is a branch of a CASE in it."""


@contextmanager
def recorded_rewriting(
    connection: Connection, tables: EventSourceTables, payloads: Mapping[UUID, str], *, reason: str
) -> Iterator[None]:
    """Write down what happens to events whose payloads the block rewrites on purpose, in the same transaction.

    What goes on record is worked out before the block, from the events as they are and the payloads that they are to have: nothing
    else that the database does is covered. Others are kept from adding to the tree until the transaction ends. Events that are
    not in the tree yet need no record: they go into it as they are then. Where the base has no proofs, nothing is done.

    Args:
        connection: The connection that rewrites them, in a transaction whose statements see what others have committed.
        tables: The library's tables.
        payloads: What the payloads of events are to be, as JSON, by the events' ids.
        reason: Why, for the record.

    Raises:
        RewritingError: Afterwards an event is stored otherwise than it was to be. Roll back.
        SigningKeyError: There is no key to sign with.
    """
    if tables.merkle_tree is None:
        yield
        return
    proofs = proofs_on(tables)
    lock_tree(connection, proofs)
    end = StoredTree(connection, proofs.merkle_tree).last_position()
    former, intended = _hashes(connection, proofs, payloads), _hashes(connection, proofs, payloads, are_intended=True)
    yield
    stored = _hashes(connection, proofs, payloads)
    for event_id in payloads:
        if event_id not in intended or stored.get(event_id) != intended[event_id]:
            raise RewritingError(event_id)
    in_tree = {event_id: each.leaf for event_id, each in former.items() if each.position <= end}
    _record(connection, proofs, in_tree, {event_id: each.leaf for event_id, each in intended.items()}, reason)


class _Hashed(NamedTuple):
    """Where an event stands, and its hash."""

    position: int
    leaf: bytes


def _record(
    connection: Connection, proofs: ProofsOfBase, before: Mapping[UUID, bytes], after: Mapping[UUID, bytes], reason: str
) -> None:
    now, rows = datetime.now(UTC), []
    for event_id, former in before.items():
        present = after[event_id]
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
    connection: Connection, proofs: ProofsOfBase, payloads: Mapping[UUID, str], *, are_intended: bool = False
) -> dict[UUID, _Hashed]:
    """Hash events as they are, or as they are with other payloads, which the database writes as it would store them."""
    events, wanted = proofs.tables.events, list(payloads)
    document = database_of(connection.dialect).document
    found: dict[UUID, _Hashed] = {}
    for begin in range(0, len(wanted), _AT_A_TIME):
        some = wanted[begin : begin + _AT_A_TIME]
        payload = None
        if are_intended:
            payload = case(*((events.c.event_id == each, cast(document(literal(payloads[each], Text)), Text)) for each in some))
        statement = select_raw_events(events, payload).where(events.c.event_id.in_(some))
        for row in connection.execute(statement):
            found[row.event_id] = _Hashed(row.position, hash_of_event(connection, row))
    return found


def _text(event_id: UUID, former: bytes, present: bytes, reason: str, at: datetime) -> bytes:
    """What is signed: six lines, the last of which may have more."""
    return "\n".join((FORMAT, str(event_id), former.hex(), present.hex(), at.isoformat(), reason)).encode("utf-8", "surrogatepass")


class _Step(NamedTuple):
    """A record: what an event was, and became."""

    former: bytes
    present: bytes


@dataclass(slots=True)
class RewrittenEvents:
    """What is on record of events that were rewritten.

    Attributes:
        are_signed: Whether signatures were looked at.
        accepted: The events of which a record says what became of them.
    """

    are_signed: bool
    accepted: list[UUID] = field(default_factory=list)
    _steps: dict[UUID, list[_Step]] = field(default_factory=lambda: defaultdict(list))
    _doubtful: dict[UUID, str] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: Connection, proofs: ProofsOfBase, public_keys: Mapping[str, bytes] | None) -> Self:
        """Read the records. Where there are public keys, one that none of them signed counts for nothing."""
        found, table = cls(public_keys is not None), proofs.rewritten_events
        for row in connection.execute(select(table).order_by(table.c.rewritten_at)):
            text = _text(row.event_id, row.former_hash, row.present_hash, row.reason, row.rewritten_at)
            try:
                if public_keys is not None:
                    check_signature("the record", text, row.key_id, row.signature, public_keys)
            except ProofError as error:
                found._doubtful[row.event_id] = error.reason
            else:
                found._steps[row.event_id].append(_Step(row.former_hash, row.present_hash))
        return found

    def fault(self, event_id: UUID, recorded: bytes, present: bytes) -> str | None:
        """Say what is wrong with an event in the tree; None if nothing is.

        An event that was rewritten must be what its last record says: neither what it was at first nor what it was between.

        Args:
            event_id: The event.
            recorded: Its leaf in the tree.
            present: Its hash as it is stored now.
        """
        doubt = self._doubtful.get(event_id)
        if doubt is not None:
            doubt = f"the record that it was rewritten on purpose counts for nothing: {doubt}"
        steps = self._steps.get(event_id)
        if not steps:
            altered = None if present == recorded else "it was altered after it had been put into the tree"
            return "; ".join(filter(None, (altered, doubt))) or None
        reached, left = _followed(steps, recorded)
        # A tree that was grown again since has what the event became as its leaf.
        is_new_leaf = left == steps and recorded == steps[-1].present
        if present != reached or (left and not is_new_leaf) or doubt is not None:
            return "; ".join(filter(None, (_UNDONE, doubt)))
        self.accepted.append(event_id)
        return None


_UNDONE = "it was rewritten on purpose, and is not what it became last: it was altered since, or an earlier state was put back"


def _followed(steps: Sequence[_Step], begin: bytes) -> tuple[bytes, list[_Step]]:
    """Go from one hash to the next, by the earliest record each time; return where that ends, and the records that are left.

    Not by their times alone, as clocks differ; and an event may become what it was before.
    """
    reached, left = begin, list(steps)
    while (step := next((each for each in left if each.former == reached), None)) is not None:
        left.remove(step)
        reached = step.present
    return reached, left
