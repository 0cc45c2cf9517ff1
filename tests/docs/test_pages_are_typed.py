"""The code of the first pages that a newcomer copies passes a strict type checker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import blocks

pytest.importorskip("mypy")

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_it_passes_strict_mypy(page: str, tmp_path: Path) -> None:
    code = tmp_path / "page.py"
    code.write_text(
        "\n".join(block.strip("\n") for block in blocks((ROOT / page).read_text(encoding="utf-8"))) + "\n", encoding="utf-8"
    )
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n", encoding="utf-8")
    options = ["--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(tmp_path / "cache")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(code)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
