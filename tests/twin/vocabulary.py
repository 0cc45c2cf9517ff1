"""What a program can do: operations as data. Each runs alike in both worlds, and gives what an application would see of it."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import delete, insert, inspect, select, update
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from sa_eventsource import EventDecodeError
from tests.twin.accounts import REFUSED, ApplicationError, UnreadableError, mend, readable, smudge
from tests.twin.rules import follow_from_one_stream
from tests.twin.worlds import Operation, World, pickled

NOTHING = "nothing"
"""The result of an operation whose variable holds no instance."""


def seen(world: World, instance: Any) -> Any:
    """What an application sees of an instance that it was given: which variables hold it, and its key."""
    if instance is None:
        return None
    return world.key(instance), tuple(slot for slot, each in world.slots.items() if each is instance)


def state_of(world: World, instance: Any) -> Any:
    """The values of an instance, loaded where need be."""
    return instance.id.removeprefix(f"{world.prefix}-"), instance.marks, instance.total, instance.version


def keep(world: World, slot: int | None, instance: Any) -> None:
    """Have a variable hold an instance."""
    if slot is not None and instance is not None:
        world.slots[slot] = instance


def change(account: Any, marks: tuple[str, ...]) -> None:
    """Make marks. Where its id alone was expired, a flush would load it, at one moment or another: it is read before."""
    _ = account.id
    for mark in marks:
        account.change(mark)


@dataclass(frozen=True)
class New:
    """Make a new account, without a session."""

    key: str
    slot: int
    marks: tuple[str, ...]

    def run(self, world: World) -> Any:
        account = world.kind(id=world.id(self.key))
        for mark in self.marks:
            account.change(mark)
        keep(world, self.slot, account)
        return state_of(world, account)


@dataclass(frozen=True)
class OnInstance:
    """An operation on what a variable holds."""

    slot: int

    def run(self, world: World) -> Any:
        if self.slot not in world.slots:
            return NOTHING
        return self.on(world, world.slots[self.slot])

    def on(self, world: World, account: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Add(OnInstance):
    """``session.add``."""

    def on(self, world: World, account: Any) -> Any:
        world.session.add(account)


@dataclass(frozen=True)
class Read(OnInstance):
    """Read one attribute, or all."""

    attribute: str | None = None

    def on(self, world: World, account: Any) -> Any:
        if self.attribute is not None:
            value = getattr(account, self.attribute)
            return value.removeprefix(f"{world.prefix}-") if self.attribute == "id" else value
        return state_of(world, account)


@dataclass(frozen=True)
class Change(OnInstance):
    """Make marks."""

    marks: tuple[str, ...]

    def on(self, world: World, account: Any) -> Any:
        change(account, self.marks)
        return account.marks


@dataclass(frozen=True)
class ChangeRefused(OnInstance):
    """Make a mark that the handler of the event, or the twin's own code, does not accept; then look at what is left.

    An id that was expired alone is read before: the state that is lost is loaded by itself, see the table.
    """

    def on(self, world: World, account: Any) -> Any:
        _ = account.id
        try:
            account.change(REFUSED)
        finally:
            if world.session.is_active or account not in world.session:
                state_of(world, account)


@dataclass(frozen=True)
class Get:
    """``session.get``."""

    key: str
    slot: int | None = None
    populate_existing: bool = False
    for_update: bool = False

    def run(self, world: World) -> Any:
        options: dict[str, Any] = {"populate_existing": True} if self.populate_existing else {}
        if self.for_update:
            options["with_for_update"] = True
        account = world.session.get(world.kind, world.id(self.key), **options)
        keep(world, self.slot, account)
        return seen(world, account)


@dataclass(frozen=True)
class ChangeUnheld:
    """Get an account and change it, without a variable of the application's own that holds it."""

    key: str
    marks: tuple[str, ...]

    def run(self, world: World) -> Any:
        account = world.session.get(world.kind, world.id(self.key))
        if account is None:
            return NOTHING
        change(account, self.marks)
        return account.marks


@dataclass(frozen=True)
class Select:
    """A query for accounts; the first that it finds is kept."""

    keys: tuple[str, ...]
    slot: int | None = None
    populate_existing: bool = False
    yield_per: int | None = None
    limit: int | None = None

    def run(self, world: World) -> Any:
        kind = world.kind
        statement = select(kind).where(kind.id.in_([world.id(key) for key in self.keys])).order_by(kind.id).limit(self.limit)
        options: dict[str, Any] = {"populate_existing": True} if self.populate_existing else {}
        if self.yield_per:
            options["yield_per"] = self.yield_per
        try:
            found = world.session.scalars(statement, execution_options=options).all()
        except (EventDecodeError, UnreadableError, ApplicationError):
            self.start_anew(world)
            raise
        for account in found[:1]:
            keep(world, self.slot, account)
        return [(seen(world, account), state_of(world, account)) for account in found]

    def start_anew(self, world: World) -> None:
        """Expire what a query that has failed may have loaded before, or not: see the table."""
        for key in self.keys:
            account = world.session.identity_map.get(inspect(world.kind).identity_key_from_primary_key((world.id(key),)))
            if account is not None and not world.unflushed(account):
                world.session.expire(account)


