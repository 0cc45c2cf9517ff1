"""``sa-eventsource show``: what happened to one aggregate, and what each event changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import to_json

from sa_eventsource.aggregates import AggregateDefinition, advance, definition_of, past_view
from sa_eventsource.cli.errors import UsageError
from sa_eventsource.cli.events import context_of
from sa_eventsource.cli.output import Output
from sa_eventsource.cli.target import BaseArgument, UrlOption, open_target
from sa_eventsource.cli.times import Axis, for_people, parse_time
from sa_eventsource.exceptions import AggregateIdError, AggregateNotFoundError
from sa_eventsource.mapping import as_json, json_object
from sa_eventsource.store import clear_payloads, event_members, known_at, select_raw_events

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from sa_eventsource.arguments import TimeAxis
    from sa_eventsource.mapping import EventSourceTables


_UNSET = "(unset)"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(show)


def show(  # noqa: PLR0913 - each is an argument or an option
    base: BaseArgument,
    aggregate_type: Annotated[str, typer.Argument(metavar="TYPE", show_default=False, help="The aggregate's type, such as Order.")],
    aggregate_id: Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The aggregate's id.")],
    *,
    url: UrlOption = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="As it stood then, that moment included (ISO 8601).")] = None,
    axis: Annotated[
        Axis, typer.Option(help="With --at: as it was then (occurred), or as it was known then (recorded).")
    ] = Axis.OCCURRED,
    version: Annotated[int | None, typer.Option(min=1, metavar="N", help="As it stood after its first N events.")] = None,
    as_json_object: Annotated[bool, typer.Option("--json", help="Print one JSON object: events, changes, state.")] = False,
) -> None:
    """Show an aggregate's history: each event, what it changed, and the state in the end.

    The events are replayed one by one through the aggregate's @applies methods, without snapshots. Values are written as JSON.
    """
    if at is not None and version is not None:
        raise UsageError("pass --at or --version, not both")
    if at is None and axis is not Axis.OCCURRED:
        raise UsageError(f"--axis {axis.value} says what --at means; pass --at TIME too")
    moment = parse_time(at, "--at")
    with open_target(base, url) as target:
        definition = _definition(target.tables, aggregate_type)
        text_id = _text_id(definition, aggregate_id)
        with target.engine.connect() as connection:
            history = read_history(connection, definition, text_id, moment=moment, axis=axis.value, version=version)
        (_print_json if as_json_object else _print_for_people)(Output(), history)


@dataclass(frozen=True, slots=True)
class Change:
    """What an event did to one state field. The values are JSON texts; None for a field that has no value."""

    before: str | None
    after: str | None


@dataclass(slots=True)
class History:
    """An aggregate's events, and what each of them changes.

    Attributes:
        definition: The aggregate's class.
        aggregate_id: Its id as stored.
        rows: Its events by version.
        payloads: Their payloads in clear.
        whole: Whether each version must be there; what had happened by some time may have holes.
        state: The state fields after the events that :meth:`steps` has come to, as JSON texts by name.
    """

    definition: AggregateDefinition
    aggregate_id: str
    rows: Sequence[Row[Any]]
    payloads: Sequence[str]
    whole: bool
    state: dict[str, str] = field(default_factory=dict)

    def steps(self) -> Iterator[tuple[Row[Any], dict[str, Change]]]:
        """Replay the events one after the other.

        Raises:
            EventSourceError: An event cannot be replayed; the error names it.
        """
        view: Any = past_view(self.definition.aggregate_class, self.aggregate_id, ())
        self.state = self._texts(view)
        for row, payload in zip(self.rows, self.payloads, strict=True):
            stored = (row.version, row.event_type, row.event_version, payload, str(row.event_id))
            advance(view, self.aggregate_id, [stored], contiguous=self.whole)
            before, self.state = self.state, self._texts(view)
            changes = {
                name: Change(before.get(name), self.state.get(name))
                for name in self._names()
                if before.get(name) != self.state.get(name)
            }
            yield row, changes

    def _names(self) -> list[str]:
        """List the state fields in the order of their declaration, those of base classes first."""
        declared = dict.fromkeys(name for base in reversed(self.definition.aggregate_class.__mro__) for name in vars(base))
        return [name for name in declared if name in self.definition.state.names]

    def _texts(self, view: Any) -> dict[str, str]:
        values = vars(view)
        return {name: _as_text(values[name]) for name in self._names() if name in values}


def read_history(  # noqa: PLR0913 - by keyword
    connection: Connection,
    definition: AggregateDefinition,
    aggregate_id: str,
    *,
    moment: datetime | None = None,
    axis: TimeAxis = "occurred",
    version: int | None = None,
) -> History:
    """Read an aggregate's events, up to a moment or a version, which is included. *axis* says which of their times *moment* is.

    Raises:
        AggregateNotFoundError: There are none, or not so many.
    """
    events = definition.tables.events
    statement = select_raw_events(events).where(
        events.c.aggregate_type == definition.aggregate_type, events.c.aggregate_id == aggregate_id
    )
    if moment is not None:
        statement = statement.where(known_at(events, definition.aggregate_type, aggregate_id, moment, axis))
    if version is not None:
        statement = statement.where(events.c.version <= version)
    rows = connection.execute(statement.order_by(events.c.version)).all()
    if not rows or (version is not None and rows[-1].version != version):
        raise AggregateNotFoundError(definition.aggregate_type, aggregate_id, moment=moment, axis=axis, version=version)
    payloads = clear_payloads(connection, events, rows)
    return History(definition, aggregate_id, rows, payloads, whole=moment is None or axis == "recorded")


def _definition(tables: EventSourceTables, aggregate_type: str) -> AggregateDefinition:
    found = tables.aggregate_classes.get(aggregate_type)
    if found is None:
        known = ", ".join(sorted(tables.aggregate_classes)) or "none; name a module that imports the aggregates"
        raise UsageError(f"there is no aggregate type {aggregate_type!r}; known are: {known}")
    return definition_of(found)


def _text_id(definition: AggregateDefinition, text: str) -> str:
    try:
        return definition.text_id(definition.typed_id(text))
    except AggregateIdError as error:
        raise UsageError(str(error)) from error
    except ValueError:
        kind = definition.id_type.__name__
        raise UsageError(f"{text!r} cannot be an id of {definition.aggregate_type}: it must be of type {kind}") from None


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


def _as_text(value: Any) -> str:
    if isinstance(value, set | frozenset):
        return f"[{','.join(sorted(map(_as_text, value)))}]"  # equal sets may come in different orders
    return to_json(value, fallback=repr, inf_nan_mode="strings", bytes_mode="hex").decode()
