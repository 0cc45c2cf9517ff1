"""Personal data that cannot be sealed, or not opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.exceptions.base import EventSourceError
from sa_eventsource.exceptions.reading import EventDecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID


class SubjectForgottenError(EventSourceError):
    """An event holds personal data of someone who is forgotten. Nothing was written.

    What the application still has of that person must no longer be used. For someone who comes again, choose another subject.

    Attributes:
        subjects: Those who are forgotten.
    """

    def __init__(self, subjects: Iterable[str]) -> None:
        """Build the message from the subjects."""
        self.subjects = tuple(subjects)
        named = ", ".join(map(repr, self.subjects))
        super().__init__(
            f"no event was written: it holds personal data of {named}, who is forgotten. Roll back, and do not use that data any "
            "more"
        )


class ForgettingError(EventSourceError):
    """Someone cannot be forgotten in this transaction. Nothing was done: roll back, and do what the reason says.

    Attributes:
        subject: Who.
        reason: What is in the way.
    """

    def __init__(self, subject: str, reason: str) -> None:
        """Build the message from the subject and the reason."""
        self.subject = subject
        self.reason = reason
        super().__init__(f"{subject!r} is not forgotten: {reason}")


class AnonymisationError(EventSourceError):
    """An event cannot be anonymised as it was asked for. Nothing was changed by this call: correct the function or the fields.

    Attributes:
        reason: What is in the way.
        event_type: The name that the event is stored under; None where the reason concerns no event.
        event_id: The event.
        fields: The fields of it.
    """

    def __init__(
        self, reason: str, *, event_type: str | None = None, event_id: UUID | None = None, fields: Iterable[str] = ()
    ) -> None:
        """Build the message from the event and the reason."""
        self.reason = reason
        self.event_type = event_type
        self.event_id = event_id
        self.fields = tuple(fields)
        where = "" if event_type is None else f" {event_type} {event_id}"
        super().__init__(f"nothing was anonymised:{where} {reason}")


class MaskedConnectionError(EventSourceError):
    """Rows that hold personal data in clear are to be written by an engine that reads placeholders (``personal_data="masked"``).

    Run the read model in a process whose engine may see personal data. Nothing was written.

    Attributes:
        url: The engine's URL, without the password.
    """

    def __init__(self, url: str) -> None:
        """Build the message from the URL."""
        self.url = url
        super().__init__(
            f'a read model with __personal_data__ = "clear" cannot be written through {url}, which has personal_data="masked". Use '
            "another engine for its worker, and for what appends its events where it is strong."
        )


class MasterKeyError(EventSourceError):
    """A master key is missing, or is not the one that wrapped a subject's key. Nothing was written or read.

    Correct the configuration: no event is to blame.

    Attributes:
        master_key: Its id; empty where none is meant.
        reason: What is wrong.
    """

    def __init__(self, master_key: str, reason: str) -> None:
        """Build the message from the id and the reason."""
        self.master_key = master_key
        self.reason = reason
        which = f"the master key {master_key!r}" if master_key else "a master key"
        super().__init__(f"{which} cannot be used: {reason}")


class SealedValueError(EventDecodeError):
    """A sealed value of a stored event cannot be opened, though its subject is not forgotten.

    Its key is not in the table of keys, as after an import without them, or the value is not the one that was sealed in this place.

    Attributes:
        key_id: The key that it names; None where it names none.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        event_type: str,
        event_version: int,
        reason: str,
        *,
        fields: Sequence[str] = (),
        event_id: UUID | None = None,
        key_id: UUID | None = None,
    ) -> None:
        """Build the message from the stored identity and the reason."""
        self.key_id = key_id
        super().__init__(event_type, event_version, reason, fields=fields, event_id=event_id)
