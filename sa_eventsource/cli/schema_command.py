"""``sa-eventsource schema``: the shapes of what is stored, in a file of the repository, and the check of what has changed."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy.orm import Session
from typer.core import TyperGroup

from sa_eventsource.cli.done_work import DoneAsJsonOption, say_done
from sa_eventsource.cli.errors import FAILED, UsageError
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.output import Output
from sa_eventsource.cli.progress_bars import Bars
from sa_eventsource.cli.target import BaseArgument, Target, for_tenant, import_named, on_database, tables_of
from sa_eventsource.counting import counted
from sa_eventsource.evolution import (
    ChangedDefault,
    Document,
    LogScan,
    Mode,
    Problem,
    changed_defaults,
    changed_models,
    check,
    document_of,
    merged,
    observed_causation,
    read_document,
    scan_log,
    schema_page,
    written,
)
from sa_eventsource.store import current_tenant, database_of
from sa_eventsource.workers import tenants_of_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FILE = Path("event-schemas.json")

FileOption = Annotated[Path, typer.Option("--file", metavar="FILE", help="Where the shapes are kept.")]
ModeOption = Annotated[Mode, typer.Option("--mode", help="Which code must be able to read what.", case_sensitive=False)]
UnprovenOption = Annotated[
    bool, typer.Option("--allow-unproven", help="Do not fail for what cannot be told, such as what a validator does.")
]


class _Group(TyperGroup):
    """``schema MODULE:BASE`` is short for ``schema write MODULE:BASE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in where none is named."""
        first = next((each for each in args if not each.startswith("-")), None)
        if first is not None and first not in self.commands and ":" in first:
            args = ["write", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(cls=_Group, no_args_is_help=True, help="Keep the shapes of events in a file, and check what has changed.")
    group.command("write", epilog=example("schema write app.models:Base"))(write)
    group.command("check", epilog=example("schema check app.models:Base --json"))(check_shapes)
    group.command("docs", epilog=example("schema docs app.models:Base --output docs/events.md"))(write_page)
    app.add_typer(group, name="schema")


def write(
    base: BaseArgument,
    *,
    file: FileOption = _FILE,
    mode: ModeOption = Mode.BACKWARD_TRANSITIVE,
    accept: Annotated[bool, typer.Option("--accept", help="Write the file whatever the check says.")] = False,
    as_json: DoneAsJsonOption = False,
) -> None:
    """Write the shapes of all events, by type and version, and of all commands and read models, to a file.

    What the file has of earlier versions and shapes stays there. If the check finds something, the file is not written.
    """
    now, before = _declared(base), _read(file) if file.exists() else None
    problems = [] if before is None or accept else check(before, now, mode)
    output = Output()
    if problems:
        _print(output, problems)
        output.styled((f"{file} is not written; --accept writes it anyway", "bold red"))
        raise typer.Exit(FAILED)
    text = written(now if before is None else merged(before, now))
    file.write_text(text, encoding="utf-8")
    if as_json:
        say_done("", as_json=True, file=file, event_types=len(now["events"]), commands=len(now["commands"]))
    else:
        output.styled((f"{file}: {counted(len(now['events']), 'event type')}, {counted(len(now['commands']), 'command')}", ""))


def check_shapes(  # noqa: PLR0913 - one for each option
    base: BaseArgument,
    *,
    file: FileOption = _FILE,
    mode: ModeOption = Mode.BACKWARD_TRANSITIVE,
    allow_unproven: UnprovenOption = False,
    log: Annotated[
        str | None,
        typer.Option("--log", metavar="URL", show_default=False, help="Read the log of this database too, as the code would."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="EVENTS",
            min=1,
            show_default=False,
            help="About how many events of the log (of each tenant) to read; all by default.",
        ),
    ] = None,
    in_clear: Annotated[
        bool, typer.Option("--clear", help="Decrypt personal data, which takes the keys; by default placeholders are read.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that the code can read what earlier code has stored, as the file of shapes describes it.

    The exit status is 1 if something does not fit, or if it cannot be told whether it fits.
    """
    if log is None and (sample is not None or in_clear):
        raise UsageError("--sample and --clear are about a log; name one with --log")
    if not file.exists() and log is None:
        raise UsageError(f"there is no file {str(file)!r}; write it: sa-eventsource schema {base} --file {file}")
    now = _declared(base)
    before = _read(file) if file.exists() else now
    problems = check(before, now, mode)
    failing = [each for each in problems if not (allow_unproven and each.verdict == "unproven")]
    changed, defaults = changed_models(before, now), changed_defaults(before, now)
    scan = None if log is None else _scan(base, log, sample, in_clear=in_clear)
    is_fine = not failing and not (scan and scan.findings)
    output = Output()
    if as_json:
        found = {
            "problems": [dataclasses.asdict(each) for each in problems],
            "changed_read_models": changed,
            "changed_defaults": [dataclasses.asdict(each) for each in defaults],
            "log": None if scan is None else dataclasses.asdict(scan),
            "is_compatible": is_fine,
        }
        output.line(json.dumps(found, indent=2))
    else:
        _print(output, problems)
        for name in changed:
            output.styled(
                ("note    ", "yellow"),
                (f"read model {name}: its declaration has changed; it is to be rebuilt, or given a new __version__", ""),
            )
        for each in defaults:
            output.styled(("note    ", "yellow"), (_changed_default(each), ""))
        good = (
            ("the code reads all that the file has", "green") if not problems else ("nothing is known to be incompatible", "yellow")
        )
        output.styled(good if not failing else (counted(len(failing), "thing does", "things do") + " not fit", "bold red"))
        if scan is not None:
            _print_scan(output, scan)
    if not is_fine:
        raise typer.Exit(FAILED)


