"""Every ``python`` block of the README and the docs runs, on every database that its page is for, with warnings as errors.

The blocks of a page share one namespace and run from top to bottom, in a process of their own. They find their database in the
environment variable ``DATABASE_URL``. A page for one database says so in a comment, ``<!-- runs on: postgresql -->``, and one whose
blocks cannot run as they stand says ``<!-- runs on: nothing -->``. One that is about a package beside the library says
``<!-- needs: dbos -->``: it runs with the slow tests, where the package is installed, as in CI.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.blocks import BLOCK, run
from tests.processes import finish_forked

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DATABASES = ("postgresql", "sqlite")

_FENCE = re.compile(r"^ *```(\S*)", re.MULTILINE)
_RUNS_ON = re.compile(r"<!-- runs on: (\w+) -->")
_NEEDS = re.compile(r"<!-- needs: (\w+) -->")


def cases() -> Iterator[object]:
    """List each page with code once for each of its databases."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        chosen, needed = _RUNS_ON.search(text), _NEEDS.search(text)
        marks = [pytest.mark.slow_on_sqlite, *([] if needed is None else [pytest.mark.slow, _if_installed(needed[1])])]
        for database in DATABASES if chosen is None else (chosen[1],) if chosen[1] != "nothing" else ():
            if BLOCK.search(text):
                yield pytest.param(page, database, id=f"{page.relative_to(ROOT)}-{database}", marks=marks)


def _if_installed(package: str) -> pytest.MarkDecorator:
    is_missing = find_spec(package) is None and not os.environ.get("CI")
    return pytest.mark.skipif(is_missing, reason=f"{package} is not installed")


@pytest.mark.parametrize(("page", "database"), list(cases()))
def test_blocks_run(page: Path, database: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Each page runs as a reader would run it."""
    fresh_file = f"sqlite:///{tmp_path / 'docs.db'}"
    url = fresh_file if database == "sqlite" else request.getfixturevalue("postgres_database_url")
    done = finish_forked(run, page, folder=tmp_path, environment=os.environ | {"DATABASE_URL": url, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_fences_are_of_known_kinds(page: Path) -> None:
    """A block of a misspelt kind would never run."""
    kinds = _FENCE.findall(page.read_text(encoding="utf-8"))
    assert set(kinds[::2]) <= {"python", "console", "sql", "text", "ini", "toml", "yaml"}
    assert set(kinds[1::2]) <= {""}
