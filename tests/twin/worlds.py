"""Two worlds that run the same operations: one has aggregates in it, the other their twins."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from sqlalchemy import Connection, Engine, RootTransaction, bindparam, event, inspect, select
from sqlalchemy.orm import Session, SessionTransaction

from sa_eventsource import EventRecord
from tests.twin.accounts import STATE, Account, AggregateBase, Holder, SnapshotAccount, Twin, TwinBase, TwinHolder, readable
from tests.twin.rules import keep_to_the_rules

JoinMode = Literal["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]


@dataclass(frozen=True)
class Setting:
    """What a session is made with.

    Attributes:
        autoflush: As the session's.
        expire_on_commit: As the session's.
        snapshots: Whether the aggregates take snapshots.
        listening: Whether an application listens to all of the session's events; where nobody does, there may be shorter ways.
        outside: Whether, and how, the session joins a transaction of a connection that was made outside.
        twophase: Whether the session commits in two phases.
    """

    autoflush: bool = True
    expire_on_commit: bool = True
    snapshots: bool = False
    listening: bool = False
    outside: JoinMode | None = None
    twophase: bool = False


class Operation(Protocol):
    """One step of a program, as data."""

    def run(self, world: World) -> Any:
        """Do it, and give what an application would see of it."""
        ...


@dataclass
class Hook:
    """Something that an application does when the session calls it, once."""

    name: str
    deed: Callable[[World, Any], None]


_MARKS = select(Twin.id, Twin.marks).where(Twin.id.like(bindparam("beginning")))
_LOG = (
    select(EventRecord.aggregate_id, EventRecord.version, EventRecord.event_data)
    .where(EventRecord.aggregate_type == bindparam("type"), EventRecord.aggregate_id.like(bindparam("beginning")))
    .order_by(EventRecord.position)
)


@dataclass(eq=False)
class World:
    """A session, the variables that hold instances, and what was seen of them.

    Attributes:
        engine: The database.
        setting: What the session is made with.
        prefix: What all ids begin with, so that programs do not meet in the database.
        slots: The application's variables.
        savepoints: Those that are open, the outermost first.
        armed: Hooks that have not been called.
        postponed: Those that are called before all armed ones.
        heard: The session's events since the last step.
    """

    engine: Engine
    setting: Setting
    prefix: str
    slots: dict[int, Any] = field(default_factory=dict)
    savepoints: list[SessionTransaction] = field(default_factory=list)
    armed: list[Hook] = field(default_factory=list)
    postponed: list[Hook] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    session: Session = field(init=False)
    connection: Connection | None = None
    transaction: RootTransaction | None = None

    is_aggregate = False

    def __post_init__(self) -> None:
        self.observer = self.engine.connect()
        self.open()

    @property
    def kind(self) -> type[Any]:
        """The class of the accounts."""
        return Twin

    @property
    def holding(self) -> tuple[type[Any], str]:
        """The class of what holds accounts, and its relationship to them."""
        return TwinHolder, "account"

    @property
    def isolation_elsewhere(self) -> str:
        """The isolation level of other sessions, which write also where this one cannot."""
        return "SERIALIZABLE" if self.engine.dialect.name == "sqlite" else "READ COMMITTED"

    @property
    def has_connection(self) -> bool:
        """Whether the session's statements run: in autocommit mode none does within a savepoint, which cannot be set."""
        is_autocommitting = getattr(self.observer.connection.dbapi_connection, "autocommit", False) is True
        return not (is_autocommitting and self.session.in_nested_transaction())

    def open(self) -> None:
        """Open the session."""
        bind: Engine | Connection = self.engine
        options: dict[str, Any] = {"twophase": self.setting.twophase}
        if self.setting.outside is not None:
            bind = self.connection = self.engine.connect()
            self.transaction = self.connection.begin()
            options["join_transaction_mode"] = self.setting.outside
        self.session = self.new_session(bind, **options)
        self.listen(self.session)

    def new_session(self, bind: Engine | Connection, **options: Any) -> Session:
        """Make a session as the setting says."""
        return Session(bind, autoflush=self.setting.autoflush, expire_on_commit=self.setting.expire_on_commit, **options)

    def listen(self, session: Session) -> None:
        """Put the application's hooks on a session."""
        if self.setting.listening:
            for name in HOOKS:
                event.listen(session, name, _hearing(self, name))

    def leave(self, *, commit: bool) -> None:
        """End the block of the outside connection, and open another one."""
        assert self.connection is not None
        assert self.transaction is not None
        self.session.close()
        try:
            if self.transaction.is_active and commit:
                self.transaction.commit()
            else:
                self.transaction.rollback()
        finally:
            self.connection.close()
            self.savepoints.clear()
            self.open()

    def close(self) -> None:
        """End the program."""
        self.postponed.clear()
        self.armed.clear()
        self.session.close()
        if self.connection is not None:
            self.connection.close()
        self.observer.close()

    def perform(self, operation: Operation) -> Any:
        """Run an operation where the session's statements can run."""
        return operation.run(self)

    def id(self, key: str) -> str:
        """The id that is stored for a key."""
        return f"{self.prefix}-{key}"

    def key(self, instance: Any) -> str:
        """The key of an instance, without loading anything."""
        state = inspect(instance)
        stored: str = state.identity[0] if state.identity else vars(instance).get("id", "?")
        return stored.removeprefix(f"{self.prefix}-")

    def arm(self, name: str, deed: Callable[[World, Any], None]) -> None:
        """Have a deed done, once, when the session calls an event's listeners."""
        self.armed.append(Hook(name, deed))
        self._hear(name)

    def postpone(self, name: str, deed: Callable[[World, Any], None]) -> None:
        """Have a deed done that was due earlier: before those that wait for the event."""
        self.postponed.append(Hook(name, deed))
        self._hear(name)

    def _hear(self, name: str) -> None:
        if not self.setting.listening and not event.contains(self.session, name, self._calls(name)):
            event.listen(self.session, name, self._calls(name))

    def _calls(self, name: str) -> Callable[..., None]:
        return self._callers.setdefault(name, _hearing(self, name, silently=True))

    @property
    def _callers(self) -> dict[str, Callable[..., None]]:
        callers: dict[str, Callable[..., None]] = self.session.info.setdefault("callers", {})
        return callers

    def call(self, name: str, arguments: Sequence[Any]) -> None:
        """Call those who wait for an event."""
        for waiting in (self.postponed, self.armed):
            self._call_those_in(waiting, name, arguments)

    def _call_those_in(self, waiting: list[Hook], name: str, arguments: Sequence[Any]) -> None:
        for hook in [each for each in waiting if each.name == name]:
            waiting.remove(hook)
            self.done[f"hook {name}"] += 1
            hook.deed(self, arguments)

    def loaded(self, instance: Any) -> dict[str, Any]:
        """The values that an instance has now; nothing is loaded. The version alone is no state."""
        values = vars(instance)
        return {name: values[name] for name in STATE if name in values} if "marks" in values else {}

    def unflushed(self, instance: Any) -> tuple[str, ...]:
        """The marks that a flush would write."""
        marks = tuple(vars(instance).get("marks", ()))
        state = inspect(instance)
        if state.key is None:
            return marks
        before = state.committed_state.get("marks", marks)
        return marks[len(before) :]

    def stored(self) -> dict[str, tuple[str, ...]]:
        """The marks of each account, as others see them."""
        try:
            with readable():
                return self._stored()
        finally:
            self.observer.rollback()

    def _stored(self) -> dict[str, tuple[str, ...]]:
        rows = self.observer.execute(_MARKS, {"beginning": f"{self.prefix}%"})
        return {row.id.removeprefix(f"{self.prefix}-"): row.marks for row in rows}