def write_page(
    base: BaseArgument,
    *,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default=False, help="Where to write it; stdout by default.")
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            "--log", metavar="URL", show_default=False, help="Look in the log of this database too for which event led to which."
        ),
    ] = None,
) -> None:
    """Write a page about the events: who applies, projects, publishes and reacts to them, and which events follow from which.

    The page is Markdown, with a Mermaid diagram. It marks what the log has but no process manager declares, and the reverse.
    """
    found = import_named(base, "a declarative base")
    tables, observed = tables_of(found, base), None
    if log is not None:
        with on_database(found, tables, log) as target, target.engine.connect() as connection:
            observed = observed_causation(connection, tables)
    text = schema_page(tables, observed)
    if output is None:
        Output().line(text.rstrip())
    else:
        output.write_text(text, encoding="utf-8")


def _scan(base: str, log: str, sample: int | None, *, in_clear: bool) -> LogScan:
    found = import_named(base, "a declarative base")
    tables = tables_of(found, base)
    with on_database(found, tables, log, for_all_tenants=True) as target, Bars() as bars:
        if not tables.options.tenants or current_tenant() is not None:
            return _scan_one(target, sample, in_clear=in_clear, progress=bars.show)
        whole = LogScan()
        with Session(target.engine) as session:
            tenants = tenants_of_log(session, tables)
        for tenant in tenants:
            progress = functools.partial(bars.show_part, tenant)
            whole.add(_scan_one(for_tenant(target, tenant), sample, in_clear=in_clear, progress=progress), tenant)
        return whole


def _scan_one(target: Target, sample: int | None, *, in_clear: bool, progress: Callable[[str, int, int | None], None]) -> LogScan:
    """Scan the log of one tenant, or of an application without tenants, in one state of the database."""
    with target.engine.connect() as connection:
        database = database_of(connection.dialect)
        seeing = connection.execution_options(**database.one_state)
        with seeing.begin():
            database.begin_reading(seeing)
            return scan_log(seeing, target.tables, sample=sample, in_clear=in_clear, progress=progress)


def _print_scan(output: Output, scan: LogScan) -> None:
    for each in scan.findings:
        of_version = "" if each.version is None else f" {each.version}"
        where = ", ".join(f"{name} {value}" for name, value in each.first.items())
        output.styled(
            ("WRONG   ", "bold red"),
            (f"{each.subject}{of_version}: {each.trouble}, {counted(each.count, 'time')}: {each.reason}", ""),
        )
        output.styled((f"        first: {where}", "dim"))
    for name, number in scan.unused_snapshots.items():
        output.styled(("note    ", "yellow"), (f"{counted(number, 'snapshot')} of {name} made by other code, and so not used", ""))
    read = f"{counted(scan.read, 'event')} of {scan.events} and {counted(scan.snapshots, 'snapshot')} were read"
    output.styled((read, "green" if not scan.findings else "bold red"))


def _changed_default(found: ChangedDefault) -> str:
    of_version = "" if found.version is None else f" {found.version}"
    before, now = (json.dumps(each, ensure_ascii=False) for each in (found.before, found.now))
    return (
        f"{found.subject}{of_version}, {found.field}: its default was {before} and is {now}; what was stored without the field is "
        "read otherwise than before"
    )


def _declared(base: str) -> Document:
    return document_of(tables_of(import_named(base, "a declarative base"), base))


def _read(file: Path) -> Document:
    return read_document(file.read_text(encoding="utf-8"), str(file))


def _print(output: Output, problems: Sequence[Problem]) -> None:
    said: set[str | None] = {None}
    for each in problems:
        of_version = "" if each.version is None else f" {each.version}"
        where = f"{each.subject}{of_version}{f', {each.path}' if each.path else ''}"
        word, style = ("WRONG   ", "bold red") if each.verdict == "incompatible" else ("UNKNOWN ", "yellow")
        output.styled((word, style), (f"{where} ({each.direction}): {each.reason}", ""))
        if each.code not in said:
            output.styled((f"        {each.remedy}", ""))
            for line in (each.code or "").splitlines():
                output.styled((f"            {line}", "cyan"))
            said.add(each.code)
        elif each.code is None:
            output.styled((f"        {each.remedy}", ""))
