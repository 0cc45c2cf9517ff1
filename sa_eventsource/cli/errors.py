"""What the user sees of an error: one line on stderr, and an exit status.

Status 1: the database, or what is in it, did not allow it. Status 2: the command was called wrongly, such as with a name that is
not there. A reader that went away, such as ``head``, is no error; the status is then the one that shells report for SIGPIPE.
"""

from __future__ import annotations

import difflib
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import typer
from sqlalchemy.exc import DBAPIError, NoResultFound, SQLAlchemyError
from typer.core import TyperGroup

from sa_eventsource.application_errors import text_of
from sa_eventsource.exceptions import EventSourceError, UnknownNameError
from sa_eventsource.store import UNDEFINED_TABLE, advice_on, code_of, said_by_database

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FAILED = 1
CALLED_WRONGLY = 2
READER_GONE = 141


class UsageError(Exception):
    """The command was called wrongly; the message says how to call it."""


@contextmanager
def checked_arguments() -> Iterator[None]:
    """Report what the library refuses of an argument, such as an empty reason, as a wrong call.

    Raises:
        UsageError: A ``TypeError`` or a ``ValueError`` was raised that is no error of the library's own.
    """
    try:
        yield
    except (EventSourceError, SQLAlchemyError):
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(describe(error)) from error


class ReportingGroup(TyperGroup):
    """Runs a command and reports its errors; with ``--traceback``, as they are."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
            raise typer.Exit(READER_GONE) from None
        except (UsageError, EventSourceError, SQLAlchemyError, OSError) as error:
            if ctx.params.get("traceback"):
                raise
            report(describe(error))
            raise typer.Exit(CALLED_WRONGLY if isinstance(error, UsageError | UnknownNameError) else FAILED) from None
        return result


def report(message: str) -> None:
    """Write one line to stderr."""
    typer.echo(f"error: {message}", err=True)


def describe(error: BaseException) -> str:
    """Say in one line what went wrong."""
    if isinstance(error, EventSourceError | UsageError | NoResultFound):
        return _one_line(text_of(error))
    if isinstance(error, DBAPIError) and error.orig is not None:
        message = said_by_database(error.orig)
        if code_of(error) == UNDEFINED_TABLE or message.startswith("no such table"):
            return f"{message}; create the tables first, with Base.metadata.create_all() or a migration, or name another database"
        advice = advice_on(error)
        return message if advice is None else f"{message}; {advice}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return _one_line(text_of(error)) or type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Add to a message the known name that is nearest to a mistaken one; nothing if none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _forget_stdout() -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain about it when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
