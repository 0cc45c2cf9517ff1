"""What the library and the driver's connection agree on, without psycopg."""

from __future__ import annotations

from typing import Any, Protocol

MAY_BE_HELD = "sa_eventsource_may_be_held"
"""Execution option of a statement: nobody reads its answer, so it may be sent with the next one. Other dialects ignore it."""

_FAILED = "sa_eventsource_failed_statement"


class HeldStatement(Protocol):
    """A statement that was held, or went along with such ones.

    Attributes:
        text: What it is, in the driver's form; None for the COMMIT that the driver sends by itself.
        parameters: What it was given.
        owner: What the connection had as its owner when it was held; None where it was not.
        is_commit: Whether it is the COMMIT.
    """

    text: str | None
    parameters: Any
    owner: Any
    is_commit: bool


class HoldingConnection(Protocol):
    """A connection of the driver that can hold statements.

    Attributes:
        is_holding: Whether statements with the option are held from now on. Whoever sets it sees to it that nothing is left; a
            rollback takes it back, with the owner.
        owner: Of what is held from now on: whoever can explain its failure.
        held: What is held. A rollback empties it.
    """

    is_holding: bool
    owner: Any
    held: list[Any]

    def can_hold(self) -> bool:
        """Check whether the cursors that it gives now can hold statements."""
        ...


def held_by(driver_connection: Any) -> HoldingConnection | None:
    """Get a driver's connection as one that can hold statements; None where it cannot, such as that of another dialect."""
    return driver_connection if hasattr(driver_connection, "is_holding") else None


def name_failed(error: BaseException, statement: Any) -> None:
    """Write on an error which of several statements that were sent together has failed: a :class:`HeldStatement`."""
    setattr(error, _FAILED, statement)


def failed_statement(error: BaseException | None) -> HeldStatement | None:
    """Read what :func:`name_failed` has written on an error of the driver; None where a statement was sent by itself."""
    return getattr(error, _FAILED, None)
