"""Versions, positions and limits as arguments: a whole number or an error that says what is wanted, never a check turned off."""

from __future__ import annotations

import enum
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from sa_eventsource import (
    AsyncEventSourcedRepository,
    AsyncEventStore,
    ConcurrencyError,
    EventSourcedRepository,
    EventStore,
    ExpectedVersion,
    event_record,
    export_events,
    import_events,
)
from sa_eventsource.session.retry import retry_on_conflict
from tests.orders import Base, Order
from tests.parameters import plainly
from tests.session.helpers import place_order, stored_events
from tests.shop import NoteAdded

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine


class Number:
    """A whole number of another library, as NumPy's are."""

    def __init__(self, value: int) -> None:
        """Keep the value."""
        self._value = value

    def __index__(self) -> int:
        """Give the value as an int."""
        return self._value


class Level(enum.IntEnum):
    """A number with a name."""

    SECOND = 2


class Policy(enum.Enum):
    """An enum that is not the library's, with the same values."""

    ANY = "any"


NO_NUMBERS: list[Any] = [
    *("99", "2", "", "any", "no_stream", '"2"', b"2", None, True, False, 2.0, 99.0, float("nan"), Decimal(2), Fraction(2)),
    *([2], (2,), {2}, object(), int, ExpectedVersion, Policy.ANY),
]
WRONG_NUMBERS: list[Any] = [-1, -(2**70), 2**31, 2**70, Number(-1)]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=plainly)
def test_append_refuses_what_is_no_version(database: Engine, value: Any) -> None:
    order_id = place_order(database, notes=1)
    with Session(database) as session:
        with pytest.raises(TypeError, match=r"expected_version must be the version .*ExpectedVersion.NO_STREAM.*, not "):
            EventSourcedRepository(session, Order).append(order_id, [NoteAdded(text="n")], expected_version=value)
        session.commit()
    assert len(stored_events(database)) == 2


@pytest.mark.parametrize("value", WRONG_NUMBERS, ids=plainly)
def test_append_refuses_a_number_that_no_stream_can_have(database: Engine, value: Any) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        with pytest.raises(ValueError, match="expected_version must be the version"):
            EventSourcedRepository(session, Order).append(order_id, [NoteAdded(text="n")], expected_version=value)
        session.commit()
    assert len(stored_events(database)) == 1


@pytest.mark.parametrize("value", [2**31 - 1, 2**31 - 2], ids=plainly)
def test_append_refuses_a_number_after_which_there_is_no_room_for_the_events(database: Engine, value: int) -> None:
    order_id = place_order(database)
    notes = [NoteAdded(text="first"), NoteAdded(text="second")]
    with Session(database) as session:
        with pytest.raises(ValueError, match=r"expected_version must be the version .* the highest possible is 2147483645"):
            EventSourcedRepository(session, Order).append(order_id, notes, expected_version=value)
        session.commit()
    assert len(stored_events(database)) == 1


@pytest.mark.parametrize("value", [2, Level.SECOND, Number(2)], ids=plainly)
def test_append_takes_whole_numbers_of_every_kind(database: Engine, value: Any) -> None:
    order_id = place_order(database, notes=1)
    with Session(database) as session:
        repository = EventSourcedRepository(session, Order)
        assert repository.append(order_id, [NoteAdded(text="n")], expected_version=value) == 3
        session.commit()
        with pytest.raises(ConcurrencyError) as caught:
            repository.append(order_id, [NoteAdded(text="n")], expected_version=value)
        assert (caught.value.expected_version, caught.value.actual_version) == (2, 3)
        session.commit()
    assert [version for _, _, version, _ in stored_events(database)] == [1, 2, 3]


async def test_the_async_repository_refuses_the_same(async_database: AsyncEngine) -> None:
    async with AsyncSession(async_database) as session:
        repository = AsyncEventSourcedRepository(session, Order)
        await repository.save(Order.place(order_id="o-1"))
        for value in NO_NUMBERS:
            with pytest.raises(TypeError, match="expected_version"):
                await repository.append("o-1", [NoteAdded(text="n")], expected_version=value)
            with pytest.raises(TypeError, match="version must be a version"):
                await repository.load_at_version("o-1", value)
        for value in WRONG_NUMBERS:
            with pytest.raises(ValueError, match="expected_version"):
                await repository.append("o-1", [NoteAdded(text="n")], expected_version=value)
        with pytest.raises(TypeError, match="batch_size"):
            _ = [each async for each in AsyncEventStore(session).events.stream(batch_size="9")]  # type: ignore[arg-type]
        assert await AsyncEventStore(session).events.count() == 1


ARGUMENTS: dict[str, Callable[[Session, Any], Any]] = {
    "load_at_version": lambda session, value: EventSourcedRepository(session, Order).load_at_version("o-1", value),
    "from_version": lambda session, value: EventStore(session).events.from_version(value),
    "to_version": lambda session, value: EventStore(session).events.to_version(value),
    "after_position": lambda session, value: EventStore(session).events.after_position(value),
    "limit": lambda session, value: EventStore(session).events.limit(value),
    "stream": lambda session, value: list(EventStore(session).events.stream(batch_size=value)),
    "export": lambda session, value: list(export_events(session.connection(), event_record(Base).__table__, batch_size=value)),
    "import": lambda session, value: import_events(
        session.connection(),
        event_record(Base).__table__,
        [],
        batch_size=value,
    ),
    "attempts": lambda _, value: retry_on_conflict(attempts=value),
}


@pytest.mark.parametrize("argument", ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_other_numbers_are_whole_numbers_too(database: Engine, argument: Callable[[Session, Any], Any]) -> None:
    place_order(database, "o-1", notes=1)
    with Session(database) as session:
        for value in NO_NUMBERS:
            with pytest.raises(TypeError, match=r"must be .*, not "):
                argument(session, value)
        for value in (-1, 2**70):
            with pytest.raises(ValueError, match=r"must be .*, not "):
                argument(session, value)


def test_numbers_of_other_libraries_are_taken(database: Engine) -> None:
    place_order(database, "o-1", notes=2)
    two: Any = Number(2)
    with Session(database) as session:
        assert EventSourcedRepository(session, Order).load_at_version("o-1", two).version == 2
        events = EventStore(session).events
        assert [each.version for each in events.from_version(two)] == [2, 3]
        assert [each.version for each in events.to_version(two)] == [1, 2]
        assert [each.version for each in events.limit(two)] == [1, 2]
        assert [each.version for each in events.stream(batch_size=two)] == [1, 2, 3]
        assert len(events.after_position(two).all()) == 1
