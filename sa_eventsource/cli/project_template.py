"""Writing a new project: a copy of the template, which is a project that runs, with its name in place of the template's."""

from __future__ import annotations

import keyword
import re
import sys
from typing import TYPE_CHECKING

from sa_eventsource.cli.errors import UsageError
from sa_eventsource.shipped_files import shipped_folder

if TYPE_CHECKING:
    from pathlib import Path

_PLACEHOLDER = "project_name"
_LONGEST = 30
_TAKEN = frozenset(
    "alembic migrations mypy psycopg pydantic pytest rich ruff sa_eventsource sqlalchemy tests typer".split()  # noqa: SIM905 - a line
)
"""Names that the project itself has or imports."""


def check_name(name: str) -> None:
    """Check that a project can have a name, which is that of its package, its folder and its database too.

    Raises:
        UsageError: It cannot.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        likely = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        advice = f", such as {likely}" if re.fullmatch(r"[a-z][a-z0-9_]*", likely) else ""
        raise UsageError(f"{name!r} is not a name for a package; write lower-case letters, digits and underscores{advice}")
    if len(name) > _LONGEST:
        raise UsageError(f"{name!r} has {len(name)} characters; a name has at most {_LONGEST}")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise UsageError(f"{name!r} is a keyword of Python; take another name")
    if name in sys.stdlib_module_names or name in _TAKEN:
        raise UsageError(f"{name!r} is the name of a module that the project needs or has; take another name")


def write_project(name: str, folder: Path) -> list[Path]:
    """Write a project.

    Args:
        name: Its name, which :func:`check_name` accepts.
        folder: Where: a folder that is empty, or not there.

    Returns:
        The files, relative to the folder, sorted.

    Raises:
        UsageError: The folder has something in it, or is no folder. Nothing is written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{str(folder)!r} is there already, and is not a folder; take another name")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"the folder {str(folder)!r} is not empty; take another name, or empty it")
    template = shipped_folder("project_template", source="docs/examples/project_template")
    sources = sorted(each for each in template.rglob("*") if each.is_file() and not _is_cached(each.relative_to(template)))
    written = []
    for source in sources:
        path = folder / str(source.relative_to(template)).replace(_PLACEHOLDER, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source.read_text(encoding="utf-8").replace(_PLACEHOLDER, name), encoding="utf-8")
        written.append(path.relative_to(folder))
    return sorted(written)


def _is_cached(path: Path) -> bool:
    """Check whether a file is none of the template's: what runs in a checkout leaves caches in it."""
    return any(part.endswith(("cache__", "_cache")) for part in path.parts)
