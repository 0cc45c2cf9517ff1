"""A schedule as a table: who did what when."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

from sa_eventsource.testing.races.race_steps import LETTERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sa_eventsource.testing.races.race_steps import ActorOutcome, Step

_WIDTH = 110
"""Of all actors' columns together."""
_LINES = 3
"""Of one statement."""
_VALUE = 40

_COLUMNS = re.compile(r"^(SELECT) .{30,}? (FROM )", re.IGNORECASE)
_INSERTED = re.compile(r"(INSERT INTO [\w.\"]+) \([^()]{40,}\)", re.IGNORECASE)
_RETURNING = re.compile(r" RETURNING .{20,}$", re.IGNORECASE)
_CAST = r"(?:::[A-Za-z]\w*(?:\([\d, ]+\))?(?: VARYING| PRECISION| WITH(?:OUT)? TIME ZONE)?(?:\[\])?)?"
_NAMED = re.compile(rf"%\((\w+)\)s{_CAST}")
_POSITIONAL = re.compile(rf"(?:%s|\$\d+){_CAST}")


def table_of(steps: Sequence[Step], names: Sequence[str], outcomes: Sequence[ActorOutcome]) -> str:
    """Draw the table.

    Args:
        steps: What was done, in order.
        names: What the actors are called.
        outcomes: How they ended.
    """
    width = max(_WIDTH // len(names), 24)
    rows = [("step", [f"{LETTERS[number]}: {name}" for number, name in enumerate(names)])]
    for number, step in enumerate(steps, 1):
        cells = [""] * len(names)
        cells[LETTERS.index(step.actor)] = _cell(step)
        rows.append((str(number), cells))
    rows.append(("", [_ending(each) for each in outcomes]))
    lines = [line for label, cells in rows for line in _lines(label, cells, width)]
    head = len(list(_lines(*rows[0], width)))
    rule = "----  " + "  ".join("-" * width for _ in names)
    return "\n".join([*lines[:head], rule, *lines[head:]])


def _lines(label: str, cells: Sequence[str], width: int) -> Iterator[str]:
    wrapped = [
        [line for part in cell.split("\n") for line in textwrap.wrap(part, width, max_lines=_LINES, placeholder=" …")]
        for cell in cells
    ]
    for line in range(max(map(len, wrapped), default=0)):
        columns = [cell[line] if line < len(cell) else "" for cell in wrapped]
        yield "  ".join([(label if line == 0 else "").rjust(4), *(column.ljust(width) for column in columns)]).rstrip()


def _cell(step: Step) -> str:
    text = statement_text(step.text, step.parameters)
    if step.waited_for:
        text = f"[waits for {', '.join(step.waited_for)}] {text}"
    return text if step.error is None else f"{text}\n→ {step.error}"


def _ending(outcome: ActorOutcome) -> str:
    if outcome.error is not None:
        first, *_ = str(outcome.error).splitlines() or [""]
        return f"raises {type(outcome.error).__name__}: {first}"
    return "returns" if outcome.value is None else f"returns {_value(outcome.value)}"


def statement_text(text: str, parameters: Any) -> str:
    """Give a statement on one line, with its parameters in their places, without the columns that it returns if they are many."""
    text = " ".join(text.split())
    text = _RETURNING.sub(" RETURNING …", _INSERTED.sub(r"\1 (…)", _COLUMNS.sub(r"\1 … \2", text)))
    if isinstance(parameters, list) and parameters and isinstance(parameters[0], (dict, tuple)):
        more = f" (and {len(parameters) - 1} more)" if len(parameters) > 1 else ""
        return statement_text(text, parameters[0]) + more
    if isinstance(parameters, dict):
        return _NAMED.sub(lambda found: _named(found, parameters), text)
    if isinstance(parameters, (tuple, list)):
        values = iter(parameters)
        return _POSITIONAL.sub(lambda found: _value(next(values, found[0])), text)
    return text


def _named(found: re.Match[str], parameters: Mapping[str, Any]) -> str:
    return _value(parameters[found[1]]) if found[1] in parameters else found[0]


def _value(value: Any) -> str:
    inner = getattr(value, "obj", value)  # psycopg's Jsonb and the like
    shown = (
        str(inner)
        if isinstance(inner, (int, float))
        else f"'{inner}'"
        if not isinstance(inner, (list, dict, tuple))
        else repr(inner)
    )
    return shown if len(shown) <= _VALUE else shown[: _VALUE - 1] + "…"
