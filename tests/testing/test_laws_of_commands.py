"""The laws of an aggregate whose commands go to their declared handlers: each is called, and finds the mistake that was planted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, Command, DomainEvent, DomainRuleError, EventSourceOptions, applies, command_handler
from sa_eventsource.testing import aggregate_laws, called, histories_of
from tests.testing.test_laws_of_aggregates import broken, check


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class Filled(DomainEvent):
    __event_type__ = "laws_of_commands.Filled"
    litres: int


class Full(DomainRuleError):
    pass


class Tank(AggregateRoot, Base):
    __aggregate_type__ = "laws_of_commands.Tank"

    litres: int = 0
    fillings: tuple[list[int], ...] = ()

    @applies(Filled)
    def _filled(self, event: Filled) -> None:
        self.litres += event.litres
        self.fillings = (*self.fillings, [event.litres])


class Install(Command[str]):
    __command_type__ = "laws_of_commands.Install"
    litres: int


class Fill(Command[None]):
    __command_type__ = "laws_of_commands.Fill"
    tank_id: str
    litres: int


class FillOutOfSight(Fill):
    __command_type__ = "laws_of_commands.FillOutOfSight"


class Lose(Command[None]):
    __command_type__ = "laws_of_commands.Lose"


handled: list[Any] = []


@command_handler(Install)
def install(command: Install, session: Session) -> str:
    tank = Tank()
    tank.apply_event(Filled(litres=command.litres))
    session.add(tank)
    handled.append(command)
    return tank.id


@command_handler(Fill)
def fill(command: Fill, session: Session) -> None:
    handled.append(command)
    tank = session.get_one(Tank, command.tank_id)
    if tank.litres + command.litres > 100:
        raise Full
    tank.apply_event(Filled(litres=command.litres))


@command_handler(FillOutOfSight)
def fill_out_of_sight(command: FillOutOfSight, session: Session) -> None:
    tank = session.get_one(Tank, command.tank_id)
    tank.apply_event(Filled(litres=command.litres))
    tank.fillings[0].append(0)


@command_handler(Lose)
def lose(command: Lose, session: Session) -> None:
    raise KeyError("lost")


LITRES = st.integers(1, 60)
INSTALL = called(Install, litres=LITRES)


def _of_tank(command: type[Any]) -> Any:
    return called(command, tank_id=lambda tank: tank.id, litres=LITRES)


def test_handlers_are_called_with_the_aggregate_that_one_of_them_made() -> None:
    handled.clear()
    check(aggregate_laws(Tank, commands=[INSTALL, _of_tank(Fill)]))
    assert {type(each) for each in handled} == {Install, Fill}
    fills = [each for each in handled if type(each) is Fill]
    assert all(1 <= each.litres <= 60 for each in fills)


def test_fields_are_drawn_by_their_annotations() -> None:
    handled.clear()
    check(aggregate_laws(Tank, commands=[Install]))
    assert len({each.litres for each in handled}) > 3


def test_a_handler_that_changes_state_without_an_event() -> None:
    message = broken(aggregate_laws(Tank, commands=[INSTALL, _of_tank(FillOutOfSight)]))
    assert "Tank.fillings" in message
    assert "replaying the events gives another state than applying them has left" in message


def test_a_handler_that_raises_what_is_no_rule_is_told_how_to_allow_it() -> None:
    assert "Lose raised KeyError('lost'). If a rule refuses the command so, write refusals=(KeyError, ...)" in broken(
        aggregate_laws(Tank, commands=[Lose])
    )
    check(aggregate_laws(Tank, commands=[Lose], refusals=KeyError))


def test_an_id_that_is_drawn_at_random_is_told_how_to_be_named() -> None:
    message = broken(aggregate_laws(Tank, commands=[Fill]))
    assert "If tank_id names the aggregate, write called(Fill, tank_id=lambda tank: tank.id). If a rule refuses" in message


def test_settings_of_a_test_bring_no_deadline_with_them() -> None:
    laws: Any = aggregate_laws(Tank, commands=[INSTALL, _of_tank(Fill)])
    laws.settings = settings(max_examples=5, deadline=0.01, database=None)  # milliseconds; by default it is 200
    laws("runTest").debug()


def test_what_a_command_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="Fill has no field 'gallons'; it has: tank_id, litres"):
        called(Fill, gallons=LITRES)
    with pytest.raises(TypeError, match=r"Fill: litres is drawn by a strategy of Hypothesis, such as st.integers\(\), not 3"):
        called(Fill, litres=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="histories are made by methods of Tank; Fill is a command with a handler"):
        histories_of(Tank, commands=[Fill])
