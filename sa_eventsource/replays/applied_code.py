"""Which method applies an event, and where it and others are written."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from sa_eventsource.exceptions import UnhandledEventError

if TYPE_CHECKING:
    from sa_eventsource.aggregates import AggregateDefinition


@dataclass(frozen=True, slots=True)
class Applied:
    """A function of the application, such as the ``@applies`` method for an event.

    Attributes:
        name: Its name, with that of its class.
        path: Its file, from the current directory on where it lies there; None where its source is not to be had.
        line: The line that it begins in.
        code: Its source.
    """

    name: str
    path: str | None
    line: int
    code: str

    def link(self, form: str | None) -> str | None:
        """Give the address of its line, by a form such as ``https://git.example/shop/blob/main/{path}#L{line}``."""
        return None if form is None or self.path is None else form.format(path=self.path, line=self.line)


def check_link_form(form: str) -> None:
    """Refuse a form of addresses that cannot be filled in.

    Raises:
        ValueError: It has other places than ``{path}`` and ``{line}``, or no ``{path}``.
    """
    try:
        leads_to_file = form.format(path="x", line=1) != form.format(path="", line=1)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ValueError(f"source_link={form!r}: write {{path}} and {{line}}, and no other braces") from error
    if not leads_to_file:
        raise ValueError(f"source_link={form!r}: write {{path}} where the path of the file belongs")


def applied_by(definition: AggregateDefinition, event: Any) -> Applied | None:
    """Find the method that applies an event; None where the class ignores it, or has none for it."""
    return method_applying(definition, type(event))


def method_applying(definition: AggregateDefinition, event_class: type[Any]) -> Applied | None:
    """Find the method that applies events of a class; None where the aggregate's class ignores them, or has none for them."""
    try:
        method: Any = definition.handlers.find(event_class)
    except UnhandledEventError:
        return None
    if method.__module__.partition(".")[0] == _OWN_PACKAGE:
        return None  # the library's own, for events that are ignored, or close a stream
    return code_of(method)


def code_of(method: Any) -> Applied:
    """Find where a function is written."""
    try:
        lines, line = inspect.getsourcelines(method)
        file = Path(inspect.getsourcefile(method) or "")
    except (OSError, TypeError):
        return Applied(method.__qualname__, None, 0, "")
    here = Path.cwd()
    path = file.relative_to(here) if file.is_relative_to(here) else file
    return Applied(method.__qualname__, path.as_posix(), line, dedent("".join(lines)).rstrip())


_OWN_PACKAGE = __name__.partition(".")[0]
