"""The worker as an asyncio task."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sa_eventsource.consumers import chosen_consumers
from sa_eventsource.mapping import async_session_maker, tables_of_base
from sa_eventsource.store import loggable, message_of
from sa_eventsource.workers.companions import Companionship, async_companions_of, chosen
from sa_eventsource.workers.lanes import lanes_of
from sa_eventsource.workers.pace import Pace, check_pace
from sa_eventsource.workers.polling import Polling
from sa_eventsource.workers.tenant_polling import TenantPolling, is_for_all_tenants
from sa_eventsource.workers.uncut import uncut

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Self

    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

    from sa_eventsource.consumers import Follower
    from sa_eventsource.projections import RetryPolicy

log = logging.getLogger("sa_eventsource.worker")


class AsyncWorker:
    """A :class:`Worker` as an asyncio task, on asynchronous sessions.

    Example::

        async with AsyncWorker(async_sessionmaker(engine), Base):
            await serve()

    Handlers are plain functions; they get a ``Session`` whose calls do not block the event loop.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        base: Any,
        *,
        only: Collection[str] | None = None,
        pace: Pace | None = None,
        retries: RetryPolicy | None = None,
    ) -> None:
        """Choose the database and what to look after.

        Args:
            sessions: What makes sessions, such as ``async_sessionmaker(engine)``.
            base: The declarative base.
            only: Names of read models and subscriptions, ``"commands"`` for scheduled commands, ``"pruning"`` for old rows,
                ``"proofs"`` for the Merkle tree; None for all.
            pace: How often to ask for news; None for every 2 milliseconds on a busy log up to 0.3 seconds on a quiet one.
            retries: How often an event is tried; None for five times within some 17 seconds.

        Raises:
            DeclarationError: There is no read model and no subscription of a name.
            TypeError: *pace* is no ``Pace``, or *retries* no ``RetryPolicy``.
        """
        self._sessions = async_session_maker("AsyncWorker()", sessions)
        self._pace, self._retries = check_pace("AsyncWorker()", pace, retries)
        tables = tables_of_base("AsyncWorker()", base)
        self._tables, self._is_for_all = tables, is_for_all_tenants(self._sessions, tables)
        companions = async_companions_of(
            Companionship(self._sessions, tables, self._pace, self._retries, is_for_all=self._is_for_all)
        )
        self._companions, left = chosen(companions, only)
        self._consumers = chosen_consumers(tables, left)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[int] | None = None
        self._hindered: Mapping[str, str] = {}

    @property
    def hindered(self) -> Mapping[str, str]:
        """Who could not go on at the last :meth:`run_once`, and why. As :attr:`Worker.hindered`."""
        return self._hindered

    async def run(self) -> int:
        """Follow the log until :meth:`stop` is called; as :meth:`Worker.run`.

        Cancelled, it ends when the statement under way is answered; a handler, also of a command, is cancelled at once.
        """
        first, *others = await self._pollings(self._stop.is_set)
        beside = [asyncio.create_task(each.run(self._stop), name=f"sa_eventsource {each.name}") for each in self._companions]
        beside += [asyncio.create_task(self._follow(each), name="sa_eventsource publisher") for each in others]
        is_cancelled = False
        try:
            await self._follow(first, beside)
        except asyncio.CancelledError:
            is_cancelled = True
            for each in beside:
                each.cancel()
            raise
        finally:
            self._stop.set()
            await asyncio.gather(*beside, return_exceptions=is_cancelled)
        return sum(polling.taken for polling in (first, *others))

    async def run_once(self) -> int:
        """Take what there is to take; as :meth:`Worker.run_once`.

        Returns:
            The number of events taken.

        Raises:
            OperationalError: The database cannot be reached.
            JoinedTransactionError: The sessions are bound to a connection that is in a transaction. Pass the engine.
        """
        pollings = await self._pollings(lambda: False, has_one_run=True)
        for polling in pollings:
            async with self._sessions() as session:
                await uncut(session, polling.run)
        self._hindered = {name: why for polling in pollings for name, why in polling.hindered.items()}
        for companion in self._companions:
            await companion.run_once()
        return sum(polling.taken for polling in pollings)

    async def _pollings(self, stopping: Callable[[], bool], *, has_one_run: bool = False) -> list[Polling | TenantPolling]:
        async with self._sessions() as session:
            lanes = await session.run_sync(lambda asked: lanes_of(self._consumers, asked))
        return [self._polling(followers, stopping, has_one_run=has_one_run) for followers in lanes]

    def _polling(
        self, followers: Sequence[Follower], stopping: Callable[[], bool], *, has_one_run: bool
    ) -> Polling | TenantPolling:
        def polling() -> Polling:
            return Polling(followers, self._pace, self._retries, stopping, has_one_run)

        return TenantPolling(self._tables, polling, self._pace, stopping) if self._is_for_all else polling()

    async def _follow(self, polling: Polling | TenantPolling, beside: Sequence[asyncio.Task[None]] = ()) -> None:
        while not self._stop.is_set() and not any(task.done() for task in beside):
            async with self._sessions() as session:
                pause = await uncut(session, polling.wake)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    def stop(self) -> None:
        """Have :meth:`run` return after the batch under way. To be called in the event loop."""
        self._stop.set()

    async def __aenter__(self) -> Self:
        """Run as a task until the block ends."""
        self._stop.clear()
        self._task = asyncio.create_task(self._run_as_task(), name="sa_eventsource worker")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop after the batch under way. What ended the task before its time is raised here."""
        self.stop()
        if self._task is not None:
            task, self._task = self._task, None
            await task

    async def _run_as_task(self) -> int:
        try:
            return await self.run()
        except Exception as error:
            # It is raised where the block ends, which may be days from now.
            log.critical("the worker has ended and follows the log no longer: %s", message_of(error), exc_info=loggable(error))
            raise
