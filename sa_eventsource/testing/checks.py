"""The checks of what came of a step of a scenario."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from sa_eventsource.aggregates import definition_of
from sa_eventsource.events import difference, shown
from sa_eventsource.processes import After
from sa_eventsource.testing.expectations import told_apart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from pydantic import BaseModel

    from sa_eventsource.aggregates import AggregateRoot
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.testing.acting import Acting


class Checks:
    """Checks what came of the last step; each check gives it back, so that they can be chained."""

    _acting: Acting
    _is_error_known = False

    def then(self, *events: Any) -> Self:
        """Check which events were recorded, of whichever aggregate, in their order.

        Args:
            *events: The events; :class:`like` for one of which only some fields matter, or a class for one of that class.

        Raises:
            AssertionError: Others were, and it says in which fields.
            Exception: What the step raised.
        """
        __tracebackhide__ = True
        self._settled()
        return self._compared(events, [each.event for each in self._acting.new], "events", "recorded")

    def then_elsewhere(self, aggregate_class: type[AggregateRoot[Any]], id: Any, *events: Any) -> Self:  # noqa: A002
        """Check which events another aggregate got. As :meth:`then`.

        Args:
            aggregate_class: Its class.
            id: Its id.
            *events: The events.
        """
        __tracebackhide__ = True
        self._settled()
        definition = definition_of(aggregate_class)
        stream = definition.aggregate_type, definition.text_id(id)
        new = [each.event for each in self._acting.new if (each.aggregate_type, each.aggregate_id) == stream]
        return self._compared(events, new, f"events of {aggregate_class.__name__} {id!r}", "recorded")

    def then_nothing(self) -> Self:
        """Check that no event was recorded and no command sent or put off.

        Raises:
            AssertionError: Something was.
            Exception: What the step raised.
        """
        __tracebackhide__ = True
        self._settled()
        self._compared((), [each.event for each in self._acting.new], "events", "recorded")
        return self._compared((), self._acting.issued, "commands", "sent")

    def raises(self, error: type[BaseException] | tuple[type[BaseException], ...], match: str | None = None) -> Self:
        """Check that the step raised an error.

        Args:
            error: Its class, or several of which it is one.
            match: A regular expression that is found in its message.

        Raises:
            AssertionError: It raised none, another one, or the message is another.
        """
        __tracebackhide__ = True
        there, names = self._acting.error, _names_of(error)
        self._is_error_known = True
        if there is None:
            new = [type(each.event).__name__ for each in self._acting.new]
            raise AssertionError(f"expected {names} to be raised, but nothing was; recorded: {', '.join(new) or 'no event'}")
        if not isinstance(there, error):
            raise AssertionError(f"expected {names} to be raised, not {type(there).__name__}: {there}") from there  # noqa: TRY004
        if match is not None and not re.search(match, str(there)):
            raise AssertionError(f"expected a message that matches {match!r}, not {str(there)!r}") from there
        return self

    def state(self, **fields: Any) -> Self:
        """Check state fields, and other attributes, of the aggregate as the next session will load it.

        Args:
            **fields: The values, compared by ``==``.

        Raises:
            AssertionError: One is another, or was changed otherwise than by an event.
            Exception: What the step raised.
        """
        __tracebackhide__ = True
        self._settled()
        loaded, present, lines = self._acting.subject(), self._acting.present, []
        for name, value in fields.items():
            there = getattr(loaded, name)
            if value != there:
                lines.append(f"  {name}: expected {shown(value)}, is {shown(there)}")
            elif present is not None and value != getattr(present, name):
                lines.append(
                    f"  {name}: {shown(getattr(present, name))} in the object at hand, but {shown(there)} when it is loaded: "
                    "something else than an @applies method has changed it"
                )
        if lines:
            recorded = ", ".join(type(each.event).__name__ for each in self._acting.log.events) or "no event"
            raise AssertionError("\n".join([f"another state of {loaded!r} than expected", *lines, f"  after: {recorded}"]))
        return self

    def returns(self, value: Any) -> Self:
        """Check what the function or the handler returned.

        Raises:
            AssertionError: It returned something else.
            Exception: What the step raised.
        """
        __tracebackhide__ = True
        self._settled()
        there = self._acting.result
        if value != there:
            found = difference(value, there)
            where = f" (they differ at {found.path})" if found is not None and found.path else ""
            raise AssertionError(f"expected {shown(value)} to be returned, not {shown(there)}{where}")
        return self

    def expect_commands(self, *commands: Any) -> Self:
        """Check which commands were sent, in their order.

        Args:
            *commands: The commands; :class:`like` for one of which only some fields matter, or a class. Those that were put off are
                looked at only where one is expected, as ``After(timedelta(minutes=30), CancelOrder(...))``, which also stands for
                ``schedule(..., after=...)``; :meth:`Scenario.after` has them sent.

        Raises:
            AssertionError: Others were, and it says in which fields.
            Exception: What the step raised.
        """
        __tracebackhide__ = True
        self._settled()
        issued, put_off = self._acting.issued, ""
        if not any(isinstance(each, After) for each in commands):
            later = [f"{type(each.command).__name__}, by {each.delay}" for each in issued if isinstance(each, After)]
            issued = [each for each in issued if not isinstance(each, After)]
            put_off = f"\nput off: {'; '.join(later)}; after(...) has it sent, and After(...) expects it" if later else ""
        return self._compared(commands, issued, "commands", "sent", put_off)

    @property
    def error(self) -> BaseException | None:
        """What the step raised."""
        self._is_error_known = True
        return self._acting.error

    @property
    def recorded(self) -> Sequence[RecordedEvent[Any]]:
        """What the last step recorded, of whichever aggregate."""
        self._settled()
        return tuple(self._acting.new)

    @property
    def commands(self) -> Sequence[BaseModel]:
        """What the last step sent, without what it has put off."""
        self._settled()
        return tuple(each for each in self._acting.issued if not isinstance(each, After))

    def _settled(self) -> None:
        """Raise what the step raised, unless the test knows of it."""
        __tracebackhide__ = True
        if self._acting.error is not None and not self._is_error_known:
            self._is_error_known = True
            raise self._acting.error

    def _compared(self, expected: Sequence[Any], actual: Sequence[Any], what: str, verb: str, note: str = "") -> Self:
        __tracebackhide__ = True
        if any(isinstance(each, list | tuple) for each in expected):
            check = "expect_commands(*commands)" if what == "commands" else "then(*events)"
            raise TypeError(f"a list is none of the {what} that are expected; write {check}, one argument for each")
        told = told_apart(expected, actual, what=what, verb=verb)
        if told is not None:
            given = self._acting.log.events[: len(self._acting.log.events) - len(self._acting.new)]
            names = ", ".join(type(each.event).__name__ for each in given) or "nothing"
            raise AssertionError(f"{told}\n\ngiven: {names}{note}")
        return self

    def __del__(self) -> None:
        """Warn of an error that nobody has looked at: such a test passes whatever happens."""
        if not self._is_error_known and self._acting.error is not None:
            warnings.warn(
                f"a step of a scenario raised {self._acting.error!r}, and nothing was checked after it",
                RuntimeWarning,
                stacklevel=2,
            )


def _names_of(error: Any) -> str:
    return " or ".join(each.__name__ for each in (error if isinstance(error, tuple) else (error,)))
