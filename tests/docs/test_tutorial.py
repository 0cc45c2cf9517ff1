"""The tutorial can be followed from a file: it starts from an empty database at each run."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Engine

from tests.docs.blocks import run
from tests.processes import finish_forked

ROOT = Path(__file__).parents[2]


def test_a_second_run_is_as_the_first(engine: Engine, tmp_path: Path) -> None:
    url = engine.url.render_as_string(hide_password=False)
    environment = os.environ | {"DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    for _ in range(2):
        done = finish_forked(run, ROOT / "docs/tutorial.md", folder=tmp_path, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")


def test_it_says_where_to_type() -> None:
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    before_the_first_block = page.partition("```python")[0]
    assert "`tutorial.py`, in your editor" in before_the_first_block
    assert "$ python tutorial.py" in before_the_first_block
