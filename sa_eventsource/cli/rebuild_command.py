"""``sa-eventsource rebuild`` and ``retire``: rebuild read models from the log, and drop former versions dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from sqlalchemy import func, select

from sa_eventsource.checkpoints import of_consumer
from sa_eventsource.cli.errors import UsageError
from sa_eventsource.cli.target import BaseArgument, Target, UrlOption, open_target
from sa_eventsource.counting import counted
from sa_eventsource.exceptions import EventSourceError
from sa_eventsource.projections import EventReplayer

if TYPE_CHECKING:
    from sa_eventsource.read_models import ReadModelDefinition

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The model's __projection_name__.")]
AnyNameArgument = Annotated[
    str, typer.Argument(metavar="NAME", show_default=False, help="The model's __projection_name__, or the other's name.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("rebuild")(rebuild)
    app.command("retire")(retire)


def rebuild(
    base: BaseArgument,
    name: NameArgument,
    *,
    url: UrlOption = None,
    key: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Only the row of this primary key.")] = None,
    positions: Annotated[
        tuple[int, int] | None, typer.Option(metavar="FIRST LAST", help="Only rows of events at these positions.")
    ] = None,
) -> None:
    """Rebuild a read model's rows from the log, in one transaction: readers see the old rows until it commits.

    Interrupted, all is as it was. While a strong model is rebuilt, writers of events wait.
    """
    if key and positions:
        raise UsageError("--key and --positions exclude each other: name the rows, or the events that they belong to")
    with open_target(base, url) as target:
        definition = _definition(target, name)
        replayer = EventReplayer(target.engine, target.base)
        if key or positions:
            try:
                number = (
                    replayer.rebuild_rows(definition.model, [_read_key(definition, each) for each in key])
                    if key
                    else replayer.rebuild_between(definition.model, positions=positions)
                )
            except EventSourceError:
                raise
            except (TypeError, ValueError) as error:
                raise UsageError(str(error)) from error
            typer.echo(f"rebuilt {counted(number, 'row')} of {name}", err=True)
            return
        console = Console(stderr=True)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as bar:
            task = bar.add_task(f"rebuilding {name}", total=_number_of_events(target, definition), rate="")

            def show(taken: int) -> None:
                speed = bar.tasks[task].finished_speed or bar.tasks[task].speed
                bar.update(task, completed=taken, rate=f"{speed:,.0f}/s" if speed else "")

            taken = replayer.rebuild(definition.model, progress=show)
        typer.echo(f"rebuilt {name} from {counted(taken, 'event')}", err=True)


def retire(
    base: BaseArgument,
    name: AnyNameArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="The model's __version__.")] = 1,
    *,
    url: UrlOption = None,
) -> None:
    """Drop what is kept of a version that the code no longer declares, of a former subscription, or of a reader."""
    with open_target(base, url) as target:
        number = EventReplayer(target.engine, target.base).retire(name, version)
        rows = (
            f"; {counted(number, 'row of it in the shared table is', 'rows of it in the shared table are')} deleted"
            if number
            else ""
        )
        typer.echo(f"retired {name} version {version}{rows}", err=True)


def _definition(target: Target, name: str) -> ReadModelDefinition:
    found: Any = target.tables.read_models.get(name)
    if found is None:
        known = ", ".join(sorted(target.tables.read_models)) or "none"
        raise UsageError(f"there is no read model {name!r}; there are: {known}")
    return found  # type: ignore[no-any-return]


def _read_key(definition: ReadModelDefinition, text: str) -> str | int:
    """Read the key of a row: what is no number may be given as the text that it is stored as."""
    part, *others = definition.key
    if others:
        names = ", ".join(each.name for each in definition.key)
        raise UsageError(
            f"--key is one value, and a key of {definition.name} has several: {names}. Name the events that the rows belong to, "
            "with --positions, or call EventReplayer.rebuild_rows()"
        )
    return int(text) if part.type.kind == "integer" and text.removeprefix("-").isdecimal() else text


def _number_of_events(target: Target, definition: ReadModelDefinition) -> int:
    events = target.tables.events
    with target.engine.connect() as connection:
        statement = select(func.count()).select_from(events).where(of_consumer(definition))
        return connection.execute(statement).scalar_one()