class TwinWorld(World):
    """The world of ordinary entities, whose application refuses what aggregates refuse."""

    def listen(self, session: Session) -> None:
        keep_to_the_rules(session)
        super().listen(session)


class AggregateWorld(World):
    """The world of aggregates."""

    is_aggregate = True

    @property
    def kind(self) -> type[Any]:
        return SnapshotAccount if self.setting.snapshots else Account

    @property
    def holding(self) -> tuple[type[Any], str]:
        return Holder, "snapshot_account" if self.setting.snapshots else "account"

    def unflushed(self, instance: Any) -> tuple[str, ...]:
        return tuple(each.mark for each in instance.pending_events)

    def _stored(self) -> dict[str, tuple[str, ...]]:
        log = self.observer.execute(_LOG, {"type": self.kind.__aggregate_type__, "beginning": f"{self.prefix}%"})
        streams: dict[str, tuple[str, ...]] = {}
        for aggregate_id, version, data in log:
            key = aggregate_id.removeprefix(f"{self.prefix}-")
            streams[key] = (*streams.get(key, ()), data["mark"])
            assert version == len(streams[key]), f"the log of {key} has version {version} as its {len(streams[key])}th"
        return streams


HOOKS = (
    "after_begin",
    "after_transaction_create",
    "after_transaction_end",
    "before_attach",
    "after_attach",
    "before_flush",
    "after_flush",
    "after_flush_postexec",
    "before_commit",
    "after_commit",
    "after_rollback",
    "after_soft_rollback",
    "do_orm_execute",
    "transient_to_pending",
    "pending_to_transient",
    "pending_to_persistent",
    "loaded_as_persistent",
    "detached_to_persistent",
    "persistent_to_transient",
    "persistent_to_detached",
)


OF_INSTANCES = frozenset(
    name for name in HOOKS if "_to_" in name or name in ("loaded_as_persistent", "before_attach", "after_attach")
)
"""Those that are called with an instance."""


def _hearing(world: World, name: str, *, silently: bool = False) -> Callable[..., None]:
    def heard(*arguments: Any) -> None:
        if not silently:
            subject = f" {world.key(arguments[1])}" if name in OF_INSTANCES else ""
            world.heard.append(name + subject)
        world.call(name, arguments)

    return heard


def create_tables(engine: Engine | Connection) -> None:
    """Create the tables of both worlds."""
    AggregateBase.metadata.create_all(engine)
    TwinBase.metadata.create_all(engine)


def pickled(instance: Any) -> Any:
    """Send an instance through a pickle."""
    return pickle.loads(pickle.dumps(instance))
