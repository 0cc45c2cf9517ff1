"""Read models, and others that follow the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc

from sa_eventsource.counting import counted
from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


class ReadModelError(EventSourceError):
    """A read model could not take an event: a handler raised, or the database refused the row.

    Nothing was written: neither the row nor, for a strong model, the events. The cause is the error's ``__cause__``. Roll back;
    correct the handler, the declaration or the event.

    Attributes:
        model: The projection's name.
        events: The events, each with type, id and stream.
        event_ids: Their ids.
        rows: The keys of the rows concerned, as far as known.
        reason: What is wrong.
    """

    def __init__(self, model: str, *, events: Sequence[str], event_ids: Sequence[UUID], rows: Sequence[str], reason: str) -> None:
        """Build the message from the events and rows, of which it names the first few."""
        self.model = model
        self.events = tuple(events)
        self.event_ids = tuple(event_ids)
        self.rows = tuple(rows)
        self.reason = reason
        where = f" in row {_first_few(rows)}" if rows else ""
        super().__init__(f"read model {model!r} cannot take {_first_few(events) or 'a batch of events'}{where}: {reason}")


class SubscriptionError(EventSourceError):
    """The function of a subscription raised.

    What it did in the session's transaction is rolled back, and the event comes again. The cause is the error's ``__cause__``.

    Attributes:
        subscription: The subscription's name.
        events: The event, with type, id and stream.
        event_ids: Its id.
        reason: What is wrong.
    """

    def __init__(self, subscription: str, *, events: Sequence[str], event_ids: Sequence[UUID], reason: str) -> None:
        """Build the message from the event."""
        self.subscription = subscription
        self.events = tuple(events)
        self.event_ids = tuple(event_ids)
        self.reason = reason
        super().__init__(f"subscription {subscription!r} cannot take {_first_few(events) or 'a batch of events'}: {reason}")


class ReadModelChangedError(EventSourceError):
    """A read model's rows were made under another declaration than the present one.

    Nothing was written. Call ``EventReplayer.rebuild(model)``, or give the new declaration a new ``__version__``.

    Attributes:
        model: The projection's name.
    """

    def __init__(self, model: str) -> None:
        """Build the message from the name."""
        self.model = model
        super().__init__(
            f"the rows of read model {model!r} were made under another declaration; rebuild it with EventReplayer.rebuild(), or "
            "give the new declaration a new __version__"
        )


class ReadModelLagError(EventSourceError, TimeoutError):
    """A read model has not taken the events of a commit in time.

    They are committed, and it takes them when a worker comes to them: is one running, and is the model's status ``running``? Show
    the user what is there, wait again, or read the aggregate instead.

    Attributes:
        model: The projection's name.
        timeout: How many seconds were waited.
        lag_events: How many events it has yet to take, counted up to 10,000, for each of its shards.
        lag_seconds: How long ago the first of them was recorded.
        lag_is_whole: Whether *lag_events* are all of them; otherwise there are more.
    """

    def __init__(self, model: str, timeout: float, lag_events: int, lag_seconds: float, *, lag_is_whole: bool = True) -> None:
        """Build the message from the figures."""
        self.model = model
        self.timeout = timeout
        self.lag_events = lag_events
        self.lag_seconds = lag_seconds
        self.lag_is_whole = lag_is_whole
        super().__init__(
            f"read model {model!r} has not taken the commit's events within {timeout:g} s: it has "
            f"{'' if lag_is_whole else 'more than '}{counted(lag_events, 'event')} to take, the first of which was recorded "
            f"{lag_seconds:.1f} s ago. They are committed. "
            "Is a worker running, and the model not stopped?"
        )


class CommitTokenError(EventSourceError, ValueError):
    """What was to be waited for is no commit's token, or that of a commit which this database does not have.

    Pass what ``commit_token(session)`` gave, as the UUID or as its text, and wait in the database that was committed to.

    Attributes:
        token: What was given.
        waiting: The function that was to wait.
        is_token: Whether it could be a token, though not one of this database.
    """

    def __init__(self, token: str, waiting: str, *, is_token: bool) -> None:
        """Build the message from the token."""
        self.token = token
        self.waiting = waiting
        self.is_token = is_token
        super().__init__(
            f"{waiting} waits after a commit, and the database has no event with the id {token}. Is it another database than that "
            "of the commit, or was the commit undone?"
            if is_token
            else f"{waiting} waits after a commit's token, which is the text of a UUID, not {_shortened(repr(token))}"
        )


class MovedLogError(EventSourceError):
    """The log was moved here from another database cluster, where its transaction ids and the checkpoints' snapshots had a meaning.

    Nothing was taken: some events might have been skipped, or come twice. A dump that was restored before anybody wrote to it is
    recognised and set right by itself; this one is not that plain. Run ``sa-eventsource adopt``.

    Attributes:
        stored: Identifier of the cluster that the checkpoint is of; None if only the events show it.
        here: Identifier of the one that answers.
        by_subscription: Whether a subscription goes on bringing events that have transaction ids of another cluster. Publish the
            other columns alone, or end the subscription first.
        reason: Why it is not set right by itself; None if it is not certain which events were brought.
    """

    def __init__(self, stored: str | None, here: str, *, by_subscription: bool = False, reason: str | None = None) -> None:
        """Build the message from the identifiers."""
        self.stored = stored
        self.here = here
        self.by_subscription = by_subscription
        self.reason = reason
        if by_subscription:
            super().__init__(
                "a subscription brings events with transaction ids of another database cluster, which mean nothing in this one "
                f"({here}): some would be skipped. Publish the events without the column transaction_id, from PostgreSQL 15 on, "
                "and make the copy again; or end the subscription before anybody follows here."
            )
        else:
            super().__init__(
                f"the log was written in another database cluster ({stored or 'unknown'}, not {here}), and "
                f"{reason or 'which of its events came from there is not certain'}. "
                "Run sa-eventsource adopt, which explains what to choose."
            )


class ReadModelWriteError(EventSourceError, sa_exc.InvalidRequestError):
    """A row of a read model was added, changed or deleted by hand.

    Rows follow from events: apply an event that says what happened, or write an ``@handles`` method.

    Attributes:
        subject: What was to be written.
    """

    def __init__(self, subject: str) -> None:
        """Build the message from the subject."""
        self.subject = subject
        super().__init__(
            f"{subject}: rows of read models follow from events. Apply an event to an aggregate, or change the row in an "
            "@handles method."
        )


_LONGEST_TOKEN = 80


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TOKEN else f"{text[:_LONGEST_TOKEN]}..."


class HandlerTransactionError(EventSourceError, sa_exc.InvalidRequestError):
    """A handler of a read model or a command, or the function of a subscription, committed or rolled back.

    Its transaction is not its own: what it writes is committed together with the events, with how far the follower has come, or
    with the note that the command is done, so that each counts once. Take the call out; what may fail goes into
    ``with session.begin_nested():``.

    Attributes:
        deed: What it did.
    """

    def __init__(self, deed: str) -> None:
        """Build the message from the deed."""
        self.deed = deed
        super().__init__(
            f"the handler {deed}: what it writes is committed together with the events, with how far the follower has come, or "
            "with the note that the command is done, and would count twice otherwise. Take that out; what may fail goes into "
            "`with session.begin_nested():`."
        )


def _first_few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"  # noqa: PLR2004 - a message stays short
