r"""Text of users as text: what a web browser would run, hide or reorder is written out.

``<`` is escaped, as everywhere. Characters that turn the direction of what follows, that are invisible, or that control a terminal
are written as JSON does, ``\u202e``: otherwise "gpj.exe" and "exe.jpg" could look the same.
"""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup, escape

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Zero-width joiners are not among them: emoji and some scripts need them."""


def plainly(value: Any) -> Any:
    """Make what a template shows of a value: text as it is to be read. Markup stays as it is."""
    if isinstance(value, Markup):
        return value
    return "" if value is None else written_out(str(value))


def written_out(text: str) -> str:
    """Write out the characters that would not be seen."""
    return _HIDDEN.sub(_code, text)


def escaped(text: str) -> Markup:
    """Escape a text, with the characters that would not be seen written out, and marked."""
    if _HIDDEN.search(text) is None:
        return escape(text)
    parts: list[Markup] = []
    end = 0
    for found in _HIDDEN.finditer(text):
        parts += [escape(text[end : found.start()]), _MARKED.format(_code(found))]
        end = found.end()
    return Markup().join([*parts, escape(text[end:])])


_MARKED = Markup('<span class="hidden-character">{}</span>')


def _code(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\u{number:04x}" if number <= _FOUR_DIGITS else f"\\U{number:08x}"


_FOUR_DIGITS = 0xFFFF


def shortened(text: Any, length: int = 80) -> str:
    """Cut a text that is long, and show that it is cut."""
    whole = str(text)
    return whole if len(whole) <= length else f"{whole[: length - 1]}…"
