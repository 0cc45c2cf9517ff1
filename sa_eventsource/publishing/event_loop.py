"""The event loop that publishers send in: one in a thread of its own, as workers are plain threads."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.util import await_only

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

T = TypeVar("T")


class SendingLoop:
    """An event loop in a thread, which begins with the first coroutine that is run in it."""

    def __init__(self) -> None:
        """Begin nothing yet."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; the caller waits, and with it neither another thread nor the caller's own event loop."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            caller = asyncio.get_running_loop()
        except RuntimeError:
            return future.result()
        return self._from_within(caller, future)

    def stop(self) -> None:
        """End the thread; what is run later begins another one."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    @staticmethod
    def _from_within(caller: asyncio.AbstractEventLoop, future: Future[T]) -> T:
        """Wait in a thread that runs an event loop: in ``AsyncSession.run_sync()``, as the asynchronous worker does."""
        try:
            found: T = await_only(asyncio.wrap_future(future, loop=caller))
        except MissingGreenlet:
            return future.result()
        return found

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():  # it is not, in a process that was forked
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._serve, args=(self._loop,), name="sa_eventsource publishers", daemon=True
                )
                self._thread.start()
            return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


sending_loop = SendingLoop()
"""The loop of this process. A broker belongs to the loop that it was connected in."""
