"""The scan of a log: is every event read by the code that is here, and does its aggregate take it?

The file of shapes says what earlier code has said that it would write. A log says what it has written: also what was imported, or
written by code that nobody has any more. Events are read one after the other, as they are stored, and let go of: only how many are
of each kind of trouble is kept, and the first of them. Archived events are read too: they may be brought back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import Text, cast, func, or_, select

from sa_eventsource.aggregates import definition_of
from sa_eventsource.events import ARCHIVED_TYPE, Parts, decode
from sa_eventsource.exceptions import (
    EventDecodeError,
    EventSourceError,
    SealedValueError,
    UnhandledEventError,
    UnknownEventTypeError,
)
from sa_eventsource.store import Reading, clear_payloads, is_sealed_state, select_raw_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, Row, Select, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.mapping import EventSourceTables

Trouble: TypeAlias = Literal[
    "unknown type", "unreadable", "upcaster fails", "cannot be opened", "unknown aggregate", "unhandled", "snapshot does not fit"
]
Progress: TypeAlias = "Callable[[str, int, int | None], None]"

_AT_A_TIME = 1_000


@dataclass(slots=True)
class LogFinding:
    """Events, or snapshots, that have the same trouble.

    Attributes:
        trouble: What it is.
        subject: The type of the events, or of the aggregate.
        version: The version that the events were stored with; None for snapshots.
        reason: What the first of them says.
        count: How many there are among those that were read.
        first: Where the first of them is.
        fields: Which fields do not fit, where that is known.
    """

    trouble: Trouble
    subject: str
    version: int | None
    reason: str
    count: int
    first: dict[str, Any]
    fields: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two events have the same trouble."""
        return self.trouble, self.subject, self.version, self.fields


@dataclass(slots=True)
class LogScan:
    """What a scan has found.

    Attributes:
        events: How many events the log has, with those that are archived.
        read: How many of them were read.
        snapshots: How many snapshots were read.
        unused_snapshots: By type of aggregate, how many rest on other code: they are not used, and are written again.
        findings: What is wrong.
    """

    events: int = 0
    read: int = 0
    snapshots: int = 0
    unused_snapshots: dict[str, int] = field(default_factory=dict)
    findings: list[LogFinding] = field(default_factory=list)

    def add(self, other: LogScan, tenant: str) -> None:
        """Count what was found for a tenant too; the first of each kind of trouble stays the first."""
        self.events += other.events
        self.read += other.read
        self.snapshots += other.snapshots
        for name, number in other.unused_snapshots.items():
            self.unused_snapshots[name] = self.unused_snapshots.get(name, 0) + number
        known = {each.key: each for each in self.findings}
        for each in other.findings:
            if each.key in known:
                known[each.key].count += each.count
            else:
                self.findings.append(replace(each, first={"tenant": tenant, **each.first}))
        self.findings.sort(key=_in_order)


def scan_log(
    connection: Connection,
    tables: EventSourceTables,
    *,
    sample: int | None = None,
    in_clear: bool = False,
    progress: Progress = lambda _what, _done, _total: None,
) -> LogScan:
    """Read a log, or a sample of it, as the code would.

    Nothing is changed or locked. Memory does not grow with the log.

    Args:
        connection: Where to read; its transaction should see one state of the database throughout.
        tables: The tables of the log.
        sample: About how many events to read, evenly from all of the log, and the first of each type and version; None for all.
        in_clear: Whether what is sealed is opened, which takes the keys; else its placeholders are read.
        progress: Is called with what is read, how much of it, and of how much; of a sample, about how much.
    """
    return _Scanner(connection, tables, in_clear=in_clear, progress=progress).scan(sample)


