"""Small changes to pages while they are built."""  # noqa: INP001 - MkDocs loads it by its path

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:class|data|func|meth|mod):(?=<code>)")


def on_page_content(html: str, **_: Any) -> str:
    """Take Sphinx's roles, which the docstrings use for the sake of editors, off the names they stand before."""
    return _ROLE.sub("", html)
