"""``aggregate_laws()``: a stateful test that calls an aggregate's commands in any order, and holds it to the laws after each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import hypothesis
from hypothesis import HealthCheck, Phase, reject
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from pydantic import ValidationError
from sqlalchemy.exc import NoResultFound

from sa_eventsource.aggregates import AggregateRoot, books_of, definition_of
from sa_eventsource.events import EventContext, class_of, current_class, reading_steps
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.testing.acting import FIRST_IDS, Acting, handle
from sa_eventsource.testing.freezing import NOON
from sa_eventsource.testing.property_tests.command_calls import REFUSALS, Called, Sent, commands_of
from sa_eventsource.testing.property_tests.drawn_values import instances_of
from sa_eventsource.testing.property_tests.histories import event_classes_of, events_of
from sa_eventsource.testing.property_tests.laws_of_aggregates import KeptLaws, check_codec, check_upcasting, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from unittest import TestCase

    from hypothesis import strategies as st

    from sa_eventsource.events import DomainEvent


def aggregate_laws(  # noqa: PLR0913 - most of them have defaults
    aggregate_class: type[AggregateRoot[Any]],
    *,
    commands: Iterable[Any],
    refusals: type[Exception] | tuple[type[Exception], ...] = REFUSALS,
    events: Mapping[type[DomainEvent], st.SearchStrategy[Any]] | None = None,
    older: Mapping[tuple[type[DomainEvent], int], st.SearchStrategy[Any] | None] | None = None,
    snapshots: bool | None = None,
) -> type[TestCase]:
    """Make a stateful test of an aggregate: Hypothesis calls its commands in any order, with any arguments.

    Example::

        TestOrder = aggregate_laws(Order, commands=[Order.place, Order.pay, called(Order.note, text=st.text(max_size=10))])

    It holds that

    - replaying the stored events gives the state that applying them has left, each time again;
    - ``@applies`` methods do not raise, and ask neither the clock nor chance, the session, files or the network;
    - the state survives a snapshot, and going on from it gives the same as replaying all (where the class takes snapshots);
    - any event of the aggregate that its schema allows can be stored, and comes back exactly;
    - any payload of an older version is read, and always as the same event.

    pytest and unittest collect what this returns; ``TestOrder.settings = settings(max_examples=1000)`` changes how much is tried.

    Args:
        aggregate_class: The aggregate.
        commands: Its methods that record events, and classmethods that make an aggregate; and classes of commands, which their
            declared handlers take, in a session without a database. :func:`called` says how arguments are drawn where their
            annotations do not, and which field of a command names the aggregate: ``called(PayOrder, order_id=lambda order:
            order.id)``; a command that asks nothing of the aggregate makes one. Where nothing makes one, it begins as
            ``Order(id=...)``.
        refusals: What commands raise where a rule refuses them; by default ``DomainRuleError`` and ``ValueError``.
        events: Strategies for events of some classes, in place of those made from their schemas.
        older: What stored payloads of older versions look like: strategies of dicts, by class and version, where an upcaster is a
            function and no class says it; None leaves a version out.
        snapshots: Whether the state must survive a snapshot; by default, where the class says ``__snapshot_frequency__``.

    Raises:
        DeclarationError: *aggregate_class* is no mapped aggregate, there are no commands, or nothing says what payloads of an older
            version look like.
        TypeError: A command is none.
    """
    definition = definition_of(aggregate_class)
    known = (*((refusals,) if isinstance(refusals, type) else refusals),)
    with_snapshots = definition.snapshot_frequency is not None if snapshots is None else snapshots
    made = commands_of(aggregate_class, commands)
    body: dict[str, Any] = {
        "__doc__": f"Calls commands of {aggregate_class.__name__}, and checks the laws.",
        "__module__": aggregate_class.__module__,
        "_aggregate_class": aggregate_class,
        "_refusals": known,
        "_with_snapshots": with_snapshots,
        "_has_creators": any(each.makes_aggregate for each in made),
    }
    for each in made:
        body[f"{each.name}_" if hasattr(_Machine, each.name) else each.name] = _rule_of(each)
    body["any_event"] = rule(event=events_of(aggregate_class, events or {}))(_any_event)
    for number, (event_type, version, payloads) in enumerate(_older_payloads(aggregate_class, older or {}), 1):
        body[f"older_event_{number}"] = rule(payload=payloads)(_older_rule(aggregate_class, event_type, version))
    machine: Any = type(f"{aggregate_class.__name__}Laws", (_Machine,), body)
    test: Any = machine.TestCase
    test.runTest = _run_of(machine)
    return test  # type: ignore[no-any-return]


_RENAMED = {"target": "target_", "targets": "targets_"}
"""Names of parameters that mean something else to Hypothesis."""


class _Machine(RuleBasedStateMachine):
    """An aggregate whose commands are called."""

    _aggregate_class: type[Any]
    _refusals: tuple[type[Exception], ...]
    _with_snapshots: bool
    _has_creators: bool

    def __init__(self) -> None:
        super().__init__()
        self.laws = KeptLaws(self._aggregate_class, with_snapshots=self._with_snapshots)
        self.present: Any = None
        if not self._has_creators:
            definition = definition_of(self._aggregate_class)
            self.present = self._aggregate_class(id=definition.typed_id(FIRST_IDS[definition.id_type]))

    def act(self, command: Called, arguments: dict[str, Any]) -> None:
        """Call a command, and check what comes of it; what it refuses is undone."""
        before = self.present
        try:
            result = command.function(**arguments) if command.makes_aggregate else command.function(before, **arguments)
        except Exception as error:  # noqa: BLE001 - whatever the application raises
            self._undo(command, error)
            return
        if command.makes_aggregate:
            if not isinstance(result, self._aggregate_class):
                raise AssertionError(f"{command.name}() makes no {self._aggregate_class.__name__}, but {result!r}")
            self.present = result
        self._record()

    def send(self, command: Sent, drawn: dict[str, Any]) -> None:
        """Have the declared handler of a command take it, and check what comes of it; what it refuses is undone."""
        definition = definition_of(self._aggregate_class)
        try:
            made = command.command(self.present, drawn)
        except ValidationError:
            reject()
        text_id = None if self.present is None else definition.text_id(vars(self.present)["id"])
        acting = Acting(self._aggregate_class, text_id, NOON, self.laws.log)
        with acting.frozen():
            aggregates = handle(acting, made)
        if acting.error is not None:
            if not isinstance(acting.error, Exception):
                raise acting.error
            self._undo(command, acting.error)
            return
        mine = [each for each in aggregates if type(each) is self._aggregate_class]
        changed = next((each for each in mine if definition.text_id(vars(each)["id"]) == acting.stream[1]), None)
        if changed is None:
            if command.makes_aggregate:
                raise AssertionError(f"the handler of {command.name} makes no {self._aggregate_class.__name__}")
            return
        new = [each for each in acting.new if (each.aggregate_type, each.aggregate_id) == acting.stream]
        self.laws.check(changed, new)
        self.present = acting.subject()

    def _undo(self, command: Called | Sent, error: Exception) -> None:
        name = self._aggregate_class.__name__
        method = _method_that_raised(self._aggregate_class, error)
        if method is not None:
            refuse(f"{name}.{method}() raised {error!r}: it runs at every replay, and must not raise", error)
        if not isinstance(error, self._refusals):
            kind, what = type(error).__name__, command.name if isinstance(command, Sent) else f"{name}.{command.name}()"
            unnamed = _unnamed(command, self._aggregate_class) if isinstance(error, NoResultFound) else ""
            refuse(f"{what} raised {error!r}. {unnamed}If a rule refuses the command so, write refusals=({kind}, ...)", error)
        if self.present is not None:
            text_id = definition_of(self._aggregate_class).text_id(vars(self.present)["id"])
            loaded = self.laws.log.load(self._aggregate_class, text_id)
            self.present = self._aggregate_class(id=vars(self.present)["id"]) if loaded is None else loaded

    def _record(self) -> None:
        """Store what was applied, as a commit does."""
        definition, books = definition_of(self._aggregate_class), books_of(self.present)
        stream = definition.aggregate_type, definition.text_id(vars(self.present)["id"])
        new = [
            self.laws.log.record(
                stream,
                each.event,
                each.occurred_at,
                event_id=each.event_id,
                context=EventContext(each.correlation_id, each.causation_id, each.metadata),
            )
            for each in books.pending
        ]
        books.pending = []
        self.laws.check(self.present, new)


def _unnamed(command: Called | Sent, aggregate_class: type[Any]) -> str:
    """Say how a command names its aggregate, where it may have been drawn at random."""
    if not isinstance(command, Sent) or command.of_aggregate:
        return ""
    name, fields = aggregate_class.__name__.lower(), list(command.arguments)
    field = next((each for each in fields if each.endswith("id")), fields[0] if fields else "id")
    return f"If {field} names the aggregate, write called({command.name}, {field}=lambda {name}: {name}.id). "


def _run_of(machine: Any) -> Callable[[Any], None]:
    """Make the method that runs the test: whichever settings a test chooses, no machine is too slow for it."""

    def run_test(self: Any) -> None:
        checks: Any = list(HealthCheck)
        chosen = hypothesis.settings(
            self.settings,
            deadline=None,
            suppress_health_check=checks,
            phases=[each for each in self.settings.phases if each is not Phase.explain],  # it names lines of the library's
        )
        run_state_machine_as_test(machine, settings=chosen)

    marked: Any = run_test  # as Hypothesis does for its own, whose plugin for pytest looks for these
    marked.is_hypothesis_test = True
    marked._hypothesis_state_machine_class = machine  # noqa: SLF001
    return run_test


def _rule_of(command: Called | Sent) -> Any:
    given: dict[str, Any] = {_RENAMED.get(name, name): strategy for name, strategy in command.arguments.items()}
    names = {_RENAMED.get(name, name): name for name in command.arguments}

    def act(self: _Machine, **arguments: Any) -> None:
        drawn = {names[name]: value for name, value in arguments.items()}
        if isinstance(command, Sent):
            self.send(command, drawn)
        else:
            self.act(command, drawn)

    act.__name__ = command.name
    made = cast("Any", rule)(**given)(act)
    if command.makes_aggregate:
        return precondition(lambda self: self.present is None)(made)
    return precondition(lambda self: self.present is not None)(made)


def _any_event(_self: _Machine, event: DomainEvent) -> None:
    check_codec(event)


def _older_rule(aggregate_class: type[Any], event_type: str, version: int) -> Any:
    def older_event(_self: _Machine, payload: Any) -> None:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        check_upcasting(event_type, version, text, definition_of(aggregate_class).handlers.find)

    return older_event


def _older_payloads(
    aggregate_class: type[Any], older: Mapping[tuple[type[DomainEvent], int], st.SearchStrategy[Any] | None]
) -> list[tuple[str, int, st.SearchStrategy[Any]]]:
    """List what may be stored of older versions: by the classes of these versions, or as the test says.

    Raises:
        DeclarationError: There is an upcaster for a version of which neither is known.
    """
    found = []
    for event_class in event_classes_of(aggregate_class):
        for event_type, version in dict.fromkeys((name, version) for name, version, _ in reading_steps(event_class)):
            given = older.get((event_class, version))
            if given is None and (event_class, version) in older:
                continue
            declared = class_of(event_class.__event_type__, version)
            if given is not None:
                found.append((event_type, version, given))
            elif declared is not None and declared is not current_class(event_type, version):
                found.append((event_type, version, instances_of(declared).map(_as_stored)))
            else:
                name = event_class.__name__
                raise DeclarationError(
                    f"{name} has an upcaster from version {version}, and no class says what its payloads look like: write "
                    f"older={{({name}, {version}): st.fixed_dictionaries({{...}})}}, or None to leave them out"
                )
    return found


def _as_stored(event: DomainEvent) -> str:
    return event.model_dump_json(by_alias=True)


def _method_that_raised(aggregate_class: type[Any], error: BaseException) -> str | None:
    """Name the ``@applies`` method that an error comes from, if it comes from one."""
    codes = {getattr(each, "__code__", None): each for each in definition_of(aggregate_class).handlers.functions().values()}
    traceback = error.__traceback__
    while traceback is not None:
        method = codes.get(traceback.tb_frame.f_code)
        if method is not None:
            return method.__name__
        traceback = traceback.tb_next
    return None
