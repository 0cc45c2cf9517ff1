"""``sa-eventsource verify``: is the log whole, and is all that follows from it what it makes of it?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import Annotated

import typer

from sa_eventsource.cli.errors import FAILED, UsageError
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.output import Output
from sa_eventsource.cli.progress_bars import Bars
from sa_eventsource.cli.proof_commands import PublicKeyOption, read_heads, read_public_keys
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.counting import counted
from sa_eventsource.verification import ProofOptions, Verification, verify

_SAMPLE = 10_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", epilog=example("verify app.models:Base --only order_list --all"))(verify_log)


def verify_log(  # noqa: PLR0913 - one for each option
    base: BaseArgument,
    *,
    url: UrlOption = None,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="ROWS",
            min=1,
            show_default=False,
            help=f"About how many rows of each model, and how many snapshots, to compare; {_SAMPLE:,} by default.",
        ),
    ] = None,
    compare_all: Annotated[bool, typer.Option("--all", help="Compare all rows and snapshots.")] = False,
    seed: Annotated[
        int | None, typer.Option(metavar="NUMBER", show_default=False, help="Draw the same sample as an earlier run.")
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
        bool, typer.Option("--moved", help="The log was exported and imported since the heads were made, so that positions differ.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the log, the checkpoints, the snapshots and the read models against each other.

    Nothing is changed or locked. The exit status is 1 if something is wrong; warnings do not count.
    """
    if not proofs and (head or public_key is not None or moved):
        raise UsageError("--head, --public-key and --moved are about proofs; pass --proofs")
    if compare_all and (sample is not None or seed is not None):
        raise UsageError("--all compares all rows, and --sample and --seed choose some; pass one or the other")
    options = ProofOptions(heads=read_heads(head or ()), public_keys=read_public_keys(public_key), is_moved=moved)
    with open_target(base, url, masks=True) as target:
        unknown = sorted(set(only or ()) - set(target.tables.read_models))
        if unknown:
            known = ", ".join(sorted(target.tables.read_models)) or "none"
            raise UsageError(f"there is no read model {unknown[0]!r}; there are: {known}")
        with Bars() as bars:
            found = verify(
                target.engine,
                target.base,
                sample=None if compare_all else sample or _SAMPLE,
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
    if found.sealed_snapshots:
        is_sealed = counted(found.sealed_snapshots, "snapshot is", "snapshots are")
        output.styled((f"{is_sealed} sealed, and not compared", "yellow"))
    if found.archived:
        output.styled((f"archived: {counted(found.archived, 'stream')}, of which read models have no rows", ""))
    output.styled((f"{counted(found.snapshots, 'snapshot')} compared; the sample's seed is {found.seed}", ""))
    wrong = sum(not each.is_warning for each in found.findings)
    output.styled(
        ("nothing is wrong", "green") if found.is_sound else (counted(wrong, "thing is wrong", "things are wrong"), "bold red")
    )
