"""JSON for people: in lines and in colours, each number with all its digits, and cut where it is long.

A text is read piece by piece and never parsed, so that a text that was cut, or is none, is shown too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup

from sa_eventsource.browser.shown_text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 20_000
"""How many characters of a payload a page shows."""

_PIECES = re.compile(r'"(?:[^"\\]|\\.)*(?:"|$)|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_DEEPEST = 40
"""Further in, lines are indented no more: a text of brackets alone would become the square of its length."""

_SPANS = {
    "key": Markup('<span class="j-key">{}</span>'),
    "string": Markup('<span class="j-string">{}</span>'),
    "number": Markup('<span class="j-number">{}</span>'),
    "word": Markup('<span class="j-word">{}</span>'),
}
_MORE = Markup('<span class="j-more">…</span>')


def json_lines(text: str, longest: int = LONGEST) -> Markup:
    """Show a JSON text in lines."""
    pieces = list(_pieces(text[:longest]))
    out: list[Markup | str] = []
    depth = 0
    for number, (kind, piece) in enumerate(pieces):
        if kind == "open":
            depth += 1
            is_empty = number + 1 < len(pieces) and pieces[number + 1][0] == "close"
            out.append(piece if is_empty else piece + _line(depth))
        elif kind == "close":
            depth = max(depth - 1, 0)
            was_empty = number > 0 and pieces[number - 1][0] == "open"
            out.append(piece if was_empty else _line(depth) + piece)
        elif kind == "comma":
            out.append("," + _line(depth))
        elif kind == "colon":
            out.append(": ")
        else:
            out.append(_SPANS[kind].format(escaped(piece)))
    return Markup("").join([*out, _MORE] if len(text) > longest else out)


def json_line(text: str, longest: int = 300) -> Markup:
    """Show a JSON text on one line. The braces of an object and the quotes of its own keys are left out."""
    out: list[Markup | str] = []
    depth = 0
    is_object = text.lstrip()[:1] == "{"
    for kind, piece in _pieces(text[:longest]):
        depth += {"open": 1, "close": -1}.get(kind, 0)
        if is_object and ((kind == "open" and depth == 1) or (kind == "close" and depth == 0)):
            continue
        if kind == "key" and depth == 1 and is_object:
            out.append(_SPANS["key"].format(escaped(piece.strip('"'))))
        elif kind == "colon":
            out.append(" " if depth == 1 and is_object else ": ")
        elif kind == "comma":
            out.append(_GAP if depth == 1 and is_object else ", ")
        else:
            out.append(_SPANS[kind].format(escaped(piece)) if kind in _SPANS else piece)
    return Markup("").join([*out, _MORE] if len(text) > longest else out)


_GAP = Markup('<span class="j-gap"> · </span>')


def _line(depth: int) -> str:
    return "\n" + "  " * min(depth, _DEEPEST)


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Read the pieces of a JSON text, each with what it is."""
    found = _PIECES.findall(text)
    for number, piece in enumerate(found):
        first = piece[0]
        if first == '"':
            is_key = number + 1 < len(found) and found[number + 1] == ":"
            yield "key" if is_key else "string", piece
        elif first in _MARKS:
            yield _MARKS[first], piece
        else:
            yield "number" if first in "-0123456789" else "word", piece


_MARKS = {"{": "open", "[": "open", "}": "close", "]": "close", ",": "comma", ":": "colon"}
