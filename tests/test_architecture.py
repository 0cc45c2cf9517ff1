"""What the import contracts in ``pyproject.toml`` cannot say of the library's structure."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import sa_eventsource

ROOT = Path(sa_eventsource.__file__).parent

SHARED_BY_ALL = ("__init__", "__main__")
"""What Python wants to find under one name in every package."""

WIRING = ROOT / "wiring.py"
"""Names every listener where it is defined: no other module calls them, and so no facade offers them."""

MAY_LISTEN = {
    "wiring.py",
    "mapping/immutability.py",
    "mapping/partitions.py",
    "mapping/tenant_columns.py",
    "session/guards.py",
    "session/declarations.py",
    "session/protected_rows.py",
    "session/tenants_of_instances.py",
    "consumers/handling.py",
    "browser/log_source.py",
    "cli/target.py",
    "selftest/cuts.py",
    "testing/pytest_support/statement_counts.py",
    "testing/races/stops.py",
}
"""Who listens to SQLAlchemy. The docstring of ``wiring`` says to what, and why it is not there."""

STABLE_PATHS = ("migrations/types",)
"""What migrations that users have written import."""

MAY_ASK_FOR_THE_DIALECT = ("store/databases/", "mapping/", "migrations/", "read_models/row_types.py")
"""The doors to the databases; and what SQLAlchemy has a dialect choose: types, DDL, and the triggers that go with it."""


def test_packages_are_imported_through_their_facades() -> None:
    """A module of another package is private to it: what others need, its ``__init__`` offers."""
    bypassing = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sorted(set(ROOT.rglob("*.py")) - {WIRING})
        for module, line in _imported_modules(path)
        if not _is_facade(module) and _package_of_module(module) not in _packages_of_file(path)
    ]
    assert bypassing == []


def test_no_two_modules_have_the_same_name() -> None:
    modules = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        place = path.relative_to(ROOT).with_suffix("").as_posix()
        if path.stem not in SHARED_BY_ALL and place not in STABLE_PATHS:
            modules[path.stem].append(place)
    assert [places for places in modules.values() if len(places) > 1] == []


def test_what_databases_do_differently_is_asked_at_the_door() -> None:
    asking = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(ROOT.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "dialect.name ==" in line or "dialect.name !=" in line
    ]
    assert [each for each in asking if not each.startswith(MAY_ASK_FOR_THE_DIALECT)] == []


def test_one_place_wires() -> None:
    listening = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("listen", "listens_for")
    }
    assert listening == MAY_LISTEN


def test_what_is_counted_is_written_in_one_way() -> None:
    """``counted(1, "event")``: a plural behind a number that may be 1 is wrong then."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.JoinedStr) and _has_plural(node)
    ]
    assert wrong == []


COUNTED = re.compile(r" (commands|events|models|partitions|rows|snapshots|streams|things|times)\b")


def _has_plural(text: ast.JoinedStr) -> bool:
    """Check for a plural right behind a value that is no constant of the module."""
    return any(
        isinstance(value, ast.FormattedValue)
        and not (isinstance(value.value, ast.Name) and value.value.id.isupper())
        and isinstance(behind, ast.Constant)
        and COUNTED.match(str(behind.value)) is not None
        for value, behind in pairwise(text.values)
    )


def _imported_modules(path: Path) -> list[tuple[str, int]]:
    """List the library's modules that a file imports, with the lines."""
    imported = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            imported += [(_named(node.module, alias.name), node.lineno) for alias in node.names]
    return [(module, line) for module, line in imported if module.partition(".")[0] == ROOT.name]


def _named(package: str, name: str) -> str:
    """The module that ``from package import name`` takes something from, or takes as a whole, as ``import package.name`` does."""
    place = ROOT.parent.joinpath(*package.split("."), name)
    is_module = place.is_dir() or place.with_suffix(".py").exists()
    return f"{package}.{name}" if is_module and name not in import_module(package).__all__ else package


def _is_facade(module: str) -> bool:
    """Whether a module is a package's ``__init__``, or lies at the top, in no package."""
    parts = module.split(".")[1:]
    return len(parts) <= 1 or ROOT.joinpath(*parts).is_dir()


def _package_of_module(module: str) -> str:
    return ".".join(module.split(".")[1:-1])


def _packages_of_file(path: Path) -> set[str]:
    """The packages that a file is in: its own, and those around it."""
    parts = path.relative_to(ROOT).parent.parts
    return {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
