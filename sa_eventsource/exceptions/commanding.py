"""Commands that nobody handles, that are another's, or that an application's rules refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from sqlalchemy import exc as sa_exc

from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID


class DomainRuleError(EventSourceError):
    """A rule of the application's refuses what was asked for. The library never raises it: subclass it for your own rules.

    Example::

        class OrderAlreadyPaid(DomainRuleError):
            def __init__(self, order_id: str) -> None:
                self.order_id = order_id
                super().__init__(f"order {order_id} is paid already")

    Raised in a command handler, it undoes the transaction and reaches the caller as it is. To the web it is 422 by
    :func:`~sa_eventsource.problem_details`, with its message and its public attributes.

    Attributes:
        problem_type: A URI that identifies the kind of problem to a program (RFC 9457); set it on the class.
    """

    problem_type: ClassVar[str] = "about:blank"


class UnknownCommandError(EventSourceError, LookupError):
    """No handler is declared for a command. Nothing was done. Import the module that declares it, or declare one.

    Attributes:
        command_type: The command's stored name.
        known: The stored names of those that have a handler.
    """

    def __init__(self, command_type: str, known: Iterable[str]) -> None:
        """Build the message from the name and those that are known."""
        self.command_type = command_type
        self.known = tuple(sorted(known))
        super().__init__(
            f"no handler is declared for the command {command_type!r}; there are handlers for: {', '.join(self.known) or 'none'}. "
            f"Write @command_handler({command_type}) on a function (command, session), and import its module."
        )


class CommandIdConflictError(EventSourceError, sa_exc.InvalidRequestError):
    """Another command was handled, or is scheduled, under the id. Nothing was done. Give each command an id of its own.

    Attributes:
        command_id: The id.
        command_type: Stored name of the command that has it.
        given_type: Stored name of the command that was to be handled.
    """

    def __init__(self, command_id: UUID, *, command_type: str, given_type: str) -> None:
        """Build the message from the two commands."""
        self.command_id = command_id
        self.command_type = command_type
        self.given_type = given_type
        other = "one with other values" if command_type == given_type else f"a {command_type}"
        super().__init__(
            f"the {given_type} with the id {command_id} cannot be handled: the id is that of another command, {other}. "
            "An id belongs to one command for ever: make a new one for each, such as uuid.uuid4(), and keep it for repetitions."
        )


class CommandDiscardedError(EventSourceError, sa_exc.InvalidRequestError):
    """A command was scheduled under the id, and it was discarded: by somebody, or as another one took its key.

    Nothing was done; give a new one an id of its own.

    Attributes:
        command_id: The id.
        command_type: The command's stored name.
    """

    def __init__(self, command_id: UUID, command_type: str) -> None:
        """Build the message from the command."""
        self.command_id = command_id
        self.command_type = command_type
        super().__init__(
            f"the {command_type} with the id {command_id} was discarded, by somebody or as another one was scheduled under its "
            "key, so that it is never done. Is it wanted after all, schedule it, or have it handled, under an id of its own."
        )


class CommandPayloadError(EventSourceError, ValueError):
    """A command or its result holds a value that could not be stored and read back exactly, or what is stored cannot be read.

    It is stored where the command has an id or is scheduled. Nothing was done.

    Attributes:
        command_type: The command's stored name.
        part: Whether it is the command or its result.
        field: Path of the value, such as ``lines.0.price``; empty when all of it is meant.
        reason: What is wrong with it.
    """

    def __init__(self, command_type: str, part: Literal["command", "result"], field: str, reason: str) -> None:
        """Build the message from the place and the reason."""
        self.command_type = command_type
        self.part = part
        self.field = field
        self.reason = reason
        where = command_type if part == "command" else f"the result of {command_type}"
        advice = (
            "Use a type that JSON holds exactly."
            if part == "command"
            else "Return an id, or another value that JSON holds exactly, and declare its type with the command: Command[UUID]."
        )
        super().__init__(f"{where}{f', {field}' if field else ''}: {reason}. {advice}")
