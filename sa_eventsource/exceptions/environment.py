"""What is around the library does not let it work: a missing package, a context that ended elsewhere, a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc

from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class MissingExtraError(EventSourceError, ModuleNotFoundError):
    """A part of the library needs a package that is not installed. Install the extra that brings it.

    Attributes:
        extras: Names of the extras that bring it; one is enough.
        part: What needs it.
        name: The module that is missing.
    """

    def __init__(self, extras: Sequence[str], part: str, module: str) -> None:
        """Build the message from the extras and what needs one of them."""
        self.extras = tuple(extras)
        self.part = part
        first, *others = self.extras
        instead = f", or {', '.join(others)} in place of {first}, whichever you use" if others else ""
        super().__init__(
            f"{part} needs {module}, which is not installed: pip install 'sa_eventsource[{first}]'{instead}", name=module
        )


class EventContextLostError(EventSourceError, RuntimeError):
    """A block of ``event_context`` ended in another thread or task than it began in, so that nothing in between saw it.

    A context variable cannot leave the thread or the task that sets it. FastAPI runs a dependency that is a plain generator in
    threads of their own: write it as ``async def``, or put an ``EventContext`` into ``session.info["event_context"]``.

    Attributes:
        metadata_keys: The keys of the metadata that was lost.
    """

    def __init__(self, metadata_keys: Iterable[str]) -> None:
        """Build the message from what was lost."""
        self.metadata_keys = tuple(metadata_keys)
        what = ", ".join(self.metadata_keys) or "the ids"
        super().__init__(
            "the block of event_context ended in another thread or task than it began in, so that no event got its context "
            f"({what}). "
            'In FastAPI, make the dependency that opens the block "async def", or put an EventContext into '
            'session.info["event_context"] in the one that makes the session.'
        )


class OtherCodeError(EventSourceError):
    """A stream cannot be replayed by other code. Nothing of the deployed code is wrong.

    Attributes:
        code: What the code is called.
        reason: Why it cannot be used.
        details: The traceback, or what its process has said; None for nothing.
    """

    def __init__(self, code: str, reason: str, *, details: str | None = None) -> None:
        """Build the message from the code's name and the reason."""
        self.code = code
        self.reason = reason
        self.details = details
        super().__init__(f"{code}: {reason}")


class JoinedTransactionError(EventSourceError, sa_exc.InvalidRequestError):
    """What takes transactions of its own was given sessions that join one: a worker, a manager, a replayer or ``verify()``.

    So it is in SQLAlchemy's recipe for tests, where sessions are bound to a connection whose transaction is rolled back in the end.
    PostgreSQL tells which events are new by the transactions that have committed them, and there nothing is committed. Nothing was
    done. Pass the engine, in a test that commits and has a database to itself; or stay in the transaction, with ``fold`` for the
    rows, or a strong model.

    Attributes:
        url: The database, without the password.
    """

    def __init__(self, url: str) -> None:
        """Build the message from the address."""
        self.url = url
        super().__init__(
            f"the sessions are bound to a connection to {url} that is in a transaction already, as in a test that rolls all back. "
            "Following the log takes transactions of its own, and there it would find nothing that is committed. Pass the "
            "engine, in a test that commits; or stay in the transaction: fold(Model, EventStore(session).events.all()) gives the "
            'rows, and models with __consistency__ = "strong" have theirs with each flush.'
        )


class UnknownShardError(EventSourceError, sa_exc.InvalidRequestError):
    """A sharded session gives several shards for an aggregate, and none of them has it, so that it is not known where it belongs.

    Have the session's ``identity_chooser`` give the one shard of an id; or put a new aggregate into the session by
    ``session.add()``, where the ``shard_chooser`` sees the instance.

    Attributes:
        aggregate_type: Type name of the aggregate.
        aggregate_id: Its id as stored.
        shards: What the chooser gave.
    """

    def __init__(self, aggregate_type: str, aggregate_id: str, shards: Iterable[object]) -> None:
        """Build the message from what the chooser gave."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.shards = tuple(shards)
        super().__init__(
            f"the session's identity_chooser gives {len(self.shards)} shards for {aggregate_type} {aggregate_id!r}, and none of "
            "them has it. Have it give one; or, for a new aggregate, use session.add(), where the shard_chooser sees the instance."
        )


class RepartitionError(EventSourceError, RuntimeError):
    """A migration would move the events into another table, and something of the application's would go with the old one.

    Nothing was done. Drop it in the migration, before the move, and put it back afterwards.

    Attributes:
        table: Name of the events table.
        lost: What would be lost, by kind and name: triggers, rules, views, foreign keys that refer to the table, publications.
    """

    def __init__(self, table: str, lost: Iterable[str]) -> None:
        """Build the message from what is on the table."""
        self.table = table
        self.lost = tuple(lost)
        super().__init__(
            f"the events cannot be moved into another table while {table} has {', '.join(self.lost)}, which would go with it. Drop "
            "that in the migration before op.repartition_events, and create it again afterwards"
        )


class SelftestError(EventSourceError, RuntimeError):
    """The self-test could not run, or could not remove what it made. It says nothing about the guarantees.

    Attributes:
        reason: Why not, and what to do about it.
    """

    def __init__(self, reason: str) -> None:
        """Build the message from the reason."""
        self.reason = reason
        super().__init__(f"the self-test could not run to its end: {reason}")
