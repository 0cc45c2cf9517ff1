"""Is a snapshot the state that the events before it make?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, and_, cast, exists, func, select

from sa_eventsource.aggregates import SnapshotState, blank, definition_of, restore
from sa_eventsource.archives import ArchiveFile, file_of
from sa_eventsource.events import difference
from sa_eventsource.exceptions import EventSourceError, StreamArchivedError
from sa_eventsource.store import (
    NO_PAYLOADS,
    StoredState,
    clear_payloads,
    is_masked,
    is_sealed_state,
    opened_with_states,
    read_stream,
)
from sa_eventsource.verification.archive_checks import fault_of_file
from sa_eventsource.verification.findings import MOST_FINDINGS, Finding, shown
from sa_eventsource.verification.one_state import BY_THE_WAY

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.verification.findings import Progress
    from sa_eventsource.verification.sample import Sample


def check_last_events(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find snapshots whose last event is not in the log: it was restored or cut since."""
    events, snapshots = tables.events, tables.snapshots
    end = func.coalesce(select(func.max(events.c.version)).where(_same_stream(tables)).correlate(snapshots).scalar_subquery(), 0)
    found = select(snapshots.c.aggregate_type, snapshots.c.aggregate_id, snapshots.c.version, end.label("end"))
    strange = found.where(snapshots.c.event_id.is_not(None), ~_is_of_the_log(tables))
    ordered = strange.order_by(snapshots.c.aggregate_type, snapshots.c.aggregate_id)
    for row in connection.execute(ordered.limit(MOST_FINDINGS)):
        reason = f"the stream ends at {row.end}" if row.version > row.end else "the stream has another event of that version"
        yield Finding(
            "snapshots",
            f"{row.aggregate_type} {row.aggregate_id!r}",
            f"it is of version {row.version}, and {reason}. It is not used. Delete it, once the stream is what it should be.",
        )


def _same_stream(tables: EventSourceTables) -> ColumnElement[bool]:
    events, snapshots = tables.events, tables.snapshots
    return and_(events.c.aggregate_type == snapshots.c.aggregate_type, events.c.aggregate_id == snapshots.c.aggregate_id)


def _is_of_the_log(tables: EventSourceTables) -> ColumnElement[bool]:
    """Check whether the last event that a snapshot covers is where the snapshot says."""
    events, snapshots = tables.events, tables.snapshots
    is_last = and_(events.c.version == snapshots.c.version, events.c.event_id == snapshots.c.event_id)
    return exists().where(_same_stream(tables), is_last).correlate(snapshots)


