"""``sa-eventsource verify``: is the log whole, and is all that follows from it what it makes of it?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sa_eventsource.cli.errors import FAILED, UsageError
from sa_eventsource.cli.output import Output
from sa_eventsource.cli.proof_commands import PublicKeyOption, read_heads, read_public_keys
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.counting import counted
from sa_eventsource.verification import ProofOptions, Verification, verify

if TYPE_CHECKING:
    from rich.progress import TaskID

_SAMPLE = 10_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify_log)


def verify_log(  # noqa: PLR0913 - one for each option
    base: BaseArgument,
    *,
    url: UrlOption = None,
    sample: Annotated[
        int, typer.Option(metavar="ROWS", min=1, help="About how many rows of each model, and snapshots, to compare.")
    ] = _SAMPLE,
    compare_all: Annotated[bool, typer.Option("--all", help="Compare all rows and snapshots.")] = False,
    seed: Annotated[
        int | None, typer.Option(metavar="NUMBER", show_default=False, help="Draw the sample that an earlier run drew.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", show_default=False, help="Compare only this read model; may be repeated.")
    ] = None,
    proofs: Annotated[bool, typer.Option("--proofs", help="Compare the log with its Merkle tree too.")] = False,
    head: Annotated[
        list[Path] | None,
        typer.Option("--head", metavar="FILE", show_default=False, help="A head that was kept elsewhere; may be repeated."),
    ] = None,
    public_key: PublicKeyOption = None,
    moved: Annotated[
        bool, typer.Option("--moved", help="The log was exported and imported since the heads were made: positions are others.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the log, the checkpoints, the snapshots and the read models against each other.

    Nothing is changed or locked. The exit status is 1 if something is wrong; warnings do not count.
    """
    if not proofs and (head or public_key is not None or moved):
        raise UsageError("--head, --public-key and --moved are about proofs; pass --proofs")
    options = ProofOptions(heads=read_heads(head or ()), public_keys=read_public_keys(public_key), is_moved=moved)
    with open_target(base, url) as target:
        unknown = sorted(set(only or ()) - set(target.tables.read_models))
        if unknown:
            known = ", ".join(sorted(target.tables.read_models)) or "none"
            raise UsageError(f"there is no read model {unknown[0]!r}; there are: {known}")
        with _Bars() as bars:
            found = verify(
                target.engine,
                target.base,
                sample=None if compare_all else sample,
                seed=seed,
                only=only,
                proofs=options if proofs else False,
                progress=bars.show,
            )
    output = Output()
    if as_json:
        output.line(json.dumps({**dataclasses.asdict(found), "is_sound": found.is_sound}, indent=2))
    else:
        _print(output, found)
    if not found.is_sound:
        raise typer.Exit(FAILED)


def _print(output: Output, found: Verification) -> None:
    for each in found.findings:
        output.styled(("warning " if each.is_warning else "WRONG   ", "yellow" if each.is_warning else "bold red"), (str(each), ""))
    for name, rows in found.rows.items():
        output.styled((f"{name}: {counted(rows, 'row')} compared", ""))
    for name, reason in found.not_compared.items():
        output.styled((f"{name}: not compared: {reason}", "yellow"))
    if found.covered is not None and found.uncovered is not None:
        output.styled((f"in the Merkle tree: {counted(found.covered, 'event')}; not yet: {counted(found.uncovered, 'event')}", ""))
    output.styled((f"{counted(found.snapshots, 'snapshot')} compared; the sample's seed is {found.seed}", ""))
    wrong = sum(not each.is_warning for each in found.findings)
    output.styled(
        ("nothing is wrong", "green") if found.is_sound else (counted(wrong, "thing is wrong", "things are wrong"), "bold red")
    )


class _Bars:
    """A line for each thing that is checked, on a terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._finish()
        self._bars.stop()

    def show(self, what: str, done: int, total: int | None) -> None:
        """Show how much of something is done."""
        if what not in self._tasks:
            self._finish()
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)

    def _finish(self) -> None:
        """Show as done what is one statement: it is, when anything comes after it."""
        for each in self._bars.tasks:
            if each.total is None:
                self._bars.update(each.id, total=1, completed=1)
