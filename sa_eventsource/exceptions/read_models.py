"""Read models, and others that follow the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc

from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReadModelError(EventSourceError):
    """A read model could not take an event: a handler raised, or the database refused the row.

    Nothing was written: neither the row nor, for a strong model, the events. The cause is the error's ``__cause__``. Roll back;
    correct the handler, the declaration or the event.

    Attributes:
        model: The projection's name.
        events: The events, each with type, id and stream.
        rows: The keys of the rows concerned, as far as known.
        reason: What is wrong.
    """

    def __init__(self, model: str, *, events: Sequence[str], rows: Sequence[str], reason: str) -> None:
        """Build the message from the events and rows, of which it names the first few."""
        self.model = model
        self.events = tuple(events)
        self.rows = tuple(rows)
        self.reason = reason
        where = f" in row {_first_few(rows)}" if rows else ""
        super().__init__(f"read model {model!r} cannot take {_first_few(events) or 'a batch of events'}{where}: {reason}")


class ReadModelChangedError(EventSourceError):
    """A read model's rows were made under another declaration than the present one.

    Nothing was written. Call ``ReadModelManager.rebuild(model)``, or give the new declaration another ``__projection_name__``.

    Attributes:
        model: The projection's name.
    """

    def __init__(self, model: str) -> None:
        """Build the message from the name."""
        self.model = model
        super().__init__(
            f"the rows of read model {model!r} were made under another declaration; rebuild it with ReadModelManager.rebuild(), or "
            "give the new declaration another __projection_name__"
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


def _first_few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"  # noqa: PLR2004 - a message stays short
