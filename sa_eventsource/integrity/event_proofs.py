"""Proofs that are checked without the database: that an event is in a log, and that a log is the beginning of a later one."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sa_eventsource.exceptions import ProofError, UncoveredEventError
from sa_eventsource.integrity.leaves import hashes_in, leaf_text
from sa_eventsource.integrity.merkle_tree import (
    HASH_BYTES,
    consistency_path,
    inclusion_path,
    is_consistent,
    leaf_hash,
    root_from_inclusion,
)
from sa_eventsource.integrity.proofs_of_base import proofs_of_base
from sa_eventsource.integrity.stored_tree import StoredTree
from sa_eventsource.integrity.tree_heads import Head, json_document, whole
from sa_eventsource.mapping import check_async_session, check_session, present_session
from sa_eventsource.store import autoflush, select_raw_events, whole_log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    from sa_eventsource.integrity.proofs_of_base import ProofsOfBase
    from sa_eventsource.types import JsonValue

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """The proof that an event is in a log, as it stands there.

    Attributes:
        event: The event, as the JSON text that was hashed.
        leaf_index: How many events stand before it in the log.
        path: The hashes that lead from it to the root.
        head: The head of the log that it is in.
    """

    FORMAT: ClassVar = "sa_eventsource.inclusion_proof"

    event: str
    leaf_index: int
    path: tuple[bytes, ...]
    head: Head

    def check(self, head: Head | None = None, public_keys: Mapping[str, bytes] | None = None) -> dict[str, JsonValue]:
        """Check the proof, without a database.

        Args:
            head: A head that is trusted because it was kept elsewhere; None to take the one in the proof, which says nothing of who
                made it unless its signature is checked.
            public_keys: The public keys that are trusted, by id, to check the head's signature; None not to.

        Returns:
            The event.

        Raises:
            ProofError: It does not hold, or the head is another one, or is not signed with one of the keys.
        """
        trusted = self._trusted(head)
        try:
            root = root_from_inclusion(leaf_hash(_bytes(self.event)), self.leaf_index, trusted.tree_size, self.path)
        except ValueError as error:
            raise ProofError("the proof", str(error)) from error
        if root != trusted.root:
            raise ProofError("the proof", f"event, place and path do not lead to the root of {trusted.name}")
        if public_keys is not None:
            trusted.check_signature(public_keys)
        event: dict[str, JsonValue] = json.loads(self.event)
        return event

    def _trusted(self, head: Head | None) -> Head:
        if head is not None and head.tree_size != self.head.tree_size:
            raise ProofError(
                "the proof", f"it leads to {self.head.name}, not to {head.name}, which was given: prove against that one"
            )
        return self.head if head is None else head

    def to_json(self) -> dict[str, Any]:
        """Write it as what ``json.dumps`` takes."""
        return {
            "format": self.FORMAT,
            "version": VERSION,
            "event": self.event,
            "leaf_index": self.leaf_index,
            "path": _joined(self.path),
            "head": self.head.to_json(),
        }

    @classmethod
    def from_json(cls, text: str | bytes | Mapping[str, Any]) -> InclusionProof:
        """Read what :meth:`to_json` has written.

        Raises:
            ProofError: It is no such proof.
        """
        found = json_document(text, "the proof", cls.FORMAT, VERSION)
        try:
            event = found["event"]
            json.loads(event)
            return cls(event=event, leaf_index=whole(found["leaf_index"]), path=_apart(found["path"]), head=_head(found["head"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ProofError("the proof", f"it cannot be read as one: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionProof:
    """The proof that the log of a head is the beginning of the log of a later one: nothing was altered in between.

    Attributes:
        former: The earlier head.
        path: The hashes that lead from its root to the later one.
        head: The later head.
    """

    FORMAT: ClassVar = "sa_eventsource.extension_proof"

    former: Head
    path: tuple[bytes, ...]
    head: Head

    def check(self, former: Head | None = None, public_keys: Mapping[str, bytes] | None = None) -> Head:
        """Check the proof, without a database.

        It proves the events and their order. At which positions the later ones stand is not proven: the later head says so, and its
        signature is what that is worth.

        Args:
            former: The earlier head, which is trusted because it was kept elsewhere; None to take the one in the proof.
            public_keys: The public keys that are trusted, by id, to check the signatures of both heads; None not to.

        Returns:
            The later head: keep it in place of the earlier one.

        Raises:
            ProofError: It does not hold, or the earlier head is another one, or a head is not signed with one of the keys.
        """
        trusted = self.former if former is None else former
        if not is_consistent(trusted.tree_size, self.head.tree_size, trusted.root, self.head.root, self.path):
            raise ProofError("the proof", f"the log of {self.head.name} does not begin with that of {trusted.name}")
        if trusted.tree_size == self.head.tree_size and trusted.positions_hash != self.head.positions_hash:
            raise ProofError("the proof", f"{self.head.name} has the same events at other positions than the one that was given")
        if public_keys is not None:
            for each in (trusted, self.head):
                each.check_signature(public_keys)
        return self.head

    def to_json(self) -> dict[str, Any]:
        """Write it as what ``json.dumps`` takes."""
        return {
            "format": self.FORMAT,
            "version": VERSION,
            "former": self.former.to_json(),
            "path": _joined(self.path),
            "head": self.head.to_json(),
        }

    @classmethod
    def from_json(cls, text: str | bytes | Mapping[str, Any]) -> ExtensionProof:
        """Read what :meth:`to_json` has written.

        Raises:
            ProofError: It is no such proof.
        """
        found = json_document(text, "the proof", cls.FORMAT, VERSION)
        try:
            return cls(former=_head(found["former"]), path=_apart(found["path"]), head=_head(found["head"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ProofError("the proof", f"it cannot be read as one: {type(error).__name__}: {error}") from error


def newest_head(session: Session | scoped_session[Session], *, base: Any = None) -> Head | None:
    """Read the newest head of a log, in the session's transaction: keep it where those who can write to the database cannot.

    Args:
        session: The session.
        base: The declarative base of the log; None for the only one that has proofs.

    Returns:
        The head; None while no event is in the tree.

    Raises:
        DeclarationError: The base has no proofs, or none is given and several have.
    """
    check_session("newest_head()", session, instead="async_newest_head")
    proofs = proofs_of_base("newest_head", base)
    return StoredTree(_connection(present_session(session), proofs), proofs.merkle_tree).newest_head()


async def async_newest_head(session: AsyncSession, *, base: Any = None) -> Head | None:
    """Read the newest head of a log. As :func:`newest_head`."""
    check_async_session("async_newest_head()", session, instead="newest_head")
    return await session.run_sync(newest_head, base=base)


def prove(
    session: Session | scoped_session[Session], event_id: UUID, *, head: Head | None = None, base: Any = None
) -> InclusionProof:
    """Prove that an event is in the log, in the session's transaction.

    Args:
        session: The session.
        event_id: The event.
        head: The head that those have who will check it; None for the newest one.
        base: The declarative base of the log; None for the only one that has proofs.

    Returns:
        The proof, which is checked without the database: :meth:`InclusionProof.check`.

    Raises:
        DeclarationError: The base has no proofs, or none is given and several have.
        ProofError: The event was altered, or the stored tree, or the head is of another log.
        UncoveredEventError: There is no such event, or the head does not cover it.
    """
    check_session("prove()", session, instead="async_prove")
    proofs = proofs_of_base("prove", base)
    connection = _connection(present_session(session), proofs)
    events, stored = whole_log(proofs.tables), StoredTree(connection, proofs.merkle_tree)
    row = connection.execute(select_raw_events(events).where(events.c.event_id == event_id)).one_or_none()
    if row is None:
        raise UncoveredEventError(event_id, "the log has no such event")
    index, against = stored.index_of(row.position), head or stored.newest_head()
    if index is None or against is None:
        raise UncoveredEventError(event_id, "it is not in the tree yet; a worker puts it there")
    if index >= against.tree_size:
        raise UncoveredEventError(event_id, f"{against.name} was made before it")
    text = leaf_text(connection, row)
    try:
        if stored.subtree(0, index) != leaf_hash(_bytes(text)):
            raise ProofError(f"event {event_id}", "it was altered after it had been put into the tree")
        path = inclusion_path(stored.subtree, index, against.tree_size)
    except LookupError as error:
        raise _damaged(against, error) from error
    proof = InclusionProof(event=text, leaf_index=index, path=tuple(path), head=against)
    proof.check()
    return proof


async def async_prove(session: AsyncSession, event_id: UUID, *, head: Head | None = None, base: Any = None) -> InclusionProof:
    """Prove that an event is in the log. As :func:`prove`."""
    check_async_session("async_prove()", session, instead="prove")
    return await session.run_sync(prove, event_id, head=head, base=base)


def prove_extension(session: Session | scoped_session[Session], former: Head, *, base: Any = None) -> ExtensionProof:
    """Prove that the log still begins with what an earlier head covers, in the session's transaction.

    Args:
        session: The session.
        former: The earlier head, such as the one that was kept elsewhere.
        base: The declarative base of the log; None for the only one that has proofs.

    Returns:
        The proof, with the newest head.

    Raises:
        DeclarationError: The base has no proofs, or none is given and several have.
        ProofError: The stored tree is another one, or is shorter: the log was altered or cut off. ``verify`` says more.
    """
    check_session("prove_extension()", session, instead="async_prove_extension")
    proofs = proofs_of_base("prove_extension", base)
    stored = StoredTree(_connection(present_session(session), proofs), proofs.merkle_tree)
    head = stored.newest_head()
    if head is None or head.tree_size < former.tree_size:
        raise ProofError(former.name, "the tree has fewer events: some were cut off, or the head is of another log")
    try:
        path = consistency_path(stored.subtree, former.tree_size, head.tree_size)
    except LookupError as error:
        raise _damaged(head, error) from error
    proof = ExtensionProof(former=former, path=tuple(path), head=head)
    proof.check()
    return proof


async def async_prove_extension(session: AsyncSession, former: Head, *, base: Any = None) -> ExtensionProof:
    """Prove that the log still begins with what an earlier head covers. As :func:`prove_extension`."""
    check_async_session("async_prove_extension()", session, instead="prove_extension")
    return await session.run_sync(prove_extension, former, base=base)


def _connection(session: Session, proofs: ProofsOfBase) -> Connection:
    autoflush(session)
    return session.connection(bind_arguments=proofs.tables.bind_arguments)


def _damaged(head: Head, error: LookupError) -> ProofError:
    return ProofError(head.name, f"the stored tree is damaged: {error}. Run sa-eventsource verify --proofs")


def _head(found: Mapping[str, Any]) -> Head:
    return Head.from_json(found)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _joined(path: tuple[bytes, ...]) -> str:
    return b64encode(b"".join(path)).decode()


def _apart(text: str) -> tuple[bytes, ...]:
    data = b64decode(text, validate=True)
    if len(data) % HASH_BYTES:
        raise ValueError(f"a path has {HASH_BYTES} bytes for each hash, not {len(data)}")
    return tuple(hashes_in(data))
