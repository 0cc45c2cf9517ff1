"""``sa-eventsource show``: what happened to one aggregate, and what each event changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sa_eventsource.arguments import MAX_VERSION
from sa_eventsource.cli.code_options import CodeVariableOption, named_code
from sa_eventsource.cli.compared_code import show_differences
from sa_eventsource.cli.errors import FAILED, UsageError
from sa_eventsource.cli.events import context_of
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.named_aggregates import named_aggregate, named_id
from sa_eventsource.cli.output import Output
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.cli.times import Axis, for_people, parse_time
from sa_eventsource.event_log import read_history
from sa_eventsource.mapping import as_json, json_object
from sa_eventsource.store import event_members

if TYPE_CHECKING:
    from sa_eventsource.event_log import Change, History


_UNSET = "(unset)"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show", epilog=example("show app.models:Base Order o-1 --at 2026-05-04T12:00Z"))(show)


def show(  # noqa: PLR0913 - each is an argument or an option
    base: BaseArgument,
    aggregate_type: Annotated[str, typer.Argument(metavar="TYPE", show_default=False, help="The aggregate's type, such as Order.")],
    aggregate_id: Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The aggregate's id.")],
    *,
    url: UrlOption = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="As it was at this time, inclusive (ISO 8601).")] = None,
    axis: Annotated[
        Axis, typer.Option(help="With --at: as it was then (occurred), or as it was known then (recorded).")
    ] = Axis.OCCURRED,
    version: Annotated[
        int | None, typer.Option(min=1, max=MAX_VERSION, metavar="N", help="As it was after its first N events.")
    ] = None,
    with_code: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="CODE",
            show_default=False,
            help="Show where other code makes other states: a Git revision, ./folder, or module=./file.py. Exits with 1 if so.",
        ),
    ] = None,
    code_variable: CodeVariableOption = None,
    as_json_object: Annotated[bool, typer.Option("--json", help="Print one JSON object: events, changes, state.")] = False,
) -> None:
    """Show an aggregate's history: each event, what it changed, and the state at the end.

    The events are replayed one by one by the aggregate's @applies methods, without snapshots. Values are shown as JSON.
    """
    if with_code is not None and (at is not None or version is not None):
        raise UsageError("--with compares all versions; leave --at and --version out")
    if with_code is None and code_variable:
        raise UsageError("--code-variable is for other code; pass --with too")
    other = None if with_code is None else named_code(base, [with_code], code_variable)
    if at is not None and version is not None:
        raise UsageError("pass --at or --version, not both")
    if at is None and axis is not Axis.OCCURRED:
        raise UsageError(f"--axis {axis.value} says what --at means; pass --at TIME too")
    moment = parse_time(at, "--at")
    with open_target(base, url, masks=True) as target:
        definition = named_aggregate(target.tables, aggregate_type)
        text_id = definition.text_id(named_id(definition, aggregate_id))
        with target.engine.connect() as connection:
            history = read_history(connection, definition, text_id, moment=moment, axis=axis.value, version=version)
        if other is None or with_code is None:
            (_print_json if as_json_object else _print_for_people)(Output(), history)
        elif not show_differences(Output(), other, with_code, history, as_json_object=as_json_object):
            raise typer.Exit(FAILED)


def _print_for_people(output: Output, history: History) -> None:
    output.styled((f"{history.definition.aggregate_type} {history.aggregate_id}", "bold"))
    for row, changes in history.steps():
        output.styled()
        output.styled((f"v{row.version}  ", "bold"), (f"{for_people(row.occurred_at)}  ", "cyan"), (row.event_type, "yellow"))
        for context in context_of(row):
            output.styled((f"    {context}", "dim"))
        for name, change in changes.items():
            output.styled(
                (f"    {name}: ", ""), (change.before or _UNSET, "red"), (" → ", "dim"), (change.after or _UNSET, "green")
            )
        if not changes:
            output.styled(("    no change", "dim"))
    output.styled()
    output.styled((f"State at version {history.rows[-1].version}", "bold"))
    for name, text in history.state.items():
        output.styled((f"    {name}: ", ""), (text, "green"))


def _print_json(output: Output, history: History) -> None:
    steps = [
        json_object({**event_members(row), "changes": json_object({name: _change(change) for name, change in changes.items()})})
        for row, changes in history.steps()
    ]
    members = {
        "aggregate_type": as_json(history.definition.aggregate_type),
        "aggregate_id": as_json(history.aggregate_id),
        "version": str(history.rows[-1].version),
        "events": f"[{','.join(steps)}]",
        "state": json_object(history.state),
    }
    output.line(json_object(members))


def _change(change: Change) -> str:
    values = {"before": change.before, "after": change.after}
    return json_object({name: text for name, text in values.items() if text is not None})
