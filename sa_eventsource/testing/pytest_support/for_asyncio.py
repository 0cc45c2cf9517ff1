"""The asynchronous fixtures: engines, sessions and workers for an event loop. They need greenlet, which not everybody has."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import NullPool

from sa_eventsource.extras import needs_extra
from sa_eventsource.testing.pytest_support.idle_worker import ONCE, Idle, raise_troubles
from sa_eventsource.testing.pytest_support.rolled_back import RolledBackSession
from sa_eventsource.workers import AsyncWorker

with needs_extra("async", part="the asynchronous fixtures"):
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from sqlalchemy.ext.asyncio import AsyncEngine

    from sa_eventsource.testing.pytest_support.template_database import TemplateDatabase


def async_engine(url: str) -> AsyncEngine:
    """Make an asynchronous engine, which keeps no connection: the loop of a test may have ended before its fixtures do."""
    return create_async_engine(url, poolclass=NullPool)


def async_session_maker(bind: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Make what makes asynchronous sessions, whose objects can be read after a commit: nothing is loaded without ``await``."""
    return async_sessionmaker(bind, expire_on_commit=False)


@contextmanager
def async_session(template: TemplateDatabase) -> Iterator[AsyncSession]:
    """Make an asynchronous session for the block, and undo all that it has done."""
    engine = create_async_engine(template.shared(), poolclass=NullPool)
    inner = RolledBackSession(engine.sync_engine)
    inner.expire_on_commit = False
    made: Any = AsyncSession(sync_session_class=lambda **_: inner)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        inner.cut_off()


class AsyncIdleWorker(Idle):
    """:class:`IdleWorker` in an event loop, for handlers that are coroutine functions too."""

    def __init__(self, engine: AsyncEngine, base: Any) -> None:
        """Choose the database and the log."""
        super().__init__(base)
        self._engine = engine
        self._base = base

    async def run(self, *, after: timedelta | None = None, check: bool = True) -> None:
        """Work until nothing more follows. As :meth:`IdleWorker.run`."""
        __tracebackhide__ = True
        worker = AsyncWorker(async_sessionmaker(self._engine), self._base, retries=ONCE)
        await self._run_until_idle(worker)
        if after is not None:
            async with self._engine.begin() as connection:
                await connection.run_sync(self.pass_time, after)
            await self._run_until_idle(worker)
        if check:
            async with self._engine.connect() as connection:
                raise_troubles(await connection.run_sync(self.troubles, worker.hindered))

    async def _run_until_idle(self, worker: AsyncWorker) -> None:
        before = None
        while (now := await self._look()) != before:
            before = now
            await worker.run_once()

    async def _look(self) -> tuple[int, ...]:
        async with self._engine.connect() as connection:
            return await connection.run_sync(self.progress)
