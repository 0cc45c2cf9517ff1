"""What a worker does alongside following the log, in a thread or a task of its own, such as running commands that are due."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Sequence
    from typing import Self

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.projections import RetryPolicy
    from sa_eventsource.workers.pace import Pace


@dataclass(frozen=True, slots=True)
class Companionship:
    """What a worker is made with.

    Attributes:
        sessions: What makes its sessions.
        tables: The library's tables.
        pace: How often to ask.
        retries: How often to try what fails.
        is_for_all: Whether tenants share the tables, and it works for all of them.
    """

    sessions: Any
    tables: EventSourceTables
    pace: Pace
    retries: RetryPolicy
    is_for_all: bool = False


class Companion(ABC):
    """Does its work in a worker's thread.

    Attributes:
        name: What ``only=`` names it by.
        is_listening: Whether the worker hears of commits, and calls :meth:`wake` after each.
    """

    name: str
    is_listening: bool = False

    @abstractmethod
    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Work until *is_stopping*, which is to be asked whenever :meth:`wake` is called."""

    @abstractmethod
    def run_once(self) -> None:
        """Do what there is to do."""

    @abstractmethod
    def wake(self) -> None:
        """Look at once: a commit was announced, or it is time to stop."""


class AsyncCompanion(ABC):
    """Does its work in a task of an asynchronous worker. As :class:`Companion`."""

    name: str

    @abstractmethod
    async def run(self, stop: asyncio.Event) -> None:
        """Work until *stop* is set."""

    @abstractmethod
    async def run_once(self) -> None:
        """Do what there is to do."""


C = TypeVar("C", Companion, AsyncCompanion)

_makers: list[Callable[[Companionship], Companion | None]] = []
_async_makers: list[Callable[[Companionship], AsyncCompanion | None]] = []


def on_working(
    maker: Callable[[Companionship], Companion | None], async_maker: Callable[[Companionship], AsyncCompanion | None]
) -> None:
    """Have each new worker ask *maker* for a companion, and each asynchronous one *async_maker*; None where none is needed."""
    _makers.append(maker)
    _async_makers.append(async_maker)


def companions_of(worker: Companionship) -> list[Companion]:
    """Make a worker's companions."""
    return [each for each in (make(worker) for make in _makers) if each is not None]


def async_companions_of(worker: Companionship) -> list[AsyncCompanion]:
    """Make the companions of an asynchronous worker."""
    return [each for each in (make(worker) for make in _async_makers) if each is not None]


def chosen(companions: list[C], only: Collection[str] | None) -> tuple[list[C], Collection[str] | None]:
    """Take the companions of some names, and give the names that are left; of None, all."""
    if only is None or isinstance(only, str):
        return companions, only
    return [each for each in companions if each.name in only], [
        name for name in only if name not in {each.name for each in companions}
    ]


class CompanionThreads:
    """Runs companions for a block, each in a thread."""

    def __init__(self, companions: Sequence[Companion], is_stopping: Callable[[], bool]) -> None:
        """Prepare the threads."""
        self._companions = companions
        self._is_stopping = is_stopping
        self._is_over = False
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(each,), name=f"sa_eventsource {each.name}", daemon=True) for each in companions
        ]

    def __enter__(self) -> Self:
        """Start them."""
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Let them come to an end, and raise what has ended one before its time."""
        self._is_over = True
        self.wake()
        for each in self._threads:
            each.join()
        if kind is None:
            self.check()

    def wake(self) -> None:
        """Have all look at once."""
        for each in self._companions:
            each.wake()

    def tell(self, *, is_listening: bool) -> None:
        """Let all know whether they are woken after each commit."""
        for each in self._companions:
            each.is_listening = is_listening

    def check(self) -> None:
        """Raise what has ended a companion."""
        if self._error is not None:
            raise self._error

    def _run(self, companion: Companion) -> None:
        try:
            companion.run(lambda: self._is_over or self._is_stopping())
        except BaseException as error:  # noqa: BLE001 - raised in the worker's thread
            self._error = error
