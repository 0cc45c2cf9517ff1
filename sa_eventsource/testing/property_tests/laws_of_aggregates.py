"""The laws that an aggregate is held to after each event: what is replayed is what was, and nothing else has a part in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from sa_eventsource.aggregates import AggregateDefinition, SnapshotState, blank, books_of, definition_of, restore
from sa_eventsource.events import Difference, Parts, decode, difference, encode, shown
from sa_eventsource.exceptions import EventSourceError, SnapshotError
from sa_eventsource.testing.property_tests.observed_calls import Observation
from sa_eventsource.testing.recording import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from sa_eventsource.events import DomainEvent, RecordedEvent


@dataclass
class KeptLaws:
    """Checks one aggregate, event by event.

    Attributes:
        aggregate_class: Its class.
        log: What was recorded.
        with_snapshots: Whether its state must survive a snapshot.
    """

    aggregate_class: type[Any]
    log: MemoryLog = field(default_factory=MemoryLog)
    with_snapshots: bool = True
    _replica: Any = field(default=None, init=False)
    _snapshot: SnapshotState | None = field(default=None, init=False)

    @property
    def definition(self) -> AggregateDefinition:
        """What the library knows of the class."""
        return definition_of(self.aggregate_class)

    def check(self, present: Any, new: list[RecordedEvent[Any]]) -> None:
        """Check an aggregate as a command has left it.

        Args:
            present: The aggregate.
            new: What the command has recorded, which is in the log.

        Raises:
            AssertionError: A law is broken.
        """
        text_id = self.definition.text_id(vars(present)["id"])
        if not self.log.rows(self.aggregate_class, text_id):
            return  # nothing has happened to it
        self._replay_observed(text_id, new)
        self._same(self._replica, present, "replaying the events gives another state than applying them has left")
        self._same(self._replica, self.log.load(self.aggregate_class, text_id), "replaying the same events twice gives two states")
        if self.with_snapshots:
            self._check_snapshot(text_id)

    def _replay_observed(self, text_id: str, new: list[RecordedEvent[Any]]) -> None:
        """Apply new events to what earlier ones have led to, and look at what the methods ask."""
        if self._replica is None:
            self._replica = blank(self.aggregate_class, text_id)
            restore(self._replica, text_id, ())
        observation, books = Observation(), books_of(self._replica)
        for each in new:
            apply = self.definition.handlers.find_for(each.event)
            books.is_applying = True
            try:
                observation.call(apply, self._replica, each.event)
            except Exception as error:
                raise AssertionError(f"{_of(self, each)} raised {error!r}: it runs at every replay, and must not raise") from error
            finally:
                books.is_applying = False
            if observation.found:
                raise AssertionError(
                    f"{_of(self, each)} asks {observation.found[0]}: a replay gets another answer. Ask before apply_event(), and "
                    "put the answer into the event"
                )
            vars(self._replica)["version"] = each.version

    def _check_snapshot(self, text_id: str) -> None:
        name, state = self.aggregate_class.__name__, self.definition.state
        if self._snapshot is not None:
            rows = self.log.rows(self.aggregate_class, text_id)
            continued = blank(self.aggregate_class, text_id)
            restore(continued, text_id, rows[self._snapshot.version :], snapshot=self._snapshot)
            self._same(
                self._replica, continued, f"going on from a snapshot of version {self._snapshot.version} gives another state"
            )
        try:
            text = state.dump(vars(self._replica))
        except SnapshotError as error:
            raise AssertionError(f"the state of {name} does not survive a snapshot: {error}") from error
        held = state.read(text)
        if held is None:
            raise AssertionError(f"the state of {name} cannot be read from its snapshot: {text}")
        self._snapshot = SnapshotState(vars(self._replica)["version"], held)

    def _same(self, one: Any, other: Any, what: str) -> None:
        for name in sorted(self.definition.state.names):
            mine, its = vars(one).get(name), vars(other).get(name)
            found = difference(mine, its)
            if found is not None and not _is_alike(found):
                path = f".{found.path}" if found.path else ""
                raise AssertionError(
                    f"{self.aggregate_class.__name__}.{name}{path}: {what}: {shown(found.one)}, not {shown(found.other)}; "
                    f"after {', '.join(type(each.event).__name__ for each in self.log.events)}"
                )


def check_codec(event: DomainEvent) -> None:
    """Check that an event comes back from the log as it is.

    Raises:
        AssertionError: It does not.
    """
    name = type(event).__name__
    try:
        text = encode(event)
        found = difference(event, decode(type(event).__event_type__, type(event).__event_version__, text))
    except EventSourceError as error:
        raise AssertionError(f"an event that can be made cannot be stored and read again: {event!r}: {error}") from error
    if found is not None:
        raise AssertionError(f"{name}.{found.path} would come back as {shown(found.other)} instead of {shown(found.one)}")


def check_upcasting(event_type: str, event_version: int, text: str, find: Callable[[type[DomainEvent]], Any]) -> None:
    """Check that a stored payload of an older version is read, always as the same event, and that there is a method for it.

    Raises:
        AssertionError: It is not.
    """
    what = f"a stored {event_type} of version {event_version}, {text},"
    observation = Observation()
    try:
        first = _parts(observation.call(decode, event_type, event_version, text))
        second = _parts(decode(event_type, event_version, text))
        for each in first:
            find(type(each))
    except Exception as error:
        raise AssertionError(f"{what} cannot be read: {error}") from error
    if len(first) != len(second):
        raise AssertionError(f"{what} is read as another number of events each time: {len(first)}, then {len(second)}")
    for found in filter(None, map(difference, first, second)):
        raise AssertionError(
            f"{what} is read as another event each time: {found.path} is {shown(found.one)}, then {shown(found.other)}"
        )
    if observation.found:
        raise AssertionError(f"{what} is read by what asks {observation.found[0]}: each replay gets another answer")


def _parts(read: DomainEvent | Parts) -> tuple[DomainEvent, ...]:
    return tuple(read) if isinstance(read, Parts) else (read,)


def _of(laws: KeptLaws, recorded: RecordedEvent[Any]) -> str:
    method = laws.definition.handlers.find_for(recorded.event)
    return f"{laws.aggregate_class.__name__}.{getattr(method, '__name__', 'its method')}(), for {type(recorded.event).__name__},"


def _is_alike(found: Difference) -> bool:
    """Check whether two objects differ only as each of their class differs from any other: it has no comparison of its own."""
    one, other = found.one, found.other
    if type(one) is not type(other) or type(one).__eq__ is not _BY_IDENTITY:
        return False
    try:
        return difference(vars(one), vars(other)) is None
    except TypeError:  # it has no __dict__
        return False


_BY_IDENTITY: Any = object.__eq__


def refuse(message: str, error: BaseException) -> NoReturn:
    """Raise a broken law, from the error that shows it."""
    raise AssertionError(message) from error
