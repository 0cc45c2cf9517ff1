"""The ``python`` blocks of a page, and running them."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine

BLOCK = re.compile(r"^(?P<indent> *)```(?:python|py)\b[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[str]:
    """Find a page's blocks, each behind as many empty lines as put it on its line of the page."""
    for found in BLOCK.finditer(text):
        code = re.sub(f"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
        yield "\n" * (text.count("\n", 0, found.start()) + 1) + code


def run(page: Path) -> None:
    """Run the blocks of one page."""
    module = types.ModuleType("page")
    sys.modules["page"] = module
    for code in blocks(page.read_text(encoding="utf-8")):
        exec(compile(code, str(page), "exec", dont_inherit=True), vars(module))
    for value in list(vars(module).values()):
        if isinstance(value, Engine):
            value.dispose()
