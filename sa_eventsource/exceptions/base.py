"""The base of all errors."""


class EventSourceError(Exception):
    """Base of all errors of this library. Catch it to catch them all."""
