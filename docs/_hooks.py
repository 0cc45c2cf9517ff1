"""Small changes to the site and its pages while they are built."""  # noqa: INP001 - MkDocs loads it by its path

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):<code>(?:~(?:\w+\.)*)?(?=\w)")
_PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def on_config(config: Any) -> Any:
    """Say at the foot of each page which version it is about."""
    version = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["version"]
    config.copyright = f"sa_eventsource {version}, MIT licence"
    return config


def on_page_content(html: str, **_: Any) -> str:
    """Take off Sphinx's roles, which docstrings have for editors, and show what Sphinx shows: after a tilde, the last part."""
    return _ROLE.sub("<code>", html)


def on_post_page(output: str, **_: Any) -> str:
    """Name the dialog that searches, which the theme leaves to its look, for those who do not see it."""
    return output.replace('role="dialog">', 'role="dialog" aria-label="Search">', 1)
