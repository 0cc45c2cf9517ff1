"""The steps of a process manager in a scenario: an event comes, commands and events of its own follow, some later."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from sa_eventsource.application_errors import ends_program
from sa_eventsource.events import DomainEvent
from sa_eventsource.exceptions import UnhandledEventError
from sa_eventsource.processes import After, DeclaredProcess, reactions_of

if TYPE_CHECKING:
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.testing.acting import Acting


class ProcessSteps:
    """Brings events to a process manager, as a worker does, without a log."""

    def __init__(self, acting: Acting) -> None:
        """Go on from where a scenario has come to."""
        self._acting = acting
        self._process = DeclaredProcess(acting.aggregate_class, acting.definition, reactions_of(acting.aggregate_class))

    def when(self, event: DomainEvent) -> None:
        """Bring an event, and keep what is raised."""
        try:
            with self._acting.frozen():
                self.take(event)
        except BaseException as error:
            if ends_program(error):
                raise
            self._acting.error = error

    def take(self, event: DomainEvent) -> None:
        """Bring an event, then those of its own that it reacts to.

        Raises:
            UnhandledEventError: It neither reacts to the event nor applies it.
            ValueError: The event is for another process.
        """
        if not (self._reacts_to(event) or self._applies(event)):
            raise UnhandledEventError(self._acting.aggregate_class.__name__, type(event).__name__, may_react=True)
        coming = deque([self._recorded(event)])
        while coming:
            coming.extend(self._react(coming.popleft()))

    def _react(self, recorded: RecordedEvent[Any]) -> list[RecordedEvent[Any]]:
        if not self._reacts_to(recorded.event) or not self._is_for_this_one(recorded):
            return []
        acting, own = self._acting, []
        returned = self._process.reaction(recorded).outcome(acting.subject(), recorded.event)
        for each in returned:
            if isinstance(each, DomainEvent):
                acting.definition.handlers.find_for(each)
                own.append(self._recorded(each))
                acting.new.append(own[-1])
            elif isinstance(each, After):
                acting.put_off(each.command, each.due(recorded), each.key)
            else:
                acting.issued.append(each)
        return own

    def _is_for_this_one(self, recorded: RecordedEvent[Any]) -> bool:
        acting = self._acting
        process_id = self._process.process_id(recorded)
        if process_id is None:
            return False
        text = acting.definition.text_id(process_id)
        if acting.text_id is None and not acting.log.has(acting.stream):
            acting.text_id = text
        if text != acting.stream[1]:
            name, wanted = type(recorded.event).__name__, acting.aggregate_class.__name__
            raise ValueError(
                f"{name} is for {wanted} {process_id!r}, and the scenario is about {acting.stream[1]!r}: write "
                f"scenario({wanted}, id={process_id!r}), or another {self._process.reaction(recorded).by or 'id'} in the event"
            )
        return True

    def _recorded(self, event: DomainEvent) -> RecordedEvent[Any]:
        name, text_id = self._acting.stream
        stream = (name, text_id) if self._applies(event) else ("Aggregate", text_id)
        return self._acting.log.record(stream, event, self._acting.now)

    def _reacts_to(self, event: DomainEvent) -> bool:
        return any(each in self._process.reactions for each in type(event).__mro__)

    def _applies(self, event: DomainEvent) -> bool:
        try:
            self._acting.definition.handlers.find_for(event)
        except UnhandledEventError:
            return False
        return True
