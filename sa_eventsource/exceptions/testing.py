"""What a test asks for and cannot have."""

from __future__ import annotations

from sa_eventsource.exceptions.base import EventSourceError


class NoDatabaseError(EventSourceError, RuntimeError):
    """A test in memory has come to what needs a database. Test that with the fixtures of the plugin, which have one.

    Attributes:
        deed: What needs the database.
    """

    def __init__(self, deed: str, *, instead: str = "take the fixture eventsource_session, and call the handler with that") -> None:
        """Build the message from what was done, and what to do instead."""
        self.deed = deed
        super().__init__(
            f"there is no database here, and {deed} needs one. In memory a handler can get aggregates by their ids, add new ones "
            f"and schedule commands, and a read model's declared fields and @evolves methods can be worked out. For more: {instead}"
        )
