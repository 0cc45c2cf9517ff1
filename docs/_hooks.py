"""Small changes to pages while they are built."""  # noqa: INP001 - MkDocs loads it by its path

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):<code>(?:~(?:\w+\.)*)?(?=\w)")


def on_page_content(html: str, **_: Any) -> str:
    """Take off Sphinx's roles, which docstrings have for editors, and show what Sphinx shows: after a tilde, the last part."""
    return _ROLE.sub("<code>", html)
