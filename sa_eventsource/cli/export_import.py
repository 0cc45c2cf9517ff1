"""``sa-eventsource export`` and ``sa-eventsource import``: the log into a file, and a file into the log."""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast

import typer

from sa_eventsource.cli.done_work import DoneAsJsonOption, say_done
from sa_eventsource.cli.file_formats import FileFormat, export_file
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.progress_bars import progress_on_stderr
from sa_eventsource.cli.target import BaseArgument, Target, UrlOption, open_target
from sa_eventsource.counting import counted
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress
    from sqlalchemy import Connection

    from sa_eventsource.transfer import ImportedLog

_STANDARD = "-"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export", epilog=example("export app.models:Base --output log.jsonl"))(export_log)
    app.command("import", epilog=example("import app.models:Base log.jsonl"))(import_log)


def export_log(
    base: BaseArgument,
    *,
    url: UrlOption = None,
    output: Annotated[str, typer.Option(metavar="FILE", help="Where to write; - is stdout.")] = _STANDARD,
    format_: Annotated[
        FileFormat, typer.Option("--format", help="Lines of JSON, or Parquet, which needs the extra parquet.")
    ] = FileFormat.JSONL,
) -> None:
    """Write the log as it stands now: a header, then each event, in the order of positions.

    A file appears under its name only when it is complete.
    """
    with (
        open_target(base, url) as target,
        _connect(target) as connection,
        _writing(output) as file,
        _progress("exported") as bar,
    ):
        number = format_.write(connection, target.tables.events, file, lambda number, total: bar.show(number, total, number))
        file.flush()
    typer.echo(f"exported {counted(number, 'event')}{'' if output == _STANDARD else f' to {output}'}", err=True)


def import_log(
    base: BaseArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", show_default=False, help="An export, of either format; - is stdin.")],
    *,
    url: UrlOption = None,
    as_json: DoneAsJsonOption = False,
) -> None:
    """Insert the events of an export into the log, all of them or none.

    Events that are there already are skipped. Anything malformed in the file, and any event that does not fit its stream in the
    log, is refused.
    """
    with open_target(base, url) as target:
        with _reading(file) as (source, size), _progress("read") as bar, target.engine.begin() as connection:
            exported = export_file(source)
            done = exported.import_into(
                connection,
                target.tables.events,
                on_progress=lambda done: bar.show(exported.bytes_read, size, done.added + done.skipped),
            )
        say_done(_summary(done), as_json=as_json, added=done.added, skipped=done.skipped)
        strong = sorted(name for name, model in target.tables.read_models.items() if model.is_strong)
        if done.added and strong:
            typer.echo(f"an import does not write the rows of strong read models; rebuild them: {', '.join(strong)}", err=True)


class _Bar:
    """A progress bar, where there is someone to look at it."""

    def __init__(self, progress: Progress | None, verb: str) -> None:
        self._progress = progress
        self._verb = verb
        self._task = None if progress is None else progress.add_task("", total=None)

    def show(self, completed: int, total: int | None, events: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, completed=completed, total=total, count=events, description=f"{self._verb} {counted(events, 'event')}"
            )


@contextmanager
def _progress(verb: str) -> Iterator[_Bar]:
    if not sys.stderr.isatty():
        yield _Bar(None, verb)
        return
    with progress_on_stderr(counts=False, transient=True) as progress:
        yield _Bar(progress, verb)


@contextmanager
def _connect(target: Target) -> Iterator[Connection]:
    """Connect so that the whole export sees one state of the database."""
    with target.engine.connect() as connection:
        database = database_of(connection.dialect)
        connection.execution_options(**database.one_state)
        database.begin_reading(connection)
        yield connection


@contextmanager
def _writing(name: str) -> Iterator[BinaryIO]:
    """Open what to write to. A file of that name is replaced in the end, or stays as it was."""
    if name == _STANDARD:
        yield sys.stdout.buffer
        return
    path = Path(name)
    if path.exists() and not path.is_file():  # a device or a pipe
        with path.open("wb") as file:
            yield file
        return
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _reading(name: str) -> Iterator[tuple[io.BufferedReader, int | None]]:
    """Open what to read, and give its size in bytes where that is known."""
    if name == _STANDARD:
        stdin = io.BufferedReader(cast("Any", sys.stdin.buffer))
        try:
            yield stdin, None
        finally:
            stdin.detach()
        return
    path = Path(name)
    with path.open("rb") as file:
        yield file, path.stat().st_size if path.is_file() else None


def _summary(done: ImportedLog) -> str:
    skipped = f"; {counted(done.skipped, 'event was', 'events were')} there already" if done.skipped else ""
    return f"imported {counted(done.added, 'event')}{skipped}"
