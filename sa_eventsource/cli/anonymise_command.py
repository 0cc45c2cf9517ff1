"""``sa-eventsource anonymise``: rewrite chosen fields of events that are stored in clear."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy.orm import Session

from sa_eventsource.cli.done_work import say_done
from sa_eventsource.cli.errors import UsageError, checked_arguments, describe
from sa_eventsource.cli.events import declared_event_types, unknown_types
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.output import Output
from sa_eventsource.cli.target import BaseArgument, UrlOption, import_named, open_target
from sa_eventsource.counting import counted
from sa_eventsource.event_log import EventStore
from sa_eventsource.events import event_context
from sa_eventsource.privacy import Anonymised, anonymise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sa_eventsource.privacy import FieldChange, StoredField


_NOT_REACHED = (
    "{} not reached (those in archive files count, whatever their type): bring their streams back with sa-eventsource unarchive, "
    "and anonymise again under another name"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    call = "anonymise app.models:Base app.privacy:blank \\"
    options = "--name notes --type NoteAdded --field text --reason 'no names' --dry-run"
    app.command("anonymise", epilog=example(call, options))(anonymise_events)


def anonymise_events(  # noqa: PLR0913 - by keyword
    base: BaseArgument,
    function: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION", show_default=False, help="A function that gets a StoredField and returns its new value."
        ),
    ],
    *,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME", show_default=False, help="A name for this anonymisation, by which an interrupted run goes on."
        ),
    ],
    event_type: Annotated[
        list[str],
        typer.Option("--type", metavar="TYPE", show_default=False, help="Only events of this stored type; may be repeated."),
    ],
    field: Annotated[
        list[str],
        typer.Option(
            metavar="PATH", show_default=False, help="Path in the stored JSON, such as email or lines.*.note; may be repeated."
        ),
    ],
    reason: Annotated[
        str, typer.Option(metavar="TEXT", show_default=False, help="The reason, for the record, which is kept for good.")
    ],
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Who does it, for the record.")] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="How many events to look at in one transaction.")] = 500,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would become of the first events.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was done as JSON; with --dry-run, a line for each field.")
    ] = False,
    url: UrlOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Rewrite chosen fields of events that are stored unencrypted, in batches, and what was derived from them.

    The application and workers may run, but first make sure that the application appends no more such values. An interrupted run
    goes on when it is called again with the same name. It cannot be undone.
    """
    rewrite = import_named(function, "a function")
    if not callable(rewrite):
        raise UsageError(f"{function} is not a function; name one that gets a StoredField and returns its new value")
    rewrite = _reporting(function, rewrite)
    with open_target(base, url) as target, nullcontext() if user is None else event_context(user=user):
        column = target.tables.events.c.event_type
        if unknown := unknown_types(target.engine, column, event_type, declared_event_types(target.tables)):
            raise UsageError("; ".join(unknown))

        def step() -> Anonymised:
            with Session(target.engine) as session, checked_arguments():
                events = EventStore(session, target.base).events.where(target.tables.events.c.event_type.in_(event_type))
                done = anonymise(events, field, rewrite, name=name, reason=reason, at_most=batch, dry_run=dry_run)
                session.commit()
                return done

        if dry_run:
            _print(step(), as_json=as_json)
            return
        if not yes:
            typer.confirm(f"{', '.join(field)} of {', '.join(event_type)} will be rewritten. Go on?", abort=True, err=True)
        done = step()
        while not done.is_finished:
            done = step()
    said = f"{counted(done.events, 'event')} rewritten, up to position {done.position}"
    counts = {"events": done.events, "archived_events": done.archived_events, "position": done.position}
    say_done(said, as_json=as_json, **counts, models_to_rebuild=done.models_to_rebuild)
    if done.archived_events:
        typer.echo(_NOT_REACHED.format(counted(done.archived_events, "archived event")), err=True)
    for each in done.models_to_rebuild:
        typer.echo(f"{each} has @handles methods: run sa-eventsource rebuild {base} {each}", err=True)


def _reporting(name: str, function: Callable[[StoredField], Any]) -> Callable[[StoredField], Any]:
    """Have what the function raises reported with the field that it was given."""

    @wraps(function)
    def rewrite(found: StoredField) -> Any:
        try:
            return function(found)
        except Exception as error:
            raised = f"{type(error).__name__}: {describe(error)}"
            raise UsageError(f"{name} failed for {found.field} of event {found.event_id}: {raised}") from error

    rewrite.__qualname__ = getattr(function, "__qualname__", type(function).__qualname__)  # it is part of the record
    return rewrite


def _print(done: Anonymised, *, as_json: bool) -> None:
    output = Output()
    if as_json:
        for each in done.changes:
            output.line(json.dumps(_members(each), ensure_ascii=False))
    else:
        _print_for_people(output, done.changes)
    output.flush()
    rest = "" if done.is_finished else "; there are more events, see --batch"
    if not done.changes:
        rest = f": they are missing, encrypted, or have the new values already{rest}"
    typer.echo(f"{counted(len(done.changes), 'field')} would change{rest}", err=True)


def _print_for_people(output: Output, changes: Sequence[FieldChange]) -> None:
    event = None
    for each in changes:
        if each.event_id != event:
            event = each.event_id
            output.styled((f"{each.aggregate_type} {each.aggregate_id} {each.version} {each.event_type}", "bold"))
        output.styled((f"  - {each.field}: {json.dumps(each.before, ensure_ascii=False)}", "red"))
        output.styled((f"  + {each.field}: {json.dumps(each.after, ensure_ascii=False)}", "green"))


def _members(change: FieldChange) -> dict[str, object]:
    return {
        "event_id": str(change.event_id),
        "aggregate_type": change.aggregate_type,
        "aggregate_id": change.aggregate_id,
        "version": change.version,
        "event_type": change.event_type,
        "field": change.field,
        "before": change.before,
        "after": change.after,
    }
