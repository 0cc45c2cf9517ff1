"""``sa-eventsource events``: the log, as it is stored."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from sqlalchemy import select

from sa_eventsource.aggregates import definition_of
from sa_eventsource.arguments import MAX_POSITION
from sa_eventsource.cli.done_work import say_none
from sa_eventsource.cli.errors import UsageError, did_you_mean
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.log_reader import LogReader
from sa_eventsource.cli.output import Output, padded
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.cli.times import Axis, for_people, is_late, parse_time
from sa_eventsource.events import is_readable
from sa_eventsource.mapping import json_object
from sa_eventsource.store import event_members

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy import Column, Engine, Row, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.mapping import EventSourceTables


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("events", epilog=example("events app.models:Base --type OrderPaid --limit 20"))(list_events)


_INTERVAL = 1.0


def list_events(  # noqa: C901, PLR0913 - each is an option
    base: BaseArgument,
    *,
    url: UrlOption = None,
    aggregate_type: Annotated[str | None, typer.Option(help="Only events of this type of aggregate.")] = None,
    aggregate_id: Annotated[str | None, typer.Option(help="Only events of the aggregate with this id.")] = None,
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this stored type; may be repeated.")
    ] = None,
    correlation: Annotated[str | None, typer.Option(metavar="UUID", help="Only events with this correlation id.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only events of this time or later (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only events of this time or earlier (ISO 8601).")] = None,
    axis: Annotated[
        Axis, typer.Option(help="Whether --since and --until mean when events occurred, or when they were recorded.")
    ] = Axis.OCCURRED,
    after: Annotated[
        int | None, typer.Option(max=MAX_POSITION, metavar="POSITION", help="Only events after this position.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, metavar="N", help="No more than this many events.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines, with all columns.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as events are committed; end with Ctrl-C.")] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            min=0.01, metavar="SECONDS", show_default=False, help=f"With --follow: how often to look; {_INTERVAL} by default."
        ),
    ] = None,
) -> None:
    """List events in the order of their positions, as they are stored.

    The event classes are not asked: events of unknown types, and payloads that fit no class, are listed too. A type that is neither
    in the log nor in the code is reported as a mistake.
    """
    if interval is not None and not follow:
        raise UsageError("--interval says how often --follow looks; pass --follow too")
    with open_target(base, url) as target:
        conditions = _conditions(
            target.tables.events,
            {"aggregate_type": aggregate_type, "aggregate_id": aggregate_id, "correlation_id": _uuid(correlation)},
        )
        columns = target.tables.events.c
        if event_type:
            conditions.append(columns.event_type.in_(event_type))
        first, last = parse_time(since, "--since"), parse_time(until, "--until")
        moment = columns[f"{axis.value}_at"]
        if first is not None:
            conditions.append(moment >= first)
        if last is not None:
            conditions.append(moment <= last)
        if after is not None:
            conditions.append(columns.position > after)
        unknown = [
            *unknown_types(target.engine, columns.event_type, event_type or (), declared_event_types(target.tables)),
            *unknown_types(
                target.engine, columns.aggregate_type, [aggregate_type] if aggregate_type else (), target.tables.aggregate_classes
            ),
        ]
        for message in unknown:
            if not follow:
                raise UsageError(message)
            typer.echo(f"note: {message}", err=True)
        reader = LogReader(target.engine, target.tables.events, conditions, limit)
        printer = EventPrinter(Output(), as_json=as_json)
        try:
            with closing(reader.follow(interval or _INTERVAL) if follow else reader.read()) as batches:
                for batch in batches:
                    printer.print(batch)
            printer.end(is_filtered=bool(conditions), limit=limit)
        except KeyboardInterrupt:
            if not follow:
                raise


class EventPrinter:
    """Prints events, a line each."""

    def __init__(self, output: Output, *, as_json: bool) -> None:
        """Print to *output*, for people or as JSON."""
        self._output = output
        self._as_json = as_json
        self._has_printed = False
        self._widths = [0, 0, 0, 0]

    def print(self, batch: Sequence[Row[Any]]) -> None:
        """Print a batch and flush."""
        self._has_printed = True
        for row in batch:
            if self._as_json:
                self._output.line(json_object({**event_members(row), "transaction_id": str(row.transaction_id)}))
            else:
                self._print_for_people(row)
        self._output.flush()

    def end(self, *, is_filtered: bool, limit: int | None) -> None:
        """Tell people if there was nothing to print."""
        if not self._has_printed and not self._as_json and limit != 0:
            say_none("no such event in the log" if is_filtered else "no event in the log")

    def _print_for_people(self, row: Row[Any]) -> None:
        cells = [
            str(row.position),
            for_people(row.occurred_at),
            f"{row.aggregate_type} {row.aggregate_id} v{row.version}",
            row.event_type if row.event_version == 1 else f"{row.event_type} ({row.event_version})",
        ]
        position, moment, stream, name = padded(cells, self._widths)
        self._output.styled(
            (f"{position}  ", "bold"),
            (f"{moment}  ", "cyan"),
            (f"{stream}  ", "green"),
            (f"{name}  ", "yellow"),
            (row.event_data, ""),
            *((f"  {text}", "dim") for text in context_of(row)),
        )


def context_of(row: Row[Any]) -> list[str]:
    """Say who and why, as far as an event was stored with it, and when it was recorded, if that was not when it happened."""
    found = [f"recorded {for_people(row.recorded_at)}"] if is_late(row.occurred_at, row.recorded_at) else []
    found += [f"metadata {row.event_metadata}"] if row.event_metadata is not None else []
    found += [f"correlation {row.correlation_id}"] if row.correlation_id is not None else []
    return found + ([f"causation {row.causation_id}"] if row.causation_id is not None else [])


def _conditions(events: Table, equal: dict[str, Any]) -> list[ColumnElement[bool]]:
    return [events.c[name] == value for name, value in equal.items() if value is not None]


def declared_event_types(tables: EventSourceTables) -> set[str]:
    """The stored names of all events that the aggregates on the log take."""
    return {
        event_class.__event_type__
        for each in tables.aggregate_classes.values()
        for event_class in definition_of(each).handlers.functions()
    }


def unknown_types(engine: Engine, column: Column[Any], names: Iterable[str], declared: Collection[str]) -> list[str]:
    """Say of each name that neither the log nor the code has it."""
    messages = []
    with engine.connect() as connection:
        for name in names:
            is_stored = connection.execute(select(column).where(column == name).limit(1)).first() is not None
            if not (is_stored or name in declared or (column.name == "event_type" and is_readable(name))):
                kind, advice = column.name.replace("_", " "), did_you_mean(name, declared)
                messages.append(f"{kind} {name!r} is unknown: no event in the log has it, and no class declares it{advice}")
    return messages


def _uuid(text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"--correlation: {text!r} is not a UUID") from None