class _Scanner:
    def __init__(self, connection: Connection, tables: EventSourceTables, *, in_clear: bool, progress: Progress) -> None:
        self._connection = connection
        self._tables = tables
        self._reading = Reading.CLEAR if in_clear else Reading.MASKED
        self._progress = progress
        self._found: dict[tuple[Any, ...], LogFinding] = {}
        self._aggregates = {name: definition_of(each) for name, each in tables.aggregate_classes.items()}
        self._handled: dict[tuple[str, type[Any]], str | None] = {}
        self._scan = LogScan()

    def scan(self, sample: int | None) -> LogScan:
        """Read events, then snapshots."""
        tables = [each for each in (self._tables.events, self._tables.archived_events) if each is not None]
        counted = [self._connection.execute(_groups(each)).all() for each in tables]
        self._scan.events = sum(count for groups in counted for count, _ in groups)
        step = 1 if sample is None or sample >= self._scan.events else self._scan.events // sample + 1
        total = self._scan.events // step
        for table, groups in zip(tables, counted, strict=True):
            firsts = [first for _, first in groups]
            self._read_events(table, () if step == 1 else (or_(table.c.position % step == 0, table.c.position.in_(firsts)),), total)
        for definition in self._aggregates.values():
            self._read_snapshots(definition)
        self._scan.findings = sorted(self._found.values(), key=_in_order)
        return self._scan

    def _read_events(self, events: Table, wanted: Sequence[ColumnElement[bool]], total: int) -> None:
        statement = select_raw_events(events).where(*wanted).order_by(events.c.position)
        with self._connection.execute(statement, execution_options={"yield_per": _AT_A_TIME}) as result:
            rows: Iterator[Row[Any]] = iter(result)
            while some := list(islice(rows, _AT_A_TIME)):
                for row, payload in self._opened(some):
                    self._read(row, payload)
                self._scan.read += len(some)
                self._progress("events", self._scan.read, max(total, self._scan.read))

    def _opened(self, rows: Sequence[Row[Any]]) -> Iterator[tuple[Row[Any], str]]:
        """Give rows with their payloads in clear, or as placeholders; what cannot be opened is noted and left out."""
        try:
            yield from zip(rows, clear_payloads(self._connection, self._tables.events, rows, self._reading), strict=True)
        except SealedValueError as error:
            if len(rows) == 1:
                self._note("cannot be opened", rows[0], error.reason)
                return
            for each in rows:
                yield from self._opened([each])

    def _read(self, row: Row[Any], payload: str) -> None:
        try:
            event = decode(row.event_type, row.event_version, payload, event_id=row.event_id)
        except UnknownEventTypeError as error:
            self._note("unknown type", row, str(error))
        except EventDecodeError as error:
            trouble: Trouble = "upcaster fails" if "upcaster" in error.reason else "unreadable"
            self._note(trouble, row, error.reason, *error.fields)
        except EventSourceError as error:
            self._note("unreadable", row, str(error))
        else:
            for each in event if isinstance(event, Parts) else (event,):
                self._find_handler(row, type(each))

    def _find_handler(self, row: Row[Any], event_class: type[Any]) -> None:
        key = row.aggregate_type, event_class
        if key not in self._handled:
            self._handled[key] = self._why_unhandled(*key)
        reason = self._handled[key]
        if reason is not None:
            known = row.aggregate_type in self._aggregates
            self._note("unhandled" if known else "unknown aggregate", row, reason, event_class.__event_type__)

    def _why_unhandled(self, aggregate_type: str, event_class: type[Any]) -> str | None:
        definition = self._aggregates.get(aggregate_type)
        if definition is None:
            return f"no class has the aggregate type {aggregate_type!r}; import its module, or set __aggregate_type__"
        if event_class.__event_type__ == ARCHIVED_TYPE:
            return None  # it stands for what is archived, and nobody applies it
        try:
            definition.handlers.find(event_class)
        except UnhandledEventError as error:
            return str(error)
        return None

    def _note(self, trouble: Trouble, row: Row[Any], reason: str, *apart: str) -> None:
        first = {name: getattr(row, name) for name in ("position", "aggregate_type", "aggregate_id", "version")}
        first["event_id"] = str(row.event_id)
        self._keep(LogFinding(trouble, row.event_type, row.event_version, reason, 1, first, apart))

    def _keep(self, finding: LogFinding) -> None:
        known = self._found.setdefault(finding.key, finding)
        if known is not finding:
            known.count += 1

    def _read_snapshots(self, definition: AggregateDefinition) -> None:
        snapshots, name = self._tables.snapshots, definition.aggregate_type
        statement = select(snapshots.c.aggregate_id, snapshots.c.version, cast(snapshots.c.state, Text)).where(
            snapshots.c.aggregate_type == name
        )
        is_used = snapshots.c.state_fingerprint == definition.fingerprint
        unused = select(func.count()).where(
            snapshots.c.aggregate_type == name, or_(~is_used, snapshots.c.state_fingerprint.is_(None))
        )
        number = self._connection.scalar(unused) or 0
        if number:
            self._scan.unused_snapshots[name] = number
        with self._connection.execute(statement.where(is_used), execution_options={"yield_per": _AT_A_TIME}) as rows:
            for aggregate_id, version, state in rows:
                self._scan.snapshots += 1
                if not is_sealed_state(state) and definition.state.read(state) is None:
                    self._note_snapshot(name, aggregate_id, version)
                if self._scan.snapshots % _AT_A_TIME == 0:
                    self._progress("snapshots", self._scan.snapshots, None)

    def _note_snapshot(self, aggregate_type: str, aggregate_id: str, version: int) -> None:
        first = {"aggregate_type": aggregate_type, "aggregate_id": aggregate_id, "version": version}
        reason = "its state is not read by the class; it is not used. Delete it."
        self._keep(LogFinding("snapshot does not fit", aggregate_type, None, reason, 1, first))


def _groups(events: Table) -> Select[int, int]:
    """Ask how many events there are of each type and version, and where the first is."""
    return select(func.count(), func.min(events.c.position)).group_by(events.c.event_type, events.c.event_version)


def _in_order(finding: LogFinding) -> tuple[str, int, str]:
    return finding.subject, finding.version or 0, finding.trouble
