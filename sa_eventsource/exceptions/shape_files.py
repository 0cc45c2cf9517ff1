"""Files of shapes that cannot be read."""

from __future__ import annotations

from sa_eventsource.exceptions.base import EventSourceError


class SchemaFileError(EventSourceError, ValueError):
    """A file of shapes cannot be read: ``sa-eventsource schema`` did not write it, or another release did.

    Take it from the repository again, or write it with the code of the release that is deployed.

    Attributes:
        file: The file.
        reason: What is wrong.
    """

    def __init__(self, file: str, reason: str) -> None:
        """Build the message from the file and the reason."""
        self.file = file
        self.reason = reason
        super().__init__(f"{file} is no file of shapes: {reason}. Write it with sa-eventsource schema")