class StateCheck:
    """Compares the states of snapshots with the fold of the events before them.

    Snapshots that the code would not use, because the class or the log has changed since, are left out. The events of a compacted
    stream are those that are archived, in a file too.

    Attributes:
        compared: How many were compared so far.
        sealed: How many were not, as they are sealed, and the connection is not to see personal data.
    """

    def __init__(self, connection: Connection, tables: EventSourceTables) -> None:
        """Choose the log."""
        self._connection = connection
        self._tables = tables
        self.compared = 0
        self.sealed = 0

    def findings(self, sample: Sample, progress: Progress) -> Generator[Finding, None, None]:
        """Find those that differ."""
        snapshots = self._tables.snapshots
        for aggregate_class in list(self._tables.aggregate_classes.values()):
            definition = definition_of(aggregate_class)
            if not definition.takes_snapshots:
                continue
            usable = and_(
                snapshots.c.aggregate_type == definition.aggregate_type,
                snapshots.c.state_fingerprint == definition.fingerprint,
                _is_of_the_log(self._tables),
            )
            total = self._connection.scalar(select(func.count()).select_from(snapshots).where(usable)) or 0
            if not total:
                continue
            statement = select(snapshots.c.aggregate_id, snapshots.c.version, cast(snapshots.c.state, Text)).where(usable)
            is_chosen = sample.of(total)
            with self._connection.execute(statement, execution_options={"yield_per": BY_THE_WAY}) as rows:
                for number, (aggregate_id, version, state) in enumerate(rows, 1):
                    if is_chosen(aggregate_id):
                        yield from self._compare(definition, aggregate_id, version, state)
                    if number % BY_THE_WAY == 0 or number == total:
                        progress(f"snapshots of {definition.aggregate_type}", number, total)

    def _compare(
        self, definition: AggregateDefinition, aggregate_id: str, version: int, state: str
    ) -> Generator[Finding, None, None]:
        if is_sealed_state(state) and is_masked(self._connection):
            self.sealed += 1
            return
        subject = f"{definition.aggregate_type} {aggregate_id!r}"
        fields = self._fields(definition, aggregate_id, version, state)
        if isinstance(fields, str):
            yield Finding("snapshots", subject, f"{fields}. It is not used. Delete it.")
            return
        remedy = "Delete it"
        try:
            stream = read_stream(self._connection, definition, aggregate_id, version=version, from_start=True)
            rows = [] if stream is None else stream.rows
        except StreamArchivedError as error:
            if not error.is_compacted:
                yield Finding("snapshots", subject, "it is archived, and not compacted, and would be loaded from it. Delete it.")
                return
            remedy = "Compact it again"  # without the snapshot, nothing can be loaded
            found = self._archived_events(error)
            if isinstance(found, str):
                yield Finding("snapshots", subject, f"its last state was not compared with its events: {found}", is_warning=True)
                return
            rows = found
        made, stored = blank(definition.aggregate_class, aggregate_id), blank(definition.aggregate_class, aggregate_id)
        self.compared += 1
        try:
            restore(made, aggregate_id, rows)
            restore(stored, aggregate_id, [], snapshot=SnapshotState(version, fields))
        except EventSourceError as error:
            yield Finding("snapshots", subject, f"it cannot be compared with the events: {error}")
            return
        for name in sorted(definition.state.names):
            is_now, is_made = (vars(each).get(name, _MISSING) for each in (stored, made))
            if difference(is_now, is_made, exactly=True) is not None:
                yield Finding(
                    "snapshots",
                    subject,
                    f"{name} is {shown(is_now)} in the snapshot of version {version}, and the events make it {shown(is_made)}. "
                    f"{remedy}. Where what an @applies method calls has changed, raise __snapshot_version__.",
                )

    def _archived_events(self, archived: StreamArchivedError) -> Sequence[tuple[int, str, int, str, str]] | str:
        """Read the events of a compacted stream that the database does not have; or say why they cannot be read here."""
        archives: Any = self._tables.archives
        manifest = self._connection.execute(select(archives).where(archives.c.archive_id == archived.archive_id)).one()
        path = file_of(manifest.place)
        if path is None:
            return f"they are not all in {manifest.place}. Restore them from a backup"
        fault = fault_of_file(self._connection, manifest)
        if fault is not None:
            return fault
        rows = list(ArchiveFile(path, manifest.aggregate_type, manifest.aggregate_id).rows())
        texts = clear_payloads(self._connection, self._tables.events, rows)
        return [
            (row.version, row.event_type, row.event_version, text, str(row.event_id)) for row, text in zip(rows, texts, strict=True)
        ]

    def _fields(self, definition: AggregateDefinition, aggregate_id: str, version: int, state: str) -> Mapping[str, Any] | str:
        """Read the state fields; or say why they cannot be read."""
        if is_sealed_state(state):
            sealed = StoredState(definition.aggregate_type, aggregate_id, version, state)
            _, (opened,) = opened_with_states(self._connection, self._tables.events, NO_PAYLOADS, [sealed])
            if opened is None:
                return "it is sealed, and cannot be opened"
            state = opened.text
        fields = definition.state.read(state)
        return "it does not fit the class" if fields is None else fields


class _Missing:
    def __repr__(self) -> str:
        return "not there"


_MISSING: Any = _Missing()
