"""What the explanations of errors tell a reader to use is there: names of the library, and commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from keyword import kwlist
from pathlib import Path

import pytest
import typer.main

from sa_eventsource.cli import app
from tests.cli.test_all_commands import all_commands

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/errors-by-name.md").read_text(encoding="utf-8")
COMMANDS = dict(all_commands(typer.main.get_command(app)))
OF_EXAMPLES = {"Order", "OrderCancelled", "message", "message_id", "order", "place"}
OF_OTHERS = {"AckPolicy", "BYPASSRLS", "NACK_ON_ERROR", "ack_policy", "flag_modified", "identity_chooser", "shard_chooser"}
OF_OTHERS |= {"FOR", "UPDATE", "install", "pip", *kwlist}
"""Of FastStream, PostgreSQL, SQLAlchemy, pip, SQL and Python."""

_ENTRY = re.compile(r"^## (\w+)\n\n(.+?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")
_TEXT = re.compile(r"\"[^\"]*\"|'[^']*'")
ENTRIES = {name: [code.replace("\n", " ") for code in _CODE.findall(text)] for name, text in _ENTRY.findall(PAGE)}


def _names(tree: ast.AST) -> Iterator[str]:
    """List what code names: not what its comments and docstrings say."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.alias):
            yield node.name
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword) and node.arg is not None:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            yield node.value


@pytest.fixture(scope="module")
def names() -> set[str]:
    paths = (ROOT / "sa_eventsource").rglob("*.py")
    return {name for path in paths for name in _names(ast.parse(path.read_text(encoding="utf-8")))}


@pytest.mark.parametrize("error", ENTRIES)
def test_what_an_explanation_names_is_there(error: str, names: set[str]) -> None:
    used = {
        name
        for code in ENTRIES[error]
        if not code.startswith("sa-eventsource ")
        for name in re.findall(r"(?<![-\w])[A-Za-z_]\w*(?![-\w])", _TEXT.sub("", code))
    }
    assert used - names - OF_EXAMPLES - OF_OTHERS == set()


def test_its_commands_are_there() -> None:
    used = {code for codes in ENTRIES.values() for code in codes if code.startswith("sa-eventsource ")}
    assert used
    assert {code.removeprefix("sa-eventsource ") for code in used} <= set(COMMANDS)