@dataclass(frozen=True)
class SelectColumns:
    """A query for columns."""

    keys: tuple[str, ...]

    def run(self, world: World) -> Any:
        kind = world.kind
        statement = select(kind.id, kind.version).where(kind.id.in_([world.id(key) for key in self.keys])).order_by(kind.id)
        return [(id_.removeprefix(world.prefix), version) for id_, version in world.session.execute(statement)]


@dataclass(frozen=True)
class Flush:
    """``session.flush``."""

    def run(self, world: World) -> Any:
        world.session.flush()


@dataclass(frozen=True)
class Commit:
    """``session.commit``."""

    def run(self, world: World) -> Any:
        try:
            world.session.commit()
        finally:
            forget_ended(world)


@dataclass(frozen=True)
class Prepare:
    """``session.prepare``, the first phase of two."""

    def run(self, world: World) -> Any:
        world.session.prepare()


@dataclass(frozen=True)
class Rollback:
    """``session.rollback``."""

    def run(self, world: World) -> Any:
        try:
            world.session.rollback()
        finally:
            forget_ended(world)


@dataclass(frozen=True)
class Begin:
    """``session.begin``."""

    def run(self, world: World) -> Any:
        world.session.begin()


@dataclass(frozen=True)
class BeginNested:
    """``session.begin_nested``."""

    def run(self, world: World) -> Any:
        world.savepoints.append(world.session.begin_nested())


@dataclass(frozen=True)
class EndNested:
    """End a savepoint that is open, and those within it."""

    number: int
    release: bool

    def run(self, world: World) -> Any:
        if self.number >= len(world.savepoints):
            return NOTHING
        savepoint = world.savepoints[self.number]
        try:
            if self.release:
                savepoint.commit()
            else:
                savepoint.rollback()
        finally:
            forget_ended(world)


def forget_ended(world: World) -> None:
    """Keep the savepoints that are open."""
    current = world.session.get_nested_transaction()
    open_ones = set()
    while current is not None:
        open_ones.add(current)
        current = current.parent
    world.savepoints[:] = [each for each in world.savepoints if each in open_ones]


@dataclass(frozen=True)
class Block:
    """``with session.begin():`` or ``with session.begin_nested():``; the application may raise at its end."""

    nested: bool
    body: tuple[Operation, ...]
    raises: bool

    def run(self, world: World) -> Any:
        try:
            with world.session.begin_nested() if self.nested else world.session.begin():
                results = [each.run(world) for each in self.body]
                if self.raises:
                    raise ApplicationError("in the block")
        finally:
            forget_ended(world)
        return results


@dataclass(frozen=True)
class Expire(OnInstance):
    """``session.expire``, of all or of single attributes."""

    attributes: tuple[str, ...] = ()

    def on(self, world: World, account: Any) -> Any:
        world.session.expire(account, parts(world, account, self.attributes))


@dataclass(frozen=True)
class ExpireAll:
    """``session.expire_all``."""

    def run(self, world: World) -> Any:
        world.session.expire_all()


@dataclass(frozen=True)
class Refresh(OnInstance):
    """``session.refresh``, of all or of single attributes."""

    attributes: tuple[str, ...] = ()

    def on(self, world: World, account: Any) -> Any:
        world.session.refresh(account, parts(world, account, self.attributes))
        return state_of(world, account)


