"""``sa-eventsource rebuild`` and ``retire``: rebuild read models from the log, and drop former versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy import func, select

from sa_eventsource.checkpoints import of_consumer
from sa_eventsource.cli.done_work import DoneAsJsonOption, say_done
from sa_eventsource.cli.errors import UsageError, checked_arguments
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.progress_bars import progress_on_stderr
from sa_eventsource.cli.target import BaseArgument, Target, UrlOption, open_target
from sa_eventsource.counting import counted
from sa_eventsource.projections import EventReplayer, keys_of_rows
from sa_eventsource.read_models import is_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.read_models import ReadModelDefinition

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", show_default=False, help="The model's __projection_name__, by default its class's name.")
]
AnyNameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        show_default=False,
        help="The model's __projection_name__ (by default its class's name), or the name of the other.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("rebuild", epilog=example("rebuild app.models:Base order_list"))(rebuild)
    app.command("retire", epilog=example("retire app.models:Base order_list 1"))(retire)


def rebuild(  # noqa: PLR0913 - each is an argument or an option
    base: BaseArgument,
    name: NameArgument,
    *,
    url: UrlOption = None,
    key: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Only the row of this primary key.")] = None,
    positions: Annotated[
        tuple[int, int] | None, typer.Option(metavar="FIRST LAST", help="Only the rows that events at these positions belong to.")
    ] = None,
    as_json: DoneAsJsonOption = False,
) -> None:
    """Rebuild a read model's rows from the log, in one transaction: readers see the old rows until it commits.

    If it is interrupted, everything stays as it was. While a strong model is rebuilt, writers of events wait.
    """
    if key and positions:
        raise UsageError("--key and --positions exclude each other: name the rows, or the events that they belong to")
    with open_target(base, url) as target:
        definition = _definition(target, name)
        replayer = EventReplayer(target.engine, target.base)
        if key or positions:
            keys = [_read_key(definition, each) for each in key or ()]
            with checked_arguments():
                before = _with_row(target, definition, keys)
                number = (
                    replayer.rebuild_rows(definition.model, keys)
                    if keys
                    else replayer.rebuild_between(definition.model, positions=positions)
                )
            known = before | _with_row(target, definition, keys)
            unknown = [repr(str(each)) for each in keys if each not in known]
            if number or not unknown:
                say_done(f"rebuilt {counted(number, 'row')} of {name}", as_json=as_json, name=name, rows=number)
            if unknown:
                raise UsageError(f"{name} has no row of key {', '.join(unknown)}, and no event that it has taken makes one")
            return
        with progress_on_stderr() as bar:
            task = bar.add_task(f"rebuilding {name}", total=_number_of_events(target, definition))
            taken = replayer.rebuild(definition.model, progress=lambda taken: bar.update(task, completed=taken))
        say_done(f"rebuilt {name} from {counted(taken, 'event')}", as_json=as_json, name=name, events=taken)


def retire(
    base: BaseArgument,
    name: AnyNameArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="The model's __version__.")] = 1,
    *,
    url: UrlOption = None,
    as_json: DoneAsJsonOption = False,
) -> None:
    """Drop what the library keeps of a model version that the code no longer declares, of a former subscription, or of a reader."""
    with open_target(base, url) as target:
        number = EventReplayer(target.engine, target.base).retire(name, version)
        rows = (
            f"; {counted(number, 'row of it in the shared table is', 'rows of it in the shared table are')} deleted"
            if number
            else ""
        )
        say_done(f"retired {name} version {version}{rows}", as_json=as_json, name=name, version=version, deleted_rows=number)


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


def _with_row(target: Target, definition: ReadModelDefinition, keys: Sequence[str | int]) -> set[str | int]:
    """Find the keys of which there is a row."""
    with target.engine.connect() as connection:
        return {
            text
            for text, (key,) in zip(keys, keys_of_rows(definition, keys), strict=True)
            if connection.execute(
                select(1).select_from(definition.table).where(is_row(definition, (definition.key[0].type.normalise(key),)))
            ).first()
        }


def _number_of_events(target: Target, definition: ReadModelDefinition) -> int:
    events = target.tables.events
    with target.engine.connect() as connection:
        statement = select(func.count()).select_from(events).where(of_consumer(definition))
        return connection.execute(statement).scalar_one()
