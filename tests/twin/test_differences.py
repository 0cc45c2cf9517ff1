"""The documentation shows the table of differences as the twin test has it."""

from __future__ import annotations

from pathlib import Path

from tests.twin.differences import table

PAGE = Path(__file__).parents[2] / "docs/explanation/aggregates-and-entities.md"


def test_the_documentation_has_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8").endswith(table())
