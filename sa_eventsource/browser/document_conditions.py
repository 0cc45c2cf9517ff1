"""Conditions on the fields of a payload or of metadata, as a reader writes them: ``total > 100 and customer = "ann"``."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Numeric, Text, case, cast, func, null

from sa_eventsource.browser.shown_text import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.sql import ColumnElement

EXAMPLE = 'total > 100 and lines.0.sku = "lamp"'

_CONDITION = re.compile(
    r"""\s*(?P<path>[\w-]+(?:\.[\w-]+)*)\s*(?P<operator><=|>=|!=|=|<|>|~)\s*
    (?P<value>"(?:[^"\\]|\\.)*"|[^\s"]+(?:\s+(?!(?:and|or)\b)[^\s"]+)*)\s*(?:$|\band\s)""",
    re.VERBOSE,
)
"""Read in the time that the text is long, whatever it is: a value is words with spaces between them."""

_MOST_CONDITIONS = 50
_NUMBER = re.compile(r"-?\d{1,300}(\.\d{1,300})?", re.ASCII)
_STORED_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?$"
_MOST_DIGITS = 9
"""Of the place in a list: with more, it is none that the database has."""

_LONGEST_NUMBER = 1_000
"""What has more characters is no number to the database either, or may not be: it holds 131,072 digits."""
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


def document_conditions(document: ColumnElement[Any], text: str) -> list[ColumnElement[bool]]:
    r"""Read conditions on a JSON column.

    A value that is a number is compared as a number, with numbers and with texts that are one, as a ``Decimal`` is stored; all
    others as text. In quotes, a value is a text. ``~`` asks whether it is contained, ``null`` whether there is none.

    Args:
        document: The column.
        text: The conditions, with ``and`` between them.

    Raises:
        ValueError: They cannot be read; the message says how to write them.
    """
    return [condition_on_document(document, each.path[:1], each.path[1:], each) for each in read_conditions(text, EXAMPLE)]


@dataclass(frozen=True, slots=True)
class WrittenCondition:
    """A condition, as a reader has written it.

    Attributes:
        path: The names that lead to the field.
        comparison: The operator.
        value: What follows it, without quotes.
        is_quoted: Whether it stood in quotes, and so is a text.
    """

    path: tuple[str, ...]
    comparison: str
    value: str
    is_quoted: bool

    @property
    def asks_for_null(self) -> bool:
        """Whether it asks if there is a value, or none."""
        return self.value == "null" and not self.is_quoted and self.comparison != "~"

    def compare(self, stored: Any, wanted: Any) -> ColumnElement[bool]:
        """Compare what is stored with the value; what is missing differs from each."""
        if self.comparison == "~":
            return stored.icontains(wanted, autoescape=True)  # type: ignore[no-any-return]
        if self.asks_for_null:
            return stored.is_not(None) if self.comparison == "!=" else stored.is_(None)  # type: ignore[no-any-return]
        if self.comparison == "!=":
            return stored.is_distinct_from(wanted)  # type: ignore[no-any-return]
        return _COMPARE[self.comparison](stored, wanted)  # type: ignore[no-any-return]


def read_conditions(text: str, example: str) -> Iterator[WrittenCondition]:
    """Read conditions, with ``and`` between them.

    Args:
        text: What was written.
        example: What the message shows.

    Raises:
        ValueError: They cannot be read, or are too many.
    """
    end, number = 0, 0
    while end < len(text):
        number += 1
        if number > _MOST_CONDITIONS:
            raise ValueError(f"There are more than {_MOST_CONDITIONS} conditions. Write fewer.")
        read = _CONDITION.match(text, end)
        if read is None:
            raise ValueError(
                f"“{text[end:].strip()}” is no condition. Write a field, one of = != < <= > >= ~, and a value: {example}"
            )
        written = read["value"]
        is_quoted = written.startswith('"')
        value = re.sub(r"\\(.)", r"\1", written[1:-1]) if is_quoted else written
        yield WrittenCondition(tuple(read["path"].split(".")), read["operator"], value, is_quoted)
        end = read.end()


def condition_on_document(
    document: Any, names: Sequence[str], path: Sequence[str], condition: WrittenCondition
) -> ColumnElement[bool]:
    """Make a condition on the field of a JSON column that names lead to, and behind them a path, in which numbers count from 0.

    Raises:
        ValueError: A number in the path is too long.
    """
    steps: list[str | int] = [*names, *map(_step, path)]
    stored: Any = cast(document[tuple(steps) if len(steps) > 1 else steps[0]].as_string(), Text)
    wanted: Any = condition.value
    if condition.comparison != "~" and not condition.is_quoted and _NUMBER.fullmatch(wanted):
        # A CASE, and no AND: nothing else promises that a text is asked whether it is a number before it becomes one.
        is_long = func.length(stored) > _LONGEST_NUMBER
        stored = case((is_long, cast(null(), Numeric)), (stored.regexp_match(_STORED_NUMBER), cast(stored, Numeric)))
        wanted = cast(str(Decimal(wanted)), Numeric)
    return condition.compare(stored, wanted)


def _step(name: str) -> str | int:
    if not (name.isascii() and name.isdecimal()):
        return name
    if len(name) > _MOST_DIGITS:
        raise ValueError(f"“{shortened(name, 20)}” is no place in a list: write a number of at most {_MOST_DIGITS} digits.")
    return int(name)
