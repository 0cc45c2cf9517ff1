"""What a run of the benchmark keeps, and how the next one is compared with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.__main__ import CASES
from benchmarks.figures import Figure, Run, figures_of, load, save, table_of


def test_figures_are_medians_of_the_ratios_within_a_round() -> None:
    figures = figures_of("a", ["raw", "ours"], [(1e-3, 2e-3), (3e-3, 3e-3), (4e-3, 5e-3)])
    assert figures == [Figure("a", "raw", 1.0, 1.0, 1.0, 3000.0), Figure("a", "ours", 0.8, 0.5, 1.0, 3000.0)]


def test_a_run_comes_back_from_its_file_and_is_compared_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.json"
    assert load(path) is None
    before = Run("yesterday", figures_of("a", ["raw", "ours"], [(1.0, 2.0)]))
    save(before, path)
    assert load(path) == before
    now = Run("today", figures_of("a", ["raw", "ours"], [(1.2, 2.0)]) + figures_of("b", ["raw", "ours"], [(0.001, 0.1)]))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table_of(now, load(path), {"a": "case a", "b": "case b"}, {"a": 0.6}))
    shown = capture.get()
    assert "0.50, now +20%" in shown
    assert "0.60 (0.60 to 0.60)" in shown
    assert "100.0 ms" in shown


@pytest.mark.parametrize("text", ["", "[]", '{"circumstances": "", "figures": [{"case": "a"}]}'], ids=["empty", "list", "old"])
def test_a_file_of_another_shape_is_no_run(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    assert load(path) is None


def test_every_case_has_a_title() -> None:
    assert all(str(case.__doc__).startswith(f"({letter}) ") for letter, case in CASES.items())
