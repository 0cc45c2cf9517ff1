"""Options that name other code, which streams are replayed by."""

from __future__ import annotations

from typing import Annotated

import typer

from sa_eventsource.cli.errors import UsageError
from sa_eventsource.replays import OtherCode

CodeVariableOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", show_default=False, help="An environment variable for other code; it gets no others."),
]


def named_code(base: str, names: list[str], variables: list[str] | None, *, any_revision: bool = False) -> OtherCode:
    """Read what code is named.

    Args:
        base: ``MODULE:BASE``, as the command was given it.
        names: The code, as :class:`OtherCode` takes it.
        variables: Environment variables for it, ``NAME=VALUE``.
        any_revision: Whether other revisions may be named later.

    Raises:
        UsageError: A name or a variable is impossible.
    """
    environment: dict[str, str] = {}
    for each in variables or []:
        name, separator, value = each.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError(f"--code-variable {each}: write NAME=VALUE")
        environment[name] = value
    try:
        return OtherCode(base, names, any_revision=any_revision, environment=environment)
    except ValueError as error:
        raise UsageError(str(error)) from error