def parts(world: World, account: Any, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Name what is expired or refreshed; None for all. The twin's application keeps to the rules of an aggregate."""
    if names and not world.is_aggregate and account in world.session and inspect(account).persistent:
        return follow_from_one_stream(account, names)
    return names or None


@dataclass(frozen=True)
class Expunge(OnInstance):
    """``session.expunge``."""

    def on(self, world: World, account: Any) -> Any:
        world.session.expunge(account)


@dataclass(frozen=True)
class ExpungeAll:
    """``session.expunge_all``."""

    def run(self, world: World) -> Any:
        world.session.expunge_all()


@dataclass(frozen=True)
class Close:
    """``session.close``; the session can be used again."""

    def run(self, world: World) -> Any:
        try:
            world.session.close()
        finally:
            forget_ended(world)


@dataclass(frozen=True)
class Leave:
    """End the block in which the outside connection's transaction is, and begin another one."""

    commit: bool

    def run(self, world: World) -> Any:
        if world.transaction is None:
            return NOTHING
        world.leave(commit=self.commit)
        return None


@dataclass(frozen=True)
class Pickle(OnInstance):
    """Send an instance through a pickle into another variable."""

    into: int

    def on(self, world: World, account: Any) -> Any:
        keep(world, self.into, pickled(account))


@dataclass(frozen=True)
class Forget:
    """Have a variable hold nothing."""

    slot: int

    def run(self, world: World) -> Any:
        world.slots.pop(self.slot, None)


@dataclass(frozen=True)
class Collect:
    """Run the collector."""

    def run(self, world: World) -> Any:
        gc.collect()


@dataclass(frozen=True)
class Delete(OnInstance):
    """``session.delete``."""

    def on(self, world: World, account: Any) -> Any:
        world.session.delete(account)


@dataclass(frozen=True)
class LetGo(OnInstance):
    """Have an entity hold an account, and let go of it: an orphan, which a flush deletes."""

    holder: str

    def on(self, world: World, account: Any) -> Any:
        kind, key = world.holding
        holder = kind(id=world.id(self.holder), **{key: account})
        world.session.add(holder)
        world.session.flush()
        setattr(holder, key, None)
        world.session.flush()


@dataclass(frozen=True)
class Bulk:
    """A statement that writes accounts."""

    verb: Literal["insert", "update", "delete"]
    key: str

    def run(self, world: World) -> Any:
        kind, key = world.kind, world.id(self.key)
        if self.verb == "insert":
            world.session.execute(insert(kind).values(id=key))
        elif self.verb == "update":
            world.session.execute(update(kind).where(kind.id == key).values(version=99))
        else:
            world.session.execute(delete(kind).where(kind.id == key))


@dataclass(frozen=True)
class Elsewhere:
    """Another session changes or creates an account, and commits, if the database lets it."""

    key: str
    marks: tuple[str, ...]

    def run(self, world: World) -> Any:
        if world.engine.dialect.name == "sqlite" and world.session.in_transaction():
            return NOTHING  # it has one writer at a time
        with Session(world.engine.execution_options(isolation_level=world.isolation_elsewhere)) as other, readable():
            account = other.get(world.kind, world.id(self.key))
            if account is None:
                account = world.kind(id=world.id(self.key))
                other.add(account)
            for mark in self.marks:
                account.change(mark)
            other.commit()
            return state_of(world, account)


@dataclass(frozen=True)
class Smudge:
    """Make a mark unreadable, or have the application's code raise where it is read; None makes all readable again."""

    mark: str | None
    poison: bool = False

    def run(self, world: World) -> Any:
        if self.mark is None:
            mend()
        else:
            smudge(self.mark, poison=self.poison)


Deed = Literal["change", "add", "raise", "read", "get", "collect", "hide", "forget"]


@dataclass(frozen=True)
class Arm:
    """Have something done, once, when the session next calls the listeners of one of its events."""

    hook: str
    deed: Deed
    slot: int
    key: str
    mark: str

    def run(self, world: World) -> Any:
        if self.deed == "change" and not world.is_aggregate and self.hook in CHANGES_ARE_RESET_IN:
            world.arm(self.hook, lambda world, _: world.postpone("after_flush_postexec", self.do))
        else:
            world.arm(self.hook, self.do)

    def do(self, world: World, arguments: Any) -> None:
        account = world.slots.get(self.slot)
        if self.deed == "raise":
            raise ApplicationError(self.hook)
        if self.deed == "add":
            account = world.kind(id=world.id(self.mark))
            account.change(self.mark)
            world.session.add(account)
        elif self.deed == "hide":
            state: ORMExecuteState = arguments[0]
            if state.is_select and not state.is_column_load:
                kind, hidden = world.kind, world.id(self.key)
                state.statement = state.statement.options(with_loader_criteria(kind, kind.id != hidden))
        elif self.deed == "collect":
            gc.collect()
        elif self.deed == "get":
            world.session.get(world.kind, world.id(self.key))
        elif self.deed == "forget":
            world.slots.pop(self.slot, None)
        elif account is not None and not (self.hook in CHANGES_ARE_RESET_IN and inspect(account).detached):
            # Of one that is detached the state may be missing, and what is postponed for the twin would fail at another moment.
            if self.deed == "change":
                change(account, (self.mark,))
            else:
                state_of(world, account)


CHANGES_ARE_RESET_IN = frozenset({"after_flush", "pending_to_persistent"})
"""Where SQLAlchemy resets an entity's changes with a warning, so that they are not written."""
