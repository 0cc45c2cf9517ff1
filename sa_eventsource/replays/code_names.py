"""What other code is called: a Git revision, ``./folder``, or ``module=./file.py``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_FORMS = 'a Git revision, such as "v1.4"; a folder, such as "./other"; or a file for a module, such as "app.orders=./draft.py"'


@dataclass(frozen=True, slots=True)
class CodeName:
    """Other code.

    Attributes:
        text: What it is called.
        revision: The Git revision; None for a path.
        path: The folder that its modules are imported from; or the file.
        module: The module that the file is imported in place of; None for a folder.
    """

    text: str
    revision: str | None = None
    path: Path = Path()
    module: str | None = None


def read_code_name(text: object) -> CodeName:
    """Read what other code is called. Paths begin with a dot or a slash, which no revision does.

    Raises:
        TypeError: It is no text.
        ValueError: It is in none of the forms, or there is no such folder or file.
    """
    if not isinstance(text, str):
        raise TypeError(f"other code is named by a text: {_FORMS}; not {text!r}")
    module, separator, file = text.partition("=")
    if separator and _is_path(file):
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"{text!r} names no module before the =: {_FORMS}")
        return CodeName(text, path=_existing(file, is_file=True), module=module)
    if _is_path(text):
        return CodeName(text, path=_existing(text, is_file=False))
    if not text or text.startswith("-") or not text.isprintable() or text != text.strip():
        raise ValueError(f"{text!r} names no code: write {_FORMS}")
    return CodeName(text, revision=text)


def _is_path(text: str) -> bool:
    return text.startswith((".", "/")) or Path(text).is_absolute()


def _existing(text: str, *, is_file: bool) -> Path:
    try:
        path = Path(text).resolve()
        is_there = path.is_file() if is_file else path.is_dir()
    except OSError as error:  # as of a name that is too long
        raise ValueError(f"{text!r}: {error.strerror}") from None
    if not is_there:
        raise ValueError(f"{text!r}: there is no {'file' if is_file else 'folder'} {path}")
    return path
