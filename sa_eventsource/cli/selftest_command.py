"""``sa-eventsource selftest``: the library's guarantees, put to the test on one's own database."""

from __future__ import annotations

import dataclasses
import json
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sa_eventsource.cli.errors import CALLED_WRONGLY, FAILED, UsageError, describe, report
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.output import console_for_tables, printable
from sa_eventsource.cli.target import UrlOption, make_engine, parse_database
from sa_eventsource.counting import counted
from sa_eventsource.exceptions import SelftestError
from sa_eventsource.selftest import run_selftest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from sa_eventsource.selftest import Report, Verdict

_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM
_STYLES = {"held": "green", "broken": "bold red", "not tested": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("selftest", epilog=example("selftest --url postgresql://user@host/test"))(selftest)


def selftest(
    *,
    url: UrlOption = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", show_default=False, help="Make the same random choices as an earlier run."),
    ] = None,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="For how long processes write.")] = 30,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the schema and the journals, to look into them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Test the guarantees of the library on your PostgreSQL database, with its pooler and its network.

    Processes write and follow a log in a schema of their own. They are killed, and lose their connections. Then what each of them
    knows is compared with what is stored. Nothing else is touched, and the schema is dropped at the end. The role needs the
    privilege CREATE on the database. The exit status is 0 if all guarantees held, 1 if one was broken, and 2 if the test could not
    run, or not for long enough to test them all.
    """
    database, connect_args = _database(url)
    try:
        with _terminable(), Stages() as stages:
            found = run_selftest(database, seed=seed, seconds=seconds, connect_args=connect_args, keep=keep, progress=stages.show)
    except (KeyboardInterrupt, _TerminatedError) as error:
        report(f"stopped before the end; what it created is {'kept' if keep else 'dropped'}")
        raise typer.Exit(_TERMINATED if isinstance(error, _TerminatedError) else _INTERRUPTED) from None
    except SelftestError as error:
        raise UsageError(describe(error)) from error
    if as_json:
        typer.echo(json.dumps(_as_json(found), indent=2))
    else:
        _print(found)
    if found.is_broken:
        raise typer.Exit(FAILED)
    if not found.is_complete:
        report("not all guarantees were put to the test; run it for longer, with --seconds")
        raise typer.Exit(CALLED_WRONGLY)


class _TerminatedError(Exception):
    """SIGTERM came."""


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what was made is dropped."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _database(url: str | None) -> tuple[str, dict[str, Any]]:
    """The URL and what goes with it, for all processes to make engines of."""
    parsed, connect_args = parse_database(url)
    if parsed.get_backend_name() == "sqlite":
        raise UsageError("the self-test needs PostgreSQL: SQLite does not have what it tests, such as simultaneous writers")
    engine = make_engine(url)
    if engine.dialect.driver != "psycopg":
        raise UsageError(f"the self-test needs the driver psycopg, as in postgresql+psycopg://, not {engine.dialect.driver}")
    return parsed.render_as_string(hide_password=False), connect_args


def _as_json(found: Report) -> dict[str, Any]:
    verdicts = [{**dataclasses.asdict(each), "ruling": each.ruling} for each in found.verdicts]
    kept = None if found.kept is None else str(found.kept)
    return {**dataclasses.asdict(found), "verdicts": verdicts, "kept": kept, "is_broken": found.is_broken}


def _print(found: Report) -> None:
    console = console_for_tables()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("guarantee")
    table.add_column("tested on", justify="right")
    table.add_column("verdict", no_wrap=True)
    for each in found.verdicts:
        table.add_row(each.guarantee, f"{each.count} {each.unit}", Text(each.ruling, style=_STYLES[each.ruling]))
    console.print(table)
    for each in found.verdicts:
        for line in _problems(each):
            console.print(printable(line), style="red", markup=False, highlight=False, soft_wrap=True)
    happened = ", ".join(f"{number} {name}" for name, number in found.figures.items())
    console.print(
        f"PostgreSQL {found.server}, {found.seconds:g} s, seed {found.seed}: {happened}", style="dim", markup=False, soft_wrap=True
    )
    if found.kept is not None:
        console.print(f"kept: schema {found.schema}, journals in {found.kept}", markup=False, soft_wrap=True)


def _problems(verdict: Verdict) -> Iterator[str]:
    if verdict.broken:
        yield f"{verdict.guarantee}: broken {counted(verdict.broken, 'time')}"
    yield from (f"  {each}" for each in verdict.problems)
    if verdict.broken > len(verdict.problems):
        yield f"  and {verdict.broken - len(verdict.problems)} more"


class Stages:
    """Says on stderr how far the run is: a bar on a terminal, elsewhere a line for each stage."""

    def __init__(self) -> None:
        """Look at what stderr is now."""
        console = Console(stderr=True)
        self._is_terminal = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[events]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=1.0, events=counted(0, "event"))
        self._stage = ""

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Take it away."""
        self._bar.stop()

    def show(self, stage: str, done: float, events: int) -> None:
        """Show a stage, how much of it is done, and a number of events."""
        self._bar.update(self._task, description=stage, completed=done, events=counted(events, "event"))
        if stage != self._stage and not self._is_terminal:
            typer.echo(f"{stage} ({counted(events, 'event')})" if events else stage, err=True)
        self._stage = stage
