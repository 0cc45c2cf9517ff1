"""The worker: follows the log until it is told to stop, in a thread or in a process of its own."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from sa_eventsource.consumers import chosen_consumers
from sa_eventsource.mapping import session_maker, tables_of_base
from sa_eventsource.store import loggable, message_of
from sa_eventsource.workers.announcements import Listener
from sa_eventsource.workers.companions import Companionship, CompanionThreads, chosen, companions_of
from sa_eventsource.workers.lanes import Lane, lanes_of
from sa_eventsource.workers.pace import Pace, check_pace
from sa_eventsource.workers.polling import Polling
from sa_eventsource.workers.tenant_polling import TenantPolling, is_for_all_tenants

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Self

    from sqlalchemy.orm import Session, sessionmaker

    from sa_eventsource.consumers import Follower
    from sa_eventsource.projections import RetryPolicy

log = logging.getLogger("sa_eventsource.worker")

_LOOK_UP = 0.1
"""Seconds between two looks whether to stop."""


class Worker:
    """Keeps the eventual read models and the subscriptions of a declarative base up with the log, and runs scheduled commands.

    Any number may run, in threads, processes and on machines: each model is worked on by one of them at a time, whoever comes
    first, and one that dies loses its connection and with it what it held. Each batch is a transaction: what the events do, and how
    far the model has come.

    An event that cannot be taken is tried again with growing pauses; then the model stops there, or parks the stream, as it
    declares (``__on_error__``). Others go on. While the database cannot be reached, the worker waits for it.

    Where tenants share the tables, it works for all of them, each by itself, and connects as the worker's role; given the sessions
    of one tenant, for that one.

    Example::

        with Worker(engine, Base):  # in a thread
            serve()

        Worker(engine, Base).run()  # in a process of its own, until it ends
    """

    def __init__(  # noqa: PLR0913 - most of them have defaults
        self,
        sessions: Engine | sessionmaker[Session],
        base: Any,
        *,
        only: Collection[str] | None = None,
        pace: Pace | None = None,
        retries: RetryPolicy | None = None,
        listen: bool | Engine = False,
    ) -> None:
        """Choose the database and what to look after.

        Args:
            sessions: An engine, or what makes sessions where these need more than that.
            base: The declarative base.
            only: Names of read models and subscriptions, ``"commands"`` for scheduled commands, ``"pruning"`` for old rows,
                ``"proofs"`` for the Merkle tree; None for all.
            pace: How often to ask for news; None for every 2 milliseconds on a busy log up to 0.3 seconds on a quiet one.
            retries: How often an event is tried; None for five times within some 17 seconds.
            listen: Whether to hear of commits from an :class:`~sa_eventsource.Announcer` in the processes that write,
                instead of asking every few milliseconds. It takes a connection, through psycopg. Where *sessions* go through a
                pooler, an engine for the database itself: through a pooler it hears nothing, logs that, and asks as often as usual.

        Raises:
            DeclarationError: There is no read model and no subscription of a name.
            TypeError: *listen* is neither True, False nor an engine; *pace* is no ``Pace``, or *retries* no ``RetryPolicy``.
        """
        if not isinstance(listen, bool | Engine):
            raise TypeError(f"Worker(listen=...) takes True, False or an engine for the database itself, not {listen!r}")
        self._sessions = session_maker("Worker()", sessions)
        self._pace, self._retries = check_pace("Worker()", pace, retries)
        self._tables = tables_of_base("Worker()", base)
        self._is_for_all = is_for_all_tenants(self._sessions, self._tables)
        companions = companions_of(
            Companionship(self._sessions, self._tables, self._pace, self._retries, is_for_all=self._is_for_all)
        )
        self._companions, left = chosen(companions, only)
        self._consumers = chosen_consumers(self._tables, left)
        self._listen = listen
        # Not an Event: a signal handler that sets one while this thread holds its lock would wait for itself.
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._hindered: Mapping[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What it looks after."""
        return (*(consumer.name for consumer in self._consumers), *(companion.name for companion in self._companions))

    @property
    def error(self) -> BaseException | None:
        """What ended the thread of ``with Worker(...)`` before its time, for a health check; None while it runs."""
        return self._error

    @property
    def hindered(self) -> Mapping[str, str]:
        """Who could not go on at the last :meth:`run_once`, and why: a moved log, a lock or the like, an event that it stopped at.

        Not those that wait to try an event again, nor those that another worker is at.
        """
        return self._hindered

    def run(self, stop: threading.Event | None = None) -> int:
        """Follow the log until *stop* is set.

        The batch under way is finished first.

        Args:
            stop: Set it from a signal handler or another thread; None to run until :meth:`stop`.

        Returns:
            The number of events taken.

        Raises:
            ValueError: It is to listen, and the driver is not psycopg.
            JoinedTransactionError: The sessions are bound to a connection that is in a transaction. Pass the engine.
            Exception: What no pause mends, such as a missing table. Run it again when that is set right.
        """
        is_stopping = self._is_asked_to_stop if stop is None else stop.is_set
        first, *others = self._pollings(is_stopping)
        beside = [*self._companions, *(Lane(self._sessions, each) for each in others)]
        if not self.names:
            log.warning("there is no eventual read model and no subscription on the base, and so nothing to follow")
        with (
            CompanionThreads(beside, is_stopping) as companions,
            self._listener(companions) if self._listen is not False and self.names else nullcontext() as listener,
        ):
            while not is_stopping():
                companions.check()
                first.is_listening = listener is not None and listener.hears
                companions.tell(is_listening=first.is_listening)
                with self._sessions() as session:
                    pause = first.wake(session)
                _wait(pause, is_stopping, listener)
        return sum(polling.taken for polling in (first, *others))

    def run_once(self) -> int:
        """Take what there is to take, for a scheduler such as cron.

        Models that another worker is at, that have stopped, or that wait to try an event again are left alone. Whoever could not go
        on is in :attr:`hindered` then.

        Returns:
            The number of events taken.

        Raises:
            OperationalError: The database cannot be reached.
            JoinedTransactionError: The sessions are bound to a connection that is in a transaction. Pass the engine.
        """
        pollings = self._pollings(lambda: False, has_one_run=True)
        for polling in pollings:
            Lane(self._sessions, polling).run_once()
        self._hindered = {name: why for polling in pollings for name, why in polling.hindered.items()}
        for companion in self._companions:
            companion.run_once()
        return sum(polling.taken for polling in pollings)

    def stop(self) -> None:
        """Have :meth:`run` return after the batch under way. May be called from a signal handler."""
        self._is_stopping = True

    def __enter__(self) -> Self:
        """Run in a thread until the block ends."""
        self._is_stopping, self._error = False, None
        self._thread = threading.Thread(target=self._run_in_thread, name="sa_eventsource worker", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop after the batch under way. What ended the thread before its time is raised here."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self._error = error  # raised where the block ends, which may be days from now
            log.critical("the worker has ended and follows the log no longer: %s", message_of(error), exc_info=loggable(error))

    def _is_asked_to_stop(self) -> bool:
        return self._is_stopping

    def _listener(self, companions: CompanionThreads) -> Listener:
        if isinstance(self._listen, Engine):
            return Listener(self._listen, companions.wake)
        with self._sessions() as session:
            return Listener(session.get_bind(**self._tables.bind_arguments).engine, companions.wake)

    def _pollings(self, stopping: Callable[[], bool], *, has_one_run: bool = False) -> list[Polling | TenantPolling]:
        with self._sessions() as session:
            lanes = lanes_of(self._consumers, session)
        return [self._polling(followers, stopping, has_one_run=has_one_run) for followers in lanes]

    def _polling(
        self, followers: Sequence[Follower], stopping: Callable[[], bool], *, has_one_run: bool
    ) -> Polling | TenantPolling:
        def polling() -> Polling:
            return Polling(followers, self._pace, self._retries, stopping, has_one_run)

        return TenantPolling(self._tables, polling, self._pace, stopping) if self._is_for_all else polling()


def _wait(pause: float, is_stopping: Callable[[], bool], listener: Listener | None) -> None:
    """Wait for an announcement, or until it is time to ask or to stop.

    Never on what a signal handler may set: it would find the lock taken by the thread that it has interrupted.
    """
    end = time.monotonic() + pause
    while not is_stopping() and (left := end - time.monotonic()) > 0:
        if listener is None:
            time.sleep(min(left, _LOOK_UP))
        elif listener.news.wait(min(left, _LOOK_UP)):
            break
    if listener is not None:
        listener.news.clear()
